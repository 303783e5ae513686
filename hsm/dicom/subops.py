"""C-STORE sub-operations: instances sent to a peer as they are stored, PS3.4 annexes B and C.

:class:`Destination` sends over associations of its own (C-MOVE, later deliveries),
:class:`SameAssociation` over the one that a C-GET came on. Dataset bytes go out untouched unless
the peer accepts no stored transfer syntax (:mod:`hsm.dicom.transcode`).
"""

from __future__ import annotations

import enum
import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final, Protocol

from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation

from hsm.clock import Clock
from hsm.config import AeConfig, DicomConfig
from hsm.dicom.call import Call
from hsm.dicom.contexts import Accepted, Proposal, choose_context, plan_associations
from hsm.dicom.transcode import CannotTranscode, targets, transcode
from hsm.dicom.upperlayer import BoundedSocket, Limits, gone, harden, outgoing_socket
from hsm.errors import Retryable
from hsm.log import get_logger
from hsm.model import InstanceRef
from hsm.part10 import dataset_offset
from hsm.retrieval import Readable, Unobtainable

log = get_logger(__name__)

CONNECT_SECONDS: Final = 20.0
IDLE_SECONDS: Final = 10.0
"""A destination's association is released when nothing was sent for so long: it may wait for tape."""
LOOK_SECONDS: Final = 0.2
_ANSWER_BYTES_MAX: Final = 2**20
_PDU_BYTES: Final = 131072


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


def verdict_of(status: int) -> Verdict:
    """A C-STORE response's status by its class, PS3.7 section C.1."""
    if status == 0x0000:
        return Verdict.COMPLETED
    if status & 0xF000 == 0xB000 or status in (0x0001, 0x0107, 0x0116):
        return Verdict.WARNING
    return Verdict.FAILED


class Source(Protocol):
    """Instances as they become readable; :class:`hsm.retrieval.Retrieval` is one."""

    @property
    def remaining(self) -> int: ...
    def next(self, timeout_seconds: float) -> Readable | Unobtainable | None: ...


@dataclass(frozen=True, slots=True)
class Originator:
    """The C-MOVE that a sub-operation belongs to, PS3.7 section 9.1.1.1.8."""

    ae_title: str
    message_id: int


class _Lost(Exception):
    """The association ended or the peer did not answer."""


def _send(
    assoc: Association,
    context: Accepted,
    instance: InstanceRef,
    part10: bytes,
    message_id: int,
    originator: Originator | None,
) -> SubOperation:
    """Send one instance in ``context`` and wait for the peer's answer.

    :raises _Lost: no answer.
    """
    stored = memoryview(part10)[dataset_offset(part10) :]
    if context.transfer_syntax == instance.transfer_syntax_uid:
        dataset = BytesIO(stored)
    else:
        try:
            dataset = BytesIO(transcode(stored, instance.transfer_syntax_uid, context.transfer_syntax))
        except CannotTranscode as error:
            return SubOperation(Verdict.FAILED, str(error))
    request = C_STORE()
    request.MessageID = message_id
    request.AffectedSOPClassUID = instance.sop_class_uid
    request.AffectedSOPInstanceUID = instance.sop_instance_uid
    request.Priority = 0
    if originator is not None:
        request.MoveOriginatorApplicationEntityTitle = originator.ae_title
        request.MoveOriginatorMessageID = originator.message_id
    request.DataSet = dataset
    assoc.dimse.send_msg(request, context.context_id)
    status, comment = _answer(assoc, message_id)
    verdict = verdict_of(status)
    if verdict is Verdict.COMPLETED:
        return SubOperation(verdict)
    return SubOperation(verdict, f"peer answers {status:04X} {comment}".rstrip())


def _answer(assoc: Association, message_id: int) -> tuple[int, str]:
    """Wait for a C-STORE response: its status and comment.

    The time-out counts from the last sign that our bytes still leave, so that a large instance on a
    slow line is not given up while it is being sent.
    """
    patience = assoc.dimse_timeout or 60.0
    deadline = time.monotonic() + patience
    unsent = assoc.dul.to_provider_queue.qsize()
    while True:
        try:
            _, response = assoc.dimse.msg_queue.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            response = None
        if isinstance(response, C_STORE) and response.MessageIDBeingRespondedTo == message_id:
            if response.Status is None:
                raise _Lost("peer answered without a status")
            return int(response.Status), str(response.ErrorComment or "")
        if response is not None:
            raise _Lost(f"peer sent {type(response).__name__} instead of a C-STORE response")
        if gone(assoc):
            raise _Lost("peer ended the association")
        left = assoc.dul.to_provider_queue.qsize()
        if left != unsent:
            unsent, deadline = left, time.monotonic() + patience
            assoc.dul._idle_timer.restart()  # it counts what comes only, and we are sending
        if time.monotonic() > deadline:
            raise _Lost(f"no answer within {patience:g} s")


def _accepted(contexts: Sequence[PresentationContext], *, as_acceptor: bool) -> list[Accepted]:
    """The contexts in which we may send: those of ours, or those whose peer took the SCP role."""
    return [
        Accepted(int(cx.context_id or 0), str(cx.abstract_syntax), str(cx.transfer_syntax[0]))
        for cx in contexts
        if not as_acceptor or cx.as_scu
    ]


def _no_context(instance: InstanceRef) -> SubOperation:
    wanted = f"{instance.sop_class_uid} in {instance.transfer_syntax_uid}"
    return SubOperation(Verdict.FAILED, f"peer accepts no {wanted}, nor what it converts to")


class SameAssociation:
    """Sends on the association that a C-GET came on, PS3.4 section C.4.3."""

    def __init__(self, call: Call) -> None:
        self._assoc = call.assoc
        self._accepted = _accepted(call.assoc.accepted_contexts, as_acceptor=True)
        self._message_id = 0

    def send(self, instance: InstanceRef, part10: bytes) -> SubOperation:
        """:raises Unreachable: the caller is gone, or does not answer (then it is aborted)."""
        stored = instance.transfer_syntax_uid
        context = choose_context(self._accepted, instance.sop_class_uid, stored, targets(stored))
        if context is None:
            return _no_context(instance)
        self._message_id = self._message_id % 0xFFFF + 1
        try:
            return _send(self._assoc, context, instance, part10, self._message_id, None)
        except _Lost as error:
            if not gone(self._assoc):
                self._assoc.abort()
            raise Unreachable(str(error)) from error

    def rest(self) -> None:
        """Nothing to save: the association is the caller's."""

    def close(self) -> None:
        """The association is the caller's."""


class _SendingAe(AE):
    """Makes associations whose sockets and messages are bounded."""

    def _create_socket(self, assoc: Association, address: AddressInformation, tls_args: Any) -> BoundedSocket:
        harden(assoc, Limits(_ANSWER_BYTES_MAX, _ANSWER_BYTES_MAX))
        sock = outgoing_socket(assoc, address)
        sock.tls_args = tls_args
        return sock


@dataclass(slots=True)
class _Line:
    """One association with the destination and what it accepted."""

    assoc: Association
    accepted: list[Accepted]
    message_id: int = 0


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

    def send(self, instance: InstanceRef, part10: bytes) -> SubOperation:
        """Send one instance; an association that broke is made anew once.

        :raises Unreachable: no association can be had.
        """
        group = self._plan.group_of[instance.sop_class_uid]
        reason = ""
        for _ in range(2):
            line = self._lines.get(group)
            if line is None or gone(line.assoc):
                line = self._lines[group] = self._open(group)
            stored = instance.transfer_syntax_uid
            context = choose_context(line.accepted, instance.sop_class_uid, stored, targets(stored))
            if context is None:
                return _no_context(instance)
            line.message_id = line.message_id % 0xFFFF + 1
            try:
                return _send(line.assoc, context, instance, part10, line.message_id, self._originator)
            except _Lost as error:
                reason = str(error)
                log.warning("%s: %s while sending %s", self._name(), reason, instance.sop_instance_uid)
                line.assoc.abort()
                del self._lines[group]
            finally:
                self._last_used = self._clock.monotonic()
        return SubOperation(Verdict.FAILED, reason)

    def rest(self) -> None:
        """Called while nothing can be sent: long silence would make the destination hang up."""
        if self._lines and self._clock.monotonic() - self._last_used > IDLE_SECONDS:
            self.close()

    def close(self) -> None:
        """Release what is open."""
        for line in self._lines.values():
            line.assoc.release()
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
        return _Line(assoc, _accepted(assoc.accepted_contexts, as_acceptor=False))

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


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """What a delivery achieved."""

    delivered: int
    failed: tuple[tuple[str, str], ...]
    """SOP Instance UID and reason of each instance that the destination or the archive refused."""
    unreachable: str = ""
    """Why the destination could not be reached; the rest should be tried again later. Or empty."""
    stopped: bool = False
    """Whether it was told to stop before it was through."""

    @property
    def complete(self) -> bool:
        """Nothing is left that a later try could deliver."""
        return not self.unreachable and not self.stopped


def deliver(
    destination: Destination,
    source: Source,
    stop: Callable[[], bool],
    on_delivered: Callable[[str], None],
) -> DeliveryResult:
    """Send everything that ``source`` brings, waiting for it as long as it takes.

    :param stop: asked between instances and several times a second while waiting.
    :param on_delivered: called with each SOP Instance UID that the destination has.
    """
    delivered = 0
    failed: list[tuple[str, str]] = []
    try:
        while source.remaining:
            if stop():
                return DeliveryResult(delivered, tuple(failed), stopped=True)
            item = source.next(LOOK_SECONDS)
            if item is None:
                destination.rest()
                continue
            uid = item.instance.sop_instance_uid
            if isinstance(item, Unobtainable):
                failed.append((uid, item.reason))
                continue
            outcome = destination.send(item.instance, item.part10)
            if outcome.verdict is Verdict.FAILED:
                failed.append((uid, outcome.reason))
            else:
                delivered += 1
                on_delivered(uid)
    except Unreachable as error:
        return DeliveryResult(delivered, tuple(failed), unreachable=str(error))
    finally:
        destination.close()
    return DeliveryResult(delivered, tuple(failed))
