"""Where studies lie, in few words: every study names its placement, and very many share one.

A placement is a pattern: of each package of a study its pools, with the number of verified copies that
count there (:data:`hsm.guard.GOOD_VOLUMES`): ``online=1,tape=2``. A pool with a copy that does not count
stands there with 0. Packages that differ are joined by ``;``: ``online=1;online=1,tape=2``. There are as
many patterns as ways to lie, dozens in an archive of ten million studies; so a policy's run asks the small
table which patterns it means, and finds the studies by ``ix_study_placed``. A deleted package is no part of
any: policies and audits pass it over.

Whoever changes what a pattern says (a copy's state, a volume's) refreshes it in the same transaction.
``hsm catalog check`` compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Connection,
    and_,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy import case as sql_case
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BooleanClauseList
from sqlalchemy.sql.operators import and_ as and_operator

from hsm import guard
from hsm.catalog.portions import chunks
from hsm.catalog.tables import Copy, DeletedPackage, Package, Placement, PlacementPool, Study, Volume
from hsm.states import CopyState

GONE = (CopyState.RELEASED, CopyState.LOST)
"""States of copies that are nowhere."""

Patterns = tuple[Mapping[str, int], ...]
"""Verified copies by pool, of each package that differs from the others."""


def pattern_of(packages: Iterable[Mapping[str, int]]) -> str:
    """The text of a placement; the same for the same packages in whatever order."""
    parts = {",".join(f"{pool}={package[pool]}" for pool in sorted(package)) for package in packages}
    return ";".join(sorted(parts))


def parse(pattern: str) -> Patterns:
    """What :func:`pattern_of` wrote."""
    return tuple(_package(part) for part in pattern.split(";"))


def _package(part: str) -> dict[str, int]:
    pairs = (each.partition("=") for each in part.split(",") if each)
    return {pool: int(verified) for pool, _, verified in pairs}


def counts(copy_state: str, volume_state: str) -> bool:
    """Whether a copy is one that a pattern counts."""
    return copy_state == CopyState.VERIFIED and volume_state in guard.GOOD_VOLUMES


def weight(state: CopyState) -> int:
    """What a copy in this state is worth to a pattern; another weight is another pattern."""
    return 0 if state in GONE else 2 if state is CopyState.VERIFIED else 1


def lock(session: Session, study_pks: Iterable[int]) -> None:
    """Lock studies before the journal's head is: who stores into them takes the locks in that order, and
    by the same order of UIDs."""
    for some in chunks(sorted(set(study_pks))):
        query = select(Study.pk).where(Study.pk.in_(some)).order_by(Study.uid)
        session.execute(query.with_for_update(key_share=True)).all()


def refresh(session: Session, study_pks: Iterable[int]) -> None:
    """Make the placements of these studies what their copies are now."""
    for some in chunks(sorted(set(study_pks))):
        # Locked first: of two that change copies of one study the second sees what the first has done.
        query = select(Study.pk, Study.placement_pk).where(Study.pk.in_(some)).order_by(Study.uid)
        kept = dict(session.execute(query.with_for_update(key_share=True)).all())
        found = {pk: pattern_of(packages) for pk, packages in holdings(session, some).items()}
        numbers = _numbers(session, set(found.values()))
        moved: dict[int | None, list[int]] = {}
        for pk, placed in kept.items():
            number = numbers[found[pk]] if pk in found else None
            if placed != number:
                moved.setdefault(number, []).append(pk)
        for number, studies in moved.items():
            session.execute(
                update(Study)
                .where(Study.pk.in_(studies))
                .values(placement_pk=number)
                .execution_options(synchronize_session=False)
            )


def deleted() -> ColumnElement[bool]:
    """The package went with a deletion that was not undone: policies know nothing of it."""
    return exists().where(DeletedPackage.package_pk == Package.pk)


def without_packages(session: Session, study_pks: Sequence[int]) -> set[int]:
    """Those of the studies that lie nowhere because they have no package."""
    query = select(Package.study_pk).where(Package.study_pk.in_(study_pks), ~deleted())
    found = session.scalars(query.distinct())
    return set(study_pks) - set(found)


def refresh_package(session: Session, package_pk: int) -> None:
    """The same for the study of one package."""
    refresh(session, session.scalars(select(Package.study_pk).where(Package.pk == package_pk)))


def refresh_volume(session: Session, volume_pk: int) -> None:
    """The same for every study with a copy on a volume whose state has changed."""
    refresh(session, studies_on(session, volume_pk))


def studies_on(session: Session, volume_pk: int) -> Sequence[int]:
    """Studies with a copy on the volume."""
    return session.scalars(
        select(Package.study_pk)
        .join(Copy, Copy.package_pk == Package.pk)
        .where(Copy.volume_pk == volume_pk, Copy.state.not_in(GONE))
        .distinct()
    ).all()


def holdings(session: Session, study_pks: Sequence[int]) -> dict[int, list[Mapping[str, int]]]:
    """Of each study that has a package: of each of its packages the verified copies that count, by pool."""
    rows = session.execute(
        select(Package.study_pk, Package.pk, Volume.pool, Copy.state, Volume.state)
        .outerjoin(Copy, and_(Copy.package_pk == Package.pk, Copy.state.not_in(GONE)))
        .outerjoin(Volume, Volume.pk == Copy.volume_pk)
        .where(Package.study_pk.in_(study_pks), ~deleted())
    )
    found: dict[int, dict[int, dict[str, int]]] = {}
    for study_pk, package_pk, pool, state, volume_state in rows:
        package = found.setdefault(study_pk, {}).setdefault(package_pk, {})
        if pool is not None:
            package[pool] = package.get(pool, 0) + counts(state, volume_state)
    return {pk: list(packages.values()) for pk, packages in found.items()}


def _numbers(session: Session, patterns: set[str]) -> dict[str, int]:
    """The key of each pattern; a new one is made."""
    query = select(Placement.pattern, Placement.pk).where(Placement.pattern.in_(patterns))
    known = dict(session.execute(query).all())
    for pattern in sorted(patterns - known.keys()):
        known[pattern] = _make(session, pattern)
    return known


def _make(session: Session, pattern: str) -> int:
    bind = session.get_bind()
    if bind.dialect.name != "postgresql":
        return _make_in(session.connection(), pattern)
    # In a transaction of its own: who waited here for another's transaction might hold the journal's head,
    # which that other one waits for. A pattern that nobody comes to use does no harm.
    with bind.engine.begin() as connection:
        return _make_in(connection, pattern)


def _make_in(connection: Connection, pattern: str) -> int:
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    pk = connection.scalar(
        make(Placement)
        .values(pattern=pattern)
        .on_conflict_do_nothing(index_elements=["pattern"])
        .returning(Placement.pk)
    )
    if pk is None:  # somebody else has just made it
        return connection.execute(select(Placement.pk).where(Placement.pattern == pattern)).scalar_one()
    connection.execute(insert(PlacementPool), _parts(pk, pattern))
    return int(pk)


def _parts(pk: int, pattern: str) -> list[dict[str, int | str]]:
    return [
        {"placement_pk": pk, "package": number, "pool": pool, "verified": verified}
        for number, package in enumerate(parse(pattern))
        for pool, verified in (package or {"": 0}).items()
    ]


def take_apart(session: Session) -> int:
    """Take those patterns apart that are not; how many those were."""
    query = select(Placement.pk, Placement.pattern).where(
        ~exists().where(PlacementPool.placement_pk == Placement.pk)
    )
    whole = session.execute(query).all()
    for pk, pattern in whole:
        session.execute(insert(PlacementPool), _parts(pk, pattern))
    return len(whole)


# Conditions. Each looks at nothing of the study but its placement: see `narrowed`.


def copies_in(*pools: str) -> ColumnElement[int]:
    """Verified copies on good volumes of the pools together: of a study's packages the least that any one
    has."""
    here = func.sum(sql_case((PlacementPool.pool.in_(pools), PlacementPool.verified), else_=0))
    return _least(here)


def sites_of(site_by_pool: Mapping[str, str]) -> ColumnElement[int]:
    """Different sites with a verified copy, of the pools named: the least of any package."""
    if not site_by_pool:
        return literal(0)
    site = sql_case(
        *(
            (and_(PlacementPool.pool == pool, PlacementPool.verified > 0), literal(site))
            for pool, site in site_by_pool.items()
        ),
        else_=None,
    )
    return _least(func.count(site.distinct()))


def _least(of_package: ColumnElement[int]) -> ColumnElement[int]:
    least = (
        select(of_package)
        .where(PlacementPool.placement_pk == Study.placement_pk)
        .group_by(PlacementPool.package)
        .order_by(of_package)
        .limit(1)
        .correlate(Study)
    )
    return func.coalesce(least.scalar_subquery(), literal(0))


def held_in(*pools: str) -> ColumnElement[bool]:
    """Some package of the study has a copy in one of the pools, verified or not."""
    return (
        exists()
        .where(PlacementPool.placement_pk == Study.placement_pk, PlacementPool.pool.in_(pools))
        .correlate(Study)
    )


def narrowed(session: Session, where: Iterable[ColumnElement[bool]]) -> list[ColumnElement[bool]]:
    """The same conditions, those about placements alone answered from the small table and put as a list of
    placements, which the index finds."""
    about: list[ColumnElement[bool]] = []
    others: list[ColumnElement[bool]] = []
    for condition in _conjuncts(where):
        (about if _is_about_placement(condition) else others).append(condition)
    if not about:
        return others
    # Under the name of the table that the conditions ask, what they ask of it and no more.
    small = select(Placement.pk.label("placement_pk")).cte(Study.__tablename__)
    found = session.scalars(select(Study.placement_pk).where(*about).add_cte(small)).all()
    return [Study.placement_pk.in_(sorted(pk for pk in found if pk is not None)), *others]


def _conjuncts(where: Iterable[ColumnElement[bool]]) -> Iterator[ColumnElement[bool]]:
    for condition in where:
        if isinstance(condition, BooleanClauseList) and condition.operator is and_operator:
            yield from _conjuncts(condition.clauses)
        else:
            yield condition


def _is_about_placement(condition: ColumnElement[bool]) -> bool:
    study = Study.__table__
    named = {
        each.name
        for each in visitors.iterate(condition)
        if isinstance(each, ColumnClause) and each.table is study
    }
    return named == {"placement_pk"}
