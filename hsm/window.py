"""How much of the staging area a package takes that passes through it, and what can never pass. Pure.

An instance is compared with its digest before a byte of it is sent, so all of it must lie in the area at
once. The window that moves along a package is kept in segments, and what a segment holds stays until all of
it was taken: beside the largest instance the window has room for two of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SEGMENTS: Final = 16
"""In a window, as far as that leaves room for its largest instance."""
SEGMENTS_MAX: Final = 64
"""Each is a file, and all those of an instance are open while it is read."""
SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX = 4 << 10, 64 << 20


@dataclass(frozen=True, slots=True)
class Window:
    """What a package takes that passes through."""

    size: int
    """Bytes of the area."""
    segment: int
    """Bytes of each of its files."""

    def __post_init__(self) -> None:
        if self.size < 1 or self.segment < SEGMENT_BYTES_MIN:
            raise ValueError(f"a window of {self.size} bytes in segments of {self.segment}")


def window_for(largest: int, area: int) -> Window:
    """Half of the area, or what the largest instance needs; larger than the area where that is too small.

    :param largest: bytes of the largest instance that is wanted.
    """
    size = max(area // 2, 1)
    while size < largest + 2 * _segment(size, SEGMENTS):
        size = largest + 2 * _segment(size, SEGMENTS) + SEGMENT_BYTES_MIN
    if size <= area:
        return Window(size, _segment(size, SEGMENTS))
    fine = _segment(area, SEGMENTS_MAX)
    return Window(max(area, largest + 2 * fine), fine)


def passes_at_most(area: int) -> int:
    """Bytes of the largest instance for which the window fits an area of so many bytes."""
    return max(area - 2 * _segment(area, SEGMENTS_MAX), 0)


def _segment(size: int, segments: int) -> int:
    return min(max(size // segments, SEGMENT_BYTES_MIN), SEGMENT_BYTES_MAX)
