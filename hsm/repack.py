"""Empties cartridges: each live package gets a new verified copy, then the guard releases the old one.

Everything is found out anew at each round from the catalog, so a repack outlives the daemon and a round that
is done twice asks for nothing twice. A package that can nowhere be read stays on its cartridge, its request
failed, and is told at every look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from hsm.barcodes import generation
from hsm.catalog import (
    details,
    draining,
    media,
    permits,
    placement,
    queuelooks,
    requesting,
    volumelife,
)
from hsm.catalog.engine import Catalog
from hsm.catalog.media import VolumeRef
from hsm.catalog.requesting import NewRequest
from hsm.errors import BadInput, Refused
from hsm.guard import CopyFact, good_copies
from hsm.log import get_logger
from hsm.model import Goal, Priority
from hsm.pools import Pools
from hsm.states import LIVE_REQUESTS, CopyState, RequestKind, RequestState, VolumeState
from hsm.wake import Bell

log = get_logger(__name__)

ACTOR = "repack"
PACKAGES_MAX = 200
"""Looked at in one transaction."""
REFUSED_MAX = 20
"""Refused releases that an answer names."""
DRAINABLE = (VolumeState.LABELLED, VolumeState.ACTIVE, VolumeState.FULL, VolumeState.SUSPECT)
AFTERWARDS = {"": None, "recycle": VolumeState.RECYCLED, "retire": VolumeState.RETIRED}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which cartridges, by one of these."""

    barcode: str = ""
    sparse_percent: int | None = None
    """Full ones of which less than this is still of use."""
    suspect: bool = False
    generation: str = ""
    """``LTO6``, as the barcode tells."""
    pool: str = ""
    """Where the new copies go; the cartridge's own pool without."""
    then: str = ""
    """``recycle`` or ``retire``; without, what is suspect, write-once or of an old generation is retired."""

    def __post_init__(self) -> None:
        chosen = [self.barcode != "", self.sparse_percent is not None, self.suspect, self.generation != ""]
        if sum(chosen) != 1:
            raise BadInput("name one: a barcode, sparse, suspect, or generation")
        if self.sparse_percent is not None and not 1 <= self.sparse_percent <= 99:
            raise BadInput(f"sparse {self.sparse_percent}: expected 1 to 99 percent")
        if self.then not in AFTERWARDS:
            raise BadInput(f"then {self.then!r}: expected recycle or retire")


@dataclass(frozen=True, slots=True)
class Left:
    """What a round has left on a cartridge."""

    packages: int
    queued: int
    failed: int
    refused: tuple[tuple[str, str], ...]
    """Packages that the guard keeps there, and why."""


class Repack:
    """Starts repacks and moves them on."""

    def __init__(
        self, catalog: Catalog, pools: Pools, bell: Bell, goals_now: Callable[[str], Sequence[Goal]]
    ) -> None:
        self._catalog = catalog
        self._pools = pools
        self._bell = bell
        self._goals_now = goals_now

    def start(self, wanted: Wanted, by: str, *, dry_run: bool = False) -> dict[str, object]:
        """Begin (or go on with) the repack of cartridges; what was failed is tried again.

        :raises Refused: the cartridge cannot be repacked, or there is no such pool.
        """
        if wanted.pool and wanted.pool not in self._pools.tapes:
            raise Refused(
                f"{wanted.pool!r} is not a pool of a library; those are: {', '.join(self._pools.tapes)}"
            )
        with self._catalog.read() as session:
            chosen = self._choose(session, wanted)
            shown = {each.name: self._shown(session, each, wanted) for each in chosen}
        if not dry_run:
            for each in chosen:
                now = self._catalog.clock.now()
                with self._catalog.write() as session:
                    to = _afterwards(each, wanted)
                    media.drain(session, each.pk, to, now, by, wanted.pool and f"to pool {wanted.pool}")
                left = self._round(each.pk, by, wanted.pool, again=True)
                shown[each.name] |= {
                    "left": left.packages,
                    "queued": left.queued,
                    "failed": left.failed,
                    "refused": [{"package": key, "why": why} for key, why in left.refused],
                }
            self._bell.ring()
        return {"dry_run": dry_run, "volumes": list(shown.values())}

    def stop(self, barcode: str, by: str) -> dict[str, object]:
        """Give a repack up: what is not copied stays where it is, and the cartridge takes writes again."""
        with self._catalog.write() as session:
            volume = media.volume(session, barcode)
            now = self._catalog.clock.now()
            media.drain(session, volume.pk, None, now, by, "given up")
            orders = draining.live_requests(session, volume.pk, barcode)
            cancelled = draining.withdraw(session, orders, now, by)
        return {"barcode": barcode, "cancelled": cancelled}

    def round(self) -> int:
        """Look at every cartridge that is emptied; how many copies are left on them."""
        with self._catalog.read() as session:
            volumes = [each for each in media.volumes(session) if each.drain_to and each.removable]
        return sum(self._round(each.pk, ACTOR, "", again=False).packages for each in volumes)

    def _choose(self, session: Session, wanted: Wanted) -> list[VolumeRef]:
        if wanted.barcode:
            volume = media.volume(session, wanted.barcode)
            if volume.pool not in self._pools.tapes or volume.state not in DRAINABLE:
                raise Refused(
                    f"{volume.name} is {volume.state.value}, of pool {volume.pool or 'none'}: only a "
                    "labelled, active, full or suspect cartridge of a library's pool is repacked"
                )
            return [volume]
        found = [
            each
            for each in media.volumes(session)
            if each.pool in self._pools.tapes and each.state in DRAINABLE
        ]
        if wanted.suspect:
            return [each for each in found if each.state is VolumeState.SUSPECT]
        if wanted.generation:
            return [each for each in found if generation(each.name) == wanted.generation.upper()]
        live = draining.live_bytes(session)
        share = wanted.sparse_percent or 0
        return [
            each
            for each in found
            if each.state is VolumeState.FULL and live.get(each.pk, 0) * 100 < share * each.used
        ]

    def _shown(self, session: Session, volume: VolumeRef, wanted: Wanted) -> dict[str, Any]:
        held = placement.packages_on(session, volume.pk)
        return {
            "volume": volume.name,
            "state": volume.state.value,
            "pool": volume.pool,
            "to_pool": wanted.pool or volume.pool,
            "then": _afterwards(volume, wanted).value,
            "packages": len(held),
            "bytes": draining.live_bytes(session, volume.pk).get(volume.pk, 0),
            "used": volume.used,
        }

    def _round(self, volume_pk: int, by: str, to_pool: str, *, again: bool) -> Left:
        """One look at a cartridge: ask for what is missing elsewhere, release what is not, and end it when
        nothing counts on it any more."""
        with self._catalog.write() as session:
            volume = media.volume_by_key(session, volume_pk)
            placement.give_up_unfinished(
                session, self._catalog.clock.now(), by, "its volume is repacked", volume_pk=volume_pk
            )
            packages = placement.packages_on(session, volume_pk)
        left = Left(0, 0, 0, ())
        for start in range(0, len(packages), PACKAGES_MAX):
            some = packages[start : start + PACKAGES_MAX]
            left = _sum(left, self._some(volume, some, by, to_pool, again=again))
        with self._catalog.write() as session:
            if volume.drain_to and not volumelife.live_copies(session, volume_pk):
                to = VolumeState(volume.drain_to)
                volumelife.end(
                    session, volume.name, to, self._catalog.clock.now(), by, "repacked, it is empty"
                )
                log.info("%s is empty and %s", volume.name, to.value)
        return left

    def _some(
        self,
        volume: VolumeRef,
        packages: Sequence[tuple[int, int, str]],
        by: str,
        to_pool: str,
        *,
        again: bool,
    ) -> Left:
        with self._catalog.read() as session:
            uids = {study: placement.study_uid(session, study) for _, study, _ in packages}
        goals = {study: list(self._goals_now(uid)) for study, uid in uids.items()}
        now = self._catalog.clock.now()
        queued, failed, kept = 0, 0, 0
        refused: list[tuple[str, str]] = []
        new: list[NewRequest] = []
        with self._catalog.write() as session:
            facts = placement.copy_facts_of(session, [pk for pk, _, _ in packages])
            trashed = permits.trashed(session, [pk for pk, _, _ in packages])
            closed = {each.pk for each in media.volumes(session) if each.drain_to} | {volume.pk}
            keys = {pk: f"{draining.prefix(volume.name)}{key}" for pk, _, key in packages}
            latest = queuelooks.latest(session, keys.values())
            pending = draining.pending(session, [pk for pk, _, _ in packages])
            for pk, study, key in packages:
                order = latest.get(keys[pk])
                pool = to_pool or (order.pool if order is not None else None) or volume.pool or ""
                mine = next(fact for fact in facts[pk] if fact.volume_pk == volume.pk)
                others = good_copies(facts[pk], pool, closed)
                # What is in the trash is carried along, one for one: policies demand nothing of it.
                wanted = goals[study] if pk not in trashed else []
                need = (
                    int(order.detail[details.COPIES])
                    if order is not None and order.pool == pool
                    else _needed(mine, facts[pk], others, pool, wanted, pending.get((pk, pool), 0))
                )
                need = max(need, _goal(wanted, pool))  # policies may want more than when it was asked for
                if order is not None and order.state in LIVE_REQUESTS:
                    queued += 1
                elif others >= need:
                    why = self._release(session, mine, wanted, by)
                    if why:
                        refused.append((key, why))
                    else:
                        kept -= 1
                elif order is not None and order.state is not RequestState.DONE and not again:
                    failed += 1
                else:
                    new.append(_request(volume, pk, study, keys[pk], pool, need, wanted))
            made = requesting.enqueue_many(session, now, by, new)
        if made:
            self._bell.ring()
        return Left(len(packages) + kept, queued + len(made), failed, tuple(refused[:REFUSED_MAX]))

    def _release(self, session: Session, mine: CopyFact, goals: Sequence[Goal], by: str) -> str:
        """Release the old copy if the guard agrees; else why not. Its bytes stay on the cartridge until that
        is written over as a whole."""
        now = self._catalog.clock.now()
        if mine.state is not CopyState.RELEASING:
            verdict = placement.release(session, mine.copy_pk, goals, now, by)
            if not verdict.allowed:
                return verdict.reason
        placement.move_copy(session, mine.copy_pk, CopyState.RELEASED, now, by, why="its volume is repacked")
        return ""


def _afterwards(volume: VolumeRef, wanted: Wanted) -> VolumeState:
    asked = AFTERWARDS[wanted.then]
    worn = volume.worm or volume.state is VolumeState.SUSPECT or wanted.generation != ""
    if asked is VolumeState.RECYCLED and volume.worm:
        raise Refused(f"{volume.name} is write-once: it can only be retired")
    return asked or (VolumeState.RETIRED if worn else VolumeState.RECYCLED)


def _needed(
    mine: CopyFact, facts: Sequence[CopyFact], others: int, pool: str, goals: Sequence[Goal], pending: int
) -> int:
    """How many good copies the pool must have before the old one may go: one more where the old one counts,
    and never fewer than the goals in force say, or than one in all."""
    elsewhere = any(fact.good and fact.copy_pk != mine.copy_pk for fact in facts)
    return max(others + pending + 1 if mine.good else 0, _goal(goals, pool), 0 if elsewhere else 1)


def _goal(goals: Sequence[Goal], pool: str) -> int:
    """How many copies the goals in force want in a pool."""
    return max((each.copies for each in goals if each.counted == (pool,)), default=0)


def _request(
    volume: VolumeRef, package_pk: int, study_pk: int, key: str, pool: str, need: int, goals: Sequence[Goal]
) -> NewRequest:
    return NewRequest(
        kind=RequestKind.COPY,
        key=key,
        priority=Priority.MIGRATION,
        reason=f"{volume.name} is repacked",
        study_pk=study_pk,
        package_pk=package_pk,
        pool=pool,
        detail={
            details.FROM: volume.pk,
            details.COPIES: need,
            details.GOALS: [goal.record() for goal in goals],
        },
    )


def _sum(one: Left, other: Left) -> Left:
    return Left(
        one.packages + other.packages,
        one.queued + other.queued,
        one.failed + other.failed,
        (one.refused + other.refused)[:REFUSED_MAX],
    )
