"""What a tape drive is for the benchmark: nothing, a file, or a model that takes as long as a drive."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drivers.tape.io import DriveStatus, Op


class Sink(Protocol):
    """Where blocks go. ``finish`` returns when all of them are where they belong."""

    def write(self, data: bytes | memoryview, /) -> int: ...

    def finish(self) -> None: ...


class NullSink:
    """Takes blocks and forgets them."""

    def write(self, data: bytes | memoryview, /) -> int:
        return len(data)

    def finish(self) -> None:
        """There is nothing to wait for."""


class FileSink:
    """A file, flushed at the end."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def write(self, data: bytes | memoryview, /) -> int:
        return os.write(self._fd, data)

    def finish(self) -> None:
        os.fsync(self._fd)
        os.close(self._fd)


@dataclass(frozen=True, slots=True)
class DriveSpeed:
    """A drive's data path; bytes and seconds. LTO-9, full height; what a stop costs is an assumption."""

    native: float = 400e6
    lowest: float = 177e6
    """The slowest at which it streams."""
    bus: float = 1.1e9
    """A 12 Gbit/s SAS lane, less its protocol."""
    buffer: float = 1e9
    stop_seconds: float = 3.0
    """To stop, wind back and be at speed again."""


class ModelSink:
    """A drive with a buffer: takes blocks at the speed of its bus until the buffer is full, empties it at its
    own speed, stops when it is empty. Takes real time."""

    def __init__(
        self,
        speed: DriveSpeed,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.stops = 0
        """How often it ran dry before the end."""
        self._speed, self._clock, self._sleep = speed, clock, sleep
        self._level, self._at, self._ready, self._bus_free = 0.0, clock(), 0.0, 0.0
        self._streaming = False

    def write(self, data: bytes | memoryview, /) -> int:
        size, now = len(data), self._clock()
        self._bus_free = max(self._bus_free, now) + size / self._speed.bus
        # Sleeps of less than a millisecond take longer than they say: they are saved up.
        if self._bus_free - now > 0.001:
            self._sleep(self._bus_free - now)
        self._move()
        while self._level + size > self._speed.buffer:
            self._sleep(min(0.05, (self._level + size - self._speed.buffer) / self._speed.native + 0.001))
            self._move()
        self._level += size
        return size

    def finish(self) -> None:
        self._move()
        left = self._level
        stops = self.stops
        self._sleep(max(0.0, self._ready - self._at if not self._streaming else 0.0))
        self._sleep(left / self._speed.native)
        self._level, self.stops = 0.0, stops

    def _move(self) -> None:
        """What has gone to tape since it was looked at last."""
        now = self._clock()
        since, self._at = now - self._at, now
        if not self._streaming:
            # It begins with something in hand, or it would stop at once.
            if now >= self._ready and self._level > self._speed.buffer / 10:
                self._streaming = True
            return
        # It matches its speed to what comes: as slow as it can when it has little.
        rate = self._speed.native if self._level > self._speed.buffer / 4 else self._speed.lowest
        self._level -= since * rate
        if self._level < 0:
            self._level, self._streaming = 0.0, False
            self._ready = now + self._speed.stop_seconds
            self.stops += 1


class SinkHandle:
    """A :class:`drivers.tape.io.Handle` on a sink: counts blocks and filemarks as a drive does."""

    def __init__(self, sink: Sink, position: int) -> None:
        self._sink = sink
        self._position = position

    def read(self, size: int) -> bytes:
        raise OSError(5, f"nothing is read back here ({size} bytes)")

    def write(self, data: bytes | memoryview) -> int:
        self._position += 1
        return self._sink.write(data)

    def op(self, operation: Op, count: int = 1) -> None:
        if operation in (Op.WEOF, Op.WEOFI):
            self._position += count

    def tell(self) -> int:
        return self._position

    def status(self) -> DriveStatus:
        return DriveStatus(0x0100_0000)

    def close(self) -> None:
        """The sink is finished by whoever made it."""
