"""Scrubbing: copies are read back by the age of their last verification, beside everything else.

A round looks at what is due (:mod:`hsm.fixity` decides), and queues verifications of the lowest priority; a
session of a drive that has done its work may read on, as long as nothing more urgent is queued.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.orm import Session

from hsm import fixity
from hsm.catalog import details, queue, requesting, scrubbing
from hsm.catalog.engine import Catalog
from hsm.catalog.orders import Order
from hsm.catalog.requesting import NewRequest
from hsm.catalog.scrubbing import Wanted
from hsm.fixity import Due, Scrub
from hsm.log import get_logger
from hsm.model import Place, Priority
from hsm.pools import Pools
from hsm.states import RequestKind
from hsm.wake import Bell

log = get_logger(__name__)

ACTOR = "scrub"
REASON = "its last verification is long ago"
BESIDE = "its cartridge is mounted, and it is due soon"


def request_key(package: str, volume: str) -> str:
    """Of a copy's one live verification, whoever asks for it."""
    return f"verify:{package}:{volume}"


def verifications(
    copies: Iterable[Wanted], priority: Priority, reason: str, detail: dict[str, Any] | None = None
) -> list[NewRequest]:
    """A request to read each of these copies back."""
    return [
        NewRequest(
            kind=RequestKind.VERIFY,
            key=request_key(each.package, each.volume),
            priority=priority,
            reason=reason,
            study_pk=each.study_pk,
            package_pk=each.package_pk,
            pool=each.pool,
            detail=detail or {},
            volume_pk=each.volume_pk,
        )
        for each in copies
    ]


def limits(pool: str, scrub: Scrub) -> dict[str, Any]:
    """What a scrub's requests may take, as :mod:`hsm.throttle` and the dispatcher read it."""
    given = {"bandwidth": scrub.bytes_per_second, "drives": scrub.drives}
    return {
        details.POLICY: f"scrub of {pool}",
        details.LIMITS: {name: value for name, value in given.items() if value},
    }


class Scrubs:
    """Of one archive; any thread may ask."""

    def __init__(self, catalog: Catalog, pools: Pools, bell: Bell) -> None:
        self._catalog = catalog
        self._pools = pools
        self._bell = bell
        self._round = threading.Lock()

    def round(self) -> int:
        """Queue what is due in every pool that is scrubbed; how many requests that made."""
        if not self._round.acquire(blocking=False):
            return 0
        try:
            made = sum(self._pool(name, scrub) for name, scrub in self._pools.scrubs.items())
        finally:
            self._round.release()
        if made:
            self._bell.ring()
        return made

    def due(self, pool: str) -> list[Due]:
        """The volumes of a scrubbed pool on which something is due now, or under way."""
        scrub = self._pools.scrubs[pool]
        with self._catalog.read() as session:
            return self._looked(session, pool, scrub)

    def _looked(self, session: Session, pool: str, scrub: Scrub) -> list[Due]:
        now = self._catalog.clock.now()
        found = scrubbing.due_volumes(session, pool, scrub.due_before(now), now)
        return [each for each in found if self._there(each)]

    def _there(self, volume: Due) -> bool:
        """What needs no drive is read only while its storage answers."""
        disk = self._pools.disk_by_volume(volume.volume_pk) if volume.place is Place.MOUNTED else None
        return disk is None or disk.there

    def _pool(self, name: str, scrub: Scrub) -> int:
        with self._catalog.read() as session:
            chosen = fixity.turns(self._looked(session, name, scrub), scrub)
            left = [] if scrub.ask else scrubbing.out_of_reach(session, [name], REASON)
        if not chosen and not left:
            return 0
        with self._catalog.write() as session:
            now = self._catalog.clock.now()
            for pk in left:
                queue.cancel(session, pk, now, ACTOR)
            wanted: list[Wanted] = []
            for volume_pk, many in chosen:
                wanted += scrubbing.due_copies(session, volume_pk, scrub.due_before(now), now, many)
            new = verifications(wanted, Priority.SCRUB, REASON, limits(name, scrub))
            made = requesting.enqueue_many(session, now, ACTOR, new)
        if made:
            log.info("scrub of %s: %d copies are read back", name, len(made))
        return len(made)

    def beside(self, volume_pk: int, pool: str) -> Sequence[Wanted]:
        """The copies on a mounted cartridge that are due or will be soon, where its pool is scrubbed."""
        scrub = self._pools.scrubs.get(pool)
        if scrub is None:
            return ()
        now = self._catalog.clock.now()
        with self._catalog.read() as session:
            return scrubbing.due_copies(session, volume_pk, scrub.soon_before(now), now, scrub.at_once)

    def take(self, copy: Wanted, worker: str) -> Order | None:
        """A verification of the copy, made and taken; None where something more urgent needs a drive, or
        somebody else is at it."""
        scrub = self._pools.scrubs[copy.pool]
        with self._catalog.write() as session:
            now = self._catalog.clock.now()
            if scrubbing.drive_work_waits(session, Priority.SCRUB, self._pools.disk_names, now):
                return None
            (new,) = verifications([copy], Priority.SCRUB, BESIDE, limits(copy.pool, scrub))
            made = requesting.enqueue_many(session, now, ACTOR, [new])
            return queue.take(session, made[new.key], worker, now) if made else None

    def problems(self) -> list[str]:
        """What is due and only a person could bring, where nobody is asked for it: none of it is urgent."""
        found = []
        for pool, scrub in self._pools.scrubs.items():
            if scrub.ask:
                continue
            shelf = fixity.on_shelf(self.due(pool))
            if shelf:
                names = ", ".join(each.name for each in shelf[:3]) + (" ..." if shelf[3:] else "")
                copies = sum(each.copies for each in shelf)
                found.append(
                    f"pool {pool}: {copies} copies on {len(shelf)} cartridges on the shelf are due to be "
                    f"read back ({names}): bring them when there is time, hsm audit verify BARCODE"
                )
        return found
