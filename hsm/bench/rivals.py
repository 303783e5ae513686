"""Other ways to decide what a library's drives do next, to compare the planner with; each is a planner's
:data:`~hsm.planner.Decide`. All of them know the same volumes and drives, write to the volume that has room
and lies in a drive, and never begin a session with a volume that another drive has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hsm.model import Priority
from hsm.planner import DriveAt, LocateCost, Plan, Session, VolumeAt, Work
from hsm.planner.locate import Extent, nearest_order

CTA_BYTES = 100_000_000_000
CTA_FILES = 20
CTA_AGE = {Priority.STAT: timedelta(0), Priority.ROUTINE: timedelta(minutes=5)}
CTA_AGE_OTHERS = timedelta(hours=1)
"""So old the oldest request for a volume is when the volume is mounted for it, whatever else waits for it; of
the class (mount policy) of the most urgent one."""

_Batches = dict[str, list[Work]]
Choose = Callable[[_Batches, datetime], list[tuple[str, list[Work]]]]
"""From what waits, by volume: the volumes to mount in this order, and what to do on each in this order."""


def fifo() -> Choose:
    """One request after the other, as they came."""

    def choose(batches: _Batches, _now: datetime) -> list[tuple[str, list[Work]]]:
        firsts = [(min(work, key=_age), barcode) for barcode, work in batches.items()]
        return [(barcode, [first]) for first, barcode in sorted(firsts, key=lambda pair: _age(pair[0]))]

    return choose


def by_block() -> Choose:
    """The volume whose oldest request is the oldest; all that waits for it, in the order it lies there."""

    def choose(batches: _Batches, _now: datetime) -> list[tuple[str, list[Work]]]:
        oldest_first = sorted(batches.items(), key=lambda pair: min(map(_age, pair[1])))
        return [
            (barcode, sorted(work, key=lambda each: (each.position is None, each.position or 0, _age(each))))
            for barcode, work in oldest_first
        ]

    return choose


def cta(costs: Mapping[str, LocateCost]) -> Choose:
    """The CERN Tape Archive's rule: a volume is mounted when what waits for it is enough bytes or files, or
    has waited long enough; the most urgent first; then always the nearest next."""

    def ripe(work: Sequence[Work], now: datetime) -> bool:
        age = CTA_AGE.get(Priority(min(each.priority for each in work)), CTA_AGE_OTHERS)
        waited = now - min(each.created for each in work)
        return sum(each.size for each in work) >= CTA_BYTES or len(work) >= CTA_FILES or waited >= age

    def choose(batches: _Batches, now: datetime) -> list[tuple[str, list[Work]]]:
        ready = [(barcode, work) for barcode, work in batches.items() if ripe(work, now)]
        ready.sort(key=lambda pair: (min(each.priority for each in pair[1]), min(map(_age, pair[1]))))
        return [(barcode, _nearest(work, costs[barcode])) for barcode, work in ready]

    return choose


def _nearest(work: Sequence[Work], cost: LocateCost) -> list[Work]:
    reads = [each for each in work if each.position is not None]
    extents = [Extent(each.position or 0, each.end or each.position or 0) for each in reads]
    order = [reads[index] for index in nearest_order(extents, 0, cost)]
    return [*order, *sorted((each for each in work if each.position is None), key=_age)]


def _age(work: Work) -> tuple[datetime, int]:
    return work.created, work.request_pk


@dataclass(frozen=True, slots=True)
class Rival:
    """A planner of another kind."""

    choose: Choose

    def __call__(
        self, work: Sequence[Work], volumes: Sequence[VolumeAt], drives: Sequence[DriveAt], now: datetime
    ) -> Plan:
        idle = [each for each in drives if not each.busy]
        taken = {each.holds for each in drives if each.busy}
        target = _target(volumes, drives)
        batches: _Batches = {}
        for each in work:
            barcode = each.volume or target
            if barcode is not None and barcode not in taken:
                batches.setdefault(barcode, []).append(each)
        sessions: list[Session] = []
        for barcode, chosen in self.choose(batches, now):
            if not idle:
                break
            drive = min(idle, key=lambda each: (each.holds != barcode, each.holds is not None, each.address))
            idle.remove(drive)
            sessions.append(Session(drive, barcode, tuple(each.request_pk for each in chosen), ""))
            # Nobody takes the volume of an idle drive to another one.
            idle = [each for each in idle if each.holds != barcode]
        return Plan(tuple(sessions), (), (), ())


def _target(volumes: Sequence[VolumeAt], drives: Sequence[DriveAt]) -> str | None:
    """Where writes go."""
    writable = [each.barcode for each in volumes if each.writable]
    held = [each.holds for each in drives if each.holds in writable]
    return next(iter([*held, *sorted(writable)]), None)
