"""Walking below a folder by descriptor, so that no symbolic link is followed on the way."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# What fsync(2) of a folder answers where folders cannot be synced (some network and FUSE file systems).
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})


@contextmanager
def below(
    root: int, parts: Sequence[str], prepare: Callable[[int, Sequence[str]], None] | None = None
) -> Iterator[int]:
    """Open the folder ``parts`` below the open folder ``root``.

    ``prepare`` is called with each open parent and the parts so far, before they are walked.

    :raises FileNotFoundError: there is no such folder.
    :raises NotADirectoryError: a part is something else, be it a symbolic link.
    """
    fd = os.dup(root)
    try:
        for depth, part in enumerate(parts):
            if prepare is not None:
                prepare(fd, parts[: depth + 1])
            deeper = os.open(part, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = deeper
        yield fd
    finally:
        os.close(fd)


def is_object(folder: int, name: str) -> bool:
    """Whether ``name`` is a regular file. :raises FileNotFoundError: nothing has that name."""
    return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def exists(folder: int, name: str) -> bool:
    """Whether anything has that name, be it a dangling link."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def sync_folder(fd: int) -> None:
    """Make an open folder's names durable, where its file system can."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def sync_chain(root: int, parts: Sequence[str]) -> None:
    """Sync the folders from the root down to ``parts``, or as far down as they exist."""
    for depth in range(len(parts) + 1):
        try:
            with below(root, parts[:depth]) as folder:
                sync_folder(folder)
        except FileNotFoundError:
            return
