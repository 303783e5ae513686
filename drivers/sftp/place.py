"""The folder on a server in which a store is: its names, and whether it is the one that is meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from drivers.base import StoreLabel
from drivers.errors import NotFound, OperatorNeeded, Permanent, Retryable
from drivers.sentinel import SENTINEL, parse_sentinel
from drivers.sftp import files
from drivers.sftp.session import Refused, Session
from drivers.sftp.settings import Settings
from drivers.sftp.wire import STATVFS, Code, Flag
from drivers.transfer import safe_key

INCOMING = ".incoming"
# Compared in lower case: the file system there may not tell the cases apart.
_RESERVED = (INCOMING, SENTINEL)
_LABEL_BYTES_MAX = 4096


class Place:
    """``settings.path`` on its server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.base = settings.path.rstrip("/")
        self.where = f"{settings.server}{self.base or '/'}"
        """Server and folder, for messages."""

    def at(self, *parts: str) -> str:
        """The path of what is there under these names."""
        return "/".join((self.base, *parts))

    def no_folder(self) -> OperatorNeeded:
        """The error for a place that is not there."""
        return OperatorNeeded(f"{self.where} is not a folder; create it or mount its file system there")

    def require_label(self, session: Session) -> None:
        """:raises OperatorNeeded: it does not carry the sentinel that is expected."""
        expected = self._settings.expect_uuid
        if expected is None:
            return
        label = self.read_label(session)
        if label is None or label.uuid != expected:
            found = "no sentinel" if label is None else f"pool {label.pool!r} ({label.uuid})"
            raise OperatorNeeded(
                f"{self.where} carries {found}, expected {expected}: its file system is probably not "
                "mounted on the server, or the option path is wrong"
            )

    def read_label(self, session: Session) -> StoreLabel | None:
        """What its sentinel says; None where there is none."""
        path = self.at(SENTINEL)
        attributes = files.lstat(session, path)
        if attributes is None or not attributes.is_file:
            return None
        handle = session.open(path, Flag.READ)
        content = b"".join(session.read(handle, 0, min(attributes.size or 0, _LABEL_BYTES_MAX), SENTINEL))
        session.close_handle(handle)
        return StoreLabel(*parse_sentinel(content, f"{self.where}/{SENTINEL}"))

    def require_writable(self, session: Session) -> None:
        """:raises OperatorNeeded: the server says that its file system is mounted read-only."""
        if STATVFS in session.extensions and session.statvfs(self.base).read_only:
            raise OperatorNeeded(f"{self.where}: the server's file system is mounted read-only")

    @contextmanager
    def translated(self, what: str) -> Iterator[None]:
        """Raise every refusal of the server as a driver error about ``what``."""
        try:
            yield
        except Refused as refused:
            message = f"{what} on {self.where}: {refused}"
            if refused.code == Code.PERMISSION_DENIED:
                raise OperatorNeeded(f"{message}; check owner and mode there") from refused
            if refused.code == Code.UNSUPPORTED:
                raise Permanent(message) from refused
            if refused.code == Code.NO_SUCH_FILE:
                raise NotFound(message) from refused
            raise Retryable(message) from refused


def parts_of(key: str) -> tuple[str, ...]:
    """The names that a key is made of. :raises Permanent: it is none, or would be the store's own."""
    parts = tuple(safe_key(key).split("/"))
    if parts[0].lower().startswith(_RESERVED):
        raise Permanent(f"key {key!r}: {parts[0]} is reserved for the store itself")
    return parts


def is_key(name: str) -> bool:
    """Whether a path below the place may be an object's."""
    try:
        parts_of(name)
    except Permanent:
        return False
    return True
