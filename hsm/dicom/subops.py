"""C-STORE sub-operations: instances sent to a peer as they are stored, PS3.4 annexes B and C.

:class:`Destination` sends over associations of its own (C-MOVE, later deliveries),
:class:`SameAssociation` over the one that a C-GET came on. Dataset bytes go out untouched unless
the peer accepts no stored transfer syntax (:mod:`hsm.dicom.transcode`).
"""

from __future__ import annotations

import enum
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation

from hsm.clock import Clock
from hsm.config import AeConfig, DicomConfig
from hsm.dicom.call import Call
from hsm.dicom.contexts import Accepted, Proposal, choose_context, plan_associations
from hsm.dicom.sendahead import Ahead, Source
from hsm.dicom.sendhold import Hold, Lost
from hsm.dicom.sendwire import command_pdus, dataset_pdus, pdu_data_bytes, store_command, store_response
from hsm.dicom.transcode import CannotTranscode, targets, transcode
from hsm.dicom.upperlayer import BoundedSocket, Limits, gone, harden, outgoing_socket
from hsm.errors import Corrupt, DriverError, Retryable
from hsm.log import get_logger
from hsm.model import InstanceRef
from hsm.part10 import dataset_offset
from hsm.ranges import Held, Piece, Range
from hsm.retrieval import Readable, Unobtainable

log = get_logger(__name__)

CONNECT_SECONDS: Final = 20.0
IDLE_SECONDS: Final = 10.0
"""A destination's association is released when nothing was sent for so long: it may wait for tape."""
LOOK_SECONDS: Final = 0.2
_ANSWER_BYTES_MAX: Final = 2**20
_PDU_BYTES: Final = 131072
TRANSCODE_BYTES_MAX: Final = 256 << 20
"""Larger instances are not converted: the whole of one is in memory then, several times."""


class Unreachable(Retryable):
    """No association with the destination; the message says why. Later it may work."""


class Verdict(enum.Enum):
    """What became of one sub-operation; the counters of a retrieve."""

    COMPLETED = "completed"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SubOperation:
    """The outcome of sending one instance."""

    verdict: Verdict
    reason: str = ""
    """Why it failed or what the peer warns of, in words."""
    passing: bool = False
    """Whether what failed may go well later."""


def verdict_of(status: int) -> Verdict:
    """A C-STORE response's status by its class, PS3.7 section C.1."""
    if status == 0x0000:
        return Verdict.COMPLETED
    if status & 0xF000 == 0xB000 or status in (0x0001, 0x0107, 0x0116):
        return Verdict.WARNING
    return Verdict.FAILED


def is_passing(status: int) -> bool:
    """Whether a refusal may not last: out of resources (A7xx), or a general failure (01xx, PS3.7 annex C)
    that does not say that it will never be otherwise."""
    return status & 0xFF00 == 0xA700 or (status & 0xFF00 == 0x0100 and status not in _LASTING)


_LASTING: Final = frozenset({0x0111, 0x0117, 0x0118, 0x0119, 0x0122})
"""The instance is there with other content, or it or its class is not understood."""


@dataclass(frozen=True, slots=True)
class Originator:
    """The C-MOVE that a sub-operation belongs to, PS3.7 section 9.1.1.1.8."""

    ae_title: str
    message_id: int


def _content(instance: InstanceRef, content: Range, target: str) -> Range:
    """The Part 10 file to send, or its dataset alone made anew where ``target`` is not as stored.

    :raises CannotTranscode: it cannot be converted, or is too large to be.
    :raises DriverError: it cannot be read.
    """
    stored = instance.transfer_syntax_uid
    if target == stored:
        return content
    if content.size > TRANSCODE_BYTES_MAX:
        raise CannotTranscode(
            f"{content.size} bytes are too many to convert; the peer accepts nothing as it is stored"
        )
    part10 = content.whole()
    return Held(transcode(memoryview(part10)[dataset_offset(part10) :], stored, target))


def _datasets(content: Range, *, part10: bool) -> tuple[int, Iterator[Piece]]:
    """The length of the dataset and its pieces.

    :raises DriverError: it cannot be read, or is no Part 10 file of ours.
    """
    pieces = content.pieces()
    first = memoryview(next(pieces))
    start = dataset_offset(first) if part10 else 0
    if start >= content.size:
        raise Corrupt("the file holds no dataset")
    return content.size - start, itertools.chain([first[start:]], pieces)


class _Line:
    """An association that sub-operations go over, and what its peer accepts."""

    def __init__(self, assoc: Association, *, as_acceptor: bool) -> None:
        self.assoc = assoc
        self.hold = Hold(assoc, assoc.dimse_timeout or 60.0)
        self._accepted = _accepted(assoc.accepted_contexts, as_acceptor=as_acceptor)
        self._chosen: dict[tuple[str, str], Accepted | None] = {}
        self._data_bytes = pdu_data_bytes(assoc.dimse.maximum_pdu_size)
        self._message_id = 0

    def send(self, item: Readable, originator: Originator | None) -> SubOperation:
        """Send one instance and wait for the peer's answer.

        :raises Lost: no answer.
        """
        instance = item.instance
        context = self._context(instance.sop_class_uid, instance.transfer_syntax_uid)
        if context is None:
            wanted = f"{instance.sop_class_uid} in {instance.transfer_syntax_uid}"
            return SubOperation(Verdict.FAILED, f"peer accepts no {wanted}, nor what it converts to")
        try:
            content = _content(instance, item.content, context.transfer_syntax)
            size, pieces = _datasets(content, part10=content is item.content)
        except (CannotTranscode, DriverError) as error:
            return SubOperation(Verdict.FAILED, str(error))
        self._message_id = self._message_id % 0xFFFF + 1
        move = None if originator is None else (originator.ae_title, originator.message_id)
        command = store_command(instance.sop_class_uid, instance.sop_instance_uid, self._message_id, move)
        self.hold.take()
        alone = self.assoc.dimse.msg_queue.empty()
        number, room = context.context_id, self._data_bytes
        try:
            for buffers in dataset_pdus(pieces, size, number, room, command_pdus(command, number, room)):
                self.hold.write(buffers)
        except DriverError as error:
            # In the middle of a message nothing else can be said.
            self.hold.cut()
            return SubOperation(Verdict.FAILED, str(error))
        return _outcome(*self._answer(number, alone=alone))

    def _context(self, sop_class: str, stored: str) -> Accepted | None:
        key = (sop_class, stored)
        if key not in self._chosen:
            self._chosen[key] = choose_context(self._accepted, sop_class, stored, targets(stored))
        return self._chosen[key]

    def _answer(self, context_id: int, *, alone: bool) -> tuple[int, str]:
        """The status and comment of the response: read here, unless there is anything odd about it.

        :raises Lost: none comes, or something else.
        """
        if not alone:
            self.hold.let_go()
            return _queued_answer(self.assoc, self._message_id)
        pdu = self.hold.read()
        response = store_response(pdu, context_id)
        if response is None or response.message_id != self._message_id:
            self.hold.hand_over(pdu)
            return _queued_answer(self.assoc, self._message_id)
        if self.hold.leftover:
            self.hold.hand_over()
        return response.status, response.comment


def _outcome(status: int, comment: str) -> SubOperation:
    verdict = verdict_of(status)
    if verdict is Verdict.COMPLETED:
        return SubOperation(verdict)
    return SubOperation(verdict, f"peer answers {status:04X} {comment}".rstrip(), is_passing(status))


def _queued_answer(assoc: Association, message_id: int) -> tuple[int, str]:
    """Wait for a C-STORE response that pynetdicom reads: its status and comment.

    :raises Lost: none comes, or something else.
    """
    patience = assoc.dimse_timeout or 60.0
    deadline = time.monotonic() + patience
    while True:
        try:
            _, response = assoc.dimse.msg_queue.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            response = None
        if isinstance(response, C_STORE) and response.MessageIDBeingRespondedTo == message_id:
            if response.Status is None:
                raise Lost("peer answered without a status")
            return int(response.Status), str(response.ErrorComment or "")
        if response is not None:
            raise Lost(f"peer sent {type(response).__name__} instead of a C-STORE response")
        if gone(assoc):
            raise Lost("peer ended the association")
        if time.monotonic() > deadline:
            raise Lost(f"no answer within {patience:g} s")


def _accepted(contexts: Sequence[PresentationContext], *, as_acceptor: bool) -> list[Accepted]:
    """The contexts in which we may send: those of ours, or those whose peer took the SCP role."""
    return [
        Accepted(int(cx.context_id or 0), str(cx.abstract_syntax), str(cx.transfer_syntax[0]))
        for cx in contexts
        if not as_acceptor or cx.as_scu
    ]


class SameAssociation:
    """Sends on the association that a C-GET came on, PS3.4 section C.4.3."""

    def __init__(self, call: Call) -> None:
        self._line = _Line(call.assoc, as_acceptor=True)

    def send(self, item: Readable) -> SubOperation:
        """:raises Unreachable: the caller is gone, or does not answer (then it is aborted)."""
        assoc = self._line.assoc
        try:
            return self._line.send(item, None)
        except Lost as error:
            self._line.hold.let_go()
            if not gone(assoc):
                assoc.abort()
            raise Unreachable(str(error)) from error

    def rest(self) -> None:
        """Nothing can be sent now: pynetdicom listens to the caller."""
        self._line.hold.let_go()

    def close(self) -> None:
        """The association remains the caller's."""
        self._line.hold.close()


class _SendingAe(AE):
    """Makes associations whose sockets and messages are bounded."""

    def _create_socket(self, assoc: Association, address: AddressInformation, tls_args: Any) -> BoundedSocket:
        harden(assoc, Limits(_ANSWER_BYTES_MAX, _ANSWER_BYTES_MAX))
        sock = outgoing_socket(assoc, address)
        sock.tls_args = tls_args
        return sock


@dataclass(slots=True)
class _Plan:
    groups: list[tuple[Proposal, ...]]
    group_of: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, group in enumerate(self.groups):
            self.group_of.update(dict.fromkeys((each.abstract_syntax for each in group), number))


class Destination:
    """Sends to a configured AE over associations opened when the first instance is there."""

    def __init__(
        self,
        peer: AeConfig,
        our_ae_title: str,
        config: DicomConfig,
        clock: Clock,
        instances: Sequence[InstanceRef],
        originator: Originator | None,
    ) -> None:
        self._peer = peer
        self._clock = clock
        self._originator = originator
        self._plan = _Plan(
            plan_associations((each.sop_class_uid, each.transfer_syntax_uid) for each in instances)
        )
        self._lines: dict[int, _Line] = {}
        self._last_used = clock.monotonic()
        self._ae = _SendingAe(our_ae_title)
        self._ae.acse_timeout = config.acse_timeout_seconds
        self._ae.dimse_timeout = config.dimse_timeout_seconds
        self._ae.network_timeout = config.network_timeout_seconds
        self._ae.connection_timeout = min(CONNECT_SECONDS, config.acse_timeout_seconds)

    def send(self, item: Readable) -> SubOperation:
        """Send one instance; an association that broke is made anew once.

        :raises Unreachable: no association can be had.
        """
        group = self._plan.group_of[item.instance.sop_class_uid]
        reason = ""
        for _ in range(2):
            line = self._lines.get(group)
            if line is None or gone(line.assoc):
                line = self._lines[group] = self._open(group)
            try:
                return line.send(item, self._originator)
            except Lost as error:
                reason = str(error)
                log.warning("%s: %s while sending %s", self._name(), reason, item.instance.sop_instance_uid)
                line.hold.let_go()
                line.assoc.abort()
                del self._lines[group]
            finally:
                self._last_used = self._clock.monotonic()
        return SubOperation(Verdict.FAILED, reason, passing=True)

    def rest(self) -> None:
        """Called while nothing can be sent: long silence would make the destination hang up."""
        for line in self._lines.values():
            line.hold.let_go()
        if self._lines and self._clock.monotonic() - self._last_used > IDLE_SECONDS:
            self.close()

    def close(self) -> None:
        """Release what is open; nobody waits until it is."""
        for line in self._lines.values():
            line.hold.close()
            threading.Thread(target=line.assoc.release, name="release", daemon=True).start()
        self._lines.clear()

    def _open(self, group: int) -> _Line:
        contexts = [
            build_context(each.abstract_syntax, list(each.transfer_syntaxes))
            for each in self._plan.groups[group]
        ]
        try:
            assoc = self._ae.associate(
                self._peer.host, self._peer.port, contexts, ae_title=self._peer.ae_title, max_pdu=_PDU_BYTES
            )
        except OSError as error:
            raise Unreachable(f"{self._name()}: {error.strerror or error}") from error
        if not assoc.is_established:
            _tidy(assoc)
            raise Unreachable(f"{self._name()}: {_why(assoc)}")
        return _Line(assoc, as_acceptor=False)

    def _name(self) -> str:
        return f"{self._peer.ae_title} at {self._peer.host}:{self._peer.port}"


def _tidy(assoc: Association) -> None:
    """pynetdicom leaves the socket of a failed association open."""
    assoc.kill()
    if assoc.dul.socket is not None and assoc.dul.socket.socket is not None:
        assoc.dul.socket.socket.close()


def _why(assoc: Association) -> str:
    answer = assoc.acceptor.primitive
    if assoc.is_rejected and answer is not None:
        return f"association rejected: {answer.reason_str}"
    if answer is not None:
        return "none of the SOP classes was accepted"
    if assoc.dul.socket is None or assoc.dul.socket.socket is None:
        return "cannot connect, or the connection was closed"
    return "no answer to the association request"


PATIENCE_SECONDS: Final = 3.0
"""How long a delivery keeps its worker while nothing can be read."""


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """What a delivery achieved."""

    delivered: int
    failed: tuple[tuple[str, str], ...]
    """SOP Instance UID and reason of each instance that the destination or the archive refused."""
    unreachable: str = ""
    """Why the destination could not be reached; the rest should be tried again later. Or empty."""
    refused: str = ""
    """Why the destination took instances not now, though perhaps later. Or empty."""
    stopped: bool = False
    """Whether it was told to stop before it was through."""
    waiting: bool = False
    """Whether it ended because nothing more could be read for a while."""


def deliver(
    destination: Destination,
    source: Source,
    stop: Callable[[], bool],
    on_delivered: Callable[[str], None],
    monotonic: Callable[[], float],
) -> DeliveryResult:
    """Send everything that ``source`` brings, until nothing came for :data:`PATIENCE_SECONDS`.

    :param stop: asked between instances and several times a second while waiting.
    :param on_delivered: called with each SOP Instance UID that the destination has.
    """
    delivered = 0
    failed: list[tuple[str, str]] = []
    refused = ""
    source = Ahead(source)
    since = monotonic()
    try:
        while source.remaining:
            if stop():
                return DeliveryResult(delivered, tuple(failed), refused=refused, stopped=True)
            item = source.next(LOOK_SECONDS)
            if item is None and not source.reading and monotonic() - since >= PATIENCE_SECONDS:
                return DeliveryResult(delivered, tuple(failed), refused=refused, waiting=True)
            if item is None:
                destination.rest()
                continue
            uid = item.instance.sop_instance_uid
            if isinstance(item, Unobtainable):
                failed.append((uid, item.reason))
                continue
            try:
                outcome = destination.send(item)
            finally:
                item.content.close()
                since = monotonic()
            if outcome.verdict is Verdict.FAILED and outcome.passing:
                refused = refused or f"{uid}: {outcome.reason}"
            elif outcome.verdict is Verdict.FAILED:
                failed.append((uid, outcome.reason))
            else:
                delivered += 1
                on_delivered(uid)
    except Unreachable as error:
        return DeliveryResult(delivered, tuple(failed), str(error), refused)
    finally:
        source.close()
        destination.close()
    return DeliveryResult(delivered, tuple(failed), refused=refused)
