"""pynetdicom's server and request handler: where connections come in, and who is asked about them."""

from __future__ import annotations

import socket
from contextlib import AbstractContextManager
from dataclasses import dataclass
from socketserver import BaseServer
from typing import Any, Final, Protocol

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from hsm.dicom.contexts import VERIFICATION
from hsm.dicom.secure import Security, Visit
from hsm.dicom.upperlayer import BoundedSocket, peer_name
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


class Desk(Protocol):
    """What this process has to agree on with others that serve the same port."""

    @property
    def listens(self) -> bool:
        """Whether this process accepts connections itself; else it serves what it is given."""
        ...

    def keeps(self, client: socket.socket, address: tuple[Any, ...], request: bytes) -> bool:
        """Whether a new connection is served here. If not, it was passed on, and is only to be closed.

        :param request: the first PDU, or what was read of it.
        """
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

    def admitting(self) -> AbstractContextManager[int]:
        """Nobody else admits an association meanwhile; gives how many stand in the other processes."""
        ...

    def note(self, standing: int, connections: int) -> None:
        """Tell the others how many associations and connections this process has now."""
        ...

    def arrived(self) -> None:
        """A connection that was to be served here is among the connections now."""
        ...


class Owner(Protocol):
    """Who decides about connections; :class:`hsm.dicom.server.DicomServer` is one."""

    def has_room(self, *, encrypted: bool) -> bool: ...

    def coming(self, client: socket.socket, *, encrypted: bool) -> AbstractContextManager[None]: ...

    def greeting(
        self, client: socket.socket, visit: Visit, *, passed: bool
    ) -> AbstractContextManager[Greeted | None]: ...

    def adopt(self, assoc: Association, greeted: Greeted) -> None: ...

    def requested(self, event: evt.Event) -> None: ...

    def tell(self) -> None: ...


class _Handler(RequestHandler):
    def __init__(self, greeted: Greeted, address: Any, server: Listener) -> None:
        self._greeted = greeted
        super().__init__(greeted.client, address, server)  # all happens in it

    def _create_association(self) -> Association:
        server = self.server
        assert isinstance(server, Listener)
        assoc = super()._create_association()
        server.owner.adopt(assoc, self._greeted)
        return assoc


class Listener(ThreadedAssociationServer):
    """pynetdicom's server with a longer queue and a bound on connections.

    :param listens: whether it has a port; else it serves what it is given.
    :param shares: whether other processes listen at the same port.
    """

    request_queue_size = BACKLOG
    daemon_threads = True
    encrypted = False

    def __init__(
        self, owner: Owner, ae: AE, address: tuple[str, int], *, listens: bool, shares: bool
    ) -> None:
        self.owner = owner
        self._listens = listens
        self._shares = shares
        super().__init__(
            ae,
            address,
            ae.ae_title,
            [build_context(VERIFICATION)],
            evt_handlers=[(evt.EVT_REQUESTED, owner.requested), (evt.EVT_ESTABLISHED, _log_established)],
        )

    def server_bind(self) -> None:
        if self._listens:
            assert self.socket is not None
            if self._shares:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            super().server_bind()

    def server_activate(self) -> None:
        if self._listens:
            super().server_activate()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.owner.coming(request, encrypted=self.encrypted):
            super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """On a thread of its own."""
        self.greet(request, Visit(client_address, encrypted=self.encrypted), passed=False)

    def greet(self, client: socket.socket, visit: Visit, *, passed: bool) -> None:
        """Find out what a connection comes for, and start its association if it is served here."""
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

    def verify_request(self, request: Any, client_address: Any) -> bool:
        if self.owner.has_room(encrypted=self.encrypted):
            return True
        log.warning("connection from %s refused: too many are open", client_address[0])
        return False

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.exception("connection from %s failed", client_address[0])

    def service_actions(self) -> None:
        """The original collects garbage every three seconds, for 0.1 s in which nobody else runs.
        What dead associations leave is collected when Python finds that there is enough of it."""
        self.owner.tell()

    def shutdown_listener(self) -> None:
        """Stop accepting; associations go on."""
        # Not our parent's shutdown(), which wants to have been started by its AE.
        BaseServer.shutdown(self)
        self.server_close()


class SecureListener(Listener):
    """The port for TLS. Associations are those of the other listener.

    The handshake has a thread of its own for each connection: one that is slow, or garbage, keeps
    nobody waiting.
    """

    encrypted = True

    def __init__(self, into: Listener, address: tuple[str, int], *, shares: bool) -> None:
        self._into = into
        super().__init__(into.owner, into.ae, address, listens=True, shares=shares)

    def begin(self, greeted: Greeted, address: Any) -> None:
        self._into.begin(greeted, address)

    def service_actions(self) -> None:
        """The other one does it."""


def _log_established(event: evt.Event) -> None:
    sock = event.assoc.dul.socket
    security = sock.security if isinstance(sock, BoundedSocket) else None
    over = ""
    if security is not None:
        over = f" over {security.version}, {neutral(', '.join(security.names)) or 'without a certificate'}"
    log.info("association from %s%s", peer_name(event.assoc), over)
