"""Which staged packages make room for others. Pure.

What is lost with a package is the time that it takes to bring it back, as often as that will be wanted: a
study from the shelf, for which a person walked, is worth more room than one that a robot fetches in two
minutes, and one that was read an hour ago more than one of last week.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

HALF_SECONDS: Final = 8 * 3600.0
"""A package that nobody has read for so long is half as likely to be wanted as one read just now. It falls
slowly after that: who reads old studies at all reads some that are weeks old."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A package in the staging area that may be evicted; what is pinned is never among them."""

    key: str
    size: int
    """Bytes."""
    back_seconds: float
    """What it takes to bring it back."""
    likely: float
    """How likely somebody wants it again, 0 to 1; see :func:`likelihood`."""

    def __post_init__(self) -> None:
        if self.size < 0 or self.back_seconds < 0 or not 0 <= self.likely <= 1:
            raise ValueError(f"{self.key}: {self.size} bytes, {self.back_seconds} s, likely {self.likely}")

    @property
    def loss(self) -> float:
        """Seconds that evicting it costs, on the average."""
        return self.back_seconds * self.likely


def likelihood(idle_seconds: float, *, expected: bool = False) -> float:
    """How likely a package is wanted again that nobody has read for ``idle_seconds``.

    :param expected: somebody has said that it will be read and it was not yet: a prefetch.
    """
    return 1.0 if expected else 1.0 / (1.0 + max(idle_seconds, 0.0) / HALF_SECONDS)


def victims(staged: Sequence[Staged], needed: int) -> tuple[Staged, ...] | None:
    """Packages whose loss is small and that make ``needed`` bytes of room; None when all together do not.

    The cheapest a byte go first, then those go back that are not needed any more, the dearest first. One
    package that does it alone is taken where that costs less. The loss is at most twice the least there is.
    Of equals the one given first goes.
    """
    if needed <= 0:
        return ()
    chosen: list[Staged] = []
    freed = 0
    best: tuple[Staged, ...] | None = None
    for each in sorted((one for one in staged if one.size), key=lambda one: one.loss / one.size):
        if each.size >= needed - freed:
            # What closes the gap: the cheapest a byte is not always the cheapest that does.
            candidate = _without_spare([*chosen, each], needed)
            if best is None or _loss(candidate) < _loss(best):
                best = candidate
            continue
        chosen.append(each)
        freed += each.size
    return best


def _without_spare(chosen: list[Staged], needed: int) -> tuple[Staged, ...]:
    spare = sum(each.size for each in chosen) - needed
    kept = list(chosen)
    for each in sorted(chosen, key=lambda one: one.loss, reverse=True):
        if each.size <= spare:
            kept.remove(each)
            spare -= each.size
    return tuple(kept)


def _loss(chosen: Sequence[Staged]) -> float:
    return sum(each.loss for each in chosen)
