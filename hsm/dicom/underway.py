"""One C-MOVE or C-GET while it runs, PS3.4 sections C.4.2 and C.4.3.

The association is held while a recall runs: Pending at a cadence, C-CANCEL honoured, the caller watched,
sub-operations from the first instance that is there.
"""

from __future__ import annotations

import threading
from typing import Protocol

from hsm.clock import Clock
from hsm.config import DicomConfig
from hsm.dicom.call import Call
from hsm.dicom.deliverynotes import DeliveryNotes
from hsm.dicom.progress import PENDING, Cadence, End, Tally
from hsm.dicom.requestor import Unreachable
from hsm.dicom.sendahead import Ahead, Source
from hsm.dicom.sendline import LOOK_SECONDS, SubOperation, Verdict
from hsm.dicom.waitingroom import WaitingRoom
from hsm.errors import Permanent
from hsm.log import get_logger
from hsm.model import InstanceRef
from hsm.retrieval import Readable

log = get_logger(__name__)


class Retrieval(Source, Protocol):
    """An open retrieval; :class:`hsm.retrieval.Retrieval` is one."""

    def waiting_for(self) -> str: ...
    def close(self) -> None: ...


class Sender(Protocol):
    """Where sub-operations go."""

    def held_up(self) -> str: ...
    def pause_seconds(self) -> float: ...
    def send(self, item: Readable) -> SubOperation: ...
    def rest(self) -> None: ...
    def close(self) -> None: ...


class Underway:
    """One retrieve while it runs."""

    def __init__(
        self,
        call: Call,
        who: str,
        retrieval: Retrieval,
        sender: Sender,
        tally: Tally,
        notes: DeliveryNotes,
        clock: Clock,
        config: DicomConfig,
        room: WaitingRoom,
    ) -> None:
        self._room = room
        self._has_place = False
        self._call = call
        self._who = who
        self._retrieval = retrieval
        self._ahead = Ahead(retrieval)
        self._sender = sender
        self._tally = tally
        self._notes = notes
        self._clock = clock
        self._started = clock.monotonic()
        self._hold_seconds_max = config.retrieve.hold_seconds_max
        self._cadence = Cadence(config.retrieve.pending_seconds, self._started)
        self.waits_for = ""

    def run(self, stopping: threading.Event) -> End:
        """Until everything was tried or something ends it early."""
        try:
            return self._run(stopping)
        finally:
            self._ahead.close()
            if self._has_place:
                self._room.leave()

    def _run(self, stopping: threading.Event) -> End:
        while self._tally.left:
            if self._call.caller_gone:
                return End.GONE
            if self._call.cancelled:
                return End.CANCELLED
            item = self._ahead.next(min(LOOK_SECONDS, self._cadence.seconds_left(self._clock.monotonic())))
            if item is None and self._ahead.reading:
                self._sender.rest()  # a large one: it is readable, and takes its time
            elif item is None:
                if not self._ahead.remaining:
                    raise Permanent(f"{self._who}: {len(self._tally.left)} instances were never handed out")
                end = self._wait(stopping)
                if end is not None:
                    return end
            elif isinstance(item, Readable):
                try:
                    if (end := self._until_ready(stopping)) is not None:
                        return end
                    self._note(item.instance, self._sender.send(item))
                except Unreachable as error:
                    log.warning("%s: %s", self._who, error)
                    self._tally.reason = self._tally.reason or str(error)
                    return End.GONE if self._call.caller_gone else End.UNREACHABLE
                finally:
                    item.content.close()
            else:
                self._note(item.instance, SubOperation(Verdict.FAILED, item.reason))
            self._report()
        return End.THROUGH

    def _until_ready(self, stopping: threading.Event) -> End | None:
        """Wait until the destination may be sent more; or how the retrieve ends before that."""
        since = None
        while not self._call.caller_gone and not self._call.cancelled:
            why, pause = self._sender.held_up(), self._sender.pause_seconds()
            if not why and pause <= 0:
                return None
            if stopping.is_set():
                return End.STOPPING
            if why and not self._may_wait():
                self.waits_for = why
                return End.CROWDED
            now = self._clock.monotonic()
            since = now if since is None else since
            if why and max(now - since, 0.0) and now - self._started >= self._hold_seconds_max:
                self.waits_for = why
                return End.TIME_OVER
            self._report()
            self._clock.wait(stopping, min(pause or LOOK_SECONDS, LOOK_SECONDS))
        return End.GONE if self._call.caller_gone else End.CANCELLED

    def _note(self, instance: InstanceRef, outcome: SubOperation) -> None:
        if outcome.verdict is not Verdict.COMPLETED:
            verdict = outcome.verdict.value
            log.warning("%s: %s %s: %s", self._who, instance.sop_instance_uid, verdict, outcome.reason)
        self._tally.note(instance, outcome)

    def _wait(self, stopping: threading.Event) -> End | None:
        """Nothing is readable now. The limits count here only: what can be sent is always sent."""
        if stopping.is_set():
            return End.STOPPING
        if not self.waits_for:
            self.waits_for = self._retrieval.waiting_for() or "the archive's storage"
            log.info("%s waits for %d instances: %s", self._who, len(self._tally.left), self.waits_for)
        if not self._may_wait():
            return End.CROWDED
        if self._clock.monotonic() - self._started >= self._hold_seconds_max:
            self.waits_for = self._retrieval.waiting_for() or self.waits_for
            return End.TIME_OVER
        self._sender.rest()
        return None

    def _may_wait(self) -> bool:
        """Whether there is a place to wait. It is kept to the end: who has waited once is not sent away for
        somebody who comes later."""
        self._has_place = self._has_place or self._room.enter()
        return self._has_place

    def _report(self) -> None:
        if self._tally.left and self._cadence.due(self._clock.monotonic(), self._tally.handled):
            self._call.reply(PENDING, counts=self._tally.counts, with_remaining=True)
        self._notes.progress(self._tally)
