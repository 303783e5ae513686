"""Reads what ``mtx status`` prints. Pure.

mtx numbers the drives ("Data Transfer Element") from 0 and all other elements ("Storage Element", those
marked IMPORT/EXPORT among them) from 1, whatever addresses the changer gives them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from drivers.errors import Retryable

_HEADER = re.compile(
    r"Storage Changer\s+\S.*?:(\d+) Drives?, (\d+) Slots?(?: \( ?(\d+) Import/Export ?\))?", re.IGNORECASE
)
_DRIVE = re.compile(r"Data Transfer Element\s+(\d+)\s*:\s*(.*)", re.IGNORECASE)
_SLOT = re.compile(r"Storage Element\s+(\d+)\s*(IMPORT/EXPORT)?\s*:\s*(.*)", re.IGNORECASE)
_HOME = re.compile(r"Storage Element\s+(\d+)\s+Loaded", re.IGNORECASE)
_OTHER = re.compile(r":AlternateVolumeTag ?= ?([^:]*)")
_TAG = re.compile(r":VolumeTag ?= ?([^:]*)")


@dataclass(frozen=True, slots=True)
class Place:
    """A drive or a slot, and what is in it."""

    number: int
    full: bool
    barcode: str | None = None
    """None when it is empty, or when the changer could not read the label."""
    home: int | None = None
    """Of a drive: the storage element that its cartridge came from, when the changer knows."""
    mail: bool = False
    """An import/export element."""
    other_side: str | None = None
    """Of a medium with two sides: the label of the side that is down."""


@dataclass(frozen=True, slots=True)
class ChangerStatus:
    """One look at a changer."""

    drives: tuple[Place, ...]
    slots: tuple[Place, ...]
    """Storage elements, import/export elements among them."""

    def drive(self, number: int) -> Place | None:
        return next((place for place in self.drives if place.number == number), None)

    def slot(self, number: int) -> Place | None:
        return next((place for place in self.slots if place.number == number), None)

    def drive_with(self, barcode: str) -> Place | None:
        return next((place for place in self.drives if place.barcode == barcode), None)

    def slot_with(self, barcode: str) -> Place | None:
        return next((place for place in self.slots if place.barcode == barcode), None)


def parse_status(text: str, changer: str = "the changer") -> ChangerStatus:
    """What ``mtx status`` said.

    :raises Retryable: it is not such an answer, or it ends too early: a partial map is not believed.
    """
    drives: dict[int, Place] = {}
    slots: dict[int, Place] = {}
    expected: tuple[int, int] | None = None
    for line in text.splitlines():
        header = _HEADER.search(line)
        if header is not None:
            expected = (int(header[1]), int(header[2]))
            continue
        drive = _DRIVE.search(line)
        if drive is not None:
            drives[int(drive[1])] = _drive(int(drive[1]), drive[2])
            continue
        slot = _SLOT.search(line)
        if slot is not None:
            number = int(slot[1])
            slots[number] = Place(
                number,
                _full(slot[3]),
                _barcode(slot[3]),
                mail=slot[2] is not None,
                other_side=_barcode(slot[3], _OTHER),
            )
    if not drives and not slots:
        raise Retryable(f"{changer}: mtx status listed no elements: {text.strip()[:200]!r}")
    if expected is not None and expected != (len(drives), len(slots)):
        raise Retryable(
            f"{changer}: mtx status announced {expected[0]} drives and {expected[1]} slots "
            f"and listed {len(drives)} and {len(slots)}; this map is not used"
        )
    barcodes = [p.barcode for p in (*drives.values(), *slots.values()) if p.barcode is not None]
    twice = sorted({barcode for barcode in barcodes if barcodes.count(barcode) > 1})
    if twice:
        raise Retryable(
            f"{changer} sees {', '.join(twice)} in two places at once; "
            "take an inventory of it (mtx inventory), and look for cartridges with the same label"
        )
    return ChangerStatus(
        tuple(drives[number] for number in sorted(drives)), tuple(slots[number] for number in sorted(slots))
    )


def is_cleaning(barcode: str) -> bool:
    """Whether a barcode is a cleaning cartridge's: ``CLN...``, or the media identifier ``CU``.

    After the LTO Ultrium cartridge label specification.
    """
    return barcode.startswith("CLN") or (len(barcode) == 8 and barcode.endswith("CU"))


def _drive(number: int, said: str) -> Place:
    home = _HOME.search(said)
    return Place(
        number,
        _full(said),
        _barcode(said),
        int(home[1]) if home is not None else None,
        other_side=_barcode(said, _OTHER),
    )


def _full(said: str) -> bool:
    return said.lstrip().lower().startswith("full")


def _barcode(said: str, which: re.Pattern[str] = _TAG) -> str | None:
    tag = which.search(said)
    if not _full(said) or tag is None:
        return None
    return tag[1].strip() or None
