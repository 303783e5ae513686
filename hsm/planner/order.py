"""In which order: work by urgency, reads of one volume by the cost of moving the head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from hsm.model import Priority
from hsm.planner.values import Work

SECONDS_PER_POINT = 1800.0
"""What a point of priority is worth: a migration (30) goes before what was asked for at once (0) only
when it has waited 15 hours longer, a scrub (40) 20 hours."""

LocateCost = Callable[[int, int], float]
"""What it costs, in seconds or any unit, to get from one position to another."""


def due(work: Work) -> datetime:
    """Urgency as a date, the earlier the sooner.

    It never changes while the work waits, so newcomers cannot overtake for ever: nothing starves.
    """
    return work.created + timedelta(seconds=work.priority * SECONDS_PER_POINT)


def urgency(work: Work) -> tuple[datetime, int]:
    """A sort key: :func:`due`, then the older request."""
    return due(work), work.request_pk


def distance(start: int, end: int) -> float:
    """The plainest :data:`LocateCost`."""
    return float(abs(end - start))


def locate_order(reads: Sequence[Work], start: int, cost: LocateCost) -> tuple[Work, ...]:
    """``reads`` by the shortest next locate from ``start``, unless the order given costs less.

    Reads of unknown position come last, in the order given.
    """
    known = [(each, each.position) for each in reads if each.position is not None]
    unknown = [each for each in reads if each.position is None]
    left, greedy, at = list(known), [], start
    while left:
        nearest = min(range(len(left)), key=lambda index: cost(at, left[index][1]))
        greedy.append(left.pop(nearest))
        at = greedy[-1][1]

    def total(order: Iterable[tuple[Work, int]]) -> float:
        spent, position = 0.0, start
        for _, target in order:
            spent += cost(position, target)
            position = target
        return spent

    best = greedy if total(greedy) < total(known) else known
    return (*(each for each, _ in best), *unknown)


def session_order(work: Sequence[Work], cost: LocateCost) -> list[Work]:
    """Urgent reads, then the others, each in locate order; then writes, which go to the end anyway.

    Nobody who waits at a workstation waits for a bulk recall of the same volume.
    """
    by_urgency = sorted(work, key=urgency)
    reads = [each for each in by_urgency if each.kind != "write"]
    ordered: list[Work] = []
    at = 0  # a volume is at its load point when a session begins
    for urgent in (True, False):
        part = [each for each in reads if (each.priority < Priority.ROUTINE) is urgent]
        ordered += locate_order(part, at, cost)
        at = next((each.position for each in reversed(ordered) if each.position is not None), at)
    return ordered + [each for each in by_urgency if each.kind == "write"]
