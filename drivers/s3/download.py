"""Getting a range of one object: the first part streams, the next ones are fetched ahead side by side.

A body that breaks off is resumed at the byte it had come to, with ``If-Match``, so that no byte of
another object is ever joined to it. What is given is counted, and a whole object is compared with the
SHA-256 that its metadata has.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

from drivers.base import CHUNK_BYTES
from drivers.errors import Corrupt, Permanent, Retryable
from drivers.s3.client import Endpoint
from drivers.s3.s3errors import Exists, translated
from drivers.s3.threads import Crew
from drivers.s3.upload import SHA256
from drivers.transfer import span

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the first answer says of the object."""

    size: int
    etag: str
    sha256: str | None


class Source:
    """One object of the bucket, to be read from."""

    def __init__(self, endpoint: Endpoint, key: str, name: str) -> None:
        self._endpoint = endpoint
        self.key = key
        self._name = name
        self.what = f"get {key}"

    def open(
        self, start: int, length: int, seen: Seen | None, attempts: int | None = None
    ) -> tuple[Any, Seen]:
        """Ask for ``length`` bytes from ``start`` (fewer come at the object's end): the body, and what the
        answer says of the object.

        :raises Corrupt: it is another object than ``seen``.
        """
        condition = {} if seen is None else {"IfMatch": seen.etag}
        try:
            answer = self._endpoint.ask(
                "get_object",
                self.what,
                attempts,
                Key=self._name,
                Range=f"bytes={start}-{start + length - 1}",
                **condition,
            )
        except Exists as error:
            raise Corrupt(f"{self.what}: the object was changed while it was read") from error
        first, size = _place(answer, self.what)
        if first != start:
            raise Permanent(f"{self.what}: asked for byte {start}, the server answers from byte {first}")
        return answer["Body"], Seen(size, answer["ETag"], answer.get("Metadata", {}).get(SHA256))

    def read(
        self, start: int, length: int, seen: Seen, body: Any | None, stop: threading.Event
    ) -> Iterator[bytes]:
        """Yield ``length`` bytes in pieces of at most a chunk; ``body`` is the open answer, if any."""
        piece = b""

        def take(body: Any, _: int, most: int) -> int:
            nonlocal piece
            piece = body.read(most)
            return len(piece)

        for _ in self._transfer(start, length, seen, body, stop, take):
            yield piece

    def fill(self, start: int, target: memoryview, seen: Seen, stop: threading.Event) -> None:
        """Read as many bytes as ``target`` has straight into it."""

        def take(body: Any, at: int, most: int) -> int:
            return _read_into(body, target[at : at + most])

        for _ in self._transfer(start, len(target), seen, None, stop, take):
            pass

    def _transfer(
        self,
        start: int,
        length: int,
        seen: Seen,
        body: Any | None,
        stop: threading.Event,
        take: Callable[[Any, int, int], int],
    ) -> Iterator[int]:
        """Have ``length`` bytes taken, resuming where a body broke off, and yield how many came at a time.

        :param take: takes at most so many bytes (the third) from the body; they are those from the second.
        """
        patience = self._endpoint.patience
        failures = progress = given = 0
        while given < length:
            try:
                if body is None:
                    body, _ = self.open(start + given, length - given, seen, attempts=1)
                with closing(body), translated(self.what):
                    while given < length and not stop.is_set():
                        got = take(body, given, min(CHUNK_BYTES, length - given))
                        if not got:
                            raise Retryable(f"{self.what}: the body ended at byte {start + given}")
                        given += got
                        yield got
                if stop.is_set():
                    return
            except Retryable as error:
                failures = 1 if given - progress >= CHUNK_BYTES else failures + 1
                progress = given
                patience.failed(error)
                if failures >= patience.attempts:
                    raise
                patience.pause(failures)
            body = None


def read_range(
    source: Source, crew: Crew, part_bytes: int, offset: int, length: int | None
) -> Iterator[bytes]:
    """Yield the object's bytes from ``offset``, ``length`` of them (to the end when None, and then at least
    one is asked for).

    :raises Corrupt: it holds fewer bytes than were asked for, was changed meanwhile, or (of a whole object)
        its SHA-256 is not the one it was put with.
    """
    asked = part_bytes if length is None else min(length, part_bytes)
    body, seen = source.open(offset, asked, None)
    stop = threading.Event()
    pending: deque[_Part] = deque()
    whole: _Digest | None = None
    try:
        wanted = span(source.key, seen.size, offset, length)
        whole = _Digest() if seen.sha256 is not None and wanted == seen.size else None
        first = min(asked, wanted)
        ahead = _Ahead(source, crew, part_bytes, seen, offset + first, wanted - first, stop, pending)
        ahead.fill()
        for piece in source.read(offset, first, seen, body, stop):
            if whole is not None:
                whole.update(piece)
            yield piece
        for part in ahead:
            if whole is not None:
                whole.begin(part)
            for at in range(0, len(part), CHUNK_BYTES):
                yield bytes(part[at : at + CHUNK_BYTES])
            if whole is not None:
                whole.wait()  # the buffer is used again
        if whole is not None and (found := whole.hexdigest()) != seen.sha256:
            raise Corrupt(f"{source.what}: its SHA-256 is {found}, it was put with {seen.sha256}")
    finally:
        stop.set()
        if whole is not None:
            whole.close()
        body.close()
        for late in pending:
            late.done.cancel()
            late.done.add_done_callback(lambda _, taken=late.taken: crew.give(taken))  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class _Part:
    """A part that is on its way into a buffer."""

    done: Future[None]
    data: memoryview
    buffer: bytearray
    taken: int


class _Digest:
    """The SHA-256 of what passes; of parts that are there whole it is made in a thread, beside whoever takes
    their bytes."""

    def __init__(self) -> None:
        self._hasher = hashlib.sha256()
        self._lane = ThreadPoolExecutor(1, thread_name_prefix="s3-digest")
        self._last: Future[None] | None = None

    def update(self, piece: bytes) -> None:
        self._hasher.update(piece)

    def begin(self, part: memoryview) -> None:
        """Until :meth:`wait` it must not change."""
        self._last = self._lane.submit(self._hasher.update, part)

    def wait(self) -> None:
        if self._last is not None:
            self._last.result()
            self._last = None

    def hexdigest(self) -> str:
        self.wait()
        return self._hasher.hexdigest()

    def close(self) -> None:
        self._lane.shutdown(wait=False)


class _Ahead:
    """The parts after the first one, fetched before they are asked for as far as there is room.

    Buffers are used again by the parts after: fresh memory costs as much as the bytes that come into it.
    """

    def __init__(
        self,
        source: Source,
        crew: Crew,
        part_bytes: int,
        seen: Seen,
        start: int,
        left: int,
        stop: threading.Event,
        pending: deque[_Part],
    ) -> None:
        self._source, self._crew, self._part_bytes = source, crew, part_bytes
        self._seen, self._start, self._left = seen, start, left
        self._stop, self._pending = stop, pending
        self._spare: list[bytearray] = []

    def fill(self) -> None:
        """Begin as many as can be under way at once, and one more."""
        while self._left and len(self._pending) <= self._crew.threads and self._crew.take(self._part_bytes):
            self._begin(self._part_bytes)

    def __iter__(self) -> Iterator[memoryview]:
        """Each part is there until the next one is asked for."""
        while True:
            if not self._pending and self._left:
                self._begin(0)
            if not self._pending:
                return
            part = self._pending[0]
            part.done.result()
            self._pending.popleft()
            try:
                yield part.data
            finally:
                self._spare.append(part.buffer)
                self._crew.give(part.taken)
            self.fill()
            self._spare.clear()  # its room may be another get's by now

    def _begin(self, taken: int) -> None:
        start, length = self._start, min(self._part_bytes, self._left)
        self._start += length
        self._left -= length
        buffer = self._spare.pop() if self._spare else bytearray(self._part_bytes)
        data = memoryview(buffer)[:length]
        source, seen, stop = self._source, self._seen, self._stop
        done = self._crew.start(lambda: source.fill(start, data, seen, stop))
        self._pending.append(_Part(done, data, buffer, taken))


def _read_into(body: Any, target: memoryview) -> int:
    """Read at most so many bytes as ``target`` has, without a copy where the SDK lets its socket be seen."""
    raw = getattr(body, "_raw_stream", None)
    answer = getattr(raw, "_fp", None)
    if not isinstance(answer, HTTPResponse):
        piece: bytes = body.read(len(target))
        target[: len(piece)] = piece
        return len(piece)
    got = answer.readinto(target)
    if answer.isclosed() and raw is not None:
        raw.release_conn()  # all of the answer has come: another request may use the connection
    return got


def _place(answer: dict[str, Any], what: str) -> tuple[int, int]:
    """Of which byte the body is the first, and how many the object has."""
    said = answer.get("ContentRange")
    if said is None:  # a server that knows no ranges gives all of it
        return 0, int(answer["ContentLength"])
    found = _CONTENT_RANGE.fullmatch(said)
    if found is None:
        raise Permanent(f"{what}: the server answers with the range {said[:80]!r}")
    return int(found[1]), int(found[3])
