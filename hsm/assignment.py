"""What the planner gave to one drive, and the session that does it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from drivers.base import Store
from hsm import planner
from hsm.catalog.media import VolumeRef
from hsm.catalog.orders import Order
from hsm.catalog.usage import Tally

MakesRoom = Callable[[Sequence[int]], str]
"""Called before each package of a session, with the requests that are left, that package's first: why the
session ends here, because something more urgent needs its drive; empty when it goes on."""


def stays(_left: Sequence[int]) -> str:
    """A session that makes room for nothing."""
    return ""


def left(pk: int, pending: Iterable[int], put: Collection[int] = ()) -> tuple[int, ...]:
    """What a session has left, its next package ``pk`` first; what was put has only its reading back left."""
    return (pk, *(each for each in pending if each != pk and each not in put), *put)


class MakingRoom(Exception):
    """The session ends between two packages for something more urgent; what is left is handed back."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the planner gave to one drive."""

    library: str
    drive: int
    barcode: str
    pool: str
    """The pool that the volume belongs to, or that a scratch volume is to be labelled for."""
    orders: tuple[Order, ...]
    makes_room: MakesRoom = stays
    reads: tuple[planner.Work, ...] = ()
    """What is read, in our own order; a drive that knows a better one may be asked."""

    @property
    def actor(self) -> str:
        """By whom what the session does is done."""
        return f"drive {self.drive} of {self.library}"


@dataclass(frozen=True, slots=True)
class Mounted:
    """A session with its volume in the drive."""

    work: Assignment
    volume: VolumeRef
    store: Store
    pending: dict[int, Order]
    """Requests that have not ended yet; whoever ends one takes it out."""
    tally: Tally
    """What is counted of drive and cartridge at the end."""
    stop: threading.Event
    """The daemon stops."""
