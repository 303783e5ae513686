"""Final names for files that came in: linked, never overwritten, durable after :meth:`Shelf.sync`."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

from drivers.folder import INCOMING
from drivers.walk import FOLDER_FLAGS, below, sync_chain, sync_folder
from hsm.log import get_logger

log = get_logger(__name__)

ASIDE = "aside"
"""Below ``.incoming``: what had an instance's name and was neither catalogued nor the same bytes."""
FOLDERS_OPEN_MAX = 128
LINK_ATTEMPTS = 4
IN_USE_SECONDS = 1.0
"""How long a name is waited for that another process has just given and may take back."""
IN_USE_PAUSE_SECONDS = 0.005


class Shelf:
    """Gives files their final names below ``root``. For one thread at a time, but :meth:`sync`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: OrderedDict[str, int] = OrderedDict()
        # What sync() owes; it may run beside the others.
        self._lock = threading.Lock()
        self._unsynced: set[int] = set()
        self._made: set[str] = set()

    def place(self, source: Path, key: str, digest: bytes) -> bool:
        """Link a file under ``key``; durable after :meth:`sync`. Nothing is ever overwritten.

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
                with self._lock:
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

    def owe(self, key: str) -> None:
        """The name is there, and whoever gave it may have died before it was durable."""
        folder = self._opened(key.rpartition("/")[0])
        with self._lock:
            self._unsynced.add(folder)

    def sync(self) -> None:
        """Make all names durable that were given before the call. For one thread at a time.

        :raises OSError: they are not, and may never be.
        """
        with self._lock:
            # Copies: the folders themselves may be closed meanwhile.
            folders = [os.dup(folder) for folder in self._unsynced]
            made, self._made = self._made, set()
            self._unsynced.clear()
        try:
            if made:
                self._sync_chains(made)
            for folder in folders:
                sync_folder(folder)
        except BaseException:
            with self._lock:
                # Or what comes into these folders later would be settled in a folder without a name.
                self._made |= made
            raise
        finally:
            for folder in folders:
                os.close(folder)

    def _sync_chains(self, keys: Iterable[str]) -> None:
        root = os.open(self._root, FOLDER_FLAGS)
        try:
            for key in keys:
                sync_chain(root, key.split("/"))
        finally:
            os.close(root)

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
                opened = os.dup(folder)
        finally:
            os.close(root)
        os.set_inheritable(opened, False)
        with self._lock:
            # Also where it was there: who made it may have died before it was durable.
            self._made.add(key)
        if len(self._open) >= FOLDERS_OPEN_MAX:
            self._evict()
        self._open[key] = opened
        return opened

    def _evict(self) -> None:
        """Close the folder that was used longest ago among those that owe no sync."""
        with self._lock:
            key = next((key for key, folder in self._open.items() if folder not in self._unsynced), None)
        if key is not None:
            self._forget(key)

    def _forget(self, key: str) -> None:
        folder = self._open.pop(key, None)
        if folder is not None:
            with self._lock:
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
                with self._lock:
                    self._unsynced.add(folder)
                return True
        aside = self._root / INCOMING / ASIDE
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
