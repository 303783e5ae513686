"""Packages and their copies: what is where, in which state, and what may go.

Every change of a copy's state passes :func:`move_copy`; a release passes the guard inside the
transaction that does it (promise 3).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, Select, select, update
from sqlalchemy.orm import Session

from hsm import guard, states
from hsm.catalog import journal, marks, permits, placements, restored
from hsm.catalog.orders import Order
from hsm.catalog.portions import chunks
from hsm.catalog.tables import Copy, Package, Request, Study, Volume
from hsm.errors import Permanent
from hsm.model import CopyAt, Goal, Place
from hsm.states import READABLE_COPIES, CopyState, RequestKind, VolumeState

COPYABLE_STATES = (CopyState.WRITING, CopyState.WRITTEN, CopyState.VERIFIED, CopyState.SUSPECT)
"""States of copies that stand for bytes on a volume, whole or not."""


@dataclass(frozen=True, slots=True)
class PackageRef:
    """One sealed package."""

    pk: int
    key: str
    study_pk: int
    study_uid: str
    size: int
    digest: bytes


def package(session: Session, package_pk: int) -> PackageRef:
    return _package_ref(session.execute(_packages().where(Package.pk == package_pk)).one())


def package_of(session: Session, order: Order) -> PackageRef:
    """The package that a request is about.

    :raises Permanent: it names none.
    """
    if order.package_pk is None:
        raise Permanent(f"request {order.pk} names no package")
    return package(session, order.package_pk)


def packages(session: Session, package_pks: Iterable[int]) -> dict[int, PackageRef]:
    """Those packages, by key."""
    return {
        ref.pk: ref
        for some in chunks(package_pks)
        for ref in map(_package_ref, session.execute(_packages().where(Package.pk.in_(some))))
    }


def packages_of_studies(session: Session, study_pks: Sequence[int]) -> list[PackageRef]:
    """Their packages, but those that were deleted."""
    mine = (Package.study_pk.in_(study_pks), ~placements.deleted())
    query = _packages().where(*mine).order_by(Package.study_pk, Package.number)
    return [_package_ref(row) for row in session.execute(query)]


def packages_named(session: Session, keys: Iterable[str]) -> list[PackageRef]:
    """The packages of these names."""
    return [
        _package_ref(row)
        for some in chunks(keys)
        for row in session.execute(_packages().where(Package.key.in_(some)))
    ]


def _packages() -> Select[int, str, int, str, int, bytes]:
    return select(Package.pk, Package.key, Package.study_pk, Study.uid, Package.size, Package.digest).join(
        Study, Study.pk == Package.study_pk
    )


def _package_ref(row: Row[int, str, int, str, int, bytes]) -> PackageRef:
    return PackageRef(*row)


def named(session: Session, package_pks: Iterable[int], names: Collection[str]) -> set[int]:
    """Of these packages those with one of these names."""
    if not names:
        return set()
    return {
        pk
        for some in chunks(package_pks)
        for pk, key in session.execute(select(Package.pk, Package.key).where(Package.pk.in_(some)))
        if key in names
    }


def copies(session: Session, package_pks: Iterable[int]) -> dict[int, list[CopyAt]]:
    """All copies that stand for bytes, by package."""
    wanted = list(package_pks)
    found: dict[int, list[CopyAt]] = {pk: [] for pk in wanted}
    for some in chunks(wanted):
        for copy in _copies(session, some):
            found[copy.package_pk].append(copy)
    return found


def _copies(session: Session, package_pks: list[int]) -> Iterator[CopyAt]:
    rows = session.execute(
        # Columns, not entities: a query of thousands of studies reads as many copies.
        select(
            *(Copy.pk, Copy.package_pk, Volume.pk, Volume.name, Volume.pool, Copy.state, Volume.state),
            *(Volume.place, Copy.locator, Copy.position, Volume.library, Volume.shelf),
        )
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(Copy.package_pk.in_(package_pks), Copy.state.in_(COPYABLE_STATES))
        .order_by(Copy.pk)
    )
    for copy_pk, package_pk, volume_pk, name, pool, state, volume_state, place, *rest in rows:
        yield CopyAt(
            *(copy_pk, package_pk, volume_pk, name, pool or "", state, volume_state, Place(place)), *rest
        )


def begin_copy(
    session: Session, package_pk: int, volume_pk: int, locator: str, now: datetime, actor: str
) -> int:
    """The copy row of this package on this volume, in state ``writing`` (or further, after a crash)."""
    row = session.scalars(
        select(Copy).where(Copy.package_pk == package_pk, Copy.volume_pk == volume_pk).with_for_update()
    ).one_or_none()
    if row is None:
        row = Copy(
            package_pk=package_pk,
            volume_pk=volume_pk,
            state=CopyState.WRITING.value,
            locator=locator,
            position=None,
            written_at=None,
            verified_at=None,
        )
        session.add(row)
        session.flush()
        placements.refresh_package(session, package_pk)
        _record(session, row, now, actor, "writing", "")
    elif row.state == CopyState.RELEASED:
        row.locator = locator
        move_copy(session, row.pk, CopyState.WRITING, now, actor)
    return row.pk


def move_copy(
    session: Session,
    copy_pk: int,
    new: CopyState,
    now: datetime,
    actor: str,
    *,
    why: str = "",
    position: int | None = None,
) -> None:
    """Change a copy's state and record it.

    :raises ValueError: the transition table has no such step.
    """
    row = session.scalars(select(Copy).where(Copy.pk == copy_pk).with_for_update()).one()
    old = CopyState(row.state)
    states.COPY.check(old, new)
    if new is CopyState.WRITTEN:
        row.written_at, row.position, row.verified_at = now, position, None
        size = _size(session, row)
        session.execute(update(Volume).where(Volume.pk == row.volume_pk).values(used=Volume.used + size))
    elif new is CopyState.VERIFIED:
        row.verified_at = max(now, row.written_at or now)  # somebody may have put the clock back
    elif new is CopyState.RELEASED and row.state != CopyState.WRITING:
        size = _size(session, row)
        session.execute(
            update(Volume)
            .where(Volume.pk == row.volume_pk, ~Volume.removable)
            .values(used=Volume.used - size)
        )
    row.state = new.value
    session.flush()
    if placements.weight(old) != placements.weight(new):
        placements.refresh_package(session, row.package_pk)
    _record(session, row, now, actor, new.value, why)


def give_up_unfinished(
    session: Session,
    now: datetime,
    actor: str,
    why: str,
    *,
    volume_pk: int | None = None,
    package_pk: int | None = None,
    pool: str | None = None,
) -> int:
    """Copies that were begun and will not be finished (on a volume, or of a package in a pool) end as
    released: nothing counts on them, and what was written of them is nobody's. How many there were."""
    query = (
        select(Copy.pk, Package.study_pk)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .join(Package, Package.pk == Copy.package_pk)
        .where(Copy.state == CopyState.WRITING)
    )
    if volume_pk is not None:
        query = query.where(Copy.volume_pk == volume_pk)
    if package_pk is not None:
        query = query.where(Copy.package_pk == package_pk)
    if pool is not None:
        query = query.where(Volume.pool == pool)
    found = session.execute(query.order_by(Copy.pk)).all()
    placements.lock(session, (study_pk for _, study_pk in found))
    for pk, _ in found:
        move_copy(session, pk, CopyState.RELEASED, now, actor, why=why)
    return len(found)


def state_of(session: Session, copy_pk: int) -> CopyState:
    return CopyState(session.execute(select(Copy.state).where(Copy.pk == copy_pk)).scalar_one())


def release(
    session: Session, copy_pk: int, goals: Sequence[Goal], now: datetime, actor: str
) -> guard.Verdict:
    """Move a copy to ``releasing`` if the guard agrees; the verdict says why or why not.

    The package row is locked first, so that two releases of one package see each other, and a hold that
    is being placed is waited for. What is in the trash stays, and is carried along where a volume is emptied:
    policies demand nothing of it.
    """
    row = session.scalars(select(Copy).where(Copy.pk == copy_pk)).one()
    study_pk = session.execute(
        select(Package.study_pk).where(Package.pk == row.package_pk).with_for_update()
    ).scalar_one()
    facts = copy_facts(session, row.package_pk)
    mine = next(fact for fact in facts if fact.copy_pk == copy_pk)
    if mine.state is CopyState.RELEASING:
        return guard.Verdict(True, "its release was agreed before")
    others = [fact for fact in facts if fact.copy_pk != copy_pk]
    if restored.is_owed(session):
        return guard.Verdict(False, restored.OWED)
    trash = permits.in_trash(session, row.package_pk)
    if trash and permits.carried(mine, others, _emptied(session)):
        trash, goals = "", ()
    kept = marks.kept_by_law(session, study_pk, now) or trash
    verdict = guard.may_release(mine, others, goals, kept, permits.permit(session, row.package_pk))
    if verdict.allowed:
        move_copy(session, copy_pk, CopyState.RELEASING, now, actor, why=verdict.reason)
    return verdict


def _emptied(session: Session) -> set[int]:
    """Volumes that are drained or repacked."""
    return set(session.scalars(select(Volume.pk).where(Volume.drain_to != "")))


def copy_facts(session: Session, package_pk: int) -> list[guard.CopyFact]:
    """What the guard decides on, read afresh."""
    rows = session.execute(
        select(Copy.pk, Copy.volume_pk, Volume.pool, Copy.state, Volume.state)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(Copy.package_pk == package_pk)
        .order_by(Copy.pk)
        .execution_options(populate_existing=True)
    )
    return [
        guard.CopyFact(copy_pk, volume_pk, pool or "", CopyState(state), VolumeState(volume_state))
        for copy_pk, volume_pk, pool, state, volume_state in rows
    ]


def copy_facts_of(session: Session, package_pks: Iterable[int]) -> dict[int, list[guard.CopyFact]]:
    """As :func:`copy_facts`, of many packages."""
    found: dict[int, list[guard.CopyFact]] = {}
    for some in chunks(package_pks):
        rows = session.execute(
            select(Copy.package_pk, Copy.pk, Copy.volume_pk, Volume.pool, Copy.state, Volume.state)
            .join(Volume, Volume.pk == Copy.volume_pk)
            .where(Copy.package_pk.in_(some))
            .order_by(Copy.pk)
        )
        for package_pk, copy_pk, volume_pk, pool, state, volume_state in rows:
            fact = guard.CopyFact(copy_pk, volume_pk, pool or "", CopyState(state), VolumeState(volume_state))
            found.setdefault(package_pk, []).append(fact)
    return found


def packages_on(session: Session, volume_pk: int) -> list[tuple[int, int, str]]:
    """(key, study, name) of each package with a copy on the volume that can be read back."""
    rows = session.execute(
        select(Package.pk, Package.study_pk, Package.key)
        .join(Copy, Copy.package_pk == Package.pk)
        .where(Copy.volume_pk == volume_pk, Copy.state.in_((*READABLE_COPIES, CopyState.SUSPECT)))
        .order_by(Copy.position, Package.pk)
    )
    return [(pk, study_pk, key) for pk, study_pk, key in rows]


def positions(session: Session, volume_pks: Iterable[int]) -> dict[int, list[tuple[int, int]]]:
    """Where packages begin on each volume, in order, and their sizes in bytes; those that do not count any
    more, too."""
    found: dict[int, list[tuple[int, int]]] = {}
    rows = session.execute(
        select(Copy.volume_pk, Copy.position, Package.size)
        .join(Package, Package.pk == Copy.package_pk)
        .where(Copy.volume_pk.in_(list(volume_pks)), Copy.position.is_not(None))
        .order_by(Copy.volume_pk, Copy.position)
    )
    for pk, position, size in rows:
        found.setdefault(pk, []).append((int(position or 0), size))
    return found


def touch_studies(session: Session, study_uids: Iterable[str], now: datetime) -> None:
    """Note that somebody retrieved from these studies."""
    for some in chunks(study_uids):
        session.execute(update(Study).where(Study.uid.in_(some)).values(last_accessed=now))


def note_recall(session: Session, study_pk: int) -> None:
    """Count a recall of a study of which none is under way yet. To be called before the journal is written
    to: who stores into the study takes these locks in that order."""
    live = select(Request.pk).where(
        Request.study_pk == study_pk,
        Request.kind == RequestKind.RECALL,
        Request.state.in_(states.LIVE_REQUESTS),
    )
    if session.scalar(live.limit(1)) is None:
        session.execute(update(Study).where(Study.pk == study_pk).values(recalls=Study.recalls + 1))


def _size(session: Session, row: Copy) -> int:
    return session.execute(select(Package.size).where(Package.pk == row.package_pk)).scalar_one()


def _record(session: Session, row: Copy, now: datetime, actor: str, verb: str, why: str) -> None:
    """A copy's history is its study's: that is what an auditor asks for."""
    study_uid, key, volume = session.execute(
        select(Study.uid, Package.key, Volume.name)
        .select_from(Copy)
        .join(Package, Package.pk == Copy.package_pk)
        .join(Study, Study.pk == Package.study_pk)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(Copy.pk == row.pk)
    ).one()
    detail = {"package": key, "volume": volume} | ({"why": why} if why else {})
    journal.append(session, now, actor, f"copy {verb}", "study", study_uid, detail)


def study_uid(session: Session, study_pk: int) -> str:
    return session.execute(select(Study.uid).where(Study.pk == study_pk)).scalar_one()


def locator_of(session: Session, copy_pk: int) -> str:
    return session.execute(select(Copy.locator).where(Copy.pk == copy_pk)).scalar_one()
