"""Bytes between a TLS connection and the process that serves its association.

The keys of a TLS connection stay in the process that shook hands. Where another one is to serve it,
that one gets an end of a socket pair, and this carries the bytes.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final

from hsm.dicom.sockets import acknowledge_at_once, halt, say_goodbye

HELD_BYTES_MAX: Final = 512 * 1024
"""In each direction."""
_RECEIVE_BYTES: Final = 128 * 1024
_LOOK_MS: Final = 1000
FLUSH_SECONDS: Final = 30.0
"""For the peer to take the rest when the association is over."""


class Relay(threading.Thread):
    """Runs until both sides have closed; owns both sockets.

    :param outer: after its handshake.
    :param inner: our end of the pair.
    :param ended: called when it is over.
    :param door: the name of the listener that the peer came in at.
    """

    def __init__(
        self,
        outer: ssl.SSLSocket,
        inner: socket.socket,
        ended: Callable[[Relay], None],
        door: str = "",
    ) -> None:
        super().__init__(name="dicom-relay", daemon=True)
        self.door = door
        self._outer = outer
        self._inner = inner
        self._on_end = ended
        self._inwards = bytearray()
        self._outwards = bytearray()
        self._outer_ended = False
        self._inner_ended = False
        self._told = False
        self._hung_up = False
        """Whether the server has closed its end, though not all that it said is read yet."""
        self._reading_wants_to_write = False
        self._writing_wants_to_read = False

    def cut(self) -> None:
        """From another thread: end at once."""
        halt(self._outer, socket.SHUT_RDWR)
        halt(self._inner, socket.SHUT_RDWR)

    def run(self) -> None:
        """Carry until it is over. What breaks one side ends the other."""
        try:
            self._outer.settimeout(0)
            self._inner.settimeout(0)
            self._carry()
            say_goodbye(self._outer)
        except OSError:
            pass  # a side is gone: closing tells the other
        finally:
            self._outer.close()
            self._inner.close()
            self._on_end(self)

    def _carry(self) -> None:
        progress_at = time.monotonic()
        while not (self._inner_ended and not self._outwards):
            if self._round():
                progress_at = time.monotonic()
                continue
            if self._hung_up and time.monotonic() - progress_at > FLUSH_SECONDS:
                return
            self._wait()

    def _round(self) -> bool:
        """Do what can be done without waiting; whether there was anything."""
        # Every one of them, each time.
        return any([self._read_outer(), self._write_inner(), self._read_inner(), self._write_outer()])

    def _read_outer(self) -> bool:
        if self._outer_ended or self._inner_ended or len(self._inwards) >= HELD_BYTES_MAX:
            return False
        self._reading_wants_to_write = False
        try:
            data = self._outer.recv(_RECEIVE_BYTES)
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLWantWriteError:
            self._reading_wants_to_write = True
            return False
        acknowledge_at_once(self._outer)
        self._inwards += data
        self._outer_ended = not data
        return True

    def _write_inner(self) -> bool:
        if self._inwards and not self._inner_ended:
            try:
                sent = self._inner.send(self._inwards)
            except BlockingIOError:
                return False
            except OSError:
                # The server has closed its end: what it said before is still to be carried.
                self._inwards.clear()
                return False
            del self._inwards[:sent]
            return True
        if self._outer_ended and not self._told:
            self._told = True
            halt(self._inner, socket.SHUT_WR)
            return True
        return False

    def _read_inner(self) -> bool:
        if self._inner_ended or len(self._outwards) >= HELD_BYTES_MAX:
            return False
        try:
            data = self._inner.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except ConnectionError:
            data = b""
        self._outwards += data
        self._inner_ended = not data
        self._hung_up = self._hung_up or self._inner_ended
        return True

    def _write_outer(self) -> bool:
        if not self._outwards:
            return False
        self._writing_wants_to_read = False
        try:
            sent = self._outer.send(self._outwards)
        except ssl.SSLWantWriteError:
            return False
        except ssl.SSLWantReadError:
            self._writing_wants_to_read = True
            return False
        del self._outwards[:sent]
        return True

    def _wait(self) -> None:
        poll = select.poll()
        outer = inner = 0
        if not self._outer_ended and not self._inner_ended and len(self._inwards) < HELD_BYTES_MAX:
            outer |= select.POLLOUT if self._reading_wants_to_write else select.POLLIN
        if self._outwards:
            outer |= select.POLLIN if self._writing_wants_to_read else select.POLLOUT
        if not self._inner_ended and len(self._outwards) < HELD_BYTES_MAX:
            inner |= select.POLLIN
        if self._inwards:
            inner |= select.POLLOUT
        if outer:
            poll.register(self._outer, outer)
        if inner or not self._hung_up:
            poll.register(self._inner, inner)
        for file, events in poll.poll(_LOOK_MS):
            if file == self._inner.fileno() and events & select.POLLHUP:
                self._hung_up = True
