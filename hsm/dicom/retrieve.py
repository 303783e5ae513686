"""C-MOVE and C-GET as SCP, PS3.4 sections C.4.2 and C.4.3.

pynetdicom's own SCPs for these are not used: they ask for all instances at once, re-encode every
dataset, and cannot say Pending while nothing is readable. Here a request is checked, its instances
are found, sent (:mod:`hsm.dicom.underway`), and what became of it is answered.
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
from hsm.dicom.deliverynotes import Deliveries, DeliveryNotes
from hsm.dicom.outbound import Outbound
from hsm.dicom.progress import (
    ALL_FAILED,
    BAD_IDENTIFIER,
    CANNOT_COUNT,
    DESTINATION_UNKNOWN,
    SUCCESS,
    End,
    Tally,
    final_comment,
    final_status,
)
from hsm.dicom.rights import SEES_REJECTED, AeBook
from hsm.dicom.sendline import Originator
from hsm.dicom.subops import Destination, SameAssociation
from hsm.dicom.underway import Retrieval, Sender, Underway
from hsm.dicom.waitingroom import WaitingRoom
from hsm.errors import BadInput, DriverError, HsmError, NoSpace
from hsm.log import get_logger
from hsm.model import InstanceRef, Priority

log = get_logger(__name__)

CANNOT_PROCESS: Final = 0xC001
"""Unable to process (Cxxx of PS3.4 table C.4-2): the archive failed; its log says how."""
PRIORITIES: Final = {1: Priority.STAT, 0: Priority.ROUTINE, 2: Priority.PREFETCH}
"""By the request's Priority (0000,0700): HIGH, MEDIUM, LOW (PS3.7 section E.1)."""


class Retrievals(Protocol):
    def open(
        self, instances: Sequence[InstanceRef], who: str, priority: Priority, ae: str = ""
    ) -> Retrieval: ...


class Select(Protocol):
    """From an identifier to the instances it names."""

    def __call__(
        self, identifier: bytes, transfer_syntax: str, abstract_syntax: str, *, sees_rejected: bool = ...
    ) -> list[InstanceRef]:
        """:raises BadInput: the identifier is not one of this model and level."""
        ...


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
                operation = Underway(
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
