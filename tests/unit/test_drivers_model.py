from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.simulated.model import LTO8, DriveModel, LocateCoefficients, Spot

fractions = st.floats(0, 1)
quick = settings(max_examples=200, deadline=None, database=None)


def test_the_tape_winds_to_and_fro() -> None:
    wrap = 1 / LTO8.wraps
    assert LTO8.spot(0.0) == Spot(0, LTO8.lpos_min)
    assert LTO8.spot(wrap / 2).lpos == pytest.approx((LTO8.lpos_min + LTO8.lpos_max) / 2)
    assert LTO8.spot(wrap * 1.25).wrap == 1
    assert LTO8.spot(wrap * 1.25).lpos == pytest.approx(
        LTO8.lpos_min + 0.75 * (LTO8.lpos_max - LTO8.lpos_min)
    )
    assert LTO8.spot(1.0).wrap == LTO8.wraps - 1
    assert LTO8.spot(1.0).lpos == pytest.approx(LTO8.lpos_min)


@quick
@given(fractions)
def test_a_spot_is_on_the_tape(fraction: float) -> None:
    spot = LTO8.spot(fraction)
    assert 0 <= spot.wrap < LTO8.wraps
    assert LTO8.lpos_min <= spot.lpos <= LTO8.lpos_max


@quick
@given(fractions, fractions)
def test_a_locate_takes_no_time_in_place_and_some_elsewhere(one: float, other: float) -> None:
    seconds = LTO8.locate_seconds(LTO8.spot(one), LTO8.spot(other))
    assert 0 <= seconds <= 140
    assert LTO8.locate_seconds(LTO8.spot(one), LTO8.spot(one)) == 0


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [
        # Each line is worked out by hand from the coefficients; 100,000 LPOS cost 61.92 s.
        (Spot(0, 20_000), Spot(0, 30_000), 4.29 + 6.192),
        (Spot(0, 30_000), Spot(0, 20_000), 4.29 + 11.32 + 6.192),
        (Spot(1, 30_000), Spot(1, 20_000), 4.29 + 6.192),
        (Spot(1, 20_000), Spot(1, 30_000), 4.29 + 11.32 + 6.192),
        (Spot(0, 20_000), Spot(2, 20_000), 4.29 + 6.69),
        (Spot(0, 20_000), Spot(1, 20_000), 4.29 + 6.69 + 5.22),
        (Spot(0, 20_000), Spot(52, 20_000), 4.29 + 6.69 + 3.2),
        (Spot(0, 20_000), Spot(0, 120_000), 4.29 - 6.04 + 61.92),
        (Spot(0, 86_800), Spot(0, 86_900), 0.0),  # the heuristic is negative here: clamped
    ],
)
def test_a_locate_costs_what_the_heuristic_says(start: Spot, end: Spot, seconds: float) -> None:
    assert LTO8.locate_seconds(start, end) == pytest.approx(seconds)


def test_the_average_locate_and_rewind_are_those_of_the_data_sheet() -> None:
    rng = random.Random(1)
    spots = [LTO8.spot(rng.random()) for _ in range(4000)]
    begin = LTO8.spot(0.0)
    locate = sum(LTO8.locate_seconds(begin, spot) for spot in spots) / len(spots)
    rewind = sum(LTO8.rewind_seconds(spot) for spot in spots) / len(spots)
    assert locate == pytest.approx(59, rel=0.15)
    assert rewind == pytest.approx(59, rel=0.15)


def test_the_typical_locate_is_near_the_average_one() -> None:
    assert LTO8.typical_locate_seconds() == pytest.approx(59, rel=0.15)


def test_rewinding_at_the_load_point_takes_no_time() -> None:
    assert LTO8.rewind_seconds(LTO8.spot(0.0)) == 0


def test_streaming_takes_as_long_as_the_native_speed_says() -> None:
    assert LTO8.stream_seconds(360_000_000) == pytest.approx(1.0)


def test_another_drive_has_other_figures() -> None:
    slow = replace(LTO8, coefficients=LocateCoefficients(per_lpos=0.001))
    far = (Spot(0, 3_000), Spot(0, 80_000))
    assert slow.locate_seconds(*far) > LTO8.locate_seconds(*far)
    assert DriveModel(wraps=280).spot(1.0).wrap == 279
