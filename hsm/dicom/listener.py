"""pynetdicom's server and request handler: where connections come in, and who is asked about them."""

from __future__ import annotations

import socket
from contextlib import AbstractContextManager
from socketserver import BaseServer
from typing import Any, Final, Protocol

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from hsm.dicom.contexts import VERIFICATION
from hsm.dicom.upperlayer import peer_name
from hsm.log import get_logger

log = get_logger(__name__)

BACKLOG: Final = 128


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

    def has_room_for_connection(self) -> bool: ...

    def coming(self, client: socket.socket) -> AbstractContextManager[None]: ...

    def greeting(
        self, client: socket.socket, address: tuple[Any, ...]
    ) -> AbstractContextManager[bytes | None]: ...

    def adopt(self, assoc: Association, client: socket.socket, request: bytes) -> None: ...

    def requested(self, event: evt.Event) -> None: ...

    def tell(self) -> None: ...


class _Handler(RequestHandler):
    def __init__(self, client: Any, address: Any, server: Listener, first: bytes) -> None:
        self._first = first
        super().__init__(client, address, server)  # all happens in it

    def _create_association(self) -> Association:
        server = self.server
        assert isinstance(server, Listener)
        assoc = super()._create_association()
        client = self.request
        assert isinstance(client, socket.socket)
        server.owner.adopt(assoc, client, self._first)
        return assoc


class Listener(ThreadedAssociationServer):
    """pynetdicom's server with a longer queue and a bound on connections."""

    request_queue_size = BACKLOG
    daemon_threads = True

    def __init__(self, owner: Owner, ae: AE, address: tuple[str, int], desk: Desk | None) -> None:
        self.owner = owner
        self._desk = desk
        super().__init__(
            ae,
            address,
            ae.ae_title,
            [build_context(VERIFICATION)],
            evt_handlers=[(evt.EVT_REQUESTED, owner.requested), (evt.EVT_ESTABLISHED, _log_established)],
        )

    def server_bind(self) -> None:
        if self._desk is None:
            super().server_bind()
        elif self._desk.listens:
            assert self.socket is not None
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            super().server_bind()

    def server_activate(self) -> None:
        if self._desk is None or self._desk.listens:
            super().server_activate()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.owner.coming(request):
            super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """On a thread of its own."""
        with self.owner.greeting(request, client_address) as first:
            if first is None:
                self.close_request(request)  # not shut down: another process may have it
            else:
                _Handler(request, client_address, self, first)

    def begin(self, client: socket.socket, address: Any, first: bytes) -> None:
        """Start the association of a connection that was accepted elsewhere."""
        try:
            _Handler(client, address, self, first)
        except Exception:  # noqa: BLE001  as pynetdicom does for what it accepts itself
            self.handle_error(client, address)
            self.shutdown_request(client)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        if self.owner.has_room_for_connection():
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


def _log_established(event: evt.Event) -> None:
    log.info("association from %s", peer_name(event.assoc))
