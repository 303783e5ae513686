"""Which cartridges to carry in one walk, in the order of the shelves, and where to put each. Pure.

No walk brings more than there is room for: the most urgent ones go first, and the next walk follows when
those have been read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A cartridge that is asked for."""

    prompt: int
    barcode: str
    library: str
    """Where it is wanted."""
    site: str
    """The building that its shelf is in; empty for the library's own."""
    shelf: str
    priority: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Doors:
    """Where a person can put cartridges into a library."""

    library: str
    free: tuple[str, ...]
    """Free mail slots, or free drives where there is no robot, in words: ``mail slot 101``."""
    every: int
    """How many there are when all are free."""

    def __post_init__(self) -> None:
        if self.every < len(self.free):
            raise ValueError(f"{self.library}: {len(self.free)} of {self.every} are free")


@dataclass(frozen=True, slots=True)
class Item:
    """A cartridge to take, and where to put it."""

    wanted: Wanted
    into: str
    """In words; empty where nothing is free just now."""


@dataclass(frozen=True, slots=True)
class Stop:
    """One shelf of the walk."""

    site: str
    shelf: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Walk:
    """What to carry in one go."""

    number: int
    """1 for the one to begin now."""
    stops: tuple[Stop, ...]

    @property
    def items(self) -> list[Item]:
        return [item for stop in self.stops for item in stop.items]


def shelf_order(text: str) -> tuple[tuple[int, int | str], ...]:
    """A sort key that puts B3 before B10 and what nobody has said where it is last."""
    if not text:
        return ((2, ""),)
    parts = _DIGITS.split(text.casefold())
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in parts if part)


def pick(wanted: Iterable[Wanted], doors: Sequence[Doors], walks_max: int = 2) -> tuple[Walk, ...]:
    """The walks to make, at most ``walks_max``: the most urgent first, then those asked for longest.

    A library whose doors are all taken has its cartridges in the first walk all the same, as many as it has
    doors and with nowhere to put them yet: who stands there will see one come free.
    """
    rooms = {each.library: each for each in doors}
    queues: dict[str, list[Wanted]] = {}
    for each in sorted(wanted, key=lambda w: (w.priority, w.since, w.barcode)):
        queues.setdefault(each.library, []).append(each)
    walks = []
    for number in range(1, walks_max + 1):
        carried: list[Item] = []
        for library, queue in sorted(queues.items()):
            room = rooms.get(library, Doors(library, (), 1))
            places = room.free if number == 1 else ()
            count = max(1, len(places) or room.every)
            taken, queues[library] = queue[:count], queue[count:]
            carried += [
                Item(each, places[index] if index < len(places) else "") for index, each in enumerate(taken)
            ]
        if carried:
            walks.append(Walk(number, _stops(carried)))
    return tuple(walks)


def _stops(items: Iterable[Item]) -> tuple[Stop, ...]:
    def where(item: Item) -> tuple[object, ...]:
        each = item.wanted
        return (each.site != "", shelf_order(each.site), shelf_order(each.shelf), each.barcode)

    ordered = sorted(items, key=where)
    return tuple(
        Stop(site, shelf, tuple(group))
        for (site, shelf), group in groupby(ordered, key=lambda item: (item.wanted.site, item.wanted.shelf))
    )
