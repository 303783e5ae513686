"""The sentinel of a pool folder: the file ``.hsm-pool`` that says whose folder this is.

A mount point whose file system is not mounted is an ordinary empty folder of the root disk. The
sentinel lies on the mounted file system, so its absence tells the two apart.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from drivers.errors import Corrupt, OperatorNeeded, Permanent
from drivers.oserrors import translated
from drivers.walk import FOLDER_FLAGS, sync_folder

SENTINEL = ".hsm-pool"
_SIZE_MAX = 4096


def write_sentinel(root: str | os.PathLike[str], pool: str, uuid: str) -> None:
    """Mark the existing folder ``root`` as the one of ``pool``; on stable storage on return.

    Doing it again with the same values changes nothing.

    :raises OperatorNeeded: ``root`` is not a folder.
    :raises Permanent: it is marked as another pool's.
    """
    folder = open_folder(root)
    try:
        present = read_sentinel_at(folder, root)
        if present is not None:
            if present == (pool, uuid):
                return
            raise Permanent(
                f"{Path(root) / SENTINEL} says that this folder is pool {present[0]!r} ({present[1]}), "
                f"not {pool!r} ({uuid}); if that pool is really gone, remove the file by hand"
            )
        temporary = f"{SENTINEL}.{os.getpid()}"
        with translated(f"write {Path(root) / SENTINEL}"):
            fd = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640, dir_fd=folder
            )
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(sentinel_text(pool, uuid))
                file.flush()
                os.fsync(fd)
            os.rename(temporary, SENTINEL, src_dir_fd=folder, dst_dir_fd=folder)
            sync_folder(folder)
    finally:
        os.close(folder)


def read_sentinel(root: str | os.PathLike[str]) -> tuple[str, str] | None:
    """Return ``(pool, uuid)``, or None when the folder is not marked.

    :raises OperatorNeeded: ``root`` is not a folder.
    :raises Corrupt: the sentinel is unreadable as one.
    """
    folder = open_folder(root)
    try:
        return read_sentinel_at(folder, root)
    finally:
        os.close(folder)


def open_folder(root: str | os.PathLike[str]) -> int:
    """Open the folder ``root`` and return its descriptor.

    :raises OperatorNeeded: it does not exist or is not a folder.
    """
    try:
        return os.open(root, FOLDER_FLAGS)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise OperatorNeeded(
            f"{root} is not a folder ({error.strerror}); create it or mount its file system"
        ) from error
    except OSError as error:
        raise OperatorNeeded(f"{root} cannot be opened: {error.strerror}") from error


def read_sentinel_at(folder: int, root: str | os.PathLike[str]) -> tuple[str, str] | None:
    """:func:`read_sentinel` of an open folder; ``root`` is for messages only."""
    path = Path(root) / SENTINEL
    with translated(f"read {path}"):
        try:
            fd = os.open(SENTINEL, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError:
            return None
        try:
            content = os.read(fd, _SIZE_MAX)
        finally:
            os.close(fd)
    return parse_sentinel(content, path)


def parse_sentinel(content: bytes, path: object) -> tuple[str, str]:
    """``(pool, uuid)`` of a sentinel's bytes. :raises Corrupt: they are none; ``path`` is for messages."""
    try:
        values = json.loads(content)
        pool, uuid = values["pool"], values["uuid"]
    except (ValueError, TypeError, KeyError) as error:
        raise Corrupt(f"{path} is not a pool's sentinel: {error!r}") from error
    if not (isinstance(pool, str) and isinstance(uuid, str)):
        raise Corrupt(f"{path} is not a pool's sentinel: pool and uuid must be text")
    return pool, uuid


def sentinel_text(pool: str, uuid: str) -> str:
    """What a sentinel holds."""
    return json.dumps({"pool": pool, "uuid": uuid}) + "\n"


def require_sentinel(folder: int, root: str | os.PathLike[str], uuid: str) -> None:
    """:raises OperatorNeeded: the open folder is not the one marked with ``uuid``."""
    present = read_sentinel_at(folder, root)
    if present is None:
        raise OperatorNeeded(
            f"{root} does not carry {SENTINEL} with {uuid}: its file system is probably not mounted; "
            "mount it and try again"
        )
    if present[1] != uuid:
        raise OperatorNeeded(
            f"{root} is pool {present[0]!r} ({present[1]}), expected {uuid}: probably not mounted, "
            "or another file system is mounted there"
        )
