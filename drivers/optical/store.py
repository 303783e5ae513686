"""A disc in a burner as a :class:`drivers.base.Store`.

What is put waits in a spool until :meth:`DiscStore.flush`, which burns one more session, and returns only
when the medium has been read back and every file compared. What is deleted frees nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from drivers.base import CHUNK_BYTES, Capacity, Health, ObjectStat, Readable, Traits
from drivers.errors import Corrupt, DriverError, NoSpace, NotFound, Permanent, Retryable
from drivers.notes import check_note, joined
from drivers.optical.burner import Burner, Contents, NotBegun
from drivers.optical.dicomdir import file_set_id, read_entry
from drivers.optical.fileset import DIGESTS, digest_list, sync_tree
from drivers.optical.index import DiscLabel, Object
from drivers.optical.media import Medium
from drivers.optical.recorded import Recorded, label_files
from drivers.optical.spool import DICOM, Spool
from drivers.transfer import check_put, check_range, safe_key, span

SECTOR = 2048
DIRECTORY_BYTES_MAX = 1 << 30
_ENTRY_BYTES = 3 * SECTOR
"""A file's slack in its last sector, its directory entries, its lines in our lists."""


class DiscStore:
    """See :class:`drivers.base.Store`. Thread-safe; burns are one after the other."""

    def __init__(
        self,
        burner: Burner,
        label: DiscLabel,
        recorded: Recorded,
        contents: Contents,
        medium: Medium,
        spool: Spool,
        *,
        append: bool = True,
        spool_bytes: int | None = None,
    ) -> None:
        """
        :param append: further sessions may follow the next one; without it the disc is closed by it.
        :param spool_bytes: when so much waits, it is burnt, asked or not.
        """
        self.label = label
        self.failed = ""
        self._burner = burner
        self._recorded = recorded
        self._contents = contents
        self._medium = medium
        self._spool = spool
        self._append = append
        self._spool_bytes = spool_bytes
        self._pending: dict[str, Object] = {}
        self._taking: set[str] = set()
        self._forgotten: set[str] = set()
        self._note = ""
        self._put = 0
        """Bytes of the objects that were put since the last burn, deleted ones too."""
        self._spent = 0
        """What they will take on the disc."""
        self._promised = 0
        self._active = 0
        self._open = True
        self._lock = threading.RLock()

    @property
    def traits(self) -> Traits:
        return Traits(random_access=True, append_only=True, removable=True, latency_seconds=30.0)

    @property
    def busy(self) -> bool:
        """A put or get is under way."""
        with self._lock:
            return self._active > 0

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        """See :meth:`drivers.base.Store.put`. At the spool's limit, what waits is burnt first."""
        safe_key(key)
        check_put(size, digest, key)
        with self._lock:
            self._require_usable()
            if key in self._taking or self._known(key) is not None:
                raise Permanent(f"put {key}: it exists on {self._name} already")
            if size + _ENTRY_BYTES > self._room():
                raise NoSpace(f"put {key}: {size} bytes do not fit on {self._name}, {self._room()} are free")
            if self._spool_bytes is not None and self._pending and self._waiting() + size > self._spool_bytes:
                self._burn()
            self._taking.add(key)
            self._promised += size + _ENTRY_BYTES
            self._active += 1
        try:
            taken = self._spool.take(key, source, size, digest)
            self._require_sizes(taken)
            with self._lock:
                extra = (len(taken.paths) - 1) * _ENTRY_BYTES
                if extra > self._room():
                    self._spool.drop(taken)
                    raise NoSpace(f"put {key}: its {len(taken.paths)} files do not fit on {self._name}")
                self._pending[key] = taken
                self._put += size
                self._spent += size + extra + _ENTRY_BYTES
            return ObjectStat(key, size)
        finally:
            with self._lock:
                self._taking.discard(key)
                self._promised -= size + _ENTRY_BYTES
                self._active -= 1

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`drivers.base.Store.get`: composed from the files of the disc."""
        safe_key(key)
        check_range(offset, length, key)
        with self._lock:
            self._require_open()
            found = self._require(key)
            waiting = key in self._pending
            wanted = span(key, found.size, offset, length)
        return self._pieces(found, offset, wanted, waiting=waiting)

    def _pieces(self, found: Object, offset: int, wanted: int, *, waiting: bool) -> Iterator[bytes]:
        with self._lock:
            self._require_open()
            self._active += 1
        try:
            for path, start, size in found.spans(offset, wanted):
                while size:
                    piece = self._read(found, path, start, min(size, CHUNK_BYTES), waiting=waiting)
                    yield piece
                    start, size = start + len(piece), size - len(piece)
        finally:
            with self._lock:
                self._active -= 1

    def _read(self, found: Object, path: str, start: int, size: int, *, waiting: bool) -> bytes:
        with self._lock:
            self._require_open()
            if waiting and found.key in self._pending:
                piece = self._spool.read(path, start, size)
            elif path in self._contents:
                piece = b"".join(self._contents.read(path, start, size))
            else:
                raise Corrupt(f"get {found.key}: {self._name} has no file {path}")
        if len(piece) != size:
            raise Corrupt(f"get {found.key}: {path} on {self._name} ends early")
        return piece

    def delete(self, key: str) -> None:
        """See :meth:`drivers.base.Store.delete`. On a disc that is closed it stays on the medium."""
        safe_key(key)
        with self._lock:
            self._require_open()
            waiting = self._pending.pop(key, None)
            if waiting is not None:
                self._spool.drop(waiting)
            elif key in self._recorded.objects:
                del self._recorded.objects[key]
                self._forgotten.add(key)

    def list(self) -> Iterator[ObjectStat]:
        with self._lock:
            self._require_open()
            found = [*self._recorded.objects.values(), *self._pending.values()]
        return iter([ObjectStat(each.key, each.size) for each in found])

    def stat(self, key: str) -> ObjectStat:
        """See :meth:`drivers.base.Store.stat`."""
        safe_key(key)
        with self._lock:
            self._require_open()
            return ObjectStat(key, self._require(key).size)

    def recorded_digest(self, key: str) -> bytes | None:
        """See :class:`drivers.base.Digested`: as the list of the disc's objects has it."""
        safe_key(key)
        with self._lock:
            self._require_open()
            return self._require(key).digest

    def capacity(self) -> Capacity:
        """Room for a few large objects; many small files need more, and then :meth:`put` says so."""
        with self._lock:
            self._require_open()
            total = self._medium.capacity
            return Capacity(total, min(total, max(0, self._free())))

    def flush(self) -> None:
        """Burn what waits as one session, then read back every file of it (of the whole disc when it was
        closed by this) and compare.

        :raises Retryable: nothing could be burnt; what waits goes on waiting.
        :raises Permanent: the burn failed, or the medium gives other bytes: this disc takes no more, and
            what was put since the last flush is not on it.
        """
        with self._lock:
            self._require_open()
            self._burn()

    def annotate(self, note: str) -> None:
        """See :meth:`drivers.notes.Annotated.annotate`; it stands in ``HSMINDEX``, whose digest is in the
        list of digests."""
        with self._lock:
            self._require_open()
            self._note = check_note(note)

    def notes(self) -> tuple[str, ...]:
        """See :meth:`drivers.notes.Annotated.notes`."""
        with self._lock:
            self._require_open()
            return self._recorded.notes

    def drop_caches(self) -> None:
        with self._lock:
            self._require_open()
            self._contents.drop_caches()

    def health(self) -> Health:
        """A disc that was closed is healthy: it is read."""
        with self._lock:
            if not self._open:
                return Health(False, f"{self._name} is not in the drive any more")
            return Health(not self.failed, self.failed)

    def close(self) -> None:
        """Let go of the disc; what waits is dropped. Idempotent."""
        with self._lock:
            self._open = False
            self._contents.close()
            self._spool.close()

    @property
    def _name(self) -> str:
        return self.label.volume.barcode

    def _known(self, key: str) -> Object | None:
        return self._pending.get(key) or self._recorded.objects.get(key)

    def _require(self, key: str) -> Object:
        found = self._known(key)
        if found is None:
            raise NotFound(f"{key} is not on {self._name}")
        return found

    def _require_open(self) -> None:
        if not self._open:
            raise Retryable(f"{self._name} is not mounted any more; mount it again")

    def _require_usable(self) -> None:
        self._require_open()
        if self.failed:
            raise Permanent(self.failed)
        if self._recorded.closed:
            raise NoSpace(f"{self._name} is closed: nothing can be added to it")

    def _require_sizes(self, taken: Object) -> None:
        """:raises Permanent: the disc's file system cannot hold a file of it."""
        most = self._burner.file_bytes_max
        rest = taken.size - sum(piece.size for piece in taken.pieces)
        largest = max([rest, *(piece.size for piece in taken.pieces)])
        if most is not None and largest > most:
            self._spool.drop(taken)
            raise Permanent(
                f"put {taken.key}: it has a file of {largest} bytes, the file system of {self._name} takes "
                f"{most} at most; burn such studies with xorriso as ISO 9660"
            )

    @property
    def burnt(self) -> bool:
        """Something was put on the disc, or tried to be: it is not blank."""
        with self._lock:
            return bool(self.failed or self._recorded.digests)

    def _waiting(self) -> int:
        return sum(each.size for each in self._pending.values())

    def _free(self) -> int:
        if self._recorded.closed or self.failed:
            return 0
        return self._usable() - self._put

    def _usable(self) -> int:
        return self._medium.usable(self._recorded.used)

    def _room(self) -> int:
        return self._usable() - self._spent - self._promised

    def _burn(self) -> None:
        if not self._pending and not self._forgotten:
            return
        if self.failed:
            raise Permanent(self.failed)
        if self._recorded.closed:
            self._forgotten.clear()
            return
        closing = not self._append
        fresh = self._with_pending()
        tree = self._spool.tree
        try:
            for name, data in label_files(self.label, fresh, closing).items():
                self._spool.write(name, data)
            fresh.digests |= self._spool.digests
            data = digest_list({path: digest for path, digest in fresh.digests.items() if path != DIGESTS})
            self._spool.write(DIGESTS, data)
            fresh.digests[DIGESTS] = self._spool.digests[DIGESTS]
            sync_tree(tree)
        except OSError as error:
            raise Retryable(f"the spool {tree}: {error.strerror}; nothing was burnt") from error
        burnt = set(fresh.digests if closing else self._spool.digests)
        try:
            self._burner.burn(tree, file_set_id(self._name), close=closing)
        except NotBegun:
            raise
        except DriverError as error:
            raise self._spoilt(error) from error
        try:
            contents = self._burner.contents()
            self._contents.close()
            self._contents = contents
            self._compare(burnt, fresh.digests)
        except DriverError as error:
            raise self._spoilt(error) from error
        fresh.closed = closing
        fresh.used = self._contents.used
        self._recorded = fresh
        self._pending.clear()
        self._forgotten.clear()
        self._put = self._spent = 0
        self._note = ""
        self._spool.empty()

    def _spoilt(self, error: DriverError) -> Permanent:
        self.failed = f"{self._name}: a burn failed, the disc takes no more: {error}"
        return Permanent(self.failed)

    def _with_pending(self) -> Recorded:
        """What will be on the disc."""
        old = self._recorded
        entries = list(old.entries)
        for each in self._pending.values():
            for path in each.paths:
                if path.startswith(f"{DICOM}/"):
                    try:
                        entries.append(read_entry(self._spool.tree / path, path.split("/")))
                    except Corrupt:
                        continue  # it is in the lists of digests and objects, and no viewer can read it
        objects = dict(old.objects) | self._pending
        notes = joined(old.notes, self._note)
        return Recorded(objects, dict(old.digests), entries, old.closed, old.used, notes)

    def _compare(self, paths: set[str], digests: dict[str, bytes]) -> None:
        """:raises Corrupt: a file is not what was burnt."""
        self._contents.drop_caches()
        for path in sorted(paths):
            if path not in self._contents:
                raise Corrupt(f"read back: {path} is missing")
            if self._contents.digest(path) != digests[path]:
                raise Corrupt(f"read back: {path} has other bytes than were burnt")
