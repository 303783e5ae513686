"""Who serves a connection: the process that accepted it, another receiver, or the daemon."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from hsm.dicom.greet import wants_query_or_retrieve
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

    def keeps(self, client: socket.socket, address: tuple[Any, ...], request: bytes) -> bool:
        """Queries and retrieves are the daemon's: recalls, staging and the bell are there, once. All
        else goes to the receiver that has the least to do: the kernel deals out connections by a hash
        of their addresses, which puts four associations on one receiver as often as not.

        :raises OSError: the daemon does not take it.
        """
        if self._channel is None:
            return True
        if wants_query_or_retrieve(request):
            to = DAEMON
        else:
            with self._tally.locked():
                to = self._tally.assign()
        if to == self._slot:
            return True
        pass_on(self._channel, client.fileno(), to, address, request)
        return False

    @contextmanager
    def admitting(self) -> Iterator[int]:
        with self._tally.locked():
            yield self._tally.elsewhere()

    def note(self, standing: int, connections: int) -> None:
        self._tally.note(standing, connections)

    def arrived(self) -> None:
        if self._channel is not None:
            with self._tally.locked():
                self._tally.arrived()


def pass_on(channel: Channel, client: int, to: int, address: tuple[Any, ...], request: bytes) -> None:
    """Give an accepted connection to another process; the descriptor stays the caller's.

    :raises OSError: it was not taken.
    """
    first = put_in_file(request)
    try:
        channel.send(CONNECTION, [client, first], to=to, address=list(address))
    finally:
        os.close(first)


def taken(message: Message) -> tuple[socket.socket, tuple[Any, ...], bytes]:
    """The connection, its peer's address and its first PDU, from a message of :func:`pass_on`.

    :raises OSError: the connection is broken already.
    """
    client, first = message.files
    request = take_from_file(first)
    try:
        return socket.socket(fileno=client), tuple(message.values["address"]), request
    except OSError:
        os.close(client)
        raise
