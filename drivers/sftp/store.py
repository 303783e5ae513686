"""A Store in a folder of a server that speaks SFTP.

An object is the file ``path/key`` there. It is written to ``path/.incoming`` first, flushed
(fsync@openssh.com), and given its name by a hard link, which fails where the name is taken; so a
reader, a crash or a lost connection meets all of it or nothing. The folder carries the same sentinel
as a local one (:mod:`drivers.sentinel`).

What the server holds in memory it may serve from memory: ``drop_caches`` cannot reach its cache.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from drivers.base import CHUNK_BYTES, Capacity, Health, ObjectStat, Readable, StoreLabel, Traits
from drivers.errors import DriverError, NoSpace, NotFound, OperatorNeeded, Permanent, Retryable
from drivers.keyturns import KeyTurns
from drivers.sentinel import SENTINEL, sentinel_text
from drivers.sftp import files, upload
from drivers.sftp.leavings import Leavings
from drivers.sftp.place import INCOMING, Place, is_key, parts_of
from drivers.sftp.pool import Dial, Sessions, dial
from drivers.sftp.session import Lost, Refused, Session, Upload
from drivers.sftp.settings import Settings
from drivers.sftp.upload import RESUME_BYTES, Draft
from drivers.sftp.wire import FSYNC, STATVFS, Code, Flag
from drivers.transfer import check_put, check_range, span

_STALE_SECONDS = 3600
_PUBLISH_ATTEMPTS = 8


class SftpStore:
    """A Store on ``settings.path`` of a server; nothing is connected before the first call.

    With ``settings.expect_uuid`` the folder must carry that sentinel, which is looked at before each
    put and delete, and before anything is called absent. Thread-safe; each call has a connection of its
    own while it lasts. An upload that was interrupted goes on where it was, at the next put of the same
    key with the same digest by the same store.

    One store at a time may write below ``path``: a put whose outcome was lost with the connection is
    undone at the next call.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        dialler: Dial = dial,
        resume_bytes: int = RESUME_BYTES,
    ) -> None:
        self._settings, self._resume_bytes = settings, resume_bytes
        self._place = Place(settings)
        self._rng = rng or random.Random()
        self._sessions = Sessions(settings, clock, self._rng, self._begin, dialler)
        self._turns = KeyTurns()
        self._numbers = itertools.count()
        self._prefix = f"{socket.gethostname()}-{os.getpid()}-{self._rng.getrandbits(48):012x}"
        self._lock = threading.Lock()
        self._unsynced: set[tuple[str, ...]] = set()
        self._left = Leavings(self._place.at(INCOMING))
        self._cleaned = False
        self._used: int | None = None

    @property
    def traits(self) -> Traits:
        return Traits(latency_seconds=0.1)

    def close(self) -> None:
        """Drop the connections that are not in use."""
        self._sessions.close()

    # The protocol

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        """See :meth:`drivers.base.Store.put`."""
        parts = parts_of(key)
        check_put(size, digest, key)
        with self._turns.turn(key, self._settings.timeout_seconds):
            draft = self._left.draft(key, size, digest) or Draft(self._new_path(), key, size, digest)
            try:
                with self._session(f"put {key}") as session:
                    self._place.require_label(session)
                    self._refuse_existing(session, parts, key)
                    self._require_space(session, size - draft.safe, key)
                    self._send(session, draft, source)
                    self._publish(session, draft, parts)
            except BaseException as error:
                self._put_failed(draft, parts, error)
                raise
        with self._lock:
            self._unsynced.add(parts[:-1])
            self._used = None if self._used is None else self._used + size
        return ObjectStat(key, size)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`drivers.base.Store.get`; errors are raised when the first piece is asked for."""
        parts = parts_of(key)
        check_range(offset, length, key)
        with self._session(f"get {key}") as session:
            wanted = span(key, self._object(session, parts, key), offset, length)
            handle = session.open(self._place.at(*parts), Flag.READ)
            held: list[memoryview] = []
            size = 0
            for data in session.read(handle, offset, wanted, key):
                if size + len(data) > CHUNK_BYTES:
                    yield b"".join(held)
                    held, size = [], 0
                held.append(data)
                size += len(data)
            session.close_handle(handle)
            if held:
                yield b"".join(held)

    def delete(self, key: str) -> None:
        """See :meth:`drivers.base.Store.delete`. Folders that become empty go too."""
        parts = parts_of(key)
        with self._session(f"delete {key}") as session:
            self._place.require_label(session)
            attributes = files.lstat(session, self._place.at(*parts))
            if attributes is None or not attributes.is_file:
                return
            files.remove(session, self._place.at(*parts))
            with self._lock:
                self._unsynced.add(parts[:-1])
                self._used = None if self._used is None else self._used - (attributes.size or 0)
            for depth in range(len(parts) - 1, 0, -1):
                try:
                    session.rmdir(self._place.at(*parts[:depth]))
                except Refused:
                    break  # not empty

    def list(self) -> Iterator[ObjectStat]:
        """Every object, folder by folder in name order. Files that cannot be keys are not listed."""
        folders: list[tuple[str, ...]] = [()]
        while folders:
            parts = folders.pop()
            with self._session(f"list {self._place.at(*parts)}") as session:
                if not parts:
                    self._place.require_label(session)
                entries = files.listdir(session, self._place.at(*parts))
            if entries is None:
                if not parts:
                    raise self._place.no_folder()
                continue  # it went meanwhile
            deeper = []
            for name, attributes in sorted(entries, key=lambda entry: entry[0]):
                key = "/".join((*parts, name))
                if not is_key(key):
                    continue
                if attributes.is_folder:
                    deeper.append((*parts, name))
                elif (
                    attributes.is_file
                    and attributes.size is not None
                    and self._place.at(key) not in self._left
                ):
                    yield ObjectStat(key, attributes.size)
            folders += reversed(deeper)

    def stat(self, key: str) -> ObjectStat:
        """See :meth:`drivers.base.Store.stat`."""
        parts = parts_of(key)
        with self._session(f"stat {key}") as session:
            return ObjectStat(key, self._object(session, parts, key))

    def capacity(self) -> Capacity:
        """Of the server's file system (statvfs@openssh.com) or of the quota, whichever is less."""
        with self._session(f"capacity of {self._place.base}") as session:
            room = self._room(session)
        if room is None:
            raise Permanent(
                f"{self._place.where}: the server does not say how much room there is; set quota_bytes"
            )
        return room

    def flush(self) -> None:
        """See :meth:`drivers.base.Store.flush`: puts flush their bytes, this flushes the folders' names."""
        with self._lock:
            folders, self._unsynced = self._unsynced, set()
        try:
            with self._session(f"flush {self._place.base}") as session:
                self._place.require_label(session)
                if FSYNC in session.extensions:
                    for each in {parts[:depth] for parts in folders for depth in range(len(parts) + 1)}:
                        files.sync_folder(session, self._place.at(*each))
        except BaseException:
            with self._lock:
                self._unsynced |= folders
            raise

    def drop_caches(self) -> None:
        """Nothing is cached on this side; the server's own cache cannot be reached."""

    def health(self) -> Health:
        """Whether the expected folder is there and takes a file."""
        try:
            with self._session(f"write into {self._place.base}") as session:
                self._place.require_label(session)
                self._place.require_writable(session)
                path = self._fresh_name(session)
                session.close_handle(session.open(path, Flag.WRITE | Flag.CREATE | Flag.EXCLUSIVE, 0o640))
                session.remove(path)
        except DriverError as error:
            return Health(False, str(error))
        return Health(True)

    def read_label(self) -> StoreLabel | None:
        """See :meth:`drivers.base.Labelled.read_label`."""
        with self._session(f"read {self._place.at(SENTINEL)}") as session:
            return self._place.read_label(session)

    def write_label(self, label: StoreLabel) -> None:
        """See :meth:`drivers.base.Labelled.write_label`."""
        with self._session(f"write {self._place.at(SENTINEL)}") as session:
            present = self._place.read_label(session)
            if present == label:
                return
            if present is not None:
                raise Permanent(
                    f"{self._place.where} is pool {present.pool!r} ({present.uuid}), not {label.pool!r} "
                    f"({label.uuid}); if that pool is really gone, remove {SENTINEL} there by hand"
                )
            path = self._fresh_name(session)
            handle = session.open(path, Flag.WRITE | Flag.CREATE | Flag.EXCLUSIVE, 0o640)
            sending = Upload(session, handle)
            sending.write(sentinel_text(label.pool, label.uuid).encode())
            sending.finish()
            if FSYNC in session.extensions:
                session.fsync(handle)
            session.close_handle(handle)
            files.name(session, path, self._place.at(SENTINEL))
            files.sync_folder(session, self._place.base)

    # Sessions

    def _begin(self, session: Session) -> None:
        """What every new session begins with."""
        if FSYNC not in session.extensions and not self._settings.without_fsync:
            raise OperatorNeeded(
                f"{self._place.where}: the server has no {FSYNC}, so nothing says when a file is on its "
                "disks. Use one that has it (OpenSSH 6.5 or later), or set without_fsync: true to do without"
            )
        attributes = files.lstat(session, self._place.base + "/.")
        if attributes is None or not attributes.is_folder:
            raise self._place.no_folder()
        if not self._cleaned:
            with self._place.translated(f"clean {self._place.at(INCOMING)}"):
                self._remove_stale(session)
            self._cleaned = True

    @contextmanager
    def _session(self, what: str) -> Iterator[Session]:
        with self._place.translated(what), self._sessions.session() as session:
            self._left.settle(session)
            yield session

    def _remove_stale(self, session: Session) -> None:
        """Remove what puts of the past left in ``.incoming``; the server's clock tells what is past."""
        entries = files.listdir(session, self._place.at(INCOMING)) or []
        if not entries:
            return
        probe = self._fresh_name(session)
        session.close_handle(session.open(probe, Flag.WRITE | Flag.CREATE | Flag.EXCLUSIVE, 0o640))
        now = session.lstat(probe).modified or 0
        session.remove(probe)
        for name, attributes in entries:
            if attributes.is_file and now - (attributes.modified or now) > _STALE_SECONDS:
                files.remove(session, self._place.at(INCOMING, name))

    # Puts

    def _send(self, session: Session, draft: Draft, source: Readable) -> None:
        if not draft.safe:
            self._make_incoming(session)
        try:
            upload.send(session, draft, source, FSYNC in session.extensions, self._resume_bytes)
        except Refused as refused:
            raise self._explained(draft, refused) from refused

    def _publish(self, session: Session, draft: Draft, parts: tuple[str, ...]) -> None:
        target = self._place.at(*parts)
        for _ in range(_PUBLISH_ATTEMPTS):
            # A folder may go between making it and linking into it: delete prunes empty ones.
            if not files.make_folders(session, self._place.base, parts[:-1]):
                raise Permanent(f"put {draft.key} into {self._place.where}: a part of the key is no folder")
            draft.publishing = True
            try:
                files.name(session, draft.path, target)
            except Refused as refused:
                draft.publishing = False
                if files.lstat(session, target) is not None:
                    raise Permanent(
                        f"{draft.key} is in {self._place.where} already; objects are immutable"
                    ) from refused
                if refused.code != Code.NO_SUCH_FILE:
                    raise
            else:
                return
        raise Retryable(f"put {draft.key}: its folder was removed {_PUBLISH_ATTEMPTS} times meanwhile")

    def _put_failed(self, draft: Draft, parts: tuple[str, ...], error: BaseException) -> None:
        target = self._place.at(*parts) if draft.publishing else None
        if self._left.failed(draft, target, lost=isinstance(error, Lost)):
            return
        if not isinstance(error, Retryable | OperatorNeeded):
            # The server is well: leave nothing lying there. Else the next call removes it.
            with suppress(DriverError), self._session("remove what a failed put left"):
                pass

    def _explained(self, draft: Draft, refused: Refused) -> DriverError:
        """SFTP 3 says "failure" to a full disk and to much else; the file system says which it was."""
        message = f"put {draft.key} on {self._place.where}: {refused}"
        if refused.code == Code.PERMISSION_DENIED:
            return OperatorNeeded(f"{message}; check owner and mode of {self._place.base} there")
        with suppress(DriverError), self._sessions.session() as session, suppress(Refused):
            if STATVFS in session.extensions:
                system = session.statvfs(self._place.base)
                if system.read_only:
                    return OperatorNeeded(f"{message}; the server's file system is mounted read-only")
                if system.free < max(CHUNK_BYTES, draft.size // 100):
                    return NoSpace(f"{message}; the server's file system is full")
        return Retryable(f"{message}; look for a full quota, or a failing disk, there")

    def _make_incoming(self, session: Session) -> None:
        try:
            session.lstat(self._place.at(INCOMING))
        except Refused:
            with suppress(Refused):  # another may have been quicker; else opening in it says what is wrong
                session.mkdir(self._place.at(INCOMING))

    # Checks

    def _object(self, session: Session, parts: tuple[str, ...], key: str) -> int:
        """The size of an object. Absent from the pool, or is the pool itself absent?"""
        self._require_settled(parts, key)
        attributes = files.lstat(session, self._place.at(*parts))
        if attributes is not None and attributes.is_file and attributes.size is not None:
            return attributes.size
        self._place.require_label(session)
        raise NotFound(f"{key} is not in {self._place.where}")

    def _refuse_existing(self, session: Session, parts: tuple[str, ...], key: str) -> None:
        self._require_settled(parts, key)
        if files.lstat(session, self._place.at(*parts)) is not None:
            raise Permanent(f"{key} is in {self._place.where} already; objects are immutable")

    def _require_settled(self, parts: tuple[str, ...], key: str) -> None:
        if self._place.at(*parts) in self._left:
            raise Retryable(
                f"{key}: an earlier put of it failed and cannot be undone in {self._place.where} yet"
            )

    def _require_space(self, session: Session, size: int, key: str) -> None:
        room = self._room(session)
        if room is not None and size > room.free:
            raise NoSpace(f"put {key} into {self._place.where}: {size} bytes, {room.free} are free")

    def _room(self, session: Session) -> Capacity | None:
        known: list[Capacity] = []
        if STATVFS in session.extensions:
            system = session.statvfs(self._place.base)
            known.append(Capacity(system.total, system.free))
        if self._settings.quota_bytes is not None:
            if self._used is None:
                self._used = sum(each.size for each in self.list())
            known.append(
                Capacity(self._settings.quota_bytes, max(0, self._settings.quota_bytes - self._used))
            )
        if not known:
            return None
        free = min(each.free for each in known) - self._settings.reserve_bytes
        return Capacity(min(each.total for each in known), max(0, free))

    # Names

    def _fresh_name(self, session: Session) -> str:
        self._make_incoming(session)
        return self._new_path()

    def _new_path(self) -> str:
        return self._place.at(INCOMING, f"{self._prefix}-{next(self._numbers)}")
