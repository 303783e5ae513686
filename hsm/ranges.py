"""One instance's bytes, wherever they lie: small ones in memory, large ones in an open file or a store.

What is digest-checked and then read a second time (because it is too large to be kept) is checked
again while it is read, and its last piece is given only if the digest still matches: nobody gets all
of something that is not what was stored.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from drivers.base import Store
from hsm.errors import Corrupt, Retryable

HELD_BYTES_MAX: Final = 4 << 20
"""Instances up to this size are read once and kept in memory until they are sent."""
PIECE_BYTES: Final = 1 << 20
"""The largest piece of a larger one."""

PROOFS_MAX: Final = 1 << 16
SETTLED_NS: Final = 2_000_000_000

Piece = bytes | memoryview


class Range(Protocol):
    """Bytes that can be read from the beginning, any number of times, until :meth:`close`."""

    @property
    def size(self) -> int: ...

    def pieces(self) -> Iterator[Piece]:
        """All bytes; a piece may be overwritten when the next one is asked for.

        :raises DriverError: they cannot be read.
        """
        ...

    def whole(self) -> bytes:
        """All bytes in memory: for small ones, and for what has to be converted.

        :raises DriverError: they cannot be read.
        """
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class Held:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def pieces(self) -> Iterator[Piece]:
        yield self._data

    def whole(self) -> bytes:
        return self._data

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class FileState:
    """Which file it is, and when it was changed last."""

    identity: tuple[int, int]
    size: int
    mtime_ns: int
    ctime_ns: int
    offset: int


class Proofs:
    """Which files were digested a while ago and have not been touched since. For any number of threads.

    :param seconds: how long a proof holds.
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float], now_ns: Callable[[], int]) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[int, int], tuple[FileState, bytes, float]] = OrderedDict()

    def hold(self, state: FileState, digest: bytes) -> bool:
        """Whether a file in this state was found to have this SHA-256."""
        with self._lock:
            known = self._known.get(state.identity)
        return known is not None and known[:2] == (state, digest) and self._monotonic() < known[2]

    def note(self, state: FileState, digest: bytes) -> None:
        """It has this SHA-256. Not believed of a file that was changed just now: the next change may get
        the same time."""
        if self._now_ns() - state.ctime_ns < SETTLED_NS:
            return
        with self._lock:
            self._known[state.identity] = (state, digest, self._monotonic() + self._seconds)
            self._known.move_to_end(state.identity)
            if len(self._known) > PROOFS_MAX:
                self._known.popitem(last=False)


class FileRange:
    """``size`` bytes from ``offset`` of an open file, which is closed with it. One reader at a time."""

    def __init__(self, descriptor: int, offset: int, size: int, where: str) -> None:
        self._descriptor: int | None = descriptor
        self._offset = offset
        self._size = size
        self._where = where

    @property
    def size(self) -> int:
        return self._size

    def pieces(self) -> Iterator[Piece]:
        """:raises Retryable: the disk failed. :raises Corrupt: the file is shorter than it was."""
        if self._descriptor is None:
            raise ValueError(f"{self._where} is closed")
        done, buffer = 0, memoryview(bytearray(min(PIECE_BYTES, self._size)))
        while done < self._size:
            wanted = buffer[: self._size - done]
            try:
                length = os.preadv(self._descriptor, [wanted], self._offset + done)
            except OSError as error:
                raise Retryable(f"{self._where}: {error.strerror}") from error
            if not length:
                at, left = self._offset + done, self._size - done
                raise Corrupt(f"{self._where} ends at {at}; {left} bytes more were expected")
            yield wanted[:length]
            done += length

    def state(self) -> FileState:
        """What changes when the file does.

        :raises Retryable: the disk failed.
        """
        if self._descriptor is None:
            raise ValueError(f"{self._where} is closed")
        try:
            found = os.fstat(self._descriptor)
        except OSError as error:
            raise Retryable(f"{self._where}: {error.strerror}") from error
        return FileState(
            (found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns, found.st_ctime_ns, self._offset
        )

    def whole(self) -> bytes:
        """:raises Retryable: the disk failed. :raises Corrupt: the file is shorter than it was."""
        if self._descriptor is None:
            raise ValueError(f"{self._where} is closed")
        try:
            data = os.pread(self._descriptor, self._size, self._offset)
        except OSError as error:
            raise Retryable(f"{self._where}: {error.strerror}") from error
        if len(data) == self._size:
            return data
        return b"".join(bytes(piece) for piece in self.pieces())  # a signal, or it has shrunk

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


class Closing:
    """A range that says when it is closed for the first time."""

    def __init__(self, inner: Range, on_close: Callable[[], None]) -> None:
        self._inner = inner
        self._on_close: Callable[[], None] | None = on_close

    @property
    def size(self) -> int:
        return self._inner.size

    def pieces(self) -> Iterator[Piece]:
        return self._inner.pieces()

    def whole(self) -> bytes:
        return self._inner.whole()

    def close(self) -> None:
        self._inner.close()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()


class StoreRange:
    """``size`` bytes from ``offset`` of an object, asked of its store each time."""

    def __init__(self, store: Store, key: str, offset: int, size: int) -> None:
        self._store = store
        self._key = key
        self._offset = offset
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def pieces(self) -> Iterator[Piece]:
        yield from self._store.get(self._key, self._offset, self._size)

    def whole(self) -> bytes:
        return b"".join(self._store.get(self._key, self._offset, self._size))

    def close(self) -> None:
        pass


class Rechecked:
    """A range that was checked and is checked again whenever it is read."""

    def __init__(self, inner: Range, digest: bytes, on_damage: Callable[[], None]) -> None:
        self._inner = inner
        self._digest = digest
        self._on_damage = on_damage

    @property
    def size(self) -> int:
        return self._inner.size

    def pieces(self) -> Iterator[Piece]:
        """:raises Corrupt: instead of the last piece, when what is read now is something else."""
        digest, left = hashlib.sha256(), self._inner.size
        for piece in self._inner.pieces():
            digest.update(piece)
            left -= len(piece)
            if left <= 0 and digest.digest() != self._digest:
                self._on_damage()
                raise Corrupt("other bytes than a moment ago, when they were checked")
            yield piece

    def whole(self) -> bytes:
        return b"".join(bytes(piece) for piece in self.pieces())

    def close(self) -> None:
        self._inner.close()


def unchecked(source: Range) -> Range:
    """``source`` as :func:`checked` gives it, its digest not taken.

    :raises DriverError: it cannot be read; it is closed then.
    """
    if source.size > HELD_BYTES_MAX:
        return source
    try:
        return Held(source.whole())
    finally:
        source.close()


def checked(source: Range, digest: bytes, on_damage: Callable[[], None]) -> Range | None:
    """``source``, read through and found to have this SHA-256; None (and closed) when it has another.

    :param on_damage: called when the bytes are others, now or when they are read again.
    :raises DriverError: it cannot be read; it is closed then.
    """
    try:
        if source.size <= HELD_BYTES_MAX:
            data = source.whole()
            if hashlib.sha256(data).digest() == digest:
                source.close()
                return Held(data)
        else:
            running = hashlib.sha256()
            for piece in source.pieces():
                running.update(piece)
            if running.digest() == digest:
                return Rechecked(source, digest, on_damage)
    except BaseException:
        source.close()
        raise
    source.close()
    on_damage()
    return None


def open_range(path: str | os.PathLike[str], offset: int, size: int) -> FileRange:
    """A part of a file.

    :raises OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    return FileRange(descriptor, offset, size, os.fspath(path))
