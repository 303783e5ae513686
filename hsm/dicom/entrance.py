"""From a connection that was accepted to the association that begins on it.

With several processes on the port, who serves a plain connection is decided by its first PDU. That of
a TLS connection can be read only by who has shaken hands, and the keys stay there: so the receiver is
chosen before the handshake, and where the association turns out to be the daemon's, its bytes are
carried over (:mod:`hsm.dicom.relay`).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from pynetdicom.association import Association

from hsm.config import DicomConfig, Door, accepting
from hsm.dicom.boundedsocket import BoundedSocket
from hsm.dicom.greet import read_request, wants_the_daemon
from hsm.dicom.listener import Desk, Greeted
from hsm.dicom.relay import Relay
from hsm.dicom.secure import Security, Visit, described, handshake, secured
from hsm.dicom.sockets import halt, set_options
from hsm.log import get_logger

log = get_logger(__name__)

CONNECTIONS_PER_ASSOCIATION: Final = 4
"""Connections that may be open, for each association that may: half-open ones cost threads too."""


@dataclass(frozen=True)
class Rules:
    """What a reload replaces."""

    config: DicomConfig
    doors: Mapping[str, Door]
    contexts: Mapping[str, ssl.SSLContext]
    """By the name of a door for TLS."""

    @classmethod
    def of(cls, config: DicomConfig) -> Rules:
        """:raises ConfigError: a certificate or key cannot be used."""
        doors = {door.name: door for door in config.doors}
        return cls(
            config, doors, {name: accepting(door.tls) for name, door in doors.items() if door.tls is not None}
        )

    def connections_max(self, door: str) -> int:
        """That may be open at once, for all doors or for one of them."""
        given = self.doors[door].max_associations if door in self.doors else None
        return CONNECTIONS_PER_ASSOCIATION * (given or self.config.max_associations)


class Entrance:
    """What one process does with new connections.

    :param associations: those that run here, half-open ones too.
    :param told: called when there is one more.
    :param on_failure: told the door, the address and why a TLS connection came to nothing.
    """

    def __init__(
        self,
        associations: Callable[[], list[Association]],
        told: Callable[[], None],
        on_failure: Callable[[str, str, str], None] = lambda door, address, why: None,
    ) -> None:
        self._associations = associations
        self._told = told
        self._on_failure = on_failure
        self._closed = False
        self._greeting: dict[socket.socket, str] = {}
        """Each, and the door that it came in at."""
        self._shaking: set[socket.socket] = set()
        self._relays: set[Relay] = set()
        self._lock = threading.Lock()
        self.desk: Desk | None = None
        self.rules: Rules

    def has_room(self, door: str) -> bool:
        """Whether one more TCP connection is taken; half-open ones live for the ACSE timeout. Those
        that shake hands get half of the places, so that they keep nobody else out; and a door that has a
        limit of its own keeps no more than its share from the others."""
        rules = self.rules
        limit = rules.connections_max("")
        if door in rules.contexts and len(self._shaking) >= limit // 2:
            return False
        running = self._associations()
        # One whose association has just begun is among both.
        sockets = [assoc.dul.socket for assoc in running if isinstance(assoc.dul.socket, BoundedSocket)]
        theirs = {each.socket for each in sockets}
        greeting = [name for client, name in self._greeting.copy().items() if client not in theirs]
        if len(greeting) + len(running) + self.relayed >= limit:
            return False
        here = greeting.count(door) + sum(each.door == door for each in sockets) + self._relayed_from(door)
        return here < rules.connections_max(door)

    @property
    def relayed(self) -> int:
        """Connections whose associations another process serves."""
        with self._lock:
            return len(self._relays)

    def _relayed_from(self, door: str) -> int:
        with self._lock:
            return sum(relay.door == door for relay in self._relays)

    @contextlib.contextmanager
    def coming(self, client: socket.socket, visit: Visit) -> Iterator[None]:
        """A connection was accepted; the block starts the thread that greets it."""
        self._greeting[client] = visit.door
        if visit.encrypted:
            self._shaking.add(client)
        try:
            yield
        except BaseException:
            self._forget(client)
            raise

    @contextlib.contextmanager
    def greeting(self, client: socket.socket, visit: Visit, *, passed: bool) -> Iterator[Greeted | None]:
        """Gives the connection as its association is to have it, or None if it is not served here, and
        only to be closed. If it is, its association starts in the block.

        :param passed: whether another process has chosen this one for it.
        """
        desk = self.desk
        greeted: Greeted | None = None
        counted = passed
        try:
            if visit.encrypted:
                counted = passed or desk is None or self._chosen(desk, client, visit)
                greeted = self._shake(client, visit) if counted else None
            else:
                greeted = self._greet(client, visit)
                counted = greeted is not None
            yield greeted
        finally:
            if desk is not None and counted:
                self._told()
                desk.arrived()
            self._forget(client)
            if greeted is not None:
                self._forget(greeted.client)

    def close(self) -> None:
        """Those that have not said what they want need not go on."""
        self._closed = True
        for client in list(self._greeting):
            halt(client, socket.SHUT_RD)

    def cut_relays(self) -> None:
        with self._lock:
            relays = list(self._relays)
        for relay in relays:
            relay.cut()
            relay.join(1.0)

    def _forget(self, client: socket.socket) -> None:
        self._greeting.pop(client, None)
        self._shaking.discard(client)

    def _greet(self, client: socket.socket, visit: Visit) -> Greeted | None:
        desk = self.desk
        if desk is None:
            return Greeted(client, door=visit.door)
        try:
            request = read_request(client, self.rules.config.acse_timeout_seconds)
            visit = replace(visit, request=request)
            return Greeted(client, request, door=visit.door) if desk.keeps(client, visit) else None
        except OSError as error:
            log.info("connection from %s came to no association: %s", visit.address[0], described(error))
            return None

    def _chosen(self, desk: Desk, client: socket.socket, visit: Visit) -> bool:
        try:
            return desk.chooses(client, visit)
        except OSError as error:
            log.info("connection from %s is served by nobody: %s", visit.address[0], error)
            return False

    def _shake(self, client: socket.socket, visit: Visit) -> Greeted | None:
        """Shake hands, on a thread that has nothing else to do."""
        rules = self.rules
        tls: ssl.SSLSocket | None = None
        try:
            if visit.door not in rules.contexts:
                raise OSError("TLS is not configured")
            tls = secured(client, rules.contexts[visit.door])
            self._forget(client)
            self._greeting[tls] = visit.door
            self._shaking.add(tls)
            if self._closed:
                raise OSError("the archive stops")
            security = handshake(tls, rules.config.acse_timeout_seconds)
            self._shaking.discard(tls)
            return self._after_handshake(tls, visit, security)
        except OSError as error:
            log.warning("TLS connection from %s refused: %s", visit.address[0], described(error))
            if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
                self._on_failure(visit.door, visit.address[0], described(error))
        if tls is not None:
            self._forget(tls)
            tls.close()
        return None

    def _after_handshake(self, tls: ssl.SSLSocket, visit: Visit, security: Security) -> Greeted | None:
        """:raises OSError: it comes to no association."""
        desk = self.desk
        if desk is None or not desk.listens:
            return Greeted(tls, security=security, door=visit.door)
        request = read_request(tls, self.rules.config.acse_timeout_seconds)
        if not wants_the_daemon(request):
            return Greeted(tls, request, security, visit.door)
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                desk.hands_over(theirs, Visit(visit.address, request, security, door=visit.door))
            except OSError:
                ours.close()
                raise
        self._forget(tls)
        self._relay(tls, ours, visit.door)
        return None

    def _relay(self, tls: ssl.SSLSocket, ours: socket.socket, door: str) -> None:
        set_options(tls, self.rules.config.network_timeout_seconds)
        relay = Relay(tls, ours, self._ended, door)
        with self._lock:
            self._relays.add(relay)
        relay.start()

    def _ended(self, relay: Relay) -> None:
        with self._lock:
            self._relays.discard(relay)
