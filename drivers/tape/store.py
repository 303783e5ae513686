"""A plain tape volume in a drive as a Store: one object a tape file, an index when it is flushed."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from drivers.base import CHUNK_BYTES, Capacity, Health, ObjectStat, Readable, Traits, noted_digest
from drivers.errors import Corrupt, DriverError, NoSpace, NotFound, OperatorNeeded, Permanent, Retryable
from drivers.notes import check_note, joined
from drivers.ring import PATIENCE_SECONDS, Feed, Ring
from drivers.tape import index as indexes
from drivers.tape.index import Entry, Index
from drivers.tape.io import Handle, Op
from drivers.tape.label import PlainLabel
from drivers.tape.motion import Spot, locate
from drivers.tape.plain import Recovered, identify, read_file, require_position, require_whole
from drivers.tape.tapeerrors import translated_tape
from drivers.transfer import check_put, check_range, safe_key, span

# A robot's move, load and thread, and a locate to the middle: LTO-8 and LTO-9 (docs of IBM and Quantum).
_LATENCY_SECONDS = 90.0
_SMALL_RING_BYTES = 4 << 20
_WAIT_SECONDS = 0.2
"""How often who waits for the drive looks whether it waits in vain."""


class PlainStore:
    """A mounted plain volume. Good until it is closed; after that every call is refused.

    Thread-safe. A put has the drive to itself until it has ended; the pieces of several gets take turns,
    with a locate between them. A put reads its source ahead, in a thread, through the ring. From a source
    that reads the same volume nothing can be put: its own thread is refused at once, other threads when
    the put has waited ``patience`` seconds without a byte.

    What a failed put has written stays on the tape as dead bytes, closed by a filemark, so that nothing is
    ever overwritten and write-once cartridges work the same.
    """

    def __init__(
        self,
        handle: Handle,
        drive: str,
        label: PlainLabel,
        found: Recovered,
        capacity: Capacity,
        *,
        read_only: str = "",
        ring: Ring | None = None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.label = label
        self._ring = ring or Ring(_SMALL_RING_BYTES)
        self._patience = patience
        self._feed: Feed | None = None
        """Of the put that is under way."""
        self._handle = handle
        self._drive = drive
        self._block_bytes = label.block_bytes
        self._entries = dict(found.entries)
        self._generation = found.generation
        self._notes, self._note = found.notes, ""
        self._end, self._end_file = found.end, found.end_file
        self._stray = found.stray
        self._total, self._free = capacity.total, capacity.free
        self._read_only = read_only or found.broken
        self._failed = ""
        self.unclean = ""
        """Why the drive must be cleaned before anything is written; set by the library."""
        self._head: int | None = None
        self._dirty = False
        self._doubtful = False
        """The drive has reported an error since the label was read."""
        self._written = 0
        """Records of the tape file that is being written."""
        self._active = 0
        self._mounted = True
        self._lock = threading.RLock()
        self._counting = threading.Lock()

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
    def traits(self) -> Traits:
        return Traits(append_only=True, random_access=False, removable=True, latency_seconds=_LATENCY_SECONDS)

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        """See :meth:`drivers.base.Store.put`; durable after :meth:`flush`.

        :raises Retryable: the drive reports an error; nothing more is taken until it is mounted again.
        """
        safe_key(key)
        check_put(size, digest, key)
        with self._operation("put"), self._hold("put"), translated_tape(f"put {key} on {self.name}"):
            self._require_writable(key)
            if key in self._entries:
                raise Permanent(f"{key} is on {self.name} already; objects are immutable")
            if size > self._free:
                raise NoSpace(f"put {key} on {self.name}: {size} bytes, {self._free} are free")
            self._go_to_end()
            start = self._end
            try:
                sha256 = self._write_records(source, size, digest, key)
                self._end_file_here(start + -(-size // self._block_bytes), Op.WEOFI, key)
            except BaseException as error:
                self._leave_dead(start, error)
                raise
            entry = Entry(key, size, sha256, start, self._end_file - 1)
            self._entries[key] = entry
            self._dirty = True
        return _stat(entry)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`drivers.base.Store.get`; errors are raised when the first piece is asked for."""
        safe_key(key)
        check_range(offset, length, key)
        with self._operation("get"), translated_tape(f"get {key} from {self.name}"):
            with self._hold("get"):
                entry = self._entry(key)
            wanted = span(key, entry.size, offset, length)
            while wanted:
                piece = self._read_piece(entry, offset, min(wanted, CHUNK_BYTES))
                offset += len(piece)
                wanted -= len(piece)
                yield piece

    def delete(self, key: str) -> None:
        """See :meth:`drivers.base.Store.delete`; frees nothing, and durable after :meth:`flush`."""
        safe_key(key)
        with self._operation("delete"), self._hold("delete"):
            if key in self._entries:
                self._require_writable(key)
                del self._entries[key]
                self._dirty = True

    def list(self) -> Iterator[ObjectStat]:
        """Every object in the order of the tape."""
        with self._operation("list"), self._hold("list"):
            entries = sorted(self._entries.values(), key=lambda entry: entry.block)
        for entry in entries:
            yield _stat(entry)

    def stat(self, key: str) -> ObjectStat:
        """See :meth:`drivers.base.Store.stat`; the position is the logical block, for ``mt seek``."""
        safe_key(key)
        with self._operation("stat"), self._hold("stat"):
            return _stat(self._entry(key))

    def recorded_digest(self, key: str) -> bytes | None:
        """See :class:`drivers.base.Digested`: as the index has it."""
        safe_key(key)
        with self._operation("stat"), self._hold("stat"):
            return noted_digest(self._entry(key).sha256)

    def entries(self) -> tuple[Entry, ...]:
        """What the index says or will say, digests and tape file numbers included."""
        with self._operation("list"), self._hold("list"):
            return tuple(sorted(self._entries.values(), key=lambda entry: entry.block))

    def capacity(self) -> Capacity:
        """Of the cartridge, uncompressed; the room for the index is taken off what is free."""
        with self._operation("capacity"), self._hold("capacity"):
            return Capacity(self._total, min(self._free, self._total))

    def flush(self) -> None:
        """Write the index behind everything, synchronously, check the position, and read it back.

        :raises Retryable: the drive reports an error; what was put since the last flush does not count.
        """
        with (
            self._operation("flush"),
            self._hold("flush"),
            translated_tape(f"write the index of {self.name}"),
        ):
            if not self._dirty:
                return
            self._require_writable("the index")
            self._go_to_end()
            start = self._end
            notes = joined(self._notes, self._note)
            uuid, generation = self.label.volume.uuid, self._generation + 1
            index = Index(uuid, generation, start, self._end_file, self._entries, notes)
            data = indexes.encode(index)
            try:
                for at in range(0, len(data), self._block_bytes):
                    self._write_past_warning(data[at : at + self._block_bytes])
                self._end_file_here(start + -(-len(data) // self._block_bytes), Op.WEOF, "the index")
                self._generation += 1
                self._read_back(start, data)
            except BaseException as error:
                self._leave_dead(start, error)
                raise
            self._dirty = False
            self._notes, self._note = notes, ""

    def annotate(self, note: str) -> None:
        """See :meth:`drivers.notes.Annotated.annotate`; it stands in the first line of the index."""
        with self._operation("annotate"), self._hold("annotate"):
            self._note = check_note(note)

    def notes(self) -> tuple[str, ...]:
        """See :meth:`drivers.notes.Annotated.notes`."""
        with self._operation("notes"), self._hold("notes"):
            return self._notes

    def drop_caches(self) -> None:
        """The next ``get`` locates anew; this host keeps nothing of a tape."""
        with self._operation("drop caches"), self._hold("drop caches"):
            self._head = None

    def health(self) -> Health:
        """Whether the volume is mounted and takes what is put on it."""
        if not self._mounted:
            return Health(False, f"{self.name} is no longer mounted")
        trouble = self._failed or self._read_only
        return Health(not trouble, f"{self.name}: {trouble}" if trouble else "")

    def close(self) -> None:
        """Refuse everything from now on and let go of the drive. What was not flushed does not count."""
        with self._lock:
            if self._mounted:
                self._mounted = False
                self._handle.close()

    def _entry(self, key: str) -> Entry:
        try:
            return self._entries[key]
        except KeyError:
            raise NotFound(f"{key} is not on {self.name}") from None

    @contextmanager
    def _operation(self, operation: str) -> Iterator[None]:
        with self._counting:
            self._active += 1
        try:
            with self._hold(operation):
                if not self._mounted:
                    raise Retryable(f"{operation}: {self.name} is no longer mounted; mount it again")
            yield
        finally:
            with self._counting:
                self._active -= 1

    @contextmanager
    def _hold(self, operation: str) -> Iterator[None]:
        """Have the drive to oneself.

        :raises Permanent: the calling thread reads for the put that is under way.
        :raises Retryable: that put waits for its source in vain, perhaps for this very call.
        """
        while not self._lock.acquire(timeout=_WAIT_SECONDS):
            self._require_hope(operation)
        try:
            yield
        finally:
            self._lock.release()

    def _require_hope(self, operation: str) -> None:
        feed = self._feed
        if feed is None:
            return
        if feed.reads_here():
            raise Permanent(f"{operation}: {self.name} is being written from this very volume")
        waited = feed.stalled()
        if waited >= self._patience:
            raise Retryable(
                f"{operation}: {self.name} is being written, and the source of {feed.key} has given nothing "
                f"for {waited:.0f} s; does it wait for this volume?"
            )

    def _require_writable(self, what: str) -> None:
        if self.unclean:
            raise OperatorNeeded(f"put {what} on {self.name}: {self.unclean}")
        if self._read_only:
            raise Permanent(f"put {what} on {self.name}: it takes no writes: {self._read_only}")
        if self._failed:
            raise Retryable(f"put {what} on {self.name}: {self._failed}; mount it again")

    def _go_to_end(self) -> None:
        """To the append point, and prove it. A drive that cannot be brought there is not written to."""
        try:
            self._find_end()
        except (OSError, Retryable) as error:
            self._head, self._failed = None, f"the append point cannot be found ({error})"
            raise

    def _find_end(self) -> None:
        if self._doubtful:
            # An error may have been the news of another cartridge: look whose it is before writing.
            self._head = None
            found = identify(self._handle)
            if found.label != self.label:
                raise Retryable(f"{self.name}: the cartridge in the drive is {found.words} now")
            self._doubtful = False
        if self._stray:
            # A power cut left records without a filemark: they are closed, not overwritten.
            self._handle.op(Op.EOM)
            at = self._handle.tell()
            if at < self._end:
                raise Retryable(
                    f"{self.name}: the end of data is at block {at}, expected {self._end} or more"
                )
            self._handle.op(Op.WEOF, 1)
            require_position(self._handle, at + 1, f"close the torn tape file of {self.name}")
            self._head, self._end, self._end_file, self._stray = at + 1, at + 1, self._end_file + 1, False
        what = f"find the append point of {self.name}"
        if self._head != self._end:
            locate(self._handle, self.label, Spot(self._end, self._end_file), what)
        else:
            require_position(self._handle, self._end, what)
        self._head, self._written = self._end, 0

    def _write_records(self, source: Readable, size: int, digest: bytes | None, key: str) -> str:
        """The object as records of the block size, the last one shorter; its SHA-256 in hexadecimal."""
        with self._ring.feed(source, size, digest, key, block_bytes=self._block_bytes) as feed:
            self._feed = feed
            try:
                for piece in feed.pieces():
                    for at in range(0, len(piece), self._block_bytes):
                        with piece[at : at + self._block_bytes] as record:
                            self._write_record(record)
                return feed.sha256.hex()
            finally:
                feed.close()  # before it is forgotten: who waits here may be who it waits for
                self._feed = None

    def _write_record(self, record: memoryview | bytearray | bytes) -> None:
        self._head = None
        with memoryview(record) as view:
            require_whole(self._handle.write(view), len(view), self.name)
        self._written += 1
        self._free = max(0, self._free - len(record))

    def _write_past_warning(self, record: bytes) -> None:
        """The driver refuses every second write behind early warning, so that one notices; the room there
        is meant for this."""
        try:
            self._write_record(record)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self._free = 0
            self._write_record(record)

    def _end_file_here(self, expected: int, how: Op, what: str) -> None:
        """One filemark; then the drive must be where counting records leads to."""
        self._handle.op(how, 1)
        try:
            require_position(self._handle, expected + 1, f"put {what} on {self.name}")
        except Retryable as error:
            self._failed = str(error)  # a drive that loses records is not trusted with more
            raise
        self._head = self._end = expected + 1
        self._end_file += 1

    def _leave_dead(self, start: int, error: BaseException) -> None:
        """Close what a failed write left, so that the next tape file begins behind a filemark.

        Only where our own records have just been written: a drive that is anywhere else has been moved or
        reset, and a filemark there would cut off what is proved.
        """
        self._head = None
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            self._free = 0
        if self._failed or self._end > start:
            return  # or its filemark is there, and it was the reading back that failed
        try:
            at = self._handle.tell()
            if at == start and not self._written:
                self._note_failure(error)
                return
            if at - start - self._written not in (0, 1):  # the record that failed may be there
                raise Retryable(f"the drive is at block {at}, expected {start + self._written}")
            self._handle.op(Op.WEOF, 1)
            require_position(self._handle, at + 1, f"close a dead tape file of {self.name}")
        except (OSError, DriverError) as second:
            self._failed = f"writing failed ({error}), and so did ending the tape file ({second})"
            return
        self._head = self._end = at + 1
        self._end_file += 1
        self._note_failure(error)

    def _note_failure(self, error: BaseException) -> None:
        """What the drive reported, unless it was only that the tape ends."""
        if isinstance(error, OSError) and error.errno != errno.ENOSPC:
            self._failed = f"the drive reported an error while it wrote ({error.strerror})"

    def _read_back(self, start: int, data: bytes) -> None:
        self._head = None
        spot = Spot(start, self._end_file - 1)
        locate(self._handle, self.label, spot, f"find the index of {self.name}")
        if read_file(self._handle, self._block_bytes) != data:
            raise Corrupt(f"the index of {self.name} was written and reads back differently")
        require_position(self._handle, self._end, f"read the index of {self.name} back")
        self._head = self._end

    def _read_piece(self, entry: Entry, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``, without giving way to others meanwhile."""
        first, skip = divmod(offset, self._block_bytes)
        last = (offset + size - 1) // self._block_bytes
        with self._hold("get"):
            records = [self._read_record(entry, number) for number in range(first, last + 1)]
        data = records[0] if len(records) == 1 else b"".join(records)
        return data if not skip and len(data) == size else data[skip : skip + size]

    def _read_record(self, entry: Entry, number: int) -> bytes:
        block = entry.block + number
        expected = min(self._block_bytes, entry.size - number * self._block_bytes)
        if not self._mounted:
            raise Retryable(f"get {entry.key}: {self.name} is no longer mounted; mount it again")
        sought = self._head == block
        self._head = None
        try:
            if not sought:
                spot = Spot(block, entry.file, number)
                locate(self._handle, self.label, spot, f"get {entry.key} from {self.name}")
            record = self._handle.read(self._block_bytes)
        except (OSError, Retryable):
            self._doubtful = True
            raise
        self._head = block + 1
        if len(record) != expected:
            raise Corrupt(
                f"get {entry.key} from {self.name}: block {block} has {len(record)} bytes, "
                f"expected {expected}"
            )
        return record


def _stat(entry: Entry) -> ObjectStat:
    return ObjectStat(entry.key, entry.size, entry.block)
