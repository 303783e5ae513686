"""C-STORE sub-operations: instances sent to a peer as they are stored, PS3.4 annexes B and C.

:class:`Destination` sends over associations of its own (C-MOVE, later deliveries),
:class:`SameAssociation` over the one that a C-GET came on. Dataset bytes go out untouched unless
the peer accepts no stored transfer syntax (:mod:`hsm.dicom.transcode`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom import AE, build_context, build_role
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation

from hsm.clock import Clock
from hsm.config import AeConfig, DicomConfig, sending
from hsm.dicom.call import Call
from hsm.dicom.contexts import UNCOMPRESSED, Proposal, plan_associations
from hsm.dicom.outbound import Gate, Outbound
from hsm.dicom.sendahead import Ahead, Source
from hsm.dicom.sendhold import Lost
from hsm.dicom.sendline import LOOK_SECONDS, Line, Originator, SubOperation, Verdict
from hsm.dicom.upperlayer import BoundedSocket, Limits, gone, harden, outgoing_socket
from hsm.errors import ConfigError, Retryable
from hsm.log import get_logger
from hsm.model import InstanceRef
from hsm.retrieval import Readable, Unobtainable

log = get_logger(__name__)

CONNECT_SECONDS: Final = 20.0
IDLE_SECONDS: Final = 10.0
"""A destination's association is released when nothing was sent for so long: it may wait for tape."""
SILENT_MAX: Final = 3
"""After so many instances in a row without an answer, each tried twice, a peer is as good as down."""
_ANSWER_BYTES_MAX: Final = 2**20
_PDU_BYTES: Final = 131072


class Unreachable(Retryable):
    """No association with the destination; the message says why. Later it may work.

    :param down: it does not answer at all; else it answered, and does not want this.
    """

    def __init__(self, message: str, *, down: bool = True) -> None:
        super().__init__(message)
        self.down = down


class SameAssociation:
    """Sends on the association that a C-GET came on, PS3.4 section C.4.3."""

    def __init__(self, call: Call) -> None:
        self._line = Line(call.assoc, as_acceptor=True)

    def held_up(self) -> str:
        """Never: whoever asks over its own association decides how fast it takes what it asked for."""
        return ""

    def pause_seconds(self) -> float:
        return 0.0

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
        gate: Gate | None = None,
    ) -> None:
        """
        :param gate: what the peer may be sent at the same time; without it as much as it takes.
        """
        self._peer = peer
        self._gate = gate or Outbound(clock).gate(peer)
        self._silent = 0
        """Instances in a row for which no association gave an answer."""
        self._config = config
        self._clock = clock
        self._originator = originator
        self._plan = _Plan(
            plan_associations((each.sop_class_uid, each.transfer_syntax_uid) for each in instances)
        )
        self._lines: dict[int, Line] = {}
        self._last_used = clock.monotonic()
        self._ae = _sending_ae(our_ae_title, config)

    def held_up(self) -> str:
        """Why nothing can be sent just now: the peer has as many associations as it may. Or empty."""
        return "" if self._lines else self._gate.full()

    def pause_seconds(self) -> float:
        """Until the next instance may be sent: the peer has had as much as it may for now."""
        return self._gate.pause_seconds()

    def send(self, item: Readable) -> SubOperation:
        """Send one instance; an association that broke is made anew once.

        :raises Unreachable: no association can be had, or several instances in a row got no answer.
        """
        group = self._plan.group_of[item.instance.sop_class_uid]
        reason = ""
        for _ in range(2):
            line = self._lines.get(group)
            if line is None or gone(line.assoc):
                self._drop(group)
                line = self._lines[group] = self._open(group)
            try:
                outcome = line.send(item, self._originator)
                self._silent = 0
                self._gate.sent(item.instance.size)
                return outcome
            except Lost as error:
                reason = str(error)
                log.warning("%s: %s while sending %s", self._name(), reason, item.instance.sop_instance_uid)
                line.hold.let_go()
                line.assoc.abort()
                self._drop(group)
            finally:
                self._last_used = self._clock.monotonic()
        self._silent += 1
        if self._silent >= SILENT_MAX:
            self._gate.unreachable()
            raise Unreachable(f"{self._name()}: {reason}, {self._silent} instances in a row")
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
            self._gate.leave()
        self._lines.clear()

    def _drop(self, group: int) -> None:
        if self._lines.pop(group, None) is not None:
            self._gate.leave()

    def _open(self, group: int) -> Line:
        contexts = [
            build_context(each.abstract_syntax, list(each.transfer_syntaxes))
            for each in self._plan.groups[group]
        ]
        if self._gate.enter():
            self.close()  # another of our own is in the way, or somebody was quicker
            if why := self._gate.enter():
                raise Unreachable(f"{self._name()}: {why}")
        try:
            assoc = _associate(self._ae, self._peer, self._config, contexts)
        except BaseException as error:
            self._gate.leave()
            if isinstance(error, Unreachable) and error.down:
                self._gate.unreachable()
            raise
        self._gate.reached()
        return Line(assoc, as_acceptor=False)

    def _name(self) -> str:
        return _named(self._peer)


@contextmanager
def open_association(
    peer: AeConfig,
    our_ae_title: str,
    config: DicomConfig,
    sop_class: str,
    *,
    as_scp: bool,
    gate: Gate | None = None,
) -> Iterator[Association]:
    """An association with a configured AE for one SOP class; released at the end.

    :param as_scp: we are its SCP on it.

    :raises Unreachable: it cannot be had.
    """
    ae = _sending_ae(our_ae_title, config)
    # Many peers do not answer the role selection, and take what an SCP sends all the same.
    roles = [build_role(UID(sop_class), scp_role=True)] if as_scp else None
    try:
        assoc = _associate(ae, peer, config, [build_context(sop_class, list(UNCOMPRESSED[:2]))], roles)
    except Unreachable as error:
        if gate is not None and error.down:
            gate.unreachable()
        raise
    if gate is not None:
        gate.reached()
    try:
        yield assoc
    finally:
        assoc.release()


def _sending_ae(our_ae_title: str, config: DicomConfig) -> AE:
    ae = _SendingAe(our_ae_title)
    ae.acse_timeout = config.acse_timeout_seconds
    ae.dimse_timeout = config.dimse_timeout_seconds
    ae.network_timeout = config.network_timeout_seconds
    ae.connection_timeout = min(CONNECT_SECONDS, config.acse_timeout_seconds)
    return ae


def _associate(
    ae: AE,
    peer: AeConfig,
    config: DicomConfig,
    contexts: list[PresentationContext],
    roles: list[Any] | None = None,
) -> Association:
    """:raises Unreachable: no association can be had; the message says why."""
    source = config.source_address
    try:
        # Read now: a certificate that was renewed is the one that is shown.
        context = sending(peer, config.tls)
        assoc = ae.associate(
            peer.host,
            peer.port,
            contexts,
            ae_title=peer.ae_title,
            max_pdu=_PDU_BYTES,
            ext_neg=roles,
            tls_args=None if context is None else (context, peer.host),
            bind_address=None if source is None else (source, 0),
        )
    except ConfigError as error:
        raise Unreachable(f"{_named(peer)}: {error}") from error
    except OSError as error:
        origin = f" from {source}" if source is not None else ""
        raise Unreachable(f"{_named(peer)}{origin}: {error.strerror or error}") from error
    if not assoc.is_established:
        _tidy(assoc)
        answered = assoc.acceptor.primitive is not None and not assoc.is_rejected
        raise Unreachable(f"{_named(peer)}: {_why(assoc)}", down=not answered)
    return assoc


def _named(peer: AeConfig) -> str:
    return f"{peer.ae_title} at {peer.host}:{peer.port}"


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
    sock = assoc.dul.socket
    if isinstance(sock, BoundedSocket) and sock.failure:
        return f"cannot connect: {sock.failure}"
    if sock is None or sock.socket is None:
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
    held_up: str = ""
    """Why nothing could be sent for a while. Or empty."""


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
                if why := _held_up(destination, stop, monotonic):
                    return DeliveryResult(delivered, tuple(failed), refused=refused, held_up=why)
                if stop():
                    return DeliveryResult(delivered, tuple(failed), refused=refused, stopped=True)
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


def _held_up(destination: Destination, stop: Callable[[], bool], monotonic: Callable[[], float]) -> str:
    """Wait until the destination may be sent more; why it may not, when that takes too long."""
    begun = monotonic()
    while not stop():
        why, pause = destination.held_up(), destination.pause_seconds()
        if not why and pause <= 0:
            return ""
        if why and monotonic() - begun >= PATIENCE_SECONDS:
            return why
        time.sleep(min(pause or LOOK_SECONDS, LOOK_SECONDS))
    return ""
