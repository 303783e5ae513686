"""The archive's hardware as values: pools, libraries, the operator. Frozen, and they refuse to be wrong."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from datetime import time as time_of_day
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from policies.whatif.tape import LTO8, DriveModel

TB = 10**12


class Kind(enum.StrEnum):
    """What a pool's volumes are."""

    DISK = "disk"
    OBJECT = "s3"
    TAPE = "tape"
    OPTICAL = "optical"

    @property
    def removable(self) -> bool:
        """Its volumes need a drive."""
        return self in (Kind.TAPE, Kind.OPTICAL)


TIERS = ("online", "nearline", "offline")


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool. Of a removable one, rates and capacity are those of its library."""

    name: str
    kind: Kind = Kind.DISK
    tier: str = "online"
    site: str = ""
    capacity: int = 0
    """Bytes, of pools that are not removable."""
    read_bytes_per_second: float = 200e6
    write_bytes_per_second: float = 200e6
    latency_seconds: float = 0.02
    """To the first byte; hours for a cold class of object storage."""
    library: str = ""

    def __post_init__(self) -> None:
        if self.tier not in TIERS:
            raise ValueError(f"pool {self.name}: tier is {self.tier!r}; expected one of {', '.join(TIERS)}")
        if self.kind.removable is not bool(self.library):
            need = "needs the name of a library" if self.kind.removable else "has no library"
            raise ValueError(f"pool {self.name}: a pool of kind {self.kind.value} {need}")
        if not self.kind.removable and self.capacity <= 0:
            raise ValueError(f"pool {self.name}: its capacity must be above 0 bytes")
        if min(self.read_bytes_per_second, self.write_bytes_per_second) <= 0 or self.latency_seconds < 0:
            raise ValueError(f"pool {self.name}: rates must be above 0, latency not negative")

    @property
    def cold(self) -> bool:
        """Object storage whose objects must be restored before they can be read."""
        return self.latency_seconds >= 60


@dataclass(frozen=True, slots=True)
class Library:
    """Slots, drives and a robot."""

    name: str
    drive: DriveModel = LTO8
    drives: int = 2
    slots: int = 24
    robot_seconds: float = 10.0
    """One move of one cartridge."""
    cartridges: int | None = None
    """How many there are in all, on the shelf too; None: more are bought as they are needed."""

    def __post_init__(self) -> None:
        if self.drives < 1 or self.slots < self.drives or self.robot_seconds < 0:
            raise ValueError(f"library {self.name}: needs a drive, and at least as many slots as drives")
        if self.cartridges is not None and self.cartridges < 1:
            raise ValueError(f"library {self.name}: needs at least one cartridge")


@dataclass(frozen=True, slots=True)
class Operator:
    """The person who walks between the shelf and the library."""

    walk_seconds: float = 900.0
    """There and back, with finding the cartridges."""
    cartridge_seconds: float = 30.0
    """Handling one cartridge, in or out."""
    cartridges_a_trip: int = 10
    begins: time_of_day = time_of_day(7)
    ends: time_of_day = time_of_day(18)
    """On duty from ``begins`` to ``ends``; the same time twice: day and night."""
    weekdays: frozenset[int] = frozenset(range(5))
    """0 is Monday."""
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        if self.walk_seconds < 0 or self.cartridge_seconds < 0 or self.cartridges_a_trip < 1:
            raise ValueError("operator: times must not be negative, and a trip carries at least 1 cartridge")
        if not self.weekdays or not self.weekdays <= frozenset(range(7)):
            raise ValueError("operator: needs weekdays from 0 (Monday) to 6 (Sunday)")
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"operator: {self.time_zone!r} is no time zone; write Europe/Berlin") from error

    def on_duty_at(self, moment: datetime) -> datetime:
        """``moment`` (aware) if the operator is on duty then, else when the next duty begins."""
        zone = ZoneInfo(self.time_zone)
        local = moment.astimezone(zone)
        for days in range(-1, 9):
            day = local.date() + timedelta(days=days)
            if day.weekday() not in self.weekdays:
                continue
            begin = datetime.combine(day, self.begins, zone)
            over_midnight = timedelta(days=1 if self.ends <= self.begins else 0)
            end = datetime.combine(day + over_midnight, self.ends, zone)
            if local < end:
                return max(local, begin).astimezone(moment.tzinfo)
        raise AssertionError("a week has a duty")  # weekdays is not empty


@dataclass(frozen=True, slots=True)
class Site:
    """Everything that takes time or room."""

    pools: tuple[Pool, ...]
    libraries: tuple[Library, ...] = ()
    operator: Operator = field(default_factory=Operator)
    staging_bytes: int = 500 * 10**9
    """Room for what was recalled, the least recently used leaves first."""
    quiet_seconds: float = 900.0
    """From a study's last instance to its package."""

    def __post_init__(self) -> None:
        names = [pool.name for pool in self.pools]
        if len(set(names)) != len(names):
            raise ValueError(f"site: two pools have one name: {', '.join(sorted(names))}")
        libraries = {library.name for library in self.libraries}
        for pool in self.pools:
            if pool.library and pool.library not in libraries:
                raise ValueError(f"pool {pool.name}: there is no library {pool.library!r}")
        if not any(pool.tier == "online" and not pool.kind.removable for pool in self.pools):
            raise ValueError("site: there must be a disk pool of tier online, where studies arrive")
        if self.staging_bytes < 0 or self.quiet_seconds < 0:
            raise ValueError("site: staging and quiet time must not be negative")

    @property
    def arrival_pool(self) -> Pool:
        """Where studies arrive: the first online pool."""
        return next(pool for pool in self.pools if pool.tier == "online" and not pool.kind.removable)

    def pool(self, name: str) -> Pool:
        """:raises KeyError: there is none of that name."""
        return self.by_name[name]

    def library(self, name: str) -> Library:
        """:raises KeyError: there is none of that name."""
        return {library.name: library for library in self.libraries}[name]

    @property
    def by_name(self) -> Mapping[str, Pool]:
        return {pool.name: pool for pool in self.pools}
