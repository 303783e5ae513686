"""``hsm audit``: what is asked, what is shown, and how it ends."""

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
from hsm.anchor import Anchor
from hsm.audit.copies import Asked
from hsm.catalog.journal import Wanted
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


def audit(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--home", str(home), "audit", *arguments])


def run(home: Path, *arguments: str) -> Result:
    return audit(home, "copies", *arguments)


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


RECORD: dict[str, Any] = {
    "seq": 7,
    "at": THEN,
    "actor": "alice",
    "verb": "retired",
    "kind": "volume",
    "subject": "A00001L8",
    "detail": {"why": "worn out"},
}
WHOLE: dict[str, Any] = {
    "at": THEN,
    "records": 7,
    "digest": bytes(32),
    "anchors": 0,
    "problems": [],
    "good": True,
}


def test_the_log_shows_who_did_what_when_and_why(home: Path, script: Script) -> None:
    script.answers["audit log"] = [RECORD]
    found = audit(home, "log", "--actor", "alice", "--since", "2026-03-01", "--verb", "ret*", "--limit", "5")
    assert found.exit_code == 0
    for text in ("alice", "volume retired", "A00001L8", "worn"):
        assert text in found.stdout
    ((_, wanted, limit),) = script.asked
    assert wanted == Wanted(actor="alice", verb="ret*", since=datetime(2026, 3, 1).astimezone())
    assert limit == 5
    assert json.loads(audit(home, "log", "--json").stdout)[0]["seq"] == 7


def test_a_whole_log_ends_with_0_and_with_a_line_that_is_an_anchor_for_later(
    home: Path, script: Script, tmp_path: Path
) -> None:
    script.answers["audit verify"] = WHOLE
    found = audit(home, "log", "verify")
    assert found.exit_code == 0
    anchor = found.stdout.splitlines()[-1]
    assert anchor == f"7 {'00' * 32}"
    kept = tmp_path / "anchors"
    kept.write_text(f"# written by cron\n{anchor} 2026-03-01\n\n")
    audit(home, "log", "verify", "--anchors", str(kept))
    assert script.asked[-1] == ("audit verify", {7: bytes(32)})
    audit(home, "log", "verify", "--from-volume", "A00001L8", "--from-volume", "nearline")
    assert script.asked[-1] == ("audit verify", {}, "A00001L8", "nearline")


def test_a_broken_log_says_where_and_ends_with_1(home: Path, script: Script) -> None:
    broken = {"problems": [{"seq": 3, "message": "record 3 is missing"}], "good": False}
    script.answers["audit verify"] = WHOLE | broken
    found = audit(home, "log", "verify")
    assert (found.exit_code, "record 3 is missing" in found.stdout) == (1, True)


def test_anchors_of_media_and_the_journal_s_own_file_are_taken_too(
    home: Path, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.answers["audit verify"] = WHOLE
    anchor = Anchor("HSM", 7, bytes(32), datetime(2026, 3, 1, tzinfo=UTC))
    kept = tmp_path / "anchors"
    kept.write_text(f"{anchor.line()}\n6 {'11' * 32} {anchor.line()}\n")
    audit(home, "log", "verify", "--anchors", str(kept))
    assert script.asked[-1] == ("audit verify", {7: bytes(32), 6: bytes([0x11]) * 32})
    monkeypatch.setattr("cli.audit_log.LINES_MAX", 3)
    lines = [f'{{"seq":{seq},"digest":"{seq:064x}","record":[{seq},"a"]}}\n' for seq in range(1, 11)]
    kept.write_text("".join(lines))
    audit(home, "log", "verify", "--anchors", str(kept))
    _, given = script.asked[-1]
    assert len(given) == 3
    assert given[10] == (10).to_bytes(32, "big")


def test_a_file_of_anchors_that_cannot_be_read_names_its_line(home: Path, tmp_path: Path) -> None:
    kept = tmp_path / "anchors"
    kept.write_text(f"7 {'00' * 32}\n8 abc\n")
    found = audit(home, "log", "verify", "--anchors", str(kept))
    assert found.exit_code == 2
    assert "line 2" in found.stderr


def test_a_proof_is_written_whole_and_never_over_another_file(
    home: Path, script: Script, tmp_path: Path
) -> None:
    script.answers["prove"] = b"PK" * 1000
    to = tmp_path / "proof.zip"
    assert audit(home, "prove", "1.2.3", "-o", str(to)).exit_code == 0
    assert to.read_bytes() == b"PK" * 1000
    assert audit(home, "prove", "1.2.3", "-o", str(to)).exit_code == 2
    script.answers["prove"] = NotFound("no study 1.2.4 in the catalog")
    other = tmp_path / "other.zip"
    missing = audit(home, "prove", "1.2.4", "-o", str(other))
    assert missing.exit_code not in (0, 2)
    assert "no study 1.2.4" in missing.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["proof.zip"], "nothing half-done stays"
