"""``hsm audit verify`` and ``hsm audit media``: what is asked, what is shown, and how it ends."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from api_world import Script
from typer.testing import CliRunner, Result

from cli import audit_fixity
from cli.main import app
from hsm.audit.verify import AskedFor

UNDER_WAY: dict[str, Any] = {"copies": [], "left": 1, "waiting": 1, "bytes": 0, "good": True}
BAD: dict[str, Any] = {
    "copies": [
        {
            "request": 7,
            "state": "failed",
            "result": "does not match",
            "error": "SHA-256 is 00; expected 11",
            "study": "1.2.3",
            "package": "1.2.3.p0001.tar",
            "volume": "HSM001L8",
            "pool": "tape",
            "bytes": 4096,
        }
    ],
    "left": 0,
    "waiting": 0,
    "bytes": 4096,
    "good": False,
}
ASKED = {"requests": [7], "copies": 1, "waiting_for_a_person": 1, "cold": 2, "more": False}
NONE = {"studies": 0, "packages": 0}
VOLUME: dict[str, Any] = {
    "name": "HSM001L6",
    "pool": "tape",
    "state": "full",
    "place": "slot",
    "shelf": "",
    "site": "",
    "generation": "LTO6",
    "age_days": 4000,
    "capacity": 100,
    "used": 50,
    "copies": 12,
    "damaged": 0,
    "last_copy_of": {"studies": 3, "packages": 3},
    "second_last_of": {"studies": 9, "packages": 9},
    "verified_since": None,
    "mounts": 40,
    "bytes_written": 1,
    "bytes_read": 1,
    "soft_errors": 0,
    "hard_errors": 2,
    "alerts": 0,
    "last_used": None,
    "blame": "medium",
    "advice": [{"act": True, "what": "it fails in 2 drives: repack it"}, {"act": False, "what": "10 years"}],
    "act": True,
}
PAIR = {
    "library": "lib",
    "drive": 256,
    "volume": "HSM001L6",
    "sessions": 3,
    "hard_errors": 2,
    "soft_errors": 5,
    "soft_errors_per_gigabyte": 0.1,
    "alerts": 0,
    "failing": 2,
    "last_at": None,
    "last_error": "",
    "blame": "medium",
    "why": "",
}
MEDIA: dict[str, Any] = {
    "at": "2026-03-01T04:00:00Z",
    "volumes": [VOLUME],
    "drives": [{"library": "lib", "drive": 257, "in_service": False, "product": "", "generation": 8}],
    "pairs": [PAIR],
    "needs_action": 1,
    "good": False,
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSM_HOME", "unset")
    monkeypatch.setattr(audit_fixity, "POLL_SECONDS", 0.0)
    for name in ("HSM_SOCKET", "HSM_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def audit(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--home", str(home), "audit", *arguments])


def test_a_verification_that_is_waited_for_ends_with_what_it_found(home: Path, script: Script) -> None:
    script.answers["verify copies"] = ASKED
    script.answers["verified"] = ["in turn", UNDER_WAY, BAD]
    found = audit(home, "verify", "1.2.3", "--wait")
    assert found.exit_code == 1, found.output
    assert "1 of them on a shelf" in found.output
    assert "2 more lie in cold storage" in found.output
    assert "1.2.3 on HSM001L8 (tape): does not match" in found.output
    assert "0 copies match, 1 do not" in found.output
    asked = next(each for each in script.asked if each[0] == "verify copies")
    assert asked[1] == AskedFor(study="1.2.3", urgent=True)


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (("HSM001L8",), AskedFor(volume="HSM001L8")),
        (("--sample", "0.5%", "--pool", "nas"), AskedFor(percent=0.5, pool="nas")),
    ],
)
def test_without_waiting_it_is_queued_and_good(
    home: Path, script: Script, arguments: tuple[str, ...], asked: AskedFor
) -> None:
    script.answers["verify copies"] = ASKED
    found = audit(home, "verify", *arguments, "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.output)["requests"] == [7]
    assert script.asked[-1][1] == asked


@pytest.mark.parametrize(
    "arguments", [(), ("1.2", "--sample", "1%"), ("--sample", "0%"), ("--sample", "x"), ("--sample", "101")]
)
def test_what_cannot_be_meant_is_a_usage_error(home: Path, arguments: tuple[str, ...]) -> None:
    assert audit(home, "verify", *arguments).exit_code == 2


def test_media_are_listed_with_what_to_do_and_end_with_one(home: Path, script: Script) -> None:
    script.answers["audit media"] = MEDIA
    found = audit(home, "media")
    assert found.exit_code == 1
    assert "HSM001L6: it fails in 2 drives: repack it" in found.output
    assert "drive 257 of lib is out of service" in found.output
    rows = list(csv.DictReader(io.StringIO(audit(home, "media", "--csv").output)))
    assert rows[0]["last_copy_of"] == "3"
    assert rows[0]["advice"] == "it fails in 2 drives: repack it; 10 years"
    page = audit(home, "media", "--html")
    assert page.exit_code == 1
    assert "Volumes that need something done now: 1; drives out of service: 1." in page.output
    assert page.output.count("it fails in 2 drives: repack it") == 1
    assert audit(home, "media", "--html", "--csv").exit_code == 2


def test_one_medium_names_the_studies_that_depend_on_it(home: Path, script: Script) -> None:
    study = {"study": "1.2.3", "copies_elsewhere": 0, "packages": 1, "bytes": 4096}
    script.answers["audit medium"] = VOLUME | {"studies": [study], "not_named": 11, "act": False}
    found = audit(home, "media", "HSM001L6", "--limit", "1")
    assert found.exit_code == 0
    assert "3 studies lose the last good copy and 9 the second last" in found.output
    assert "and 11 more" in found.output
    assert script.asked[-1] == ("audit medium", "HSM001L6", 1)
    script.answers["audit medium"] |= {"name": "<b>", "shelf": "a & b"}
    page = audit(home, "media", "HSM001L6", "--html").output
    assert "Volume &lt;b&gt;" in page
    assert "a &amp; b" in page
    assert "<td>1.2.3</td>" in page
    assert "11 more are not named here" in page
