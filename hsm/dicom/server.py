"""The association listener: who may come in, what is negotiated, and which service a request goes to.

pynetdicom listens, negotiates and runs the upper layer. It is hooked in one place, the acceptor it
makes for each connection (:mod:`hsm.dicom.listener`): :mod:`hsm.dicom.upperlayer` bounds
it, and its dispatch of requests is replaced by ours. Ours goes by the message and the kind of its
context instead of pynetdicom's list of SOP classes, so that private and unknown storage classes are
served without a process-wide switch, and each service does its own replies.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from collections.abc import Iterator
from typing import Any, Final, Protocol

from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_ECHO, C_FIND, C_GET, C_MOVE, C_STORE
from pynetdicom.presentation import PresentationContext, build_context

from hsm.clock import Clock
from hsm.config import DicomConfig
from hsm.dicom.admission import TOO_MANY, Rejection, admit, choose
from hsm.dicom.call import Call
from hsm.dicom.contexts import QUERY_RETRIEVE, VERIFICATION, Operation, Proposal, is_storage_class
from hsm.dicom.greet import read_request
from hsm.dicom.lane import install
from hsm.dicom.listener import Desk, Listener
from hsm.dicom.retrieve import Deliveries, Retrievals, Retrieve, Select
from hsm.dicom.rights import NOT_AUTHORIZED, AeBook
from hsm.dicom.search import Find, Search
from hsm.dicom.store import Ingest, Storage
from hsm.dicom.upperlayer import BoundedSocket, Limits, harden, peer_name
from hsm.log import context as log_context
from hsm.log import get_logger, neutral
from hsm.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

log = get_logger(__name__)

UNRECOGNIZED_OPERATION: Final = 0x0211
MISTYPED_ARGUMENT: Final = 0x0212
CONNECTIONS_PER_ASSOCIATION: Final = 4
"""Connections that may be open, for each association that may: half-open ones cost threads too."""
POLL_SECONDS: Final = 0.05


class Service(Protocol):
    """Answers one kind of request, whatever happens."""

    def serve(self, call: Call, rights: frozenset[str]) -> None: ...


class Echo:
    """Verification, PS3.4 annex A."""

    def serve(self, call: Call, rights: frozenset[str]) -> None:
        call.reply(0x0000 if "echo" in rights else NOT_AUTHORIZED)


class DicomServer:
    """Listens for associations and serves them until it is stopped."""

    def __init__(
        self,
        config: DicomConfig,
        ae_title: str,
        ingest: Ingest,
        select: Select,
        find: Find,
        retrievals: Retrievals,
        deliveries: Deliveries,
        clock: Clock,
    ) -> None:
        self._ae_title = ae_title
        self._select = select
        self._retrievals = retrievals
        self._deliveries = deliveries
        self._clock = clock
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._admitted: weakref.WeakSet[Association] = weakref.WeakSet()
        self._busy: weakref.WeakSet[Association] = weakref.WeakSet()
        self._echo, self._storage, self._search = Echo(), Storage(ingest), Search(find)
        self._server: Listener | None = None
        self._thread: threading.Thread | None = None
        self._desk: Desk | None = None
        self._greeting: set[socket.socket] = set()
        # Its standard handlers format every PDU for a log that is not written.
        _config.LOG_HANDLER_LEVEL = "none"
        self._ae = AE(ae_title)
        self._ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        self._ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        # Ours to decide (see _admit), so that a reload changes it and half-open peers do not count.
        self._ae.maximum_associations = 2**31
        self._apply(config)

    def start(self, desk: Desk | None = None, port: int | None = None) -> None:
        """Bind and begin to serve.

        :param desk: where other processes serve the same port; it says whether this one listens.
        :param port: instead of the configured one.
        :raises OSError: the address cannot be bound.
        """
        address = (self._config.listen, self._config.port if port is None else port)
        self._desk = desk
        self._server = Listener(self, self._ae, address, desk)
        if desk is not None and not desk.listens:
            return
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="dicom-listener", daemon=True
        )
        self._thread.start()
        log.info("DICOM: %s listens on %s port %d", self._ae_title, self._config.listen, self.port)

    @property
    def port(self) -> int:
        """The TCP port that is bound; 0 before :meth:`start`."""
        return 0 if self._server is None else int(self._server.server_address[1])

    @property
    def associations(self) -> int:
        """Associations that stand now."""
        with self._lock:
            return len(self._standing())

    def reload(self, config: DicomConfig) -> None:
        """Use another configuration from the next association on; address and port stay."""
        self._apply(config)

    def stop(self, grace_seconds: float) -> None:
        """Stop listening, hand back what waits, let what is being sent or stored finish, then abort.

        Retrieves that wait for media end at once (their deliveries go on after a restart); idle
        associations are aborted at once, busy ones after ``grace_seconds``.
        """
        self._stopping.set()
        if self._server is None:
            return
        if self._thread is not None:
            self._server.shutdown_listener()
            self._thread.join()
        else:
            self._server.server_close()
        for client in self._greeting.copy():
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RD)
        deadline = self._clock.monotonic() + grace_seconds
        while associations := self._server.active_associations:
            late = self._clock.monotonic() >= deadline
            for assoc in associations:
                if assoc in self._busy and not late:
                    continue
                if assoc.is_established and not late:
                    assoc.abort(block=False)
                else:
                    _cut(assoc)  # one that is only half open too: it has nothing to lose
            if late:
                break
            self._clock.wait(threading.Event(), POLL_SECONDS)
        for assoc in self._server.active_associations:
            assoc.join(1.0)
        self._server = None

    def take(self, client: socket.socket, address: tuple[Any, ...], request: bytes) -> None:
        """Serve a connection that another process accepted and read ``request`` of."""
        server = self._server
        if server is None or self._stopping.is_set() or not server.verify_request(client, address):
            client.close()
            return
        try:
            server.begin(client, address, request)
        finally:
            self._arrived()

    def tell(self) -> None:
        """Say at the desk what is served here now; called some times a second."""
        if self._desk is not None and self._server is not None:
            self._desk.note(self.associations, self._connections())

    # Called on pynetdicom's threads.

    @contextlib.contextmanager
    def coming(self, client: socket.socket) -> Iterator[None]:
        """A connection was accepted; the block starts the thread that greets it."""
        self._greeting.add(client)
        try:
            yield
        except BaseException:
            self._greeting.discard(client)
            raise

    @contextlib.contextmanager
    def greeting(self, client: socket.socket, address: tuple[Any, ...]) -> Iterator[bytes | None]:
        """Gives what was read of a new connection, or None if it is not served here, and only to be
        closed. If it is, its association starts in the block."""
        request: bytes | None = b""
        try:
            if self._desk is not None:
                request = self._greet(self._desk, client, address)
            yield request
        finally:
            if self._desk is not None and request is not None:
                self._arrived()
            self._greeting.discard(client)

    def _greet(self, desk: Desk, client: socket.socket, address: tuple[Any, ...]) -> bytes | None:
        try:
            request = read_request(client, self._config.acse_timeout_seconds)
            return request if desk.keeps(client, address, request) else None
        except OSError as error:
            log.info("connection from %s came to no association: %s", address[0], error)
            return None

    def _arrived(self) -> None:
        self.tell()
        if self._desk is not None:
            self._desk.arrived()

    def adopt(self, assoc: Association, client: socket.socket, request: bytes) -> None:
        """Prepare the acceptor of a new connection; its threads have not started.

        :param request: what was read of it.
        """
        config = self._config
        assoc.acse_timeout = config.acse_timeout_seconds
        assoc.dimse_timeout = config.dimse_timeout_seconds
        assoc.network_timeout = config.network_timeout_seconds
        assoc.acceptor.maximum_length = config.max_pdu_bytes
        limits = Limits(config.max_pdu_bytes, config.max_dataset_bytes)
        harden(assoc, limits, client)
        assert isinstance(assoc.dul.socket, BoundedSocket)
        assoc.dul.socket.hold(request)
        install(assoc, assoc.dul.socket, self._storage, self, limits)
        setattr(assoc, "_serve_request", lambda message, context_id: self._serve(assoc, message, context_id))  # noqa: B010

    def rights(self, assoc: Association) -> frozenset[str]:
        """What the peer of an association may do."""
        return self._book.rights((assoc.requestor.ae_title or "").strip())

    def enter(self, assoc: Association) -> None:
        """A request is under way: :meth:`stop` waits for it."""
        self._busy.add(assoc)

    def leave(self, assoc: Association) -> None:
        self._busy.discard(assoc)

    def is_busy(self, assoc: Association) -> bool:
        return assoc in self._busy

    def has_room_for_connection(self) -> bool:
        """Whether one more TCP connection is taken; half-open ones live for the ACSE timeout."""
        limit = CONNECTIONS_PER_ASSOCIATION * self._config.max_associations
        return len(self._greeting) + self._connections() < limit

    def _connections(self) -> int:
        """Those that pynetdicom has."""
        return 0 if self._server is None else len(self._server.active_associations)

    def _apply(self, config: DicomConfig) -> None:
        book = AeBook.of(config)
        retrieve = Retrieve(
            config,
            self._ae_title,
            book,
            self._select,
            self._retrievals,
            self._deliveries,
            self._clock,
            self._stopping,
        )
        self._config, self._book, self._retrieve = config, book, retrieve

    def requested(self, event: evt.Event) -> None:
        """An A-ASSOCIATE-RQ came: reject it, or say what of it is supported."""
        assoc = event.assoc
        try:
            rejection = self._negotiate(assoc)
        except Exception as error:  # noqa: BLE001  a request that is valid for its parser and still absurd
            log.warning("association request from %s is malformed: %s", peer_name(assoc), neutral(str(error)))
            assoc.acse.send_abort(0x02)
        else:
            if rejection is None:
                return
            log.warning("association from %s rejected: %s", peer_name(assoc), rejection.reason)
            assoc.acse.send_reject(rejection.result, rejection.source, rejection.diagnostic)
        assoc.kill()  # waits until the answer is out; our caller closes the socket next

    def _negotiate(self, assoc: Association) -> Rejection | None:
        request: Any = assoc.requestor.primitive
        calling = str(request.calling_ae_title or "").strip()
        assoc.requestor.ae_title = calling
        proposed = request.presentation_context_definition_list
        choice = choose(
            [Proposal(str(cx.abstract_syntax), tuple(map(str, cx.transfer_syntax))) for cx in proposed]
        )
        rejection = self._admit(assoc, str(request.called_ae_title or "").strip(), calling)
        for cx, syntaxes in zip(proposed, choice.narrowed, strict=True):
            # pynetdicom chooses from one list for each SOP class; by narrowing what was proposed we
            # choose for each context.
            cx.transfer_syntax = list(syntaxes)
        assoc.acceptor.supported_contexts = [_supported(uid, ts) for uid, ts in choice.supported.items()]
        return rejection

    def _admit(self, assoc: Association, called: str, calling: str) -> Rejection | None:
        desk = self._desk
        with self._lock, contextlib.nullcontext(0) if desk is None else desk.admitting() as elsewhere:
            rejection = admit(
                called,
                calling,
                self._ae_title,
                self._config.check_called_ae,
                self._book,
                elsewhere + len(self._standing()) < self._config.max_associations,
            )
            if rejection is None and self._stopping.is_set():
                rejection = TOO_MANY
            if rejection is None:
                self._admitted.add(assoc)
                if desk is not None:
                    desk.note(len(self._standing()), self._connections())
            return rejection

    def _standing(self) -> list[Association]:
        return [assoc for assoc in self._admitted if assoc.is_alive()]

    def _serve(self, assoc: Association, message: Any, context_id: int) -> None:
        """Handle one DIMSE message; replaces Association._serve_request()."""
        with log_context(peer=peer_name(assoc)):
            self._busy.add(assoc)
            try:
                self._dispatch(assoc, message, context_id)
            except Exception:
                log.exception("request from %s failed, association aborted", peer_name(assoc))
                assoc.abort()
            finally:
                self._busy.discard(assoc)
                # It counts silence since the peer's last PDU; a peer that waited for a long retrieve
                # was not idle.
                assoc.dul._idle_timer.restart()

    def _dispatch(self, assoc: Association, message: Any, context_id: int) -> None:
        if context_id not in assoc._accepted_cx:
            log.warning(
                "%s uses presentation context %s, which it does not have", peer_name(assoc), context_id
            )
            assoc.abort()
            return
        if message.MessageID is None:
            log.warning("%s sent an unexpected %s", peer_name(assoc), type(message).__name__)
            return
        call = Call(assoc, message, context_id)
        if not message.is_valid_request:
            call.reply(MISTYPED_ARGUMENT)
            return
        service = self._service(message, call.abstract_syntax)
        if service is None:
            call.reply(UNRECOGNIZED_OPERATION)
            return
        service.serve(call, self._book.rights(call.calling))

    def _service(self, message: Any, abstract_syntax: str) -> Service | None:
        """What serves this message in a context of this abstract syntax, if anything does."""
        match message:
            case C_STORE() if is_storage_class(abstract_syntax):
                return self._storage
            case C_ECHO() if abstract_syntax == VERIFICATION:
                return self._echo
        operation = QUERY_RETRIEVE.get(abstract_syntax, (None, None))[1]
        match message, operation:
            case C_FIND(), Operation.FIND:
                return self._search
            case (C_MOVE(), Operation.MOVE) | (C_GET(), Operation.GET):
                return self._retrieve
        return None


def _supported(abstract_syntax: str, transfer_syntaxes: tuple[str, ...]) -> PresentationContext:
    context = build_context(abstract_syntax, list(transfer_syntaxes))
    if is_storage_class(abstract_syntax):
        # For C-GET the requestor takes the SCP role (PS3.4 section C.5.3).
        context.scu_role = context.scp_role = True
    return context


def _cut(assoc: Association) -> None:
    """End an association at once, even one whose thread blocks in reading or sending."""
    assoc._kill = True
    sock = assoc.dul.socket
    if isinstance(sock, BoundedSocket):
        sock.cut()
