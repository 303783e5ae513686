"""The file of an instance that arrives: under a name that nobody reads, and that survives a power cut.

Making a file and flushing its name costs as much as writing half a megabyte. So files are made ahead,
some at a time with one flush for all, and an arrival takes one that is there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import mmap
import os
import secrets
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from drivers.walk import FOLDER_FLAGS, sync_folder
from hsm.errors import NoSpace, Retryable
from hsm.ingest.writeback import start_writeback
from hsm.log import get_logger

log = get_logger(__name__)

AHEAD_MAX = 32
"""Files that are made at a time, when many are wanted."""
WRITEBACK_BYTES = 256 << 10
"""So much is written when the disk is told to begin with it."""
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Buffer = bytes | bytearray | memoryview


@contextmanager
def said_of(what: str) -> Iterator[None]:
    """Raise every ``OSError`` of the block as NoSpace or Retryable about ``what``."""
    try:
        yield
    except OSError as error:
        text = f"{what}: {error.strerror or error}"
        raise (NoSpace if error.errno in FULL_ERRNOS else Retryable)(text) from error


class Incoming:
    """One file being written. :meth:`close` removes its temporary name, whatever else it has by then."""

    def __init__(self, path: Path) -> None:
        """:raises OSError: it cannot be made."""
        self.path = path
        self.size = 0
        self._begun = 0
        self.flushed = False
        self.kept = False
        """Its bytes are catalogued: its temporary name goes when its final one is settled."""
        self._lost: OSError | None = None
        self._fd = os.open(path, _FLAGS, 0o640)
        # Held until it is closed or kept. It tells who opens the pool that the file is in use, and who
        # finds it under its final name that this name may be taken back. Not every file system can.
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, parts: Sequence[Buffer]) -> None:
        """Append all of the parts.

        :raises OSError: the disk is full or fails.
        """
        count = left = sum(len(part) for part in parts)
        written = os.writev(self._fd, parts)
        while written < left:
            parts = _rest(parts, written)
            left -= written
            written = os.writev(self._fd, parts)
        self.size += count
        if self.size - self._begun >= WRITEBACK_BYTES:
            self.begin_flush()

    def begin_flush(self) -> None:
        """Let the disk begin with what was written since the last time, and do not wait."""
        start_writeback(self._fd, self._begun, self.size - self._begun)
        self._begun = self.size

    def flush(self) -> None:
        """:raises OSError: the bytes are not on stable storage, and may never be: also at each later call,
        for the system tells of what it could not write only once (fsync(2), NOTES)."""
        if self._lost is not None:
            raise OSError(self._lost.errno, self._lost.strerror)
        if not self.flushed:
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                self._lost = error
                raise
            self.flushed = True

    @contextmanager
    def view(self, start: int) -> Iterator[memoryview]:
        """What was written from byte ``start`` on, without holding it in memory."""
        mapped = mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ)
        part = memoryview(mapped)[start:]
        try:
            yield part
        finally:
            # An error on its way out holds the views of the frames that it came through, and must not
            # be replaced by what closing the map says of them: it is unmapped when they are gone.
            with contextlib.suppress(BufferError):
                part.release()
                mapped.close()

    def close(self) -> None:
        """Once only, unless it was kept."""
        remove(self.path)
        os.close(self._fd)

    def keep(self) -> None:
        """Its temporary name stays until somebody removes it; nothing more is done with it."""
        self.kept = True
        os.close(self._fd)


def remove(path: Path) -> None:
    """Remove a temporary name."""
    try:
        os.unlink(path)
    except OSError as error:
        if error.errno != errno.ENOENT:
            # Harmless and found at the next start, but somebody should know.
            log.warning("%s is left behind: %s", path, error.strerror)


def _rest(parts: Sequence[Buffer], written: int) -> list[Buffer]:
    rest: list[Buffer] = []
    for part in parts:
        if written >= len(part):
            written -= len(part)
        else:
            rest.append(memoryview(part)[written:])
            written = 0
    return rest


class Slots:
    """Empty files in ``folder`` whose names are durable. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stem = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._made: deque[Incoming] = deque()
        self._next = 1

    def take(self) -> Incoming:
        """A file for one arrival, who closes it.

        :raises OSError: no file can be made.
        """
        with self._lock:
            if not self._made:
                self._make()
            return self._made.popleft()

    def close(self) -> None:
        """Remove the files that nobody took: also those of a file system that has failed since."""
        with self._lock:
            made, self._made = self._made, deque()
            self._next = 1
        for file in made:
            file.close()

    def _make(self) -> None:
        """Few at first, more each time: an archive that receives little keeps few of them."""
        made: list[Incoming] = []
        try:
            while len(made) < self._next:
                made.append(Incoming(self._folder / f"{self._stem}-{next(self._numbers)}.part"))
        except OSError:
            if not made:
                raise
        try:
            folder = os.open(self._folder, FOLDER_FLAGS)
            try:
                sync_folder(folder)
            finally:
                os.close(folder)
        except OSError:
            for file in made:
                file.close()
            raise
        self._next = min(2 * self._next, AHEAD_MAX)
        self._made.extend(made)
