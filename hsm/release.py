"""Releases copies from disk pools. Nothing is released without the guard (promise 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hsm.catalog import details, placement
from hsm.catalog.engine import Catalog
from hsm.catalog.instances import instances_in
from hsm.catalog.orders import Order
from hsm.catalog.placement import PackageRef
from hsm.content import delete_package
from hsm.errors import Refused
from hsm.guard import GOOD_VOLUMES, CopyFact
from hsm.log import get_logger
from hsm.model import Goal
from hsm.pools import DiskPool, Pools
from hsm.service import OutOfService
from hsm.states import CopyState

log = get_logger(__name__)

ACTOR = "migrate"
GoalsNow = Callable[[str], Sequence[Goal]]
"""The copy goals in force for a study (by its UID)."""


def merged(then: Sequence[Goal], now: Sequence[Goal]) -> list[Goal]:
    """Goals that were and goals that are, whichever demands more; of groups that have changed both."""
    most: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Goal] = {}
    for goal in (*then, *now):
        key = (goal.pool, goal.pools, goal.sites)
        if key not in most or most[key].copies < goal.copies:
            most[key] = goal
    return list(most.values())


class Releases:
    """Releases packages."""

    def __init__(self, catalog: Catalog, pools: Pools, goals_now: GoalsNow) -> None:
        self._catalog = catalog
        self._pools = pools
        self._goals_now = goals_now

    def release(self, order: Order) -> None:
        """Release a package's copy from a disk pool, if the guard agrees in the same transaction.

        :raises Refused: the guard's reason; nothing was deleted.
        """
        with self._catalog.read() as session:
            package = placement.package_of(session, order)
        goals = self._goals(order, package)
        for pool in self._pools.volumes_of(order.pool or ""):
            if order.volume_pk in (None, pool.volume_pk):
                self._release_from(pool, package, goals)

    def _release_from(self, pool: DiskPool, package: PackageRef, goals: Sequence[Goal]) -> None:
        with self._catalog.read() as session:
            facts = placement.copy_facts(session, package.pk)
        mine = next((fact for fact in facts if fact.volume_pk == pool.volume_pk), None)
        if mine is None or mine.state in (CopyState.RELEASED, CopyState.LOST):
            return
        if not pool.there:
            raise OutOfService(f"{pool.label} is out of service; what is released there waits")
        self._require_others(mine, facts)
        with self._catalog.write() as session:
            verdict = placement.release(session, mine.copy_pk, goals, self._catalog.clock.now(), ACTOR)
            locator = placement.locator_of(session, mine.copy_pk)
        if not verdict.allowed:
            raise Refused(f"{package.key} stays in {pool.label}: {verdict.reason}")
        self.delete(mine.copy_pk, package, pool, locator, "bytes deleted")
        log.info("released %s from %s: %s", package.key, pool.label, verdict.reason)

    def _require_others(self, mine: CopyFact, facts: Sequence[CopyFact]) -> None:
        """The guard counts copies on volumes that are away, and they are as good as ever; but nothing that
        can be read now is given up for what only may come back.

        :raises OutOfService: every other verified copy is on a volume that is out of service.
        """
        others = [
            fact
            for fact in facts
            if fact.copy_pk != mine.copy_pk
            and fact.state is CopyState.VERIFIED
            and fact.volume_state in GOOD_VOLUMES
        ]
        disks = {fact.volume_pk: self._pools.disk_by_volume(fact.volume_pk) for fact in others}
        if others and all(pool is not None and not pool.there for pool in disks.values()):
            away = ", ".join(sorted(pool.label for pool in disks.values() if pool is not None))
            raise OutOfService(f"the other copies are out of service: {away}; the release waits")

    def _goals(self, order: Order, package: PackageRef) -> list[Goal]:
        """What policy demands: the goals that the request was made with and those in force now, whichever
        is more; a stricter policy counts from the moment that it is there."""
        kept = order.detail.get(details.GOALS, ())
        if isinstance(kept, dict):  # of a request that an earlier version made: copies by pool
            then = [Goal(pool, copies) for pool, copies in kept.items()]
        else:
            then = [Goal.of(each) for each in kept]
        return merged(then, self._goals_now(package.study_uid))

    def delete(self, copy_pk: int, package: PackageRef, pool: DiskPool, locator: str, why: str) -> None:
        """Delete the bytes of a copy whose release was allowed; then it is released."""
        with self._catalog.read() as session:
            instances = instances_in(session, package)
        delete_package(pool, package, locator, instances)
        with self._catalog.write() as session:
            now = self._catalog.clock.now()
            placement.move_copy(session, copy_pk, CopyState.RELEASED, now, ACTOR, why=why)
