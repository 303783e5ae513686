"""How long it takes until something on a volume can be read. Pure, rough, and only for comparing."""

from __future__ import annotations

from dataclasses import dataclass

from hsm.model import Place
from hsm.planner import model_of

ROBOT_SECONDS = 10.0
LOCATE_SECONDS = 59.0
"""From the load point to the middle of a cartridge: the LTO specification's average."""
DISK_BYTES_PER_SECOND = 100e6


@dataclass(frozen=True, slots=True)
class Feet:
    """How long a person takes, in seconds."""

    walk: float = 600.0
    other_site: float = 4 * 3600.0

    def __post_init__(self) -> None:
        if min(self.walk, self.other_site) < 0:
            raise ValueError("a walk takes no time, or some")


def seconds_to_read(barcode: str, place: Place, site: str, size: int, feet: Feet) -> float:
    """Until ``size`` bytes are read of a volume that lies there, if nothing else is in the way."""
    if place is Place.MOUNTED:
        return size / DISK_BYTES_PER_SECOND
    model = model_of(barcode)
    seconds = LOCATE_SECONDS + size / model.bytes_per_second
    if place is not Place.DRIVE:
        seconds += ROBOT_SECONDS + model.load_seconds
    if place in (Place.SHELF, Place.UNKNOWN):
        seconds += feet.other_site if site else feet.walk
    return seconds
