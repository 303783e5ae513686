"""Who serves a connection: the process that accepted it, another receiver, or the daemon."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final

from hsm.dicom.greet import wants_the_daemon
from hsm.dicom.secure import Security, Visit
from hsm.receivers.channel import Channel, Message, put_in_file, take_from_file
from hsm.receivers.tally import Tally

DAEMON: Final = 0
"""The daemon's slot in the tally."""
CONNECTION: Final = "connection"


class Desk:
    """The desk of one process; :class:`hsm.dicom.listener.Desk`.

    :param channel: to the daemon; None in the daemon itself, which does not listen.
    """

    def __init__(self, tally: Tally, slot: int, channel: Channel | None) -> None:
        self._tally = tally
        self._slot = slot
        self._channel = channel

    @property
    def listens(self) -> bool:
        return self._channel is not None

    def keeps(self, client: socket.socket, visit: Visit) -> bool:
        """Queries and retrieves are the daemon's: recalls, staging and the bell are there, once. All
        else goes to the receiver that has the least to do: the kernel deals out connections by a hash
        of their addresses, which puts four associations on one receiver as often as not.

        :raises OSError: the daemon does not take it.
        """
        if self._channel is None:
            return True
        if wants_the_daemon(visit.request):
            to = DAEMON
        else:
            with self._tally.locked():
                to = self._tally.assign()
        if to == self._slot:
            return True
        pass_on(self._channel, client.fileno(), to, visit)
        return False

    def chooses(self, client: socket.socket, visit: Visit) -> bool:
        """A TLS connection that has not shaken hands goes to the receiver that has the least to do; what
        it wants, nobody can see.

        :raises OSError: the daemon does not take it.
        """
        if self._channel is None:
            return True
        with self._tally.locked():
            to = self._tally.assign()
        if to == self._slot:
            return True
        pass_on(self._channel, client.fileno(), to, visit)
        return False

    def hands_over(self, client: socket.socket, visit: Visit) -> None:
        """:raises OSError: the daemon does not take it."""
        if self._channel is None:
            raise OSError("this is the daemon already")
        pass_on(self._channel, client.fileno(), DAEMON, visit)

    @contextmanager
    def admitting(self, door: int) -> Iterator[tuple[int, int]]:
        with self._tally.locked():
            yield self._tally.elsewhere(), self._tally.elsewhere(door)

    def note(self, standing: Sequence[int], connections: int) -> None:
        self._tally.note(standing, connections)

    def arrived(self) -> None:
        if self._channel is not None:
            with self._tally.locked():
                self._tally.arrived()


def pass_on(channel: Channel, client: int, to: int, visit: Visit) -> None:
    """Give an accepted connection to another process; the descriptor stays the caller's.

    :raises OSError: it was not taken.
    """
    security = None if visit.security is None else asdict(visit.security)
    first = put_in_file(json.dumps(security).encode() + b"\n" + visit.request)
    try:
        channel.send(
            CONNECTION,
            [client, first],
            to=to,
            address=list(visit.address),
            encrypted=visit.encrypted,
            door=visit.door,
        )
    finally:
        os.close(first)


def taken(message: Message) -> tuple[socket.socket, Visit]:
    """The connection, and what is known of it, from a message of :func:`pass_on`.

    :raises OSError: the connection is broken already.
    """
    client, first = message.files
    head, _, request = take_from_file(first).partition(b"\n")
    values = json.loads(head)
    security = None
    if values is not None:
        security = Security(values["version"], values["cipher"], tuple(values["names"]))
    given = message.values
    visit = Visit(tuple(given["address"]), request, security, given["encrypted"], given["door"])
    try:
        return socket.socket(fileno=client), visit
    except OSError:
        os.close(client)
        raise
