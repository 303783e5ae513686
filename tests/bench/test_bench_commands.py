"""``hsm bench`` at toy size: that it runs, tells all its figures and leaves nothing behind.

Nothing here looks at a time: how fast this machine is passes or fails nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from hsm.bench import rebuild_drives
from hsm.bench.find import QUERIES


def bench(tmp_path: Path, *arguments: str) -> Any:
    result = CliRunner().invoke(app, ["bench", *arguments, "--folder", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert list(tmp_path.iterdir()) == []
    return json.loads(result.stdout) if "--json" in arguments else result.stdout


@pytest.fixture
def need_postgresql(request: pytest.FixtureRequest) -> None:
    """Skip where the tests' own server does not start; then the benchmark's does not either."""
    request.getfixturevalue("postgresql")


def check_find(reports: Any, database: str) -> None:
    (report,) = reports
    assert report["settings"]["database"] == database
    measured = [(each["query"], each["studies"]) for each in report["measurements"]]
    assert measured == [(query.name, studies) for query in QUERIES for studies in (100, 200)]
    for each in report["measurements"]:
        least, middle, most = (each["first_seconds"][key] for key in ("min", "median", "max"))
        assert 0 < least <= middle <= most <= each["total_seconds"]["max"]
        expected = 0 if "description" in each["query"] else 1
        assert each["matches"] >= expected, each["query"]


SMALL = ("find", "--studies", "100", "--studies", "200", "--rounds", "2")


def test_find_measures_every_query_on_every_size_on_sqlite(tmp_path: Path) -> None:
    check_find(bench(tmp_path, *SMALL, "--database", "sqlite", "--json"), "sqlite")


@pytest.mark.campaign
@pytest.mark.usefixtures("need_postgresql")
def test_find_measures_every_query_on_every_size_on_postgresql(tmp_path: Path) -> None:
    check_find(bench(tmp_path, *SMALL, "--database", "postgresql", "--json"), "postgresql")


def test_find_prints_a_table(tmp_path: Path) -> None:
    printed = bench(tmp_path, "find", "--studies", "100", "--rounds", "1", "--database", "sqlite")
    assert "find on sqlite" in printed
    assert printed.count("100") >= len(QUERIES)


def test_a_database_nobody_has_is_a_mistake_of_usage(tmp_path: Path) -> None:
    arguments = ["bench", "find", "--database", "oracle", "--folder", str(tmp_path)]
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.campaign
@pytest.mark.usefixtures("need_postgresql")
def test_size_weighs_each_table_and_index_and_adds_them_up(tmp_path: Path) -> None:
    (report,) = bench(tmp_path, "size", "--instances", "1000", "--json")
    (measured,) = report["measurements"]
    assert measured["instances"] == 960
    sizes = measured["bytes"]
    assert {"instance", "pk_instance", "uq_instance_uid_version", "study", "copy"} <= set(sizes)
    assert measured["bytes_an_instance"] == pytest.approx(sum(sizes.values()) / 960)
    assert set(measured["bytes_rebuilt"]) == set(sizes)


@pytest.mark.campaign
@pytest.mark.usefixtures("need_postgresql")
def test_policy_runs_find_the_same_few_studies_in_a_larger_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("BASE", 200), ("SOME", 20), ("MORE", 40)):
        monkeypatch.setattr(f"hsm.bench.policy.{name}", value)
    sizes = ("--studies", "200", "--studies", "800")  # the second is made of copies of the first
    (report,) = bench(tmp_path, "policy", *sizes, "--json")
    matched = [(each["studies"], each["matched"]) for each in report["measurements"]]
    assert matched == [
        *((200, count) for count in (0, 20, 40, 40, 200)),
        *((800, count) for count in (0, 20, 40, 40, 800)),
    ]
    assert all(0 < each["first"] <= each["total"] + each["first"] for each in report["measurements"])
    asked = [note for note in report["notes"] if "a real run made 40 requests" in note]
    assert len(asked) == 2


def test_tape_feeds_every_sink_with_every_package_and_compares_with_tar(tmp_path: Path) -> None:
    arguments = ("--package", "3x5x2", "--package", "2x40x1", "--rounds", "2", "--ring-mib", "2")
    (report,) = bench(tmp_path, "tape", *arguments, "--json")
    measured = [(each["instances"], each["sink"]) for each in report["measurements"]]
    assert measured == [(count, sink) for count in (3, 2) for sink in ("null", "file", "drive")]
    for each in report["measurements"]:
        assert 0 < each["ratio"]["min"] <= each["ratio"]["max"]
        assert len(each["stops"]) == 2


def test_a_tape_package_that_is_no_shape_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "tape", "--package", "3x5", "--folder", str(tmp_path)])
    assert result.exit_code == 2
    assert "3 numbers" in result.output


@pytest.mark.campaign
def test_s3_compares_with_another_tool_and_packages_with_single_puts(tmp_path: Path) -> None:
    arguments = ("--mib", "12", "--instances", "5", "--rounds", "1", "--against", "s5cmd", "--json")
    (report,) = bench(tmp_path, "s3", *arguments)
    by = {each["by"]: each for each in report["measurements"] if each["what"] == "object"}
    assert set(by) == {"hsm", "s5cmd"}
    assert by["s5cmd"]["put_ratio"]["median"] > 0
    assert by["s5cmd"]["get_ratio"]["median"] > 0
    assert report["measurements"][-1]["gain"]["median"] > 0


@pytest.mark.campaign
def test_eta_compares_what_recalls_say_with_the_truth(tmp_path: Path) -> None:
    (report,) = bench(tmp_path, "eta", "--studies", "6", "--speed", "150", "--json")
    assert len(report["measurements"]) == 6
    for each in report["measurements"]:
        assert each["took_seconds"] >= 0
        assert all(seconds is None or seconds > 0 for _, seconds, _ in each["said"])
    assert any(each["said"] for each in report["measurements"])


@pytest.mark.campaign
def test_audits_of_now_and_of_times_that_are_over_find_the_same_lacking_studies(tmp_path: Path) -> None:
    (report,) = bench(tmp_path, "audit", "--studies", "1000", "--database", "sqlite", "--json")
    measured = [(each["studies"], each["of"], each["lacking"]) for each in report["measurements"]]
    past = [f"copies, {days} d ago" for days in (1, 30, 300)]
    assert measured == [(1000, of, 500) for of in ("copies, now", *past, "media, now")]


@pytest.mark.campaign
def test_rebuild_measures_new_packages_and_known_ones(tmp_path: Path) -> None:
    arguments = ("rebuild", "--packages", "12", "--instances", "4", "--database", "sqlite", "--json")
    (report,) = bench(tmp_path, *arguments)
    new, known = report["measurements"]
    assert new["packages_per_second"] > 0 < known["packages_per_second"]
    assert new["instances_per_second"] == pytest.approx(4 * new["packages_per_second"])


@pytest.mark.campaign
def test_rebuild_with_two_drives_reads_the_same_cartridges_as_with_one(tmp_path: Path) -> None:
    report = rebuild_drives.run([1, 2], rebuild_drives.Site(cartridges=2, packages=2, speed=1000), tmp_path)
    one, two = report.measurements
    assert one["packages"] == two["packages"] == 2 and one["copies"] == two["copies"] == 4
    assert one["drive_seconds"] > 100 < two["drive_seconds"]
