"""What a rebuild that is tried is compared with, and what no medium knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hsm import guard
from hsm.catalog import journal, marksfacts
from hsm.catalog.restored import CATALOG
from hsm.catalog.tables import (
    Access,
    Copy,
    Instance,
    Package,
    Patient,
    Request,
    Study,
    Volume,
)
from hsm.states import LIVE_REQUESTS, READABLE_COPIES


@dataclass(frozen=True, slots=True)
class Weight:
    """How much of a pool there is to read."""

    pool: str
    volumes: int
    packages: int


@dataclass(frozen=True, slots=True)
class Said:
    """What a catalog says of a package and its study."""

    size: int
    digest: bytes
    instances: int
    study_uid: str
    patient: str
    description: str
    accession: str


def weights(session: Session) -> list[Weight]:
    """Volumes with copies that count, and these copies, by pool."""
    rows = session.execute(
        select(Volume.pool, func.count(Volume.pk.distinct()), func.count(Copy.pk))
        .join(Copy, Copy.volume_pk == Volume.pk)
        .where(
            Copy.state.in_(READABLE_COPIES), Volume.state.in_(guard.GOOD_VOLUMES), Volume.pool.is_not(None)
        )
        .group_by(Volume.pool)
        .order_by(Volume.pool)
    )
    return [Weight(pool or "", volumes, packages) for pool, volumes, packages in rows]


def count_on(session: Session, volume_pk: int) -> int:
    """Copies on a volume that can be read."""
    query = select(func.count()).where(Copy.volume_pk == volume_pk, Copy.state.in_(READABLE_COPIES))
    return session.scalar(query) or 0


def packages_on(session: Session, volume_pk: int) -> dict[str, Said]:
    """What a catalog says of the packages that can be read from a volume."""
    rows = session.execute(
        select(
            *(Package.key, Package.size, Package.digest, Package.n_instances, Study.uid, Patient.key),
            *(Study.description, Study.accession),
        )
        .join(Copy, Copy.package_pk == Package.pk)
        .join(Study, Study.pk == Package.study_pk)
        .join(Patient, Patient.pk == Study.patient_pk)
        .where(Copy.volume_pk == volume_pk, Copy.state.in_(READABLE_COPIES))
    )
    return {
        key: Said(size, digest, instances, uid, patient, description, accession)
        for key, size, digest, instances, uid, patient, description, accession in rows
    }


def difference(real: Said, anew: Said) -> str:
    """In which respects two catalogs differ about a package; no values, which may be a patient's."""
    names = [each.name for each in fields(Said) if getattr(real, each.name) != getattr(anew, each.name)]
    return f"its {', '.join(names)} would come back otherwise"


def only_in_the_database(session: Session) -> dict[str, int]:
    """How much a rebuild could not bring back, since no medium has it."""
    counted = {
        "accesses": select(func.count()).select_from(Access),
        "requests_under_way": select(func.count())
        .select_from(Request)
        .where(Request.state.in_(LIVE_REQUESTS)),
        "instances_only_online": select(func.count())
        .select_from(Instance)
        .where(Instance.package_pk.is_(None)),
    }
    return {
        "studies_with_marks_on_no_volume": _marks_on_no_volume(session),
        **{name: session.scalar(query) or 0 for name, query in counted.items()},
    }


def _marks_on_no_volume(session: Session) -> int:
    """Studies of which something was said that no volume has been given yet."""
    volumes = session.execute(select(Volume.name, Volume.uuid).where(Volume.uuid != "")).all()
    known = max((marksfacts.carried(session, name, uuid)[0] for name, uuid in volumes), default=0)
    return len(marksfacts.marked_since(session, known, marksfacts.latest(session)))


def note(session: Session, now: datetime, actor: str, volumes: Sequence[str], *, good: bool) -> None:
    """That there was a drill, for whoever asks when the last one was."""
    detail = {"volumes": list(volumes), "good": good}
    journal.append(session, now, actor, "drilled", CATALOG, CATALOG, detail)
