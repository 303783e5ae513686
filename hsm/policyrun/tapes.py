"""What a plan needs of cartridges and drives. Pure; the figures are LTO-8's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hsm.catalog.outlook import Room
from hsm.planner.values import RESERVE_PERCENT
from hsm.pools import Pools

TAPE_BYTES_PER_SECOND = 300e6
"""Written or read in a stream: 360 MB/s at best."""
MOUNT_SECONDS = 2 * 10 + 15 + 59 + 24
"""Robot to and fro, load and thread, rewind, unload."""
LOCATE_SECONDS = 59.0
"""From the load point, on average."""
CAPACITY = 12 * 10**12
"""Of a blank cartridge that no drive has seen."""


@dataclass(slots=True)
class Need:
    """What shall come onto a pool's volumes."""

    bytes: int = 0
    copies: int = 0
    """Of a study, at most: each goes onto another volume."""
    verify: int = 0
    """Bytes to read back besides."""

    def add(self, size: int, copies: int) -> None:
        self.bytes += size * copies
        self.copies = max(self.copies, copies)


@dataclass(slots=True)
class TapePlan:
    """One pool of a library."""

    pool: str
    library: str
    bytes: int = 0
    volumes: dict[str, int] = field(default_factory=dict)
    """Bytes by volume, blank ones included."""
    cartridges: int = 0
    """Blank ones that are needed."""
    missing: int = 0
    """Of these, how many the library has not."""
    scratch_left: int = 0
    mounts: int = 0
    seconds: float = 0.0
    """With all drives of the library at work."""
    room: int = 0
    """On blank cartridges."""

    @property
    def warning(self) -> str:
        if not self.missing:
            return ""
        return f"pool {self.pool}: {self.missing} blank cartridges are missing in {self.library}: put them in"

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"hours": round(self.seconds / 3600, 2)}


def tape_plans(
    rooms: Sequence[Room], pools: Pools, need: Mapping[str, Need], reads: set[str]
) -> list[TapePlan]:
    """Fill the volumes of each pool as the planner does, the fullest first, then blank ones."""
    blank = {
        library: [room for room in rooms if room.pool is None and room.library == library]
        for library in pools.libraries
    }
    drives = {
        name: max(1, len(list(library.inventory().drives()))) for name, library in pools.libraries.items()
    }
    found = []
    for name, pool in sorted(pools.tapes.items()):
        wanted = need.get(name, Need())
        plan = TapePlan(name, pool.library, wanted.bytes)
        left = _fill(plan, [room for room in rooms if room.pool == name], wanted)
        free = blank.get(pool.library, [])
        while left > 0 or len(plan.volumes) < wanted.copies:
            plan.cartridges += 1
            label = free.pop(0) if free else None
            plan.missing += label is None
            takes = min(left, _usable(label.capacity if label else 0))
            plan.volumes[label.volume if label else f"blank {plan.cartridges}"] = takes
            left -= takes
        plan.scratch_left = len(free)
        plan.room = sum(_usable(each.capacity) for each in free)
        plan.mounts = len(plan.volumes)
        found.append(plan)
    _times(found, need, reads, drives)
    return found


def _fill(plan: TapePlan, own: Sequence[Room], wanted: Need) -> int:
    left = wanted.bytes
    for room in sorted(own, key=lambda each: each.free):
        takes = min(left, room.free * (100 - RESERVE_PERCENT) // 100)
        if takes > 0:
            plan.volumes[room.volume] = takes
            left -= takes
    return left


def _usable(capacity: int) -> int:
    return max(1, (capacity or CAPACITY) * (100 - RESERVE_PERCENT) // 100)


def _times(
    plans: list[TapePlan], need: Mapping[str, Need], reads: set[str], drives: Mapping[str, int]
) -> None:
    """Every byte is written and read back; what is on tape only is fetched first."""
    for number, plan in enumerate(plans):
        plan.mounts += len(reads) if number == 0 else 0
        wanted = need.get(plan.pool, Need())
        moving = (2 * plan.bytes + wanted.verify) / TAPE_BYTES_PER_SECOND
        plan.seconds = (moving + plan.mounts * (MOUNT_SECONDS + LOCATE_SECONDS)) / drives.get(plan.library, 1)
