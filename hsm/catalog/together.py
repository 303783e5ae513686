"""Which volumes hold what a study shall lie beside: other studies of its patient, or of its group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from hsm.catalog import details
from hsm.catalog.placements import GONE
from hsm.catalog.tables import Copy, Package, Patient, Request, Study, Volume
from hsm.states import RequestKind, RequestState, VolumeState

PATIENT = "patient="
LOOKED_AT = 300
"""The newest copies in a pool whose groups are known."""
_WRITABLE = (VolumeState.LABELLED, VolumeState.ACTIVE)


def group_of(words: Iterable[str]) -> tuple[str, ...]:
    """The words that volumes are kept apart by: all but the patient, who never fills one."""
    return tuple(word for word in words if not word.startswith(PATIENT))


def volumes_of_patients(session: Session, pool: str, patient_ids: Sequence[str]) -> dict[str, set[str]]:
    """By Patient ID the writable volumes of a pool that hold a study of the patient."""
    found: dict[str, set[str]] = {}
    for start in range(0, len(patient_ids), 500):
        rows = session.execute(
            select(Patient.patient_id, Volume.name)
            .join(Study, Study.patient_pk == Patient.pk)
            .join(Package, Package.study_pk == Study.pk)
            .join(Copy, Copy.package_pk == Package.pk)
            .join(Volume, Volume.pk == Copy.volume_pk)
            .where(
                Patient.patient_id.in_(patient_ids[start : start + 500]),
                Volume.pool == pool,
                Volume.state.in_(_WRITABLE),
                Copy.state.not_in(GONE),
            )
            .distinct()
        )
        for patient_id, volume in rows:
            found.setdefault(patient_id, set()).add(volume)
    return found


def groups_of_volumes(session: Session, pool: str) -> dict[str, tuple[str, ...]]:
    """By writable volume of a pool the group of what was written there last."""
    newest = (
        select(Request.pk, Request.package_pk, Request.detail)
        .where(
            Request.kind == RequestKind.COPY,
            Request.state == RequestState.DONE,
            Request.pool == pool,
        )
        .order_by(Request.pk.desc())
        .limit(LOOKED_AT)
        .subquery()
    )
    rows = session.execute(
        select(newest.c.detail, Volume.name)
        .join(Copy, Copy.package_pk == newest.c.package_pk)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(Volume.pool == pool, Volume.state.in_(_WRITABLE), Copy.state.not_in(GONE))
        .order_by(newest.c.pk.desc())
    )
    found: dict[str, tuple[str, ...]] = {}
    for detail, volume in rows:
        words = detail.get(details.TOGETHER, ())
        found.setdefault(volume, group_of(words))
    return found
