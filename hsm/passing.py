"""The packages that pass through the staging area because they are larger than it: who follows, the reads.

Every waiter of a recall says which instances it wants, whatever the size; only a package that does not fit
becomes a :class:`~hsm.streaming.Stream`. When its last follower leaves, nothing of it is left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from hsm.errors import NoSpace, NotFound, Retryable
from hsm.log import get_logger
from hsm.ranges import Range
from hsm.stagingwriter import translated
from hsm.streaming import Follower, Span, Stream
from hsm.window import passes_at_most, window_for

log = get_logger(__name__)


LINGER_SECONDS = 900.0
"""How long something is kept for who went away and comes back: longer than any pause of a delivery."""

IDLE_SECONDS = 180.0
"""What somebody has not begun to take for so long is not kept for it where others want another part."""


class TooLarge(NoSpace):
    """A package, or one instance of it, that is larger than the whole area."""


class Streams:
    """Safe for any number of threads, under the staging area's lock."""

    def __init__(
        self,
        folder: Path,
        size_max_bytes: int,
        changed: threading.Condition,
        monotonic: Callable[[], float],
        room_ever: Callable[[], int],
        make_room: Callable[[str, int], None],
    ) -> None:
        """
        :param changed: the area's lock.
        :param room_ever: bytes of the whole area as the disk is now.
        :param make_room: evicts until so many bytes fit; raises NoSpace.
        """
        self._folder = folder
        self._size_max = size_max_bytes
        self._changed = changed
        self._monotonic = monotonic
        self._room_ever = room_ever
        self._make_room = make_room
        self._streams: dict[str, Stream] = {}

    def follow(self, key: str, who: str, spans: Iterable[Span]) -> Follower:
        """Somebody wants these instances. What was kept for it since it went away is its own again."""
        new = Follower(key, who, spans, self._monotonic())
        with self._changed:
            stream = self._streams.setdefault(key, Stream(key, self._folder))
            same = next((each for each in stream.followers if each.lingers and each.who == who), None)
            if same is not None:
                stream.followers.remove(same)
            stream.followers.append(new)
            stream.moved.set()
        return new

    def unfollow(self, follower: Follower, *, lingers: bool = False) -> None:
        """It wants nothing any more, or comes back for the rest. Idempotent."""
        with self._changed:
            stream = self._streams.get(follower.key)
            if stream is None or follower not in stream.followers:
                return
            if lingers and len(follower):
                follower.lingers_until = self._monotonic() + LINGER_SECONDS
            else:
                stream.followers.remove(follower)
            stream.moved.set()
            self._tidy(stream)

    def expire(self) -> None:
        """Nobody came back for what was kept."""
        with self._changed:
            now = self._monotonic()
            for stream in list(self._streams.values()):
                stream.followers = [each for each in stream.followers if now < each.lingers_until]
                self._tidy(stream)

    def took(self, follower: Follower, offset: int) -> None:
        """It has this instance; there may be room for more now."""
        with self._changed:
            follower.took(offset, self._monotonic())
            stream = self._streams.get(follower.key)
            if stream is not None:
                stream.moved.set()

    def ready(self, follower: Follower) -> Span | None:
        """The first instance it wants that passes by just now."""
        with self._changed:
            stream = self._streams.get(follower.key)
            return stream.ready(follower) if stream is not None else None

    def followers(self, key: str) -> list[Follower]:
        """Who wants something of a package, whatever its size."""
        with self._changed:
            stream = self._streams.get(key)
            return list(stream.followers) if stream is not None else []

    def passes(self, key: str) -> bool:
        """Whether it is passing through, or did and somebody has not taken everything."""
        with self._changed:
            stream = self._streams.get(key)
            return stream is not None and stream.window > 0

    def hungry(self, key: str) -> bool | None:
        """Whether it is to be read (on) for those who follow; None when nobody follows."""
        with self._changed:
            self.expire()
            stream = self._streams.get(key)
            if stream is None or not any(len(each) for each in stream.followers):
                return None
            return self._start(stream) is not None

    def _start(self, stream: Stream) -> int | None:
        return stream.start(self._monotonic() - IDLE_SECONDS)

    def holds(self, key: str, offset: int, length: int) -> bool:
        with self._changed:
            stream = self._streams.get(key)
            return stream is not None and stream.window > 0 and stream.holds(offset, length)

    def written(self, key: str) -> int:
        """How far the read of it has come, in bytes from its beginning."""
        with self._changed:
            stream = self._streams.get(key)
            return stream.written if stream is not None else 0

    def open(self, key: str, offset: int, length: int) -> Range:
        """:raises OSError: it cannot be opened."""
        with self._changed:
            return self._streams[key].open(offset, length)

    def spoil(self, key: str) -> None:
        """What is here of it is damaged: it is read again."""
        with self._changed:
            stream = self._streams.get(key)
            if stream is not None and stream.window:
                stream.spoilt = True
                stream.moved.set()

    @property
    def reserved(self) -> int:
        """Bytes that windows may take."""
        return sum(stream.window for stream in self._streams.values())

    @property
    def on_disk(self) -> int:
        return sum(stream.on_disk for stream in self._streams.values())

    def begin(self, key: str) -> Pass:
        """Reserve a window and begin to read.

        :raises TooLarge: an instance that somebody wants is larger than the area.
        :raises NoSpace: pins or the disk leave no room for the window now.
        :raises Retryable: it is being read already, or nobody wants anything more of it.
        """
        with self._changed:
            stream = self._streams.get(key)
            start = self._start(stream) if stream is not None else None
            if stream is None or start is None:
                raise Retryable(f"staging: nobody waits for more of {key}")
            if stream.passing:
                raise Retryable(f"staging: {key} is being read already")
            area = self._room_ever()
            largest = max(span.size for each in stream.followers for span in each.left)
            window = window_for(largest, area)
            if window.size > area:
                # What fits as a whole comes as a whole, as soon as the disk has room again.
                never = largest > passes_at_most(self._size_max) and stream.end > self._size_max
                raise (TooLarge if never else NoSpace)(
                    f"staging: an instance of {largest} bytes in {key} needs {window.size} bytes to pass "
                    f"through, the area has {area}; raise staging.size_max_bytes"
                )
            with translated(key):
                more = window.size - stream.window
                if more > 0:
                    self._make_room(key, more)
                stream.begin(window, start)
        return Pass(stream, start, self._changed, self._end)

    def _end(self, stream: Stream) -> None:
        with self._changed:
            stream.passing = False
            self._tidy(stream)

    def _tidy(self, stream: Stream) -> None:
        if not stream.followers and not stream.passing:
            with translated(stream.key):
                stream.clear()
            if self._streams.get(stream.key) is stream:
                del self._streams[stream.key]


class Pass:
    """One read of a package that passes through. :meth:`close` ends it; what has come stays for its
    followers."""

    def __init__(
        self,
        stream: Stream,
        start: int,
        changed: threading.Condition,
        ended: Callable[[Stream], None],
    ) -> None:
        self.start = start
        """Read from here."""
        self._stream = stream
        self._changed = changed
        self._ended = ended
        self.moved = stream.moved
        """Set when there may be room again."""

    @property
    def over(self) -> bool:
        """Whether nobody wants what comes now."""
        with self._changed:
            return self._stream.written >= self._stream.end

    @property
    def wanted_again(self) -> str:
        """Who missed something, in words; empty when nobody did."""
        with self._changed:
            names = [each.who for each in self._stream.followers if self._stream.missed(each)]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    def write(self, data: memoryview) -> int:
        """As much of ``data`` as there is room for; how many bytes that was.

        :raises Corrupt: the volume gave other bytes than were stored.
        :raises Retryable: a reader found what is here damaged, or the disk failed.
        :raises NoSpace: the disk is full.
        """
        stream = self._stream
        with self._changed:
            if stream.spoilt:
                raise Retryable(f"staging: {stream.key} was damaged on the way to the disk; it is read again")
            stream.moved.clear()
            part = data[: max(stream.room(), 0)]
            try:
                with translated(stream.key):
                    stream.append(part)
            except NotFound as error:  # the folder is gone: no fault of the volume
                raise Retryable(str(error)) from error
            self._changed.notify_all()
            return len(part)

    def leave_behind(self) -> bool:
        """Go on without those who are slow, where others have nothing to read; whether there is room now."""
        with self._changed:
            left = self._stream.leave_behind() and self._stream.room() > 0
            if left:
                log.info("%s goes on without those who read it slowly", self._stream.key)
            return left

    def close(self) -> None:
        """Idempotent."""
        ended, self._ended = self._ended, _nothing
        ended(self._stream)


def _nothing(_stream: Stream) -> None:
    """It has ended already."""
