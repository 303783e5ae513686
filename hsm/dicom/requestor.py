"""Associations that we ask for, with configured AEs: for what we send, and for what we tell.

Their sockets and messages are bounded, over TLS where the peer is reached so, and what no association
comes of is said with the peer's own reason, PS3.8 sections 9.3.4 and 9.3.8.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation

from hsm.config import AeConfig, DicomConfig, sending
from hsm.dicom.boundeddimse import Limits
from hsm.dicom.boundedsocket import BoundedSocket, outgoing_socket
from hsm.dicom.contexts import UNCOMPRESSED
from hsm.dicom.outbound import Gate
from hsm.dicom.upperlayer import harden
from hsm.errors import ConfigError, Retryable

CONNECT_SECONDS: Final = 20.0
_ANSWER_BYTES_MAX: Final = 2**20
_PDU_BYTES: Final = 131072
_PROVIDER: Final = 2
"""The source of an A-ABORT that is not the application."""


class Unreachable(Retryable):
    """No association with the destination; the message says why. Later it may work.

    :param down: it does not answer at all; else it answered, and does not want this.
    """

    def __init__(self, message: str, *, down: bool = True) -> None:
        super().__init__(message)
        self.down = down


class _SendingAe(AE):
    """Makes associations whose sockets and messages are bounded."""

    def _create_socket(self, assoc: Association, address: AddressInformation, tls_args: Any) -> BoundedSocket:
        harden(assoc, Limits(_ANSWER_BYTES_MAX, _ANSWER_BYTES_MAX))
        sock = outgoing_socket(assoc, address)
        sock.tls_args = tls_args
        return sock


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
    ae = sending_ae(our_ae_title, config)
    # Many peers do not answer the role selection, and take what an SCP sends all the same.
    roles = [build_role(UID(sop_class), scp_role=True)] if as_scp else None
    try:
        assoc = associate(ae, peer, config, [build_context(sop_class, list(UNCOMPRESSED[:2]))], roles)
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


def sending_ae(our_ae_title: str, config: DicomConfig) -> AE:
    ae = _SendingAe(our_ae_title)
    ae.acse_timeout = config.acse_timeout_seconds
    ae.dimse_timeout = config.dimse_timeout_seconds
    ae.network_timeout = config.network_timeout_seconds
    ae.connection_timeout = min(CONNECT_SECONDS, config.acse_timeout_seconds)
    return ae


def associate(
    ae: AE,
    peer: AeConfig,
    config: DicomConfig,
    contexts: list[PresentationContext],
    roles: list[Any] | None = None,
) -> Association:
    """:raises Unreachable: no association can be had; the message says why."""
    source = config.source_address
    answer = _Answer()
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
            evt_handlers=[(evt.EVT_PDU_RECV, answer.heard)],
        )
    except ConfigError as error:
        raise Unreachable(f"{named(peer)}: {error}") from error
    except OSError as error:
        origin = f" from {source}" if source is not None else ""
        raise Unreachable(f"{named(peer)}{origin}: {error.strerror or error}") from error
    assoc.unbind(evt.EVT_PDU_RECV, answer.heard)
    if not assoc.is_established:
        _tidy(assoc)
        answered = assoc.acceptor.primitive is not None and not assoc.is_rejected
        raise Unreachable(f"{named(peer)}: {_why(assoc, answer.pdu)}", down=not answered)
    return assoc


def named(peer: AeConfig) -> str:
    return f"{peer.ae_title} at {peer.host}:{peer.port}"


class _Answer:
    """The first PDU that the peer sends.

    pynetdicom's requestor looks whether it is connected before it looks for an answer. Where its thread is
    late, the other one has read a rejection and closed the connection by then, and the answer, left in the
    queue, is taken for a connection that never was. The event comes while the PDU is read, before that.
    """

    def __init__(self) -> None:
        self.pdu: object = None

    def heard(self, event: Event) -> None:
        self.pdu = self.pdu or event.pdu


def _tidy(assoc: Association) -> None:
    """pynetdicom leaves the socket of a failed association open."""
    assoc.kill()
    if assoc.dul.socket is not None and assoc.dul.socket.socket is not None:
        assoc.dul.socket.socket.close()


def _reason(answer: A_ASSOCIATE_RJ) -> str:
    try:
        return str(answer.reason_str)
    except ValueError:  # PS3.8 section 9.3.4 has no such one
        return f"source {answer.source}, reason {answer.reason_diagnostic}"


def _why(assoc: Association, answer: object) -> str:
    """
    :param answer: the first PDU that the peer sent, if it sent one.
    """
    if isinstance(answer, A_ASSOCIATE_RJ):
        return f"association rejected: {_reason(answer)}"
    if assoc.acceptor.primitive is not None:
        return "none of the SOP classes was accepted"
    if isinstance(answer, A_ABORT_RQ):
        # Only the upper layer itself gives a reason, PS3.8 section 9.3.8.
        reason = f": {answer.reason_str}" if answer.source == _PROVIDER else ""
        return f"the peer aborted the association{reason}"
    if isinstance(answer, A_ASSOCIATE_AC):
        return "the association was accepted, and the connection closed at once"
    sock = assoc.dul.socket
    if isinstance(sock, BoundedSocket) and sock.failure:
        return f"cannot connect: {sock.failure}"
    if sock is None or sock.socket is None:
        return "cannot connect, or the connection was closed"
    return "no answer to the association request"
