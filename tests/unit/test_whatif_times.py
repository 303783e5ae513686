"""When things happen: schedules, turns of rules, drives."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.cron import CronTrigger
from hypothesis import given, settings
from hypothesis import strategies as st
from whatif_world import BEGIN, DAY, GB, SITE, TB, arrival

from drivers.simulated import model as simulated
from policies import PoolInfo
from policies.check import check_expression
from policies.evaluate import Circumstances
from policies.facts import StudyFacts
from policies.fires import next_fire
from policies.schedule import Schedule, Window, read_cron
from policies.trace import next_change
from policies.whatif.moments import NEVER, Timeline, micros, moment, seconds
from policies.whatif.site import Operator
from policies.whatif.stock import Stock
from policies.whatif.tape import LTO8, LTO9, locate_order
from policies.whatif.turns import Turns

POOLS = [PoolInfo(pool.name, pool.kind.value, pool.tier) for pool in SITE.pools]

# schedules


@given(
    st.sampled_from(
        [
            "*/7 * * * *",
            "30 22 * * mon-fri",
            "0 0 1 * *",
            "15 3 29 2 *",
            "5,50 8-17/3 * 1-6 sat,sun",
            "0 12 * dec *",
        ]
    ),
    st.datetimes(datetime(2023, 1, 1), datetime(2027, 12, 31)),
)
@settings(max_examples=150, deadline=None)
def test_cron_fires_when_the_scheduler_of_the_daemon_fires(text: str, at: datetime) -> None:
    schedule = read_cron(text)
    assert schedule.cron is not None
    expected = CronTrigger.from_crontab(schedule.cron, timezone=UTC).get_next_fire_time(
        None, at.replace(tzinfo=UTC)
    )
    assert next_fire(schedule, at.replace(tzinfo=UTC), BEGIN) == expected


def test_intervals_are_counted_from_the_beginning() -> None:
    schedule = Schedule(every_seconds=600)
    assert next_fire(schedule, BEGIN, BEGIN) == BEGIN
    assert next_fire(schedule, BEGIN + timedelta(microseconds=1), BEGIN) == BEGIN + timedelta(minutes=10)
    assert next_fire(schedule, BEGIN + timedelta(minutes=10), BEGIN) == BEGIN + timedelta(minutes=10)


def test_a_run_waits_for_the_window_in_the_local_time_of_the_schedule() -> None:
    schedule = Schedule(every_seconds=3600, windows=(Window(time(20), time(6)),), time_zone="Asia/Tokyo")
    noon = datetime(2025, 3, 3, 3, 0, tzinfo=UTC)  # 12:00 in Tokyo
    assert next_fire(schedule, noon, BEGIN) == datetime(2025, 3, 3, 11, 0, tzinfo=UTC)


def test_a_cron_time_on_a_blackout_day_does_not_happen() -> None:
    schedule = Schedule(
        cron="0 3 * * *", blackout_weekdays=frozenset({0}), blackout_dates=frozenset({date(2025, 3, 4)})
    )
    assert next_fire(schedule, BEGIN, BEGIN) == datetime(2025, 3, 5, 3, 0, tzinfo=UTC)


def test_a_cron_time_outside_every_window_never_fires() -> None:
    schedule = Schedule(cron="0 12 * * *", windows=(Window(time(20), time(6)),))
    assert next_fire(schedule, BEGIN, BEGIN) is None


# the operator


@pytest.mark.parametrize(
    ("asked", "starts"),
    [
        ("2025-03-03T08:00", "2025-03-03T08:00"),  # on duty
        ("2025-03-03T05:00", "2025-03-03T06:00"),  # 07:00 in Berlin, winter
        ("2025-03-03T17:00", "2025-03-04T06:00"),  # 18:00: duty is over
        ("2025-03-08T12:00", "2025-03-10T06:00"),  # a Saturday
        ("2025-04-01T00:00", "2025-04-01T05:00"),  # 07:00 in Berlin, summer
    ],
)
def test_the_operator_begins_when_on_duty(asked: str, starts: str) -> None:
    operator = Operator(time_zone="Europe/Berlin")
    found = operator.on_duty_at(datetime.fromisoformat(asked).replace(tzinfo=UTC))
    assert found == datetime.fromisoformat(starts).replace(tzinfo=UTC)


def test_a_duty_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    operator = Operator(begins=time(22), ends=time(6), weekdays=frozenset({0}))
    assert operator.on_duty_at(BEGIN + timedelta(hours=29)) == BEGIN + timedelta(hours=29)  # Tuesday 05:00
    assert operator.on_duty_at(BEGIN + timedelta(hours=31)) == BEGIN + 7 * DAY + timedelta(hours=22)


# what rules say as time passes

CONDITIONS = st.sampled_from(
    [
        "idle > 3 days",
        "idle >= 3 days",
        "idle < 10 minutes",
        "idle <= 90 s",
        "received between 1 day and 5 days",
        "not (received > 36 h)",
        "age > 2 days",
        "age between 1 day and 3 days",
        "age <= 4 days",
        "patient_age > 2 years",
        "retention < 5 days",
        "retention > 0 s",
        "accesses(2 days) >= 1",
        "accesses(1 h) < 2",
        "resident(online) > 1 day",
        "verified(tape) >= 2 days",
        "size > 1 GB",
        "description is null",
    ]
)
MINUTES = st.integers(0, 12 * 1440)


@given(
    st.lists(CONDITIONS, min_size=1, max_size=3),
    st.sampled_from([" and ", " or "]),
    MINUTES,
    st.lists(MINUTES, max_size=4),
    MINUTES,
    st.integers(-3, 12),
)
@settings(max_examples=400, deadline=None)
def test_no_change_that_time_brings_is_overslept(
    conditions: list[str], joint: str, now_minutes: int, reads: list[int], tape: int, retained: int
) -> None:
    expression = check_expression(joint.join(conditions), POOLS).expression
    assert expression is not None
    stock = Stock(SITE)
    born = f"{BEGIN - timedelta(days=2 * 365 - 5):%Y%m%d}"
    until = f"{BEGIN + timedelta(days=retained):%Y%m%d}"
    study = stock.arrive(arrival("1", BEGIN, GB, birth_date=born, retain_until=until))
    study.sealed = True
    study.accesses = sorted(micros(BEGIN + timedelta(minutes=each)) for each in reads)
    study.accessed = max([study.received, *study.accesses])
    volume_less = stock.add(study, "nearline", None, 0, study.received)
    volume_less.pool = "tape"
    volume_less.since = volume_less.verified = micros(BEGIN + timedelta(minutes=tape))
    now = max([study.accessed, micros(BEGIN + timedelta(minutes=now_minutes)), volume_less.since])
    facts: StudyFacts = stock.facts(study)
    expected = next_change(expression, facts, Circumstances(moment(now), {}))
    woken = Turns([expression]).next(study, now)
    assert now < woken
    if expected is not None:
        assert woken <= micros(expected)


def test_a_rule_that_no_time_turns_is_never_looked_at_again() -> None:
    expression = check_expression("size > 1 GB and modality = CT", POOLS).expression
    assert expression is not None
    assert Turns([expression]).next(Stock(SITE).arrive(arrival("1", BEGIN)), micros(BEGIN)) == NEVER


# drives


@pytest.mark.parametrize("start", [0, 1, 57 * GB, 58 * GB, TB, 5 * TB, 6 * TB, 11_999 * GB])
@pytest.mark.parametrize("end", [0, 1, 57 * GB, 58 * GB, TB, 5 * TB, 6 * TB, 11_999 * GB])
def test_the_drive_is_the_one_of_the_simulated_library(start: int, end: int) -> None:
    other = simulated.LTO8
    capacity = LTO8.volume_bytes
    from_spot, to_spot = other.spot(start / capacity), other.spot(end / capacity)
    assert LTO8.locate_seconds(start, end) == pytest.approx(other.locate_seconds(from_spot, to_spot))
    assert LTO8.rewind_seconds(start) == pytest.approx(other.rewind_seconds(from_spot))


def test_a_step_back_on_the_same_wrap_costs_more_than_one_forward() -> None:
    forward, back = LTO8.locate_seconds(1 * GB, 20 * GB), LTO8.locate_seconds(20 * GB, 1 * GB)
    assert back - forward == pytest.approx(11.32)


def test_lto9_is_faster_to_read_and_slower_to_load() -> None:
    assert LTO9.stream_seconds(4 * GB) == 10
    assert (LTO9.load_seconds, LTO9.unload_seconds, LTO9.rewind_seconds(GB)) == (17, 30, 55)


def test_reads_go_by_the_shortest_next_locate_unless_the_order_given_is_cheaper() -> None:
    positions = [9 * TB, 1 * GB, 9 * TB + 5 * GB, 2 * GB]
    order = locate_order(positions, 0, LTO8)
    assert order in ([1, 3, 0, 2], [3, 1, 0, 2])
    assert locate_order([], 0, LTO8) == []


@given(st.lists(st.integers(0, 11 * TB), max_size=12), st.integers(0, 11 * TB))
@settings(max_examples=60, deadline=None)
def test_the_order_of_reads_is_a_permutation_that_costs_no_more_than_first_come_first_served(
    positions: list[int], start: int
) -> None:
    def cost(order: list[int]) -> float:
        spent, at = 0.0, start
        for index in order:
            spent += LTO8.locate_seconds(at, positions[index])
            at = positions[index]
        return spent

    order = locate_order(positions, start, LTO8)
    assert sorted(order) == list(range(len(positions)))
    assert cost(order) <= cost(list(range(len(positions)))) + 1e-9


# the clock


def test_events_of_one_time_happen_in_the_order_in_which_they_were_asked_for() -> None:
    timeline, seen = Timeline(0), list[str]()
    timeline.at(5, seen.append, "b")
    timeline.at(5, seen.append, "c")
    timeline.at(1, seen.append, "a")
    timeline.at(9, seen.append, "later")
    timeline.run_before(9)
    assert seen == ["a", "b", "c"]
    assert (timeline.now, timeline.next) == (9, 9)


def test_moments_are_exact_to_the_microsecond() -> None:
    at = datetime(2038, 1, 19, 3, 14, 7, 123457, tzinfo=ZoneInfo("Europe/Berlin"))
    assert moment(micros(at)) == at
    assert seconds(0.1) == 100_000
