"""Drive or medium to blame? Pure: decided on what each drive did with each cartridge.

An error of a drive with a cartridge speaks against both. A second drive, or a second cartridge, tells
which: what fails everywhere is the cartridge, a drive that fails with several is the drive.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Drive = tuple[str, int]
"""Library and element address."""

DRIVES_FOR_CERTAINTY = 2
"""In so many drives a cartridge must fail before it is to blame, where there are so many."""
TRIES_IN_ONE_DRIVE = 3
"""How often where there is only one."""
DRIVE_OFF_AFTER = 3
"""With so many different cartridges a drive may fail before it is taken out of service."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A drive and a cartridge that it has had."""

    drive: Drive
    volume: str
    sessions: int
    hard_errors: int
    failing: int
    """Hard errors since the last good session of the two; 0: they work."""

    @property
    def works(self) -> bool:
        return self.failing == 0 and self.sessions > 0


class Blame(enum.StrEnum):
    NOBODY = "nobody"
    DRIVE = "drive"
    MEDIUM = "medium"
    BOTH = "both"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    blame: Blame
    why: str
    """In an admin's words, and what to do."""


def blame(pairs: Iterable[Pair], drive: Drive, volume: str) -> Verdict:
    """Who is to blame for what fails between a drive and a cartridge just now."""
    known = list(pairs)
    mine = next((pair for pair in known if (pair.drive, pair.volume) == (drive, volume)), None)
    if mine is None or not mine.failing:
        return Verdict(Blame.NOBODY, "they work together" if mine is not None else "they never met")
    bad_volumes = _names(pair.volume for pair in known if pair.drive == drive and pair.failing)
    good_volumes = _names(pair.volume for pair in known if pair.drive == drive and pair.works)
    bad_drives = {pair.drive for pair in known if pair.volume == volume and pair.failing}
    good_drives = {pair.drive for pair in known if pair.volume == volume and pair.works}
    at = f"drive {drive[1]}"
    if len(bad_volumes) > 1 and len(bad_drives) > 1:
        return Verdict(
            Blame.BOTH,
            f"{volume} fails in {len(bad_drives)} drives and {at} with {len(bad_volumes)} cartridges: "
            "clean the drive, and repack the cartridge",
        )
    if len(bad_drives) > 1:
        return Verdict(Blame.MEDIUM, f"{volume} fails in {len(bad_drives)} drives: repack it")
    if len(bad_volumes) > 1:
        return Verdict(
            Blame.DRIVE, f"{at} fails with {', '.join(bad_volumes)}: clean it, then have it looked at"
        )
    if good_drives and not good_volumes:
        return Verdict(
            Blame.DRIVE, f"{volume} works in another drive, and no cartridge does in {at}: clean it"
        )
    if good_drives:
        return Verdict(
            Blame.UNKNOWN, f"{volume} works in another drive, and {at} with others: clean the drive"
        )
    return Verdict(Blame.UNKNOWN, f"{volume} has not been tried in another drive yet")


@dataclass(frozen=True, slots=True)
class Consequence:
    """What an error leads to besides being counted."""

    volume_suspect: bool
    certain: bool
    """Several drives failed with the cartridge."""
    drive_off: str
    """Why the drive is to be taken out of service; empty when it stays."""


def consequence(
    pairs: Iterable[Pair],
    drive: Drive,
    volume: str,
    *,
    permanent: bool,
    in_service: Sequence[Drive],
    off_after: int = DRIVE_OFF_AFTER,
) -> Consequence:
    """What follows when ``drive`` has just failed with ``volume``.

    Another drive is tried first: a cartridge is suspect when it has failed in two of them, or in the one
    there is (at once where trying again will not help). A drive that fails with ``off_after`` cartridges,
    which no other drive fails with, goes out of service.

    :param in_service: the drives of the library that are used.
    """
    known = [pair for pair in pairs if pair.failing]
    others = [each for each in in_service if each != drive]
    failed_in = {pair.drive for pair in known if pair.volume == volume} | {drive}
    tries = sum(pair.failing for pair in known if pair.volume == volume)
    certain = len(failed_in) >= DRIVES_FOR_CERTAINTY
    alone = not others and (permanent or tries >= TRIES_IN_ONE_DRIVE)
    elsewhere = {pair.volume for pair in known if pair.drive != drive}
    here = _names(pair.volume for pair in known if pair.drive == drive and pair.volume not in elsewhere)
    off = f"it failed with {len(here)} cartridges: {', '.join(here)}" if len(here) >= off_after else ""
    return Consequence(certain or alone, certain, off)


def to_avoid(pairs: Iterable[Pair], in_service: Iterable[Drive]) -> frozenset[tuple[str, int, str]]:
    """(library, address, volume) that are not to be tried together while another drive could have the
    volume. A volume that fails in every drive of its library may be tried in any."""
    usable = set(in_service)
    failing: dict[str, set[Drive]] = {}
    for pair in pairs:
        if pair.failing and pair.drive in usable:
            failing.setdefault(pair.volume, set()).add(pair.drive)
    return frozenset(
        (*drive, volume)
        for volume, drives in failing.items()
        for drive in drives
        if any(each[0] == drive[0] and each not in drives for each in usable)
    )


def _names(found: Iterable[str]) -> list[str]:
    return sorted(set(found))
