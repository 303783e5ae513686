"""The association listener: who may come in, and what is negotiated.

pynetdicom listens, negotiates and runs the upper layer. It is hooked in one place, the acceptor it
makes for each connection (:mod:`hsm.dicom.listener`): :mod:`hsm.dicom.upperlayer` bounds
it, and its dispatch of requests is replaced by ours (:mod:`hsm.dicom.requests`).
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association

from hsm.clock import Clock
from hsm.config import DicomConfig, certificate_warnings
from hsm.dicom.admission import TOO_MANY, Rejection
from hsm.dicom.aftermath import leave_nothing
from hsm.dicom.answercontexts import answer_contexts
from hsm.dicom.boundeddimse import Limits
from hsm.dicom.boundedsocket import BoundedSocket
from hsm.dicom.commit import Asks, Commit
from hsm.dicom.deliverynotes import Deliveries
from hsm.dicom.doorman import Doorman
from hsm.dicom.entrance import Entrance, Rules
from hsm.dicom.identity import Identities, answer, given_by
from hsm.dicom.lane import install
from hsm.dicom.listener import Desk, Greeted, Hub, Listener
from hsm.dicom.outbound import Outbound
from hsm.dicom.peers import peer_name
from hsm.dicom.requests import Requests
from hsm.dicom.retrieve import Retrievals, Retrieve, Select
from hsm.dicom.search import Find, Search
from hsm.dicom.secure import Visit
from hsm.dicom.services import Echo, Services
from hsm.dicom.standing import Standing, address_of, calling_of, once
from hsm.dicom.store import Ingest, Storage
from hsm.dicom.upperlayer import harden
from hsm.dicom.waitingroom import WaitingRoom, places
from hsm.log import get_logger, neutral
from hsm.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from hsm.refusals import Refusal

log = get_logger(__name__)

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
        refused: Callable[[Refusal], None] = lambda refusal: None,
    ) -> None:
        """
        :param outbound: what peers are sent at the same time, shared with whoever else sends to them.
        :param refused: told of what was refused to whom.
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
        self._standing = Standing()
        self._storage, self._search = Storage(ingest), Search(find)
        self._server: Hub | None = None
        self._serving: list[tuple[Listener, threading.Thread]] = []
        self._desk: Desk | None = None
        self._doorman = Doorman(config, ae_title, clock.monotonic, refused)
        self._entrance = Entrance(self._running, self.tell, self._doorman.unsecured)
        self._identities = Identities(clock.monotonic, secrets.token_bytes(32))
        # Its standard handlers format every PDU for a log that is not written.
        _config.LOG_HANDLER_LEVEL = "none"
        self._ae = AE(ae_title)
        self._ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        self._ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        # Ours to decide (see _admit), so that a reload changes it and half-open peers do not count.
        self._ae.maximum_associations = 2**31
        self._room = WaitingRoom(places(config))
        self._requests = Requests(self._standing, self.rights, self.refused)
        self._apply(config)

    def start(self, desk: Desk | None = None, ports: Mapping[str, int] | None = None) -> None:
        """Bind and begin to serve.

        :param desk: where other processes serve the same ports; it says whether this one listens.
        :param ports: by the name of a door, instead of the configured ones.
        :raises OSError: an address cannot be bound; what was bound before is let go.
        """
        self._desk = self._entrance.desk = desk
        self._server = Hub(self, self._ae)
        if desk is None or desk.listens:
            made = []
            try:
                for door in self._config.doors:
                    address = (door.listen, (ports or {}).get(door.name, door.port))
                    encrypted, shares = door.tls is not None, desk is not None
                    made.append(
                        Listener(self._server, door.name, address, encrypted=encrypted, shares=shares)
                    )
            except OSError:
                for listener in made:
                    listener.server_close()
                raise
            for listener in made:
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
        log.info(
            "DICOM: %s listens on %s port %d%s (%s)", self._ae_title, where[0], where[1], over, listener.door
        )

    def _warn(self) -> None:
        for problem in self.problems():
            log.warning("%s", problem)

    @property
    def ports(self) -> dict[str, int]:
        """The TCP ports that are bound, by the names of their doors; none before :meth:`start`."""
        return {listener.door: int(listener.server_address[1]) for listener, _ in self._serving}

    @property
    def port(self) -> int:
        """The first TCP port that is bound without TLS; 0 where there is none."""
        return next((int(each.server_address[1]) for each, _ in self._serving if not each.encrypted), 0)

    @property
    def tls_port(self) -> int:
        """The first TCP port for TLS that is bound; 0 where there is none."""
        return next((int(each.server_address[1]) for each, _ in self._serving if each.encrypted), 0)

    def problems(self) -> list[str]:
        """What an operator should know of the certificates."""
        return certificate_warnings(self._config, self._clock.now())

    @property
    def associations(self) -> int:
        """Associations that stand now."""
        with self._lock:
            return sum(self._by_door())

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
        self._server.server_close()
        self._entrance.close()
        deadline = self._clock.monotonic() + grace_seconds
        while (associations := self._server.active_associations) or self._entrance.relayed:
            late = self._clock.monotonic() >= deadline
            for assoc in associations:
                if self._standing.is_busy(assoc) and not late:
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
        self._server = None
        self._serving = []

    def take(self, client: socket.socket, visit: Visit) -> None:
        """Serve a connection that another process accepted."""
        server = self._server
        if server is None or self._stopping.is_set() or not self._has_room(visit.door, visit.address):
            client.close()
        elif visit.encrypted:
            with self.coming(client, visit):
                greet = threading.Thread(
                    target=server.greet, args=(client, visit), kwargs={"passed": True}, daemon=True
                )
                greet.start()
            return
        else:
            server.begin(Greeted(client, visit.request, visit.security, visit.door), visit.address)
        self.tell()
        if self._desk is not None:
            self._desk.arrived()

    def tell(self) -> None:
        """Say at the desk what is served here now; called some times a second."""
        if self._desk is not None and self._server is not None:
            with self._lock:
                standing = self._by_door()
            self._desk.note(standing, len(self._running()))

    # Called on pynetdicom's threads.

    def coming(self, client: socket.socket, visit: Visit) -> AbstractContextManager[None]:
        return self._entrance.coming(client, visit)

    def greeting(
        self, client: socket.socket, visit: Visit, *, passed: bool
    ) -> AbstractContextManager[Greeted | None]:
        return self._entrance.greeting(client, visit, passed=passed)

    def refuses(self, door: str, address: tuple[Any, ...]) -> bool:
        """Whether a new connection is hung up on at once."""
        return self._doorman.hangs_up(door, str(address[0])) or not self._has_room(door, address)

    def _has_room(self, door: str, address: tuple[Any, ...]) -> bool:
        if self._entrance.has_room(door):
            return True
        log.warning("connection from %s refused: too many are open", address[0])
        return False

    def adopt(self, assoc: Association, greeted: Greeted) -> None:
        """Prepare the acceptor of a new connection; its threads have not started."""
        config = self._config
        assoc.acse_timeout = config.acse_timeout_seconds
        assoc.dimse_timeout = config.dimse_timeout_seconds
        assoc.network_timeout = config.network_timeout_seconds
        assoc.acceptor.maximum_length = config.max_pdu_bytes
        limits = Limits(config.max_pdu_bytes, config.max_dataset_bytes)
        self._standing.came(assoc, greeted.door)
        address = address_of(assoc)
        harden(assoc, limits, greeted.client, once(partial(self._doorman.failed, greeted.door, address)))
        assert isinstance(assoc.dul.socket, BoundedSocket)
        assoc.dul.socket.security = greeted.security
        assoc.dul.socket.door = greeted.door
        assoc.dul.socket.hold(greeted.request)
        install(assoc, assoc.dul.socket, self._storage, self, limits)
        leave_nothing(assoc)
        setattr(assoc, "_serve_request", partial(self._requests.serve, assoc))  # noqa: B010

    def rights(self, assoc: Association) -> frozenset[str]:
        """What the peer of an association may do."""
        return self._doorman.rights(self._standing.door(assoc), calling_of(assoc))

    def refused(self, assoc: Association, act: str, why: str) -> None:
        """The peer of an association was refused something."""
        calling = calling_of(assoc)
        self._doorman.refused(self._standing.door(assoc), calling, address_of(assoc), act, why)

    def enter(self, assoc: Association) -> None:
        """A request is under way: :meth:`stop` waits for it."""
        self._standing.enter(assoc)

    def leave(self, assoc: Association) -> None:
        self._standing.leave(assoc)

    def is_busy(self, assoc: Association) -> bool:
        return self._standing.is_busy(assoc)

    def _running(self) -> list[Association]:
        """Associations and what is to become one: the connections that pynetdicom has."""
        return [] if self._server is None else self._server.active_associations

    def _apply(self, config: DicomConfig) -> None:
        self._entrance.rules = Rules.of(config)
        self._doorman.apply(config)
        book = self._doorman.book
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
        self._config = config
        commit = Commit(book, self._commitments)
        self._requests.services = Services(Echo(), self._storage, self._search, retrieve, commit)

    def requested(self, event: evt.Event) -> None:
        """An A-ASSOCIATE-RQ came: reject it, or say what of it is supported."""
        assoc = event.assoc
        try:
            rejection = self._negotiate(assoc)
        except Exception as error:  # noqa: BLE001  a request that is valid for its parser and still absurd
            log.warning("association request from %s is malformed: %s", peer_name(assoc), neutral(str(error)))
            self._doorman.failed(self._standing.door(assoc), address_of(assoc))
            assoc.acse.send_abort(0x02)
        else:
            if rejection is None:
                return
            log.warning("association from %s rejected: %s", peer_name(assoc), rejection.reason)
            calling = calling_of(assoc)
            self._doorman.rejected(self._standing.door(assoc), calling, address_of(assoc), rejection)
            assoc.acse.send_reject(rejection.result, rejection.source, rejection.diagnostic)
        assoc.kill()  # waits until the answer is out; our caller closes the socket next

    def _negotiate(self, assoc: Association) -> Rejection | None:
        request: Any = assoc.requestor.primitive
        calling = str(request.calling_ae_title or "").strip()
        assoc.requestor.ae_title = calling
        answer_contexts(assoc)
        called = str(request.called_ae_title or "").strip()
        sock = assoc.dul.socket
        security = sock.security if isinstance(sock, BoundedSocket) else None
        rejection = self._doorman.welcome(
            self._standing.door(assoc), called, calling, address_of(assoc), security
        )
        return rejection or self._admit(assoc) or self._identify(assoc, calling)

    def _admit(self, assoc: Association) -> Rejection | None:
        """One more among those that stand, here and in the other processes."""
        desk, door = self._desk, self._standing.door(assoc)
        number = self._doorman.number(door)
        nobody = contextlib.nullcontext((0, 0))
        with self._lock, nobody if desk is None else desk.admitting(number) as (elsewhere, there):
            standing = self._by_door()
            if self._stopping.is_set() or not self._doorman.has_room(
                door, elsewhere + sum(standing), there + standing[number]
            ):
                return TOO_MANY
            self._standing.admit(assoc)
            if desk is not None:
                standing[number] += 1
                desk.note(standing, len(self._running()))
            return None

    def _identify(self, assoc: Association, calling: str) -> Rejection | None:
        """Whether its user may come; one that wants to hear it is told."""
        given = given_by(assoc)
        ae = self._doorman.book.by_title.get(calling)
        finding = self._identities.judge(self._config, ae, address_of(assoc), given)
        if finding.user:
            log.info("%s is %s", peer_name(assoc), neutral(finding.user))
            if given is not None and given.wants_answer:
                answer(assoc)
        return finding.rejection

    def _by_door(self) -> list[int]:
        """How many stand, by the number of the door that they came in at."""
        return self._standing.by_door(self._doorman.number, len(self._config.doors))


def _cut(assoc: Association) -> None:
    """End an association at once, even one whose thread blocks in reading or sending."""
    assoc._kill = True
    sock = assoc.dul.socket
    if isinstance(sock, BoundedSocket):
        sock.cut()
