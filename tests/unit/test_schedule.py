"""The periodic routines: they run, they run again after an error, and never twice at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from hsm.schedule import Scheduler, _cron_trigger, check_cron

SOON = 10.0
"""Seconds after which a test that waits for a thread gives up."""


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    made = Scheduler()
    yield made
    made.stop()


class Counter:
    """A routine that counts its runs and says when they reach a number."""

    def __init__(self, enough: int = 1) -> None:
        self.count = 0
        self.enough = enough
        self.reached = threading.Event()

    def __call__(self) -> None:
        self.count += 1
        if self.count >= self.enough:
            self.reached.set()


def test_a_routine_runs_again_and_again(scheduler: Scheduler) -> None:
    counter = Counter(3)
    scheduler.every("count", 0.01, counter)
    scheduler.start()
    assert counter.reached.wait(SOON)


def test_a_routine_that_raises_is_logged_with_its_name_and_runs_again(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    counter = Counter(3)

    def broken() -> None:
        counter()
        raise OSError("disk on fire")

    scheduler.every("seal", 0.01, broken)
    scheduler.start()
    assert counter.reached.wait(SOON)
    scheduler.stop()
    assert "routine seal failed" in caplog.text
    assert "disk on fire" in caplog.text
    assert {record.name for record in caplog.records} == {"hsm.schedule"}, (
        "the engine's own noise is not heard"
    )


def test_one_broken_routine_does_not_stop_another(scheduler: Scheduler) -> None:
    counter = Counter(3)
    scheduler.every("broken", 0.01, lambda: 1 / 0)
    scheduler.every("good", 0.01, counter)
    scheduler.start()
    assert counter.reached.wait(SOON)


def test_a_routine_never_runs_twice_at_once(scheduler: Scheduler) -> None:
    inside, worst, done = [0], [0], Counter(5)

    def slow() -> None:
        inside[0] += 1
        worst[0] = max(worst[0], inside[0])
        time.sleep(0.02)
        inside[0] -= 1
        done()

    scheduler.every("slow", 0.002, slow)
    scheduler.start()
    for _ in range(20):
        scheduler.trigger_now("slow")
        time.sleep(0.001)
    assert done.reached.wait(SOON)
    assert worst[0] == 1


def test_a_trigger_runs_a_routine_that_is_not_due_for_long(scheduler: Scheduler) -> None:
    counter = Counter()
    scheduler.every("daily", 86400, counter)
    scheduler.start()
    assert counter.count == 0
    scheduler.trigger_now("daily")
    assert counter.reached.wait(SOON)
    (routine,) = scheduler.routines()
    assert routine.next_run is not None
    assert routine.next_run > datetime.now(UTC) + timedelta(hours=23), "it is then due as before"


def test_a_trigger_during_a_run_is_not_lost(scheduler: Scheduler) -> None:
    """What triggered it may have come too late for the run that is under way."""
    started, go, counter = threading.Event(), threading.Event(), Counter(2)

    def routine() -> None:
        counter()
        started.set()
        go.wait(SOON)

    scheduler.every("r", 86400, routine)
    scheduler.start()
    scheduler.trigger_now("r")
    assert started.wait(SOON)
    assert scheduler.routines()[0].running
    scheduler.trigger_now("r")
    scheduler.trigger_now("r")
    go.set()
    assert counter.reached.wait(SOON)
    scheduler.stop(wait=True)
    assert counter.count == 2, "many triggers during one run are one more run"


def test_a_trigger_before_the_start_runs_at_the_start(scheduler: Scheduler) -> None:
    counter = Counter()
    scheduler.every("r", 86400, counter)
    scheduler.trigger_now("r")
    assert counter.count == 0
    scheduler.start()
    assert counter.reached.wait(SOON)


def test_a_trigger_for_an_unknown_routine_names_the_known_ones(scheduler: Scheduler) -> None:
    scheduler.every("seal", 1, lambda: None)
    with pytest.raises(KeyError, match=r"no routine is named 'sael' \(known: seal\)"):
        scheduler.trigger_now("sael")


def test_adding_a_routine_again_replaces_its_function_and_interval(scheduler: Scheduler) -> None:
    old, new = Counter(), Counter()
    scheduler.every("r", 3600, old)
    scheduler.start()
    scheduler.every("r", 7200, new)
    (routine,) = scheduler.routines()
    assert routine.next_run is not None
    assert routine.next_run > datetime.now(UTC) + timedelta(seconds=7000)
    scheduler.trigger_now("r")
    assert new.reached.wait(SOON)
    assert old.count == 0


def test_a_removed_routine_does_not_run(scheduler: Scheduler) -> None:
    counter, other = Counter(), Counter(5)
    scheduler.every("gone", 0.01, counter)
    scheduler.every("other", 0.01, other)
    scheduler.remove("gone")
    scheduler.remove("never there")
    scheduler.start()
    assert other.reached.wait(SOON)
    assert counter.count == 0
    assert [routine.name for routine in scheduler.routines()] == ["other"]


def test_stop_waits_for_what_runs_and_starts_nothing_more(scheduler: Scheduler) -> None:
    started, finished = threading.Event(), Counter()

    def routine() -> None:
        started.set()
        time.sleep(0.05)
        finished()

    scheduler.every("r", 0.001, routine)
    scheduler.start()
    assert started.wait(SOON)
    scheduler.stop(wait=True)
    count = finished.count
    assert count >= 1
    time.sleep(0.02)
    assert finished.count == count
    scheduler.stop(wait=True)  # a second time does nothing


def test_stop_before_the_start_is_no_error() -> None:
    Scheduler().stop()


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_an_interval_must_be_above_zero(scheduler: Scheduler, seconds: float) -> None:
    with pytest.raises(ValueError, match="routine r: an interval"):
        scheduler.every("r", seconds, lambda: None)


def test_a_cron_routine_is_listed_with_its_next_time_in_utc(scheduler: Scheduler) -> None:
    scheduler.cron("nightly", "30 2 * * *", lambda: None)
    scheduler.start()
    (routine,) = scheduler.routines()
    assert routine.next_run is not None
    assert (routine.next_run.hour, routine.next_run.minute) == (2, 30)
    assert routine.next_run.utcoffset() == timedelta(0)


def test_a_cron_routine_of_another_time_zone_runs_at_its_local_time(scheduler: Scheduler) -> None:
    zone = ZoneInfo("Asia/Kolkata")  # always 5:30 ahead of UTC
    scheduler.cron("nightly", "30 2 * * *", lambda: None, zone)
    scheduler.start()
    (routine,) = scheduler.routines()
    assert routine.next_run is not None
    assert (routine.next_run.hour, routine.next_run.minute) == (21, 0)
    assert routine.next_run.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # 2026-01-01 is a Thursday.
        ("0 0 * * 0", "2026-01-04T00:00"),
        ("0 0 * * 7", "2026-01-04T00:00"),
        ("0 0 * * sun", "2026-01-04T00:00"),
        ("0 0 * * 1", "2026-01-05T00:00"),
        ("0 0 * * 6-7", "2026-01-03T00:00"),
        ("0 0 * * 1-5/2", "2026-01-02T00:00"),
        ("0 0 * * 0,2", "2026-01-04T00:00"),
        ("*/15 * * * *", "2026-01-01T00:15"),
        ("0 3 1 2 *", "2026-02-01T03:00"),
        ("0 3 1 feb *", "2026-02-01T03:00"),
    ],
)
def test_cron_expressions_mean_what_crontab_means(expression: str, expected: str) -> None:
    after = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    found = _cron_trigger(expression).get_next_fire_time(None, after)
    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("0 0 * * * *", "has 6 fields"),
        ("60 0 * * *", "expected five fields"),
        ("0 24 * * *", "expected five fields"),
        ("0 0 * * 8", "expected five fields"),
        ("0 0 * * 5-1", "not a range"),
        ("0 0 * * someday", "expected five fields"),
        ("0 0 31 2 *", "never comes"),
        ("0 0 1 * 1", "a day and a weekday"),
    ],
)
def test_a_cron_expression_that_cannot_be_scheduled_is_refused(expression: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_cron(expression)
