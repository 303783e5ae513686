"""In which order: work by urgency, reads of one volume by the cost of moving the head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

from hsm.model import SECONDS_PER_POINT as SECONDS_PER_POINT
from hsm.model import Priority, patience
from hsm.planner.locate import Extent, LocateCost, best_order
from hsm.planner.values import Work

DEADLINE_LEAD = timedelta(minutes=30)
"""So long before its deadline work counts as due: a mount, a locate and a few packages ahead of it."""


PATIENCE: Mapping[Priority, timedelta] = MappingProxyType({each: patience(each) for each in Priority})
"""In an admin's words: stat 0 h, routine 5 h, prefetch 10 h, bulk 12.5 h, migration 15 h, scrub 20 h. After
that, only what has waited longer still, or is stat, goes before it; and stat takes turns with it."""


def due(work: Work) -> datetime:
    """Urgency as a date, the earlier the sooner: asked for, plus its patience, or its deadline if that comes
    first.

    It never changes while the work waits, so newcomers cannot overtake for ever: nothing starves.
    """
    aged = work.created + patience(work.priority)
    return aged if work.deadline is None else min(aged, max(work.deadline - DEADLINE_LEAD, work.created))


def urgency(work: Work) -> tuple[int, datetime, int]:
    """A sort key: stat, then everything else; each by :func:`due`, then the older request."""
    return int(work.priority > Priority.STAT), due(work), work.request_pk


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


def session_order(work: Sequence[Work], cost: LocateCost, at: int = 0) -> list[Work]:
    """Stat reads, then clinical ones, then the others, each in locate order; then writes, which go to the end
    anyway.

    Nobody who waits at a workstation waits for a bulk recall of the same volume.

    :param at: where the head is: at the load point of a volume that is yet to be loaded.
    """
    by_urgency = sorted(work, key=urgency)
    reads = [each for each in by_urgency if each.kind != "write"]
    ordered: list[Work] = []
    for group in range(3):
        ordered += locate_order([each for each in reads if reading_class(each) == group], at, cost)
        at = next((end for each in reversed(ordered) if (end := after(each)) is not None), at)
    return ordered + [each for each in by_urgency if each.kind == "write"]


def reading_class(work: Work) -> int:
    """0: stat; 1: somebody waits at a workstation; 2: nobody does."""
    return (work.priority > Priority.STAT) + (work.priority > Priority.ROUTINE)
