from __future__ import annotations

from typing import Any

import pytest

from drivers import options
from drivers.errors import Permanent


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (0, 0),
        (5, 5),
        ("5", 5),
        ("10 GiB", 10 << 30),
        ("10GB", 10**10),
        (" 1.5 kib ", 1536),
        ("12 TB", 12 * 10**12),
        ("7 B", 7),
    ],
)
def test_a_size_is_bytes_or_text_with_a_unit(value: Any, size: int) -> None:
    assert options.size({"reserve": value}, "reserve") == size


@pytest.mark.parametrize("value", [-1, True, 1.5, "ten", "5 GX", "", "-5", [], "1e3"])
def test_what_is_no_size_is_refused_by_name(value: Any) -> None:
    with pytest.raises(Permanent, match="option reserve"):
        options.size({"reserve": value}, "reserve")


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "3"])
def test_a_count_is_a_whole_number_of_at_least_the_least(value: Any) -> None:
    with pytest.raises(Permanent, match="option drives"):
        options.count({"drives": value}, "drives", 1)
    assert options.count({"drives": 2}, "drives", 1) == 2
    assert options.count({}, "drives", 1) is None


@pytest.mark.parametrize("value", [-0.1, True, "1", float("inf"), float("nan")])
def test_a_factor_is_a_number_that_is_not_negative(value: Any) -> None:
    with pytest.raises(Permanent, match="option time_factor"):
        options.factor({"time_factor": value}, "time_factor", 1.0)
    assert options.factor({"time_factor": 0}, "time_factor", 1.0) == 0.0
    assert options.factor({}, "time_factor", 1.0) == 1.0


@pytest.mark.parametrize("value", [["A", "A"], ["A", 1], "A", -1, {"A": 1}])
def test_names_are_a_count_or_a_list_of_distinct_strings(value: Any) -> None:
    with pytest.raises(Permanent, match="option cartridges"):
        options.names({"cartridges": value}, "cartridges")
    assert options.names({"cartridges": ["A", "B"]}, "cartridges") == ("A", "B")
    assert options.names({"cartridges": 3}, "cartridges") == 3


@pytest.mark.parametrize("value", ["", 5, [], True])
def test_text_is_text_and_not_empty(value: Any) -> None:
    with pytest.raises(Permanent, match="option path"):
        options.text({"path": value}, "path")
