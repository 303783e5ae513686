"""Files that are being written: in a folder that no reader looks at, until they get their names.

A lock on each says whose process lives. Functions take open folders and raise ``OSError``.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from drivers.walk import below, exists

# What link(2) answers where there are no hard links: vfat, some network and FUSE file systems.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file being written, under a name that no reader looks at."""

    folder: int
    name: str
    fd: int


class IncomingFolder:
    """The folder ``name`` of a root, in which one store writes; ``began`` is told each file that is made.
    Thread-safe."""

    def __init__(self, name: str, began: Callable[[int], None]) -> None:
        self._name, self._began = name, began
        self._names = (f"{os.getpid()}-{number}" for number in itertools.count())
        self._lock = threading.Lock()
        self._publishing = threading.Lock()

    @contextmanager
    def file(self, root: int) -> Iterator[Incoming]:
        """A new file; what of it has no name of its own is gone afterwards."""
        with suppress(FileExistsError):
            os.mkdir(self._name, 0o750, dir_fd=root)
        with below(root, (self._name,)) as folder:
            incoming, done = self._create(folder), False
            try:
                self._began(incoming.fd)
                # Held until the file is closed; tells others who open the store that it is in use. Without
                # it (not every file system can) they may remove it, and this put fails and is retried.
                with suppress(OSError):
                    fcntl.flock(incoming.fd, fcntl.LOCK_EX)
                yield incoming
                done = True
            finally:
                # Closed first: a file that is still open NFS does not remove but hides. It may write until
                # then, and fail; after another error that is no news.
                try:
                    os.close(incoming.fd)
                except OSError:
                    if done:
                        raise
                finally:
                    with suppress(FileNotFoundError):
                        os.unlink(incoming.name, dir_fd=folder)

    def _create(self, folder: int) -> Incoming:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        while True:
            with self._lock:
                name = next(self._names)
            with suppress(FileExistsError):  # another process's, or one of an earlier life of this pid
                return Incoming(folder, name, os.open(name, flags, 0o640, dir_fd=folder))

    def remove_stale(self, root: int) -> None:
        """Remove what puts left when their process died."""
        with suppress(FileNotFoundError):
            with below(root, (self._name,)) as folder:
                for name in os.listdir(folder):
                    with suppress(OSError):
                        self._remove_unless_locked(folder, name)

    @staticmethod
    def _remove_unless_locked(folder: int, name: str) -> None:
        # For writing: NFS 4 gives an exclusive lock on no other file (EBADF, flock(2)).
        fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=folder)
        finally:
            os.close(fd)

    def link(self, incoming: Incoming, folder: int, name: str) -> None:
        """Give the file its name. :raises FileExistsError: it is taken."""
        try:
            os.link(incoming.name, name, src_dir_fd=incoming.folder, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # rename overwrites, so look first; the lock makes the two one step among this store's users.
            with self._publishing:
                if exists(folder, name):
                    raise FileExistsError(errno.EEXIST, "exists") from error
                os.rename(incoming.name, name, src_dir_fd=incoming.folder, dst_dir_fd=folder)
