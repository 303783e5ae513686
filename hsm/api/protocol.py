"""HTTP/1.1 with limits on what a connection may take: time for its headers and for taking its answer, and
connections of one peer.

Where there is no room for another connection, one gives way from which nothing is being worked on: so who
holds connections open, in a hanging script or with intent, keeps neither others nor himself out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS: Final = 15.0
"""From the first moment of a connection, or from the first byte of a further request, to its last header."""
ANSWER_SECONDS: Final = 30.0
"""In which somebody takes a part of an answer (some ten kilobytes), or the last of it."""
CONNECTIONS_OF_ONE_MAX: Final = 32
"""At the same time: nobody takes all the connections there are. One more takes the place of one that has sent
no whole request, or is idle, or does not take its answer; where all are worked on it is hung up on itself."""


class LimitedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1. Whoever sends its headers or takes its answer too slowly, or comes too often at
    once, is hung up on.

    :cvar header_seconds: see :data:`HEADER_SECONDS`.
    :cvar answer_seconds: see :data:`ANSWER_SECONDS`.
    :cvar connections_max: of one peer.
    """

    header_seconds = HEADER_SECONDS
    answer_seconds = ANSWER_SECONDS
    connections_max = CONNECTIONS_OF_ONE_MAX
    _deadline: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None
    _since = 0.0
    """When it came, of the loop's time."""
    _gave_way = False
    """Whether it is hung up on, to make room: the loop forgets it a moment later."""

    def peer_key(self) -> Hashable:
        """What the connections of one peer are counted by; None where they are not counted."""
        return None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self.learn_peer(transport)
        self._since = self.loop.time()
        if not self._finds_room():
            self._give_way()
            return
        self._await_headers()

    def learn_peer(self, transport: asyncio.BaseTransport) -> None:
        """Find out who is at the other end."""

    def _finds_room(self) -> bool:
        """Whether this connection can stay; one that it takes the place of is hung up on."""
        others = [each for each in self.connections if isinstance(each, LimitedProtocol) and each is not self]
        others = [each for each in others if not each._gave_way]
        key = self.peer_key()
        own = [each for each in others if each.peer_key() == key] if key is not None else []
        if len(own) >= self.connections_max:
            return _one_gives_way(own)
        if self.limit_concurrency is not None and len(others) + 1 >= self.limit_concurrency:
            (most, _), *_ = Counter(each.peer_key() for each in others).most_common(1)
            _one_gives_way(each for each in others if each.peer_key() == most)
        return True

    def _may_give_way(self) -> tuple[int, float] | None:
        """How far this connection is from having something done for it, the farthest first, and since when it
        is there; None while its request is worked on."""
        cycle = self.cycle
        if cycle is None or (cycle.more_body and not cycle.response_complete):
            return 0, self._since  # it has never sent a whole request, or not yet this one
        if self._taking is not None:
            return 2, self._since
        return (1, self._since) if cycle.response_complete else None

    def _give_way(self) -> None:
        self._gave_way = True
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._between_requests():
            self._await_headers()
        super().data_received(data)
        if not self._between_requests():
            self._have_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_headers()
        self._taken()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """More of an answer waits than is kept for somebody who does not take it."""
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taken()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._unsent():
            if not self.flow.write_paused:  # its time begins with the last answer
                self._taken()
            self._await_taking()

    def _await_taking(self) -> None:
        if self._taking is None:
            self._taking = self.loop.call_later(self.answer_seconds, self._takes_too_long)

    def _taken(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _takes_too_long(self) -> None:
        self._taking = None
        waits = self.flow.write_paused or self._between_requests()
        if waits and self._unsent():
            self.transport.abort()

    def _unsent(self) -> int:
        """Bytes of answers that the peer has not taken. A TLS transport of asyncio that was closed twice, as
        uvicorn does after nonsense, has forgotten them."""
        try:
            return self.transport.get_write_buffer_size()
        except AttributeError:
            return 0

    def send_400_response(self, msg: str) -> None:
        """What came was no HTTP. A request before it may still be under way: its answer goes nowhere, and
        must not be begun on a connection that has ended."""
        if not self._between_requests():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # an answer was begun, or was the last
            self.transport.close()
            return
        super().send_400_response(msg)

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_headers(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.header_seconds, self._too_slow)

    def _have_headers(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._between_requests() and not self.transport.is_closing():
            self.transport.abort()


def _one_gives_way(connections: Iterable[LimitedProtocol]) -> bool:
    """Hang up on the one that is farthest from having something done for it; False if all are worked on."""
    ranked = [(rank, each) for each in connections if (rank := each._may_give_way()) is not None]
    if not ranked:
        return False
    min(ranked, key=lambda pair: pair[0])[1]._give_way()
    return True
