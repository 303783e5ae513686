"""Which media are to be looked after, and why. Pure.

An advice *acts* where something is wrong already; else it is there to plan with.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from hsm.barcodes import drive_generation, generation, number, reads
from hsm.blame import Blame
from hsm.states import VolumeState

AGE_MAX = timedelta(days=10 * 365)
"""Makers promise 15 to 30 years on a shelf; drives that read them are sold for far fewer."""
MOUNTS_MAX = 5000
PASSES_MAX = 200
"""Times that a cartridge was written or read from end to end, as makers rate them."""


@dataclass(frozen=True, slots=True)
class Medium:
    """What is known of a volume."""

    name: str
    state: VolumeState
    removable: bool
    created_at: datetime
    error: str = ""
    capacity: int = 0
    mounts: int = 0
    bytes_moved: int = 0
    """Written and read by drives, in all."""
    hard_errors: int = 0
    blame: Blame = Blame.NOBODY
    why: str = ""
    """Whom to blame, in words."""
    suspects: int = 0
    """Copies that are damaged."""
    overdue: datetime | None = None
    """When the copy was verified last that should have been read back before now."""
    drives: tuple[int, ...] | None = None
    """Generations of the drives in service that could load it; None where nobody knows them."""


@dataclass(frozen=True, slots=True)
class Advice:
    act: bool
    words: str
    """What, and what to do."""


def advice(medium: Medium, now: datetime) -> list[Advice]:
    """What an administrator should do about a volume, the urgent first."""
    found = [*_broken(medium), *_generation(medium)]
    if medium.overdue is not None:
        found.append(
            Advice(True, f"not read back since {medium.overdue:%Y-%m-%d}: hsm audit verify {medium.name}")
        )
    return sorted(found + _worn(medium, now), key=lambda each: not each.act)


def _broken(medium: Medium) -> list[Advice]:
    found = []
    repack = f"hsm volume repack {medium.name}"
    if medium.state is VolumeState.SUSPECT:
        act = f": {repack}" if medium.removable else ""
        found.append(Advice(True, f"suspect: {medium.error or 'an error was seen'}{act}"))
    if medium.suspects:
        found.append(Advice(True, f"{medium.suspects} damaged copies on it"))
    if medium.blame in (Blame.MEDIUM, Blame.BOTH):
        found.append(Advice(True, medium.why))
    elif medium.blame is Blame.UNKNOWN:
        found.append(Advice(False, medium.why))
    return found


def _generation(medium: Medium) -> list[Advice]:
    mine = number(generation(medium.name))
    if not mine or not medium.drives:
        return []
    able = [drive for drive in medium.drives if mine in reads(drive)]
    if not able:
        have = ", ".join(f"LTO-{drive}" for drive in sorted(set(medium.drives)))
        return [Advice(True, f"no drive in service reads LTO-{mine} (there are {have}): keep one that does")]
    if all(mine == reads(drive)[0] and mine < drive for drive in able):
        return [
            Advice(
                False,
                f"LTO-{mine} is the oldest that the drives read, newer ones will not: "
                f"hsm volume repack --generation LTO{mine}",
            )
        ]
    return []


def _worn(medium: Medium, now: datetime) -> list[Advice]:
    if not medium.removable:
        return []
    found = []
    repack = f"refresh it: hsm volume repack {medium.name} --then retire"
    if now - medium.created_at > AGE_MAX:
        years = (now - medium.created_at) // timedelta(days=365)
        found.append(Advice(False, f"{years} years in the archive; {repack}"))
    if medium.mounts > MOUNTS_MAX:
        found.append(Advice(False, f"{medium.mounts} mounts; {repack}"))
    passes = medium.bytes_moved // medium.capacity if medium.capacity else 0
    if passes > PASSES_MAX:
        found.append(Advice(False, f"{passes} times its whole length was written or read; {repack}"))
    return found


def drive_of(product: str, written: Collection[str]) -> int:
    """The generation of a drive, by what it says of itself, else by the newest cartridge that it has written;
    0 where nobody knows."""
    return drive_generation(product) or max((number(generation(barcode)) for barcode in written), default=0)
