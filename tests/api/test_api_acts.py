"""What the API does: who is named, what is passed on, and how each error is told."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import httpx
import pytest
from api_world import LONG_UID, Script

from hsm.api.limits import Limits
from hsm.client import BadRequest, Client, Problem, Refused
from hsm.errors import (
    BadInput,
    ConfigError,
    Conflict,
    Corrupt,
    NotFound,
    OperatorNeeded,
    Permanent,
    Retryable,
)
from hsm.errors import Refused as RefusedByPromise
from hsm.model import Priority
from hsm.repack import Wanted

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def http(home: Path):
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(home / "hsm.sock")), base_url="http://hsm"
    ) as opened:
        yield opened


@pytest.mark.parametrize(
    ("act", "asked"),
    [
        (lambda c: c.cancel(7), ("cancel", 7, ME)),
        (lambda c: c.retry(7), ("retry", 7, ME)),
        (lambda c: c.label("T1", "tape"), ("label", "T1", "tape", ME, "")),
        (lambda c: c.label("T1", overwrite="T1"), ("label", "T1", "", ME, "T1")),
        (lambda c: c.retire("T1", "worn"), ("retire", "T1", ME, "worn")),
        (lambda c: c.recycle("T1", "old"), ("recycle", "T1", ME, "old")),
        (lambda c: c.lost("T1", "burnt"), ("lost", "T1", ME, "burnt")),
        (
            lambda c: c.set_drive("sim", 256, "off", "noisy"),
            ("set_service", "sim", 256, False, ME, "noisy"),
        ),
        (lambda c: c.set_drive("sim", 256, "on"), ("set_service", "sim", 256, True, ME, f"said {ME}")),
        (lambda c: c.library_report("sim"), ("report", "sim")),
        (lambda c: c.repack(barcode="T1", pool="b"), ("repack", Wanted("T1", pool="b"), ME, False)),
        (lambda c: c.repack(sparse=40, dry_run=True), ("repack", Wanted(sparse_percent=40), ME, True)),
        (lambda c: c.stop_repack("T1"), ("stop repack", "T1", ME)),
        (lambda c: c.backup_catalog("near", 3), ("backup", "near", ME, 3)),
        (lambda c: c.drill(2), ("drill", 2, "", ME)),
        (lambda c: c.drill(2, "tape"), ("drill", 2, "tape", ME)),
        (lambda c: c.scan("T1"), ("scan", "T1", ME, False, "")),
        (lambda c: c.scan("T1", adopt=True, pool="b"), ("scan", "T1", ME, True, "b")),
        (lambda c: c.clean("sim", 256), ("clean", "sim", 256, ME)),
        (lambda c: c.move("T1", "B 4/2"), ("move", "T1", "B 4/2", ME)),
        (lambda c: c.retire("T1"), ("retire", "T1", ME)),
        (lambda c: c.operator_done("T1", "was in B4"), ("operator_done", "T1", ME, "was in B4")),
        (lambda c: c.operator_refuse("T1", "lent out"), ("operator_refuse", "T1", ME, "lent out")),
        (lambda c: c.acknowledge("T1", 600), ("acknowledge", "T1", ME, 600, False)),
        (lambda c: c.acknowledge("T1", take=True), ("acknowledge", "T1", ME, None, True)),
        (lambda c: c.release("T1"), ("release", "T1", ME)),
        (
            lambda c: c.answer("T1", "cannot-find", "not in B4", id=7),
            ("answer", "T1", "cannot find", ME, "not in B4", 7, "", ""),
        ),
        (
            lambda c: c.answer("T1", "wrong-site", site="north"),
            ("answer", "T1", "wrong site", ME, "", None, "north", ""),
        ),
        (
            lambda c: c.answer("T1", "substitute", volume="T2"),
            ("answer", "T1", "substituted", ME, "", None, "", "T2"),
        ),
        (lambda c: c.operator_scan("T1"), ("operator_scan", "T1", ME)),
        (lambda c: c.movement("T1", "left", "by car"), ("left", "T1", ME, "by car")),
        (lambda c: c.movement("T1", "arrived", shelf="B4"), ("arrived", "T1", ME, "", "B4")),
        (lambda c: c.movement("T1", "undo"), ("undo", "T1", ME, "")),
        (lambda c: c.load("T1", 256), ("load", "T1", 256, ME)),
        (lambda c: c.unload("sim", 256), ("unload", "sim", 256, ME)),
        (lambda c: c.export("T1", "A3"), ("export", "T1", "A3", ME)),
        (lambda c: c.import_("T1"), ("import", "T1", ME)),
        (lambda c: c.run_policies("keep", dry_run=True), ("run", "keep", True, ME)),
        (lambda c: c.run_policies(), ("run", None, False, ME)),
        (lambda c: c.check_policies({"a.policy": "x"}), ("check", {"a.policy": "x"})),
        (lambda c: c.check_policies(), ("check", None)),
        (lambda c: c.resume_policy("keep"), ("resume", "keep", ME)),
        (lambda c: c.activate_policies("CT first"), ("activate", ME, "CT first", None)),
        (lambda c: c.activate_policies(version=3), ("activate", ME, "", 3)),
        (lambda c: c.diff_policies(), ("diff", None, None)),
        (lambda c: c.diff_policies(2, {"a.yaml": "x"}), ("diff", 2, {"a.yaml": "x"})),
        (lambda c: c.plan(12.5), ("plan", 12.5)),
        (lambda c: c.reload(), ("reload",)),
    ],
)
def test_every_act_reaches_its_service_with_who_asked(client: Client, script: Script, act, asked) -> None:
    act(client)
    assert script.asked == [asked]


def test_a_barcode_with_strange_characters_stays_one_name(client: Client, script: Script) -> None:
    client.retire("A ?#%41")
    assert script.asked == [("retire", "A ?#%41", ME)]
    with pytest.raises(BadRequest, match="cannot be a name"):
        client.retire("A/label")


def test_a_name_the_caller_gives_is_kept_beside_the_kernel_s(home: Path, script: Script) -> None:
    with Client(home / "hsm.sock", by="al\x1bice") as client:
        client.retire("T1")
    assert script.asked == [("retire", "T1", f"alice (as {ME})")]


def test_recalls_are_asked_for_one_by_one_with_their_priority(client: Client, script: Script) -> None:
    script.answers["request_study"] = {"packages": 1, "requests": [5], "state": "queued", "eta": "soon"}
    found = client.recall([LONG_UID, "1.2.3"], "stat")
    assert [record["requests"] for record in found] == [[5], [5]]
    assert script.asked == [
        ("request_study", LONG_UID, Priority.STAT, f"recall by {ME}"),
        ("request_study", "1.2.3", Priority.STAT, f"recall by {ME}"),
    ]


def test_one_bad_uid_recalls_nothing(client: Client, script: Script) -> None:
    with pytest.raises(BadRequest, match="not a UID"):
        client.recall([LONG_UID, "1..2"])
    with pytest.raises(BadRequest, match="priority 'now'"):
        client.recall([LONG_UID], "now")
    with pytest.raises(BadRequest, match="1 to 1000"):
        client.recall(["1.2"] * 1001)
    assert script.asked == []


@pytest.mark.parametrize(
    ("raised", "expected", "kind", "code"),
    [
        (RefusedByPromise("the last copy stays"), Refused, "refused", 4),
        (Conflict("other bytes"), Refused, "refused", 4),
        (OperatorNeeded("mail slots are full"), Refused, "operator needed", 4),
        (BadInput("no such pool"), BadRequest, "bad input", 2),
        (NotFound("no volume"), Problem, "not found", 1),
        (ConfigError("line 3"), Problem, "configuration", 1),
        (Retryable("busy"), Problem, "retry later", 1),
        (Corrupt("digest"), Problem, "corrupt", 1),
        (Permanent("read only"), Problem, "failed", 1),
    ],
)
def test_an_error_keeps_its_words_and_gets_its_exit_code(
    client: Client, script: Script, raised: Exception, expected: type[Exception], kind: str, code: int
) -> None:
    script.answers["retire"] = raised
    with pytest.raises(expected) as caught:
        client.retire("T1")
    assert str(caught.value) == str(raised)
    assert (caught.value.kind, caught.value.exit_code) == (kind, code)


def test_a_bug_is_told_without_its_details(client: Client, script: Script, caplog) -> None:
    script.answers["retire"] = ZeroDivisionError("secret 4711")
    with pytest.raises(Problem) as caught:
        client.retire("T1")
    assert caught.value.kind == "internal"
    assert "4711" not in str(caught.value)
    assert "secret 4711" in caplog.text


def test_times_digests_and_paths_have_a_form_in_json(client: Client, script: Script) -> None:
    script.answers["reload"] = {
        "path": Path("/etc/hsm.yaml"),
        "digest": b"\xff\x00",
        "p": Priority.STAT,
        "t": (1,),
    }
    assert client.reload() == {"path": "/etc/hsm.yaml", "digest": "ff00", "p": "stat", "t": [1]}


def test_a_body_over_the_limit_is_refused_whether_it_says_its_length_or_not(
    http: httpx.Client, script: Script
) -> None:
    big = b'{"texts": {"a": "' + b"x" * (1 << 20) + b'"}}'
    assert http.post("/v1/policies/check", content=big).status_code == 413
    assert http.post("/v1/policies/check", content=iter([big[:500_000], big[500_000:]])).status_code == 413
    assert script.asked == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"shelf": 5}', "shelf: expected str"),
        (b'{"colour": "red"}', "unknown member 'colour'"),
        (b"{}", "missing: shelf"),
    ],
)
def test_a_body_is_checked_before_anything_is_done(
    http: httpx.Client, script: Script, content: bytes, words: str
) -> None:
    answer = http.post("/v1/volumes/T1/move", content=content)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert script.asked == []


def test_what_the_api_does_not_know_is_json_too(http: httpx.Client) -> None:
    for method, path, status in (("GET", "/", 404), ("GET", "/v2/x", 404), ("DELETE", "/v1/status", 405)):
        answer = http.request(method, path)
        assert answer.status_code == status, (method, path)
        assert set(answer.json()) == {"error", "kind", "hint"}


def test_reading_never_changes_anything_by_get(http: httpx.Client, script: Script) -> None:
    assert http.get("/v1/reload").status_code in (404, 405)
    assert script.asked == []


def test_a_request_over_its_time_is_told_so() -> None:
    import asyncio

    async def never(scope, receive, send) -> None:
        await asyncio.Event().wait()

    sent = []

    async def send(message) -> None:
        sent.append(message)

    async def receive():
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/v1/status"}
    asyncio.run(Limits(never, read_seconds=0.01)(scope, receive, send))
    assert sent[0]["status"] == 504
    assert b'"time-out"' in sent[1]["body"]
