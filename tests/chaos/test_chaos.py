"""An archive under every fault at once, from seeds; `make chaos` lives as many hours as one likes."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.chaos_defects import DEFECTS
from tests.chaos.chaos_effects import KINDS
from tests.chaos.chaos_provoke import SELDOM

LONG = os.environ.get("HSM_CHAOS") == "long"
"""The slower defects too, and a whole hour lived twice."""
SEEDS_MAX = 12
QUICK = {
    "the guard forgets what policy and law demand": 2,
    "guard and database let the last copy go": 2,
    "what is served is not digested": 1,
    "a package is sealed without its last member": 1,
    "a new daemon forgets what the dead one worked on": 12,
    "taking a request is not on record": 2,
    "a release is not on record": 2,
}
"""Defects that a life of a few minutes finds, and the seed that found them when this was written."""
HOURS = {"a prompt is asked again and again": 0.3}
"""What lives of a tenth of an hour seldom come to."""
assert {*QUICK, *HOURS} <= set(DEFECTS)


def chaos(seed: int, seeds: int = 1, hours: float = 0.1, **more: str) -> tuple[int, str]:
    """Exit code and what is said of lives in a process of their own."""
    given = {
        "HSM_CHAOS_SEED": f"{seed}",
        "HSM_CHAOS_SEEDS": f"{seeds}",
        "HSM_CHAOS_HOURS": f"{hours}",
        **{f"HSM_CHAOS_{name.upper()}": value for name, value in more.items()},
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos"],
        env=os.environ | given,
        capture_output=True,
        text=True,
        timeout=7200,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_an_archive_keeps_its_promises_under_every_fault_at_once(tmp_path: Path) -> None:
    seed = 1 if os.environ.get("CI") == "true" else random.SystemRandom().randrange(1 << 31)
    report = tmp_path / "report.json"
    code, said = chaos(seed, 2, 0.1, report=str(report))
    print(said)
    assert code == 0, said
    figures: dict[str, Any] = json.loads(report.read_text())
    assert set(figures["injected"]) <= set(KINDS)
    assert sum(figures["felt"].values()) > 0
    assert {name[0] for name in figures["checks"]} == set("1234567")
    assert figures["checks"]["3 a release leaves what policy demands"] > 0


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_each_kind_of_fault_can_be_felt(tmp_path: Path) -> None:
    """The short form: those that chance seldom brings. The long one lives on until every kind was felt."""
    report = tmp_path / "report.json"
    code, said = chaos(1, 1, 3.0 if LONG else 0.01, every="1", report=str(report))
    print(said)
    assert code == 0, said
    felt = json.loads(report.read_text())["felt"]
    assert [kind for kind in (KINDS if LONG else SELDOM) if not felt.get(kind)] == []


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_a_seed_lives_the_same_life_again() -> None:
    hours = 1.0 if LONG else 0.03
    traces = [re.findall(r"trace ([0-9a-f]+)", chaos(5, 1, hours)[1]) for _ in range(2)]
    assert len(traces[0]) == 1
    assert traces[0] == traces[1]


@pytest.mark.campaign
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("defect", sorted(DEFECTS) if LONG else QUICK)
def test_a_defect_that_is_planted_is_found_by_one_of_a_few_seeds(defect: str) -> None:
    code, said = chaos(QUICK.get(defect, 1), SEEDS_MAX, HOURS.get(defect, 0.1), defect=defect)
    print(said)
    assert code == 1, f"{defect}: not found"
    assert re.search(r"^AssertionError: ([1-7]|a fault of ours)", said, re.MULTILINE), said
