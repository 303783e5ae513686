"""What a store does with files of the server, each in a few requests of a session."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from drivers.sftp.session import Refused, Session
from drivers.sftp.wire import HARDLINK, POSIX_RENAME, Attributes, Code, Flag


def lstat(session: Session, path: str) -> Attributes | None:
    """None where nothing has that name."""
    try:
        return session.lstat(path)
    except Refused as refused:
        if refused.code == Code.NO_SUCH_FILE:
            return None
        raise


def listdir(session: Session, path: str) -> list[tuple[str, Attributes]] | None:
    """None where there is no such folder."""
    try:
        return session.listdir(path)
    except Refused as refused:
        if refused.code == Code.NO_SUCH_FILE:
            return None
        raise


def remove(session: Session, path: str) -> None:
    """Remove a file; absent is fine."""
    try:
        session.remove(path)
    except Refused as refused:
        if refused.code != Code.NO_SUCH_FILE:
            raise


def name(session: Session, path: str, target: str) -> None:
    """Give the file ``path`` the name ``target``, which must be free, and take its old one away.

    A hard link, where the server has the extension and its file system has them; else the draft's rename,
    which must fail where the name is taken; else rename(2), once it is known to be free.

    :raises Refused: taken, or it cannot be done.
    """
    if HARDLINK in session.extensions:
        try:
            session.hardlink(path, target)
        except Refused as refused:
            if refused.code == Code.NO_SUCH_FILE or lstat(session, target) is not None:
                raise
        else:
            remove(session, path)
            return
    try:
        session.rename(path, target)
    except Refused:
        if POSIX_RENAME not in session.extensions or lstat(session, target) is not None:
            raise
        session.posix_rename(path, target)


def sync_folder(session: Session, path: str) -> None:
    """Have the names in a folder flushed, where the server opens folders (OpenSSH does)."""
    with suppress(Refused):
        handle = session.open(path, Flag.READ)
        try:
            session.fsync(handle)
        finally:
            session.close_handle(handle)


def make_folders(session: Session, base: str, parts: Sequence[str]) -> bool:
    """Make the folders ``parts`` below ``base``, from the deepest that is there; False if one is no folder.

    :raises Refused: one cannot be made.
    """
    paths = ["/".join((base, *parts[:depth])) for depth in range(1, len(parts) + 1)]
    missing: list[str] = []
    for path in reversed(paths):
        attributes = lstat(session, path)
        if attributes is not None:
            if not attributes.is_folder:
                return False
            break
        missing.append(path)
    for path in reversed(missing):
        try:
            session.mkdir(path)
        except Refused:
            if lstat(session, path) is None:  # else another was quicker
                raise
    return True
