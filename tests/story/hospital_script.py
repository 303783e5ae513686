"""What happens in a day of a small hospital, written down before it begins: the same seed, the same script.

All times are seconds of the hospital's clock since the day began. What people do on the spot (how long a walk
takes, which cartridge is taken by mistake) is drawn from generators that are seeded here too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

HOUR = 3600.0
DAY_BEGINS = datetime(2027, 3, 1, 7, tzinfo=UTC)
"""What every clock of the hospital shows when the day begins: a Monday."""
WORKSTATIONS = 10
DCMTK_STATIONS = (9, 10)
"""The workstations that are DCMTK's movescu and storescp; the others are pynetdicom."""
PATIENCE_SECONDS = 30.0
BUSY = ((0.0, 0.6), (1.0, 1.0), (5.0, 0.5), (6.0, 1.0), (10.0, 0.4), (13.0, 0.1), (20.0, 0.0))
"""From which hour of the day on how busy the workstations are."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the hospital is, and how much of its day is lived."""

    hours: float
    """After so long nobody asks any more; what is owed is waited for."""
    speed: float
    studies: int
    requests: int
    kills: int
    shelved: int
    """Cartridges with studies that begin on the shelf."""
    inside: int
    """Cartridges with studies that begin in a slot."""
    blank: int
    slots: int = 24
    instances_max: int = 3
    capacity_bytes: int = 1_000_000
    home_at: float = 11 * HOUR
    """The operators go home at 18:00,"""
    back_at: float = 24 * HOUR
    """and are back at 07:00."""
    operators_hurry: float = 1.0
    """What their walks are divided by."""


SHORT = Shape(
    hours=0.25,
    speed=100,
    studies=14,
    requests=16,
    kills=1,
    shelved=10,
    inside=1,
    blank=1,
    capacity_bytes=600_000,
    operators_hurry=6,
)
LONG = Shape(hours=16, speed=180, studies=300, requests=220, kills=5, shelved=60, inside=10, blank=3)

"""The whole day."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody at a workstation wants a study."""

    at: float
    station: int
    study: int
    patience: float | None
    """After so long the workstation aborts its association; None: it waits as long as it takes."""
    again_after: float | None
    """So much later the same person asks once more, whatever came of it."""
    priority: int
    """Of the C-MOVE-RQ, PS3.7 section E.1: 0 medium, 1 high, 2 low."""


@dataclass(frozen=True, slots=True)
class Script:
    seed: int
    shape: Shape
    asks: tuple[Ask, ...]
    kills: tuple[float, ...]


def script(seed: int, shape: Shape) -> Script:
    """The day of ``seed``."""
    rng = random.Random(f"{seed} asks")
    moments = sorted(_moments(rng, shape))
    asks = tuple(_ask(rng, at, shape) for at in moments)
    rng = random.Random(f"{seed} kills")
    # Not before something is under way, and in each part of the day.
    span = shape.hours * HOUR * 0.8 / max(1, shape.kills)
    kills = tuple(span * (number + rng.uniform(0.35, 0.95)) for number in range(shape.kills))
    return Script(seed, shape, asks, kills)


def hurry(shape: Shape, seconds: float) -> float:
    return seconds / shape.operators_hurry


def _moments(rng: random.Random, shape: Shape) -> Iterator[float]:
    """A Poisson process whose rate follows the hour of the day, of about ``requests`` events."""
    end = shape.hours * HOUR
    if end <= HOUR:
        return (yield from (rng.uniform(0, end) for _ in range(shape.requests)))
    bounds = [
        (begin * HOUR, min(until * HOUR, end), rate) for begin, until, rate in _busy() if begin * HOUR < end
    ]
    weight = sum((until - begin) * rate for begin, until, rate in bounds)
    for begin, until, rate in bounds:
        if not rate:
            continue
        each = shape.requests * rate / weight
        at = begin + rng.expovariate(each)
        while at < until:
            yield at
            at += rng.expovariate(each)


def _busy() -> Iterator[tuple[float, float, float]]:
    for number, (begin, rate) in enumerate(BUSY):
        until = BUSY[number + 1][0] if number + 1 < len(BUSY) else 24.0
        yield begin, until, rate


def _ask(rng: random.Random, at: float, shape: Shape) -> Ask:
    return Ask(
        at=at,
        station=rng.randint(1, WORKSTATIONS),
        study=rng.randrange(shape.studies),
        patience=PATIENCE_SECONDS if rng.random() < 0.35 else None,
        again_after=rng.uniform(60, 900) if rng.random() < 0.1 else None,
        priority=rng.choices((0, 1, 2), (8, 1, 1))[0],
    )
