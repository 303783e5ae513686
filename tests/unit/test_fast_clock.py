"""A day in minutes: the clock of a simulation, who sleeps by it, and who must not have it."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hsm.clock import FastClock, SystemClock, unhurried
from hsm.config import Config
from hsm.schedule import Scheduler
from hsm.startup import open_clock
from hsm.wake import Bell

SINCE = datetime(2026, 11, 2, 12, tzinfo=UTC)
SHOWS = datetime(2027, 3, 1, 7, tzinfo=UTC)


def fast(speed: float = 120.0, machine: datetime = SINCE) -> FastClock:
    return FastClock(speed, SINCE, SHOWS, lambda: machine)


def test_a_fast_clock_shows_so_many_seconds_more() -> None:
    assert fast().now() == SHOWS
    later = SINCE + timedelta(seconds=30)
    assert fast(machine=later).now() == SHOWS + timedelta(hours=1)
    assert fast().machine_at(SHOWS + timedelta(hours=1)) == later


def test_two_fast_clocks_of_the_same_settings_agree_so_that_a_restart_does_not_turn_it_back() -> None:
    settings = {"speed": 60.0, "since": SINCE.isoformat(), "shows": SHOWS.isoformat()}
    first, second = open_clock(config(settings)), open_clock(config(settings))
    assert isinstance(first, FastClock)
    earlier = first.now()
    assert timedelta(0) <= second.now() - earlier < timedelta(minutes=5)


def test_it_waits_a_fraction_of_the_time_and_never_so_short_that_a_poll_has_no_pause() -> None:
    assert fast().machine_seconds(120) == 1
    assert fast().machine_seconds(1) == FastClock.SHORTEST_SECONDS
    assert fast().machine_seconds(0.001) == 0.001
    began = time.monotonic()
    assert not fast(1000.0).wait(threading.Event(), 60)
    assert time.monotonic() - began < 30


def test_who_waits_on_a_bell_sleeps_by_the_fast_clock() -> None:
    began = time.monotonic()
    bell = Bell(fast(1000.0).machine_seconds)
    assert bell.wait(bell.rings, 60) == 0
    assert time.monotonic() - began < 30


def test_what_waits_for_real_disks_shows_the_time_and_is_not_hurried() -> None:
    clock = unhurried(fast())
    assert clock.now() == SHOWS
    assert abs(clock.monotonic() - time.monotonic()) < 30
    system = SystemClock()
    assert unhurried(system) is system


def test_routines_run_by_the_fast_clock_and_say_its_times() -> None:
    clock = FastClock(600.0, datetime.now(UTC), SHOWS)
    scheduler, hourly, noon = Scheduler(clock), threading.Event(), threading.Event()
    scheduler.every("each minute", 60, hourly.set)
    scheduler.cron("at five past seven", "5 7 * * *", noon.set)
    scheduler.start()
    try:
        due = {routine.name: routine.next_run for routine in scheduler.routines()}
        five_past = due["at five past seven"]
        assert five_past is not None
        assert abs(five_past - (SHOWS + timedelta(minutes=5))) < timedelta(seconds=60)
        assert hourly.wait(30)
        assert noon.wait(30)
        assert clock.now() >= SHOWS + timedelta(minutes=5)
    finally:
        scheduler.stop()


def config(clock: dict[str, Any], **more: Any) -> Config:
    pools = [{"name": "online", "tier": "online", "options": {"path": "/x/online"}}]
    given = {"home": Path("/x"), "source": Path("/x/hsm.yaml"), "pools": pools, "clock": clock}
    return Config.model_validate(given | more)


def test_without_the_setting_the_clock_is_the_machines() -> None:
    assert isinstance(open_clock(config({})), SystemClock)


@pytest.mark.parametrize(
    ("clock", "more", "said"),
    [
        ({"speed": 60}, {}, "a clock with a speed needs since"),
        ({"speed": 60, "since": "2026-11-02 12:00"}, {}, "since"),
        ({"speed": 0.5}, {}, "speed"),
        (
            {"speed": 60, "since": SINCE.isoformat()},
            {"libraries": [{"name": "robot", "driver": "mtx", "options": {}}]},
            "mtx waits for hardware or a network",
        ),
    ],
)
def test_a_fast_clock_is_refused_where_it_cannot_be_true(
    clock: dict[str, Any], more: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        config(clock, **more)
