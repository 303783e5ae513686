"""What the catalog knows of one study, as evidence: plain values for somebody who has no catalog."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Text, and_, cast, or_, select
from sqlalchemy.orm import Session

from hsm.catalog.tables import Copy, Instance, Journal, Name, Package, Patient, Request, Series, Study, Volume
from hsm.errors import NotFound

Record = dict[str, Any]


def study(session: Session, uid: str) -> Record:
    """The study with its packages, their copies, and every instance with its digest.

    :raises NotFound: no such study.
    """
    row = session.execute(
        select(Study, Patient).join(Patient, Patient.pk == Study.patient_pk).where(Study.uid == uid)
    ).one_or_none()
    if row is None:
        raise NotFound(f"no study {uid} in the catalog")
    found, patient = row
    packages = session.scalars(select(Package).where(Package.study_pk == found.pk).order_by(Package.number))
    return {
        "study": found.uid,
        "patient_id": patient.patient_id,
        "issuer": patient.issuer,
        "accession": found.accession,
        "date": found.date,
        "modalities": [each for each in found.modalities.split("\\") if each],
        "first_received": found.first_received,
        "last_received": found.last_received,
        "source_ae": found.source_ae,
        "bytes": found.n_bytes,
        "unsealed": found.unsealed,
        "packages": [_package(session, each) for each in packages],
        "instances": _instances(session, found.pk),
    }


def _package(session: Session, package: Package) -> Record:
    rows = session.execute(
        select(Copy, Volume)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(Copy.package_pk == package.pk)
        .order_by(Volume.name)
    )
    return {
        "package": package.key,
        "sha256": package.digest,
        "bytes": package.size,
        "instances": package.n_instances,
        "sealed_at": package.sealed_at,
        "copies": [
            {
                "volume": volume.name,
                "volume_uuid": volume.uuid,
                "pool": volume.pool,
                "volume_state": volume.state,
                "state": copy.state,
                "locator": copy.locator,
                "written_at": copy.written_at,
                "verified_at": copy.verified_at,
            }
            for copy, volume in rows
        ],
    }


def _instances(session: Session, study_pk: int) -> list[Record]:
    rows = session.execute(
        select(
            *(Series.uid, Instance.uid, Instance.version, Name.uid, Instance.size, Instance.digest),
            *(Package.key, Instance.offset),
        )
        .join(Series, Series.pk == Instance.series_pk)
        .join(Name, Name.pk == Instance.class_pk)
        .outerjoin(Package, Package.pk == Instance.package_pk)
        .where(Series.study_pk == study_pk)
        .order_by(Series.number, Series.uid, Instance.number, Instance.uid, Instance.version)
    )
    names = ("series", "instance", "version", "sop_class", "bytes", "sha256", "package", "offset")
    return [dict(zip(names, row, strict=True)) for row in rows]


def records_about(session: Session, uid: str) -> list[int]:
    """Numbers of the journal's records about a study, its copies and its requests, oldest first."""
    return list(session.scalars(select(Journal.seq).where(about(uid)).order_by(Journal.seq)))


def about(uid: str) -> ColumnElement[bool]:
    """True of the journal's records about a study, its copies and its requests."""
    requests = (
        select(cast(Request.pk, Text)).join(Study, Study.pk == Request.study_pk).where(Study.uid == uid)
    )
    return or_(
        and_(Journal.kind == "study", Journal.subject == uid),
        and_(Journal.kind == "request", Journal.subject.in_(requests)),
    )
