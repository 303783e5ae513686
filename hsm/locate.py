"""What moving the head costs on volumes that are to be read: the catalog's positions, the drive's model."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from sqlalchemy.orm import Session

from hsm import planner
from hsm.catalog import placement
from hsm.catalog.media import VolumeRef


def located(
    session: Session, work: Sequence[planner.Work], volumes: Sequence[VolumeRef], least: int = 2
) -> tuple[tuple[planner.Work, ...], dict[str, planner.LocateCost]]:
    """The work, its reads with where they leave the head, and the cost of each volume that has several.

    :param least: how many reads are several.
    """
    reads = Counter(each.volume for each in work if each.position is not None)
    several = {volume.name: volume for volume in volumes if reads[volume.name] >= least}
    starts = placement.positions(session, [volume.pk for volume in several.values()])
    tapes = {name: _Tape(volume, starts[volume.pk]) for name, volume in several.items()}
    costs = {name: tape.cost() for name, tape in tapes.items()}
    return tuple(_with_end(each, tapes.get(each.volume or "")) for each in work), costs


def change_seconds(volume: VolumeRef, *, holds_one: bool) -> float:
    """Until a volume is in a drive, which may have to give another one back first."""
    return _pace(volume).change(holds_one=holds_one)


def _pace(volume: VolumeRef) -> planner.Pace:
    return planner.Pace.of(planner.model_of(volume.name, volume.capacity or None))


class Head:
    """The head of a drive in one session, and what it is expected to take to the next package."""

    def __init__(self, session: Session, volume: VolumeRef, at: int | None = 0) -> None:
        """
        :param at: where it is; None where nobody knows.
        """
        starts = placement.positions(session, [volume.pk]).get(volume.pk, [])
        self._tape = _Tape(volume, starts) if starts else None
        self._cost = self._tape.cost() if self._tape is not None else None
        self._pace = _pace(volume)
        self.at = at
        """Where it is, None where nobody knows."""

    def locate_seconds(self, position: int | None, size: int) -> float:
        """To a package, after which the head is where it ends."""
        before, self.at = self.at, None
        if position is None or self._tape is None or self._cost is None:
            return self._pace.locate
        self.at = self._tape.end(position, size)
        return self._pace.locate if before is None else self._cost(before, position)

    def read_seconds(self, size: int) -> float:
        return self._pace.stream(size)


@dataclass(frozen=True, slots=True)
class _Tape:
    volume: VolumeRef
    packages: Sequence[tuple[int, int]]
    """Start and size of every package on it; there is one at least."""

    @property
    def scale(self) -> float:
        """Bytes in a position: from the first package to the last, so many for what lies between."""
        (first, _), (last, _) = self.packages[0], self.packages[-1]
        if last > first:
            return max(sum(size for _, size in self.packages[:-1]), 1) / (last - first)
        return max(self.volume.used, 1) / (last + 1)

    def end(self, start: int, size: int) -> int:
        """Where the next package begins; after the last one, by its size."""
        index = bisect_right(self.packages, start, key=lambda each: each[0])
        known = index < len(self.packages)
        return self.packages[index][0] if known else start + ceil(size / self.scale)

    def cost(self) -> planner.LocateCost:
        model = planner.model_of(self.volume.name, self.volume.capacity or None)
        return planner.tape_cost(model, self.scale)


def _with_end(work: planner.Work, tape: _Tape | None) -> planner.Work:
    if work.position is None or tape is None:
        return work
    return replace(work, end=tape.end(work.position, work.size))
