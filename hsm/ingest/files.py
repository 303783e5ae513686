"""The files of received instances: written under a name that nobody reads, then linked to their own."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import mmap
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from drivers.walk import FOLDER_FLAGS, below, sync_chain, sync_folder
from hsm.errors import NoSpace, Retryable
from hsm.log import get_logger

log = get_logger(__name__)

INCOMING = ".incoming"
ASIDE = "aside"
"""Below ``.incoming``: what had an instance's name and was neither catalogued nor the same bytes."""
FOLDERS_OPEN_MAX = 128
LINK_ATTEMPTS = 4
IN_USE_SECONDS = 1.0
"""How long a name is waited for that another process has just given and may take back."""
IN_USE_PAUSE_SECONDS = 0.005
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
        self._fd = os.open(path, _FLAGS, 0o640)
        # Held until it is closed. It tells who opens the pool that the file is in use, and who finds it
        # under its final name that this name may be taken back. Not every file system can.
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, parts: Sequence[Buffer]) -> None:
        """Append all of the parts.

        :raises OSError: the disk is full or fails.
        """
        left = sum(len(part) for part in parts)
        written = os.writev(self._fd, parts)
        while written < left:
            parts = _rest(parts, written)
            left -= written
            written = os.writev(self._fd, parts)

    def flush(self) -> None:
        """:raises OSError: the bytes are not on stable storage, and may never be."""
        os.fdatasync(self._fd)

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
        """Once only."""
        try:
            os.unlink(self.path)
        except OSError as error:
            if error.errno != errno.ENOENT:
                # Harmless and found at the next start, but somebody should know.
                log.warning("%s is left behind: %s", self.path, error.strerror)
        os.close(self._fd)


def _rest(parts: Sequence[Buffer], written: int) -> list[Buffer]:
    rest: list[Buffer] = []
    for part in parts:
        if written >= len(part):
            written -= len(part)
        else:
            rest.append(memoryview(part)[written:])
            written = 0
    return rest


class Shelf:
    """Gives files their final names below ``root``. For one thread at a time, but :meth:`incoming`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / INCOMING
        self._folder.mkdir(exist_ok=True)
        self._stem = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._open: OrderedDict[str, int] = OrderedDict()
        self._unsynced: set[int] = set()

    def incoming(self) -> Incoming:
        """:raises OSError: no file can be made."""
        return Incoming(self._folder / f"{self._stem}-{next(self._numbers)}.part")

    def place(self, source: Path, key: str, digest: bytes) -> bool:
        """Link a flushed file under ``key``; durable after :meth:`sync`. Nothing is ever overwritten.

        Called only while the catalog has no such instance and nobody else decides about it, in whatever
        process: a file that has the name was left by a crash. It is used if it has the same bytes, else
        put aside; but not while its arrival goes on elsewhere, whose catalog said no and who has yet to
        take the name back.

        :returns: whether the name is new; else the file with these bytes was there.
        :raises OSError: the file system refuses.
        """
        folder_key, _, name = key.rpartition("/")
        for attempt in range(1, LINK_ATTEMPTS + 1):
            folder = self._opened(folder_key)
            try:
                os.link(source, name, dst_dir_fd=folder)
            except FileExistsError:
                if self._take_over(folder, name, digest, source):
                    return False
            except FileNotFoundError:
                # The folder was pruned since it was opened: whoever released its last file did it.
                self._forget(folder_key)
                if attempt == LINK_ATTEMPTS or not source.exists():
                    raise
            else:
                self._unsynced.add(folder)
                return True
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), key)

    def holds(self, key: str, size: int) -> bool:
        """Whether a file of this size has the name."""
        try:
            return os.stat(self._root / key, follow_symlinks=False).st_size == size
        except OSError:
            return False

    def remove(self, key: str) -> None:
        """Take a name back that was given in vain. Its bytes were never acknowledged."""
        folder_key, _, name = key.rpartition("/")
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self._opened(folder_key))

    def sync(self) -> None:
        """Make all names durable that were given since the last call.

        :raises OSError: they are not, and may never be.
        """
        folders, self._unsynced = self._unsynced, set()
        for folder in folders:
            sync_folder(folder)

    def close(self) -> None:
        """Close the folders that are kept open; they are opened again when needed."""
        for folder_key in list(self._open):
            self._forget(folder_key)

    def _opened(self, key: str) -> int:
        """The folder, made if need be, its own name and those above it durable."""
        found = self._open.get(key)
        if found is not None:
            self._open.move_to_end(key)
            return found
        parts = key.split("/")
        root = os.open(self._root, FOLDER_FLAGS)
        try:
            with below(root, parts, _make_folder) as folder:
                # Also where it was there: who made it may have died before it was durable.
                sync_chain(root, parts)
                opened = os.dup(folder)
        finally:
            os.close(root)
        os.set_inheritable(opened, False)
        if len(self._open) >= FOLDERS_OPEN_MAX:
            self._evict()
        self._open[key] = opened
        return opened

    def _evict(self) -> None:
        """Close the folder that was used longest ago among those that owe no sync."""
        for key, folder in self._open.items():
            if folder not in self._unsynced:
                self._forget(key)
                return

    def _forget(self, key: str) -> None:
        folder = self._open.pop(key, None)
        if folder is not None:
            self._unsynced.discard(folder)
            os.close(folder)

    def _take_over(self, folder: int, name: str, digest: bytes, source: Path) -> bool:
        """Use the file of this name, which no row knows, if it is the same; else get it out of the way."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError:
            return False  # taken back just now
        with os.fdopen(fd, "rb") as file:
            if not os.path.samestat(os.fstat(fd), os.stat(source)) and not _is_left(fd, folder, name):
                return False
            if hashlib.file_digest(file, "sha256").digest() == digest:
                os.fsync(fd)
                self._unsynced.add(folder)
                return True
        aside = self._folder / ASIDE
        aside.mkdir(exist_ok=True)
        target = aside / f"{name}.{secrets.token_hex(4)}"
        os.link(name, target, src_dir_fd=folder)
        os.unlink(name, dir_fd=folder)
        log.warning("%s was in the pool but not in the catalog, with other bytes; it is now %s", name, target)
        return False


def _is_left(fd: int, folder: int, name: str) -> bool:
    """Wait until nobody works on an open file; False if the name is not its name any more.

    :raises OSError: somebody goes on working on it.
    """
    deadline = time.monotonic() + IN_USE_SECONDS
    while True:
        free = True
        try:
            # Kept until the file is closed: after that nobody takes the name back.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            free = False
        except OSError as error:
            log.debug("%s cannot be locked: %s", name, error.strerror)
        try:
            if not os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=folder, follow_symlinks=False)):
                return False
        except FileNotFoundError:
            return False
        if free:
            return True
        if time.monotonic() > deadline:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), name)
        time.sleep(IN_USE_PAUSE_SECONDS)


def _make_folder(parent: int, parts: Sequence[str]) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(parts[-1], 0o750, dir_fd=parent)
