"""Rows for tests: the least that the foreign keys ask for."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from hsm.catalog.tables import Base, Copy, Instance, Name, Package, Patient, Request, Series, Study, Volume

AT = datetime(2026, 1, 1, tzinfo=UTC)


def _added(session: Session, row: Base) -> int:
    session.add(row)
    session.flush()
    return int(row.pk)  # type: ignore[attr-defined]


def add_patient(session: Session, name: str = "P1") -> int:
    return _added(
        session,
        Patient(
            key=f"{name}\\",
            patient_id=name,
            issuer="",
            name=name,
            name_alphabetic=name,
            birth_date="",
            sex="",
        ),
    )


def add_study(session: Session, patient_pk: int, uid: str = "1.2.3", **values: Any) -> int:
    defaults: dict[str, Any] = {
        "n_series": 0,
        "n_instances": 0,
        "n_bytes": 0,
        "unsealed": 0,
        "packages": 0,
        "modalities": "",
        "last_received": AT,
    }
    texts = dict.fromkeys(
        (
            "date",
            "time",
            "study_id",
            "accession",
            "description",
            "referring_physician",
            "referring_alphabetic",
            "institution",
            "charset",
            "source_ae",
        ),
        "",
    )
    times = {"first_received": AT, "last_accessed": AT}
    return _added(session, Study(patient_pk=patient_pk, uid=uid, **{**texts, **times, **defaults, **values}))


def add_series(session: Session, study_pk: int, uid: str, modality: str = "CT", n_instances: int = 0) -> int:
    return _added(
        session,
        Series(
            study_pk=study_pk,
            uid=uid,
            modality=modality,
            number=1,
            description="",
            body_part="",
            date="",
            time="",
            station="",
            n_instances=n_instances,
        ),
    )


def add_name(session: Session, uid: str = "1.2.840.10008.1.2.1") -> int:
    return _added(session, Name(uid=uid))


def add_instance(
    session: Session, series_pk: int, name_pk: int, uid: str, *, package_pk: int | None = None, size: int = 10
) -> int:
    return _added(
        session,
        Instance(
            series_pk=series_pk,
            uid=uid,
            version=0,
            class_pk=name_pk,
            syntax_pk=name_pk,
            number=1,
            size=size,
            digest=hashlib.sha256(uid.encode()).digest(),
            package_pk=package_pk,
            offset=None if package_pk is None else 512,
        ),
    )


def add_package(session: Session, study_pk: int, number: int = 1, n_instances: int = 0) -> int:
    key = f"1.2.3.{study_pk}.p{number:04}.tar"
    return _added(
        session,
        Package(
            study_pk=study_pk,
            number=number,
            key=key,
            size=10240,
            digest=hashlib.sha256(key.encode()).digest(),
            n_instances=n_instances,
            sealed_at=AT,
        ),
    )


def add_volume(session: Session, name: str, state: str = "active") -> int:
    return _added(
        session,
        Volume(
            name=name,
            uuid=f"uuid-{name}",
            pool="tape-a",
            state=state,
            removable=True,
            capacity=1 << 40,
            used=0,
            library="lib",
            place="slot",
            element=1,
            shelf="",
            error="",
            created_at=AT,
        ),
    )


def add_copy(session: Session, package_pk: int, volume_pk: int, state: str = "verified") -> int:
    return _added(
        session,
        Copy(
            package_pk=package_pk,
            volume_pk=volume_pk,
            state=state,
            locator="a",
            position=None,
            written_at=AT,
            verified_at=AT,
        ),
    )


def add_request(session: Session, key: str, state: str = "queued", **values: Any) -> int:
    ended = state in ("done", "failed", "cancelled")
    defaults: dict[str, Any] = {
        "kind": "recall",
        "priority": 10,
        "study_pk": None,
        "package_pk": None,
        "volume_pk": None,
        "pool": None,
        "reason": "",
        "detail": {},
        "attempts": 0,
        "error": "",
        "worker": "",
        "not_before": AT,
        "created_at": AT,
        "started_at": None,
        "finished_at": AT if ended else None,
    }
    return _added(session, Request(key=key, state=state, **{**defaults, **values}))


def add_packaged_study(session: Session, copies: dict[str, str], uid: str = "1.2.3") -> dict[str, int]:
    """One study of one package, with a copy in each of these states on a volume of that name.

    :returns: the key of each copy by its volume's name.
    """
    study_pk = add_study(session, add_patient(session, f"patient of {uid}"), uid, packages=1)
    package_pk = add_package(session, study_pk)
    return {
        name: add_copy(session, package_pk, add_volume(session, name), state)
        for name, state in copies.items()
    }
