"""What policies may ask about a study, as columns; the policy language itself knows no tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, exists, func, join, literal, select
from sqlalchemy.orm import Session

from hsm import guard, states
from hsm.catalog.tables import Copy, Package, Patient, Request, Study, Volume
from hsm.states import CopyState, RequestKind, RequestState

BATCH_STUDIES = 500
STUDIES_PER_RULE_MAX = 100_000
"""The most that one rule looks at in one run; the next run goes on."""

STUDY_COLUMNS: Mapping[str, ColumnElement[Any]] = {
    "modalities": Study.modalities.expression,
    "study_date": Study.date.expression,
    "received_at": Study.last_received.expression,
    "accessed_at": Study.last_accessed.expression,
    "size": Study.n_bytes.expression,
    "instances": Study.n_instances.expression,
    "institution": Study.institution.expression,
    "source_ae": Study.source_ae.expression,
    "accession": Study.accession.expression,
    "description": Study.description.expression,
    "patient_id": select(Patient.patient_id).where(Patient.pk == Study.patient_pk).scalar_subquery(),
}
"""By the policy language's source names."""


def copies_in(pool: str) -> ColumnElement[int]:
    """Verified copies on good volumes of a pool: of a study's packages the least that any one has."""
    on_pool = join(Copy, Volume, Volume.pk == Copy.volume_pk)
    counts = (
        select(func.count(Copy.pk))
        .select_from(Package)
        .outerjoin(
            on_pool,
            (Copy.package_pk == Package.pk)
            & (Copy.state == CopyState.VERIFIED)
            & (Volume.pool == pool)
            & Volume.state.in_(guard.GOOD_VOLUMES),
        )
        .where(Package.study_pk == Study.pk)
        .group_by(Package.pk)
        .order_by(func.count(Copy.pk))
        .limit(1)
        .correlate(Study)
    )
    return func.coalesce(counts.scalar_subquery(), literal(0))


def columns() -> dict[str, ColumnElement[Any] | Callable[[str], ColumnElement[Any]]]:
    """What the policy compiler takes."""
    return {**STUDY_COLUMNS, "copies": copies_in}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One study with the values of its facts."""

    study_pk: int
    uid: str
    values: dict[str, Any]
    copies: dict[str, int]
    held: frozenset[str]
    size_in: dict[str, int]
    """Bytes that it holds in each pool."""


def candidates(
    session: Session, where: Iterable[ColumnElement[bool]], order: Sequence[ColumnElement[Any]] = ()
) -> Iterator[Candidate]:
    """Matching studies that have a package, in ``order``; at most :data:`STUDIES_PER_RULE_MAX`."""
    query = select(Study.pk).where(Study.packages > 0, *where).order_by(*order, Study.pk)
    keys = session.scalars(query.limit(STUDIES_PER_RULE_MAX)).all()
    for start in range(0, len(keys), BATCH_STUDIES):
        yield from _read(session, keys[start : start + BATCH_STUDIES])


def one(session: Session, uid: str) -> Candidate | None:
    """The facts of one study; None when the catalog has it not, or has not sealed it yet."""
    return next(candidates(session, [Study.uid == uid]), None)


def idle(kind: RequestKind, pool: str, failed_since: datetime) -> ColumnElement[bool]:
    """No live request does this to the study already, and none has failed since."""
    live = (Request.state.in_(states.LIVE_REQUESTS)) | (
        (Request.state == RequestState.FAILED) & (Request.finished_at > failed_since)
    )
    return ~exists().where(Request.study_pk == Study.pk, Request.kind == kind, Request.pool == pool, live)


def held_in(pool: str) -> ColumnElement[bool]:
    """Some package of the study has a copy in the pool."""
    return exists().where(
        Package.study_pk == Study.pk,
        Copy.package_pk == Package.pk,
        Copy.state.not_in((CopyState.RELEASED, CopyState.LOST)),
        Volume.pk == Copy.volume_pk,
        Volume.pool == pool,
    )


def bytes_releasing(session: Session) -> dict[str, int]:
    """Bytes that live release requests will free, by pool."""
    rows = session.execute(
        select(Request.pool, func.sum(Package.size))
        .join(Package, Package.pk == Request.package_pk)
        .where(Request.kind == RequestKind.RELEASE, Request.state.in_(states.LIVE_REQUESTS))
        .group_by(Request.pool)
    )
    return {pool: int(size) for pool, size in rows if pool is not None}


def _read(session: Session, keys: Sequence[int]) -> Iterator[Candidate]:
    names = list(STUDY_COLUMNS)
    rows = session.execute(
        select(Study.pk, Study.uid, *(STUDY_COLUMNS[name].label(name) for name in names)).where(
            Study.pk.in_(keys)
        )
    )
    found = {row[0]: row for row in rows}
    held = _holdings(session, keys)
    for pk in keys:
        _, uid, *values = found[pk]
        counts, pools, sizes = held.get(pk, ({}, frozenset(), {}))
        yield Candidate(pk, uid, dict(zip(names, values, strict=True)), counts, pools, sizes)


Holding = tuple[dict[str, int], frozenset[str], dict[str, int]]


def _holdings(session: Session, study_pks: Sequence[int]) -> dict[int, Holding]:
    """Verified counts, pools with any copy, and bytes by pool, of each study."""
    packages: dict[int, set[int]] = {}
    for study_pk, package_pk in session.execute(
        select(Package.study_pk, Package.pk).where(Package.study_pk.in_(study_pks))
    ):
        packages.setdefault(study_pk, set()).add(package_pk)
    rows = session.execute(
        select(Package.study_pk, Package.pk, Package.size, Copy.state, Volume.pool, Volume.state)
        .join(Copy, Copy.package_pk == Package.pk)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(Package.study_pk.in_(study_pks), Copy.state.not_in((CopyState.RELEASED, CopyState.LOST)))
    )
    verified: dict[int, dict[str, dict[int, int]]] = {}
    pools: dict[int, set[str]] = {}
    sizes: dict[int, dict[str, int]] = {}
    for study_pk, package_pk, size, state, pool, volume_state in rows:
        if pool is None:
            continue
        pools.setdefault(study_pk, set()).add(pool)
        held = sizes.setdefault(study_pk, {})
        held[pool] = held.get(pool, 0) + size
        if state == CopyState.VERIFIED and volume_state in guard.GOOD_VOLUMES:
            by_package = verified.setdefault(study_pk, {}).setdefault(pool, {})
            by_package[package_pk] = by_package.get(package_pk, 0) + 1
    result: dict[int, Holding] = {}
    for study_pk, all_packages in packages.items():
        counts = {
            pool: min(by_package.get(package_pk, 0) for package_pk in all_packages)
            for pool, by_package in verified.get(study_pk, {}).items()
        }
        result[study_pk] = (counts, frozenset(pools.get(study_pk, ())), sizes.get(study_pk, {}))
    return result
