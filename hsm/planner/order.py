"""In which order: work by urgency, reads of one volume by the cost of moving the head."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from hsm.model import Priority
from hsm.planner.locate import Extent, LocateCost, best_order
from hsm.planner.values import Work

SECONDS_PER_POINT = 1800.0
"""What a point of priority is worth: a migration (30) goes before what was asked for at once (0) only
when it has waited 15 hours longer, a scrub (40) 20 hours."""


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
    """``reads`` in the order of :func:`hsm.planner.locate.best_order`, the head being at ``start``.

    Reads of unknown position come last, in the order given.
    """
    known = [each for each in reads if each.position is not None]
    unknown = [each for each in reads if each.position is None]
    extents = [Extent(each.position or 0, after(each) or 0) for each in known]
    return (*(known[index] for index in best_order(extents, start, cost)), *unknown)


def after(read: Work) -> int | None:
    """Where the head is when it was read; None when nobody knows."""
    return read.end if read.end is not None else read.position


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
        at = next((end for each in reversed(ordered) if (end := after(each)) is not None), at)
    return ordered + [each for each in by_urgency if each.kind == "write"]
