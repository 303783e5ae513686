"""The threads that do the queue's work: some for disks, some for deliveries, one for each drive.

They sleep on the bell. What a request of the queue becomes is :mod:`hsm.execution`; what needs a drive is
:mod:`hsm.dispatcher`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from hsm.catalog.engine import Catalog
from hsm.catalog.orders import Order
from hsm.claims import Drives
from hsm.coldrecall import ColdRecalls
from hsm.dispatcher import Dispatcher
from hsm.drivesession import DriveSession
from hsm.errors import DriverError, HsmError
from hsm.execution import Execution
from hsm.log import get_logger
from hsm.migrate import Migrate
from hsm.owed import Owed
from hsm.planning import Planning
from hsm.pools import Pools
from hsm.reader import Reader
from hsm.seal import Seal
from hsm.sessions import DriveSessions, Launch
from hsm.staging import Staging
from hsm.states import RequestKind
from hsm.wake import Bell

log = get_logger(__name__)

IDLE_SECONDS = 1.0
"""The longest sleep without a ring: retries become due by the clock alone."""
ERROR_PAUSE_SECONDS = 5.0
DISK_WORKERS = 2
DELIVERY_WORKERS = 2
WRITE_KINDS = (RequestKind.SEAL, RequestKind.COPY)
KEEP_KINDS = (RequestKind.RELEASE,)
"""What a pool can do that takes no writes: it is full, or read-only."""
VERIFY_KINDS = (RequestKind.VERIFY,)
"""Read back by a thread of their own, slowed down or not: nothing else waits behind them."""
DISK_KINDS = (*WRITE_KINDS, *KEEP_KINDS)
PEER_KINDS = (RequestKind.DELIVER, RequestKind.COMMIT, RequestKind.NOTIFY)
"""What is sent to peers."""

Deliver = Callable[[Order, threading.Event], None]
"""Executes one DELIVER, COMMIT or NOTIFY request; raises Retryable when the peer is down."""


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
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._owed = Owed(joints.catalog)
        self._execution = Execution(joints.catalog, joints.pools, joints.bell, self._owed)
        self._sessions = DriveSessions(
            joints.catalog,
            joints.drives,
            self.planning,
            joints.session,
            joints.cold,
            joints.bell,
            self._owed,
            self._stop,
            launch,
        )
        self._dispatcher = Dispatcher(
            joints.catalog,
            joints.pools,
            joints.staging,
            joints.migrate,
            self.planning,
            self._sessions,
            joints.bell,
            self._owed,
        )

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
            return self._execution.take(DISK_KINDS, writable, self._disk)
        # What needs a pool that is away, or that takes no writes, waits in the queue.
        return self._execution.take(WRITE_KINDS, writable, self._disk) or self._execution.take(
            KEEP_KINDS, there, self._disk
        )

    def verify_step(self) -> bool:
        """Read one copy back that needs no drive; False when there is none."""
        return self._execution.take(VERIFY_KINDS, self._to.pools.there(), self._disk)

    def delivery_step(self) -> bool:
        """Do one delivery, or tell one peer something; False when there is none."""
        return self._execution.take(PEER_KINDS, None, self._deliver, self._to.resting())

    def drive_step(self) -> bool:
        """Look at everything that needs a drive and start what can be; whether a session was started or
        a volume was sent out."""
        exported = self._execution.take((RequestKind.EXPORT,), None, self._to.session.export)
        return self._dispatcher.look() or exported

    def ask_to_stop(self) -> None:
        """What is under way hands itself back as soon as it can."""
        self._stop.set()
        self._to.bell.ring()

    def stop(self) -> None:
        """Ask every thread to stop and wait for it."""
        self.ask_to_stop()
        for thread in self._threads:
            thread.join()
        self._sessions.join()

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
