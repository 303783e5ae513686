"""An association's socket, with limits on what a peer can make us hold or wait for.

It reads in large pieces, refuses PDUs beyond a size, gives each PDU a deadline (pynetdicom's blocks for
ever in the middle of one), sends at once (TCP_NODELAY), and notices peers that vanished without a word.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any, Final

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.transport import AddressInformation, AssociationSocket

from hsm.dicom.secure import Security, described
from hsm.dicom.sockets import RECEIVE_BYTES, acknowledge_at_once, drain, halt, say_goodbye, set_options

PDU_BYTES_TOLERATED: Final = 4 * 2**20
"""PDUs up to this size are read even where we announced less; larger ones end the association."""
INVALID_PDU: Final = "Evt19"
CLOSED: Final = "Evt17"


class BoundedSocket(AssociationSocket):
    """An association's socket with limits on size and time."""

    pdu_bytes_max = PDU_BYTES_TOLERATED
    held = b""
    """Bytes that somebody has read too early: they come before what the socket has."""
    security: Security | None = None
    """What TLS says of the peer that we accepted; None where there is no TLS."""
    door = ""
    """The name of the listener that the peer came in at."""
    failure = ""
    """Why the connection to a peer came to nothing."""
    _parted = False
    """Whether TLS has said that nothing more comes."""

    def hold(self, data: bytes) -> None:
        """Put bytes before all that is to be read."""
        self.held = data + self.held

    def take_held(self) -> bytes:
        held, self.held = self.held, b""
        return held

    @property
    def ready(self) -> bool:
        """Whether there is something to read."""
        return bool(self.held) or bool(super().ready)

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly ``nr_bytes``, or what came before the peer closed.

        :raises OSError: too much is announced, or it does not come in time; the caller closes.
        """
        sock = self.socket
        if sock is None:
            raise OSError("connection is closed")
        if nr_bytes > self.pdu_bytes_max:
            # Queued before the caller's "closed", so that the peer is told A-ABORT first.
            self.event_queue.put(INVALID_PDU)
            raise OSError(f"a PDU of {nr_bytes} bytes is announced; at most {self.pdu_bytes_max} are read")
        if self._parted:
            drain(sock)
            return bytearray()
        deadline = time.monotonic() + self.patience()
        received = bytearray(self.held[:nr_bytes])
        self.held = self.held[nr_bytes:]
        while len(received) < nr_bytes:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                piece = sock.recv(min(nr_bytes - len(received), RECEIVE_BYTES))
            except OSError as error:
                self.failure = described(error)
                raise
            if not piece:
                break
            received += piece
        acknowledge_at_once(sock)
        return received

    def send(self, bytestream: bytes) -> None:
        """Send all of ``bytestream``; failing that, the connection counts as closed."""
        if self._parted:
            return
        try:
            if self.socket is None:
                raise OSError("connection is closed")
            self.socket.settimeout(self.patience())
            self.socket.sendall(bytestream)
        except OSError:
            self.event_queue.put(CLOSED)

    def connect(self, primitive: Any) -> None:
        """Unlike the original, remember in :attr:`failure` why there is no connection."""
        if self.socket is None:
            raise ValueError("the socket was closed before it was connected")
        try:
            self._connect(primitive.address_info.as_tuple)
            primitive.result = "Evt2"
        except (OSError, ValueError) as error:
            self.failure = described(error)
            self._shutdown_socket()
            self.socket = None
            primitive.result = "Evt17"
        self.provider_queue.put(primitive)
        self._ready.set()

    def _connect(self, address: tuple[Any, ...]) -> None:
        """
        :raises OSError: there is nobody, or TLS comes to nothing.
        :raises ValueError: no certificate can be for such a host name.
        """
        assert self.socket is not None
        if self.tls_args:
            context, host = self.tls_args
            # Not in connect(): the handshake has a time limit of its own.
            self.socket = context.wrap_socket(
                self.socket, do_handshake_on_connect=False, server_hostname=host
            )
        self.socket.settimeout(self.assoc.connection_timeout)
        self.socket.connect(address)
        set_options(self.socket, self.assoc.network_timeout or 0)
        if isinstance(self.socket, ssl.SSLSocket):
            self.socket.do_handshake()
        self.socket.settimeout(None)
        self.assoc.requestor.address_info = AddressInformation.from_tuple(self.socket.getsockname())
        self._is_connected = True
        evt.trigger(self.assoc, evt.EVT_CONN_OPEN, {"address": address})

    def _shutdown_socket(self) -> None:
        """Unlike the original, close also what the peer had closed before."""
        sock = self.socket
        if sock is None:
            return
        self._part()
        halt(sock, socket.SHUT_RDWR)
        sock.close()

    def part(self) -> None:
        """The association is over: nothing more is said, and nothing more is heard."""
        if self.socket is not None:
            self._part()
            halt(self.socket, socket.SHUT_RD)

    def _part(self) -> None:
        if isinstance(self.socket, ssl.SSLSocket) and not self._parted:
            self._parted = True
            say_goodbye(self.socket)

    def cut(self) -> None:
        """From another thread: make whoever reads or writes find the connection closed."""
        sock = self.socket
        if sock is not None:
            halt(sock, socket.SHUT_RDWR)

    def patience(self) -> float:
        """Seconds for one PDU: the ACSE timeout until the association stands, then the network's."""
        assoc = self.assoc
        return (assoc.network_timeout if assoc.is_established else assoc.acse_timeout) or 60.0


def outgoing_socket(assoc: Association, address: AddressInformation) -> BoundedSocket:
    return BoundedSocket(assoc, address=address)
