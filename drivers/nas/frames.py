"""How a store and its helper processes talk: frames over two pipes, every wait of ours with a limit.

A frame is one byte that says what it is, the length of what follows (4 bytes, big-endian), and that.
"""

from __future__ import annotations

import enum
import fcntl
import os
import select
import struct
import time
from contextlib import suppress

from drivers.errors import Retryable

PIPE_BYTES = 1 << 20
"""What a pipe is asked to hold: a whole piece, so that both sides work at once."""
FRAME_BYTES_MAX = 16 << 20
_HEAD = struct.Struct(">cI")


class Kind(bytes, enum.Enum):
    """What a frame is."""

    COMMAND = b"C"
    DATA = b"D"
    FILLED = b"F"
    """Data, in a slot of the shared memory (:mod:`drivers.nas.segment`)."""
    FREE = b"G"
    """A slot has been read: it may be filled again."""
    END = b"E"
    """Of the bytes of a put."""
    ABORT = b"A"
    """The bytes of a put end here, and it is not to be."""
    STARTED = b"S"
    """A put wants its bytes; the key was free."""
    ITEMS = b"I"
    RESULT = b"R"
    ERROR = b"X"


class Stuck(Retryable):
    """The helper process did not answer, or take anything, in time."""


class Died(Retryable):
    """The helper process has gone."""


def enlarge(descriptor: int) -> None:
    """Give a pipe its room, as far as the system allows."""
    with suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


class Line:
    """Our side of the two pipes. Every wait for progress is at most ``seconds`` long.

    :raises Stuck: no progress for so long.
    :raises Died: the other side has closed its pipe.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        for descriptor in (reading, writing):
            enlarge(descriptor)
            os.set_blocking(descriptor, False)

    def send(self, kind: Kind, payload: bytes, seconds: float) -> None:
        for data in (_HEAD.pack(kind.value, len(payload)), payload):
            view = memoryview(data)
            while view:
                try:
                    view = view[os.write(self._writing, view) :]
                except BlockingIOError:
                    self._wait(self._writing, select.POLLOUT, seconds)
                except BrokenPipeError as error:
                    raise Died("a helper process ended by itself") from error

    def receive(self, seconds: float) -> tuple[Kind, bytes]:
        kind, size = _HEAD.unpack(self._exactly(_HEAD.size, seconds))
        if size > FRAME_BYTES_MAX:
            raise Died(f"a helper process sent a frame of {size} bytes")
        return Kind(kind), self._exactly(size, seconds)

    def ready(self) -> bool:
        """Whether something is there to receive, or the other side has gone."""
        poll = select.poll()
        poll.register(self._reading, select.POLLIN)
        return bool(poll.poll(0))

    def _exactly(self, size: int, seconds: float) -> bytes:
        buffer = bytearray(size)
        view = memoryview(buffer)
        while view:
            try:
                got = os.readv(self._reading, [view])
            except BlockingIOError:
                self._wait(self._reading, select.POLLIN, seconds)
                continue
            if not got:
                raise Died("a helper process ended by itself")
            view = view[got:]
        return bytes(buffer)

    @staticmethod
    def _wait(descriptor: int, event: int, seconds: float) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        deadline = time.monotonic() + seconds
        if not poll.poll(max(1, int(seconds * 1000))) and time.monotonic() >= deadline:
            raise Stuck(f"no answer within {seconds:g} s")


class HelperLine:
    """The helper's side: it may wait for ever, because it can be given up on.

    :raises EOFError: the other side has gone.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        for data in (_HEAD.pack(kind.value, len(payload)), payload):
            view = memoryview(data)
            while view:
                view = view[os.write(self._writing, view) :]

    def receive(self) -> tuple[Kind, bytes]:
        kind, size = _HEAD.unpack(self._exactly(_HEAD.size))
        return Kind(kind), self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        buffer = bytearray(size)
        view = memoryview(buffer)
        while view:
            got = os.readv(self._reading, [view])
            if not got:
                raise EOFError
            view = view[got:]
        return bytes(buffer)
