"""How long a library's drives take: what a forecast reckons with. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from policies.whatif.tape import DriveModel

MOVE_SECONDS = 10.0
"""One move of a robot's hand."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds, and bytes a second."""

    load: float = 15.0
    """Load and thread."""
    unload: float = 24.0
    rewind: float = 59.0
    """From wherever the tape is, on average."""
    move: float = MOVE_SECONDS
    locate: float = 59.0
    """To a place that is not known, on average."""
    flush: float = 3.0
    """Writing the index."""
    bytes_per_second: float = 360e6

    def __post_init__(self) -> None:
        times = (self.load, self.unload, self.rewind, self.move, self.locate, self.flush)
        if min(times) < 0 or self.bytes_per_second <= 0:
            raise ValueError(f"{self}: times must not be negative, and the rate above 0")

    @classmethod
    def of(cls, model: DriveModel) -> Pace:
        """Of a drive by its model; locate and rewind from the middle of its tape."""
        middle = model.volume_bytes // 2
        return cls(
            load=model.load_seconds,
            unload=model.unload_seconds,
            rewind=model.rewind_seconds(middle),
            locate=model.locate_seconds(0, middle),
            flush=model.flush_seconds,
            bytes_per_second=model.bytes_per_second,
        )

    def corrected(self, mount: float = 1.0, transfer: float = 1.0) -> Pace:
        """By what was really measured: how many times longer a change of cartridges, and a byte, take."""
        return replace(
            self,
            load=self.load * mount,
            unload=self.unload * mount,
            rewind=self.rewind * mount,
            move=self.move * mount,
            bytes_per_second=self.bytes_per_second / transfer,
        )

    def change(self, *, holds_one: bool) -> float:
        """Until another cartridge is ready in a drive, which may have to give one back first."""
        return (self.rewind + self.unload + self.move if holds_one else 0.0) + self.move + self.load

    def stream(self, size: int) -> float:
        return size / self.bytes_per_second


PaceOf = Callable[[str], Pace]
"""The pace of the drives of a library, by its name."""
