"""A mounted LTFS volume as a Store: one object a file below ``packages/``, the index when it is flushed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from drivers.base import CHUNK_BYTES, Capacity, Health, ObjectStat, Readable, Traits, noted_digest
from drivers.errors import Corrupt, DriverError, NoSpace, NotFound, OperatorNeeded, Permanent, Retryable
from drivers.notes import NOTES_KEPT, check_note, joined
from drivers.oserrors import translate
from drivers.ring import PATIENCE_SECONDS, Feed, Ring
from drivers.tape.index import Entry
from drivers.tape.ltfs import xattrs
from drivers.tape.ltfs.contents import POSITION, SIZE, append_note, contents, make_folder, prune, read_notes
from drivers.tape.ltfs.mounting import Mount
from drivers.tape.ltfs.volume import INCOMING, PACKAGES, LtfsLabel
from drivers.transfer import check_put, check_range, safe_key, span
from drivers.walk import below, exists

# A robot's move, load and thread, ltfs's reading of the index, and a locate to the middle.
_LATENCY_SECONDS = 150.0
_WAIT_SECONDS = 0.05
_GONE = frozenset({errno.ENOTCONN, errno.ECONNABORTED, errno.EBADF, errno.EIO, errno.ENODEV})


class LtfsStore:
    """A mounted LTFS volume. Good until it is closed; after that every call is refused.

    Everything goes through the open descriptor of the mounted root, never through its path. What the volume
    holds is known from when it was mounted; what was put since counts after :meth:`flush`, which proves that
    the index was written.

    Thread-safe: puts, deletes and flushes come one after the other, gets between them, for ltfs orders what
    it is asked for itself. A put reads its source ahead, in a thread, through the ring; the source may read
    this volume, but not write to it.

    ``sync`` writes the index; it is called with an open descriptor of the root.
    """

    def __init__(
        self,
        mount: Mount,
        drive: str,
        label: LtfsLabel,
        capacity: Capacity,
        sync: Callable[[int], None],
        ring: Ring,
    ) -> None:
        self.label = label
        self._ring = ring
        self._feed: Feed | None = None
        self._mount = mount
        self._drive = drive
        self._sync = sync
        self._total, self._free = capacity.total, capacity.free
        self._read_only = mount.read_only
        self._failed = ""
        self.unclean = ""
        """Why the drive must be cleaned before anything is written; set by the library."""
        self._dirty = False
        self._active = 0
        self._mounted = True
        self._lock = threading.RLock()
        """Of whoever writes."""
        self._state = threading.RLock()
        """Of what is known, for a moment at a time; taken behind the other one."""
        self._counting = threading.Lock()
        with self._translated("read the index of"):
            self._entries = {entry.key: entry for entry in contents(mount.root)}
            self._notes, self._next_note = read_notes(mount.root)[-NOTES_KEPT:], ""
        self._last = max((entry.block for entry in self._entries.values()), default=0)

    @property
    def busy(self) -> bool:
        """Whether a put, get or flush is under way."""
        return self._active > 0

    @property
    def failed(self) -> bool:
        """Whether it takes nothing more until it is mounted again."""
        return bool(self._failed)

    @property
    def name(self) -> str:
        """Cartridge and drive, for messages: the two that come under suspicion together."""
        return f"{self.label.volume.barcode} in drive {self._drive}"

    @property
    def mount(self) -> Mount:
        return self._mount

    @property
    def traits(self) -> Traits:
        return Traits(append_only=True, random_access=False, removable=True, latency_seconds=_LATENCY_SECONDS)

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        """See :meth:`drivers.base.Store.put`; durable after :meth:`flush`.

        :raises NoSpace: it does not fit, or the tape ended in the middle of it.
        :raises Retryable: the drive reports an error; nothing more is taken until it is mounted again.
        """
        safe_key(key)
        check_put(size, digest, key)
        with self._operation("put"), self._turn("put"), self._translated(f"put {key} on"):
            self._require_writable(key)
            self._require_new(key)
            if size > self._free:
                raise NoSpace(f"put {key} on {self.name}: {size} bytes, {self._free} are free")
            with self._incoming(key) as (folder, name):
                entry = self._write(folder, name, key, source, size, digest)
                self._publish(folder, name, key)
            with self._state:
                self._entries[key] = entry
            self._last, self._dirty = entry.block, True
        return _stat(entry)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`drivers.base.Store.get`; errors are raised when the first piece is asked for."""
        safe_key(key)
        check_range(offset, length, key)
        with self._operation("get"), self._translated(f"get {key} from"):
            with self._state:
                wanted = span(key, self._entry(key).size, offset, length)
                fd = self._open(key)
            try:
                while wanted:
                    self._require_mounted("get")
                    piece = os.pread(fd, min(wanted, CHUNK_BYTES), offset)
                    if not piece:
                        raise Corrupt(f"get {key} from {self.name}: it ended at byte {offset}")
                    offset += len(piece)
                    wanted -= len(piece)
                    yield piece
            finally:
                os.close(fd)

    def delete(self, key: str) -> None:
        """See :meth:`drivers.base.Store.delete`; frees nothing, and durable after :meth:`flush`."""
        parts = safe_key(key).split("/")
        with self._operation("delete"), self._turn("delete"), self._translated(f"delete {key} from"):
            if key in self._entries:
                self._require_writable(key)
                with below(self._mount.root, (PACKAGES, *parts[:-1])) as folder:
                    os.unlink(parts[-1], dir_fd=folder)
                with self._state:
                    del self._entries[key]
                self._dirty = True
                prune(self._mount.root, (PACKAGES, *parts[:-1]))

    def list(self) -> Iterator[ObjectStat]:
        """Every object in the order of the tape."""
        for entry in self.entries():
            yield _stat(entry)

    def stat(self, key: str) -> ObjectStat:
        """See :meth:`drivers.base.Store.stat`; the position is the block of the data partition."""
        safe_key(key)
        with self._operation("stat"), self._state:
            return _stat(self._entry(key))

    def recorded_digest(self, key: str) -> bytes | None:
        """See :class:`drivers.base.Digested`: as the index has it."""
        safe_key(key)
        with self._operation("stat"), self._state:
            return noted_digest(self._entry(key).sha256)

    def entries(self) -> tuple[Entry, ...]:
        """What the index says or will say, digests included, in the order of the tape; no file numbers."""
        with self._operation("list"), self._state:
            return tuple(sorted(self._entries.values(), key=lambda entry: entry.block))

    def capacity(self) -> Capacity:
        """Of the data partition, uncompressed; the room for the index is taken off what is free."""
        with self._operation("capacity"), self._state:
            return Capacity(self._total, min(self._free, self._total))

    def flush(self) -> None:
        """Write the index and prove it: its generation must have advanced.

        :raises Retryable: it did not; what was put since the last flush does not count.
        """
        with self._operation("flush"), self._turn("flush"), self._translated("write the index of"):
            if not self._dirty:
                return
            self._require_writable("the index")
            root = self._mount.root
            before = self._generation(root)
            written = self._write_note(root)
            self._sync(root)
            after = self._generation(root)
            if after <= before:
                self._failed = f"the index was not written: its generation is {after}, and was {before}"
                raise Retryable(
                    f"flush {self.name}: {self._failed}; what was put since the last does not count"
                )
            self._require_unlocked("flush")
            self._dirty = False
            self._notes, self._next_note = joined(self._notes, written), ""

    def annotate(self, note: str) -> None:
        """See :meth:`drivers.notes.Annotated.annotate`; it is part of the index's commit message, and a line
        of a file in the root, where it is found again."""
        with self._operation("annotate"), self._turn("annotate"):
            self._next_note = check_note(note)

    def notes(self) -> tuple[str, ...]:
        """See :meth:`drivers.notes.Annotated.notes`."""
        with self._operation("notes"), self._turn("notes"):
            return self._notes

    def drop_caches(self) -> None:
        """Each ``get`` reads the medium anyway: the kernel's pages of the file are dropped when it begins."""
        with self._operation("drop caches"):
            pass

    def health(self) -> Health:
        """Whether the volume is mounted and takes what is put on it."""
        if not self._mounted:
            return Health(False, f"{self.name} is no longer mounted")
        if not self._mount.alive:
            return Health(False, f"{self.name}: its ltfs has ended; mount it again")
        trouble = self._read_only or self._failed
        return Health(not trouble, f"{self.name}: {trouble}" if trouble else "")

    def close(self) -> None:
        """Refuse everything from now on; the volume stays mounted until its mount is undone."""
        with self._lock, self._state:
            self._mounted = False

    def _write_note(self, root: int) -> str:
        """Name what the next index stands for; the note that can be read again. One that the end of the tape
        leaves no room for is in the commit message alone, which LTFS gives to nobody who mounts it later."""
        message, written = f"hsm: {len(self._entries)} packages", self._next_note
        if self._next_note:
            message += f"; {self._next_note}"
            try:
                append_note(root, self._next_note)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                self._free, written = 0, ""
        xattrs.put(root, "commitMessage", message)
        return written

    def _write(
        self, folder: int, name: str, key: str, source: Readable, size: int, digest: bytes | None
    ) -> Entry:
        """The bytes into a file that does not count yet, and what proves them beside them."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o640, dir_fd=folder)
        try:
            with self._ring.feed(source, size, digest, key) as feed:
                self._feed = feed
                try:
                    for piece in feed.pieces():
                        self._write_whole(fd, piece, key)
                    sha256 = feed.sha256.hex()
                finally:
                    feed.close()
                    self._feed = None
            os.fsync(fd)
            xattrs.put(fd, xattrs.DIGEST, sha256)
            # An empty file has no block, and a small one may be told to share its: positions only grow.
            block = max(self._last + 1, xattrs.number(fd, "startblock") or 0)
            xattrs.put_own(fd, POSITION, str(block))
            xattrs.put_own(fd, SIZE, str(size))
        finally:
            os.close(fd)
        # Not by the descriptor: at the end of the tape fsync and close succeed, and the bytes are gone.
        held = os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
        if held != size:
            self._free = 0
            raise NoSpace(f"put {key} on {self.name}: the tape ended; it holds {held} of {size} bytes")
        self._require_unlocked(f"put {key} on")
        return Entry(key, size, sha256, block, 0)

    def _write_whole(self, fd: int, data: memoryview, key: str) -> None:
        """:raises NoSpace: the volume took less: the end of the tape, of which nothing else tells."""
        written = os.write(fd, data)
        self._free = max(0, self._free - written)
        if written != len(data):
            self._free = 0
            raise NoSpace(
                f"put {key} on {self.name}: the tape ended; it took {written} of a piece of {len(data)} bytes"
            )

    @contextmanager
    def _incoming(self, key: str) -> Iterator[tuple[int, str]]:
        """Where the file is written before it has its name; nothing is left there."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(INCOMING, 0o750, dir_fd=self._mount.root)
        with below(self._mount.root, (INCOMING,)) as folder:
            name = hashlib.sha256(key.encode()).hexdigest()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)  # of a put that was cut short by a crash
            try:
                yield folder, name
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=folder)

    def _publish(self, incoming: int, name: str, key: str) -> None:
        """LTFS has no hard links, and its rename overwrites: that the key is new is known from the entries
        and looked at again."""
        parts = key.split("/")
        try:
            with below(self._mount.root, (PACKAGES, *parts[:-1]), make_folder) as folder:
                if exists(folder, parts[-1]):
                    raise Permanent(f"{key} is on {self.name} already, as a folder or not one of ours")
                os.rename(name, parts[-1], src_dir_fd=incoming, dst_dir_fd=folder)
        except NotADirectoryError as error:
            raise Permanent(f"put {key} on {self.name}: a part of the key is an object") from error

    def _open(self, key: str) -> int:
        parts = key.split("/")
        with below(self._mount.root, (PACKAGES, *parts[:-1])) as folder:
            fd = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return fd

    def _entry(self, key: str) -> Entry:
        try:
            return self._entries[key]
        except KeyError:
            raise NotFound(f"{key} is not on {self.name}") from None

    def _require_new(self, key: str) -> None:
        if key in self._entries:
            raise Permanent(f"{key} is on {self.name} already; objects are immutable")

    def _require_mounted(self, operation: str) -> None:
        if not self._mounted:
            raise Retryable(f"{operation}: {self.name} is no longer mounted; mount it again")

    def _require_writable(self, what: str) -> None:
        if self.unclean:
            raise OperatorNeeded(f"put {what} on {self.name}: {self.unclean}")
        if self._read_only:
            raise Permanent(f"put {what} on {self.name}: it takes no writes: {self._read_only}")
        if self._failed:
            raise Retryable(f"put {what} on {self.name}: {self._failed}; mount it again")

    def _require_unlocked(self, what: str) -> None:
        """:raises Retryable: a write error has locked the volume (LTFS format, volume lock state)."""
        locked = xattrs.number(self._mount.root, "volumeLockState")
        if locked:
            self._lock_out(f"a write error has locked it (volumeLockState {locked:#x})")
            raise Retryable(
                f"{what} {self.name}: {self._read_only}; drive and cartridge are both suspect: clean the "
                "drive, try another one, then repack"
            )

    def _lock_out(self, why: str) -> None:
        self._read_only = self._read_only or why

    def _generation(self, root: int) -> int:
        return xattrs.number(root, "indexGeneration") or 0

    @contextmanager
    def _operation(self, operation: str) -> Iterator[None]:
        with self._counting:
            self._active += 1
        try:
            with self._state:
                self._require_mounted(operation)
            yield
        finally:
            with self._counting:
                self._active -= 1

    @contextmanager
    def _turn(self, operation: str) -> Iterator[None]:
        """The volume, to write to it.

        :raises Permanent: the source of what is being put wants to write here itself.
        :raises Retryable: that source has given nothing for so long that it may wait for this very call.
        """
        while not self._lock.acquire(timeout=_WAIT_SECONDS):
            feed = self._feed
            if feed is None:
                continue
            if feed.reads_here():
                raise Permanent(f"{operation}: {self.name} is being written from this very volume")
            if feed.stalled() >= PATIENCE_SECONDS:
                raise Retryable(
                    f"{operation}: {self.name} is being written, and the source of {feed.key} gives nothing; "
                    "does it wait for this volume?"
                )
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Raise every ``OSError`` as a driver error, and remember what it says of the volume."""
        try:
            yield
        except OSError as error:
            raise self._note(error, f"{what} {self.name}") from error

    def _note(self, error: OSError, what: str) -> DriverError:
        if error.errno == errno.ENOSPC:
            self._free = 0
            return NoSpace(f"{what}: the end of the tape is near")
        if error.errno == errno.EROFS:
            self._lock_out("it is read-only after a write error, or write-protected")
            return Permanent(f"{what}: {self._read_only}; clean the drive, try another one, then repack")
        if error.errno in _GONE:
            state = f"; ltfs says: {self._mount.complaint()}" if self._mount.alive else "; its ltfs has ended"
            self._failed = f"{error.strerror or error}{state}"
            with contextlib.suppress(OSError):
                if xattrs.number(self._mount.root, "volumeLockState"):
                    self._lock_out("a write error has locked it")
            return Retryable(f"{what}: {self._failed}; mount it again, in another drive if it goes on")
        return translate(error, what)


def _stat(entry: Entry) -> ObjectStat:
    return ObjectStat(entry.key, entry.size, entry.block)
