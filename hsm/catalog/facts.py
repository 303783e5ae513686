"""What policies may ask about a study: as columns, and as the values of one; the language knows no tables.

Both must say the same: tests/unit/policies/test_policy_catalog.py holds them against each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, case, exists, func, select
from sqlalchemy.orm import Session

from hsm.availability import Reach, availability
from hsm.catalog import available, history, placements, words
from hsm.catalog.placements import GONE, copies_in, held_in, sites_of
from hsm.catalog.tables import Access, Copy, Hold, Package, Patient, Series, Study, Volume
from hsm.model import Availability, Place, Tier
from hsm.states import READABLE_COPIES, CopyState, VolumeState
from policies import PoolInfo, StudyFacts
from policies.compile import ColumnFactory

BATCH_STUDIES = 500
"""Studies read together."""

Pools = Iterable[PoolInfo]
"""The configured pools; only availability depends on them."""

_PATIENT_ID = select(Patient.patient_id).where(Patient.pk == Study.patient_pk).scalar_subquery()
_BIRTH_DATE = select(Patient.birth_date).where(Patient.pk == Study.patient_pk).scalar_subquery()
_HELD = exists().where(Hold.study_pk == Study.pk, Hold.lifted_at.is_(None)).correlate(Study)

STUDY_COLUMNS: Mapping[str, ColumnElement[Any]] = {
    "modalities": Study.modalities.expression,
    "study_date": Study.date.expression,
    "received_at": Study.last_received.expression,
    "accessed_at": Study.last_accessed.expression,
    "size": Study.n_bytes.expression,
    "instances": Study.n_instances.expression,
    "institution": Study.institution.expression,
    "source_ae": Study.source_ae.expression,
    "referring_physician": Study.referring_physician.expression,
    "accession": Study.accession.expression,
    "description": Study.description.expression,
    "patient_id": _PATIENT_ID,
    "birth_date": _BIRTH_DATE,
    "recalls": Study.recalls.expression,
    "retain_until": Study.retain_until.expression,
    "legal_hold": _HELD,
}
"""By the policy language's source names: those whose values are read from the same columns."""

_WORDS = {
    "body_parts": Study.body_parts,
    "stations": Study.stations,
    "sop_classes": Study.sop_classes,
    "tags": Study.tags,
}


def columns(pools: Pools = ()) -> dict[str, ColumnFactory]:
    """What the policy compiler takes.

    :param pools: the configured pools; without them ``availability`` cannot be asked for.
    """
    found: dict[str, ColumnFactory] = {
        **STUDY_COLUMNS,
        "series_descriptions": words.having_series(Series.description),
        "copies": copies_in,
        "held": held_in,
        "sites": sites_of,
        "accesses": accesses_since,
        "resident_since": resident_since,
        "verified_at": verified_at,
    }
    for source, kept in _WORDS.items():
        found[source] = words.having(kept)
    tiers = tiers_of(pools)
    if tiers:
        found["availability"] = availability_in(tiers)
    return found


def tiers_of(pools: Pools) -> dict[str, Tier]:
    """Tier by pool, of those whose tier is known."""
    return {pool.name: Tier(pool.tier) for pool in pools if pool.tier}


def accesses_since(since: datetime) -> ColumnElement[int]:
    """Retrieves at that time or later."""
    total = select(func.sum(Access.times)).where(
        Access.study_pk == Study.pk, Access.kind == history.RETRIEVE, Access.at >= since
    )
    return func.coalesce(total.correlate(Study).scalar_subquery(), 0)


def resident_since(pool: str) -> ColumnElement[datetime | None]:
    """Since when a pool has held the study: of several copies there the newest; null where it holds none."""
    return _of_copies(func.max(Copy.written_at), pool)


def verified_at(pool: str) -> ColumnElement[datetime | None]:
    """When the study's copies in a pool were last read back: of several the one longest ago."""
    return _of_copies(func.min(Copy.verified_at), pool)


def _of_copies(what: ColumnElement[Any], pool: str) -> ColumnElement[Any]:
    return _copies(what).where(Volume.pool == pool).correlate(Study).scalar_subquery()


def _copies(*what: ColumnElement[Any]) -> Select[*tuple[Any, ...]]:
    return (
        select(*what)
        .select_from(Package)
        .join(Copy, Copy.package_pk == Package.pk)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(Package.study_pk == Study.pk, Copy.state.not_in((*GONE, CopyState.WRITING)))
    )


def availability_in(tiers: Mapping[str, Tier]) -> ColumnElement[str]:
    """How available the study is, as :mod:`hsm.availability` has it by the catalog alone: of its packages
    the least so. What lies in the staging area, or is away since a moment, is no policy's concern."""
    online = [pool for pool, tier in tiers.items() if tier is Tier.ONLINE]
    reachable = (
        Volume.pool.is_not(None)  # not known would be neither reachable nor its opposite
        & Volume.pool.in_(list(tiers))
        & Volume.state.not_in((VolumeState.LOST, VolumeState.RETIRED))
        & (Volume.place != Place.UNKNOWN)
    )
    mounted = Volume.place == Place.MOUNTED
    rank = case((Volume.place == Place.SHELF, 2), (mounted & Volume.pool.in_(online), 0), else_=1)
    # What is read where it lies goes before what is carried, a trusted volume before a suspect one, and every
    # good copy before one that is suspect: of the numbers the least is taken, its remainder is the rank.
    ranks = len(Availability)
    carried = case((mounted, 0), (Volume.state != VolumeState.SUSPECT, ranks), else_=2 * ranks)
    of_copy = case(
        (~reachable, None),
        (Copy.state.in_(READABLE_COPIES), rank + carried),
        (Copy.state == CopyState.SUSPECT, rank + carried + 3 * ranks),
        else_=None,
    )
    of_package = func.coalesce(func.min(of_copy) % ranks, Availability.UNAVAILABLE.rank)
    worst = (
        select(of_package)
        .select_from(Package)
        .outerjoin(Copy, Copy.package_pk == Package.pk)
        .outerjoin(Volume, Volume.pk == Copy.volume_pk)
        .where(Package.study_pk == Study.pk)
        .group_by(Package.pk)
        .order_by(of_package.desc())
        .limit(1)
        .correlate(Study)
        .scalar_subquery()
    )
    return case({each.rank: each.value for each in Availability}, value=worst)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One study with the values of its facts."""

    study_pk: int
    uid: str
    values: dict[str, Any]
    """By the policy language's source names."""
    copies: dict[str, int]
    held: frozenset[str]
    size_in: dict[str, int]
    """Bytes that it holds in each pool."""
    packages: tuple[Mapping[str, int], ...] = ()
    """Verified copies by pool, one mapping a package."""
    accesses: tuple[datetime, ...] = ()
    resident: dict[str, datetime] = field(default_factory=dict)
    verified: dict[str, datetime] = field(default_factory=dict)

    def facts(self) -> StudyFacts:
        """What the language evaluates."""
        return StudyFacts(
            self.uid,
            self.values,
            self.copies,
            self.held,
            self.packages,
            self.accesses,
            self.resident,
            self.verified,
        )


def one(session: Session, uid: str, pools: Pools = ()) -> Candidate | None:
    """The facts of one study; None when the catalog has it not, or has not sealed it yet."""
    keys = session.scalars(select(Study.pk).where(Study.uid == uid, Study.packages > 0)).all()
    return next(read(session, keys, pools), None)


def read(session: Session, keys: Sequence[int], pools: Pools = ()) -> Iterator[Candidate]:
    """The facts of these studies, in the order of the keys; at most :data:`BATCH_STUDIES`."""
    names = list(STUDY_COLUMNS)
    plain = [STUDY_COLUMNS[name].label(name) for name in names]
    query: Select[*tuple[Any, ...]] = select(Study.pk, Study.uid, *_WORDS.values(), *plain)
    rows = session.execute(query.where(Study.pk.in_(keys))).all()
    sets = words.members(session, (pk for row in rows for pk in row[2 : 2 + len(_WORDS)]))
    descriptions = _series_descriptions(session, keys)
    held = _holdings(session, keys)
    accessed = history.accesses_of(session, keys)
    tiers = tiers_of(pools)
    known = _availabilities(session, keys, tiers) if tiers else {}
    found = {row[0]: row for row in rows}
    for pk in keys:
        if pk not in found:
            continue
        row = found[pk]
        values = dict(zip(names, row[2 + len(_WORDS) :], strict=True))
        values["legal_hold"] = bool(values["legal_hold"])
        values |= {source: sets[each] for source, each in zip(_WORDS, row[2:], strict=False)}
        values["series_descriptions"] = descriptions.get(pk, ())
        if tiers:
            values["availability"] = known[pk].value
        holding = held.get(pk, _Holding())
        yield Candidate(
            pk,
            row[1],
            values,
            holding.copies,
            frozenset(holding.sizes),
            holding.sizes,
            tuple(holding.packages.values()),
            accessed.get(pk, ()),
            holding.resident,
            holding.verified,
        )


def _series_descriptions(session: Session, keys: Sequence[int]) -> dict[int, tuple[str, ...]]:
    found: dict[int, set[str]] = {}
    query = select(Series.study_pk, Series.description).where(
        Series.study_pk.in_(keys), Series.description != ""
    )
    for pk, description in session.execute(query):
        found.setdefault(pk, set()).add(description)
    return {pk: tuple(sorted(descriptions)) for pk, descriptions in found.items()}


def _availabilities(
    session: Session, keys: Sequence[int], tiers: Mapping[str, Tier]
) -> dict[int, Availability]:
    packages: dict[int, list[int]] = {pk: [] for pk in keys}
    for study_pk, pk in session.execute(
        select(Package.study_pk, Package.pk).where(Package.study_pk.in_(keys))
    ):
        packages[study_pk].append(pk)
    reach = Reach(tiers)
    standings = available.standings(session, (pk for each in packages.values() for pk in each), reach)
    return {
        study_pk: max(
            (standings[pk].availability for pk in each),
            key=lambda found: found.rank,
            default=availability((), reach),
        )
        for study_pk, each in packages.items()
    }


@dataclass(slots=True)
class _Holding:
    """What a study has in pools."""

    packages: dict[int, dict[str, int]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    resident: dict[str, datetime] = field(default_factory=dict)
    verified: dict[str, datetime] = field(default_factory=dict)

    @property
    def copies(self) -> dict[str, int]:
        """Of the packages the least that any has, by pool."""
        pools = {pool for package in self.packages.values() for pool in package}
        least = {pool: min(package.get(pool, 0) for package in self.packages.values()) for pool in pools}
        return {pool: count for pool, count in least.items() if count}


def _holdings(session: Session, study_pks: Sequence[int]) -> dict[int, _Holding]:
    found: dict[int, _Holding] = {}
    for study_pk, package_pk in session.execute(
        select(Package.study_pk, Package.pk).where(Package.study_pk.in_(study_pks))
    ):
        found.setdefault(study_pk, _Holding()).packages[package_pk] = {}
    rows = session.execute(
        select(
            *(Package.study_pk, Package.pk, Package.size, Copy.state, Copy.written_at, Copy.verified_at),
            *(Volume.pool, Volume.state),
        )
        .join(Copy, Copy.package_pk == Package.pk)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(Package.study_pk.in_(study_pks), Copy.state.not_in(GONE), Volume.pool.is_not(None))
    )
    for study_pk, package_pk, size, state, written, verified, pool, volume_state in rows:
        assert pool is not None  # the query says so
        holding = found[study_pk]
        package = holding.packages[package_pk]
        package[pool] = package.get(pool, 0) + placements.counts(state, volume_state)
        holding.sizes[pool] = holding.sizes.get(pool, 0) + size
        if state == CopyState.WRITING:
            continue  # its times are of what was there before
        if written is not None:
            holding.resident[pool] = max(written, holding.resident.get(pool, written))
        if verified is not None:
            holding.verified[pool] = min(verified, holding.verified.get(pool, verified))
    return found
