"""Recalled packages on disk: written once from a volume, read by whoever waits, evicted when idle.

A package may be read while it is still being written, so the first instance of a recall goes out
while the rest comes in. What a reader gets is not checked here: whoever sends an instance compares its
own digest. A package counts as complete only when the digest of the whole matched.

Files are ``<folder>/<package key>``, and ``<package key>.part`` while written. Nothing else in the
folder is touched. What is larger than the whole area passes through it: :mod:`hsm.passing`.
"""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hsm.availability import Room
from hsm.clock import Clock, SystemClock
from hsm.errors import ConfigError, Corrupt, DriverError, NoSpace, NotFound, Retryable
from hsm.eviction import Staged, likelihood, victims
from hsm.log import get_logger
from hsm.passing import Streams
from hsm.passing import TooLarge as TooLarge
from hsm.ranges import FileRange, Range
from hsm.stagingwriter import StagingWriter as StagingWriter
from hsm.stagingwriter import sync_folder, translated
from hsm.window import passes_at_most

log = get_logger(__name__)

PART_SUFFIX = ".part"
BACK_SECONDS, BACK_BYTES_PER_SECOND = 120.0, 300e6
"""What it takes to bring back a package of which nobody says it: a change of cartridges, and the read."""
_SEGMENT = re.compile(r"\.[0-9]{6}\Z")
_KEY = re.compile(r"[0-9][0-9.]{0,63}\.p[0-9]{4,9}\.tar")


@dataclass(slots=True)
class _Entry:
    """A package in the area. Changed only under the area's lock."""

    size: int
    written: int
    """Bytes that can be read from the file."""
    complete: bool
    used_at: float
    """When somebody read it or it came, by the wall clock (seconds)."""
    condemned: bool = False
    """Removed while it was being written: readable for nobody, gone when its writer is done."""
    expected_until: float = 0.0
    """Somebody will read it by then; 0 when it was read, or nobody said so."""


class Staging:
    """A bounded area of packages, safe for any number of readers and writers in threads.

    :param folder: made if it is not there.
    :param size_max_bytes: packages being written count with their full size from the start.
    :param free_min_bytes: of its file system, left to others.
    :raises ConfigError: the folder cannot be made or read.
    """

    def __init__(
        self, folder: Path, size_max_bytes: int, free_min_bytes: int = 0, clock: Clock | None = None
    ) -> None:
        self._folder = folder
        self.size_max_bytes = size_max_bytes
        self._free_min = free_min_bytes
        self._clock = clock or SystemClock()
        self._changed = threading.Condition()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # least recently used first
        self._pins: dict[str, int] = {}
        self.streams = Streams(
            folder,
            size_max_bytes,
            self._changed,
            self._clock.monotonic,
            self.room_ever,
            self._make_room,
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._adopt()
        except OSError as error:
            raise ConfigError(f"staging: {folder}: {error.strerror}") from error

    @property
    def used_bytes(self) -> int:
        """Bytes taken, those reserved for packages under way included."""
        with self._changed:
            return self._used()

    @property
    def room(self) -> Room:
        """What can be recalled, were the disk empty."""
        return Room(self.size_max_bytes, passes_at_most(self.size_max_bytes))

    def room_ever(self) -> int:
        """Bytes of the largest package that fits when everything else is evicted."""
        with self._changed:
            return min(self.size_max_bytes, self._on_disk() + self._held())

    def lacks(self, size: int) -> list[str]:
        """The packages of which some must go so that ``size`` bytes fit; empty while there is room."""
        with self._changed:
            room = min(self.size_max_bytes - self._used(), self._on_disk())
            return [each.key for each in self._evictable({})] if room < size else []

    def admit(
        self,
        key: str,
        size: int,
        back_seconds: Mapping[str, float] | None = None,
        expected_until: float = 0.0,
    ) -> StagingWriter:
        """Reserve room for a package and begin to write it.

        Unpinned packages are evicted, those first that cost the least to bring back and are the least likely
        to be wanted (:mod:`hsm.eviction`), but none when that would not be enough.

        :param back_seconds: what it takes to bring each of those back that are staged.
        :param expected_until: somebody will read it by then (seconds of the wall clock): a prefetch.
        :raises NoSpace: the package is larger than the area, or pins or the disk leave no room.
        :raises Retryable: it is there already or being written, or the disk failed.
        :raises ValueError: not the key of a package.
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not the key of a package")
        with self._changed:
            if key in self._entries:
                raise Retryable(f"staging: {key} is there already or on its way")
            with translated(key):
                self._make_room(key, size, back_seconds)
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                descriptor = os.open(self._part(key), flags, 0o600)
            now = self._clock.now().timestamp()
            entry = _Entry(size, 0, False, now, expected_until=expected_until)
            self._entries[key] = entry
        return StagingWriter(
            key,
            size,
            descriptor,
            partial(self._progress, entry),
            partial(self._finish, key, entry),
            partial(self._forget, key, entry),
        )

    def whole(self) -> frozenset[str]:
        """The packages of which everything can be read here now."""
        with self._changed:
            return frozenset(
                key for key, entry in self._entries.items() if entry.complete and not entry.condemned
            )

    def pin(self, key: str) -> None:
        """Keep ``key`` from eviction, now or once it is there. Counted: each needs its :meth:`unpin`."""
        with self._changed:
            self._pins[key] = self._pins.get(key, 0) + 1

    def unpin(self, key: str) -> None:
        """:raises ValueError: it is not pinned."""
        with self._changed:
            count = self._pins.get(key, 0)
            if not count:
                raise ValueError(f"staging: {key} is not pinned")
            if count == 1:
                del self._pins[key]
            else:
                self._pins[key] = count - 1

    def complete(self, key: str) -> bool:
        """Whether the whole package is there and its digest matched."""
        with self._changed:
            entry = self._entries.get(key)
            return entry is not None and entry.complete

    def holds(self, key: str) -> bool:
        """Whether any byte of it can be read, now or as soon as its writer gets on."""
        with self._changed:
            entry = self._entries.get(key)
            return entry is not None and not entry.condemned

    def available(self, key: str) -> int:
        """Bytes that can be read from the start, also of a package that is still being written."""
        with self._changed:
            return self._available(key)

    def has(self, key: str, offset: int, length: int) -> bool:
        """Whether these bytes can be read now, also of a package that passes through."""
        with self._changed:
            return self._available(key) >= offset + length or self.streams.holds(key, offset, length)

    def arrived(self, key: str) -> int:
        """Bytes that have come so far, whether they are still here or have passed through."""
        with self._changed:
            return self._available(key) or self.streams.written(key)

    def open(self, key: str, offset: int, length: int) -> Range:
        """``length`` bytes from ``offset``, which can be read even when the package is evicted meanwhile.

        :raises NotFound: not there.
        :raises Retryable: not written so far yet, or the disk failed.
        :raises Corrupt: the range ends beyond the package.
        """
        with self._changed:
            entry = self._entries.get(key)
            if (entry is None or entry.condemned) and self.streams.holds(key, offset, length):
                with translated(key):
                    return self.streams.open(key, offset, length)
            if entry is None or entry.condemned:
                raise NotFound(f"staging: {key} is not there")
            if offset < 0 or length < 0 or offset + length > entry.size:
                raise Corrupt(f"staging: {key} has {entry.size} bytes; asked for {length} at {offset}")
            if offset + length > entry.written:
                raise Retryable(f"staging: {key}: {entry.written} of {entry.size} bytes are there so far")
            self._entries.move_to_end(key)
            entry.used_at, entry.expected_until = self._clock.now().timestamp(), 0.0
            path = self._path(key, entry)
            try:
                with translated(key):
                    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except NotFound:
                self._drop(key, entry)
                raise
        return FileRange(descriptor, offset, length, f"staging: {key}")

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``.

        A complete package that cannot be read is dropped, so that it can be recalled again.

        :raises DriverError: as :meth:`open`.
        :raises Corrupt: the file is shorter than it was.
        """
        with self._changed:
            entry = self._entries.get(key)
        source = self.open(key, offset, length)
        try:
            return source.whole()
        except DriverError:
            if entry is not None:
                with self._changed:
                    self._drop(key, entry)
            raise
        finally:
            source.close()

    def wait_for(self, key: str, end_offset: int, timeout_seconds: float) -> bool:
        """Wait until the first ``end_offset`` bytes can be read; False when the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: self._available(key) >= end_offset, timeout_seconds)

    def remove(self, key: str) -> None:
        """Drop the package, pinned or not; absent is no error.

        One that is being written can be read no longer, but its writer goes on to the digest: only
        that tells whether the medium or this disk gave the wrong bytes.
        """
        with self._changed:
            entry = self._entries.get(key)
            if entry is not None:
                self._drop(key, entry)
            self.streams.spoil(key)

    # What the writer calls.

    def _progress(self, entry: _Entry, length: int) -> None:
        with self._changed:
            entry.written += length
            self._changed.notify_all()

    def _finish(self, key: str, entry: _Entry) -> None:
        """:raises Retryable: it was removed while it was being written."""
        with self._changed:
            if entry.condemned:
                raise Retryable(f"staging: {key} was damaged on the way to {self._folder}; recall it again")
            os.rename(self._part(key), self._folder / key)
            entry.complete, entry.used_at = True, self._clock.now().timestamp()
            self._entries.move_to_end(key)
            self._changed.notify_all()
        sync_folder(self._folder)

    def _forget(self, key: str, entry: _Entry) -> None:
        """Take away a package whose writer gave up."""
        with self._changed:
            if self._entries.get(key) is entry:
                with translated(key):
                    self._path(key, entry).unlink(missing_ok=True)
                del self._entries[key]
                self._changed.notify_all()

    # All below under the lock.

    def _available(self, key: str) -> int:
        entry = self._entries.get(key)
        return 0 if entry is None or entry.condemned else entry.written

    def _used(self) -> int:
        return sum(entry.size for entry in self._entries.values()) + self.streams.reserved

    def _held(self) -> int:
        return sum(entry.written for entry in self._entries.values()) + self.streams.on_disk

    def _on_disk(self) -> int:
        """Bytes of the disk that nobody was promised."""
        status = os.statvfs(self._folder)
        promised = self._used() - self._held()
        return status.f_bavail * status.f_frsize - promised - self._free_min

    def _evictable(self, back_seconds: Mapping[str, float]) -> list[Staged]:
        now = self._clock.now().timestamp()
        return [
            Staged(
                key,
                entry.size,
                back_seconds.get(key, BACK_SECONDS + entry.size / BACK_BYTES_PER_SECOND),
                likelihood(now - entry.used_at, expected=entry.expected_until > now),
            )
            for key, entry in self._entries.items()
            if entry.complete and key not in self._pins
        ]

    def _drop(self, key: str, entry: _Entry) -> None:
        """Drop ``entry``, unless another one has taken its key since."""
        if self._entries.get(key) is not entry:
            return
        if entry.complete:
            with translated(key):
                (self._folder / key).unlink(missing_ok=True)
            del self._entries[key]
        else:
            entry.condemned = True

    def _make_room(self, key: str, size: int, back_seconds: Mapping[str, float] | None = None) -> None:
        """Evict until ``size`` bytes fit the area and the disk.

        :raises TooLarge: it could never fit.
        :raises NoSpace: they cannot be made to fit now; nothing was evicted.
        """
        if size > self.size_max_bytes:
            raise TooLarge(
                f"staging: {key} of {size} bytes is larger than the whole area of {self.size_max_bytes} "
                "bytes; raise staging.size_max_bytes"
            )
        self.streams.expire()
        on_disk = self._on_disk()
        room = min(self.size_max_bytes - self._used(), on_disk)
        evictable = self._evictable(back_seconds or {})
        chosen = victims(evictable, size - room)
        if chosen is None:
            room += sum(each.size for each in evictable)
            raise NoSpace(
                f"staging: {key} needs {size} bytes and {max(room, 0)} can be had: the rest is in use "
                f"(area {self.size_max_bytes}, disk {max(on_disk, 0)} free)"
            )
        for each in chosen:
            log.info("staging: evicted %s for %s", each.key, key)
            self._drop(each.key, self._entries[each.key])

    def _adopt(self) -> None:
        """Take over what an earlier process completed; delete what it did not."""
        found = []
        for path in self._folder.iterdir():
            if _KEY.fullmatch(path.name) and path.is_file():
                status = path.stat()
                found.append((status.st_mtime_ns, path.name, status.st_size))
            elif path.name.endswith(PART_SUFFIX) and _KEY.fullmatch(
                _SEGMENT.sub("", path.name.removesuffix(PART_SUFFIX))
            ):
                path.unlink()
        for used_ns, key, size in sorted(found):
            self._entries[key] = _Entry(size, size, True, used_ns / 1e9)

    def _path(self, key: str, entry: _Entry) -> Path:
        return self._folder / key if entry.complete else self._part(key)

    def _part(self, key: str) -> Path:
        return self._folder / f"{key}{PART_SUFFIX}"
