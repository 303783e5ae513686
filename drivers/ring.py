"""A ring of memory between a source and a drive, so that the drive streams.

A tape drive that is fed more slowly than its lowest streaming speed stops, winds back and starts again.
The ring lets a thread read ahead while another one writes: writing begins when the ring is full (or the
source has ended), and when it has run dry it begins again when the ring is full again. Only sources that
are known to be quicker than a drive needs (:data:`QUICK`) are not waited for.

How a driver's ``put`` uses it::

    ring = Ring()                                    # one a drive, kept; memory is taken when it is used
    with ring.feed(source, size, digest, key, block_bytes=262_144) as feed:
        for piece in feed.pieces():                  # memoryviews of whole blocks, the last one shorter
            write(piece)                             # good until the next one is asked for
        name = feed.sha256                           # of all the bytes; compared with ``digest`` by then

Leaving the block ends the threads, whatever happened, and the source is not read any more after it: the
caller may close it. Errors of the source are raised by ``pieces`` as :func:`drivers.transfer.copy_exactly`
raises them. Hashing has a thread of its own, because the reading one has enough to do.

Whoever has several objects to put one after the other makes the feed of the next one before the present one
has been put (``put`` takes a :class:`Feed` as a source and does not copy it again): feeds read in the order
in which they were made, and must be drained or closed in that order.

**A source that reads what is being written** waits for itself. A driver refuses the threads for which
:meth:`Feed.reads_here` is true at once, and any other that waits for the drive when :meth:`Feed.stalled`
has come to :data:`PATIENCE_SECONDS`.
"""

from __future__ import annotations

import hashlib
import mmap
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from drivers.base import CHUNK_BYTES, Readable
from drivers.errors import Corrupt
from drivers.oserrors import translated

RING_BYTES = 256 << 20
SLOT_BYTES = CHUNK_BYTES
SLOTS_MIN = 2
QUICK = 250e6
"""Bytes a second: well above the lowest streaming speed of the drives of today (LTO-9: 177 MB/s)."""
TRUSTED_BYTES = 16 << 20
"""So much must have been read before its speed is believed."""
PATIENCE_SECONDS = 60.0
"""How long a put may wait for its source, without one byte, while others wait for the drive."""


@runtime_checkable
class Filling(Protocol):
    """A source that can write into the ring itself, which spares a copy."""

    def fill(self, buffer: memoryview, /) -> int:
        """Put bytes into ``buffer`` from its beginning; how many, 0 only at the end."""
        ...


@dataclass(slots=True)
class _Piece:
    """A slot with bytes in it."""

    slot: int
    length: int
    users: int = 2
    """Who still needs it: the writer, the hashing thread."""


class Ring:
    """Memory of a fixed size in slots; several feeds share it, read one after the other. Thread-safe.

    :param total_bytes: of the ring; at least two slots are made.
    :raises ValueError: a size below one byte.
    """

    def __init__(
        self,
        total_bytes: int = RING_BYTES,
        *,
        slot_bytes: int = SLOT_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if total_bytes < 1 or slot_bytes < 1:
            raise ValueError(f"a ring of {total_bytes} bytes in slots of {slot_bytes}; expected 1 or more")
        self.slot_bytes = slot_bytes
        self.slots = max(SLOTS_MIN, total_bytes // slot_bytes)
        self.clock = clock
        self.speed = 0.0
        """Of the last source that was read, bytes a second; the next one is likely to be as quick."""
        self._memory: mmap.mmap | None = None
        self._free = list(range(self.slots))
        self._reading: list[Feed] = []
        """Feeds that have not ended reading, in the order in which they were made."""
        self.changed = threading.Condition()
        """Guards everything here and in the feeds."""

    def feed(
        self, source: Readable, size: int, digest: bytes | None, key: str, *, block_bytes: int = 1
    ) -> Feed:
        """Begin to read exactly ``size`` bytes of ``source``; a feed of them is given as it is.

        :param digest: the 32 bytes of the SHA-256 that they must have, if known.
        :param block_bytes: pieces are a multiple of it, but for the last one.
        :raises ValueError: a block does not fit a slot.
        """
        if not 1 <= block_bytes <= self.slot_bytes:
            raise ValueError(f"a block of {block_bytes} bytes; a slot of the ring has {self.slot_bytes}")
        if isinstance(source, Feed) and source.serves(size, digest, block_bytes):
            return source
        return Feed(self, source, size, digest, key, self.slot_bytes // block_bytes * block_bytes)

    def shrink(self) -> None:
        """Give the memory back to the system until it is needed again; a ring in use keeps it."""
        with self.changed:
            if len(self._free) == self.slots:
                self._memory = None

    # What follows is for feeds; the caller holds ``changed``.

    def view(self, piece: _Piece) -> memoryview:
        """The bytes of a piece."""
        return self._slot(piece.slot)[: piece.length]

    def _slot(self, number: int) -> memoryview:
        if self._memory is None:
            self._memory = mmap.mmap(-1, self.slots * self.slot_bytes)
        return memoryview(self._memory)[number * self.slot_bytes : (number + 1) * self.slot_bytes]

    def take(self, feed: Feed) -> int | None:
        """A free slot, when it is the feed's turn and there is one."""
        return self._free.pop() if self._free and self._reading[0] is feed else None

    def give(self, slot: int) -> None:
        self._free.append(slot)
        self.changed.notify_all()

    @property
    def full(self) -> bool:
        return not self._free

    def enter(self, feed: Feed) -> None:
        self._reading.append(feed)

    def leave(self, feed: Feed) -> None:
        if feed in self._reading:
            self._reading.remove(feed)
            self.changed.notify_all()


@dataclass(eq=False)
class Feed:
    """The bytes of one object on their way through a :class:`Ring`; see the module. Use it in a ``with``."""

    ring: Ring
    source: Readable
    size: int
    digest: bytes | None
    key: str
    piece_bytes: int
    _to_write: deque[_Piece] = field(default_factory=deque, init=False)
    _to_hash: deque[_Piece] = field(default_factory=deque, init=False)
    _held: set[int] = field(default_factory=set, init=False)
    _failure: BaseException | None = field(default=None, init=False)
    _ended: bool = field(default=False, init=False)
    """The reading thread has read everything, or has failed."""
    _hashed: bool = field(default=False, init=False)
    _closed: bool = field(default=False, init=False)
    _waiting: bool = field(default=False, init=False)
    _primed: bool = field(default=False, init=False)
    """The ring has been full since it was empty."""
    _full: bool = field(default=False, init=False)
    """The reading thread waits for room."""

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"{self.key}: size {self.size} is negative")
        self._hash = hashlib.sha256()
        self._fill = self.source.fill if isinstance(self.source, Filling) else self._copy
        self._moved = self.ring.clock()
        self._got, self._spent = 0, 0.0
        self._rest = memoryview(b"")
        self._drain: Iterator[memoryview] | None = None
        with self.ring.changed:
            self.ring.enter(self)
        self._threads = [
            threading.Thread(target=each, name=f"ring {name} {self.key[-40:]}", daemon=True)
            for name, each in (("read", self._read_all), ("hash", self._hash_all))
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def serves(self, size: int, digest: bytes | None, block_bytes: int) -> bool:
        """Whether this is the whole of such an object in pieces of whole blocks."""
        fresh = self._drain is None and not self._closed
        return fresh and (size, digest) == (self.size, self.digest) and not self.piece_bytes % block_bytes

    @property
    def sha256(self) -> bytes:
        """Of all the bytes.

        :raises ValueError: they have not all been drained.
        """
        if not self._hashed:
            raise ValueError(f"{self.key}: not all of it has been read yet")
        return self._hash.digest()

    def reads_here(self) -> bool:
        """Whether the calling thread is the one that reads the source."""
        return threading.current_thread() is self._threads[0]

    def stalled(self) -> float:
        """For how long, in seconds, the writer (or the end of the feed) has waited for a source that gave
        nothing."""
        with self.ring.changed:
            return self.ring.clock() - self._moved if self._waiting and not self._ended else 0.0

    def pieces(self) -> Iterator[memoryview]:
        """The bytes, in order; each piece is good until the next one is asked for.

        :raises Corrupt: the source gave fewer or more bytes, or others than ``digest`` says. By then
            some or all have been given.
        """
        while (piece := self._next()) is not None:
            with self.ring.changed:
                view = self.ring.view(piece)
            yield view
            view.release()
            with self.ring.changed:
                self._used(piece)
        self._require_digest()

    def read(self, size: int, /) -> bytes:
        """See :class:`drivers.base.Readable`, for those who do not know a feed."""
        if self._drain is None:
            self._drain = self.pieces()
        if size and not self._rest:
            self._rest = next(self._drain, memoryview(b""))
        data = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return data

    def close(self) -> None:
        """End the threads and give back what is held; idempotent. Waits for a ``read`` of the source that
        is under way."""
        with self.ring.changed:
            self._closed = self._waiting = True
            self._moved = self.ring.clock()
            self.ring.changed.notify_all()
        for thread in self._threads:
            thread.join()
        with self.ring.changed:
            self.ring.leave(self)
            for slot in self._held:
                self.ring.give(slot)
            self._held.clear()
            self._to_write.clear()
            self._to_hash.clear()
            self._waiting = False

    def _next(self) -> _Piece | None:
        """The next piece to write; None at the end.

        :raises BaseException: what the source or the hashing raised.
        """
        changed = self.ring.changed
        with changed:
            self._waiting = True
            while not self._ready():
                self._primed = False
                changed.wait()
            self._waiting = False
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise ValueError(f"{self.key}: the feed is closed")
            self._primed = True
            return self._to_write.popleft() if self._to_write else None

    def _ready(self) -> bool:
        if self._failure is not None or self._closed or self._ended:
            return True
        return bool(self._to_write) and (self._primed or self._full or self.ring.speed >= QUICK)

    def _require_digest(self) -> None:
        with self.ring.changed:
            while not (self._hashed or self._failure is not None or self._closed):
                self.ring.changed.wait()
            if self._failure is not None:
                raise self._failure
            if not self._hashed:
                raise ValueError(f"{self.key}: the feed is closed")
        found = self._hash.digest()
        if self.digest is not None and found != self.digest:
            raise Corrupt(
                f"put {self.key}: the source's SHA-256 is {found.hex()}, expected {self.digest.hex()}"
            )

    def _used(self, piece: _Piece) -> None:
        piece.users -= 1
        if not piece.users and piece.slot in self._held:
            self._held.discard(piece.slot)
            self.ring.give(piece.slot)

    def _read_all(self) -> None:
        """The reading thread."""
        failure: BaseException | None = None
        try:
            missing = self.size
            while missing:
                piece = self._fill_slot(missing)
                if piece is None:
                    return
                missing -= piece.length
            if self._read(memoryview(bytearray(1))):
                raise Corrupt(f"put {self.key}: the source gave more than {self.size} bytes")
        except BaseException as error:  # noqa: BLE001 (raised again where the pieces are taken)
            failure = error
        finally:
            with self.ring.changed:
                self._failure = self._failure or failure
                self._ended = True
                self.ring.leave(self)
                self.ring.changed.notify_all()

    def _fill_slot(self, missing: int) -> _Piece | None:
        """One piece more, as soon as there is room; None when the feed has been closed."""
        with self.ring.changed:
            while (slot := None if self._closed else self.ring.take(self)) is None:
                if self._closed:
                    return None
                if self.ring.full and not self._full:
                    self._full = True
                    self.ring.changed.notify_all()
                self.ring.changed.wait()
            self._full = False
            self._held.add(slot)
            piece = _Piece(slot, min(self.piece_bytes, missing))
            view = self.ring.view(piece)
        at = 0
        while at < piece.length:
            got = self._read(view[at:])
            if not got:
                done = self.size - missing + at
                raise Corrupt(f"put {self.key}: the source ended after {done} of {self.size} bytes")
            at += got
            if self._closed:
                return None
        with self.ring.changed:
            if self._got >= TRUSTED_BYTES:
                self.ring.speed = self._got / max(self._spent, 1e-6)
            self._to_write.append(piece)
            self._to_hash.append(piece)
            self.ring.changed.notify_all()
        return piece

    def _read(self, view: memoryview) -> int:
        with translated(f"read the source of {self.key}"):
            begun = self.ring.clock()
            got = self._fill(view)
        self._moved = self.ring.clock()
        self._got, self._spent = self._got + got, self._spent + self._moved - begun
        return got

    def _copy(self, view: memoryview) -> int:
        data = self.source.read(len(view))
        if len(data) > len(view):
            raise Corrupt(f"put {self.key}: the source gave more than {self.size} bytes")
        view[: len(data)] = data
        return len(data)

    def _hash_all(self) -> None:
        """The hashing thread."""
        while True:
            with self.ring.changed:
                while not (self._to_hash or self._ended or self._closed):
                    self.ring.changed.wait()
                if self._closed or self._failure is not None:
                    return
                if not self._to_hash:
                    self._hashed = True
                    self.ring.changed.notify_all()
                    return
                piece = self._to_hash.popleft()
                view = self.ring.view(piece)
            self._hash.update(view)
            with self.ring.changed:
                self._used(piece)
