"""A package that is larger than the staging area passes through it, in a window that moves along.

It is read from the volume in one go. What has arrived lies in segments, one file each, until everyone who
follows has taken what they want of it; then the segment goes and the next bytes come. So the room that it
takes is bounded, and the first instance goes out while the last is still on the tape. Who comes late, or
takes it more slowly than it can wait, misses something and gets it when it is read once more.

Nothing here takes a lock: :class:`hsm.staging.Staging` calls it under its own.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hsm.errors import Corrupt
from hsm.ranges import FileRange, Piece, Range
from hsm.window import SEGMENT_BYTES_MIN, Window


@dataclass(frozen=True, slots=True)
class Span:
    """One instance in its package: where, how many bytes, and their SHA-256."""

    offset: int
    size: int
    digest: bytes

    def __post_init__(self) -> None:
        if self.offset < 0 or self.size < 0:
            raise ValueError(f"{self.size} bytes at {self.offset}")

    @property
    def end(self) -> int:
        return self.offset + self.size


class Follower:
    """Somebody who wants instances of a package, and which of them they have not had yet."""

    def __init__(self, key: str, who: str, spans: Iterable[Span], now: float = 0.0) -> None:
        self.key = key
        self.who = who
        self.lingers_until = math.inf
        """It went away and comes back before that (monotonic seconds): a delivery between two looks."""
        self.touched = now
        """When it came or took something last."""
        self._spans = {span.offset: span for span in spans}
        self._order = sorted(self._spans)
        self.wanted = len(self._order)
        """Instances, when it came."""

    @property
    def lingers(self) -> bool:
        return self.lingers_until < math.inf

    def __len__(self) -> int:
        return len(self._order)

    @property
    def left(self) -> Iterator[Span]:
        """In the order of the package."""
        return (self._spans[offset] for offset in self._order)

    def took(self, offset: int, now: float = 0.0) -> None:
        """It has this instance; saying so twice changes nothing."""
        self.touched = now
        at = bisect_left(self._order, offset)
        if at < len(self._order) and self._order[at] == offset:
            del self._order[at], self._spans[offset]

    def next_from(self, position: int) -> Span | None:
        """The first instance it wants that begins at ``position`` or later."""
        at = bisect_left(self._order, position)
        return self._spans[self._order[at]] if at < len(self._order) else None

    @property
    def last(self) -> Span | None:
        return self._spans[self._order[-1]] if self._order else None


class Stream:
    """The bytes of one package from ``floor`` to ``written`` on disk, and who follows."""

    def __init__(self, key: str, folder: Path) -> None:
        self.key = key
        self.followers: list[Follower] = []
        self.window = 0
        """Bytes that it may take on disk; 0 before the first pass."""
        self.floor = 0
        """What begins before this is gone."""
        self.written = 0
        self.passing = False
        """Somebody reads it from a volume now."""
        self.moved = threading.Event()
        """Set when room was made, or somebody has come or gone."""
        self.spoilt = False
        """What is here was found damaged: the pass under way is given up."""
        self._folder = folder
        self._segment = SEGMENT_BYTES_MIN
        self._behind: list[Follower] = []
        """Those for whom this pass does not wait."""
        self._checking: tuple[Span, hashlib._Hash] | None = None

    @property
    def on_disk(self) -> int:
        return self.written - self._kept_from

    @property
    def _kept_from(self) -> int:
        return min(self.floor - self.floor % self._segment, self.written)

    def holds(self, offset: int, size: int) -> bool:
        return self.floor <= offset and offset + size <= self.written and not self.spoilt

    def ready(self, follower: Follower) -> Span | None:
        """The first instance that this follower wants and that can be read now."""
        span = None if self.spoilt else follower.next_from(self.floor)
        return span if span is not None and span.end <= self.written else None

    def missed(self, follower: Follower) -> bool:
        """Whether it wants something that is not here and, as this pass goes, does not come."""
        first, last = next(follower.left, None), follower.last
        if first is None or last is None:
            return False
        return self.spoilt or first.offset < self.floor or last.end > self.written

    def start(self, idle_since: float) -> int | None:
        """Where the next pass begins; None while there is nothing to be read for anybody.

        That is where the first begins who wants more and has nothing to read. Where it is not the place that
        was come to, what is here must go: not before those have taken it for whom it came, unless they have
        taken nothing since ``idle_since`` (monotonic seconds).
        """
        hungry = [each for each in self.followers if len(each) and self.ready(each) is None]
        if not hungry:
            return None
        start = min(next(each.left).offset for each in hungry)
        if self.window and not self.spoilt and start == self.written:
            return start
        if any(self.ready(each) and each.touched > idle_since for each in self.followers):
            return None
        # What the others have not taken goes, and they want it from this pass.
        return min(next(each.left).offset for each in self.followers if len(each))

    # A pass.

    def begin(self, window: Window, start: int) -> None:
        """Begin to read at ``start``. What nobody has taken yet stays, where the pass goes on from there."""
        if self.spoilt or window.size > self.window or start != self.written:
            self.clear()
            self.window, self._segment = window.size, window.segment
            self.floor = self.written = start
        self.passing, self._checking, self._behind = True, None, []
        self.moved.clear()

    @property
    def end(self) -> int:
        """Nobody wants anything from here on."""
        return max((each.last.end for each in self.followers if each.last is not None), default=0)

    def room(self) -> int:
        """Bytes that may be written now; the floor goes up as far as those allow first who keep up."""
        self._raise_floor([each for each in self.followers if each not in self._behind])
        return self.window - self.on_disk

    def leave_behind(self) -> bool:
        """Go on in this pass without those who hold it up while others have nothing to read; what they miss
        they get when it is read once more. False when nobody is held up: then the pass may end as well."""
        held_up = [
            each
            for each in self.followers
            if not each.lingers and self.ready(each) is None and each.next_from(self.floor) is not None
        ]
        if held_up:
            self._behind = [each for each in self.followers if each not in held_up]
        return bool(held_up)

    def append(self, data: memoryview) -> None:
        """Write what there is room for; each instance that somebody wants is compared with its digest.

        :raises Corrupt: the volume gave other bytes.
        :raises OSError: the disk failed.
        """
        at = self.written
        while data:
            into = at % self._segment
            part = data[: self._segment - into]
            descriptor = os.open(
                self._path(at // self._segment), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            try:
                part = part[: os.pwrite(descriptor, part, into)]
            finally:
                os.close(descriptor)
            self._check(at, part)
            at += len(part)
            data = data[len(part) :]
            self.written = at

    def open(self, offset: int, size: int) -> Range:
        """:raises OSError: a segment cannot be opened."""
        parts: list[FileRange] = []
        at, end = offset, offset + size
        try:
            while at < end or not parts:
                number, into = divmod(at, self._segment)
                length = min(self._segment - into, end - at)
                descriptor = os.open(self._path(number), os.O_RDONLY | os.O_CLOEXEC)
                parts.append(FileRange(descriptor, into, length, f"staging: {self.key}"))
                at += max(length, 1)
        except BaseException:
            for part in parts:
                part.close()
            raise
        return parts[0] if len(parts) == 1 else Joined(parts)

    def clear(self) -> None:
        """Take all its bytes from the disk."""
        # One more than was written: a write that failed may have begun it.
        for number in range(self._kept_from // self._segment, self.written // self._segment + 1):
            self._path(number).unlink(missing_ok=True)
        self.floor = self.written = 0
        self.window, self.spoilt = 0, False

    def _raise_floor(self, for_whom: Sequence[Follower]) -> None:
        wanted = [span.offset for each in for_whom if (span := each.next_from(self.floor)) is not None]
        new = min((self.written, *wanted))
        if new <= self.floor:
            return
        old = self._kept_from // self._segment
        self.floor = new
        for number in range(old, self._kept_from // self._segment):
            self._path(number).unlink(missing_ok=True)

    def _check(self, at: int, data: memoryview) -> None:
        """Compare the instances that go by with what they were when they were received."""
        end = at + len(data)
        while at < end:
            if self._checking is None:
                ahead = [span for each in self.followers if (span := each.next_from(at)) is not None]
                span = min(ahead, key=lambda each: each.offset, default=None)
                if span is None or span.offset >= end:
                    return
                self._checking = (span, hashlib.sha256())
                data, at = data[span.offset - at :], span.offset
            span, digest = self._checking
            part = data[: span.end - at]
            digest.update(part)
            data, at = data[len(part) :], at + len(part)
            if at == span.end:
                self._checking = None
                if digest.digest() != span.digest:
                    raise Corrupt(
                        f"{self.key}: SHA-256 of the instance at {span.offset} is {digest.hexdigest()}; "
                        f"expected {span.digest.hex()}"
                    )

    def _path(self, number: int) -> Path:
        return self._folder / f"{self.key}.{number:06d}.part"


class Joined:
    """Ranges one after the other, as one."""

    def __init__(self, parts: Sequence[Range]) -> None:
        self._parts = parts

    @property
    def size(self) -> int:
        return sum(part.size for part in self._parts)

    def pieces(self) -> Iterator[Piece]:
        for part in self._parts:
            yield from part.pieces()

    def whole(self) -> bytes:
        return b"".join(part.whole() for part in self._parts)

    def close(self) -> None:
        for part in self._parts:
            part.close()
