"""Which volume of a pool a copy goes to, of pools whose volumes need no drive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hsm.errors import DriverError
from hsm.pools import DiskPool
from hsm.service import OutOfService
from hsm.states import CopyState


class NoVolume(OutOfService):
    """No volume of the pool takes this package just now."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A volume that a copy may go to."""

    volume: DiskPool
    state: CopyState | None
    """Of the package's copy there, if it ever had one."""
    draining: bool = False


def choose(choices: Sequence[Choice], size: int, wanted: int) -> DiskPool | None:
    """Where a copy of ``size`` bytes goes: to the volume where it was begun; else to the one with the most
    room. None when the pool has ``wanted`` verified ones that stay. Pure, but for asking each volume's room.

    :raises NoVolume: no volume takes it now; it says why of each.
    """
    staying = [each for each in choices if not each.draining]
    if sum(each.state is CopyState.VERIFIED for each in staying) >= wanted:
        return None
    begun = [each for each in staying if each.state in (CopyState.WRITING, CopyState.WRITTEN)]
    fresh = [each for each in staying if each.state in (None, CopyState.RELEASED, CopyState.LOST)]
    mend = [each for each in staying if each.state in (CopyState.SUSPECT, CopyState.RELEASING)]
    problems: list[str] = []
    for group in (begun, fresh, mend):
        best: tuple[int, DiskPool] | None = None
        for each in group:
            room, why = _room_for(each, size)
            if why:
                problems.append(f"{each.volume.label}: {why}")
            elif best is None or room > best[0]:
                best = (room, each.volume)
        if best is not None:
            return best[1]
        if group is begun and any(not each.volume.there for each in begun):
            break  # it may be whole there already: a second one elsewhere would be one too many
    raise NoVolume("; ".join(problems) or "every volume is being drained")


def _room_for(choice: Choice, size: int) -> tuple[int, str]:
    """Free bytes, and why the package cannot go there."""
    volume = choice.volume
    if not volume.there:
        return 0, volume.service.condition.reason if volume.service else "away"
    if choice.state is CopyState.WRITTEN:
        return 1 << 62, ""  # it needs only its reading back
    if not volume.writable:
        return 0, volume.service.condition.reason if volume.service else "takes no writes"
    try:
        room = volume.room()
    except DriverError as error:
        return 0, str(error)
    if room is not None and room.free < size:
        return room.free, f"{size} bytes do not fit; {room.free} are free"
    return (room.free if room is not None else 0), ""
