"""Prefetches over the API: what a scheduling system posts, and what is wrong with it."""

from __future__ import annotations

import os
import pwd
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_world import Script

from hsm.errors import NotFound
from hsm.prefetch import Wanted

ME = pwd.getpwuid(os.getuid()).pw_name
GOOD = {"key": "ris:4711", "patient_id": "P1", "scheduled": "2026-03-01T08:30:00+01:00"}


@pytest.fixture
def http(home: Path):
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(home / "hsm.sock")), base_url="http://hsm"
    ) as opened:
        yield opened


def test_what_is_posted_is_passed_on_and_answered_202(http: httpx.Client, script: Script) -> None:
    more = {"modality": "CT", "body_part": "HEAD", "accession": "A7", "issuer": "X", "at_most": 5}
    answer = http.post("/v1/prefetch", json=GOOD | more | {"margin_seconds": 600})
    assert answer.status_code == 202
    (asked,) = [each for each in script.asked if each[0] == "prefetch"]
    at = datetime(2026, 3, 1, 7, 30, tzinfo=UTC)
    wanted = Wanted("P1", "X", "CT", "HEAD", "A7", 5)
    assert asked == ("prefetch", "ris:4711", wanted, at, ME, timedelta(minutes=10))


def test_it_is_shown_and_withdrawn_by_its_key(http: httpx.Client, script: Script) -> None:
    assert http.get("/v1/prefetch/ris:4711").status_code == 200
    assert http.post("/v1/prefetch/ris:4711/withdraw", json={}).status_code == 200
    assert [each for each in script.asked if each[0].startswith("prefetch_")] == [
        ("prefetch_show", "ris:4711"),
        ("prefetch_withdraw", "ris:4711", ME),
    ]
    script.answers["prefetch_show"] = NotFound("there is no prefetch 'x'")
    assert http.get("/v1/prefetch/x").status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"patient_id": ""},
        {"scheduled": "tomorrow"},
        {"at_most": 0},
        {"at_most": "3"},
        {"margin_seconds": -1},
        {"margin_seconds": 10**9},
        {"patient_name": "Doe"},
        {"modality": "C\nT"},
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_asked(
    http: httpx.Client, script: Script, wrong: dict[str, Any]
) -> None:
    answer = http.post("/v1/prefetch", json=GOOD | wrong)
    assert answer.status_code == 400
    assert not [each for each in script.asked if each[0] == "prefetch"]
