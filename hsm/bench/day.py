"""The mixed day of ``hsm bench recall``: 2 drives, 24 cartridges, 200 requests of every class, and writes.

Played in virtual time (:class:`hsm.planner.Course`) with the real planner and with others on the same day.
Each also on drives that differ from what the planners believe of them: every coefficient of the locate cost
off by up to 30 %.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from statistics import mean, quantiles
from typing import Any

from hsm import planner
from hsm.bench.frame import Table
from hsm.bench.rivals import Rival, by_block, cta, fifo
from hsm.model import Place, Priority
from hsm.planner import Course, DriveAt, LocateCost, Pace, Rules, Served, Situation, VolumeAt, Work
from policies.whatif.tape import DriveModel

SLOTS, DRIVES, WRITABLE = 24, 2, 2
READS: Mapping[Priority, int] = {
    Priority.STAT: 16,
    Priority.ROUTINE: 84,
    Priority.PREFETCH: 30,
    Priority.SCRUB: 20,
}
WRITES = 50
HOURS = (10.0, 2.5)
"""In which everything is asked for: a working day, and a rush that two drives only just get done."""
FILLED = 0.8
READ_BYTES = (50_000_000, 1_500_000_000)
WRITE_BYTES = (2_000_000_000, 30_000_000_000)
DEADLINES: Mapping[Priority, float] = {
    Priority.STAT: 600.0,
    Priority.ROUTINE: 3600.0,
    Priority.PREFETCH: 6 * 3600.0,
    Priority.MIGRATION: 16 * 3600.0,
    Priority.SCRUB: 24 * 3600.0,
}
"""Seconds in which each class is to be served."""
SHOWN = (Priority.STAT, Priority.ROUTINE, Priority.PREFETCH, Priority.MIGRATION, Priority.SCRUB)
TICK_SECONDS = 60.0
BEGIN = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
LIBRARY = "library"


@dataclass(frozen=True, slots=True)
class Day:
    """What happens, and on which drives: as believed and in truth."""

    model: DriveModel
    volumes: tuple[VolumeAt, ...]
    ends: Mapping[str, int]
    arrivals: tuple[tuple[float, Work], ...]
    believed: LocateCost
    real: LocateCost

    @property
    def costs(self) -> dict[str, LocateCost]:
        return dict.fromkeys(self.ends, self.believed)


@dataclass(frozen=True, slots=True)
class Played:
    """What a planner made of a day: seconds."""

    locate: float
    """Mean, for each package that was read or written."""
    drive_seconds: float
    mounts: int
    made_room: int
    waits: Mapping[int, Sequence[float]]
    """By class, from being asked for to being done."""
    missed: int
    kept: Sequence[float]
    """Whenever stat recalls came while no other waited: from being asked for to the first change of
    cartridges for them, kept by what the drives had begun."""


def random_day(model: DriveModel, real: DriveModel, hours: float, rng: random.Random) -> Day:
    """Recalls come a few at a time (the studies of one patient), the newest cartridges are wanted most; the
    migration comes in three bursts, the scrub in the morning."""
    filled = int(model.volume_bytes * FILLED)
    names = [f"HSM{number:03d}L{model.name[-1]}" for number in range(SLOTS)]
    readable, writable = names[:-WRITABLE], names[-WRITABLE:]
    volumes = [VolumeAt(name, "tape", Place.SLOT, LIBRARY, False, 0, None) for name in readable]
    volumes += [
        VolumeAt(name, "tape", Place.SLOT, LIBRARY, True, model.volume_bytes // 2, None) for name in writable
    ]
    ends = dict.fromkeys(readable, filled) | dict.fromkeys(writable, model.volume_bytes // 4)
    asked: list[tuple[float, Work]] = []
    for priority, left in READS.items():
        while left:
            at = rng.uniform(0, 600 if priority is Priority.SCRUB else hours * 3600)
            together = 1 if priority is Priority.STAT else min(left, rng.randint(1, 3))
            name = readable[min(int(rng.expovariate(1 / 10)), len(readable) - 1)]
            asked += [(at, _read(priority, name, filled, rng)) for _ in range(together)]
            left -= together
    bursts = [rng.uniform(0, hours * 3600 * 0.8) for _ in range(3)]
    asked += [(rng.choice(bursts), _write(rng)) for _ in range(WRITES)]
    asked.sort(key=lambda pair: pair[0])
    arrivals = tuple(
        (
            at,
            replace(
                work,
                request_pk=number,
                created=BEGIN + timedelta(seconds=at),
                deadline=BEGIN + timedelta(seconds=at + DEADLINES[Priority(work.priority)])
                if work.priority == Priority.PREFETCH
                else None,
            ),
        )
        for number, (at, work) in enumerate(asked, start=1)
    )
    return Day(model, tuple(volumes), ends, arrivals, planner.tape_cost(model), planner.tape_cost(real))


def _read(priority: Priority, name: str, filled: int, rng: random.Random) -> Work:
    size = rng.randint(*READ_BYTES)
    start = rng.randrange(filled - size)
    kind: Any = "verify" if priority is Priority.SCRUB else "read"
    return Work(0, kind, name, "tape", priority, BEGIN, size, start, end=start + size)


def _write(rng: random.Random) -> Work:
    return Work(0, "write", None, "tape", Priority.MIGRATION, BEGIN, rng.randint(*WRITE_BYTES), None)


def planners(day: Day) -> dict[str, tuple[planner.Decide, bool]]:
    """By name: how it decides, and whether its sessions make room."""
    ours = partial(planner.plan, site=planner.Site(costs=day.costs))
    return {
        "FIFO": (Rival(fifo()), False),
        "by block": (Rival(by_block()), False),
        "CTA's rule": (Rival(cta(day.costs)), False),
        "hsm, staying": (ours, False),
        "hsm": (ours, True),
        "hsm, 1 reserved": (
            partial(planner.plan, site=planner.Site(costs=day.costs, reserved={LIBRARY: 1})),
            True,
        ),
    }


def play(day: Day, decide: planner.Decide, *, yields: bool, real: bool) -> Played:
    """:raises RuntimeError: something was never served."""
    pace = Pace.of(day.model)
    cost = day.real if real else day.believed
    drives = [DriveAt(LIBRARY, address, None, False) for address in range(DRIVES)]
    costs = dict.fromkeys(day.ends, cost)
    course = Course(
        Situation((), day.volumes, drives, BEGIN),
        Rules(decide, lambda _: pace, costs, yields=yields, tick=TICK_SECONDS),
        arrivals=day.arrivals,
        ends=day.ends,
    )
    served = course.play()
    if len(served) != len(day.arrivals):
        raise RuntimeError(f"{len(day.arrivals) - len(served)} requests were never served")
    asked = {work.request_pk: at for at, work in day.arrivals}
    waits: dict[int, list[float]] = {priority: [] for priority in SHOWN}
    for each in served:
        waits[each.work.priority].append(each.finishes - asked[each.work.request_pk])
    missed = sum(wait > DEADLINES[Priority(priority)] for priority, found in waits.items() for wait in found)
    spent = course.spent
    return Played(
        spent.locating / spent.locates,
        spent.drive_seconds,
        spent.mounts,
        course.made_room,
        waits,
        missed,
        kept_waiting(served, asked, pace.change(holds_one=True)),
    )


def kept_waiting(served: Sequence[Served], asked: Mapping[int, float], change: float) -> list[float]:
    """Seconds that stat recalls which found no other waiting were kept by what the drives had begun. Pure.

    :param asked: when each request was asked for, in seconds.
    :param change: seconds that a change of cartridges takes.
    """
    stat = [each for each in served if each.work.priority <= Priority.STAT]
    begins: dict[int, float] = {}
    for each in served:
        begins[each.session] = min(each.starts, begins.get(each.session, each.starts))
    found = []
    for at in sorted({asked[each.work.request_pk] for each in stat}):
        if any(asked[each.work.request_pk] < at < each.finishes for each in stat):
            continue
        # The studies of one patient come at once, and the first of them is served first.
        first = min(begins[each.session] for each in stat if asked[each.work.request_pk] == at)
        found.append(max(0.0, first - change - at))
    return found


def run(
    models: Sequence[tuple[DriveModel, Callable[[random.Random], DriveModel]]],
    days: int,
    seed: int,
    say: Callable[[str], None],
) -> tuple[tuple[Table, ...], list[dict[str, Any]]]:
    """All planners on the same days.

    :param models: each with what makes a drive that differs from it.
    """
    tables, measurements = list[Table](), list[dict[str, Any]]()
    for model, differing in models:
        for hours, real in product(HOURS, (False, True)):
            name = f"{model.name} ± 30 %" if real else model.name
            title = f"200 requests in {hours:g} h on {name}, {days} days"
            say(title)
            found = _played(model, differing, days, seed, hours, real=real)
            rows = tuple(_spent(each, played) for each, played in found.items())
            waits = tuple(_waits(each, played) for each, played in found.items())
            tables += [Table(title, _SPENT, rows), Table(f"{title}: waits", _WAITS, waits)]
            measurements += [
                {"day": name, "hours": hours, "planner": each} | _record(played)
                for each, played in found.items()
            ]
    return tuple(tables), measurements


def _played(
    model: DriveModel,
    differing: Callable[[random.Random], DriveModel],
    days: int,
    seed: int,
    hours: float,
    *,
    real: bool,
) -> dict[str, list[Played]]:
    found: dict[str, list[Played]] = {}
    for number in range(days):
        rng = random.Random(f"{seed} day {model.name} {number}")
        day = random_day(model, differing(rng), hours, rng)
        for name, (decide, yields) in planners(day).items():
            found.setdefault(name, []).append(play(day, decide, yields=yields, real=real))
    return found


_SPENT = (
    "planner",
    ">locate, s",
    ">drives, h",
    ">mounts",
    ">missed deadlines",
    ">made room",
    ">stat kept, min",
)
_WAITS = ("planner, p50/p95 min", *(f">{each.name.lower()}" for each in SHOWN))


def _spent(name: str, played: Sequence[Played]) -> tuple[str | float | int, ...]:
    keys = ("locate_seconds", "drive_hours", "mounts", "missed", "made_room")
    record = _record(played)
    kept = record["stat_kept"]
    return name, *(record[key] for key in keys), f"{kept['p95']:.1f}/{kept['most']:.1f}"


def _waits(name: str, played: Sequence[Played]) -> tuple[str, ...]:
    said = [_record(played)["waits"][each.name.lower()] for each in SHOWN]
    return name, *(f"{each['p50']:.0f}/{each['p95']:.0f}" for each in said)


def _record(played: Sequence[Played]) -> dict[str, Any]:
    """Means over the days; waits of all days together, in minutes."""
    return {
        "locate_seconds": round(mean(each.locate for each in played), 1),
        "drive_hours": round(mean(each.drive_seconds for each in played) / 3600, 2),
        "mounts": round(mean(each.mounts for each in played), 1),
        "missed": round(mean(each.missed for each in played), 1),
        "made_room": round(mean(each.made_room for each in played), 1),
        "stat_kept": _kept([seconds for each in played for seconds in each.kept]),
        "waits": {
            priority.name.lower(): dict(
                _percentiles(wait for each in played for wait in each.waits[priority])
            )
            for priority in SHOWN
        },
    }


def _kept(seconds: Sequence[float]) -> dict[str, float]:
    """Minutes: what all but one in twenty were kept for at most, and the longest."""
    if len(seconds) < 2:
        return {"p95": 0.0, "most": 0.0}
    return dict(_percentiles(iter(seconds))) | {"most": round(max(seconds) / 60, 2)}


def _percentiles(seconds: Iterator[float]) -> Iterator[tuple[str, float]]:
    cuts = quantiles(seconds, n=20, method="inclusive")
    yield "p50", round(cuts[9] / 60, 2)
    yield "p95", round(cuts[18] / 60, 2)
