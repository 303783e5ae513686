"""What planning starts from and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from hsm.model import Place
from hsm.planner.locate import LocateCost

LOADABLE = frozenset({Place.SLOT, Place.MAIL, Place.DRIVE})
"""Where a library's robot can take a volume from."""
RESERVE_PERCENT = 5
"""Room that writes leave: a nearly full tape can fail to take its own index."""


@dataclass(frozen=True, slots=True)
class Work:
    """One queued request that needs a drive."""

    request_pk: int
    kind: Literal["read", "write", "verify"]
    volume: str | None
    """Barcode; None for a write that may go to any volume of the pool."""
    pool: str
    priority: int
    """As :class:`hsm.model.Priority`: lower goes first."""
    created: datetime
    size: int
    position: int | None
    """Where it begins on the volume; None when unknown, or for a write."""
    not_on: frozenset[str] = frozenset()
    """Barcodes of volumes that a write must not go to: a second copy belongs on another volume."""
    end: int | None = None
    """Where a read leaves the head; None when that is not known either."""
    near: frozenset[str] = frozenset()
    """Barcodes of volumes where a write belongs rather than elsewhere: they hold what it shall lie beside."""
    apart: frozenset[str] = frozenset()
    """Barcodes of volumes of other groups: a write goes there only when nothing else is left."""
    group: tuple[str, ...] = ()
    """What writes that share a volume have in common; empty: anything."""

    not_in: frozenset[tuple[str, int]] = frozenset()
    """Library and address of drives that must not do it: what they wrote is read back in another one."""
    deadline: datetime | None = None
    """When it is wanted (a scheduled examination's priors), where that is known."""

    def __post_init__(self) -> None:
        if self.volume is None and self.kind != "write":
            raise ValueError(f"request {self.request_pk}: a {self.kind} names its volume")
        if self.end is not None and self.end < (self.position or 0):
            raise ValueError(f"request {self.request_pk}: ends at {self.end}, before {self.position}")


@dataclass(frozen=True, slots=True)
class VolumeAt:
    """A volume and where it is."""

    barcode: str
    pool: str | None
    """None for a scratch volume."""
    place: Place
    library: str | None
    writable: bool
    free: int
    drive: int | None
    """Element address. What :class:`DriveAt` says goes before it."""

    @property
    def in_library(self) -> bool:
        return self.library is not None and self.place in LOADABLE

    @property
    def room(self) -> int:
        """Bytes that may be written in one session."""
        return self.free * (100 - RESERVE_PERCENT) // 100


@dataclass(frozen=True, slots=True)
class DriveAt:
    library: str
    address: int
    holds: str | None
    """Barcode of the volume in it."""
    busy: bool
    """A session runs on it."""
    in_service: bool = True
    priority: int | None = None
    """The most urgent of what the session that runs on it still has to do; of an idle drive, the most urgent
    of what its last session was begun for. None: not known, or for nothing in the queue."""
    head: int | None = 0
    """Where its head is on the volume in it, in positions; None where nobody knows."""
    leaving: str | None = None
    """Barcode of another volume that is in it still, while the session for what it ``holds`` begins: no other
    drive can have that one yet."""


@dataclass(frozen=True, slots=True)
class Running:
    """A session that is under way."""

    drive: DriveAt
    barcode: str
    left: tuple[Work, ...]
    """In the order it will be done; the first is under way."""
    first_takes: float | None = None
    """Seconds until the first is done; None: as if it began now."""


@dataclass(frozen=True, slots=True)
class Site:
    """What a plan keeps to, beyond the volumes and drives that there are."""

    homes: Mapping[str, str] = field(default_factory=dict)
    """The library of each pool; a pool that is not listed may use any."""
    costs: Mapping[str, LocateCost] = field(default_factory=dict)
    """By barcode, what moving the head costs; by the distance where nothing is said."""
    scratch: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Patterns of the barcodes that each pool may begin; one that is not listed may begin any."""
    avoid: frozenset[tuple[str, int, str]] = frozenset()
    """Library, drive and volume that are not to be tried together."""
    reserved: Mapping[str, int] = field(default_factory=dict)
    """By library, how many drives work that nobody waits for leaves free."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is to be done at a moment, and with what."""

    work: Sequence[Work]
    volumes: Sequence[VolumeAt]
    drives: Sequence[DriveAt]
    now: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """One volume in one drive, and what to do there in this order."""

    drive: DriveAt
    barcode: str
    work: tuple[int, ...]
    """Primary keys of requests."""
    why: str
    scratch_for: str | None = None
    """The pool that the volume, a blank one, is given to first."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A volume that a person must bring into a library."""

    barcode: str
    request_pks: tuple[int, ...]
    priority: int
    """The most urgent of them."""
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Work that is in no part of a plan waits for a drive."""

    sessions: tuple[Session, ...]
    prompts: tuple[Prompt, ...]
    scratch_needed: tuple[str, ...]
    """Pools whose writes wait for a blank volume, most urgent first."""
    unplaceable: tuple[tuple[int, str], ...]
    """Requests that no drive, volume or operator can do as things are, with the reason."""
