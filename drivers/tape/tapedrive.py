"""One tape drive: whether a cartridge is in it, what it says of its health, and how it gives it back."""

from __future__ import annotations

import contextlib
import errno
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from drivers.errors import DriverError, OperatorNeeded, Permanent, Retryable
from drivers.reports import CartridgeReport, DriveReport
from drivers.tape import blocks, encryption, logpages, memory, rao
from drivers.tape.encryption import EncryptionState, PoolKey
from drivers.tape.io import Completed, DriveStatus, Handle, Io, Op, Restoring, ScsiDevice
from drivers.tape.logpages import Alerts
from drivers.tape.rao import Segment
from drivers.tape.tapeerrors import translated_tape

POLL_SECONDS = 1.0
THREAD_SECONDS = 45.0
"""A drive threads what is put into it by itself, in some 20 s (LTO-8, LTO-9); not what was unloaded there and
never taken out, as when the robot or the daemon stopped in between."""
ATTENTIONS_MAX = 4
"""A drive tells a new medium, a reset and so on once each, before it does what it was asked."""
_UNIT_ATTENTION = 6
"""Exit status of sg3-utils."""
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]{16,}")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DriveLimits:
    """How long things may take, seconds."""

    load: float = 1200.0
    """LTO-9 needs up to two hours for the first load of a new cartridge: raise it for those."""
    eject: float = 900.0
    question: float = 60.0
    """For log pages and the like."""


class TapeDrive:
    """A drive by its two devices: the tape that does not rewind, and the SCSI generic one (may be none).

    ``find`` gives the devices anew, before each use: their names change when drives come and go.
    """

    def __init__(
        self,
        io: Io,
        tape: str,
        generic: str | None = None,
        serial: str = "",
        *,
        compression: bool | None = None,
        limits: DriveLimits | None = None,
        find: Callable[[], ScsiDevice] | None = None,
    ) -> None:
        self.io = io
        self.tape = tape
        self.generic = generic
        self.serial = serial
        self.product = ""
        """Vendor and product, once it has been looked for."""
        self.limits = limits or DriveLimits()
        self.seen = Alerts()
        """All TapeAlert flags since the last cleaning: drives lower them when they are read."""
        self.guard: Callable[[], None] | None = None
        """Asked before the tape device is touched; raises when another program has the drive."""
        self._cleanings: int | None = None
        """How often it had been cleaned when it asked for it."""
        self._compression = compression
        self._find = find

    @property
    def name(self) -> str:
        return f"{self.tape} ({self.serial})" if self.serial else self.tape

    def status(self) -> DriveStatus:
        """Whether a medium is ready; never waits for one.

        :raises Retryable: the drive is open elsewhere.
        :raises OperatorNeeded: it is not attached.
        """
        self._look_up()
        with translated_tape(f"look at drive {self.name}"):
            handle = self.io.open(self.tape, write=False)
            try:
                return handle.status()
            finally:
                handle.close()

    def wait_loaded(self, barcode: str) -> None:
        """Return when the medium is ready.

        :raises Retryable: it is not in time.
        :raises OperatorNeeded: the drive stays empty.
        """
        deadline = self.io.monotonic() + self.limits.load
        thread_at = self.io.monotonic() + min(THREAD_SECONDS, self.limits.load / 2)
        while True:
            status = self.status()
            if status.online:
                return
            if self.io.monotonic() >= deadline:
                break
            if self.io.monotonic() >= thread_at:
                thread_at = deadline
                self._thread()
            self.io.sleep(POLL_SECONDS)
        waited = f"after {self.limits.load:g} s"
        if status.empty:
            raise OperatorNeeded(f"load {barcode}: drive {self.name} is still empty {waited}; look at it")
        raise Retryable(
            f"load {barcode}: drive {self.name} is not ready {waited}; a new LTO-9 cartridge takes up to "
            "two hours (raise load_seconds)"
        )

    def _thread(self) -> None:
        """Tell the drive to load what lies in it. One that is empty, or still loading, refuses."""
        with contextlib.suppress(OSError):
            handle = self.io.open(self.tape, write=False)
            try:
                handle.op(Op.LOAD)
            finally:
                handle.close()

    def open(self) -> tuple[Handle, bool]:
        """The loaded medium, its block size variable, and whether it can be written. A fixed block size that
        somebody had set is set again when it is closed.

        :raises OperatorNeeded: nothing is loaded.
        """
        self._look_up()
        with translated_tape(f"open drive {self.name}"):
            writable = True
            try:
                handle = self.io.open(self.tape, write=True)
            except OSError as error:
                if error.errno != errno.EROFS:
                    raise
                writable = False
                handle = self.io.open(self.tape, write=False)
            try:
                # Opened without waiting, the driver does not refuse a protected medium but its writes.
                status = handle.status()
                writable = writable and not status.write_protected
                handle.op(Op.SETBLK, 0)
                if status.block_bytes:
                    handle = Restoring(handle, status.block_bytes)
                if self._compression is not None:
                    handle.op(Op.COMPRESSION, int(self._compression))
            except BaseException:
                handle.close()
                raise
        return handle, writable

    def eject(self) -> None:
        """Rewind and unload what is loaded; the drive must not be open. An empty drive is no error.

        :raises Retryable: it failed or took too long.
        """
        if not self.status().online:
            return
        self.seen |= self.alerts()
        self._ask(["mt", "-f", self.tape, "offline"], self.limits.eject, f"unload drive {self.name}")

    def alerts(self) -> Alerts:
        """TapeAlert flags raised now; none when the drive does not tell."""
        found = self._page(logpages.TAPE_ALERT, logpages.alerts) or Alerts()
        self.seen |= found
        return found

    def cleaned(self) -> None:
        """Forget what was seen before a cleaning."""
        self.seen = Alerts()
        self._cleanings = None

    def must_be_cleaned(self) -> bool:
        """Whether it asks to be cleaned before anything is written, and has not been cleaned since: by its
        own count, when somebody did it at its panel."""
        self.alerts()
        if logpages.CLEAN_NOW not in self.seen.flags:
            self._cleanings = None
            return False
        life = self._page(logpages.LIFE, logpages.life)
        count = None if life is None else life.cleanings
        if self._cleanings is None:
            self._cleanings = count
        elif count is not None and count > self._cleanings:  # by hand, at its panel
            self.cleaned()
        return logpages.CLEAN_NOW in self.seen.flags

    def capacity(self) -> tuple[int, int] | None:
        """Bytes in all and bytes left on the loaded medium; None when the drive does not tell."""
        found = self._page(logpages.CAPACITY, logpages.capacity)
        return found if found is not None and found[0] else None

    def is_worm(self) -> bool:
        """Whether the loaded medium can be written only once, as far as the drive tells."""
        if self._page(logpages.VOLUME, logpages.is_worm):
            return True
        return memory.kind(self._asked(memory.command, memory.attributes) or {}) == "worm"

    def report(self, address: int, barcode: str | None, *, mounted: bool) -> DriveReport:
        """What an admin wants to know; see :class:`drivers.reports.DriveReport`.

        :param barcode: of what is in it, if that is known.
        :param mounted: a volume is mounted, so that the drive is open and is not opened again.
        """
        if mounted:
            self._look_up()
        status = None if mounted else self.status()
        alerts = self.alerts() | self.seen
        loaded = mounted or (status is not None and status.online)
        return DriveReport(
            address,
            self.serial,
            self.product,
            loaded,
            status is not None and status.write_protected,
            alerts.named(),
            alerts.cleaning_asked,
            alerts.blames_drive,
            alerts.blames_cartridge,
            self._page(logpages.WRITE_ERRORS, lambda p: logpages.error_counters(p, logpages.WRITE_ERRORS)),
            self._page(logpages.READ_ERRORS, lambda p: logpages.error_counters(p, logpages.READ_ERRORS)),
            self.cartridge(barcode) if loaded else None,
            self._page(logpages.LIFE, logpages.life),
            str(self.encryption() or ""),
        )

    def cartridge(self, barcode: str | None = None) -> CartridgeReport:
        """What the loaded cartridge's memory and the drive say of it."""
        values = self._asked(memory.command, memory.attributes) or {}
        counts = self._page(logpages.VOLUME, logpages.volume_counts) or logpages.VolumeCounts()
        written, read = memory.number(values, memory.WRITTEN), memory.number(values, memory.READ)
        kind = memory.kind(values) or ("worm" if self._page(logpages.VOLUME, logpages.is_worm) else "")
        loads = memory.number(values, memory.LOADS)
        return CartridgeReport(
            barcode or memory.text(values, memory.BARCODE) or None,
            memory.text(values, memory.SERIAL),
            memory.text(values, memory.MANUFACTURER),
            memory.text(values, memory.MANUFACTURED),
            kind,
            counts.loads if loads is None else loads,
            counts.written_bytes if written is None else written << 20,
            counts.read_bytes if read is None else read << 20,
            counts.write_errors,
            counts.read_errors,
        )

    def attribute(self, identifier: int, partition: int) -> bytes | None:
        """An attribute of the loaded cartridge's memory; None where the drive does not tell."""
        values = self._asked(
            lambda generic: memory.command(generic, identifier, partition), memory.attributes
        )
        return (values or {}).get(identifier)

    def set_attribute(self, identifier: int, partition: int, value: bytes) -> bool:
        """Write a binary attribute into the loaded cartridge's memory; whether the drive has taken it."""
        asked = memory.parameters(identifier, value)
        return self._sent(
            lambda generic, file: memory.write_command(generic, file, len(asked), partition), asked
        )

    def records(self, partition: int, places: Sequence[int], size: int) -> tuple[bytes | None, ...]:
        """What stands at these blocks of any partition of the loaded medium, ``size`` bytes of each at most;
        None where it cannot be read. The head is at the beginning of the tape afterwards. Nobody may have the
        drive open.
        """
        self._look_up()
        limit = self.limits.eject
        try:
            return tuple(
                self._asked(lambda generic: blocks.read_command(generic, size, limit), bytes, limit)
                if self._at(partition, place)
                else None
                for place in places
            )
        finally:
            self._at(0, 0)

    def _at(self, partition: int, block: int) -> bool:
        limit = self.limits.eject
        there = self._asked(
            lambda generic: blocks.locate_command(generic, partition, block, limit), lambda _: True, limit
        )
        return there is not None

    def recommended_order(self, segments: Sequence[Segment]) -> tuple[int, ...] | None:
        """In which order the drive would read from the loaded medium; None when it does not say."""
        most = self._asked(rao.limits_command, rao.parse_limits)
        if not most or not 0 < len(segments) <= most:
            return None
        asked, count = rao.parameters(segments), len(segments)
        if not self._sent(lambda generic, file: rao.generate_command(generic, file, len(asked)), asked):
            return None
        return self._asked(
            lambda generic: rao.receive_command(generic, count), lambda answer: rao.parse_order(answer, count)
        )

    def encryption(self) -> EncryptionState | None:
        """What the drive does with what is written and read; None when it does not say."""
        return self._asked(encryption.status_command, encryption.parse_status)

    def set_key(self, key: PoolKey | None) -> None:
        """Encrypt what is written until the cartridge comes out, or do not; and see that it is so.

        :raises OperatorNeeded: the drive cannot, or does not say that it does.
        """
        state = self.encryption()
        if key is None and (state is None or not (state.encrypts or state.decrypts)):
            return
        what = f"turn encryption {'off' if key is None else 'on'} in drive {self.name}"
        if self.generic is None:
            raise OperatorNeeded(f"{what}: it has no SCSI generic device; load the sg module")
        try:
            self._ask(encryption.set_command(self.generic, key), self.limits.question, what)
        except DriverError as error:
            raise OperatorNeeded(_HEXADECIMAL.sub("...", str(error))) from None  # nothing that may be a key
        state = self.encryption()
        good = state is not None and state.encrypts == state.decrypts == (key is not None)
        if not good and not (key is None and state is None):
            raise OperatorNeeded(f"{what}: the drive says: {'nothing' if state is None else state}")

    def _look_up(self) -> None:
        if self._find is not None:
            found = self._find()
            self.tape, self.generic, self.product = found.tape or self.tape, found.generic, found.name
        if self.guard is not None:
            self.guard()

    def _page(self, page: int, parse: Callable[[bytes], T]) -> T | None:
        """A log page, read; None where the drive has none or cannot be asked."""
        return self._asked(lambda generic: logpages.command(page, generic), parse)

    def _asked(
        self, command: Callable[[str], list[str]], parse: Callable[[bytes], T], seconds: float | None = None
    ) -> T | None:
        """What a command says of the drive, read; None where it says nothing or cannot be asked."""
        if self.generic is None:
            return None
        with contextlib.suppress(DriverError, OSError):
            for _ in range(ATTENTIONS_MAX):
                done = self.io.run(command(self.generic), seconds or self.limits.question)
                if done.status == 0:
                    return parse(done.out)
                if done.status != _UNIT_ATTENTION:
                    break
        return None

    def _sent(self, command: Callable[[str, str], list[str]], data: bytes) -> bool:
        """Give the drive bytes, with a command that takes them from a file; whether it has taken them."""
        given = None
        with contextlib.suppress(OSError), tempfile.NamedTemporaryFile(prefix="hsm-scsi-") as file:
            file.write(data)
            file.flush()
            given = self._asked(lambda generic: command(generic, file.name), lambda _: True)
        return given is not None

    def _ask(self, argv: list[str], timeout: float, what: str) -> Completed:
        try:
            done = self.io.run(argv, timeout)
        except FileNotFoundError as error:
            raise Permanent(f"{what}: there is no {argv[0]}; install the package that has it") from error
        except TimeoutError as error:
            raise Retryable(f"{what}: {error.strerror}") from error
        if done.status != 0:
            raise Retryable(f"{what}: {' '.join(argv)}: {done.err.strip() or f'status {done.status}'}")
        return done
