"""How long an LTO-8 drive and its library take: pure arithmetic, seconds and bytes.

The figures are those of the IBM LTO-8 specifications (load and thread, unload, native speed,
wraps). Locating uses the cost heuristic of CERN's tape archive (recommended access order, LTO-7M
media on an LTO-8 drive), in which a place is a wrap and a longitudinal position (LPOS). It was made
for ordering reads, so trust its comparisons more than its seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Spot:
    """A place on the tape: which wrap, and how far along the tape (LPOS units)."""

    wrap: int
    lpos: float


@dataclass(frozen=True, slots=True)
class LocateCoefficients:
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
    """One generation of drive in a library."""

    load_seconds: float = 15.0
    unload_seconds: float = 24.0
    move_seconds: float = 10.0
    flush_seconds: float = 3.0
    """Writing the index, an estimate."""
    bytes_per_second: float = 360e6
    wraps: int = 208
    bands: int = 4
    lpos_min: int = 2_696
    lpos_max: int = 171_097
    coefficients: LocateCoefficients = field(default_factory=LocateCoefficients)

    def spot(self, fraction: float) -> Spot:
        """Where the tape is after ``fraction`` (0 to 1) of its capacity; odd wraps run backwards."""
        along = min(max(fraction, 0.0), 1.0) * self.wraps
        wrap = min(int(along), self.wraps - 1)
        part = along - wrap
        if wrap % 2:
            part = 1 - part
        return Spot(wrap, self.lpos_min + part * (self.lpos_max - self.lpos_min))

    def locate_seconds(self, start: Spot, end: Spot) -> float:
        """From one place to another; 0 when the tape is there already."""
        if start == end:
            return 0.0
        c = self.coefficients
        middle = (self.lpos_min + self.lpos_max) / 2
        wraps_a_band = self.wraps // self.bands
        forwards = end.lpos > start.lpos if start.wrap % 2 == 0 else end.lpos < start.lpos
        seconds = (
            c.base
            + c.wrap_change * (start.wrap != end.wrap)
            + c.band_change * (start.wrap // wraps_a_band != end.wrap // wraps_a_band)
            + c.half_change * ((start.lpos < middle) != (end.lpos < middle))
            + c.direction_change * (start.wrap % 2 != end.wrap % 2)
            + c.step_back * (start.wrap == end.wrap and not forwards)
            + c.per_lpos * abs(start.lpos - end.lpos)
        )
        return max(0.0, seconds)

    def typical_locate_seconds(self) -> float:
        """From the load point to the middle of the tape's length, half-way through its wraps."""
        middle = Spot(self.wraps // 2, (self.lpos_min + self.lpos_max) / 2)
        return self.locate_seconds(self.spot(0.0), middle)

    def rewind_seconds(self, start: Spot) -> float:
        """To the load point: straight along the tape, whatever the wrap."""
        if start == self.spot(0.0):
            return 0.0
        c = self.coefficients
        return c.base + c.per_lpos * (start.lpos - self.lpos_min)

    def stream_seconds(self, size: int) -> float:
        """Reading or writing ``size`` bytes without a stop."""
        return size / self.bytes_per_second


LTO8 = DriveModel()
