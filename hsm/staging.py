"""Recalled packages on disk: written once from a volume, read by whoever waits, evicted when idle.

A package may be read while it is still being written, so the first instance of a recall goes out
while the rest comes in. What a reader gets is not checked here: whoever sends an instance compares its
own digest. A package counts as complete only when the digest of the whole matched.

Files are ``<folder>/<package key>``, and ``<package key>.part`` while written. Nothing else in the
folder is touched.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hsm.errors import ConfigError, Corrupt, DriverError, NoSpace, NotFound, Retryable
from hsm.log import get_logger
from hsm.ranges import FileRange

log = get_logger(__name__)

PART_SUFFIX = ".part"
_KEY = re.compile(r"[0-9][0-9.]{0,63}\.p[0-9]{4,9}\.tar")


@dataclass(slots=True)
class _Entry:
    """A package in the area. Changed only under the area's lock."""

    size: int
    written: int
    """Bytes that can be read from the file."""
    complete: bool
    condemned: bool = False
    """Removed while it was being written: readable for nobody, gone when its writer is done."""


class TooLarge(NoSpace):
    """A package that is larger than the whole area."""


class Staging:
    """A bounded area of packages, safe for any number of readers and writers in threads.

    :param folder: made if it is not there.
    :param size_max_bytes: packages being written count with their full size from the start.
    :raises ConfigError: the folder cannot be made or read.
    """

    def __init__(self, folder: Path, size_max_bytes: int) -> None:
        self._folder = folder
        self.size_max_bytes = size_max_bytes
        self._changed = threading.Condition()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # least recently used first
        self._pins: dict[str, int] = {}
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

    def admit(self, key: str, size: int) -> StagingWriter:
        """Reserve room for a package and begin to write it.

        Unpinned packages are evicted, least recently used first, but none when that would not be
        enough.

        :raises NoSpace: the package is larger than the area, or pins or the disk leave no room.
        :raises Retryable: it is there already or being written, or the disk failed.
        :raises ValueError: not the key of a package.
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not the key of a package")
        with self._changed:
            if key in self._entries:
                raise Retryable(f"staging: {key} is there already or on its way")
            with _translated(key):
                self._make_room(key, size)
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                descriptor = os.open(self._part(key), flags, 0o600)
            self._entries[key] = entry = _Entry(size, 0, complete=False)
        return StagingWriter(self, key, entry, descriptor)

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

    def open(self, key: str, offset: int, length: int) -> FileRange:
        """``length`` bytes from ``offset``, which can be read even when the package is evicted meanwhile.

        :raises NotFound: not there.
        :raises Retryable: not written so far yet, or the disk failed.
        :raises Corrupt: the range ends beyond the package.
        """
        with self._changed:
            entry = self._entries.get(key)
            if entry is None or entry.condemned:
                raise NotFound(f"staging: {key} is not there")
            if offset < 0 or length < 0 or offset + length > entry.size:
                raise Corrupt(f"staging: {key} has {entry.size} bytes; asked for {length} at {offset}")
            if offset + length > entry.written:
                raise Retryable(f"staging: {key}: {entry.written} of {entry.size} bytes are there so far")
            self._entries.move_to_end(key)
            path = self._path(key, entry)
            try:
                with _translated(key):
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
            entry.complete = True
            self._entries.move_to_end(key)
            self._changed.notify_all()
        _sync_folder(self._folder)

    def _forget(self, key: str, entry: _Entry) -> None:
        """Take away a package whose writer gave up."""
        with self._changed:
            if self._entries.get(key) is entry:
                with _translated(key):
                    self._path(key, entry).unlink(missing_ok=True)
                del self._entries[key]
                self._changed.notify_all()

    # All below under the lock.

    def _available(self, key: str) -> int:
        entry = self._entries.get(key)
        return 0 if entry is None or entry.condemned else entry.written

    def _used(self) -> int:
        return sum(entry.size for entry in self._entries.values())

    def _drop(self, key: str, entry: _Entry) -> None:
        """Drop ``entry``, unless another one has taken its key since."""
        if self._entries.get(key) is not entry:
            return
        if entry.complete:
            with _translated(key):
                (self._folder / key).unlink(missing_ok=True)
            del self._entries[key]
        else:
            entry.condemned = True

    def _make_room(self, key: str, size: int) -> None:
        """Evict until ``size`` bytes fit the area and the disk.

        :raises TooLarge: it could never fit.
        :raises NoSpace: they cannot be made to fit now; nothing was evicted.
        """
        if size > self.size_max_bytes:
            raise TooLarge(
                f"staging: {key} of {size} bytes is larger than the whole area of {self.size_max_bytes} "
                "bytes; raise staging.size_max_bytes"
            )
        status = os.statvfs(self._folder)
        promised = sum(entry.size - entry.written for entry in self._entries.values())
        on_disk = status.f_bavail * status.f_frsize - promised
        room = min(self.size_max_bytes - self._used(), on_disk)
        victims = []
        for other, entry in self._entries.items():
            if room >= size:
                break
            if entry.complete and other not in self._pins:
                victims.append(other)
                room += entry.size
        if room < size:
            raise NoSpace(
                f"staging: {key} needs {size} bytes and {max(room, 0)} can be had: the rest is in use "
                f"(area {self.size_max_bytes}, disk {max(on_disk, 0)} free)"
            )
        for other in victims:
            log.info("staging: evicted %s for %s", other, key)
            self._drop(other, self._entries[other])

    def _adopt(self) -> None:
        """Take over what an earlier process completed; delete what it did not."""
        found = []
        for path in self._folder.iterdir():
            if _KEY.fullmatch(path.name) and path.is_file():
                status = path.stat()
                found.append((status.st_mtime_ns, path.name, status.st_size))
            elif path.name.endswith(PART_SUFFIX) and _KEY.fullmatch(path.name.removesuffix(PART_SUFFIX)):
                path.unlink()
        for _, key, size in sorted(found):
            self._entries[key] = _Entry(size, size, complete=True)

    def _path(self, key: str, entry: _Entry) -> Path:
        return self._folder / key if entry.complete else self._part(key)

    def _part(self, key: str) -> Path:
        return self._folder / f"{key}{PART_SUFFIX}"


class StagingWriter:
    """Writes one package. It ends with :meth:`commit` or :meth:`abort`; an error aborts by itself."""

    def __init__(self, staging: Staging, key: str, entry: _Entry, descriptor: int) -> None:
        self._staging = staging
        self._key = key
        self._entry = entry
        self._descriptor: int | None = descriptor
        self._hash = hashlib.sha256()
        self._length = 0

    def write(self, chunk: bytes) -> None:
        """Append; readers may have it as soon as this returns.

        :raises Corrupt: more bytes than were announced.
        :raises NoSpace: the disk is full.
        :raises Retryable: the disk failed.
        """
        with self._aborting() as descriptor:
            if self._length + len(chunk) > self._entry.size:
                raise Corrupt(f"{self._key}: more than the expected {self._entry.size} bytes")
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            self._hash.update(chunk)
            self._length += len(chunk)
            self._staging._progress(self._entry, len(chunk))

    def commit(self, digest: bytes) -> None:
        """Make the package complete and lasting.

        :raises Corrupt: too few bytes, or their SHA-256 is not ``digest``; nothing is left.
        :raises Retryable: the disk failed, or a reader found the bytes damaged on it; nothing is left.
        """
        with self._aborting() as descriptor:
            if self._length != self._entry.size:
                raise Corrupt(f"{self._key}: {self._length} bytes; expected {self._entry.size}")
            if self._hash.digest() != digest:
                raise Corrupt(f"{self._key}: SHA-256 is {self._hash.hexdigest()}; expected {digest.hex()}")
            os.fsync(descriptor)
            self._staging._finish(self._key, self._entry)
            self._close()

    def abort(self) -> None:
        """Leave nothing. After the end (commit, abort or an error) it does nothing."""
        if self._descriptor is not None:
            self._close()
            self._staging._forget(self._key, self._entry)

    @contextlib.contextmanager
    def _aborting(self) -> Iterator[int]:
        if self._descriptor is None:
            raise ValueError(f"staging: the writer of {self._key} has ended")
        try:
            with _translated(self._key):
                yield self._descriptor
        except BaseException:
            self.abort()
            raise

    def _close(self) -> None:
        assert self._descriptor is not None  # both callers look
        descriptor, self._descriptor = self._descriptor, None
        os.close(descriptor)


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    """The staging disk's errors as the kinds that say what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"staging: {key}: {error.filename} is gone") from error
    except OSError as error:
        kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else Retryable
        raise kind(f"staging: {key}: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
