"""What an LTFS volume of ours holds: the files below ``packages/`` and what their attributes say.

Nothing else counts: not the folder of unfinished puts, not ``_ltfs_lostandfound``, no link, and no file whose
size or digest was never noted. Functions take an open descriptor of the root and raise ``OSError``.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence

from drivers.base import check_key
from drivers.tape.index import Entry
from drivers.tape.ltfs import xattrs
from drivers.tape.ltfs.volume import NOTES_BYTES_MAX, NOTES_NAME, PACKAGES
from drivers.walk import below

POSITION, SIZE = "hsm.position", "hsm.size"
"""Our attributes of a file: its place in the order of writing, and the bytes that were put."""


def contents(root: int) -> Iterator[Entry]:
    """Every object, folder by folder."""
    try:
        with below(root, (PACKAGES,)) as packages:
            for path, _, files, fd in os.fwalk(".", onerror=_raise, dir_fd=packages):
                prefix = "" if path == "." else path.removeprefix("./") + "/"
                for name in sorted(files):
                    entry = _entry(fd, name, prefix + name)
                    if entry is not None:
                        yield entry
    except FileNotFoundError:
        return


def read_notes(root: int) -> tuple[str, ...]:
    """The lines of the file of notes; of a very long one the last."""
    try:
        fd = os.open(NOTES_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        return ()
    try:
        size = os.fstat(fd).st_size
        data = os.pread(fd, NOTES_BYTES_MAX, max(0, size - NOTES_BYTES_MAX))
    finally:
        os.close(fd)
    return tuple(line for line in data.decode("ascii", "replace").split("\n") if line)


def append_note(root: int, note: str) -> None:
    """One line more, its bytes on the medium."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(NOTES_NAME, flags, 0o640, dir_fd=root)
    try:
        os.write(fd, f"{note}\n".encode("ascii"))
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(parent: int, parts: Sequence[str]) -> None:
    """For :func:`drivers.walk.below`: each folder on the way, unless it is there."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(parts[-1], 0o750, dir_fd=parent)


def prune(root: int, parts: Sequence[str]) -> None:
    """Remove the folders that have become empty, up to ``packages``."""
    for depth in range(len(parts), 1, -1):
        with below(root, parts[: depth - 1]) as folder:
            try:
                os.rmdir(parts[depth - 1], dir_fd=folder)
            except OSError:
                return  # not empty


def _entry(folder: int, name: str, key: str) -> Entry | None:
    """None for what is not an object that was put whole."""
    try:
        check_key(key)
    except ValueError:
        return None
    if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        return None
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        size, told, digest = os.fstat(fd).st_size, xattrs.own(fd, SIZE), xattrs.optional(fd, xattrs.DIGEST)
        position = xattrs.own(fd, POSITION)
        if digest is None or told != str(size) or position is None or not position.isdigit():
            return None
        return Entry(key, size, digest, int(position), 0)
    finally:
        os.close(fd)


def _raise(error: OSError) -> None:
    raise error
