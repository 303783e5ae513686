"""The threads that do the queue's work: some for disks, some for deliveries, one for each drive.

They sleep on the bell. The dispatcher gives what needs a drive to the planner and starts the sessions
that come back; what needs a hand becomes a mount request.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from hsm import dispatch, planner
from hsm.catalog import media, prompts, queue, queuelooks, storage
from hsm.catalog.engine import Catalog
from hsm.catalog.orders import Order
from hsm.coldrecall import AT_ONCE_MAX, ColdRecalls
from hsm.copysource import SourceComing
from hsm.custody import Drives
from hsm.errors import (
    Corrupt,
    DriverError,
    HsmError,
    NoSpace,
    OperatorNeeded,
    Permanent,
    Refused,
    Retryable,
)
from hsm.log import get_logger
from hsm.migrate import Migrate
from hsm.model import CopyAt, Place, Priority
from hsm.owed import Owed
from hsm.planning import Planning
from hsm.pools import Pools
from hsm.reader import Reader
from hsm.recall import Postponed, Stopped
from hsm.seal import Seal
from hsm.service import NotYet, OutOfService
from hsm.sessionends import Assignment
from hsm.sessions import DriveSession
from hsm.staging import Staging
from hsm.states import RequestKind
from hsm.wake import Bell

log = get_logger(__name__)

ACTOR = "dispatcher"
IDLE_SECONDS = 1.0
"""The longest sleep without a ring: retries become due by the clock alone."""
ERROR_PAUSE_SECONDS = 5.0
FETCH_AGAIN_SECONDS = 600.0
"""After so long the recall of what is to be copied is asked for again."""
DISK_WORKERS = 2
DELIVERY_WORKERS = 2
OVERDUE_EVERY = 8
"""Every so many requests that need no drive a worker takes the one whose patience ended first, so that an
endless row of more urgent ones keeps none waiting for ever."""
POSTPONED_FIRST, POSTPONED_LAST = timedelta(seconds=10), timedelta(minutes=5)
WRITE_KINDS = (RequestKind.SEAL, RequestKind.COPY)
KEEP_KINDS = (RequestKind.RELEASE,)
"""What a pool can do that takes no writes: it is full, or read-only."""
VERIFY_KINDS = (RequestKind.VERIFY,)
"""Read back by a thread of their own, slowed down or not: nothing else waits behind them."""
DISK_KINDS = (*WRITE_KINDS, *KEEP_KINDS)
PEER_KINDS = (RequestKind.DELIVER, RequestKind.COMMIT, RequestKind.NOTIFY)
"""What is sent to peers."""

Launch = Callable[[str, Callable[[], None]], None]
"""Runs a drive's session, by name, in a thread or at once."""

Deliver = Callable[[Order, threading.Event], None]
"""Executes one DELIVER, COMMIT or NOTIFY request; raises Retryable when the peer is down."""


def _pause(age: timedelta) -> timedelta:
    """How long a delivery is left alone that waits for its recalls: the older, the longer."""
    return min(max(age / 10, POSTPONED_FIRST), POSTPONED_LAST)


@dataclass(frozen=True, slots=True)
class Joints:
    """What the workers are joined to."""

    catalog: Catalog
    pools: Pools
    staging: Staging
    reader: Reader
    drives: Drives
    seal: Seal
    migrate: Migrate
    session: DriveSession
    deliver: Deliver
    report: Deliver
    bell: Bell
    cold: ColdRecalls
    notify: Deliver
    resting: Callable[[], Collection[str]] = tuple
    """AE titles that nothing is begun for now: down, or busy with us."""


class Workers:
    """Owns the threads. :meth:`stop` returns when each has finished or handed back what it had."""

    def __init__(
        self, joints: Joints, launch: Launch | None = None, reserved: Mapping[str, int] | None = None
    ) -> None:
        """
        :param launch: runs a drive's session; without it each session has a thread of its own.
        :param reserved: by library, how many drives are kept free for recalls.
        """
        self._to = joints
        self.planning = Planning(
            joints.catalog,
            joints.pools,
            joints.staging,
            joints.reader,
            joints.drives,
            reserved,
            joints.session.stopwatch,
        )
        self._launch = launch or self._in_thread
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sessions: set[threading.Thread] = set()
        self._owed = Owed(joints.catalog)
        self._at_work: dict[tuple[str, int], tuple[str, ...]] = {}
        """Of each drive with a session the policies it works for, of those that limit their drives."""
        self._lacking: tuple[str, ...] = ()
        self._fetched: dict[int, float] = {}
        """Packages whose recall was asked for so that they can be copied, and when."""
        self._lock = threading.Lock()
        self._takes = itertools.count(1)
        self._cold_round = threading.Lock()

    def start(self) -> None:
        for number in range(DISK_WORKERS):
            self._spawn(f"disk-{number + 1}", self.disk_step)
        for number in range(DELIVERY_WORKERS):
            self._spawn(f"delivery-{number + 1}", self.delivery_step)
        self._spawn("verify", self.verify_step)
        self._spawn("dispatcher", self.drive_step)

    def disk_step(self) -> bool:
        """Do the most urgent request that needs only disks; False when there is none."""
        there, writable = self._to.pools.there(), self._to.pools.writable()
        if there == writable:
            return self._take(DISK_KINDS, writable, self._disk)
        # What needs a pool that is away, or that takes no writes, waits in the queue.
        return self._take(WRITE_KINDS, writable, self._disk) or self._take(KEEP_KINDS, there, self._disk)

    def verify_step(self) -> bool:
        """Read one copy back that needs no drive; False when there is none."""
        return self._take(VERIFY_KINDS, self._to.pools.there(), self._disk)

    def delivery_step(self) -> bool:
        """Do one delivery, or tell one peer something; False when there is none."""
        return self._take(PEER_KINDS, None, self._deliver, self._to.resting())

    def drive_step(self) -> bool:
        """Look at everything that needs a drive and start what can be; whether a session was started or
        a volume was sent out."""
        exported = self._take((RequestKind.EXPORT,), None, self._to.session.export)
        return self._dispatch() or exported

    def ask_to_stop(self) -> None:
        """What is under way hands itself back as soon as it can."""
        self._stop.set()
        self._to.bell.ring()

    def stop(self) -> None:
        """Ask every thread to stop and wait for it."""
        self.ask_to_stop()
        for thread in self._threads:
            thread.join()
        with self._lock:
            sessions = list(self._sessions)
        for thread in sessions:
            thread.join()

    def _spawn(self, name: str, step: Callable[[], bool]) -> None:
        thread = threading.Thread(target=self._loop, args=(step,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _loop(self, step: Callable[[], bool]) -> None:
        """Repeat ``step`` while it finds work; else sleep until the bell rings."""
        while not self._stop.is_set():
            rings = self._to.bell.rings
            try:
                busy = step()
            except (SQLAlchemyError, DriverError, HsmError) as error:
                # The database or a changer does not answer: the work stays queued, try again soon.
                log.error("%s: %s", threading.current_thread().name, error)
                self._to.catalog.clock.wait(self._stop, ERROR_PAUSE_SECONDS)
                continue
            except Exception:  # a fault of ours: the thread must live, the log has the trace
                log.exception("%s: unexpected", threading.current_thread().name)
                self._to.catalog.clock.wait(self._stop, ERROR_PAUSE_SECONDS)
                continue
            if not busy:
                self._to.bell.wait(rings, IDLE_SECONDS)

    def _take(
        self,
        kinds: tuple[RequestKind, ...],
        pools: list[str] | None,
        act: Callable[[Order], None],
        not_for: Collection[str] = (),
    ) -> bool:
        """Take one request and see it through."""
        name = threading.current_thread().name
        clock = self._to.catalog.clock
        with self._to.catalog.read() as session:
            if not queuelooks.has_work(session, kinds, clock.now(), pools, not_for):
                return False
        with self._owed.taking() as (session, taken):
            overdue = next(self._takes) % OVERDUE_EVERY == 0
            order = queue.take_next(session, kinds, name, clock.now(), pools, not_for, overdue=overdue)
            taken += [order] if order is not None else []
        if order is None:
            return False
        try:
            act(order)
        except Stopped:
            self._end(order.pk, lambda s, now: queue.give_back(s, order.pk, now, name, "the daemon stops"))
        except Postponed as waits:
            pause, why = _pause(clock.now() - order.created_at), str(waits)
            self._end(order.pk, lambda s, now: queue.give_back(s, order.pk, now, name, why, pause))
        except (OutOfService, SourceComing, NoSpace) as waits:
            self._wait(order, name, waits)
        except (Corrupt, Permanent, Refused) as error:
            # Corrupt bytes on the target are written anew; the others will not change by waiting.
            text = str(error)
            log.warning("%s (request %d): %s", order.key, order.pk, text)
            if isinstance(error, Corrupt) and order.kind is RequestKind.COPY:
                self._end(order.pk, lambda s, now: queue.retry_later(s, order.pk, now, name, text))
            else:
                self._end(order.pk, lambda s, now: queue.fail(s, order.pk, now, name, text))
        except (DriverError, HsmError, SQLAlchemyError, OSError) as error:
            text = str(error)
            if isinstance(error, Retryable | OperatorNeeded) and self._is_away(order):
                self._wait(order, name, error)
                self._to.bell.ring()
                return True
            log.warning("%s (request %d) will be tried again: %s", order.key, order.pk, text)
            self._end(order.pk, lambda s, now: queue.retry_later(s, order.pk, now, name, text))
        except Exception as error:  # a fault of ours must not leave a request active for ever
            log.exception("%s (request %d): unexpected", order.key, order.pk)
            text = f"unexpected: {error!r}"
            self._end(order.pk, lambda s, now: queue.retry_later(s, order.pk, now, name, text))
        else:
            self._end(order.pk, lambda s, now: queue.done(s, order.pk, now, name))
        self._to.bell.ring()
        return True

    def _wait(self, order: Order, name: str, waits: Exception) -> None:
        """It goes on when what it needs is there again: that is no attempt that failed."""
        pause = _pause(self._to.catalog.clock.now() - order.created_at)
        if isinstance(waits, NotYet):
            pause = timedelta(seconds=waits.seconds)
        why = str(waits)
        log.info("%s (request %d) waits: %s", order.key, order.pk, why)

        def give_back(session: Session, now: datetime) -> None:
            queue.give_back(session, order.pk, now, name, why, pause)
            queue.explain(session, order.pk, f"{storage.WAITS}{why}")

        self._end(order.pk, give_back)

    def _is_away(self, order: Order) -> bool:
        """Whether a volume of the pool that it works on went out of service meanwhile: asked now, since
        the request's end depends on it."""
        found = False
        for pool in self._to.pools.volumes_of(order.pool or ""):
            if pool.service is not None:
                pool.service.probe()
                found = found or not pool.writable
        return found

    def _end(self, pk: int, change: Callable[..., object]) -> None:
        """Write a request's end down; while the catalog does not answer, it is owed."""
        try:
            with self._to.catalog.write() as session:
                change(session, self._to.catalog.clock.now())
        except Exception:
            self._owed.add([pk])
            raise

    def _disk(self, order: Order) -> None:
        if order.kind is RequestKind.SEAL:
            self._to.seal.seal(order.study_pk or 0)
        elif order.kind is RequestKind.COPY:
            self._to.migrate.copy_to_disk(order, self._stop)
        elif order.kind is RequestKind.VERIFY:
            self._to.migrate.proofs.verify_on_disk(order, self._stop)
        else:
            self._to.migrate.releases.release(order)

    def _deliver(self, order: Order) -> None:
        to = self._to
        acts = {RequestKind.COMMIT: to.report, RequestKind.NOTIFY: to.notify, RequestKind.DELIVER: to.deliver}
        acts[order.kind](order, self._stop)

    def _dispatch(self) -> bool:
        """One look at everything that needs a drive."""
        to = self._to
        self._owed.pay(ACTOR)
        to.pools.tell(to.catalog)
        picture = self.planning.look()
        if picture.empty:
            return False
        self._settle(picture)
        self._begin_cold(picture)
        self._fetch(picture)
        plan = self.planning.plan(picture, self._using())
        started = [self._begin(each, picture) for each in plan.sessions if self._may_begin(each, picture)]
        self._prompt(plan, picture)
        self._explain(plan, picture)
        return any(started)

    def _begin_cold(self, picture: dispatch.Picture) -> None:
        """Take what is to be asked of cold storage, one round at a time."""
        if not picture.cold or not self._cold_round.acquire(blocking=False):
            return
        work = []
        try:
            with self._owed.taking() as (session, taken):
                now = self._to.catalog.clock.now()
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
            self._to.cold.run(work, self._stop)
        except Exception:  # not even the ends of its requests could be written down
            log.exception("cold recall: its end is not recorded yet")
            self._owed.add(order.pk for order, _ in work)
        finally:
            self._cold_round.release()
            with self._lock:
                self._sessions.discard(threading.current_thread())
            self._to.bell.ring()

    def _using(self) -> Counter[str]:
        """Drives in use, by policy."""
        with self._lock:
            return Counter(policy for policies in self._at_work.values() for policy in policies)

    def _may_begin(self, plan: planner.Session, picture: dispatch.Picture) -> bool:
        """Whether every policy that the session works for may use one more drive."""
        using = self._using()
        return all(using[policy] < most for policy, most in picture.limits_of(plan.work).items())

    def _settle(self, picture: dispatch.Picture) -> None:
        """Recalls that need no drive after all, and requests that nothing can serve."""
        now = self._to.catalog.clock.now()
        if not picture.ready and not picture.hopeless and not picture.too_large:
            return
        with self._to.catalog.write() as session:
            for pk in picture.ready:
                if queue.take(session, pk, ACTOR, now) is not None:
                    queue.done(session, pk, now, ACTOR)
            for pk, why in picture.hopeless:
                if queue.take(session, pk, ACTOR, now) is not None:
                    queue.fail(session, pk, now, ACTOR, why)
            for pk, key, why in picture.too_large:
                self._end_unwanted(session, pk, key, why, now)
        self._to.bell.ring()

    def _end_unwanted(self, session: Session, pk: int, key: str, why: str, now: datetime) -> None:
        """Nobody waits for a package that is never kept: withdrawn where somebody did, failed where nobody
        ever would have been served. Who has come meanwhile said so before joining: it goes on."""
        order = queue.take(session, pk, ACTOR, now)
        if order is None:
            return
        if self._to.staging.streams.hungry(key) is not None:
            queue.give_back(session, pk, now, ACTOR, "somebody waits for it again")
        elif order.priority < Priority.PREFETCH:
            queue.explain(session, pk, why)
            queue.cancel_active(session, pk, now, ACTOR)
        else:
            queue.fail(session, pk, now, ACTOR, why)

    def _fetch(self, picture: dispatch.Picture) -> None:
        """Ask for the recall of what is to be copied from tape to tape: as much as half of the staging area
        takes, so that nothing is pushed out again before it is copied."""
        room, now = self._to.staging.size_max_bytes // 2, self._to.catalog.clock.monotonic()
        asked: dict[int, float] = {}
        for number, package in enumerate(picture.sources):
            room -= package.size
            if room < 0 and number:
                break
            since = now if package.pk in picture.coming else self._fetched.get(package.pk)
            if since is None or now - since > FETCH_AGAIN_SECONDS:
                self._to.migrate.sources.ask_recall(package)
                since = now
            asked[package.pk] = since
        self._fetched = asked

    def _begin(self, plan: planner.Session, picture: dispatch.Picture) -> bool:
        """Claim the drive, take the requests, and start the session's thread."""
        drive = plan.drive
        if not self._to.drives.claim(drive.library, drive.address, plan.barcode):
            return False
        actor = f"drive {drive.address} of {drive.library}"
        taken: list[Order] = []
        begun = False
        try:
            with self._owed.taking() as (session, taken):
                now = self._to.catalog.clock.now()
                orders = [queue.take(session, pk, actor, now) for pk in plan.work]
                taken += [order for order in orders if order is not None]
            begun = bool(taken)
        finally:
            if not begun:
                self._to.drives.free(drive.library, drive.address)
        if not begun:
            return False
        log.info("%s: %s for %d requests: %s", actor, plan.barcode, len(taken), plan.why)
        with self._lock:
            self._at_work[drive.library, drive.address] = tuple(picture.limits_of(plan.work))
        place = (drive.library, drive.address)
        works = picture.works([order.pk for order in taken])
        self.planning.floor.begin(place, plan.barcode, works)
        work = Assignment(
            *place,
            plan.barcode,
            picture.pool_of(plan.work[0]),
            tuple(taken),
            partial(self.planning.makes_room, place, self._using),
            tuple(each for each in works if each.kind != "write"),
        )
        self._launch(f"drive-{drive.address}", lambda: self._run(work))
        return True

    def _in_thread(self, name: str, session: Callable[[], None]) -> None:
        thread = threading.Thread(target=session, name=name, daemon=True)
        with self._lock:
            self._sessions.add(thread)
        thread.start()

    def _run(self, work: Assignment) -> None:
        try:
            self._to.session.run(work, self._stop)
        except Exception:  # not even the ends of its requests could be written down
            log.exception("drive %d of %s: the session's end is not recorded yet", work.drive, work.library)
            self._owed.add(order.pk for order in work.orders)
        finally:
            first = min((order.priority for order in work.orders), default=None)
            self.planning.floor.end((work.library, work.drive), first)
            self._to.drives.free(work.library, work.drive)
            with self._lock:
                self._at_work.pop((work.library, work.drive), None)
                self._sessions.discard(threading.current_thread())
            self._to.bell.ring()

    def _explain(self, plan: planner.Plan, picture: dispatch.Picture) -> None:
        """Say at each request why it cannot be placed, so that `hsm queue ls` answers it."""
        reasons = list(plan.unplaceable)
        placed = {pk for session in plan.sessions for pk in session.work} | {pk for pk, _ in reasons}
        reasons += [
            (each.request_pk, f"no volume has room for {each.pool}: put a blank one in")
            for each in picture.work
            if each.volume is None and each.pool in plan.scratch_needed and each.request_pk not in placed
        ]
        if plan.scratch_needed != self._lacking:
            self._lacking = plan.scratch_needed
            for pool in plan.scratch_needed:
                log.warning("operator: no volume has room for pool %s: put a blank one in", pool)
        if not reasons:
            return
        with self._to.catalog.write() as session:
            for pk, why in reasons:
                queue.explain(session, pk, why)

    def _prompt(self, plan: planner.Plan, picture: dispatch.Picture) -> None:
        """Ask an operator for what is on the shelf; withdraw what nobody waits for any more."""
        clock = self._to.catalog.clock
        with self._to.catalog.write() as session:
            now = clock.now()
            wanted = []
            for prompt in plan.prompts:
                volume = media.volume(session, prompt.barcode)
                if volume.place not in (Place.SHELF, Place.UNKNOWN):
                    continue  # it has come since the plan looked
                wanted.append(volume.pk)
                if prompts.ask_for(session, volume.pk, prompt.priority, now, ACTOR):
                    log.warning(
                        "operator: load %s (%s): %s", volume.name, volume.shelf or "shelf", prompt.why
                    )
                for pk in prompt.request_pks:
                    why = f"{volume.name} is on the shelf"
                    queue.wait_for_operator(session, pk, volume.pk, now, ACTOR, why)
            prompts.retire_obsolete(session, [*wanted, *picture.awaited], now)
