"""Trouble on demand: which operation fails next and how, kept in the library's folder.

Because the script is a file, a test can write it while a daemon in another process runs, and what
is left of it survives a crash.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from drivers.errors import Corrupt, DriverError, NoSpace, OperatorNeeded, Permanent, Retryable, StaleMap
from drivers.simulated.disk import FileLock, read_json, replace_json

OPERATIONS = ("look", "move", "load", "unload", "label", "put", "write", "get", "read", "flush")
"""``look`` is an inventory; ``put`` and ``get`` fail before the first byte, ``write`` and ``read`` at a piece
of them, ``flush`` before the index and ``write`` with its key ``index`` at a piece of that."""

ROBOT = "robot"
"""For ``look`` and ``move``: all that the changer does."""
ANY = "*"

_ROBOT_DOES = ((ROBOT, "look"), (ROBOT, "move"))

ERRORS: dict[str, type[DriverError]] = {
    "retryable": Retryable,
    "permanent": Permanent,
    "operator needed": OperatorNeeded,
    "corrupt": Corrupt,
    "no space": NoSpace,
    "stale map": StaleMap,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is to fail.

    The ``nth`` operation that matches from now on fails, and the following ones until ``times``
    have failed (None: for ever). ``drive`` (element address), ``barcode`` and ``key`` narrow what
    matches.
    """

    operation: str
    error: str
    nth: int = 1
    times: int | None = 1
    drive: int | None = None
    barcode: str | None = None
    key: str | None = None
    message: str = ""

    def __post_init__(self) -> None:
        if self.operation not in (*OPERATIONS, ROBOT, ANY):
            expected = ", ".join((*OPERATIONS, ROBOT))
            raise ValueError(f"operation {self.operation!r}; expected {expected} or {ANY}")
        if self.error not in ERRORS:
            raise ValueError(f"error {self.error!r}; expected one of {', '.join(ERRORS)}")
        if self.nth < 1 or (self.times is not None and self.times < 1):
            raise ValueError(f"nth {self.nth} and times {self.times} count from 1")


@dataclass(frozen=True, slots=True)
class Event:
    """An operation that is about to happen."""

    operation: str
    drive: int | None = None
    barcode: str | None = None
    key: str | None = None

    def __str__(self) -> str:
        at = f" in drive {self.drive}" if self.drive is not None else ""
        return f"{self.operation} {self.key or ''}{' of ' if self.key else ''}{self.barcode or ''}{at}"


def door_open() -> Fault:
    """The changer neither moves nor looks until the script is cleared."""
    said = "the door is open or a magazine is out; close it and take an inventory"
    return Fault(ROBOT, "stale map", times=None, message=said)


def robot_jam(moves: int = 1) -> Fault:
    """The robot fails at so many moves."""
    return Fault("move", "operator needed", times=moves, message="the robot failed; it may be jammed")


def dead_drive(drive: int) -> Fault:
    """The drive does nothing any more until the script is cleared."""
    said = f"drive {drive}: Input/output error"
    return Fault(ANY, "retryable", times=None, drive=drive, message=said)


def write_error(drive: int) -> Fault:
    """The next record that the drive writes is lost, be it of an object or of the index."""
    return Fault("write", "retryable", drive=drive, message="Input/output error")


def bad_spot(barcode: str, key: str) -> Fault:
    """No drive can read this object any more."""
    return Fault("read", "retryable", times=None, barcode=barcode, key=key, message="Input/output error")


def matches(fault: Fault, event: Event) -> bool:
    """Whether the fault is about such an operation."""
    return (
        (fault.operation in (ANY, event.operation) or (fault.operation, event.operation) in _ROBOT_DOES)
        and fault.drive in (None, event.drive)
        and fault.barcode in (None, event.barcode)
        and fault.key in (None, event.key)
    )


def strike(faults: tuple[Fault, ...], event: Event) -> tuple[tuple[Fault, ...], Fault | None]:
    """Count ``event`` against every fault; return what is left of them and the one that strikes.

    Every fault that is due is used up by the event, though only the first one is reported.
    """
    left: list[Fault] = []
    struck: Fault | None = None
    for fault in faults:
        if not matches(fault, event):
            left.append(fault)
        elif fault.nth > 1:
            left.append(replace(fault, nth=fault.nth - 1))
        else:
            struck = struck or fault
            if fault.times is None:
                left.append(fault)
            elif fault.times > 1:
                left.append(replace(fault, times=fault.times - 1))
    return tuple(left), struck


class FaultScript:
    """The faults of one library folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "faults.json"
        self._lock = FileLock(folder / ".faults.lock")

    def add(self, *faults: Fault) -> None:
        """Script more faults, after those that are there."""
        with self._lock.held():
            self._save((*self.faults(), *faults))

    def clear(self) -> None:
        """Nothing fails any more: the door is closed, dead drives are replaced."""
        with self._lock.held():
            self._path.unlink(missing_ok=True)

    def faults(self) -> tuple[Fault, ...]:
        """What is still to fail."""
        stored: list[dict[str, Any]] = read_json(self._path) or []
        return tuple(Fault(**values) for values in stored)

    def check(self, event: Event) -> None:
        """:raises DriverError: of the scripted kind, when a fault strikes ``event``."""
        if not self._path.exists():
            return
        with self._lock.held():
            faults = self.faults()
            left, struck = strike(faults, event)
            if left != faults:
                self._save(left)
        if struck is not None:
            raise ERRORS[struck.error](f"{event}: {struck.message or 'scripted fault'}")

    def _save(self, faults: tuple[Fault, ...]) -> None:
        replace_json(self._path, [asdict(fault) for fault in faults])


Check = Callable[[Event], None]
"""What a drive asks before each operation; raises when a fault strikes."""
