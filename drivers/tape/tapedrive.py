"""One tape drive: whether a cartridge is in it, what it says of its health, and how it gives it back."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from drivers.errors import DriverError, OperatorNeeded, Permanent, Retryable
from drivers.tape import logpages
from drivers.tape.io import Completed, DriveStatus, Handle, Io, Op, ScsiDevice
from drivers.tape.logpages import Alerts, ErrorCounters
from drivers.tape.tapeerrors import translated_tape

POLL_SECONDS = 1.0
ATTENTIONS_MAX = 4
"""A drive tells a new medium, a reset and so on once each, before it does what it was asked."""
_UNIT_ATTENTION = 6
"""Exit status of sg3-utils."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DriveLimits:
    """How long things may take, seconds."""

    load: float = 1200.0
    """LTO-9 needs up to two hours for the first load of a new cartridge: raise it for those."""
    eject: float = 900.0
    question: float = 60.0
    """For log pages and the like."""


@dataclass(frozen=True, slots=True)
class DriveReport:
    """What an admin wants to know of a drive."""

    serial: str
    status: DriveStatus
    alerts: Alerts
    write_errors: ErrorCounters
    read_errors: ErrorCounters
    encryption: str


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
        self.limits = limits or DriveLimits()
        self.seen = Alerts()
        """All TapeAlert flags since the last cleaning: drives lower them when they are read."""
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
        while True:
            status = self.status()
            if status.online:
                return
            if self.io.monotonic() >= deadline:
                break
            self.io.sleep(POLL_SECONDS)
        waited = f"after {self.limits.load:g} s"
        if status.empty:
            raise OperatorNeeded(f"load {barcode}: drive {self.name} is still empty {waited}; look at it")
        raise Retryable(
            f"load {barcode}: drive {self.name} is not ready {waited}; a new LTO-9 cartridge takes up to "
            "two hours (raise load_seconds)"
        )

    def open(self) -> tuple[Handle, bool]:
        """The loaded medium, its block size variable, and whether it can be written.

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
                writable = writable and not handle.status().write_protected
                handle.op(Op.SETBLK, 0)
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

    def capacity(self) -> tuple[int, int] | None:
        """Bytes in all and bytes left on the loaded medium; None when the drive does not tell."""
        found = self._page(logpages.CAPACITY, logpages.capacity)
        return found if found is not None and found[0] else None

    def is_worm(self) -> bool:
        """Whether the loaded medium can be written only once, as far as the drive tells."""
        return bool(self._page(logpages.VOLUME, logpages.is_worm))

    def report(self) -> DriveReport:
        """What an admin wants to know. The drive must not be open."""
        none = ErrorCounters()
        return DriveReport(
            self.serial,
            self.status(),
            self.alerts() | self.seen,
            self._page(logpages.WRITE_ERRORS, lambda p: logpages.error_counters(p, logpages.WRITE_ERRORS))
            or none,
            self._page(logpages.READ_ERRORS, lambda p: logpages.error_counters(p, logpages.READ_ERRORS))
            or none,
            self.encryption(),
        )

    def encryption(self) -> str:
        """What stenc says of the drive's encryption, in one line; empty when it is not installed."""
        with contextlib.suppress(DriverError, OSError):
            done = self.io.run(["stenc", "-f", self.tape], self.limits.question)
            return encryption_words(done.out.decode("utf-8", "replace")) if done.status == 0 else ""
        return ""

    def _look_up(self) -> None:
        if self._find is not None:
            found = self._find()
            self.tape, self.generic = found.tape or self.tape, found.generic

    def _page(self, page: int, parse: Callable[[bytes], T]) -> T | None:
        """A log page, read; None where the drive has none or cannot be asked."""
        if self.generic is None:
            return None
        with contextlib.suppress(DriverError, OSError):
            for _ in range(ATTENTIONS_MAX):
                done = self.io.run(logpages.command(page, self.generic), self.limits.question)
                if done.status == 0:
                    return parse(done.out)
                if done.status != _UNIT_ATTENTION:
                    break
        return None

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


def encryption_words(text: str) -> str:
    """stenc's table of ``name: value`` in one line: what it says of encryption, decryption and keys."""
    wanted = ("encryption", "decryption", "encrypt", "decrypt", "key")
    found = []
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and value.strip() and any(word in name.lower() for word in wanted):
            found.append(f"{' '.join(name.split()).lower()}: {value.strip()}")
    return "; ".join(found)
