"""What a simulation reports: percentiles, rows, JSON, pictures."""

from __future__ import annotations

import builtins
import importlib.util
import json
import re
from pathlib import Path

import pytest
from whatif_world import BEGIN, DAY, GB, HOUR, TO_TAPE, access, arrival, play

from policies.whatif import plot
from policies.whatif.report import Report, Spread, say_rate, say_seconds


@pytest.fixture(scope="module")
def reports() -> tuple[Report, Report]:
    events = [arrival(str(n), BEGIN + (n - 60) * 12 * HOUR, GB) for n in range(100)]
    events += [access(str(n), BEGIN + n * 5 * HOUR) for n in range(60)]  # type: ignore[misc]
    other = TO_TAPE.replace("received > 2 days", "received > 10 days")
    first, _ = play(TO_TAPE, events, days=30)
    second, _ = play(other, events, days=30)
    return first, second


def test_percentiles_are_the_least_value_that_so_many_do_not_exceed() -> None:
    assert Spread.of([]) == Spread(0, 0, 0, 0)
    assert Spread.of([7.0]) == Spread(1, 7, 7, 7)
    assert Spread.of([float(n) for n in range(1, 101)]) == Spread(100, 50, 95, 100)
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(3, 2, 3, 3)


def test_a_report_is_json_and_says_every_figure_that_is_asked_for(reports: tuple[Report, Report]) -> None:
    record = json.loads(json.dumps(reports[0].to_json()))
    assert record["retrieves"] == sum(record["hits"].values())
    assert sum(record["hit_rate"].values()) == pytest.approx(1)
    assert {"p50", "p95", "longest", "count"} == set(record["recall_latency"])
    assert {"recalls", "mounts", "trips", "cost", "protection_lag", "pools", "problems"} <= set(record)
    assert len(record["days"]) == 30
    assert set(record["days"][0]["used"]) == {"online", "nearline", "tape"}
    assert record["cost"] == pytest.approx(sum(item["amount"] for item in record["bill"]))


def test_rows_of_two_reports_stand_side_by_side(reports: tuple[Report, Report]) -> None:
    first, second = (report.rows() for report in reports)
    assert [label for label, _ in first] == [label for label, _ in second]
    said = dict(first)
    assert said["retrieves"] == "60"
    assert "volumes" in said["tape at the end"]


def test_small_numbers_are_not_said_to_be_nothing() -> None:
    assert say_rate(0) == "0"
    assert say_rate(0.00001) == "< 0.01%"
    assert say_rate(0.9725) == "97.25%"
    assert (say_seconds(0.04), say_seconds(3.21), say_seconds(190)) == ("0.0 s", "3.2 s", "3 min 10 s")


def test_pictures_are_drawn_and_the_page_needs_nothing_beside_it(
    reports: tuple[Report, Report], tmp_path: Path
) -> None:
    paths = plot.draw(reports, tmp_path / "out")
    pictures = ["capacity", "hits", "recalls", "latency", "protection", "cost"]
    assert [path.name for path in paths] == [*(f"{name}.png" for name in pictures), "simulation.html"]
    for path in paths[:-1]:
        assert path.read_bytes().startswith(b"\x89PNG\r\n")
    page = paths[-1].read_text("utf-8")
    assert page.count("data:image/png;base64,") == 6
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)


def test_the_same_reports_give_the_same_pictures(reports: tuple[Report, Report], tmp_path: Path) -> None:
    for first, second in zip(
        plot.draw(reports, tmp_path / "a"), plot.draw(reports, tmp_path / "b"), strict=True
    ):
        assert first.read_bytes() == second.read_bytes()


def test_one_report_of_one_day_and_odd_names_can_be_drawn(tmp_path: Path) -> None:
    from dataclasses import replace

    report, _ = play("{policy: p, priority: 1, rules: [{name: c, copy to: tape}]}", [], days=1)
    odd = replace(report, name="_<b>$x^2$ & 中文_")
    page = plot.draw([odd], tmp_path)[-1].read_text("utf-8")
    assert "&lt;b&gt;$x^2$ &amp; 中文" in page
    assert "<b>" not in page


def test_without_matplotlib_it_is_said_what_to_install(
    reports: tuple[Report, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "matplotlib" else found(name, *rest)
    )
    with pytest.raises(plot.PlottingMissing, match=r"pip install 'hsm-archive\[plot\]'"):
        plot.draw(reports, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_simulator_itself_needs_no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def refuse(name: str, *rest: object) -> object:
        assert not name.startswith("matplotlib")
        return imported(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    report, _ = play(TO_TAPE, [arrival("1", BEGIN - DAY)])
    assert report.studies == 1
