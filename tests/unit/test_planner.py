"""What the drives do next: nothing twice, nothing wasted, nothing for ever last."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsm.model import Place, Priority
from hsm.planner import DriveAt, Plan, Site, VolumeAt, Work, due, locate_order, plan
from hsm.planner.hardware import SESSION_WORK_MAX

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
ROOMY = 1000


def read(
    pk: int,
    volume: str,
    *,
    at: int | None = None,
    priority: int = Priority.ROUTINE,
    minutes: float = 0,
    size: int = 10,
) -> Work:
    return Work(pk, "read", volume, "tape-a", priority, NOW - timedelta(minutes=minutes), size, at)


def write(
    pk: int,
    size: int = 10,
    *,
    pool: str = "tape-a",
    volume: str | None = None,
    priority: int = Priority.MIGRATION,
    minutes: float = 0,
) -> Work:
    return Work(pk, "write", volume, pool, priority, NOW - timedelta(minutes=minutes), size, None)


def volume(
    barcode: str,
    pool: str | None = "tape-a",
    place: Place = Place.SLOT,
    *,
    library: str | None = "lib",
    writable: bool = True,
    free: int = ROOMY,
) -> VolumeAt:
    return VolumeAt(barcode, pool, place, library, writable, free, None)


def shelved(barcode: str, place: Place = Place.SHELF) -> VolumeAt:
    return volume(barcode, place=place, library=None)


def drive(
    address: int = 0,
    holds: str | None = None,
    *,
    busy: bool = False,
    library: str = "lib",
    last: int | None = None,
) -> DriveAt:
    return DriveAt(library, address, holds, busy, priority=last)


def did(answer: Plan) -> list[tuple[int, str, tuple[int, ...]]]:
    return [(session.drive.address, session.barcode, session.work) for session in answer.sessions]


# Properties of every plan.

BARCODES = ("A", "B", "C", "D", "S1", "S2")
POOLS = ("tape-a", "vault")


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Work], list[VolumeAt], list[DriveAt]]:
    volumes = []
    for barcode in BARCODES:
        place = draw(st.sampled_from([Place.SLOT, Place.SLOT, Place.MAIL, Place.SHELF, Place.UNKNOWN]))
        library = None if place in (Place.SHELF, Place.UNKNOWN) else draw(st.sampled_from(["lib", "other"]))
        pool = None if barcode.startswith("S") else draw(st.sampled_from(POOLS))
        volumes.append(
            VolumeAt(barcode, pool, place, library, draw(st.booleans()), draw(st.integers(-9, 99)), None)
        )
    free_to_hold = [v for v in volumes if v.library]
    drives = []
    for address in range(draw(st.integers(0, 4))):
        library = draw(st.sampled_from(["lib", "other"]))
        held = next((v for v in free_to_hold if v.library == library), None) if draw(st.booleans()) else None
        if held is not None:
            free_to_hold.remove(held)
            volumes[volumes.index(held)] = replace(held, place=Place.DRIVE)
        drives.append(DriveAt(library, address, held.barcode if held else None, draw(st.booleans())))
    work = []
    for pk in range(draw(st.integers(0, 12))):
        kind: Literal["read", "write", "verify"] = draw(st.sampled_from(["read", "write", "verify"]))
        bound = draw(st.sampled_from([*BARCODES, "GONE"])) if kind != "write" or draw(st.booleans()) else None
        created = NOW - timedelta(minutes=draw(st.integers(0, 3000)))
        position = draw(st.none() | st.integers(0, 100))
        pool = draw(st.sampled_from(POOLS))
        priority = draw(st.sampled_from(Priority))
        work.append(Work(pk, kind, bound, pool, priority, created, draw(st.integers(1, 60)), position))
    return work, volumes, drives


@given(situations(), st.randoms(use_true_random=False))
@settings(max_examples=400)
def test_every_plan_keeps_the_rules(
    situation: tuple[list[Work], list[VolumeAt], list[DriveAt]], shuffle: random.Random
) -> None:
    work, volumes, drives = situation
    answer = plan(work, volumes, drives, NOW)
    by_pk = {each.request_pk: each for each in work}
    by_barcode = {each.barcode: each for each in volumes}

    placed = [pk for session in answer.sessions for pk in session.work]
    placed += [pk for prompt in answer.prompts for pk in prompt.request_pks]
    placed += [pk for pk, _ in answer.unplaceable]
    assert len(placed) == len(set(placed)), "a request is in more than one place"
    assert len({s.barcode for s in answer.sessions}) == len(answer.sessions), "a volume is in two sessions"
    assert len({s.drive.address for s in answer.sessions}) == len(answer.sessions), "a drive has two sessions"
    assert len({p.barcode for p in answer.prompts}) == len(answer.prompts)
    assert all(session.work for session in answer.sessions)

    for session in answer.sessions:
        at = by_barcode[session.barcode]
        assert session.drive in drives
        assert not session.drive.busy
        assert at.library == session.drive.library
        holders = [each for each in drives if each.holds == session.barcode]
        assert holders in ([], [session.drive])
        written = [by_pk[pk] for pk in session.work if by_pk[pk].kind == "write"]
        assert sum(each.size for each in written) <= max(0, at.free * 0.95)
        assert at.writable or not written
        for each in map(by_pk.__getitem__, session.work):
            assert each.volume in (None, session.barcode)
            assert each.volume is not None or each.pool == (session.scratch_for or at.pool)
        assert session.scratch_for is None or at.pool is None
    for prompt in answer.prompts:
        assert by_barcode[prompt.barcode].place in (Place.SHELF, Place.UNKNOWN)
        assert {by_pk[pk].volume for pk in prompt.request_pks} == {prompt.barcode}

    again = plan(
        shuffle.sample(work, len(work)),
        shuffle.sample(volumes, len(volumes)),
        shuffle.sample(drives, len(drives)),
        NOW,
    )
    assert again == answer, "the order of the arguments matters"


@given(situations())
@settings(max_examples=400)
def test_no_drive_idles_while_a_loadable_volume_is_wanted(
    situation: tuple[list[Work], list[VolumeAt], list[DriveAt]],
) -> None:
    work, volumes, drives = situation
    answer = plan(work, volumes, drives, NOW)
    taken = {session.drive.address for session in answer.sessions}
    planned = {session.barcode for session in answer.sessions}
    for each in work:
        at = next((v for v in volumes if v.barcode == each.volume), None)
        if each.kind == "write" or at is None or at.library is None or at.barcode in planned:
            continue
        holder = next((d for d in drives if d.holds == at.barcode), None)
        able = [holder] if holder else [d for d in drives if d.library == at.library]
        assert all(d.busy or d.address in taken for d in able), (each, answer)


@given(situations())
def test_a_person_is_asked_for_every_volume_outside_that_is_wanted(
    situation: tuple[list[Work], list[VolumeAt], list[DriveAt]],
) -> None:
    work, volumes, drives = situation
    outside = {v.barcode for v in volumes if v.library is None}
    wanted = {each.volume for each in work if each.kind != "write" and each.volume in outside}
    assert wanted <= {prompt.barcode for prompt in plan(work, volumes, drives, NOW).prompts}


# Urgency.


def test_urgent_work_goes_first_and_older_work_before_newer() -> None:
    volumes = [volume(b) for b in "ABC"]
    work = [read(1, "A", minutes=5), read(2, "B", minutes=9), read(3, "C", priority=Priority.STAT)]
    order: list[int] = []
    while work:
        (session,) = plan(work, volumes, [drive()], NOW).sessions
        order += session.work
        work = [each for each in work if each.request_pk not in session.work]
    assert order == [3, 2, 1]


def test_nothing_starves_behind_a_stream_of_urgent_work_that_keeps_the_only_drive_busy() -> None:
    """Whenever the drive is idle an urgent recall waits, always for the volume in it; a scrub waits too."""
    volumes = [volume("A"), volume("B")]
    scrub = Work(0, "verify", "B", "tape-a", Priority.SCRUB, NOW, 10, 0)
    holds = "A"
    for step in range(1000):
        now = NOW + timedelta(minutes=10 * step)
        urgent = Work(step + 1, "read", "A", "tape-a", Priority.STAT, now, 10, 0)
        (session,) = plan([scrub, urgent], volumes, [drive(holds=holds, last=Priority.STAT)], now).sessions
        holds = session.barcode
        if 0 in session.work:
            break
    waited = now - NOW
    assert timedelta(hours=19) < waited < timedelta(hours=21)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5000)), min_size=2, max_size=20))
def test_whoever_is_ahead_stays_ahead_while_both_wait(arrivals: list[tuple[int, int]]) -> None:
    works = [read(pk, f"V{pk}", priority=p, minutes=m) for pk, (p, m) in enumerate(arrivals)]
    volumes = [volume(each.volume or "") for each in works]
    first = plan(works, volumes, [drive()], NOW).sessions[0].work[0]
    later = plan(works, volumes, [drive()], NOW + timedelta(days=3)).sessions[0].work[0]
    assert first == later
    assert first == min(works, key=lambda each: (each.priority > Priority.STAT, due(each))).request_pk


def test_a_volume_in_the_drive_has_a_head_start_of_minutes_and_no_more() -> None:
    volumes = [volume("A"), volume("B")]
    mounted = [drive(holds="A")]
    assert did(plan([read(1, "B", minutes=4), read(2, "A")], volumes, mounted, NOW)) == [(0, "A", (2,))]
    assert did(plan([read(1, "B", minutes=6), read(2, "A")], volumes, mounted, NOW)) == [(0, "B", (1,))]
    stat = read(1, "B", priority=Priority.STAT)
    assert did(plan([stat, read(2, "A", minutes=4)], volumes, mounted, NOW)) == [(0, "B", (1,))]


# Drives.


def test_work_is_batched_by_volume() -> None:
    work = [read(1, "A", at=30), read(2, "B", minutes=1), read(3, "A", at=10), read(4, "A", at=20)]
    assert did(plan(work, [volume("A"), volume("B")], [drive(0), drive(1)], NOW)) == [
        (0, "B", (2,)),
        (1, "A", (3, 4, 1)),
    ]


def test_the_drive_that_holds_the_volume_is_used_and_not_a_second_one() -> None:
    (session,) = plan(
        [read(1, "A")], [volume("A", place=Place.DRIVE)], [drive(0), drive(1, "A")], NOW
    ).sessions
    assert session.drive.address == 1


def test_a_volume_in_a_busy_drive_waits_for_that_drive() -> None:
    answer = plan([read(1, "A")], [volume("A", place=Place.DRIVE)], [drive(0), drive(1, "A", busy=True)], NOW)
    assert answer == Plan((), (), (), ())


def test_an_empty_drive_goes_before_a_loaded_one_and_a_useless_volume_makes_way_before_a_wanted_one() -> None:
    volumes = [volume(b) for b in "ABC"]
    three = [drive(0, "B"), drive(1, "C"), drive(2)]
    assert did(plan([read(1, "A")], volumes, three, NOW)) == [(2, "A", (1,))]
    work = [read(1, "A", minutes=99), read(2, "B")]
    assert did(plan(work, volumes, three[:2], NOW)) == [(1, "A", (1,)), (0, "B", (2,))]
    assert did(plan(work, volumes, three[:1], NOW)) == [(0, "A", (1,))]


def test_a_drive_of_another_library_is_no_help() -> None:
    answer = plan([read(1, "A")], [volume("A")], [drive(library="other")], NOW)
    assert answer.sessions == ()
    assert answer.unplaceable == ((1, "volume A is in lib, which has no drive in service"),)


def test_what_no_drive_can_do_is_said_with_its_reason() -> None:
    volumes = [volume("F", place=Place.MOUNTED), volume("R", writable=False), volume("T", free=100)]
    work = [
        read(1, "X"),
        read(2, "F"),
        write(3, volume="R"),
        write(4, 96, volume="T"),
        write(5, 95, volume="T"),
    ]
    answer = plan(work, volumes, [drive()], NOW)
    assert dict(answer.unplaceable) == {
        1: "volume X is not in the catalog",
        2: "volume F is a file system and needs no drive",
        3: "volume R takes no writes",
        4: "volume T has room for 95 bytes, not for 96",
    }
    assert did(answer) == [(0, "T", (5,))]
    assert plan([write(1)], [volume("A")], [], NOW).unplaceable == (
        (1, "there is no drive in service for tape-a"),
    )


def test_a_volume_that_holds_more_than_it_was_thought_to_is_read_all_the_same() -> None:
    answer = plan([read(1, "A")], [volume("A", free=-5)], [drive()], NOW)
    assert did(answer) == [(0, "A", (1,))]


def test_a_read_must_name_its_volume() -> None:
    with pytest.raises(ValueError, match="request 7: a read names its volume"):
        Work(7, "read", None, "tape-a", 0, NOW, 1, None)


# The shelf.


def test_a_volume_on_the_shelf_is_one_prompt_with_everyone_who_waits() -> None:
    work = [read(1, "A", minutes=3), read(2, "A", priority=Priority.STAT), read(3, "B")]
    answer = plan(work, [shelved("A"), shelved("B", Place.UNKNOWN)], [drive()], NOW)
    assert answer.sessions == ()
    first, second = answer.prompts
    assert (first.barcode, first.request_pks, first.priority) == ("A", (2, 1), Priority.STAT)
    assert first.why == "A is on the shelf; 2 to read; the oldest has waited 180 s"
    assert (second.barcode, second.request_pks) == ("B", (3,))
    assert "in no library" in second.why


def test_prompts_appear_while_every_drive_is_busy() -> None:
    answer = plan([read(1, "A")], [shelved("A")], [drive(holds="B", busy=True)], NOW)
    assert [prompt.barcode for prompt in answer.prompts] == ["A"]


# Writes.


def test_writes_fill_the_fullest_volume_to_its_reserve_and_go_on_to_the_next() -> None:
    volumes = [volume("A", free=1000), volume("B", free=100), volume("C", free=1000, writable=False)]
    work = [write(pk, 20, minutes=100 - pk) for pk in range(10)]
    answer = plan(work, volumes, [drive(0), drive(1)], NOW)
    assert did(answer) == [(0, "B", (0, 1, 2, 3)), (1, "A", (4, 5, 6, 7, 8, 9))]


def test_writes_prefer_a_volume_that_lies_in_an_idle_drive_over_a_fuller_one() -> None:
    volumes = [volume("A", free=100), volume("B", place=Place.DRIVE)]
    assert did(plan([write(1)], volumes, [drive(0), drive(1, "B")], NOW)) == [(1, "B", (1,))]


def test_the_most_urgent_write_chooses_the_volume_though_a_smaller_one_would_fit_a_fuller() -> None:
    volumes = [volume("A"), volume("B", free=100)]
    work = [write(1, 500, minutes=9), write(2, 10)]
    assert did(plan(work, volumes, [drive()], NOW)) == [(0, "A", (1, 2))]


def test_a_volume_with_writes_to_come_stays_in_its_drive_when_another_drive_can_be_had() -> None:
    volumes = [volume("A", place=Place.DRIVE), volume("B"), volume("C", "vault", place=Place.DRIVE)]
    drives = [drive(0, "A"), drive(1, "C")]  # B has room too, but A need not be loaded
    work = [write(1), read(2, "B", priority=Priority.STAT)]
    assert did(plan(work, volumes, drives, NOW)) == [(1, "B", (2,)), (0, "A", (1,))]


def test_writes_of_a_session_go_by_urgency_whether_or_not_they_named_the_volume() -> None:
    work = [write(1, minutes=3), write(2, volume="A", minutes=2), write(3, minutes=1)]
    assert did(plan(work, [volume("A")], [drive()], NOW)) == [(0, "A", (1, 2, 3))]


def test_writes_join_the_session_that_reads_a_volume_with_room_after_its_reads() -> None:
    work = [write(1, priority=Priority.STAT, minutes=1), read(2, "B", at=5), write(3)]
    volumes = [volume("A", writable=False), volume("B")]
    assert did(plan(work, volumes, [drive(0), drive(1)], NOW)) == [(0, "B", (2, 1, 3))]


def test_a_blank_volume_is_given_to_the_pool_when_none_of_it_has_room() -> None:
    volumes = [volume("A", free=10), volume("S1", None), volume("S2", None)]
    (first, second) = plan(
        [write(1, 50), write(2, 50, pool="vault")], volumes, [drive(0), drive(1)], NOW
    ).sessions
    assert (first.barcode, first.scratch_for, first.work) == ("S1", "tape-a", (1,))
    assert (second.barcode, second.scratch_for, second.work) == ("S2", "vault", (2,))
    assert "blank, for tape-a" in first.why


def test_no_blank_volume_is_begun_while_the_pools_own_is_busy_or_waits_for_a_drive() -> None:
    volumes = [volume("A", place=Place.DRIVE), volume("S1", None)]
    assert did(plan([write(1)], volumes, [drive(0, "A", busy=True), drive(1)], NOW)) == []
    full_session = [write(pk, 1) for pk in range(SESSION_WORK_MAX + 5)]
    answer = plan(full_session, volumes, [drive(0, "A"), drive(1)], NOW)
    assert [(s.barcode, len(s.work)) for s in answer.sessions] == [("A", SESSION_WORK_MAX)]


def test_scratch_is_asked_for_once_a_pool_when_there_is_none() -> None:
    volumes = [
        volume("A", free=10),
        volume("S1", None, Place.SHELF, library=None),
        volume("S2", None, writable=False),
    ]
    work = [write(1, 50), write(2, 60), write(3, 50, pool="vault", minutes=5)]
    answer = plan(work, volumes, [drive()], NOW)
    assert (answer.sessions, answer.unplaceable) == ((), ())
    assert answer.scratch_needed == ("vault", "tape-a")


def test_what_is_larger_than_any_blank_volume_is_unplaceable_and_holds_up_nothing() -> None:
    answer = plan([write(1, 5000, minutes=9), write(2, 50)], [volume("S1", None)], [drive()], NOW)
    assert did(answer) == [(0, "S1", (2,))]
    assert answer.unplaceable == (
        (1, "no volume of tape-a has room, and the largest blank one takes 950 bytes"),
    )


def test_a_blank_volume_too_small_for_anything_is_not_loaded_in_place_of_one_that_is_out_of_reach() -> None:
    volumes = [volume("S1", None, free=0), volume("S2", None, library="other")]
    drives = [drive(0), drive(1, library="other", busy=True)]
    assert plan([write(1)], volumes, drives, NOW) == Plan((), (), (), ())


def test_a_pool_writes_in_its_own_library() -> None:
    volumes = [volume("S1", None), volume("S2", None, library="other")]
    drives = [drive(0), drive(1, library="other")]
    answer = plan([write(1)], volumes, drives, NOW, Site(homes={"tape-a": "other"}))
    assert did(answer) == [(1, "S2", (1,))]
    assert plan([write(1)], volumes, drives, NOW, Site(homes={"tape-a": "third"})).unplaceable == (
        (1, "there is no drive in service for tape-a in third"),
    )


# The order on a volume.


def cost_of(order: Sequence[Work], start: int) -> float:
    positions = [start, *(each.position or 0 for each in order)]
    return sum(abs(b - a) for a, b in itertools.pairwise(positions))


@given(st.lists(st.integers(0, 1000), max_size=12), st.integers(0, 1000))
def test_the_locate_order_is_never_worse_than_the_one_given(positions: list[int], start: int) -> None:
    reads = [read(pk, "A", at=position) for pk, position in enumerate(positions)]
    ordered = locate_order(reads, start, lambda a, b: float(abs(b - a)))
    assert sorted(each.request_pk for each in ordered) == list(range(len(reads)))
    assert cost_of(ordered, start) <= cost_of(reads, start)


@given(
    st.lists(st.integers(0, 6), max_size=7),
    st.dictionaries(st.tuples(st.integers(0, 6), st.integers(0, 6)), st.integers(0, 50)),
)
def test_a_strange_cost_function_never_makes_it_worse(
    positions: list[int], costs: dict[tuple[int, int], int]
) -> None:
    """Wraps and turns make locates anything but symmetric."""

    def cost(a: int, b: int) -> float:
        return float(costs.get((a, b), 7))

    def total(order: Sequence[Work]) -> float:
        at = [0, *(each.position or 0 for each in order)]
        return sum(cost(a, b) for a, b in itertools.pairwise(at))

    reads = [read(pk, "A", at=position) for pk, position in enumerate(positions)]
    assert total(locate_order(reads, 0, cost)) <= total(reads)


def test_greedy_is_dropped_where_the_given_order_is_cheaper() -> None:
    costs = {(0, 1): 1.0, (1, 2): 100.0, (0, 2): 2.0, (2, 1): 1.0}
    reads = [read(1, "A", at=2), read(2, "A", at=1)]
    assert [each.request_pk for each in locate_order(reads, 0, lambda a, b: costs[a, b])] == [1, 2]


def test_urgent_reads_of_a_volume_go_before_nearer_ones_and_unknown_places_last() -> None:
    work = [
        read(1, "A", at=1),
        read(2, "A", at=90, priority=Priority.STAT),
        read(3, "A", at=80),
        read(4, "A", at=None, minutes=50),
        read(5, "A", at=50, priority=Priority.STAT),
    ]
    assert did(plan(work, [volume("A")], [drive()], NOW)) == [(0, "A", (5, 2, 3, 1, 4))]


def test_reads_begin_where_the_head_stands_on_a_volume_that_is_in_the_drive() -> None:
    work = [read(1, "A", at=10), read(2, "A", at=60), read(3, "A", at=80)]
    there = replace(drive(holds="A"), head=80)
    assert did(plan(work, [volume("A")], [there], NOW)) == [(0, "A", (3, 2, 1))]
    assert did(plan(work, [volume("A")], [replace(there, head=None)], NOW)) == [(0, "A", (1, 2, 3))]
    other = replace(drive(holds="B"), head=80)
    assert did(plan(work, [volume("A"), volume("B")], [other], NOW)) == [(0, "A", (1, 2, 3))], "it is changed"


def test_a_second_copy_keeps_off_the_volumes_that_have_the_package() -> None:
    second = replace(write(1), not_on=frozenset({"A"}))
    answer = plan([second, write(2)], [volume("A"), volume("B")], [drive(0, "A"), drive(1)], NOW)
    placed = {pk: barcode for _, barcode, work in did(answer) for pk in work}
    assert placed[1] == "B"
    assert placed[2] in ("A", "B")


def test_a_second_copy_takes_a_blank_volume_rather_than_share_one() -> None:
    second = replace(write(1), not_on=frozenset({"A"}))
    answer = plan([second], [volume("A"), volume("S", None)], [drive()], NOW)
    assert did(answer) == [(0, "S", (1,))]


def test_a_second_copy_waits_for_a_blank_volume_rather_than_share_one() -> None:
    second = replace(write(1), not_on=frozenset({"A"}))
    answer = plan([second], [volume("A")], [drive(0, "A")], NOW)
    assert did(answer) == []
    assert answer.scratch_needed == ("tape-a",)


def test_a_pool_that_lacks_blank_volumes_is_named_once_whatever_its_writes_keep_off() -> None:
    work = [replace(write(pk), not_on=frozenset({name})) for pk, name in ((1, "A"), (2, "B"))]
    answer = plan(work, [], [drive()], NOW)
    assert answer.scratch_needed == ("tape-a",)
