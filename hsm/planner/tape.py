"""What it costs to move the head of a tape, by the model of its drive. Pure.

The model speaks of bytes, a drive of positions (logical blocks, or bytes): how many bytes one position is
follows from how far the packages on the volume reach. The model's seconds are estimates; only their
comparison is used for ordering.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import MappingProxyType

from hsm.barcodes import generation
from hsm.planner.locate import LocateCost
from policies.whatif.tape import LTO8, LTO9, DriveModel

_BY_GENERATION = MappingProxyType(
    {
        "LTO6": replace(
            LTO8, name="LTO-6", volume_bytes=2_500_000_000_000, wraps=136, bytes_per_second=160e6
        ),
        "LTO7": replace(
            LTO8, name="LTO-7", volume_bytes=6_000_000_000_000, wraps=112, bytes_per_second=300e6
        ),
        "LTO8": LTO8,
        "LTO9": LTO9,
    }
)
_M8 = replace(LTO8, name="LTO-8 M8", volume_bytes=9_000_000_000_000, wraps=168)
"""A cartridge of LTO-7 that LTO-8 drives write more densely."""


def model_of(barcode: str, capacity: int | None = None) -> DriveModel:
    """The drive that is made for a cartridge; LTO-8 where the barcode does not tell. ``capacity`` in bytes
    replaces the cartridge's nominal one."""
    model = _M8 if barcode.endswith("M8") else _BY_GENERATION.get(generation(barcode), LTO8)
    return replace(model, volume_bytes=capacity) if capacity else model


def tape_cost(model: DriveModel, bytes_per_position: float = 1.0) -> LocateCost:
    """Seconds from one position to another.

    What lies a little ahead on the same wrap is reached by running on, which is nothing for the next file in
    sequence.

    :raises ValueError: a position of no bytes.
    """
    if bytes_per_position <= 0:
        raise ValueError(f"{bytes_per_position} bytes in a position")

    @cache
    def spot(position: int) -> tuple[int, float]:
        return model.spot(round(position * bytes_per_position))

    def seconds(start: int, end: int) -> float:
        located = model.seconds_between(spot(start), spot(end))
        gap = (end - start) * bytes_per_position
        if gap >= 0 and spot(start)[0] == spot(end)[0]:
            return min(located, model.stream_seconds(round(gap)))
        return located

    return seconds
