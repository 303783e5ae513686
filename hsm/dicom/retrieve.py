"""C-MOVE and C-GET as SCP, PS3.4 sections C.4.2 and C.4.3.

pynetdicom's own SCPs for these are not used: they ask for all instances at once, re-encode every
dataset, and cannot say Pending while nothing is readable. Here the association is held while a
recall runs: Pending at a cadence, C-CANCEL honoured, the caller watched, sub-operations from the
first instance that is there.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final, Protocol

from sqlalchemy.exc import SQLAlchemyError

from hsm.clock import Clock
from hsm.config import AeConfig, DicomConfig
from hsm.dicom.call import Call, failed_list
from hsm.dicom.contexts import QUERY_RETRIEVE, Operation
from hsm.dicom.outbound import Outbound
from hsm.dicom.progress import (
    ALL_FAILED,
    BAD_IDENTIFIER,
    CANNOT_COUNT,
    DESTINATION_UNKNOWN,
    PENDING,
    SUCCESS,
    Cadence,
    End,
    Tally,
    final_comment,
    final_status,
)
from hsm.dicom.requestor import Unreachable
from hsm.dicom.rights import SEES_REJECTED, AeBook
from hsm.dicom.sendahead import Ahead, Source
from hsm.dicom.sendline import LOOK_SECONDS, Originator, SubOperation, Verdict
from hsm.dicom.subops import Destination, SameAssociation
from hsm.dicom.waitingroom import WaitingRoom
from hsm.errors import BadInput, DriverError, HsmError, NoSpace, Permanent
from hsm.log import get_logger
from hsm.model import InstanceRef, Priority
from hsm.retrieval import Readable

log = get_logger(__name__)

CANNOT_PROCESS: Final = 0xC001
"""Unable to process (Cxxx of PS3.4 table C.4-2): the archive failed; its log says how."""
NOTE_PROGRESS_SECONDS: Final = 2.0
PRIORITIES: Final = {1: Priority.STAT, 0: Priority.ROUTINE, 2: Priority.PREFETCH}
"""By the request's Priority (0000,0700): HIGH, MEDIUM, LOW (PS3.7 section E.1)."""


class Retrieval(Source, Protocol):
    """An open retrieval; :class:`hsm.retrieval.Retrieval` is one."""

    def waiting_for(self) -> str: ...
    def close(self) -> None: ...


class Retrievals(Protocol):
    def open(
        self, instances: Sequence[InstanceRef], who: str, priority: Priority, ae: str = ""
    ) -> Retrieval: ...


class Deliveries(Protocol):
    """C-MOVEs as durable work; :class:`hsm.delivery.Deliveries` is one."""

    def begin(
        self, destination: str, calling: str, message_id: int, instances: Sequence[InstanceRef]
    ) -> int: ...
    def finish(self, key: int, *, failed: int, comment: str) -> None: ...
    def cancel(self, key: int) -> None: ...
    def hand_over(self, key: int, undelivered: Sequence[str]) -> None: ...
    def answered(self, key: int, sop_instance_uid: str) -> None: ...
    def delivered(self, key: int, sop_instance_uids: Sequence[str]) -> None: ...


class Select(Protocol):
    """From an identifier to the instances it names."""

    def __call__(
        self, identifier: bytes, transfer_syntax: str, abstract_syntax: str, *, sees_rejected: bool = ...
    ) -> list[InstanceRef]:
        """:raises BadInput: the identifier is not one of this model and level."""
        ...


class Sender(Protocol):
    """Where sub-operations go."""

    def held_up(self) -> str: ...
    def pause_seconds(self) -> float: ...
    def send(self, item: Readable) -> SubOperation: ...
    def rest(self) -> None: ...
    def close(self) -> None: ...


class DeliveryNotes:
    """The durable side of one C-MOVE; silent where nothing is delivered later."""

    def __init__(
        self, deliveries: Deliveries, key: int | None, clock: Clock, *, when_down: bool = False
    ) -> None:
        self._deliveries = deliveries
        self._key = key
        self._clock = clock
        self._noted = self._written = 0
        self._at = clock.monotonic()

        self._ends = _DELIVERED_LATER | ({End.UNREACHABLE} if when_down else set())

    def goes_on(self, end: End) -> bool:
        """Whether what is left after such an end is delivered later."""
        return self._key is not None and end in self._ends

    def progress(self, tally: Tally) -> None:
        """Record what the destination has, so that a restart does not send it again: at once in a file, now
        and then in the catalog."""
        now = self._clock.monotonic()
        if self._key is not None:
            for uid in tally.delivered[self._written :]:
                self._deliveries.answered(self._key, uid)
            self._written = len(tally.delivered)
        if self._key is None or now - self._at < NOTE_PROGRESS_SECONDS:
            return
        new = tally.delivered[self._noted :]
        if new:
            self._deliveries.delivered(self._key, new)
            self._noted += len(new)
        self._at = now

    def close(self, end: End, tally: Tally, undelivered: Sequence[str], comment: str) -> None:
        if self._key is None:
            return
        if end is End.CANCELLED:
            self._deliveries.cancel(self._key)
        elif undelivered:
            self._deliveries.hand_over(self._key, undelivered)
        else:
            self._deliveries.finish(self._key, failed=len(tally.failed), comment=comment)


class Retrieve:
    """Answers C-MOVE and C-GET requests."""

    def __init__(
        self,
        config: DicomConfig,
        our_ae_title: str,
        book: AeBook,
        select: Select,
        retrievals: Retrievals,
        deliveries: Deliveries,
        clock: Clock,
        stopping: threading.Event,
        outbound: Outbound,
        room: WaitingRoom,
    ) -> None:
        self._outbound = outbound
        self._room = room
        self._config = config
        self._our_ae_title = our_ae_title
        self._book = book
        self._select = select
        self._retrievals = retrievals
        self._deliveries = deliveries
        self._clock = clock
        self._stopping = stopping

    def serve(self, call: Call, rights: frozenset[str]) -> None:
        """Do one C-MOVE or C-GET from request to final response."""
        operation = QUERY_RETRIEVE[call.abstract_syntax][1]
        if operation.value not in rights:
            call.refuse(operation.value, f"{call.calling} may not {operation.value}")
            return
        destination: AeConfig | None = None
        if operation is Operation.MOVE:
            title = str(call.request.MoveDestination or "").strip()
            destination = self._book.destination(title)
            if destination is None:
                log.warning("C-MOVE from %s: destination %r is not configured", call.calling, title)
                call.reply(DESTINATION_UNKNOWN, f"move destination {title} is not known")
                return
            if not self._book.may_move_to(call.calling, title):
                log.warning("C-MOVE from %s: it may not move to %s", call.calling, title)
                call.refuse("move", f"{call.calling} may not move to {title}")
                return
        instances = self._find(call, sees_rejected=SEES_REJECTED in rights)
        if instances is None:
            return
        tally = Tally({instance.pk: instance for instance in instances})
        if not instances:
            call.reply(SUCCESS, counts=tally.counts)
            return
        try:
            if destination is None:
                self._get(call, instances, tally)
            else:
                self._move(call, destination, instances, tally)
        except NoSpace as error:
            log.warning("%s from %s: %s", operation.value, call.calling, error)
            call.reply(ALL_FAILED, str(error), counts=tally.counts)
        except (HsmError, DriverError, SQLAlchemyError) as error:
            log.exception("%s from %s failed", operation.value, call.calling)
            call.reply(CANNOT_PROCESS, str(error), counts=tally.counts)

    def _find(self, call: Call, *, sees_rejected: bool) -> list[InstanceRef] | None:
        """The instances asked for; None when the request was answered with what is wrong."""
        try:
            identifier = call.request.Identifier.getvalue()
            more = {"sees_rejected": True} if sees_rejected else {}
            return self._select(identifier, call.transfer_syntax, call.abstract_syntax, **more)
        except BadInput as error:
            log.warning("retrieve from %s: %s", call.calling, error)
            call.reply(BAD_IDENTIFIER, str(error))
        except (HsmError, DriverError, SQLAlchemyError):
            log.exception("retrieve from %s: cannot search the catalog", call.calling)
            call.reply(CANNOT_COUNT, "cannot search the catalog, see the archive's log")
        return None

    def _get(self, call: Call, instances: list[InstanceRef], tally: Tally) -> None:
        notes = DeliveryNotes(self._deliveries, None, self._clock)
        self._run(call, f"C-GET from {call.calling}", SameAssociation(call), instances, tally, notes)

    def _move(self, call: Call, peer: AeConfig, instances: list[InstanceRef], tally: Tally) -> None:
        key = None
        if peer.deliver_later:
            # Before anything is sent: from here on a crash does not lose the destination's study.
            key = self._deliveries.begin(peer.ae_title, call.calling, call.message_id, instances)
        sender = Destination(
            peer,
            self._our_ae_title,
            self._config,
            self._clock,
            instances,
            Originator(call.calling, call.message_id),
            self._outbound.gate(peer),
        )
        who = f"C-MOVE from {call.calling} to {peer.ae_title}"
        notes = DeliveryNotes(self._deliveries, key, self._clock, when_down=peer.deliver_when_down)
        self._run(call, who, sender, instances, tally, notes)

    def _run(
        self,
        call: Call,
        who: str,
        sender: Sender,
        instances: list[InstanceRef],
        tally: Tally,
        notes: DeliveryNotes,
    ) -> None:
        priority = PRIORITIES.get(int(call.request.Priority), Priority.ROUTINE)
        end, waiting_for = End.BROKEN, ""
        try:
            retrieval = self._retrievals.open(instances, who, priority, call.calling)
            try:
                operation = _Operation(
                    call, who, retrieval, sender, tally, notes, self._clock, self._config, self._room
                )
                end = operation.run(self._stopping)
                waiting_for = operation.waits_for
            finally:
                retrieval.close()
        except (HsmError, DriverError, SQLAlchemyError) as error:
            log.exception("%s: the archive failed", who)
            tally.reason = tally.reason or str(error)
        finally:
            try:
                self._finish(call, who, end, tally, notes, waiting_for)
            finally:
                sender.close()

    def _finish(
        self, call: Call, who: str, end: End, tally: Tally, notes: DeliveryNotes, waiting_for: str
    ) -> None:
        """Settle the durable side first, then answer: what the answer promises is then kept."""
        undelivered = [*tally.passing, *(each.sop_instance_uid for each in tally.left.values())]
        later = bool(undelivered) and notes.goes_on(end)
        if end is not End.CANCELLED:
            tally.give_up(tally.reason or end.value)
        comment = final_comment(end, tally, later=later, waiting_for=waiting_for)
        notes.close(end, tally, undelivered if later else (), comment)
        status = final_status(end, tally)
        log.info(
            "%s: %s (%04X): %d sent, %d failed%s",
            who,
            end.value,
            status,
            len(tally.delivered),
            len(tally.failed),
            f": {comment}" if comment else "",
        )
        if end is End.GONE:
            return
        identifier = failed_list(tally.failed, call.transfer_syntax) if tally.failed else None
        call.reply(
            status,
            comment,
            identifier=identifier,
            counts=tally.counts,
            with_remaining=end is End.CANCELLED,
        )


# The caller that cancelled does not want it; one that is told of a failing destination can ask again.
_DELIVERED_LATER: Final = frozenset({End.GONE, End.TIME_OVER, End.CROWDED, End.STOPPING, End.BROKEN})


class _Operation:
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
