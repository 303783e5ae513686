"""`hsm policy simulate` on what a catalog has recorded, on a file, and on a made-up hospital."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from catalog_rows import add_patient, add_study
from sqlalchemy import make_url
from typer.testing import CliRunner, Result

from cli.main import app
from hsm.catalog import activations
from hsm.catalog.engine import Catalog
from hsm.catalog.history import Recorder, Retrieved, compact
from hsm.clock import ManualClock
from hsm.whatif import Hospital, Question, WhatIfError, simulate
from policies.whatif.historyfile import read_history

DAY = timedelta(days=1)
BEGIN = datetime(2026, 1, 5, tzinfo=UTC)

POLICY = """
policy: mine
priority: 1
copies: {tape: 1}
rules:
  - {name: to tape, copy to: tape, when: received > 1 day}
  - {name: free, release from: online, when: received > 20 days}
"""
OTHER = POLICY.replace("20 days", "40 days").replace("mine", "other")
SITE = """
pools:
  - {name: online, capacity: 1 TB}
  - {name: tape, library: robot}
libraries: [{name: robot}]
"""
CONFIG = """
catalog: {url: "URL"}
pools:
  - {name: online, tier: online, layout: files, options: {path: "${HSM_HOME}/online"}}
  - {name: tape, tier: offline, library: robot}
libraries: [{name: robot, driver: simulated, options: {folder: "${HSM_HOME}/robot", slots: 8, drives: 2}}]
staging: {path: "${HSM_HOME}/staging"}
policies: policies
"""


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting processes takes longer than these simulations; one test looks at that."""
    monkeypatch.setattr("os.cpu_count", lambda: 1)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "mine.yaml").write_text(POLICY)
    (tmp_path / "other.yaml").write_text(OTHER)
    (tmp_path / "site.yaml").write_text(SITE)
    (tmp_path / "hsm.yaml").write_text(CONFIG.replace("URL", "sqlite:///${HSM_HOME}/none.db"))
    return tmp_path


@pytest.fixture
def recorded(home: Path, catalog: Catalog, migrated_url: str, clock: ManualClock) -> Path:
    """A catalog: thirty studies arrived, a day apart, and every second was retrieved a month later."""
    with catalog.write() as session:
        patient = add_patient(session)
        for number in range(30):
            at = BEGIN + number * DAY
            uid = f"1.2.{number}"
            add_study(session, patient, uid, packages=1, first_received=at, last_received=at, n_bytes=10**9)
    recorder = Recorder(catalog)
    for number in range(0, 30, 2):
        at = BEGIN + (number + 30) * DAY
        recorder.retrieved(Retrieved(f"1.2.{number}", at, "WS1", 10**9, "online", 0.1))
    clock.advance((BEGIN + 40 * DAY - clock.now()).total_seconds())
    recorder.found(["1.2.1", "1.2.2"])
    recorder.flush()
    url = make_url(migrated_url).render_as_string(hide_password=False)
    (home / "hsm.yaml").write_text(CONFIG.replace("URL", url))
    return home


def hsm(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        app,
        ["--home", str(home), "policy", "simulate", "--config", str(home / "hsm.yaml"), *arguments],
        env={"HSM_HOME": str(home), "COLUMNS": "160"},
    )


def test_what_the_archive_recorded_is_replayed_through_the_policy_in_force_and_another(
    recorded: Path,
) -> None:
    result = hsm(recorded, "--policy", str(recorded / "other.yaml"), "--from", "2026-01-05", "--json")
    assert result.exit_code == 0, result.output
    current, other = json.loads(result.stdout)["policies"]
    assert (current["name"], other["name"]) == ("current", "other")
    assert current["arrivals"] == other["arrivals"] == 30
    assert current["retrieves"] == other["retrieves"] == 15
    assert current["hits"]["library"] == 15
    assert other["hits"]["online"] == 15
    assert current["recall_latency"]["p50"] > 5
    assert current["begin"].startswith("2026-01-0")


def test_a_history_that_was_counted_by_day_still_counts_every_retrieve(
    recorded: Path, catalog: Catalog
) -> None:
    compact(catalog, BEGIN + 400 * DAY)
    result = hsm(recorded, "--from", "2026-01-05", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["policies"][0]["retrieves"] == 15


def test_a_recorded_history_can_be_taken_to_another_machine(recorded: Path) -> None:
    path = recorded / "history.jsonl.gz"
    first = hsm(recorded, "--from", "2026-01-05", "--save-history", str(path), "--json")
    assert first.exit_code == 0, first.output
    assert len(list(read_history(path))) == 30 + 15 + 2
    second = hsm(recorded, "--from", "2026-01-05", "--history", str(path), "--json")
    assert json.loads(second.stdout)["policies"] == json.loads(first.stdout)["policies"]


def test_a_larger_archive_is_asked_for_by_scale(recorded: Path) -> None:
    result = hsm(recorded, "--scale", "3x", "--json")
    assert json.loads(result.stdout)["policies"][0]["studies"] == 90


def test_the_catalog_is_only_read(recorded: Path, catalog: Catalog) -> None:
    from sqlalchemy import text

    def everything() -> list[object]:
        with catalog.read() as session:
            return [
                session.execute(text(f"SELECT count(*) FROM {name}")).scalar()
                for name in ("study", "copy", "request", "journal", "access")
            ]

    before = everything()
    assert hsm(recorded).exit_code == 0
    assert everything() == before


def test_the_comparison_is_a_table_with_what_matters_below_it(recorded: Path) -> None:
    result = hsm(recorded, "--policy", str(recorded / "other.yaml"), "--from", "2026-01-05")
    assert result.exit_code == 0, result.output
    said = result.stdout
    for word in (
        "current",
        "other",
        "recall takes (p95)",
        "protection lag (longest)",
        "operator trips",
        "total",
    ):
        assert word in said


def test_pictures_are_written_beside_the_table(recorded: Path) -> None:
    result = hsm(recorded, "--from", "2026-01-05", "--plot", str(recorded / "out"))
    assert result.exit_code == 0, result.output
    assert (recorded / "out" / "simulation.html").stat().st_size > 10_000


def test_every_error_of_every_policy_is_told_at_once(recorded: Path) -> None:
    (recorded / "bad.yaml").write_text(POLICY.replace("received > 1 day", "recieved > 1 day"))
    (recorded / "worse.yaml").write_text(POLICY.replace("copy to: tape", "copy to: tap"))
    result = hsm(recorded, "--policy", str(recorded / "bad.yaml"), "--policy", str(recorded / "worse.yaml"))
    assert result.exit_code == 1
    assert "bad.yaml:6" in result.output
    assert "Did you mean 'received'?" in result.output
    assert "worse.yaml:6" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "no archive has recorded anything here"),
        (("--history", "none.jsonl"), "none.jsonl: cannot be read"),
        (("--synthetic", "1", "--site", "none.yaml"), "none.yaml: error: cannot be read"),
        (("--synthetic", "1", "--from", "2026-01-02", "--to", "2026-01-01"), "the end must be later"),
        (("--synthetic", "1", "--no-current"), "give --policy FILE"),
        (("--synthetic", "1", "--prices", "none.yaml"), "none.yaml: error: cannot be read"),
        (("--synthetic", "1", "--policy", "none.yaml"), "none.yaml: error: cannot be read"),
    ],
)
def test_what_is_missing_is_named_with_what_to_give(
    home: Path, arguments: tuple[str, ...], says: str
) -> None:
    result = hsm(home, *arguments)
    assert result.exit_code == 1, result.output
    assert says in " ".join(result.output.split())


@pytest.mark.parametrize("scale", ["0x", "many", "-1x", "1001x"])
def test_a_senseless_scale_is_a_usage_error(home: Path, scale: str) -> None:
    result = hsm(home, f"--scale={scale}")
    assert result.exit_code == 2
    assert "is no scale" in " ".join(result.output.split())


def test_an_empty_archive_says_so(home: Path, catalog: Catalog, migrated_url: str) -> None:
    url = make_url(migrated_url).render_as_string(hide_password=False)
    (home / "hsm.yaml").write_text(CONFIG.replace("URL", url))
    result = hsm(home)
    assert result.exit_code == 1
    assert "nothing has been recorded yet" in " ".join(result.output.split())


def test_a_made_up_hospital_needs_neither_catalog_nor_history(home: Path) -> None:
    result = hsm(
        home,
        "--synthetic",
        "2",
        "--stock-years",
        "0.2",
        "--from",
        "2026-01-01",
        "--to",
        "2026-02-01",
        "--json",
    )
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["history"].startswith("a made-up hospital with 2 studies a day")
    assert answer["policies"][0]["arrivals"] == pytest.approx(62, abs=25)


def test_several_policies_in_processes_of_their_own_give_what_one_gives(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = Question(
        policies=(home / "policies", home / "other.yaml"),
        begin=BEGIN,
        end=BEGIN + 40 * DAY,
        hospital=Hospital(studies_a_day=2, stock_years=0.1),
        site=home / "site.yaml",
        current=False,
        config=home / "hsm.yaml",
    )
    told: list[str] = []
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    several = simulate(question, {"HSM_HOME": str(home)}, lambda name, part: told.append(name))
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    alone = simulate(question, {"HSM_HOME": str(home)})
    assert several == alone
    assert sorted(told) == ["other", "policies"]


def test_the_hardware_of_the_configuration_is_used_when_no_site_is_given(home: Path) -> None:
    def ask(config: str) -> Callable[[], object]:
        (home / "hsm.yaml").write_text(config)
        question = Question((), BEGIN, BEGIN + DAY, hospital=Hospital(1, 0), config=home / "hsm.yaml")
        return lambda: simulate(question, {"HSM_HOME": str(home)}).reports[0]

    report = ask(CONFIG.replace("URL", "sqlite:///x.db"))()
    assert [pool.name for pool in report.pools] == ["online", "tape"]  # type: ignore[attr-defined]
    cloud = "  - {name: cloud, tier: nearline, driver: s3, options: {bucket: bench}}\nlibraries:"
    with pytest.raises(WhatIfError, match=r"how large pool cloud is: describe the hardware with --site"):
        ask(CONFIG.replace("URL", "sqlite:///x.db").replace("libraries:", cloud))()


def test_the_version_in_force_is_the_current_one_and_not_what_the_folder_has_become(
    recorded: Path, catalog: Catalog
) -> None:
    with catalog.write() as session:
        activations.activate(session, BEGIN, "ada", b"d" * 32, {"mine.yaml": OTHER})
    result = hsm(recorded, "--from", "2026-01-05", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["policies"][0]["hits"]["online"] == 15


def test_the_demo_compares_two_good_policies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("cli.demo_policy.STUDIES_A_DAY", 1.0)
    monkeypatch.setattr("cli.demo_policy.STOCK_YEARS", 0.3)
    result = CliRunner().invoke(app, ["demo", "policy", "--plot", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "warning" not in result.output
    for word in ("roomy", "lean", "recall takes (p95)", "hsm policy simulate --no-current"):
        assert word in result.stdout
    assert (tmp_path / "out" / "simulation.html").is_file()
