"""pynetdicom's server and request handler: where connections come in, and who is asked about them."""

from __future__ import annotations

import socket
import socketserver
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from hsm.dicom.boundedsocket import BoundedSocket
from hsm.dicom.contexts import VERIFICATION
from hsm.dicom.peers import peer_name
from hsm.dicom.secure import Security, Visit
from hsm.log import get_logger, neutral

log = get_logger(__name__)

BACKLOG: Final = 128


@dataclass(frozen=True, slots=True)
class Greeted:
    """A connection that is served here."""

    client: socket.socket
    request: bytes = b""
    """What was read of it."""
    security: Security | None = None
    door: str = ""
    """The name of the listener that it came in at."""


class Desk(Protocol):
    """What this process has to agree on with others that serve the same port."""

    @property
    def listens(self) -> bool:
        """Whether this process accepts connections itself; else it serves what it is given."""
        ...

    def keeps(self, client: socket.socket, visit: Visit) -> bool:
        """Whether a new connection, of which the first PDU was read, is served here. If not, it was
        passed on, and is only to be closed."""
        ...

    def chooses(self, client: socket.socket, visit: Visit) -> bool:
        """Whether a TLS connection that has not shaken hands is served here. If not, it was passed on.

        :raises OSError: nobody takes it.
        """
        ...

    def hands_over(self, client: socket.socket, visit: Visit) -> None:
        """Let the daemon serve a connection; the descriptor stays the caller's.

        :raises OSError: it does not take it.
        """
        ...

    def admitting(self, door: int) -> AbstractContextManager[tuple[int, int]]:
        """Nobody else admits an association meanwhile; gives how many stand in the other processes, and
        how many of them came in at a door.

        :param door: its number, in the order of the configuration.
        """
        ...

    def note(self, standing: Sequence[int], connections: int) -> None:
        """Tell the others how many associations, by door, and connections this process has now."""
        ...

    def arrived(self) -> None:
        """A connection that was to be served here is among the connections now."""
        ...


class Owner(Protocol):
    """Who decides about connections; :class:`hsm.dicom.server.DicomServer` is one."""

    def refuses(self, door: str, address: tuple[Any, ...]) -> bool:
        """Whether a new connection is hung up on at once."""
        ...

    def coming(self, client: socket.socket, visit: Visit) -> AbstractContextManager[None]: ...

    def greeting(
        self, client: socket.socket, visit: Visit, *, passed: bool
    ) -> AbstractContextManager[Greeted | None]: ...

    def adopt(self, assoc: Association, greeted: Greeted) -> None: ...

    def requested(self, event: evt.Event) -> None: ...

    def tell(self) -> None: ...


class _Handler(RequestHandler):
    def __init__(self, greeted: Greeted, address: Any, server: Hub) -> None:
        self._greeted = greeted
        super().__init__(greeted.client, address, server)  # all happens in it

    def _create_association(self) -> Association:
        server = self.server
        assert isinstance(server, Hub)
        assoc = super()._create_association()
        server.owner.adopt(assoc, self._greeted)
        return assoc


class Hub(ThreadedAssociationServer):
    """pynetdicom's server, without a port: all associations of the process begin and are counted here."""

    daemon_threads = True

    def __init__(self, owner: Owner, ae: AE) -> None:
        self.owner = owner
        super().__init__(
            ae,
            ("127.0.0.1", 0),
            ae.ae_title,
            [build_context(VERIFICATION)],
            evt_handlers=[(evt.EVT_REQUESTED, owner.requested), (evt.EVT_ESTABLISHED, _log_established)],
        )
        assert self.socket is not None
        self.socket.close()

    def server_bind(self) -> None:
        """It has no port."""

    def server_activate(self) -> None:
        """Nor does it listen."""

    def greet(self, client: socket.socket, visit: Visit, *, passed: bool) -> None:
        """Find out what a connection comes for, and start its association if it is served here; on a
        thread of its own."""
        with self.owner.greeting(client, visit, passed=passed) as greeted:
            if greeted is None:
                self.close_request(client)  # not shut down: another process may have it
            else:
                self.begin(greeted, visit.address)

    def begin(self, greeted: Greeted, address: Any) -> None:
        """Start the association of a connection."""
        try:
            _Handler(greeted, address, self)
        except Exception:  # noqa: BLE001  as pynetdicom does
            self.handle_error(greeted.client, address)
            self.shutdown_request(greeted.client)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.exception("connection from %s failed", client_address[0])


class Listener(socketserver.ThreadingTCPServer):
    """One address and port where connections come in, with a longer queue and a bound on them.

    Each has a thread of its own until its association begins: a TLS handshake that is slow, or garbage,
    keeps nobody waiting.

    :param door: its name, by which its rules are found.
    :param shares: whether other processes listen at the same port.
    :raises OSError: the address cannot be bound.
    """

    request_queue_size = BACKLOG
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(
        self, hub: Hub, door: str, address: tuple[str, int], *, encrypted: bool, shares: bool
    ) -> None:
        self.door = door
        self.encrypted = encrypted
        self._hub = hub
        self._owner = hub.owner
        self._shares = shares
        self.address_family, *_, where = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        super().__init__(where, socketserver.BaseRequestHandler)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        if self._shares:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return not self._owner.refuses(self.door, client_address)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._owner.coming(request, self._visit(client_address)):
            super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Unlike the original, leave the connection to who serves it."""
        try:
            self._hub.greet(request, self._visit(client_address), passed=False)
        except Exception:
            log.exception("connection from %s failed", client_address[0])
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.exception("connection from %s failed", client_address[0])

    def _visit(self, address: Any) -> Visit:
        return Visit(address, encrypted=self.encrypted, door=self.door)

    def service_actions(self) -> None:
        self._owner.tell()

    def shutdown_listener(self) -> None:
        """Stop accepting; associations go on."""
        self.shutdown()
        self.server_close()


def _log_established(event: evt.Event) -> None:
    sock = event.assoc.dul.socket
    security = sock.security if isinstance(sock, BoundedSocket) else None
    over = ""
    if security is not None:
        over = f" over {security.version}, {neutral(', '.join(security.names)) or 'without a certificate'}"
    log.info("association from %s%s", peer_name(event.assoc), over)
