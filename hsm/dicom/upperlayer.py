"""pynetdicom's upper layer (PS3.8), made to survive bad peers.

pynetdicom negotiates and runs the state machine; :func:`harden` exchanges three of its parts,
before its threads start, for subclasses that bound what a peer can make us hold or wait for:

- the socket: it reads in large pieces, refuses PDUs beyond a size, gives each PDU a deadline (the
  original blocks for ever in the middle of one), sends at once (TCP_NODELAY), and notices peers
  that vanished without a word;
- the state machine: what it cannot digest ends the association instead of its thread;
- the DIMSE provider: messages are bounded while they are gathered.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from pynetdicom import evt
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.pdu_primitives import A_P_ABORT, P_DATA
from pynetdicom.transport import AddressInformation, AssociationSocket

from hsm.dicom.secure import Security, described
from hsm.log import get_logger, neutral

if TYPE_CHECKING:
    from pynetdicom.association import Association

log = get_logger(__name__)

PDU_BYTES_TOLERATED: Final = 4 * 2**20
"""PDUs up to this size are read even where we announced less; larger ones end the association."""
COMMAND_BYTES_MAX: Final = 64 * 1024
CANCELS_MAX: Final = 10
"""C-CANCELs of unknown requests that are remembered, the latest."""
GATHERED_BYTES_MAX: Final = 64 * 2**20
"""Of a message that pynetdicom gathers in memory: of a query, or of a C-STORE that its receive lane
(:mod:`hsm.dicom.lane`), which keeps none in memory, does not take."""
_RECEIVE_BYTES: Final = 2**20
INVALID_PDU: Final = "Evt19"
CLOSED: Final = "Evt17"
_NO_BEGINNING: Final = ("Evt3", "Evt4", "Evt10", "Evt12", "Evt13")
"""PDUs that no association begins with."""


@dataclass(frozen=True)
class Limits:
    """What one peer may make us hold."""

    pdu_bytes: int
    dataset_bytes: int


class CappedBuffer(BytesIO):
    """Takes any number of bytes, keeps ``limit`` of them, and knows whether there were more."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._room = limit
        self.overflowed = False

    def write(self, data: Any) -> int:
        """Like BytesIO.write, but bytes beyond the limit are dropped."""
        size = len(data)
        if size > self._room:
            self.overflowed = True
            self._room = 0
            self.seek(0)
            self.truncate()
        if not self.overflowed:
            self._room -= super().write(data)
        return size


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
                piece = sock.recv(min(nr_bytes - len(received), _RECEIVE_BYTES))
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


def halt(sock: socket.socket, how: int) -> None:
    """Shut the connection down, whichever thread uses it and whether it is broken already.

    Not by ``SSLSocket.shutdown``: that one takes the encryption away from who reads and writes.
    """
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, how)


def say_goodbye(sock: ssl.SSLSocket) -> None:
    """Tell the other side of TLS that nothing more comes, if that can be said at once; on the thread
    that uses the connection."""
    with contextlib.suppress(OSError, ValueError):
        sock.settimeout(0)
        sock.unwrap()  # raises, because it does not wait for the answer


def drain(sock: socket.socket) -> None:
    """Throw away what has come: closing with something unread would take from the peer what was sent."""
    with contextlib.suppress(OSError):
        sock.settimeout(0)
        while socket.socket.recv(sock, _RECEIVE_BYTES):
            pass


def set_options(sock: socket.socket, silence_seconds: float) -> None:
    """No delay for small writes; find out within ``silence_seconds`` that a peer has vanished."""
    with contextlib.suppress(OSError):  # a peer that closed at once: reading will tell
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if silence_seconds and hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(silence_seconds * 1000))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(silence_seconds / 2)))
    acknowledge_at_once(sock)


def acknowledge_at_once(sock: socket.socket) -> None:
    """Do not delay the next acknowledgement; the kernel forgets this, so it is said after each PDU.

    DCMTK writes a PDU's head and body apart and leaves Nagle's algorithm on: its body waits until
    our acknowledgement of the head comes, which the kernel would hold back for 40 ms.
    """
    if hasattr(socket, "TCP_QUICKACK"):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class BoundedDimse(DIMSEServiceProvider):
    """Gathers messages without growing beyond the limits."""

    def __init__(self, assoc: Association, limits: Limits) -> None:
        super().__init__(assoc)
        self._limits = limits

    def receive_primitive(self, primitive: Any) -> None:
        """Take a P-DATA primitive; one that makes no sense aborts the association.

        Its PDVs are taken one by one: the original drops those that follow a complete message.
        """
        for pdv in primitive.presentation_data_value_list:
            single: Any = P_DATA()
            single.presentation_data_value_list = [list(pdv)]
            if not self._receive(single, pdv[1][:1]):
                self.message = None
                self.dul.event_queue.put(INVALID_PDU)
                return

    def _receive(self, primitive: Any, control: bytes) -> bool:
        if self.message is None:
            self.message = DIMSEMessage()
            self.message.data_set = CappedBuffer(min(self._limits.dataset_bytes, GATHERED_BYTES_MAX))
            self.message.encoded_command_set = CappedBuffer(COMMAND_BYTES_MAX)
        name = peer_name(self.assoc)
        # PS3.8 section E.2: a message is its command, then its data. Its class is set by its command.
        commanded = type(self.message) is not DIMSEMessage
        if control and commanded is bool(control[0] & 1):
            log.warning("%s sent %s", name, "a command amid data" if commanded else "data without a command")
            return False
        commands = self.message.encoded_command_set
        if len(self.cancel_req) >= CANCELS_MAX:
            del self.cancel_req[next(iter(self.cancel_req))]
        try:
            super().receive_primitive(primitive)
            if not commanded and self.message is not None:
                # A C-CANCEL that came before this request was for an older one of the same number.
                self.cancel_req.pop(self.message.command_set.get("MessageID"), None)
        except Exception as error:  # noqa: BLE001  whatever a damaged message makes the decoder raise
            log.warning("%s sent a message that cannot be decoded: %s", name, neutral(str(error)))
            return False
        if isinstance(commands, CappedBuffer) and commands.overflowed:
            log.warning("%s sent a command set beyond %d bytes", name, COMMAND_BYTES_MAX)
            return False
        return True


class SendingDimse(BoundedDimse):
    """For associations that we only send on: answers are taken from ``msg_queue`` by who waits.

    pynetdicom's association thread looks for requests with :meth:`get_msg` and drops the answers that
    it gets instead, if it is quicker; its own remedy, to pause the thread, leaves a gap.
    """

    def get_msg(self, block: bool = False) -> Any:
        """Nothing, ever: a peer that we send to has no requests for us."""
        return None, None


class GuardedStateMachine(StateMachine):
    """The state machine of PS3.8 section 9.2; what breaks it ends its association and no more.

    :param on_nonsense: told once or more often of a peer that sends what makes no sense.
    """

    def __init__(self, dul: Any, on_nonsense: Callable[[], None] = lambda: None) -> None:
        super().__init__(dul)
        self._on_nonsense = on_nonsense

    def do_action(self, event: str) -> None:
        before = self.current_state
        if event == INVALID_PDU or (before == "Sta2" and event in _NO_BEGINNING):
            self._on_nonsense()
        try:
            super().do_action(event)
        except Exception as error:  # noqa: BLE001  whatever a malformed PDU makes its decoder raise
            log.warning(
                "%s sent what cannot be understood: %s", peer_name(self.dul.assoc), neutral(str(error))
            )
            self._on_nonsense()
            self._give_up()
        if before == "Sta2" and self.current_state in ("Sta1", "Sta13"):
            # No association came about. Its thread waits for a request until the ACSE timeout and
            # counts as a peer until then: wake it (None is how it learns of a time-out).
            self.dul.to_user_queue.put(None)
        if self.current_state == "Sta13" and isinstance(self.dul.socket, BoundedSocket):
            # The association is over and only closing is left: do not wait for the rest of a PDU.
            self.dul.socket.part()

    def _give_up(self) -> None:
        dul = self.dul
        sock = dul.socket
        if sock is not None:
            abort = A_ABORT_RQ()
            abort.source, abort.reason_diagnostic = 0x02, 0x00
            sock.send(abort.encode())
            sock._shutdown_socket()
        if self.current_state not in ("Sta1", "Sta2", "Sta3"):
            indication = A_P_ABORT()
            indication.provider_reason = 0x00
            dul.to_user_queue.put(indication)
        dul.assoc.dimse.msg_queue.put((None, None))
        self.current_state = "Sta1"
        dul.kill_dul()


def harden(
    assoc: Association,
    limits: Limits,
    client: socket.socket | None = None,
    on_nonsense: Callable[[], None] = lambda: None,
) -> None:
    """Exchange the parts named above. Call it before the association's threads start.

    :param client: the accepted socket of an acceptor; a requestor's socket is made by its AE.
    :param on_nonsense: told of a peer that sends what makes no sense.
    """
    assoc.dimse = BoundedDimse(assoc, limits) if client is not None else SendingDimse(assoc, limits)
    assoc.dul.state_machine = GuardedStateMachine(assoc.dul, on_nonsense)
    if client is not None:
        set_options(client, assoc.network_timeout or 0)
        assoc.dul.event_queue = queue.Queue()  # the new socket announces itself in it
        bounded = BoundedSocket(assoc, client_socket=client)
        bounded.pdu_bytes_max = max(limits.pdu_bytes + 6, PDU_BYTES_TOLERATED)
        assoc.dul.socket = bounded


def outgoing_socket(assoc: Association, address: AddressInformation) -> BoundedSocket:
    return BoundedSocket(assoc, address=address)


def peer_name(assoc: Association) -> str:
    """The other side in words for a log line: ``WS1 (10.1.2.3)``."""
    other = assoc.requestor if assoc.is_acceptor else assoc.acceptor
    title = (other.ae_title or "").strip()
    address = other.address_info.address if other.address_info else "?"
    return f"{neutral(title)} ({address})" if title else address


def gone(assoc: Association) -> bool:
    """Whether the peer aborted, vanished, or asked for release, seen from inside an operation."""
    if not assoc.is_established or not assoc.dul.is_alive():
        return True
    waiting = assoc.dul.peek_next_pdu()
    return waiting is not None


__all__ = ["BoundedSocket", "CappedBuffer", "Limits", "evt", "gone", "harden", "outgoing_socket", "peer_name"]
