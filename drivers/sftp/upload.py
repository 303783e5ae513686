"""Sending one object into a file that no reader looks at, and going on with it after an interruption."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from drivers.base import Readable
from drivers.errors import Corrupt, Retryable
from drivers.sftp.session import Lost, Refused, Session, Upload
from drivers.sftp.wire import Flag
from drivers.transfer import copy_exactly

RESUME_BYTES = 64 << 20
"""After each so many bytes the server is told to flush, and an interrupted upload can go on from there."""


@dataclass(slots=True)
class Draft:
    """A file being uploaded, and how much of it is surely there."""

    path: str
    key: str
    size: int
    digest: bytes | None
    safe: int = 0
    """So many bytes are on the server's stable storage."""
    prefix: bytes = field(default_factory=lambda: hashlib.sha256().digest())
    """SHA-256 of these bytes, as they were sent."""
    publishing: bool = False
    """The request that gives it its name may have been sent."""

    def same(self, size: int, digest: bytes | None) -> bool:
        """Whether this is an upload of the same bytes, as far as anyone says."""
        return digest is not None and (size, digest) == (self.size, self.digest)


def send(session: Session, draft: Draft, source: Readable, fsync: bool, resume_bytes: int) -> None:
    """Send ``source`` into ``draft.path``, and have it flushed where ``fsync`` is set.

    :raises Corrupt: the source gave other bytes than the draft's digest says, too few or too many.
    :raises Retryable: what was sent before the interruption is not what the source gives now.
    :raises Refused: the server cannot write.
    """
    resumed = draft.safe
    flags = Flag.WRITE if resumed else Flag.WRITE | Flag.CREATE | Flag.EXCLUSIVE
    handle = session.open(draft.path, flags, None if resumed else 0o640)
    try:
        if resumed and (session.fstat(handle).size or 0) < resumed:
            raise _other(draft, "the server holds less of it than it said")
        _stream(session, handle, draft, source, fsync, resume_bytes)
        if session.fstat(handle).size != draft.size:
            raise _other(draft, f"the server holds another size than {draft.size} bytes")
    finally:
        if session.usable:
            session.close_handle(handle)


def _stream(
    session: Session, handle: bytes, draft: Draft, source: Readable, fsync: bool, resume_bytes: int
) -> None:
    upload, hasher = Upload(session, handle, draft.safe), hashlib.sha256()
    resumed, seen, mark = draft.safe, 0, draft.safe + resume_bytes

    def write(data: bytes) -> None:
        nonlocal seen, mark
        before = min(len(data), max(0, resumed - seen))
        if before:
            hasher.update(data[:before])
            if seen + before == resumed and hasher.digest() != draft.prefix:
                raise _other(draft, "the source gives other bytes than before the interruption")
        hasher.update(data[before:])
        if len(data) > before:
            upload.write(data[before:])
        seen += len(data)
        if fsync and draft.digest is not None and seen >= mark:
            upload.flush(partial(_safe, draft, seen, hasher.digest()))
            mark = seen + resume_bytes

    try:
        copy_exactly(source, draft.size, None, write, draft.key)
    except (Lost, Refused):
        raise
    except BaseException:
        with suppress(Lost, Refused):  # the source's own error is what is told
            upload.finish()
        raise
    if draft.digest is not None and hasher.digest() != draft.digest:
        upload.finish()
        raise Corrupt(
            f"put {draft.key}: the source's SHA-256 is {hasher.hexdigest()}, expected {draft.digest.hex()}"
        )
    upload.finish()  # first, because not every server does one thing after the other
    if fsync:
        session.fsync(handle)


def _safe(draft: Draft, seen: int, prefix: bytes) -> None:
    draft.safe, draft.prefix = seen, prefix


def _other(draft: Draft, why: str) -> Retryable:
    draft.safe = 0
    return Retryable(f"put {draft.key}: {why}; the next attempt begins anew")
