"""How available patients, studies, series, instances and packages are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Executable, and_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from hsm.availability import Reach, Standing, by_disks, standing, unsealed, worst
from hsm.catalog import hiding, placement, placements
from hsm.catalog.newest import newest
from hsm.catalog.portions import chunks
from hsm.catalog.tables import Instance, Package, Series, Study
from hsm.terms import Level

_OWNERS: Mapping[Level, InstrumentedAttribute[int]] = {
    Level.PATIENT: Study.patient_pk,
    Level.STUDY: Series.study_pk,
    Level.SERIES: Series.pk,
    Level.IMAGE: Instance.pk,
}


def availability_of(session: Session, level: Level, pks: Sequence[int], reach: Reach) -> dict[int, Standing]:
    """How available each of these patients, studies, series or instances is.

    What counts is what a retrieve would send: the newest versions in each series, and the packages that these
    are in.
    """
    owned = _owned(session, _packages_of(level, pks), pks)
    packages = {each for some in owned.values() for each in some if each is not None}
    known: dict[int | None, Standing] = {None: unsealed(reach)}
    known |= dict(standings(session, packages, reach).items())
    # Where all is alike, an old version makes no difference: only then it is looked who is old.
    mixed = [pk for pk, some in owned.items() if len({known[each] for each in some}) > 1]
    if mixed and level is not Level.IMAGE:
        owned |= _owned(session, _packages_of_newest(level, mixed), mixed)
    found = {pk: worst(known[package] for package in some) for pk, some in owned.items()}
    recalled = [pk for pk in packages if known[pk].recalled]
    for pk, large in _too_large(session, level, pks, recalled, reach).items():
        found[pk] = large if level is Level.IMAGE else worst((found[pk], large))
    return found


def _too_large(
    session: Session, level: Level, pks: Sequence[int], recalled: Sequence[int], reach: Reach
) -> dict[int, Standing]:
    """Those of these entities of which an instance is too large for the staging area, through which it would
    have to come, and how available that is all the same."""
    if reach.room is None:
        return {}
    large = select(Package.pk, Package.study_pk).where(Package.size > reach.room.package)
    packages: dict[int, int] = {}
    for some in chunks(recalled):
        rows = session.execute(large.where(Package.pk.in_(some)))
        packages |= {row.pk: row.study_pk for row in rows}
    if not packages:
        return {}
    query = select(_OWNERS[level], Instance.package_pk).select_from(Instance)
    query = query.join(Series, Series.pk == Instance.series_pk).join(Study, Study.pk == Series.study_pk)
    # Through their study: no index leads from packages to instances.
    query = query.where(Study.pk.in_(set(packages.values())), Instance.package_pk.in_(packages))
    query = query.where(Instance.size > reach.room.instance, newest(), ~hiding.hidden()).distinct()
    copies = placement.copies(session, packages)
    found: dict[int, list[Standing]] = {}
    for pk, package_pk in session.execute(query):
        if package_pk is not None:  # as the query says
            route = by_disks(copies[package_pk], reach)
            found.setdefault(pk, []).append(Standing(route.availability))
    wanted = set(pks)
    return {pk: worst(each) for pk, each in found.items() if pk in wanted}


def _owned(session: Session, query: Executable, pks: Sequence[int]) -> dict[int, set[int | None]]:
    found: dict[int, set[int | None]] = {pk: set() for pk in pks}
    for pk, package_pk, *unsealed_too in session.execute(query):
        if package_pk is not None or not unsealed_too:
            found[pk].add(package_pk)
        if any(unsealed_too):
            found[pk].add(None)
    return found


def standings(session: Session, package_pks: Iterable[int], reach: Reach) -> dict[int, Standing]:
    """How available each of these packages is."""
    found: dict[int, Standing] = {}
    for chunk in chunks(sorted(package_pks)):
        copies = placement.copies(session, chunk)
        staged = placement.named(session, chunk, reach.staged)
        found |= {pk: standing(copies[pk], reach, staged=pk in staged) for pk in chunk}
    return found


def _packages_of(level: Level, pks: Sequence[int]) -> Executable:
    """Each entity with the packages it lies in, None standing for what is not sealed; of patients and studies
    also how much is not."""
    if level is Level.IMAGE:
        return select(Instance.pk, Instance.package_pk).where(Instance.pk.in_(pks))
    if level is Level.SERIES:
        return select(Instance.series_pk, Instance.package_pk).where(Instance.series_pk.in_(pks)).distinct()
    owner = Study.pk if level is Level.STUDY else Study.patient_pk
    query = select(owner, Package.pk, Study.unsealed).select_from(Study)
    mine = and_(Package.study_pk == Study.pk, ~placements.deleted())
    return query.join(Package, mine, isouter=True).where(owner.in_(pks))


def _packages_of_newest(level: Level, pks: Sequence[int]) -> Executable:
    """As :func:`_packages_of`, old versions left out: what a retrieve sends."""
    owner = _OWNERS[level]
    query = select(owner, Instance.package_pk).select_from(Instance)
    query = query.join(Series, Series.pk == Instance.series_pk)
    if level is Level.PATIENT:
        query = query.join(Study, Study.pk == Series.study_pk)
    return query.where(owner.in_(pks), newest(), ~hiding.hidden()).distinct()
