"""Every command that prints, over a real socket: 80 columns for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_world import LONG_UID, MOVEMENT, NEW_UID, TAPE_UID, Script
from rich.cells import cell_len
from typer.testing import CliRunner, Result

from cli.main import app
from cli.policy_plan import _days
from hsm.client import Client

Run = Callable[..., Result]

POLICIES = [
    {
        "policy": "default",
        "priority": 1000,
        "file": "/etc/hsm/policies/default.yaml",
        "schedule": "every 60 s",
        "copies": {"nearline": 1, "tape": 2},
        "rules": [
            {
                "name": "to tape",
                "action": "copy",
                "pool": "tape",
                "does": "copy to tape",
                "when": "modality in (CT, MR) and size > 1 GB",
            }
        ],
        "activation": 3,
        "late": [{"goal": "2 verified copies in tape", "within": "1 d", "studies": 4, "bytes": 9}],
        "state": "suspended",
        "message": "suspended after 5 failed requests: see `hsm queue ls --state failed`",
        "last_run": None,
    }
]
DECISION = {
    "study": LONG_UID,
    "rule": "free online after a year",
    "action": "release",
    "pool": "online",
    "outcome": "request",
    "reason": "idle > 365d: idle is 400d; verified copies kept: nearline 1, tape 1",
    "size": 1,
}
RUNS = {
    "dry_run": True,
    "runs": [
        {
            "policy": "default",
            "matched": 2,
            "to_do": 1,
            "bytes": 5,
            "refused": 1,
            "requests": 0,
            "state": "waiting",
            "message": "its window is over",
            "decisions": [DECISION],
        }
    ],
}
EXPLANATION = {
    "study": LONG_UID,
    "policy": "default",
    "scopes": [{"policy": "default", "priority": 1000, "matches": True, "deciding": ["always"]}],
    "rules": [
        {
            "rule": "to tape",
            "action": "copy",
            "pool": "tape",
            "applies": False,
            "matches": True,
            "deciding": [],
            "reason": "tape has the 1 verified copy that is wanted, and this sentence is long enough to wrap",
            "changes_at": "2027-01-01T00:00:00Z",
        }
    ],
    "now": "2026-01-01T00:00:00Z",
}
INVENTORY = [
    {"library": "sim", "kind": "drive", "address": 256, "barcode": None},
    {"library": "sim", "kind": "slot", "address": 1002, "barcode": "T00002"},
]
PLAN = {
    "at": "2026-01-01T18:00:00Z",
    "until": "2026-01-02T18:00:00Z",
    "policies": [
        {
            "policy": "default",
            "runs": 24,
            "open_hours": 10.0,
            "late": [],
            "bandwidth": None,
            "bytes": 3 << 40,
            "rules": [
                {
                    "rule": "to tape",
                    "does": "copy to tape",
                    "studies": 812,
                    "bytes": 3 << 40,
                    "refused": 3,
                    "why_refused": ["tape has 1 verified copy, 1 wanted: nothing to copy"],
                }
            ],
        },
        {"policy": "asleep", "runs": 0, "open_hours": 0, "late": [], "bandwidth": 9, "bytes": 0, "rules": []},
    ],
    "pools": [
        {
            "pool": "tape",
            "used": 5 << 40,
            "capacity": 50 << 40,
            "comes": 3 << 40,
            "goes": 0,
            "after": 8 << 40,
            "a_day": 1 << 38,
            "days_until_full": 168.0,
        }
    ],
    "tapes": [
        {
            "pool": "tape",
            "library": "sim",
            "bytes": 3 << 40,
            "volumes": {"T00001": 1 << 40, "T00002": 2 << 40},
            "cartridges": 1,
            "missing": 0,
            "scratch_left": 3,
            "mounts": 2,
            "seconds": 11000.0,
            "room": 9,
            "hours": 3.06,
        }
    ],
    "hours": {"sim": 3.06},
    "warnings": [],
}
EMPTY = {"studies": 0, "bytes": 0, "examples": []}
DIFFERENCE = {
    "policies": [
        {
            "policy": "default",
            "change": "changed",
            "copies_old": {"tape": 1},
            "copies_new": {"tape": 2},
            "lines": [
                "@@ -1 +1 @@",
                "-copies: 1 verified copy in tape",
                "+copies: 2 verified copies in tape",
            ],
        }
    ],
    "studies": [
        {
            "action": "copy",
            "pool": "tape",
            "only_old": EMPTY,
            "only_new": {
                "studies": 7,
                "bytes": 9 << 30,
                "examples": [{"study": LONG_UID, "by": "default / to tape"}],
            },
            "both": {"studies": 2, "bytes": 1, "examples": []},
        }
    ],
    "owners": [{"from": "default", "to": "", "studies": 1, "bytes": 5}],
}
ACTIVATIONS = [
    {
        "activation": 2,
        "at": "2026-01-02T08:00:00Z",
        "by": "alice",
        "comment": "as before",
        "digest": "00",
        "restores": 1,
        "in_force": True,
        "texts": {"default.yaml": "policy: default\npriority: 1000\n"},
    }
]
ANSWERS: dict[str, Any] = {
    "plan": PLAN,
    "diff": DIFFERENCE,
    "activate": {"activation": 2, "policies": ["default"], "changed": True, "warnings": ["a: warning: b"]},
    "history": ACTIVATIONS,
    "resume": {"policy": "default", "state": "in force"},
    "listing": POLICIES,
    "run": RUNS,
    "explain": EXPLANATION,
    "inventory": INVENTORY,
    "request_study": {"uid": TAPE_UID, "packages": 1, "readable_now": 0, "requests": [2]},
    "progress": [{"id": 2, "package": "p", "state": "done", "error": "", "bytes": 7, "bytes_done": 7}],
    "operator_done": {"barcode": "T00001", "library": "sim", "answered": True},
    "reload": {"policies": 1, "needs_restart": ["dicom.port"]},
    "plan_export": [MOVEMENT | {"note": ""}],
    "movements": [MOVEMENT],
    "left": MOVEMENT | {"state": "left", "left_by": "bob", "left_at": "2026-03-01T03:00:00Z"},
    "picklist": {"at": "2026-03-01T02:00:00Z", "open": 0, "walks": []},
    "operator_scan": {"barcode": "T00001", "verdict": "done", "text": "T00001 is in sim: thank you"},
    "acknowledge": {"acked_by": "alice", "acked_until": "2026-03-01T02:30:00Z"},
    "answer": {
        "barcode": "T00001",
        "answered": True,
        "outcome": "cannot find",
        "others": [{"barcode": "T00003", "where": "shelf C1"}],
        "switched": 2,
        "left": 1,
    },
}

SCREENS = [
    (["status"], ["HSM on 127.0.0.1:11112", "tape", "1 recall waiting", "hsm operator ls"]),
    (["study", "find"], [LONG_UID, TAPE_UID, "OFFLINE", "T00001", "2024-01-10 CT/SR"]),
    (["study", "find", "nobody"], ["no study matches"]),
    (["study", "show", LONG_UID], [LONG_UID, "Thorax", "nearline", "3 instances"]),
    (["study", "locate", TAPE_UID], ["OFFLINE T00001", "shelf A3", "verified"]),
    (["study", "locate", NEW_UID], ["ONLINE", "3 instances online, not sealed yet"]),
    (["study", "history", LONG_UID], ["received", "ae:CT1", "request 1 queued: copy 1"]),
    (["queue", "ls"], ["recall", "waiting", "3 on drive 256", "T00001 shelf A3", "2 wait", "the medium is"]),
    (["queue", "show", "2"], ["C-MOVE from WS1 to WS1", "shelf A3", "waits for an operator"]),
    (["queue", "show", "1"], ["third on T00002", "comes first", "stat before migration"]),
    (["volume", "ls"], ["T00001", "shelf A3", "sim slot 1002", "scratch"]),
    (["volume", "show", "T00001"], ["uuid-T00001", "900 B of 9.77 KiB"]),
    (["operator", "ls"], ["T00001", "shelf A3", "C-MOVE from WS1 to WS1", "hsm operator done"]),
    (["operator", "ls", "--all"], ["T00001"]),
    (["library", "inventory"], ["slot", "1002", "T00002"]),
    (["policy", "list"], ["default (priority 1000", "copy to tape", "2 in tape"]),
    (["policy", "run", "--dry-run"], ["1 would be asked for", LONG_UID, "release from online"]),
    (["policy", "explain", LONG_UID], ["default owns the study", "to tape", "older than 1 d"][:2]),
    (["policy", "plan"], ["812", "copy to tape", "168", "T00002 2 TiB", "3.06 h", "asleep does not run"]),
    (["policy", "diff"], ["default: changed", "+copies: 2", "7", "will be asked for", "to no policy"]),
    (["policy", "activate", "--comment", "x"], ["activation 2 is in force now: default", "a: warning: b"]),
    (["policy", "history"], ["alice", "as before (back to 1) (in force)"]),
    (["policy", "history", "--version", "2"], ["# default.yaml", "priority: 1000"]),
    (["policy", "resume", "default"], ["default goes on"]),
    (["recall", TAPE_UID], ["0 of 1 package", "recall 2"]),
    (["recall", TAPE_UID, "--wait"], ["recall 2 is done", "everything can be read now"]),
    (["reload"], ["reloaded", "dicom.port"]),
    (["operator", "done", "T00001"], ["T00001 is in sim"]),
    (["library", "export", "T00002", "--shelf", "A3"], ["take it out and put it on shelf A3"]),
    (["library", "moves"], ["T00002", "sim slot 1", "shelf A3", "alice"]),
    (["library", "moves", "--pick-list"], ["PICK LIST  list 1", "[ ] taken  [ ] there   T00002"]),
    (["library", "moves", "--receipt"], ["RECEIPT  list 1", "left    not yet", "received by:"]),
    (["library", "left", "T00002"], ["left", "bob"]),
    (["volume", "where", "T00001"], ["shelf A3"]),
    (["volume", "history", "T00001"], ["nothing is recorded of it"]),
    (["operator", "picklist"], ["nothing is asked for"]),
    (["operator", "scan", "T00001"], ["T00001 is in sim: thank you"]),
    (["operator", "ack", "T00001"], ["alice goes for T00001, until 2026-03-01"]),
    (["operator", "cannot-find", "T00001"], ["2 recalls go on with T00003 (shelf C1)"]),
]
UNWRAPPED = {"policy run", "policy plan", "policy diff", "policy list", "recall", "policy explain", "status"}
"""Screens with sentences that are not wrapped, because UIDs and paths in them are copied."""


@pytest.fixture
def run(home: Path, script: Script, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("HSM_HOME", str(home))
    for name in ("COLUMNS", "FORCE_COLOR", "HSM_SOCKET", "TERM"):
        monkeypatch.delenv(name, raising=False)
    script.answers.update(ANSWERS)

    def invoke(*arguments: str, input: str | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=input)

    return invoke


@pytest.mark.parametrize(("arguments", "expected"), SCREENS, ids=lambda value: " ".join(value)[:40])
def test_a_screen_says_what_it_should_in_80_columns(
    run: Run, arguments: list[str], expected: list[str]
) -> None:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    for words in expected:
        assert words in result.stdout, result.stdout
    assert "\x1b" not in result.stdout, "neither colours in a pipe nor what a peer wrote"
    wide = [line for line in result.stdout.splitlines() if cell_len(line) > 80]
    tables = [line for line in wide if "  " in line.strip()]
    assert tables == []
    if " ".join(arguments[:2]) not in UNWRAPPED and arguments[0] not in UNWRAPPED:
        assert wide == []


@pytest.mark.parametrize(
    "arguments",
    [arguments for arguments, _ in SCREENS if arguments[0] != "recall"],
    ids=lambda value: " ".join(value)[:40],
)
def test_json_is_one_document_and_the_same_every_time(run: Run, arguments: list[str]) -> None:
    first, second = run(*arguments, "--json"), run(*arguments, "--json")
    assert first.exit_code == 0, first.output
    parsed = json.loads(first.stdout)
    assert isinstance(parsed, dict | list)
    if arguments[0] != "operator" or arguments[1] != "ls":  # how long somebody waits does change
        assert first.stdout == second.stdout


def test_json_is_what_the_daemon_answered(run: Run, client: Client) -> None:
    assert json.loads(run("study", "find", "--json").stdout) == client.find_studies()
    assert json.loads(run("status", "--json").stdout) == client.status()
    assert json.loads(run("queue", "show", "2", "--json").stdout) == client.request(2)
    assert json.loads(run("recall", TAPE_UID, "--json").stdout) == [ANSWERS["request_study"]]
    waited = json.loads(run("recall", TAPE_UID, "--wait", "--json").stdout)
    assert waited == {"asked": [ANSWERS["request_study"]], "ended": ANSWERS["progress"]}


def test_the_longest_uid_stands_whole_on_one_line(run: Run) -> None:
    assert any(
        line.split() and line.split()[0] == LONG_UID for line in run("study", "find").stdout.splitlines()
    )


def test_options_of_find_reach_the_daemon(run: Run) -> None:
    found = json.loads(run("study", "find", "--modality", "MR", "--date", "2023-", "--json").stdout or "[]")
    assert found == []
    found = json.loads(run("study", "find", "--modality", "MR", "--date", "20230101-", "--json").stdout)
    assert [study["uid"] for study in found] == [TAPE_UID]
    more = run("study", "find", "--limit", "1")
    assert "--offset 1" in more.stdout


def test_metrics_are_printed_as_they_are(run: Run, client: Client) -> None:
    assert run("metrics").stdout == client.metrics()


def test_a_name_for_the_journal_is_passed_on(run: Run, script: Script) -> None:
    assert run("--by", "night shift", "queue", "cancel", "2").exit_code == 0
    name, pk, by = script.asked[-1]
    assert (name, pk) == ("cancel", 2)
    assert by.startswith("night shift (as ")


def test_waiting_shows_each_state_once_and_ends_with_the_last(
    run: Run, script: Script, monkeypatch: Any
) -> None:
    monkeypatch.setattr("cli.recall.POLL_SECONDS", 0.001)
    states = ["queued", "waiting", "waiting", "active", "done"]
    shown = [[{"id": 2, "state": each, "error": "", "bytes": 7, "bytes_done": 0}] for each in states]
    script.answers["progress"] = ["in turn", *shown]
    result = run("recall", TAPE_UID, "--wait")
    assert result.exit_code == 0
    said = [line for line in result.stdout.splitlines() if line.startswith("recall 2 is ")]
    assert said == [f"recall 2 is {state}" for state in ("queued", "waiting", "active", "done")]


def test_a_recall_that_fails_is_a_problem_with_its_reason(run: Run, script: Script) -> None:
    script.answers["progress"] = [
        {"id": 2, "state": "failed", "error": "alice: lent out", "bytes": 7, "bytes_done": 0}
    ]
    result = run("recall", TAPE_UID, "--wait")
    assert result.exit_code == 1
    assert "recall 2 failed: alice: lent out" in result.stderr
    assert "everything can be read" not in result.stdout


def test_nothing_to_recall_does_not_wait(run: Run, script: Script) -> None:
    script.answers["request_study"] = {"uid": TAPE_UID, "packages": 1, "readable_now": 1, "requests": []}
    result = run("recall", TAPE_UID, "--wait")
    assert result.exit_code == 0
    assert "everything can be read now" in result.stdout
    assert "progress" not in [call[0] for call in script.asked]


def test_one_side_of_a_diff_is_compared_with_what_is_in_force(run: Run, script: Script) -> None:
    assert run("policy", "diff", "2").exit_code == 0
    assert script.asked[-1] == ("diff", None, 2)


@pytest.mark.parametrize(("days", "shown"), [(None, "-"), (12.5, "12.5"), (4e7, "> 3650")])
def test_no_forecast_goes_beyond_ten_years(days: float | None, shown: str) -> None:
    assert _days(days) == shown
