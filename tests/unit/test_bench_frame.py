"""The frame of the benchmarks: what it computes, not how fast anything is."""

from __future__ import annotations

import pytest

from hsm.bench.frame import Report, Spread, Table, interleaved, machine


def test_trials_take_turns() -> None:
    order: list[tuple[str, int]] = []

    def trial(name: str, number: int) -> int:
        order.append((name, number))
        return number * 10

    results = interleaved({"a": lambda n: trial("a", n), "b": lambda n: trial("b", n)}, 3)
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert results == {"a": [0, 10, 20], "b": [0, 10, 20]}


def test_a_ratio_is_taken_run_by_run() -> None:
    # The medians alone would say 2 / 2: every pair says otherwise.
    assert Spread.ratio([1, 2, 30], [2, 1, 10]) == Spread(0.5, 2.0, 3.0)
    assert Spread.of([3, 1, 2]).text(1) == "2.0 (1.0 to 3.0)"


def test_runs_that_are_no_pairs_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Spread.ratio([1, 2], [1])
    with pytest.raises(ValueError, match="nothing was measured"):
        Spread.of([])


def test_a_report_is_one_json_object() -> None:
    table = Table("t", ("x",), ((1,),))
    report = Report("find", {"cpu": "c"}, {"rounds": 1}, (table,), ({"ratio": Spread(1, 2, 3).record()},))
    assert report.record() == {
        "benchmark": "find",
        "machine": {"cpu": "c"},
        "settings": {"rounds": 1},
        "measurements": [{"ratio": {"min": 1, "median": 2, "max": 3}}],
        "notes": [],
    }


def test_the_machine_is_named() -> None:
    assert int(machine()["cores"]) >= 1
    assert machine()["cpu"]
