"""How long a drive and its robot take: pure arithmetic, seconds and bytes.

LTO-8 figures are those of the IBM LTO-8 specifications; locating uses the cost heuristic of CERN's tape
archive (recommended access order), in which a place is a wrap and a longitudinal position (LPOS). It
was made for ordering reads, so trust comparisons made with it more than single seconds. For LTO-9 no
coefficients are published: it gets those of LTO-8 and its own wraps, rates, load and rewind times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Seconds that each difference between two places adds to a locate."""

    base: float = 4.29
    wrap_change: float = 6.69
    band_change: float = 3.2
    half_change: float = -6.04
    direction_change: float = 5.22
    step_back: float = 11.32
    per_lpos: float = 0.0006192


@dataclass(frozen=True, slots=True)
class DriveModel:
    """One generation of drive, with the cartridge that it takes."""

    name: str = "LTO-8"
    load_seconds: float = 15.0
    """Load and thread."""
    unload_seconds: float = 24.0
    """Without the rewind before it."""
    flush_seconds: float = 3.0
    """Writing the index after a series of writes, an estimate."""
    bytes_per_second: float = 360e6
    """Reading and writing, native: images are compressed already."""
    volume_bytes: int = 12_000_000_000_000
    wraps: int = 208
    bands: int = 4
    lpos_min: int = 2_696
    lpos_max: int = 171_097
    rewind_seconds_fixed: float | None = None
    """What every rewind takes; None computes it from the place."""
    coefficients: Coefficients = field(default_factory=Coefficients)

    def __post_init__(self) -> None:
        times = (self.load_seconds, self.unload_seconds, self.flush_seconds)
        if min(times) < 0 or self.bytes_per_second <= 0 or self.volume_bytes <= 0:
            raise ValueError(f"drive {self.name}: times must not be negative, rate and capacity above 0")
        if self.bands < 1 or self.wraps < self.bands or self.lpos_max < self.lpos_min:
            raise ValueError(f"drive {self.name}: {self.wraps} wraps in {self.bands} bands cannot be")

    def spot(self, position: int) -> tuple[int, float]:
        """Wrap and LPOS of a byte of the volume; odd wraps run backwards."""
        along = min(max(position / self.volume_bytes, 0.0), 1.0) * self.wraps
        wrap = min(int(along), self.wraps - 1)
        part = along - wrap
        if wrap % 2:
            part = 1 - part
        return wrap, self.lpos_min + part * (self.lpos_max - self.lpos_min)

    def locate_seconds(self, start: int, end: int) -> float:
        """From one byte of the volume to another; 0 when the head is there already."""
        return 0.0 if start == end else self.seconds_between(self.spot(start), self.spot(end))

    def seconds_between(self, start: tuple[int, float], end: tuple[int, float]) -> float:
        """The same between two places, each a wrap and an LPOS."""
        (from_wrap, from_lpos), (to_wrap, to_lpos) = start, end
        c = self.coefficients
        middle = (self.lpos_min + self.lpos_max) / 2
        wraps_a_band = self.wraps // self.bands
        forwards = to_lpos > from_lpos if from_wrap % 2 == 0 else to_lpos < from_lpos
        seconds = (
            c.base
            + c.wrap_change * (from_wrap != to_wrap)
            + c.band_change * (from_wrap // wraps_a_band != to_wrap // wraps_a_band)
            + c.half_change * ((from_lpos < middle) != (to_lpos < middle))
            + c.direction_change * (from_wrap % 2 != to_wrap % 2)
            + c.step_back * (from_wrap == to_wrap and not forwards)
            + c.per_lpos * abs(from_lpos - to_lpos)
        )
        return max(0.0, seconds)

    def rewind_seconds(self, position: int) -> float:
        """From a byte of the volume to the load point: straight along the tape, whatever the wrap."""
        if position == 0:
            return 0.0
        if self.rewind_seconds_fixed is not None:
            return self.rewind_seconds_fixed
        c = self.coefficients
        return c.base + c.per_lpos * (self.spot(position)[1] - self.lpos_min)

    def stream_seconds(self, size: int) -> float:
        """Reading or writing ``size`` bytes without a stop."""
        return size / self.bytes_per_second


LTO8 = DriveModel()
LTO9 = DriveModel(
    name="LTO-9",
    load_seconds=17.0,
    unload_seconds=30.0,
    bytes_per_second=400e6,
    volume_bytes=18_000_000_000_000,
    wraps=280,
    rewind_seconds_fixed=55.0,
)
BLURAY = DriveModel(
    name="BD-R",
    load_seconds=30.0,
    unload_seconds=5.0,
    flush_seconds=30.0,
    bytes_per_second=18e6,
    volume_bytes=100_000_000_000,
    wraps=1,
    bands=1,
    lpos_min=0,
    lpos_max=0,
    rewind_seconds_fixed=0.0,
    coefficients=Coefficients(0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
)
"""A disc of 100 GB at fourfold speed, with an average seek of 0.2 s."""

DRIVES: Mapping[str, DriveModel] = MappingProxyType({model.name: model for model in (LTO8, LTO9, BLURAY)})
"""Known drives by name."""


def locate_order(positions: Sequence[int], start: int, drive: DriveModel) -> list[int]:
    """Indices of ``positions`` by the shortest next locate from ``start``, unless the order given costs
    less; ties go to the one given first."""
    left, greedy, at = list(range(len(positions))), [], start
    spent = 0.0
    while left:
        nearest = min(left, key=lambda index: (drive.locate_seconds(at, positions[index]), index))
        spent += drive.locate_seconds(at, positions[nearest])
        left.remove(nearest)
        greedy.append(nearest)
        at = positions[nearest]
    given, at = 0.0, start
    for position in positions:
        given += drive.locate_seconds(at, position)
        at = position
    return greedy if spent < given else list(range(len(positions)))
