"""Fixity: which copies are read back next, and what becomes of one that is not what was stored. Pure.

Scrubbing goes by the age of each copy's last verification, oldest first. What follows a mismatch is decided
from what the catalog says of the package's other copies; :mod:`hsm.scrub` and :mod:`hsm.repair` act.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hsm.guard import GOOD_VOLUMES, CopyFact
from hsm.model import Goal, Place

SOON_PART = 8
"""A copy on a cartridge that is mounted anyway is read back this part of the period before its time."""


@dataclass(frozen=True, slots=True)
class Scrub:
    """How the copies of a pool are read back by age."""

    every: timedelta
    """Each copy is read back when its last verification is so long ago."""
    bytes_per_second: int | None = None
    drives: int = 1
    """At most so many of a library's drives at the same time."""
    at_once: int = 100
    """Copies that are queued, or read on beside other work on a cartridge, at a time."""
    ask: bool = False
    """A person is asked for what is due on a shelf; else it is only reported."""

    def __post_init__(self) -> None:
        if self.every <= timedelta(0):
            raise ValueError(f"a scrub every {self.every}; expected more than 0")
        if self.drives < 1 or self.at_once < 1:
            raise ValueError("a scrub needs a drive and reads one copy at least")

    def due_before(self, now: datetime) -> datetime:
        """What was verified last before this is due."""
        return now - self.every

    def soon_before(self, now: datetime) -> datetime:
        """What was verified last before this is due, or will be soon."""
        return now - self.every * (SOON_PART - 1) / SOON_PART


@dataclass(frozen=True, slots=True)
class Due:
    """A volume with copies whose time has come."""

    volume_pk: int
    name: str
    place: Place
    copies: int
    """So many are due and not queued yet."""
    oldest: datetime | None
    """When the one that waits longest was verified last; None where all that is due is queued."""
    queued: int
    """Verifications on it that are queued or at work."""
    usable: bool = True
    """It is in order and can be read now, or a person could bring it."""


def turns(volumes: Sequence[Due], scrub: Scrub) -> list[tuple[int, int]]:
    """Which volumes have their turn, and how many copies of each are queued: the longest unverified first.

    Of cartridges as many at the same time as drives may be used, so that each is mounted once and read to the
    end of what is due on it. One that is on a shelf only where a person may be asked.

    :returns: keys of volumes, and numbers above 0.
    """
    mounted = (Place.MOUNTED,)
    cartridges = sum(each.queued > 0 and each.place not in mounted for each in volumes)
    room = scrub.at_once - sum(each.queued for each in volumes)
    found: list[tuple[int, int]] = []
    ripe = [each for each in volumes if each.copies > 0 and each.oldest is not None and each.usable]
    for each in sorted(ripe, key=lambda one: (one.oldest, one.name)):
        if room <= 0:
            break
        if each.place is Place.UNKNOWN or (each.place is Place.SHELF and not scrub.ask):
            continue
        if each.place not in mounted and not each.queued:
            if cartridges >= scrub.drives:
                continue
            cartridges += 1
        many = min(room, each.copies)
        room -= many
        found.append((each.volume_pk, many))
    return found


def on_shelf(volumes: Sequence[Due]) -> list[Due]:
    """Those with something due that only a person can bring, the longest unverified first."""
    found = [each for each in volumes if each.place in (Place.SHELF, Place.UNKNOWN) and each.oldest]
    return sorted(found, key=lambda one: (one.oldest, one.name))


class Step(enum.StrEnum):
    """What is done next about a suspect copy."""

    WAIT = "wait"  # something is under way for it
    HOPELESS = "no good copy"  # nothing to make it from
    REPLACE = "replace"  # its bytes are written anew where it lies
    COPY = "copy"  # another one is made on another volume of its pool
    LET_GO = "let go"  # its pool has what it needs without it
    STUCK = "stuck"  # making it anew has failed; a person looks


def next_step(
    suspect: CopyFact,
    facts: Sequence[CopyFact],
    goals: Sequence[Goal],
    *,
    in_place: bool,
    under_way: bool = False,
    failed: bool = False,
) -> Step:
    """What is done about ``suspect``, given all copies of its package and what policy demands.

    :param in_place: its volume takes other bytes in its place; a tape or a disc does not.
    :param under_way: a verification or a copy for it is queued or at work.
    :param failed: making it anew was tried, and given up.
    """
    if under_way:
        return Step.WAIT
    good = [fact for fact in facts if fact.good and fact.volume_pk != suspect.volume_pk]
    if not good:
        return Step.HOPELESS
    if failed:
        return Step.STUCK
    if in_place:
        return Step.REPLACE
    pools = [fact.pool for fact in good]
    lacking = any(goal.have(pools) < goal.copies for goal in goals if suspect.pool in goal.counted)
    if lacking or suspect.pool not in pools:
        return Step.COPY
    # A volume that is suspect itself is repacked as a whole, and asks for nothing until then.
    return Step.LET_GO if suspect.volume_state in GOOD_VOLUMES else Step.WAIT
