"""A robot, through mtx: one command at a time, with a time limit, and never on a map that may be old.

Every move looks first whether the cartridge is where it is believed to be and the destination is free,
and looks again afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from drivers.errors import DriverError, OperatorNeeded, Permanent, Retryable, StaleMap
from drivers.tape import elements
from drivers.tape.io import Completed, Io
from drivers.tape.mtxstatus import ChangerStatus, Place, parse_status
from drivers.tape.sense import changer_error, is_attention, parse_sense

ATTENTIONS_MAX = 3
"""A changer tells each change once, as a unit attention, before it does anything else."""


@dataclass(frozen=True, slots=True)
class ChangerLimits:
    """How long things may take, seconds."""

    status: float = 120.0
    move: float = 600.0
    inventory: float = 3600.0
    """Reading every label anew, with the robot's own eyes."""


class Changer:
    """One changer. Thread-safe; its commands run one after the other."""

    def __init__(self, io: Io, device: str, limits: ChangerLimits | None = None) -> None:
        self.device = device
        self._io = io
        self._limits = limits or ChangerLimits()
        self._lock = threading.RLock()

    def status(self) -> ChangerStatus:
        """What is where, now.

        :raises StaleMap: the door is open or a magazine is out.
        :raises Retryable: it does not answer, or not in full.
        """
        with self._lock:
            done = self._run(("status",), self._limits.status, "look at the changer")
            return parse_status(done.out.decode("utf-8", "replace"), self.device)

    def inventory(self) -> ChangerStatus:
        """Let the robot read every label anew (INITIALIZE ELEMENT STATUS), then look."""
        with self._lock:
            self._run(("inventory",), self._limits.inventory, "take an inventory")
            return self.status()

    def drive_identities(self) -> tuple[str, ...]:
        """What the changer says which drive is in which element; see :mod:`drivers.tape.elements`."""
        with self._lock:
            what = f"ask {self.device} for its drives"
            done = self._try(elements.command(self.device), self._limits.status, what)
            if done.status != 0:  # a unit attention, which is told once
                done = self._try(elements.command(self.device), self._limits.status, what)
            return elements.drive_identities(done.out) if done.status == 0 else ()

    def load(self, barcode: str, slot: int, drive: int) -> None:
        """Move a cartridge from a storage element into a drive.

        :raises StaleMap: it is not there any more, or the drive is occupied; nothing was moved.
        """
        self._move(
            ("load", str(slot), str(drive)),
            f"move {barcode} from slot {slot} to drive {drive}",
            barcode,
            lambda now: now.slot(slot),
            lambda now: now.drive(drive),
        )

    def unload(self, barcode: str | None, drive: int, slot: int) -> None:
        """Move a cartridge out of a drive that has unloaded it; ``barcode`` None: one without a label."""
        self._move(
            ("unload", str(slot), str(drive)),
            f"move {barcode or 'a cartridge without a label'} from drive {drive} to slot {slot}",
            barcode,
            lambda now: now.drive(drive),
            lambda now: now.slot(slot),
        )

    def transfer(self, barcode: str, slot: int, to: int) -> None:
        """Move a cartridge between storage elements, import/export elements among them."""
        self._move(
            ("transfer", str(slot), str(to)),
            f"move {barcode} from slot {slot} to slot {to}",
            barcode,
            lambda now: now.slot(slot),
            lambda now: now.slot(to),
        )

    def _move(
        self,
        command: tuple[str, ...],
        what: str,
        barcode: str | None,
        source: Callable[[ChangerStatus], Place | None],
        target: Callable[[ChangerStatus], Place | None],
    ) -> None:
        with self._lock:
            for _ in range(ATTENTIONS_MAX):
                now = self.status()
                _require(what, barcode, source(now), target(now))
                done = self._try(self._mtx(command), self._limits.move, what)
                if done.status == 0 or not is_attention(parse_sense(done.err)):
                    break
            after = self.status()
            if _moved(barcode, source(after), target(after)):
                return  # whatever the command said: it is there
            if done.status != 0:
                raise changer_error(what, done.err)
            raise StaleMap(
                f"{what}: the changer reports success, but the cartridge is not there; take an inventory"
            )

    def _mtx(self, command: tuple[str, ...]) -> list[str]:
        return ["mtx", "-f", self.device, *command]

    def _run(self, command: tuple[str, ...], timeout: float, what: str) -> Completed:
        """A command without consequences; unit attentions are taken note of by asking again."""
        for _ in range(ATTENTIONS_MAX):
            done = self._try(self._mtx(command), timeout, what)
            if done.status == 0:
                return done
            if not is_attention(parse_sense(done.err)):
                break
        raise changer_error(f"{what} {self.device}", done.err)

    def _try(self, argv: list[str], timeout: float, what: str) -> Completed:
        try:
            return self._io.run(argv, timeout)
        except FileNotFoundError as error:
            raise Permanent(f"{what}: there is no {argv[0]}; install mtx and sg3-utils") from error
        except TimeoutError as error:
            raise Retryable(
                f"{what}: {error.strerror}; the robot may be stuck, look at the library"
            ) from error
        except OSError as error:
            raise Retryable(f"{what}: {argv[0]} cannot be run: {error}") from error


def _require(what: str, barcode: str | None, source: Place | None, target: Place | None) -> None:
    """:raises DriverError: the map that led to this move is old."""
    error: DriverError | None = None
    if source is None or target is None:
        error = OperatorNeeded(f"{what}: the changer no longer has that element; is a magazine out?")
    elif not source.full or source.barcode != barcode:
        there = source.barcode or ("a cartridge without a readable label" if source.full else "nothing")
        error = StaleMap(f"{what}: {there} is there now; nothing was moved, take an inventory")
    elif target.full:
        error = StaleMap(
            f"{what}: {target.barcode or 'a cartridge'} is in the way; nothing was moved, take an inventory"
        )
    if error is not None:
        raise error


def _moved(barcode: str | None, source: Place | None, target: Place | None) -> bool:
    """Whether the cartridge has arrived. Some changers do not show the label of what is in a drive."""
    if source is None or target is None or source.full or not target.full:
        return False
    return barcode is None or target.barcode in (barcode, None)
