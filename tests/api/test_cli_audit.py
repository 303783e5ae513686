"""``hsm audit copies``: what is asked, what is shown, and how it ends."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from api_world import Script
from typer.testing import CliRunner, Result

from cli.main import app
from hsm.audit.copies import Asked
from hsm.client import BadRequest, Client
from hsm.errors import NotFound

THEN = datetime(2026, 3, 1, 4, 0, tzinfo=UTC)
NONE = {"studies": 0, "bytes": 0, "oldest": None}
STUDY: dict[str, Any] = {
    "study": "1.2.3.4",
    "standing": "under_protected",
    "lacks": [{"goal": "2 verified copies in tape", "target": "tape", "have": 1, "want": 2}],
    "bytes": 4096,
    "received_at": THEN - timedelta(days=9),
    "since": THEN - timedelta(days=2),
    "why": 'the copy on <A1> of tape is lost; "fell"',
    "under_way": "",
}
BAD: dict[str, Any] = {
    "at": THEN,
    "made_at": THEN,
    "source": "catalog",
    "grace_seconds": 86400.0,
    "policies": [
        {
            "policy": "two",
            "protected": {"studies": 7, "bytes": 70, "oldest": THEN},
            "due": NONE,
            "late": NONE,
            "under_protected": {"studies": 3, "bytes": 2048, "oldest": THEN},
            "goals": [
                {
                    "goal": "2 verified copies in tape",
                    "time": "7 d",
                    "time_from": "policy",
                    "protected": {"studies": 7, "bytes": 70, "oldest": THEN},
                    "due": NONE,
                    "past_due": {"studies": 3, "bytes": 2048, "oldest": THEN},
                }
            ],
            "studies": [STUDY],
            "not_named": 2,
        }
    ],
    "unsealed": {"studies": 1, "instances": 5, "oldest": THEN},
    "under_protected": 3,
    "good": False,
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSM_HOME", "unset")
    for name in ("HSM_SOCKET", "HSM_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--home", str(home), "audit", "copies", *arguments])


def test_an_audit_that_finds_a_study_without_its_copies_names_it_and_ends_with_1(
    home: Path, script: Script
) -> None:
    script.answers["audit copies"] = BAD
    found = run(home)
    assert found.exit_code == 1
    for text in (
        "1.2.3.4",
        "under-protected since",
        "has 1 of 2 verified copies in tape",
        "and 2 more of two",
    ):
        assert text in found.stdout
    assert "5 instances still coming in" in found.stdout
    assert script.asked == [("audit copies", Asked())]


def test_an_audit_in_which_everything_is_protected_ends_with_0(home: Path, script: Script) -> None:
    script.answers["audit copies"] = BAD | {"policies": [], "good": True, "under_protected": 0}
    for option in ((), ("--json",), ("--csv",), ("--html",)):
        assert run(home, *option).exit_code == 0


def test_as_of_grace_and_limit_are_asked_of_the_daemon_in_its_own_values(home: Path, script: Script) -> None:
    script.answers["audit copies"] = BAD
    run(home, "--policy", "two", "--as-of", "2026-03-01T05:00", "--grace", "2d", "--limit", "7")
    ((_, asked),) = script.asked
    local = datetime(2026, 3, 1, 5, 0).astimezone()
    assert asked == Asked("two", local, timedelta(days=2), 7)


def test_csv_json_and_html_say_the_same_studies(home: Path, script: Script) -> None:
    script.answers["audit copies"] = BAD
    as_csv = run(home, "--csv")
    assert as_csv.exit_code == 1
    (row,) = csv.DictReader(io.StringIO(as_csv.stdout))
    assert (row["study"], row["policy"], row["why"]) == ("1.2.3.4", "two", STUDY["why"])
    as_json = json.loads(run(home, "--json").stdout)
    assert as_json["policies"][0]["studies"][0]["study"] == "1.2.3.4"
    page = run(home, "--html").stdout
    assert "&lt;A1&gt; of tape is lost; &quot;fell&quot;" in page
    assert "<A1>" not in page
    assert "3 studies lack copies" in page


def test_two_forms_at_once_are_a_usage_error(home: Path, script: Script) -> None:
    assert run(home, "--csv", "--json").exit_code == 2
    assert script.asked == []


def test_a_policy_that_is_not_there_a_bad_grace_and_a_bad_time_are_refused(
    home: Path, script: Script, client: Client
) -> None:
    script.answers["audit copies"] = NotFound("there is no policy 'x'; in force: two")
    missing = run(home, "--policy", "x")
    assert missing.exit_code != 0
    assert "in force: two" in missing.stderr
    assert "grace '3 lightyears'" in run(home, "--grace", "3 lightyears").stderr
    with pytest.raises(BadRequest, match="has no time zone"):
        client.audit_copies(as_of="2026-03-01T05:00")
    with pytest.raises(BadRequest, match="at most 100000"):
        client.audit_copies(limit=100_001)
