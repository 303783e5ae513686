"""A Store on a mounted file system: a RAID path, a NAS mount, any folder.

An object is a file at ``root/key``. It is written to ``root/.incoming`` first and linked to its
name only when its bytes are on stable storage, so that a crash leaves all of it or nothing.
Folders are walked by descriptor and no symbolic link is followed below the root, so that no key
leads out of it.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from drivers import options as opt
from drivers.base import (
    CHUNK_BYTES,
    Capacity,
    Family,
    Health,
    ObjectStat,
    Readable,
    StoreLabel,
    Traits,
)
from drivers.errors import Corrupt, DriverError, NoSpace, NotFound, Permanent, Retryable
from drivers.incoming import Incoming, IncomingFolder
from drivers.oserrors import translated
from drivers.quotas import room_at
from drivers.sentinel import (
    SENTINEL,
    open_folder,
    read_sentinel,
    require_sentinel,
    write_sentinel,
)
from drivers.transfer import check_put, check_range, copy_exactly, safe_key, span, write_all
from drivers.walk import below, is_object, sync_chain, sync_folder

__all__ = ["FAMILY", "FolderStore", "read_sentinel", "write_sentinel"]

INCOMING = ".incoming"
# Compared in lower case: the file system may not tell the cases apart. What begins so is the store's own.
_RESERVED = (INCOMING, SENTINEL)
_REMEMBERED_MAX = 10_000
_PUBLISH_ATTEMPTS = 8


class FolderStore:
    """A Store on the existing folder ``root``; ``reserve_bytes`` of its file system stay free.

    With ``expect_uuid`` the folder must carry that sentinel (:mod:`drivers.sentinel`), which is
    looked at when the store opens, before each put and delete, and before anything is called absent.

    What dead processes left in ``.incoming`` is removed when the store opens, unless ``clean`` is False:
    for a process that joins others at work here.

    ``guard`` is called with the open root wherever the sentinel is looked at, and raises where this is not
    the place. With ``preallocate`` a file's room is taken before its first byte: for file systems of this
    machine, since elsewhere the C library would do it by writing zeros.

    ``put`` is durable when it returns, which is more than :class:`drivers.base.Store` asks;
    ``delete`` is durable after ``flush``. Thread-safe.

    :raises OperatorNeeded: the folder is not there, or is not the one that was expected.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        reserve_bytes: int = 0,
        expect_uuid: str | None = None,
        clean: bool = True,
        guard: Callable[[int], None] | None = None,
        preallocate: bool = False,
    ) -> None:
        self._root = Path(os.path.abspath(root))
        self._guard, self._preallocate = guard, preallocate
        self._reserve = reserve_bytes
        self._expect_uuid = expect_uuid
        self._begun = IncomingFolder(INCOMING, self._began)
        self._lock = threading.Lock()
        self._durable_folders: set[str] = set()
        self._unsynced_folders: set[tuple[str, ...]] = set()
        self._any_unsynced = False
        self._dropping = False
        self._dropped: set[str] = set()
        with self._open_root(checked=True) as root_fd:
            if clean:
                with translated(f"clean {self._root / INCOMING}"):
                    self._begun.remove_stale(root_fd)

    @property
    def traits(self) -> Traits:
        return Traits()

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        """See :meth:`drivers.base.Store.put`; durable on return."""
        parts = self._parts(key)
        check_put(size, digest, key)
        with translated(f"put {self._root / key}"), self._open_root(checked=True) as root:
            self._refuse_existing(root, parts, key)
            self._require_space(root, size, key)
            with self._begun.file(root) as incoming:
                if self._preallocate and size:
                    os.posix_fallocate(incoming.fd, 0, size)
                copy_exactly(source, size, digest, lambda data: write_all(incoming.fd, data), key)
                os.fsync(incoming.fd)
                self._publish(root, incoming, parts, key)
        return ObjectStat(key, size)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`drivers.base.Store.get`; errors are raised when the first piece is asked for."""
        parts = self._parts(key)
        check_range(offset, length, key)
        with translated(f"get {self._root / key}"):
            fd = self._open_object(parts, key)
            try:
                wanted = span(key, os.fstat(fd).st_size, offset, length)
                if self._must_drop(key):
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                while wanted:
                    chunk = self._read(fd, min(CHUNK_BYTES, wanted), offset)
                    if not chunk:
                        raise Corrupt(f"get {key}: {self._root / key} ended at byte {offset}")
                    offset += len(chunk)
                    wanted -= len(chunk)
                    yield chunk
            finally:
                os.close(fd)

    def _began(self, fd: int) -> None:
        """A put has made its file; for those who pace it."""

    def _read(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def delete(self, key: str) -> None:
        """See :meth:`drivers.base.Store.delete`. Folders that become empty go too."""
        parts = self._parts(key)
        with translated(f"delete {self._root / key}"), self._open_root(checked=True) as root:
            # One that is not there may have been deleted and never flushed: a power cut would bring it back.
            try:
                with suppress(FileNotFoundError), below(root, parts[:-1]) as folder:
                    if is_object(folder, parts[-1]):
                        os.unlink(parts[-1], dir_fd=folder)
            except NotADirectoryError:
                return  # below an object nothing was ever put
            with self._lock:
                self._unsynced_folders.add(parts[:-1])
                self._dropped.discard(key)
            self._prune(root, parts[:-1])

    def list(self) -> Iterator[ObjectStat]:
        """Every object, folder by folder in name order. Files that cannot be keys are not listed."""
        with translated(f"list {self._root}"), self._open_root(checked=True) as root:
            for path, folders, files, fd in os.fwalk(".", onerror=_raise_unless_gone, dir_fd=root):
                prefix = "" if path == "." else path.removeprefix("./") + "/"
                folders[:] = sorted(name for name in folders if self._is_key(prefix + name))
                for name in sorted(files):
                    if not self._is_key(prefix + name):
                        continue
                    with suppress(FileNotFoundError):
                        entry = os.stat(name, dir_fd=fd, follow_symlinks=False)
                        if stat.S_ISREG(entry.st_mode):
                            yield ObjectStat(prefix + name, entry.st_size)

    def stat(self, key: str) -> ObjectStat:
        """See :meth:`drivers.base.Store.stat`."""
        parts = self._parts(key)
        with translated(f"stat {self._root / key}"):
            fd = self._open_object(parts, key)
            try:
                found = ObjectStat(key, os.fstat(fd).st_size)
            finally:
                os.close(fd)
        # Who put it may have died before its name was durable: who finds it and flushes counts on it.
        with self._lock:
            if len(self._unsynced_folders) < _REMEMBERED_MAX:
                self._unsynced_folders.add(parts[:-1])
            elif parts[:-1] not in self._unsynced_folders:
                self._any_unsynced = True
        return found

    def capacity(self) -> Capacity:
        """Of the file system, as an unprivileged user sees it, or what this process's quotas leave
        (:mod:`drivers.quotas`) if that is less; the reserve taken off what is free."""
        with translated(f"statvfs {self._root}"), self._open_root(checked=True) as root:
            found = room_at(root)
        return Capacity(found.total, max(0, found.free - self._reserve))

    def flush(self) -> None:
        """See :meth:`drivers.base.Store.flush`. What this Store has put is durable already: this is for
        deletes, and for what :meth:`stat` has found and somebody put who is dead."""
        with self._lock:
            folders, self._unsynced_folders = self._unsynced_folders, set()
            everything, self._any_unsynced = self._any_unsynced, False
        try:
            with translated(f"flush {self._root}"), self._open_root(checked=True) as root:
                for parts in folders:
                    sync_chain(root, parts)
                if everything:
                    for _, _, _, folder in os.fwalk(".", onerror=_raise_unless_gone, dir_fd=root):
                        sync_folder(folder)
        except BaseException:
            with self._lock:  # what failed is not done: the next flush tries it again
                self._unsynced_folders |= folders
                self._any_unsynced |= everything
            raise

    def drop_caches(self) -> None:
        """Each object's next ``get``, in whatever thread, drops its cached pages first."""
        with self._lock:
            self._dropping = True
            self._dropped.clear()

    def health(self) -> Health:
        """Whether the expected folder is there and takes a file."""
        try:
            self.try_out()
        except DriverError as error:
            return Health(False, str(error))
        return Health(True)

    def try_out(self) -> None:
        """Write a few bytes and remove them. :raises DriverError: why the folder takes no file."""
        with translated(f"write into {self._root}"), self._open_root(checked=True) as root:
            with self._begun.file(root) as incoming:
                write_all(incoming.fd, b"hsm")

    def read_label(self) -> StoreLabel | None:
        """See :meth:`drivers.base.Labelled.read_label`: the sentinel of :mod:`drivers.sentinel`."""
        present = read_sentinel(self._root)
        return StoreLabel(*present) if present else None

    def write_label(self, label: StoreLabel) -> None:
        """See :meth:`drivers.base.Labelled.write_label`."""
        write_sentinel(self._root, label.pool, label.uuid)

    @staticmethod
    def _is_key(name: str) -> bool:
        try:
            FolderStore._parts(name)
        except Permanent:
            return False
        return True

    @staticmethod
    def _parts(key: str) -> tuple[str, ...]:
        parts = tuple(safe_key(key).split("/"))
        if parts[0].lower().startswith(_RESERVED):
            raise Permanent(f"key {key!r}: {parts[0]} is reserved for the store itself")
        return parts

    @contextmanager
    def _open_root(self, *, checked: bool) -> Iterator[int]:
        fd = open_folder(self._root)
        try:
            if checked and self._guard is not None:
                self._guard(fd)
            if checked and self._expect_uuid is not None:
                require_sentinel(fd, self._root, self._expect_uuid)
            yield fd
        finally:
            os.close(fd)

    def _make_folder(self, parent: int, parts: Sequence[str]) -> None:
        try:
            os.mkdir(parts[-1], 0o750, dir_fd=parent)
        except FileExistsError:
            return
        with self._lock:
            self._durable_folders.discard("/".join(parts))

    def _open_object(self, parts: tuple[str, ...], key: str) -> int:
        try:
            with self._open_root(checked=False) as root, below(root, parts[:-1]) as folder:
                if is_object(folder, parts[-1]):
                    return os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError):
            pass  # said below, with more care than the error itself
        # Absent from the pool, or is the pool itself absent? The second must not look like the first.
        with self._open_root(checked=True):
            raise NotFound(f"{key} is not in {self._root}")

    def _refuse_existing(self, root: int, parts: tuple[str, ...], key: str) -> None:
        try:
            with below(root, parts[:-1]) as folder:
                os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        except NotADirectoryError as error:
            raise Permanent(
                f"put {key} into {self._root}: a part of the key is an object or a link"
            ) from error
        raise Permanent(f"{key} is in {self._root} already; objects are immutable")

    def _require_space(self, root: int, size: int, key: str) -> None:
        found = room_at(root)
        free = max(0, found.free - self._reserve)
        if size > free:
            raise NoSpace(
                f"put {key} into {self._root}: {size} bytes, {free} are free"
                + (f" beyond the reserve of {self._reserve}" if self._reserve else "")
                + (f" within the quota of {found.whose}" if found.whose else "")
            )

    def _publish(self, root: int, incoming: Incoming, parts: tuple[str, ...], key: str) -> None:
        for _ in range(_PUBLISH_ATTEMPTS):
            # A folder may go between walking to it and linking into it: delete prunes empty ones.
            with suppress(FileNotFoundError), below(root, parts[:-1], self._make_folder) as folder:
                try:
                    self._begun.link(incoming, folder, parts[-1])
                except FileExistsError:
                    raise Permanent(f"{key} is in {self._root} already; objects are immutable") from None
                try:
                    self._sync_name(root, folder, parts[:-1])
                except OSError:
                    os.unlink(parts[-1], dir_fd=folder)
                    raise
                return
        raise Retryable(
            f"put {key} into {self._root}: its folder was removed {_PUBLISH_ATTEMPTS} times meanwhile"
        )

    def _sync_name(self, root: int, folder: int, parts: tuple[str, ...]) -> None:
        """Sync the folder of a new name; the folders above too, once in this process."""
        name = "/".join(parts)
        with self._lock:
            known = name in self._durable_folders
        if known:
            sync_folder(folder)
            return
        # Whoever made the folder may have died, or be about to, before it synced the folder's own name.
        sync_chain(root, parts)
        with self._lock:
            if len(self._durable_folders) >= _REMEMBERED_MAX:
                self._durable_folders.clear()
            self._durable_folders.add(name)

    def _prune(self, root: int, parts: tuple[str, ...]) -> None:
        """Remove the folder if it is empty, then the one above it, and so on."""
        for depth in range(len(parts), 0, -1):
            with self._lock:
                self._durable_folders.discard("/".join(parts[:depth]))
            try:
                with below(root, parts[: depth - 1]) as folder:
                    os.rmdir(parts[depth - 1], dir_fd=folder)
            except OSError:
                return  # in use again, or gone: an empty folder does no harm

    def _must_drop(self, key: str) -> bool:
        with self._lock:
            if not self._dropping or key in self._dropped:
                return False
            # Forgetting costs a second reading of the medium, never a reading of the cache.
            if len(self._dropped) >= _REMEMBERED_MAX:
                self._dropped.clear()
            self._dropped.add(key)
            return True


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _open(options: Mapping[str, Any]) -> FolderStore:
    path = opt.text(options, "path")
    if path is None:
        raise Permanent("driver folder: option path is missing")
    clean = options.get("clean", True)
    if not isinstance(clean, bool):
        raise Permanent(f"driver folder: option clean: expected true or false, found {clean!r}")
    reserve, identity = opt.size(options, "reserve_bytes") or 0, opt.text(options, "expect_uuid")
    return FolderStore(path, reserve, identity, clean)


FAMILY = Family(
    name="folder",
    options=frozenset({"path", "reserve_bytes", "expect_uuid", "clean"}),
    open_store=_open,
    required=frozenset({"path"}),
    path_option="path",
    any_clock=True,
)
