"""Who goes first at a drive, who stops for whom, and that nobody waits for ever."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from hsm.model import Priority
from hsm.planner import PATIENCE, DriveAt, Running, Site, Situation, Work, due, plan, yields_to
from tests.unit.test_planner import NOW, did, drive, read, volume, write

STAT, ROUTINE, MIGRATION, SCRUB = Priority.STAT, Priority.ROUTINE, Priority.MIGRATION, Priority.SCRUB
A, B = volume("A"), volume("B")
HOUR = 60


def test_a_stat_recall_goes_before_anything_however_long_that_has_waited() -> None:
    old = [read(1, "A", priority=SCRUB, minutes=90 * HOUR), read(2, "A", minutes=90 * HOUR)]
    stat = read(3, "B", priority=STAT)
    assert did(plan([*old, stat], [A, B], [drive(holds="A")], NOW)) == [(0, "B", (3,))]


def test_after_a_stat_recall_what_is_overdue_longest_has_its_turn_for_one_package() -> None:
    overdue = [read(pk, "A", priority=MIGRATION, minutes=(16 + pk) * HOUR) for pk in (1, 2, 3)]
    stat = [read(pk, "B", priority=STAT) for pk in (4, 5)]
    after_stat = [drive(holds="B", last=STAT)]
    assert did(plan([*overdue, *stat], [A, B], after_stat, NOW)) == [(0, "A", (3,))]
    after_that = [drive(holds="A", last=MIGRATION)]
    assert did(plan([*overdue[:2], *stat], [A, B], after_that, NOW)) == [(0, "B", (4, 5))]


def test_what_is_not_overdue_has_no_turn_between_stat_recalls() -> None:
    young = read(1, "A", priority=MIGRATION, minutes=14 * HOUR)
    stat = read(2, "B", priority=STAT)
    assert did(plan([young, stat], [A, B], [drive(holds="B", last=STAT)], NOW)) == [(0, "B", (2,))]


def test_a_write_that_is_overdue_has_its_turn_too_and_nothing_joins_it() -> None:
    writes = [write(1, minutes=20 * HOUR), write(2, minutes=19 * HOUR)]
    stat = read(3, "B", priority=STAT)
    answer = plan([*writes, stat], [A, B], [drive(holds="B", last=STAT)], NOW)
    assert [len(session.work) for session in answer.sessions] == [1]
    assert answer.sessions[0].work == (1,)


def test_a_deadline_makes_work_due_earlier_and_never_later() -> None:
    prefetch = read(1, "A", priority=Priority.PREFETCH)
    assert due(prefetch) == NOW + PATIENCE[Priority.PREFETCH]
    soon = replace(prefetch, deadline=NOW + timedelta(hours=2))
    assert due(soon) == NOW + timedelta(hours=1.5)
    assert due(replace(prefetch, deadline=NOW + timedelta(days=2))) == due(prefetch)
    assert due(replace(prefetch, deadline=NOW - timedelta(days=2))) == NOW, "not before it was asked for"
    routine = read(2, "B", minutes=HOUR)
    assert did(plan([soon, routine], [A, B], [drive()], NOW)) == [(0, "A", (1,))]


# Drives that are kept free for recalls.


def test_work_that_nobody_waits_for_leaves_the_reserved_drives_free() -> None:
    work = [read(1, "A", priority=MIGRATION), read(2, "B", priority=MIGRATION)]
    drives = [drive(0), drive(1)]
    assert len(plan(work, [A, B], drives, NOW).sessions) == 2
    assert did(plan(work, [A, B], drives, NOW, Site(reserved={"lib": 1}))) == [(0, "A", (1,))]
    busy = [drive(0, holds="A", busy=True, last=MIGRATION), drive(1)]
    assert did(plan(work[1:], [A, B], busy, NOW, Site(reserved={"lib": 1}))) == []
    recalls = [drive(0, holds="A", busy=True, last=ROUTINE), drive(1)]
    assert did(plan(work[1:], [A, B], recalls, NOW, Site(reserved={"lib": 1}))) == [(1, "B", (2,))]


def test_a_recall_takes_a_reserved_drive_and_a_library_of_one_drive_still_migrates() -> None:
    busy = [drive(0, holds="A", busy=True, last=MIGRATION), drive(1)]
    assert did(plan([read(2, "B")], [A, B], busy, NOW, Site(reserved={"lib": 1}))) == [(1, "B", (2,))]
    alone = plan([write(1)], [A], [drive(0)], NOW, Site(reserved={"lib": 3}))
    assert did(alone) == [(0, "A", (1,))]


# Yielding.


def asked(
    left: Sequence[Work], waiting: Sequence[Work], drives: Sequence[DriveAt], at: int = 0, barcode: str = "A"
) -> str | None:
    mine = next(each for each in drives if each.address == at)
    volumes = [A, B, volume("C")]
    answer = yields_to(Running(mine, barcode, tuple(left)), Situation(waiting, volumes, drives, NOW), plan)
    return None if answer is None else answer.barcode


def test_a_long_session_makes_room_for_a_stat_recall_when_its_drive_is_the_one_that_is_needed() -> None:
    left = [write(pk, volume="A", minutes=20 * HOUR) for pk in range(1, 50)]
    stat = [read(99, "B", priority=STAT)]
    running = drive(0, holds="A", busy=True, last=MIGRATION)
    assert asked(left, stat, [running]) == "B"
    assert asked(left, stat, [running, drive(1)]) is None, "another drive is idle"
    other = drive(1, holds="C", busy=True, last=STAT)
    assert asked(left, stat, [running, other]) == "B"
    assert asked(left, [read(99, "A", priority=STAT)], [running, drive(1)]) == "A", "it is on this very tape"


def test_writes_that_are_bound_to_no_volume_make_room_too() -> None:
    left = [write(pk, minutes=20 * HOUR) for pk in range(1, 5)]
    running = drive(0, holds="A", busy=True, last=MIGRATION)
    assert asked(left, [read(99, "B", priority=STAT)], [running]) == "B"


def test_a_session_does_not_stop_for_work_of_its_own_class_or_a_lower_one_or_at_its_end() -> None:
    running = drive(0, holds="A", busy=True, last=ROUTINE)
    left = [read(1, "A"), read(2, "A")]
    assert asked(left, [read(9, "B", minutes=500)], [running]) is None
    assert asked(left, [read(9, "B", priority=MIGRATION, minutes=9999)], [running]) is None
    assert asked([], [read(9, "B", priority=STAT)], [running]) is None


def test_overdue_work_does_not_stop_for_a_clinical_recall_that_has_only_just_come() -> None:
    running = drive(0, holds="A", busy=True, last=MIGRATION)
    overdue = [read(1, "A", priority=MIGRATION, minutes=20 * HOUR)]
    assert asked(overdue, [read(9, "B")], [running]) is None
    young = [read(1, "A", priority=MIGRATION, minutes=1 * HOUR)]
    assert asked(young, [read(9, "B")], [running]) == "B"


# Nothing starves.


@given(
    waiting=st.lists(
        st.tuples(st.sampled_from(["A", "B", "C"]), st.sampled_from([10, 20, 25, 30, 40])),
        min_size=1,
        max_size=8,
    ),
    stream=st.lists(
        st.tuples(st.sampled_from(["A", "B", "C"]), st.sampled_from([0, 0, 10, 30])), min_size=1, max_size=6
    ),
    minutes=st.integers(30, 240),
)
@settings(max_examples=40, deadline=None)
def test_every_request_is_served_within_a_bound_whatever_arrives(
    waiting: list[tuple[str, int]], stream: list[tuple[str, int]], minutes: int
) -> None:
    """One drive, never idle: with every session more work arrives than it does, for ever, at the worst place.

    Once a request's patience is over nothing that arrives goes before it but stat recalls, which it takes
    turns with: a session for each request that was due before it, and one for stat between each two.
    """
    volumes = [volume(name) for name in ("A", "B", "C")]
    queue = [
        Work(pk, "read", name, "tape-a", priority, NOW, 10, pk) for pk, (name, priority) in enumerate(waiting)
    ]
    left = {each.request_pk: each for each in queue}
    latest: dict[int, int] = {}
    at, now, pk = drive(holds="A"), NOW, 1000
    for session_number in itertools.count():
        for name, priority in stream:
            pk += 1
            queue.append(Work(pk, "read", name, "tape-a", priority, now, 10, pk % 100))
        for each in left.values():
            if due(each) <= now and each.request_pk not in latest:
                ahead = sum(other.priority > STAT and due(other) <= due(each) for other in queue)
                latest[each.request_pk] = session_number + 2 * ahead + 2
        (session,) = plan(queue, volumes, [at], now).sessions
        served = set(session.work)
        first = min(each.priority for each in queue if each.request_pk in served)
        queue = [each for each in queue if each.request_pk not in served]
        left = {key: each for key, each in left.items() if key not in served}
        if not left:
            break
        assert all(session_number < latest.get(key, session_number + 1) for key in left)
        at, now = drive(holds=session.barcode, last=first), now + timedelta(minutes=minutes)
