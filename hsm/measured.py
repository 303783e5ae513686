"""What forecasts learn from what was really measured. Pure.

A drive's model is made for comparing orders of reads; how far it is off in this library is known after a few
mounts. What is kept are ratios of measured to expected seconds, and their median: one mount that waited for a
stuck robot says nothing of the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

FACTOR_MAX: Final = 1000.0
PRIOR: Final = 0.5
"""What the model counts, in measurements."""
LEAST_SECONDS: Final = 1e-3
"""What is expected to take less says nothing of a rate."""


@dataclass(frozen=True, slots=True)
class Correction:
    """How many times longer something takes than the model says."""

    mount: float = 1.0
    locate: float = 1.0
    read: float = 1.0


def factor(pairs: Sequence[tuple[float, float]]) -> float:
    """From (measured, expected) seconds to how many times longer it takes; 1 where nothing was measured.

    While there are few measurements it is drawn towards 1, on a scale of ratios.
    """
    ratios = [
        min(max(seconds / expected, 1 / FACTOR_MAX), FACTOR_MAX)
        for seconds, expected in pairs
        if expected >= LEAST_SECONDS
    ]
    if not ratios:
        return 1.0
    return float(median(ratios) ** (len(ratios) / (len(ratios) + PRIOR)))


def correction(measured: Mapping[str, Sequence[tuple[float, float]]]) -> Correction:
    """Of one library: ``mount``, ``locate`` and ``read`` -> (measured, expected) seconds."""
    return Correction(*(factor(measured.get(kind, ())) for kind in ("mount", "locate", "read")))


def still_to_wait(answers: Sequence[float], waited: float) -> float | None:
    """How many seconds an operator will still take who was asked ``waited`` seconds ago; None where nobody
    can say.

    The median of those earlier answers that took longer than this one already has: who has waited through a
    night is not told ten minutes.
    """
    longer = [each for each in answers if each > waited]
    return median(longer) - waited if longer else None


def in_words(seconds: float) -> str:
    """A span as people say it: ``40 s``, ``4 min``, ``2 h 10 min``, ``3 days``."""
    if seconds < 55:
        return f"{max(round(seconds / 5) * 5, 5)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{round(seconds / 86400)} days"
