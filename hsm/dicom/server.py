"""The association listener: who may come in, what is negotiated, and which service a request goes to.

pynetdicom listens, negotiates and runs the upper layer. It is hooked in one place, the acceptor it
makes for each connection (:mod:`hsm.dicom.listener`): :mod:`hsm.dicom.upperlayer` bounds
it, and its dispatch of requests is replaced by ours. Ours goes by the message and the kind of its
context instead of pynetdicom's list of SOP classes, so that private and unknown storage classes are
served without a process-wide switch, and each service does its own replies.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import weakref
from contextlib import AbstractContextManager
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from hsm.clock import Clock
from hsm.config import DicomConfig, accepting, certificate_warnings
from hsm.dicom.admission import TOO_MANY, Rejection, admit, admit_secured, choose
from hsm.dicom.call import Call
from hsm.dicom.commit import Asks, Commit
from hsm.dicom.contexts import Proposal, is_storage_class
from hsm.dicom.entrance import Entrance, Rules
from hsm.dicom.identity import Identities, answer, given_by
from hsm.dicom.lane import install
from hsm.dicom.listener import Desk, Greeted, Listener, SecureListener
from hsm.dicom.outbound import Outbound
from hsm.dicom.retrieve import Deliveries, Retrievals, Retrieve, Select
from hsm.dicom.rights import AeBook
from hsm.dicom.search import Find, Search
from hsm.dicom.secure import Visit
from hsm.dicom.services import Echo, Services
from hsm.dicom.store import Ingest, Storage
from hsm.dicom.upperlayer import BoundedSocket, Limits, harden, peer_name
from hsm.dicom.waitingroom import WaitingRoom, places
from hsm.log import context as log_context
from hsm.log import get_logger, neutral
from hsm.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

log = get_logger(__name__)

UNRECOGNIZED_OPERATION: Final = 0x0211
MISTYPED_ARGUMENT: Final = 0x0212
POLL_SECONDS: Final = 0.05


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
        commitments: Asks,
        clock: Clock,
        outbound: Outbound | None = None,
    ) -> None:
        """
        :param outbound: what peers are sent at the same time, shared with whoever else sends to them.
        """
        self._outbound = outbound or Outbound(clock)
        self._ae_title = ae_title
        self._commitments = commitments
        self._select = select
        self._retrievals = retrievals
        self._deliveries = deliveries
        self._clock = clock
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._admitted: weakref.WeakSet[Association] = weakref.WeakSet()
        self._busy: weakref.WeakSet[Association] = weakref.WeakSet()
        self._storage, self._search = Storage(ingest), Search(find)
        self._server: Listener | None = None
        self._secure: SecureListener | None = None
        self._serving: list[tuple[Listener, threading.Thread]] = []
        self._desk: Desk | None = None
        self._entrance = Entrance(self._running, self.tell)
        self._identities = Identities(clock.monotonic, secrets.token_bytes(32))
        # Its standard handlers format every PDU for a log that is not written.
        _config.LOG_HANDLER_LEVEL = "none"
        self._ae = AE(ae_title)
        self._ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        self._ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        # Ours to decide (see _admit), so that a reload changes it and half-open peers do not count.
        self._ae.maximum_associations = 2**31
        self._room = WaitingRoom(places(config))
        self._apply(config)

    def start(self, desk: Desk | None = None, port: int | None = None, tls_port: int | None = None) -> None:
        """Bind and begin to serve.

        :param desk: where other processes serve the same port; it says whether this one listens.
        :param port: instead of the configured one; so is ``tls_port``.
        :raises OSError: an address cannot be bound.
        """
        config, tls = self._config, self._config.tls
        self._desk = self._entrance.desk = desk
        listens, shares = desk is None or desk.listens, desk is not None
        plain = listens and (tls is None or not tls.only)
        address = (config.listen, config.port if port is None else port)
        self._server = Listener(self, self._ae, address, listens=plain, shares=shares)
        if tls is not None and listens:
            address = (config.listen, tls.port if tls_port is None else tls_port)
            self._secure = SecureListener(self._server, address, shares=shares)
        for listener in (self._server if plain else None, self._secure):
            if listener is not None:
                self._serve_at(listener)
        if desk is None or not desk.listens:
            self._warn()

    def _serve_at(self, listener: Listener) -> None:
        thread = threading.Thread(
            target=listener.serve_forever, args=(POLL_SECONDS,), name="dicom-listener", daemon=True
        )
        thread.start()
        self._serving.append((listener, thread))
        where, over = listener.server_address, " for TLS" if listener.encrypted else ""
        log.info("DICOM: %s listens on %s port %d%s", self._ae_title, where[0], where[1], over)

    def _warn(self) -> None:
        for problem in self.problems():
            log.warning("%s", problem)

    @property
    def port(self) -> int:
        """The TCP port that is bound; 0 before :meth:`start`, and where there is TLS only."""
        tls_only = self._config.tls is not None and self._config.tls.only
        return 0 if self._server is None or tls_only else int(self._server.server_address[1])

    @property
    def tls_port(self) -> int:
        """The TCP port for TLS that is bound; 0 where there is none."""
        return 0 if self._secure is None else int(self._secure.server_address[1])

    def problems(self) -> list[str]:
        """What an operator should know of the certificates."""
        return certificate_warnings(self._config, self._clock.now())

    @property
    def associations(self) -> int:
        """Associations that stand now."""
        with self._lock:
            return len(self._standing())

    def reload(self, config: DicomConfig) -> None:
        """Use another configuration, and its certificates, from the next association on; address and
        ports stay.

        :raises ConfigError: a certificate or key cannot be used; nothing has changed.
        """
        self._apply(config)
        if self._desk is None or not self._desk.listens:
            self._warn()

    def stop(self, grace_seconds: float) -> None:
        """Stop listening, hand back what waits, let what is being sent or stored finish, then abort.

        Retrieves that wait for media end at once (their deliveries go on after a restart); idle
        associations are aborted at once, busy ones after ``grace_seconds``.
        """
        self._stopping.set()
        if self._server is None:
            return
        for listener, thread in self._serving:
            listener.shutdown_listener()
            thread.join()
        for waiting in (self._server, self._secure):
            if waiting is not None:
                waiting.server_close()
        self._entrance.close()
        deadline = self._clock.monotonic() + grace_seconds
        while (associations := self._server.active_associations) or self._entrance.relayed:
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
        self._entrance.cut_relays()
        self._server = self._secure = None

    def take(self, client: socket.socket, visit: Visit) -> None:
        """Serve a connection that another process accepted."""
        server = self._server
        if server is None or self._stopping.is_set() or not server.verify_request(client, visit.address):
            client.close()
        elif visit.encrypted:
            with self.coming(client, encrypted=True):
                greet = threading.Thread(
                    target=server.greet, args=(client, visit), kwargs={"passed": True}, daemon=True
                )
                greet.start()
            return
        else:
            server.begin(Greeted(client, visit.request, visit.security), visit.address)
        self.tell()
        if self._desk is not None:
            self._desk.arrived()

    def tell(self) -> None:
        """Say at the desk what is served here now; called some times a second."""
        if self._desk is not None and self._server is not None:
            self._desk.note(self.associations, len(self._running()))

    # Called on pynetdicom's threads.

    def coming(self, client: socket.socket, *, encrypted: bool) -> AbstractContextManager[None]:
        return self._entrance.coming(client, encrypted=encrypted)

    def greeting(
        self, client: socket.socket, visit: Visit, *, passed: bool
    ) -> AbstractContextManager[Greeted | None]:
        return self._entrance.greeting(client, visit, passed=passed)

    def has_room(self, *, encrypted: bool) -> bool:
        return self._entrance.has_room(encrypted=encrypted)

    def adopt(self, assoc: Association, greeted: Greeted) -> None:
        """Prepare the acceptor of a new connection; its threads have not started."""
        config = self._config
        assoc.acse_timeout = config.acse_timeout_seconds
        assoc.dimse_timeout = config.dimse_timeout_seconds
        assoc.network_timeout = config.network_timeout_seconds
        assoc.acceptor.maximum_length = config.max_pdu_bytes
        limits = Limits(config.max_pdu_bytes, config.max_dataset_bytes)
        harden(assoc, limits, greeted.client)
        assert isinstance(assoc.dul.socket, BoundedSocket)
        assoc.dul.socket.security = greeted.security
        assoc.dul.socket.hold(greeted.request)
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

    def _running(self) -> list[Association]:
        """Associations and what is to become one: the connections that pynetdicom has."""
        return [] if self._server is None else self._server.active_associations

    def _apply(self, config: DicomConfig) -> None:
        context = None if config.tls is None else accepting(config.tls)
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
            self._outbound,
            self._room,
        )
        self._room.places = places(config)
        self._entrance.rules = Rules(config, context)
        self._config, self._book = config, book
        commit = Commit(book, self._commitments)
        self._services = Services(Echo(), self._storage, self._search, retrieve, commit)

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
        if rejection is None:
            rejection = self._identify(assoc, calling)
        for cx, syntaxes in zip(proposed, choice.narrowed, strict=True):
            # pynetdicom chooses from one list for each SOP class; by narrowing what was proposed we
            # choose for each context.
            cx.transfer_syntax = list(syntaxes)
        assoc.acceptor.supported_contexts = [_supported(uid, ts) for uid, ts in choice.supported.items()]
        return rejection

    def _admit(self, assoc: Association, called: str, calling: str) -> Rejection | None:
        book, desk = self._book, self._desk
        security = assoc.dul.socket.security if isinstance(assoc.dul.socket, BoundedSocket) else None
        with self._lock, contextlib.nullcontext(0) if desk is None else desk.admitting() as elsewhere:
            rejection = admit(
                called,
                calling,
                self._ae_title,
                self._config.check_called_ae,
                book,
                elsewhere + len(self._standing()) < self._config.max_associations,
            )
            rejection = rejection or admit_secured(book.by_title.get(calling), security)
            if rejection is None and self._stopping.is_set():
                rejection = TOO_MANY
            if rejection is None:
                self._admitted.add(assoc)
                if desk is not None:
                    desk.note(len(self._standing()), len(self._running()))
            return rejection

    def _identify(self, assoc: Association, calling: str) -> Rejection | None:
        """Whether its user may come; one that wants to hear it is told."""
        given = given_by(assoc)
        address = assoc.requestor.address_info.address if assoc.requestor.address_info else "?"
        ae = self._book.by_title.get(calling)
        finding = self._identities.judge(self._config, ae, address, given)
        if finding.user:
            log.info("%s is %s", peer_name(assoc), neutral(finding.user))
            if given is not None and given.wants_answer:
                answer(assoc)
        return finding.rejection

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
        service = self._services.of(message, call.abstract_syntax)
        if service is None:
            call.reply(UNRECOGNIZED_OPERATION)
            return
        service.serve(call, self._book.rights(call.calling))


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
