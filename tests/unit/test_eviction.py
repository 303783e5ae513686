"""Which staged packages make room: pure, against an exact search."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.eviction import HALF_SECONDS, Staged, likelihood, victims


def staged(key: str, size: int, back_seconds: float, likely: float = 1.0) -> Staged:
    return Staged(key, size, back_seconds, likely)


packages = st.lists(
    st.builds(
        Staged,
        key=st.uuids().map(str),
        size=st.integers(0, 50),
        back_seconds=st.floats(0, 5000),
        likely=st.floats(0, 1),
    ),
    max_size=8,
)


def cheapest(of: list[Staged], needed: int) -> float | None:
    losses = [
        sum(each.loss for each in some)
        for count in range(len(of) + 1)
        for some in combinations(of, count)
        if sum(each.size for each in some) >= needed
    ]
    return min(losses, default=None)


def test_what_the_robot_fetches_goes_before_what_a_person_walked_for() -> None:
    robot, shelf = staged("robot", 10, 150), staged("shelf", 10, 1800)
    assert victims([shelf, robot], 10) == (robot,)


def test_what_was_not_read_for_days_goes_before_what_was_read_just_now() -> None:
    old, new = (staged(name, 10, 150, likelihood(idle)) for name, idle in (("old", 86400 * 3), ("new", 0)))
    assert victims([new, old], 5) == (old,)


def test_of_two_that_cost_the_same_the_larger_one_goes_where_that_much_is_needed() -> None:
    small, large = staged("small", 10, 150), staged("large", 100, 150)
    assert victims([small, large], 90) == (large,)


def test_what_is_not_needed_any_more_stays() -> None:
    cheap, large = staged("cheap", 5, 1), staged("large", 100, 50)
    assert victims([cheap, large], 100) == (large,)


def test_enough_room_takes_nothing_and_too_little_is_said() -> None:
    assert victims([staged("a", 10, 1)], 0) == ()
    assert victims([staged("a", 10, 1)], 11) is None


def test_an_expected_package_is_as_likely_as_can_be_and_others_fade() -> None:
    assert likelihood(10 * HALF_SECONDS, expected=True) == likelihood(0) == 1.0
    assert likelihood(HALF_SECONDS) == 0.5
    assert likelihood(365 * 86400) > 0


@given(packages, st.integers(-5, 300))
def test_victims_free_enough_with_none_to_spare_and_lose_at_most_twice_the_least(
    of: list[Staged], needed: int
) -> None:
    chosen, least = victims(of, needed), cheapest(of, needed)
    if least is None:
        assert chosen is None
        return
    assert chosen is not None
    freed = sum(each.size for each in chosen)
    assert freed >= needed
    assert len({each.key for each in chosen}) == len(chosen)
    assert all(freed - each.size < needed for each in chosen)
    assert sum(each.loss for each in chosen) <= 2 * least + 1e-9


@pytest.mark.parametrize("wrong", [{"size": -1}, {"back_seconds": -1.0}, {"likely": 1.1}])
def test_values_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="k: "):
        Staged(**({"key": "k", "size": 1, "back_seconds": 1.0, "likely": 0.5} | wrong))  # type: ignore[arg-type]
