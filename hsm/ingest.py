"""Received bytes become durable before they are acknowledged (promise 1).

The order is fixed: bytes to a temporary file, flush, link under the final name, flush the folder,
catalog row committed, success. A crash between any two steps leaves either nothing or an instance
that was never acknowledged.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import hashlib
import os
import secrets
import threading
from pathlib import Path
from typing import Literal

from sqlalchemy.exc import IntegrityError, OperationalError

from hsm import layout
from hsm.catalog import ingest as rows
from hsm.catalog import journal
from hsm.catalog.engine import Catalog
from hsm.errors import Conflict, NoSpace, Permanent, Retryable
from hsm.log import get_logger
from hsm.model import Header
from hsm.part10 import file_head
from hsm.pools import DiskPool
from hsm.wake import Bell

log = get_logger(__name__)

SameUidRule = Literal["reject", "keep first", "keep both"]
STRIPES = 256
VERSIONS_MAX = 99
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})


class StoreOutcome(enum.Enum):
    """What became of a received instance; each of them is a success to the peer."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # the same bytes were there already
    KEPT_FIRST = "kept first"  # other bytes under the same UID; the rule says the first stay
    KEPT_BOTH = "kept both"  # other bytes under the same UID, kept as a further version


class Ingest:
    """Stores instances into the online pool and the catalog."""

    def __init__(self, catalog: Catalog, pool: DiskPool, bell: Bell, same_uid: SameUidRule) -> None:
        self._catalog = catalog
        self._pool = pool
        self._bell = bell
        self.same_uid: SameUidRule = same_uid
        self._stripes = [threading.Lock() for _ in range(STRIPES)]
        self._incoming = pool.root / ".incoming"
        self._incoming.mkdir(exist_ok=True)

    def store(
        self, header: Header, transfer_syntax_uid: str, dataset: bytes | memoryview, source_ae: str
    ) -> StoreOutcome:
        """Make one instance durable and catalogued; when this returns, it may be acknowledged.

        ``dataset`` is kept byte for byte. ``header`` was read from it.

        :raises NoSpace: the pool is full or at its reserve; nothing was stored.
        :raises Conflict: other bytes under this UID are there and the rule is to reject.
        :raises Retryable: the disk or the database failed; the peer may send again.
        """
        head = file_head(header.sop_class_uid, header.sop_instance_uid, transfer_syntax_uid)
        hasher = hashlib.sha256(head)
        hasher.update(dataset)
        digest = hasher.digest()
        size = len(head) + len(dataset)
        # One UID at a time: two associations that bring the same instance must not both be first.
        with self._stripes[hash(header.sop_instance_uid) % STRIPES]:
            version, outcome = self._decide(header, digest, source_ae)
            if outcome in (StoreOutcome.DUPLICATE, StoreOutcome.KEPT_FIRST):
                return outcome
            path = self._pool.root / layout.instance_path(
                header.study_uid, header.series_uid, header.sop_instance_uid, version
            )
            self._write(path, (head, dataset), size)
            received = rows.Received(
                header, transfer_syntax_uid, version, size, digest, source_ae, self._catalog.clock.now()
            )
            self._register(received)
        self._bell.ring()
        return outcome

    def _decide(self, header: Header, digest: bytes, source_ae: str) -> tuple[int, StoreOutcome]:
        """Which version these bytes become, if any."""
        uid = header.sop_instance_uid
        with self._catalog.read() as session:
            known = rows.known_versions(session, uid)
        if not known:
            return 0, StoreOutcome.STORED
        if any(version.digest == digest for version in known):
            return 0, StoreOutcome.DUPLICATE
        verb = {"reject": "rejected", "keep first": "kept first", "keep both": "kept both"}[self.same_uid]
        with self._catalog.write() as session:
            detail = {"sop_instance_uid": uid, "sha256": digest.hex(), "versions": len(known)}
            journal.append(
                session,
                self._catalog.clock.now(),
                f"ae:{source_ae}",
                f"same uid {verb}",
                "study",
                header.study_uid,
                detail,
            )
        log.warning("other bytes under SOP Instance UID %s from %s: %s", uid, source_ae, verb)
        if self.same_uid == "keep first":
            return 0, StoreOutcome.KEPT_FIRST
        if self.same_uid == "reject" or len(known) >= VERSIONS_MAX:
            raise Conflict(f"SOP Instance UID {uid} is in the archive with other content")
        return known[-1].version + 1, StoreOutcome.KEPT_BOTH

    def _write(self, path: Path, parts: tuple[bytes, bytes | memoryview], size: int) -> None:
        health = self._pool.store.health()
        if not health.ok:
            raise Retryable(f"pool {self._pool.name}: {health.message}")
        free = self._pool.store.capacity().free
        if size > free:
            raise NoSpace(f"pool {self._pool.name} has {free} bytes to give and needs {size}")
        temporary = self._incoming / f"{secrets.token_hex(12)}.part"
        try:
            _write_durably(temporary, parts)
            _link(temporary, path, self._pool.root)
        except OSError as error:
            where = f"pool {self._pool.name}: {path}: {error.strerror}"
            if error.errno in FULL_ERRNOS:
                raise NoSpace(where) from error
            raise Retryable(where) from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)

    def _register(self, received: rows.Received) -> None:
        try:
            with self._catalog.write() as session:
                rows.register(session, received)
        except IntegrityError as error:
            raise Permanent(f"catalog refused {received.header.sop_instance_uid}: {error.orig}") from error
        except OperationalError as error:
            # The commit may or may not have reached the disk; the file stays, the peer sends again,
            # and the digest then says which of the two it was.
            raise Retryable(f"catalog: {error.orig}") from error


def _write_durably(path: Path, parts: tuple[bytes, bytes | memoryview]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    try:
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(temporary: Path, path: Path, root: Path) -> None:
    """Give the file its final name, durably, without ever replacing a catalogued file.

    Called with the UID's stripe held and no row for this version in the catalog: a file that has the
    name already was left by a crash and never acknowledged.
    """
    missing = [folder for folder in path.parents if folder.is_relative_to(root) and not folder.is_dir()]
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    try:
        os.link(temporary, path)
    except FileExistsError:
        os.replace(temporary, path)
    for folder in {path.parent, *(made.parent for made in missing)}:
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to stable storage."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
