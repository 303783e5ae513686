"""What is said of when a recall will be through: pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.catalog.standing import Standing
from hsm.catalog.timings import Took
from hsm.eta import Eta, at_a_drive, at_the_shelf, since
from hsm.measured import Correction, correction, factor, in_words, still_to_wait
from hsm.planner import Forecast, Pace
from hsm.reckoning import Factors, seconds_left
from hsm.states import RequestState
from hsm.stopwatch import Doing

NOW = datetime(2026, 1, 1, 2, 30, tzinfo=UTC)
PLACE = ("library", 256)


def standing(state: RequestState = RequestState.QUEUED, **more: object) -> Standing:
    given_ = {
        "pk": 7,
        "state": state,
        "error": "",
        "not_before": NOW,
        "volume": "HSM001L8",
        "library": "library",
        "shelf": "B3",
        "size": 1000,
        "position": 4,
        "asked_at": None,
        "walker": "",
    }
    return Standing(**(given_ | more))  # type: ignore[arg-type]


def turn(position: int | None, finishes: float | None) -> Forecast:
    return Forecast(7, position, *PLACE, "HSM001L8", 0.0, finishes, "because")


def test_a_drive_and_a_place_in_its_queue_are_named_with_the_time() -> None:
    eta = at_a_drive(standing(), NOW, turn(3, 245.0), {})
    assert eta == Eta(7, 245.0, "drive 256, third in queue, 4 min")
    assert (
        at_a_drive(standing(), NOW, turn(12, 7300.0), {}).reason == "drive 256, number 12 in queue, 2 h 2 min"
    )


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        ("mount", "drive 256, being loaded, 40 s"),
        ("locate", "drive 256, being found on HSM001L8, 40 s"),
        ("read", "drive 256, being read, 40 s"),
    ],
)
def test_what_is_under_way_says_at_which_step_it_is(phase: str, said: str) -> None:
    doing = {PLACE: Doing("HSM001L8", phase, 0.0, 1.0)}  # type: ignore[arg-type]
    assert at_a_drive(standing(RequestState.ACTIVE), NOW, turn(0, 41.0), doing).reason == said


def test_what_has_ended_or_waits_for_its_next_try_says_so_and_gives_no_time_it_cannot_know() -> None:
    assert at_a_drive(standing(RequestState.DONE), NOW, None, {}) == Eta(7, 0.0, "here")
    failed = at_a_drive(standing(RequestState.FAILED, error="no copy"), NOW, None, {})
    assert failed == Eta(7, None, "failed: no copy")
    later = standing(not_before=NOW + timedelta(minutes=5), error="the drive is dirty")
    said = at_a_drive(later, NOW, None, {})
    assert said.seconds is None
    assert said.reason.startswith("tried again at ")
    assert said.reason.endswith(": the drive is dirty")


def test_a_shelf_names_since_when_somebody_is_asked_and_who_is_on_the_way() -> None:
    asked = standing(RequestState.WAITING, asked_at=NOW - timedelta(minutes=20))
    here = (NOW - timedelta(minutes=20)).astimezone()
    eta = at_the_shelf(asked, NOW, [], 100.0)
    assert eta == Eta(7, None, f"shelf B3, waiting for an operator since {here:%H:%M}")
    assert len("12 not in time: " + eta.reason) <= 64, "it fits an Error Comment"
    walker = standing(RequestState.WAITING, asked_at=NOW - timedelta(minutes=20), walker="alice")
    assert "alice is on the way" in at_the_shelf(walker, NOW, [], 100.0).reason


def test_an_operator_is_expected_by_what_operators_took_who_took_longer_already() -> None:
    asked = standing(RequestState.WAITING, asked_at=NOW - timedelta(minutes=10))
    eta = at_the_shelf(asked, NOW, [300.0, 900.0, 1200.0, 1500.0], 90.0)
    assert eta.seconds == 1200 - 600 + 90
    assert eta.reason.endswith("usually 12 min more")
    assert at_the_shelf(asked, NOW, [300.0], 90.0).seconds is None, "nobody took so long: nobody knows"
    assert still_to_wait([], 0.0) is None


def test_a_figure_grows_older_with_the_outlook() -> None:
    assert since(turn(1, 100.0), 1.5).finishes == 98.5
    assert since(turn(1, 1.0), 5.0).finishes == 0.0
    assert since(turn(None, None), 5.0).finishes is None


def test_one_measurement_says_something_and_many_say_it_all() -> None:
    assert factor([]) == 1.0
    assert 1.4 < factor([(20.0, 10.0)]) < 2.0
    assert factor([(20.0, 10.0)] * 50) == pytest.approx(2.0, rel=0.01)


def test_one_robot_that_was_stuck_for_an_hour_spoils_no_forecast() -> None:
    usual = [(30.0, 25.0)] * 20
    assert factor([*usual, (3600.0, 25.0)]) == pytest.approx(factor(usual), rel=0.01)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), max_size=30))
def test_a_correction_is_always_a_sane_factor(pairs: list[tuple[float, float]]) -> None:
    assert 1e-3 <= factor(pairs) <= 1e3


def test_each_library_has_its_own_correction_of_each_step() -> None:
    took = {
        ("a", "mount"): [Took("mount", 50.0, 25.0)] * 40,
        ("a", "read"): [Took("read", 30.0, 10.0, 10)] * 40,
        ("b", "locate"): [Took("locate", 5.0, 10.0)] * 40,
    }
    factors = Factors(took)
    model = Pace()
    slow, quick = (factors.paces(lambda _: model)(name) for name in "ab")
    assert slow.load == pytest.approx(2 * model.load, rel=0.02)
    assert slow.bytes_per_second == pytest.approx(model.bytes_per_second / 3, rel=0.05)
    assert slow.locate == model.locate
    assert quick.locate == pytest.approx(model.locate / 2, rel=0.02)
    cost = factors.costs({"V": lambda a, b: 100.0}, {"V": "b"})["V"]
    assert cost(0, 1) == pytest.approx(50.0, rel=0.02)
    assert factors.of("unknown") == Correction() == correction({})


def test_what_is_left_of_a_step_counts_from_when_it_began_and_is_never_nothing() -> None:
    pace = Pace(locate=60.0, bytes_per_second=100.0)
    own = Correction(mount=2.0)
    mounting = Doing("V", "mount", 1000.0, 25.0)
    assert seconds_left(mounting, 1010.0, own, pace, 500) == 40.0 + 60.0 + 5.0
    assert seconds_left(mounting, 2000.0, own, pace, 500) == 5.0 + 60.0 + 5.0, "overdue"
    locating = Doing("V", "locate", 1000.0, 80.0, 7, 500)
    assert seconds_left(locating, 1020.0, own, pace, 0) == 60.0 + 5.0
    reading = Doing("V", "read", 1000.0, 10.0, 7, 300)
    assert seconds_left(reading, 1001.0, own, pace, 0) == 2.0
    assert seconds_left(Doing("V", "write", 0.0, 0.0), 1.0, own, pace, 0) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "5 s"),
        (41.0, "40 s"),
        (58.0, "1 min"),
        (240.0, "4 min"),
        (7800.0, "2 h 10 min"),
        (7200.0, "2 h"),
    ],
)
def test_a_span_is_said_as_people_say_it(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
