"""A simulated drive, and the Store that a cartridge in it is."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from drivers.base import CHUNK_BYTES, Capacity, Health, ObjectStat, Readable, Traits
from drivers.errors import Corrupt, DriverError, NoSpace, Permanent, Retryable
from drivers.notes import check_note
from drivers.oserrors import translated
from drivers.reports import CartridgeReport, DriveLife, DriveReport, ErrorCounters
from drivers.simulated.faults import Check, Event
from drivers.simulated.medium import Medium
from drivers.simulated.model import DriveModel
from drivers.transfer import check_put, check_range, copy_exactly, safe_key, span

_DEBT_SECONDS = 0.01
CLEANING_SECONDS = 120.0


class Timekeeper:
    """Makes simulated time pass: sleeps ``seconds * factor`` and counts the seconds."""

    def __init__(self, factor: float, sleep: Callable[[float], None]) -> None:
        self.factor = factor
        self.seconds = 0.0
        """Device seconds spent so far, whatever the factor."""
        self._sleep = sleep
        self._debt = 0.0
        self._lock = threading.Lock()

    def spend(self, seconds: float) -> None:
        """Short times are saved up, because a sleep of microseconds takes longer than it says."""
        with self._lock:
            self.seconds += seconds
            self._debt += seconds * self.factor
            if self._debt < _DEBT_SECONDS:
                return
            due, self._debt = self._debt, 0.0
        self._sleep(due)


class Drive:
    """A drive with its head. ``lock`` is held while the drive does one thing."""

    def __init__(self, address: int, model: DriveModel, time: Timekeeper, check: Check) -> None:
        self.address = address
        self.model = model
        self.time = time
        self.lock = threading.RLock()
        self.threaded: str | None = None
        """Barcode of the cartridge that is loaded and threaded, not merely in the drive."""
        self.store: CartridgeStore | None = None
        self.flush_failed = False
        """The index of what is mounted could not be written when it was to be unloaded."""
        self._check = check
        self._head = 0.0
        self._loads: Counter[str] = Counter()
        self._errors: Counter[tuple[str, str | None]] = Counter()
        """Under read or write, and the cartridge."""
        self._streamed: Counter[tuple[str, str | None]] = Counter()
        self.cleanings = 0

    def check(self, operation: str, key: str | None = None) -> None:
        """:raises DriverError: a scripted fault."""
        try:
            self._check(Event(operation, self.address, self.threaded, key))
        except DriverError:
            self._errors[operation, self.threaded] += 1
            raise

    def report(self) -> DriveReport:
        """What it has counted since the library was opened; see :class:`drivers.reports.DriveReport`."""
        name = self.threaded
        writes, reads = self._errors["write", name], self._errors["read", name]
        wrote, read = self._streamed["write", name], self._streamed["read", name]
        cartridge = None if name is None else CartridgeReport(
            name, f"SIM-{name}", "SIMULATED", "", "data", self._loads[name], wrote, read, writes, reads
        )  # fmt: skip
        return DriveReport(
            self.address,
            f"SIM{self.address:06d}",
            "SIMULATED LTO",
            loaded=name is not None,
            write_errors=ErrorCounters(0, writes, wrote),
            read_errors=ErrorCounters(0, reads, read),
            cartridge=cartridge,
            life=DriveLife(loads=self._loads.total(), cleanings=self.cleanings),
            encryption="off",
        )

    def clean(self) -> None:
        """Run a cleaning cartridge that lies in the drive."""
        self.time.spend(CLEANING_SECONDS)
        self.cleanings += 1

    def thread(self, barcode: str) -> None:
        """Load and thread a cartridge that lies in the drive; the tape is at its load point then."""
        self._check(Event("load", self.address, barcode))
        self.time.spend(self.model.load_seconds)
        self.threaded = barcode
        self._loads[barcode] += 1
        self._head = 0.0

    def unthread(self) -> None:
        """Rewind and unload."""
        self.check("unload")
        rewind = self.model.rewind_seconds(self.model.spot(self._head))
        self.time.spend(rewind + self.model.unload_seconds)
        self.threaded = None

    def pass_over(self, start: float, end: float, size: int, *, writing: bool) -> None:
        """Locate to ``start`` (a fraction of the tape) and stream ``size`` bytes up to ``end``."""
        self._streamed["write" if writing else "read", self.threaded] += size
        if start != self._head:
            model = self.model
            self.time.spend(model.locate_seconds(model.spot(self._head), model.spot(start)))
        self.time.spend(self.model.stream_seconds(size))
        self._head = end


class CartridgeStore:
    """A mounted cartridge. Good until it is unmounted; after that every call is refused.

    Several threads may use it; their pieces take turns, with a locate between them. What a failed
    put has written stays on the tape as dead bytes.
    """

    def __init__(self, drive: Drive, medium: Medium) -> None:
        self._drive = drive
        self.medium = medium
        self._failed = ""
        self._appending = threading.Lock()
        self._active = 0
        self._mounted = True

    @property
    def busy(self) -> bool:
        """Whether a put, get or flush is under way."""
        return self._active > 0

    @property
    def failed(self) -> bool:
        """Whether it takes nothing more until it is mounted again, as a tape after a write error."""
        return bool(self._failed)

    @property
    def traits(self) -> Traits:
        model = self._drive.model
        seconds = model.move_seconds + model.load_seconds + model.typical_locate_seconds()
        return Traits(
            append_only=True,
            random_access=False,
            removable=True,
            latency_seconds=seconds * self._drive.time.factor,
        )

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        """See :meth:`drivers.base.Store.put`; durable after :meth:`flush` or unmounting."""
        safe_key(key)
        check_put(size, digest, key)
        # The operation comes before the lock: who unloads looks for operations while it holds the drive.
        with self._operation("put", key), self._appending, translated(f"put {key} on {self._name}"):
            medium = self.medium
            self._require_writable(f"put {key}")
            if key in medium.objects:
                raise Permanent(f"{key} is on {self._name} already; objects are immutable")
            if size > medium.free:
                raise NoSpace(f"put {key} on {self._name}: {size} bytes, {medium.free} are free")
            start, good = medium.end, False
            try:
                copy_exactly(source, size, digest, lambda data: self._append(data, key), key)
                good = True
            finally:
                with self._drive.lock:
                    extent = medium.finish(key, start, good=good)
        return extent.stat()

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`drivers.base.Store.get`; errors are raised when the first piece is asked for."""
        safe_key(key)
        check_range(offset, length, key)
        with self._operation("get", key), translated(f"get {key} from {self._name}"):
            extent = self.medium.extent(key)
            wanted = span(key, extent.size, offset, length)
            at = extent.offset + offset
            while wanted:
                chunk = self._read(at, min(CHUNK_BYTES, wanted), key)
                if not chunk:
                    raise Corrupt(f"get {key} from {self._name}: the medium ends {wanted} bytes too early")
                at += len(chunk)
                wanted -= len(chunk)
                yield chunk

    def delete(self, key: str) -> None:
        """See :meth:`drivers.base.Store.delete`; frees nothing, and durable after :meth:`flush`."""
        safe_key(key)
        with self._operation("delete", key):
            self.medium.forget(key)

    def list(self) -> Iterator[ObjectStat]:
        """Every object in the order of the tape."""
        with self._operation("list"):
            extents = sorted(self.medium.objects.values(), key=lambda extent: extent.block)
        for extent in extents:
            yield extent.stat()

    def stat(self, key: str) -> ObjectStat:
        """See :meth:`drivers.base.Store.stat`."""
        safe_key(key)
        with self._operation("stat", key):
            return self.medium.extent(key).stat()

    def capacity(self) -> Capacity:
        """Of the cartridge, the index's reserve taken off what is free."""
        with self._operation("capacity"):
            return Capacity(self.medium.capacity, self.medium.free)

    def flush(self) -> None:
        """Write the index; what was put before it survives a crash."""
        with self._operation("flush"), self._appending, self._drive.lock:
            if self.medium.dirty:
                self._require_writable("flush")
                with self._noting_failure():
                    self._drive.check("flush")
                    self._drive.check("write", "index")
                self._drive.time.spend(self._drive.model.flush_seconds)
                self.medium.sync()

    def annotate(self, note: str) -> None:
        """See :meth:`drivers.notes.Annotated.annotate`; it stands in the index."""
        with self._operation("annotate"), self._drive.lock:
            self.medium.note = check_note(note)

    def notes(self) -> tuple[str, ...]:
        """See :meth:`drivers.notes.Annotated.notes`."""
        with self._operation("notes"), self._drive.lock:
            return self.medium.notes

    def drop_caches(self) -> None:
        """Let the host forget what it has of the cartridge."""
        with self._operation("drop caches"):
            self.medium.drop_caches()

    def health(self) -> Health:
        """Whether the cartridge is still mounted."""
        if self._mounted:
            return Health(not self._failed, self._failed and f"{self._name}: {self._failed}")
        return Health(False, f"{self.medium.barcode} is no longer in drive {self._drive.address}")

    def close(self) -> None:
        """Refuse everything from now on; the library calls it when it unloads the cartridge."""
        with self._drive.lock:
            self._mounted = False

    @property
    def _name(self) -> str:
        return f"{self.medium.barcode} in drive {self._drive.address}"

    @contextmanager
    def _operation(self, operation: str, key: str | None = None) -> Iterator[None]:
        with self._drive.lock:
            self._require_mounted(operation)
            if operation in ("put", "get"):
                self._drive.check(operation, key)
            self._active += 1
        try:
            yield
        finally:
            with self._drive.lock:
                self._active -= 1

    def _require_mounted(self, operation: str) -> None:
        if not self._mounted:
            raise Retryable(
                f"{operation}: {self.medium.barcode} is no longer mounted in drive {self._drive.address}; "
                "mount it again"
            )

    def _require_writable(self, what: str) -> None:
        if self._failed:
            raise Retryable(f"{what} on {self._name}: {self._failed}; mount it again")

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        """A drive that failed to write is not trusted with more before its end of data is looked for anew."""
        try:
            yield
        except NoSpace:
            raise
        except DriverError as error:
            self._failed = f"the drive reported an error while it wrote ({error})"
            raise

    def _append(self, data: bytes, key: str) -> None:
        with self._drive.lock:
            with self._noting_failure():
                self._drive.check("write", key)
            medium = self.medium
            before, after = medium.end / medium.capacity, (medium.end + len(data)) / medium.capacity
            self._drive.pass_over(before, after, len(data), writing=True)
            medium.append(data)

    def _read(self, at: int, size: int, key: str) -> bytes:
        with self._drive.lock:
            self._drive.check("read", key)
            capacity = self.medium.capacity
            self._drive.pass_over(at / capacity, (at + size) / capacity, size, writing=False)
            return self.medium.read(at, size)
