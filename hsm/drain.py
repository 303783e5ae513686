"""Empties a volume that needs no drive: new copies elsewhere in its pool, verified, then released.

What is to be done is found out anew at each round, from the catalog: a drain outlives the daemon, and a round
that is done twice asks for nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy.orm import Session

from hsm.catalog import details, draining, media, permits, placement, queuelooks, requesting, storage
from hsm.catalog.engine import Catalog
from hsm.catalog.requesting import NewRequest
from hsm.errors import Refused
from hsm.guard import CopyFact, good_copies
from hsm.log import get_logger
from hsm.model import Goal, Layout, Priority
from hsm.pools import DiskPool, Pools
from hsm.states import RequestKind, VolumeState
from hsm.wake import Bell

log = get_logger(__name__)

ACTOR = "drain"
PACKAGES_MAX = 500
"""Asked for in one round."""


class Drains:
    """The volumes that are drained."""

    def __init__(
        self,
        catalog: Catalog,
        pools: Pools,
        goals_of: Callable[[str], Sequence[Goal]],
        bell: Bell,
    ) -> None:
        """
        :param goals_of: the copy goals in force for a study, by its UID.
        """
        self._catalog = catalog
        self._pools = pools
        self._goals_of = goals_of
        self._bell = bell

    def drain(self, name: str, by: str) -> dict[str, object]:
        """Begin to empty a volume; nothing more is written to it from now on.

        :raises NotFound: no such volume.
        :raises Refused: it needs a drive, or its pool has no other volume that takes its place.
        """
        pool = self._volume(name)
        if pool.layout is Layout.FILES:
            raise Refused(f"{name} is the one volume of pool {pool.name}, where received instances go")
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            closed = storage.closed(session)
            others = [each for each in self._pools.volumes_of(pool.name) if each.volume_pk != pool.volume_pk]
            if all(each.volume_pk in closed for each in others):
                raise Refused(
                    f"pool {pool.name} has no other volume that takes its place; add one (volumes:), or let "
                    "a policy move what it holds"
                )
            storage.begin_drain(session, pool.volume_pk, now, by)
        log.info("%s is drained, as %s asked", name, by)
        return {"volume": name, "left": self.round()}

    def stop(self, name: str, by: str) -> dict[str, object]:
        """Give a drain up: what has moved stays where it is, the rest too, and the volume takes writes again.
        A copy or release that is under way is finished.

        :raises NotFound: no such volume.
        :raises Refused: it needs a drive, or is not being drained.
        """
        pool = self._volume(name)
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            if pool.volume_pk not in storage.draining(session):
                raise Refused(f"{name} is not being drained")
            media.drain(session, pool.volume_pk, None, now, by, "given up")
            orders = draining.drain_requests(session, pool.volume_pk, _reason(pool))
            cancelled = draining.withdraw(session, orders, now, by)
        log.info("%s is drained no more, as %s asked", name, by)
        return {"volume": name, "cancelled": cancelled}

    def _volume(self, name: str) -> DiskPool:
        pool = self._pools.disks.get(name)
        if pool is None:
            with self._catalog.read() as session:
                media.volume(session, name)
            raise Refused(
                f"{name} is no volume of a pool of disks, shares or buckets; see `hsm volume repack`"
            )
        return pool

    def round(self) -> int:
        """Ask for what is still to be done; how many packages are left on all draining volumes."""
        left = 0
        for pool in self._pools.disks.values():
            with self._catalog.read() as session:
                wanted = pool.volume_pk in storage.draining(session)
            if wanted:
                left += self._one(pool)
        return left

    def _one(self, pool: DiskPool) -> int:
        with self._catalog.read() as session:
            packages = placement.packages_on(session, pool.volume_pk)
            study_uids = {
                pk: placement.study_uid(session, pk) for pk in {each[1] for each in packages[:PACKAGES_MAX]}
            }
        goals = {pk: self._goals_of(uid) for pk, uid in study_uids.items()}
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            if not packages and not media.copies_that_count(session, pool.volume_pk):
                self._end(session, pool)
                return 0
            made = requesting.enqueue_many(
                session,
                now,
                ACTOR,
                [
                    self._next(session, pool, package_pk, study_pk, key, goals[study_pk])
                    for package_pk, study_pk, key in packages[:PACKAGES_MAX]
                ],
            )
        if made:
            self._bell.ring()
        return len(packages)

    def _next(
        self,
        session: Session,
        pool: DiskPool,
        package_pk: int,
        study_pk: int,
        key: str,
        goals: Sequence[Goal],
    ) -> NewRequest:
        """The copy that is still missing elsewhere, or the release."""
        closed = storage.closed(session)
        facts = placement.copy_facts(session, package_pk)
        staying = good_copies(facts, pool.name, closed)
        copy = f"copy:{key}:{pool.name}:{staying}"
        if permits.trashed(session, [package_pk]):
            # It is carried along, one for one: policies demand nothing of it.
            copy, goals = f"copy:{key}:{pool.name}:off:{pool.label}", ()
            wanted = self._carried(session, pool, copy, facts, staying)
        else:
            wanted = max((goal.copies for goal in goals if goal.counted == (pool.name,)), default=1)
        wanted = min(
            wanted, len([each for each in self._pools.volumes_of(pool.name) if each.volume_pk not in closed])
        )
        release = staying >= wanted
        detail = {details.GOALS: [goal.record() for goal in goals]}
        return NewRequest(
            kind=RequestKind.RELEASE if release else RequestKind.COPY,
            key=f"release:{key}:{pool.name}:{pool.label}" if release else copy,
            priority=Priority.MIGRATION,
            reason=_reason(pool),
            study_pk=study_pk,
            package_pk=package_pk,
            pool=pool.name,
            detail=detail if release else {**detail, details.COPIES: wanted},
            volume_pk=pool.volume_pk if release else None,
        )

    def _carried(
        self, session: Session, pool: DiskPool, copy: str, facts: Sequence[CopyFact], staying: int
    ) -> int:
        """How many good copies of a package in the trash the pool must have elsewhere before the one on the
        volume goes: as many as there were, and one for it."""
        asked = queuelooks.latest(session, [copy]).get(copy)
        if asked is not None:
            return int(asked.detail[details.COPIES])
        counts = any(fact.good and fact.volume_pk == pool.volume_pk for fact in facts)
        return max(staying + counts, 1)

    def _end(self, session: Session, pool: DiskPool) -> None:
        now = self._catalog.clock.now()
        media.move_volume(session, pool.volume_pk, VolumeState.RETIRED, now, ACTOR, "it is empty")
        log.info("%s is empty and retired; take it out of the configuration", pool.label)


def _reason(pool: DiskPool) -> str:
    """What the requests of its drain say, and are found by."""
    return f"volume {pool.label} is drained"
