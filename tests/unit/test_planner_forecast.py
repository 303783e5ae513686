"""What the plan will look like from now: whose turn comes when, and why."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings

from hsm.bench import day, recall
from hsm.model import Place, Priority
from hsm.planner import (
    Course,
    DriveAt,
    Outlook,
    Pace,
    Plan,
    Rules,
    Running,
    Served,
    Site,
    Situation,
    VolumeAt,
    Work,
    forecast,
    plan,
)
from policies.whatif.tape import LTO8
from tests.unit.test_planner import NOW, drive, read, shelved, situations, volume, write

PACE = Pace(load=15, unload=20, rewind=30, move=10, locate=40, flush=5, bytes_per_second=1)
MOUNT = 25.0
"""Into an empty drive; 60 more where one must be given back."""
CHANGE = 85.0
A, B = volume("A"), volume("B")


def pace(_library: str) -> Pace:
    return PACE


def look(
    work: Sequence[Work],
    volumes: Sequence[VolumeAt] = (A, B),
    drives: Sequence[DriveAt] = (),
    **more: Any,
) -> Outlook:
    return forecast(Situation(work, volumes, drives or [drive()], NOW), Rules(plan, pace), **more)


def times(found: Outlook) -> dict[int, tuple[float | None, float | None]]:
    return {each.request_pk: (each.starts, each.finishes) for each in found.all()}


def test_a_request_alone_is_mounted_located_and_read() -> None:
    (only,) = look([read(1, "A", size=100)]).all()
    assert (only.position, only.library, only.drive, only.volume) == (1, "lib", 0, "A")
    assert (only.starts, only.finishes) == (MOUNT, MOUNT + 40 + 100)
    assert only.reason == "next on A in drive 0 of lib"


def test_two_cartridges_in_one_drive_cost_a_change_and_in_two_drives_none() -> None:
    work = [read(1, "A", minutes=20), read(2, "B", minutes=1)]
    assert times(look(work)) == {1: (25, 75), 2: (75 + CHANGE, 75 + CHANGE + 50)}
    assert times(look(work, drives=[drive(0), drive(1)])) == {1: (25, 75), 2: (25, 75)}


def test_third_says_what_is_ahead_and_why() -> None:
    work = [
        read(1, "A", priority=Priority.STAT),
        read(2, "B", minutes=30),
        read(3, "C", minutes=20),
        read(4, "A", priority=Priority.MIGRATION),
    ]
    found = look(work, (A, B, volume("C")), [drive(holds="A")])
    third = found.of(3)
    assert third is not None
    assert [(each.request_pk, each.why) for each in third.ahead] == [
        (1, "stat before routine"),
        (4, "on A, which is in the drive for 1"),
        (2, "has waited longer"),
    ]
    assert third.reason == (
        "fourth on C in drive 0 of lib, after 1: stat before routine; 4: on A, which is in the drive for 1; "
        "2: has waited longer"
    )
    assert found.request_pks == (1, 4, 2, 3)


def test_overdue_work_and_deadlines_say_so() -> None:
    wanted = replace(read(2, "B", priority=Priority.PREFETCH), deadline=NOW + timedelta(hours=1))
    found = look([read(1, "A"), wanted])
    first = found.of(1)
    assert first is not None and first.position == 2
    assert first.ahead[0].why == "is wanted by 02 Jan 13:00"
    old = read(3, "B", priority=Priority.SCRUB, minutes=25 * 60)
    behind = look([read(1, "A"), old]).of(1)
    assert behind is not None
    assert behind.ahead[0].why == "scrub, but has waited 25 h already"


def test_what_is_on_the_way_along_the_same_cartridge_comes_first() -> None:
    work = [read(1, "A", at=500), read(2, "A", at=10), write(3, volume="A")]
    second = look(work).of(1)
    third = look(work).of(3)
    assert second is not None and third is not None
    assert second.ahead[0].why == "on A too, and comes first on the way along it"
    assert {each.why for each in third.ahead} == {"read from A before anything is written to it"}


def test_what_is_under_way_has_no_position_and_is_ahead_of_everything() -> None:
    busy = drive(holds="A", busy=True, last=Priority.ROUTINE)
    running = Running(busy, "A", (read(7, "A"), read(8, "A")))
    found = look([read(1, "B")], drives=[busy], running=[running])
    now, after, mine = (found.of(pk) for pk in (7, 8, 1))
    assert now is not None and after is not None and mine is not None
    assert (now.position, after.position, mine.position) == (0, 1, 2)
    assert now.reason == "under way on A in drive 0 of lib"
    assert mine.reason.endswith("after 7: is under way; 8: has waited longer") or "8: on A" in mine.reason


def test_a_stat_recall_waits_for_one_package_of_a_session_that_is_under_way() -> None:
    busy = drive(holds="A", busy=True, last=Priority.MIGRATION)
    left = tuple(read(pk, "A", priority=Priority.MIGRATION, size=100) for pk in range(10, 60))
    found = look([read(1, "B", priority=Priority.STAT)], drives=[busy], running=[Running(busy, "A", left)])
    stat, under_way, next_one = (found.of(pk) for pk in (1, 10, 11))
    assert stat is not None and under_way is not None and next_one is not None
    assert under_way.finishes == 140
    assert stat.starts == 140 + CHANGE
    assert next_one.ahead[-1].why == "stat before migration"


def test_writes_make_room_between_two_packages_and_are_read_back_later() -> None:
    writes = [write(pk, 50, volume="A", minutes=60) for pk in range(1, 11)]
    stat = read(99, "B", priority=Priority.STAT)
    begin = Situation(writes, [A, B], [drive(holds="A")], NOW)
    course = Course(begin, Rules(plan, pace), arrivals=[(100, stat)])
    served = course.play()
    assert course.made_room == 1
    assert served[0].work == stat
    # Two packages take 180 seconds; the index, and the change of cartridges.
    assert served[0].starts == 180 + 5 + CHANGE
    assert {each.work.request_pk for each in served} == {*range(1, 11), 99}
    assert [each.work.kind for each in served].count("verify") == 2
    stubborn = Course(begin, Rules(plan, pace, yields=False), arrivals=[(100, stat)])
    assert stubborn.play()[-1].work == stat


def test_a_volume_on_the_shelf_has_no_time_until_somebody_is_expected_to_bring_it() -> None:
    work = [read(1, "S", priority=Priority.STAT), read(2, "A")]
    volumes = [A, shelved("S")]
    waits = look(work, volumes).of(1)
    assert waits is not None and (waits.position, waits.starts, waits.volume) == (None, None, "S")
    assert waits.reason == "waits for an operator: S is on the shelf"
    brought = look(work, volumes, brought={"S": (600, "lib")}).of(1)
    assert brought is not None and brought.starts == 600 + CHANGE


def test_what_nobody_can_serve_says_why_and_other_requests_are_unknown() -> None:
    found = look([read(1, "GONE"), write(2, pool="vault")])
    gone, blank = found.of(1), found.of(2)
    assert gone is not None and gone.reason == "volume GONE is not in the catalog"
    assert blank is not None
    assert blank.reason == "waits for an operator: no volume of vault has room, a blank one is needed"
    assert found.of(3) is None


def test_a_pace_is_corrected_by_what_was_measured() -> None:
    slow = PACE.corrected(mount=2, transfer=4)
    assert slow.change(holds_one=True) == 2 * CHANGE
    assert slow.stream(10) == 40
    with pytest.raises(ValueError, match="rate above 0"):
        Pace(bytes_per_second=0)


@given(situations())
@settings(max_examples=200, deadline=None)
def test_a_forecast_agrees_with_the_plan_and_accounts_for_everything(
    situation: tuple[list[Work], list[VolumeAt], list[DriveAt]],
) -> None:
    work, volumes, drives = situation
    answer = plan(work, volumes, drives, NOW)
    found = look(work, volumes, drives) if drives else None
    if found is None:
        return
    assert sorted(found.request_pks) == sorted(each.request_pk for each in work)
    for session in answer.sessions:
        reads = [pk for pk in session.work if next(e for e in work if e.request_pk == pk).kind != "write"]
        for place, pk in enumerate(reads):
            mine = found.of(pk)
            assert mine is not None and (mine.drive, mine.volume) == (session.drive.address, session.barcode)
            assert mine.position == place + 1
    for each in found.all():
        assert each.reason
        assert (each.position is None) == (each.starts is None)
        if each.starts is not None and each.finishes is not None:
            assert 0 <= each.starts < each.finishes
        assert all(ahead.why for ahead in each.ahead)
    assert found.all() == look(list(reversed(work)), volumes, drives).all(), "in any order the same"


def test_the_decision_may_be_given_homes_and_reserved_drives() -> None:
    decide = partial(plan, site=Site(reserved={"lib": 1}))
    work = [read(1, "A", priority=Priority.MIGRATION), read(2, "B", priority=Priority.MIGRATION)]
    found = forecast(Situation(work, [A, B], [drive(0), drive(1)], NOW), Rules(decide, pace))
    first, second = found.all()
    assert first.finishes is not None and second.starts is not None
    assert first.finishes < second.starts, "never both drives at once"
    answer: Plan = decide(work, [A, B], [drive(0), drive(1)], NOW)
    assert len(answer.sessions) == 1
    assert A.place is Place.SLOT


def test_a_mixed_day_is_played_to_its_end_and_nobody_at_a_workstation_waits_long() -> None:
    """One day of `hsm bench recall`, in which the migration's sessions are long and the drives are busy."""
    played = {}
    rng = random.Random(7)
    morning = day.random_day(LTO8, recall.perturbed(LTO8, rng), 2.5, rng)
    assert len(morning.arrivals) == 200
    for name, (decide, yields) in day.planners(morning).items():
        played[name] = day.play(morning, decide, yields=yields, real=True)
        assert sum(map(len, played[name].waits.values())) == 200
    stat = {name: max(each.waits[Priority.STAT]) for name, each in played.items()}
    # The change of cartridges, the one package that is being written, and a stat recall or two before it.
    assert stat["hsm"] < 600 < min(stat["FIFO"], stat["by block"], stat["hsm, staying"])
    assert max(played["hsm"].kept) < 240 < max(played["FIFO"].kept), "a begun change and its first package"
    assert played["hsm"].made_room > 0
    assert played["hsm"].locate < played["FIFO"].locate


def test_a_stat_recall_is_kept_by_what_was_begun_and_not_by_its_own_change_nor_by_others_like_it() -> None:
    def served(pk: int, session: int, starts: float, priority: Priority = Priority.STAT) -> Served:
        work = Work(pk, "read", "A", "tape", priority, NOW, 1, None)
        return Served(work, ("lib", 0), "A", session, starts, starts + 10)

    asked = {1: 100.0, 2: 100.0, 3: 150.0, 4: 900.0, 5: 0.0}
    done = [served(5, 1, 10, Priority.MIGRATION), served(2, 2, 230), served(1, 3, 400), served(3, 4, 500)]
    assert day.kept_waiting([*done, served(4, 5, 950)], asked, 60.0) == [70.0, 0.0]
