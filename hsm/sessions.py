"""Sessions of drives under way: begun with the drive claimed and the requests taken, and ended so that
neither stays so, whatever happens. Rounds that ask cold storage, the same."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

from hsm import planner, sight
from hsm.assignment import Assignment
from hsm.catalog import queue
from hsm.catalog.engine import Catalog
from hsm.catalog.orders import Order
from hsm.claims import Drives
from hsm.coldrecall import AT_ONCE_MAX, ColdRecalls
from hsm.drivesession import DriveSession
from hsm.log import get_logger
from hsm.model import CopyAt
from hsm.owed import Owed
from hsm.planning import Planning
from hsm.wake import Bell

log = get_logger(__name__)

Launch = Callable[[str, Callable[[], None]], None]
"""Runs a drive's session, by name, in a thread or at once."""


class DriveSessions:
    """Begun by the dispatcher alone; each in a thread of its own."""

    def __init__(
        self,
        catalog: Catalog,
        drives: Drives,
        planning: Planning,
        session: DriveSession,
        cold: ColdRecalls,
        bell: Bell,
        owed: Owed,
        stop: threading.Event,
        launch: Launch | None = None,
    ) -> None:
        """
        :param stop: set when what is under way is to hand itself back.
        :param launch: runs a session; without it each has a thread of its own.
        """
        self._catalog = catalog
        self._drives = drives
        self._planning = planning
        self._session = session
        self._cold = cold
        self._bell = bell
        self._owed = owed
        self._stop = stop
        self._launch = launch or self._in_thread
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._at_work: dict[tuple[str, int], tuple[str, ...]] = {}
        """Of each drive with a session the policies it works for, of those that limit their drives."""
        self._cold_round = threading.Lock()

    def join(self) -> None:
        """Wait for all that are under way; who asked them to end has set ``stop``."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def using(self) -> Counter[str]:
        """Drives in use, by policy."""
        with self._lock:
            return Counter(policy for policies in self._at_work.values() for policy in policies)

    def _may_begin(self, plan: planner.Session, picture: sight.Picture) -> bool:
        """Whether every policy that the session works for may use one more drive."""
        using = self.using()
        return all(using[policy] < most for policy, most in picture.limits_of(plan.work).items())

    def begin(self, plan: planner.Session, picture: sight.Picture) -> bool:
        """Claim the drive, take the requests and start the session; False where that cannot be now."""
        if not self._may_begin(plan, picture):
            return False
        drive = plan.drive
        if not self._drives.claim(drive.library, drive.address, plan.barcode):
            return False
        actor = f"drive {drive.address} of {drive.library}"
        taken: list[Order] = []
        begun = False
        try:
            with self._owed.taking() as (session, taken):
                now = self._catalog.clock.now()
                orders = [queue.take(session, pk, actor, now) for pk in plan.work]
                taken += [order for order in orders if order is not None]
            begun = bool(taken)
        finally:
            if not begun:
                self._drives.free(drive.library, drive.address)
        if not begun:
            return False
        log.info("%s: %s for %d requests: %s", actor, plan.barcode, len(taken), plan.why)
        with self._lock:
            self._at_work[drive.library, drive.address] = tuple(picture.limits_of(plan.work))
        place = (drive.library, drive.address)
        works = picture.works([order.pk for order in taken])
        self._planning.floor.begin(place, plan.barcode, works)
        work = Assignment(
            *place,
            plan.barcode,
            picture.pool_of(plan.work[0]),
            tuple(taken),
            partial(self._planning.makes_room, place, self.using),
            tuple(each for each in works if each.kind != "write"),
        )
        self._launch(f"drive-{drive.address}", lambda: self._run(work))
        return True

    def _in_thread(self, name: str, session: Callable[[], None]) -> None:
        thread = threading.Thread(target=session, name=name, daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _run(self, work: Assignment) -> None:
        try:
            self._session.run(work, self._stop)
        except Exception:  # not even the ends of its requests could be written down
            log.exception("drive %d of %s: the session's end is not recorded yet", work.drive, work.library)
            self._owed.add(order.pk for order in work.orders)
        finally:
            first = min((order.priority for order in work.orders), default=None)
            self._planning.floor.end((work.library, work.drive), first)
            self._drives.free(work.library, work.drive)
            with self._lock:
                self._at_work.pop((work.library, work.drive), None)
                self._threads.discard(threading.current_thread())
            self._bell.ring()

    def begin_cold(self, picture: sight.Picture) -> None:
        """Take what is to be asked of cold storage, one round at a time."""
        if not picture.cold or not self._cold_round.acquire(blocking=False):
            return
        work = []
        try:
            with self._owed.taking() as (session, taken):
                now = self._catalog.clock.now()
                for pk, copy in picture.cold[:AT_ONCE_MAX]:
                    order = queue.take(session, pk, "cold recall", now)
                    work += [(order, copy)] if order is not None else []
                taken += [order for order, _ in work]
        except BaseException:
            self._cold_round.release()
            raise
        self._launch("cold-recall", lambda: self._run_cold(work))

    def _run_cold(self, work: list[tuple[Order, CopyAt]]) -> None:
        try:
            self._cold.run(work, self._stop)
        except Exception:  # not even the ends of its requests could be written down
            log.exception("cold recall: its end is not recorded yet")
            self._owed.add(order.pk for order, _ in work)
        finally:
            self._cold_round.release()
            with self._lock:
                self._threads.discard(threading.current_thread())
            self._bell.ring()
