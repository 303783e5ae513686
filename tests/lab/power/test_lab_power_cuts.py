"""The machine is cut off in mid-write, again and again: what a flush covered is there, nothing else counts.

Runs outside: each cut is a boot of its own, with the cartridges kept. HSM_LAB_CUTS and HSM_LAB_SEED
change the campaign.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import machine
import pytest

HERE = Path(__file__).resolve().parent
CUTS = int(os.environ.get("HSM_LAB_CUTS", "10"))
BOOT_SECONDS = 900.0
"""A boot, and a daemon that finishes what was begun, on a machine that has other work too."""


@pytest.fixture(autouse=True)
def library() -> None:
    """Instead of the one inside: only the kernel is needed here."""
    if machine.shutil.which(machine.KERNEL, path=machine.packages.PATH) is None:
        pytest.skip(f"needs {machine.KERNEL}: run `make lab`")


def boot(folder: Path, cutter: str, seed: int, *more: str, last: bool) -> machine.Ended:
    words = (sys.executable, str(HERE / cutter), str(folder), str(seed), *more, *(["--last"] if last else []))
    said: list[str] = []
    plan = machine.Plan(
        words, writable=(folder,), limit_seconds=BOOT_SECONDS, memory_mib=1024, media=folder / "media"
    )
    ended = machine.boot(plan, said.append)
    assert not ended.out_of_time, "".join(said)
    assert last or ended.status is None, f"the writer ended by itself ({ended.status}): {''.join(said)}"
    assert not last or ended.status == 0, "".join(said)
    return ended


def seed_of_campaign() -> int:
    seed = int(os.environ.get("HSM_LAB_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    return seed


def real_ltfs() -> str | None:
    return shutil.which("mkltfs", path=f"{os.environ['PATH']}:{os.environ.get('HSM_LTFS_BIN', '')}")


FORMS = [
    pytest.param((), id="plain"),
    pytest.param(
        ("--ltfs",),
        id="ltfs",
        marks=pytest.mark.skipif(real_ltfs() is None, reason="no real LTFS (HSM_LTFS_BIN, or on the path)"),
    ),
]


@pytest.mark.parametrize("form", FORMS)
def test_an_archive_loses_nothing_and_finishes_by_itself_after_power_cuts_in_mid_write(
    tmp_path: Path, form: tuple[str, ...]
) -> None:
    seed, verified, unfinished = seed_of_campaign(), 0, 0
    for cut in range(CUTS + 1):
        (tmp_path / "report").unlink(missing_ok=True)
        boot(tmp_path, "daemoncutter.py", seed + cut, *form, last=cut == CUTS)
        report = json.loads((tmp_path / "report").read_text())
        print(report)
        assert report.get("broken", []) == [], f"seed {seed}, after cut {cut}: verified and not there"
        before = report.get("verified before", 0)
        assert before >= verified, f"seed {seed}, after cut {cut}: {verified} were verified, {before} are"
        verified = report["verified"]
        unfinished += before < report["acknowledged"]
        assert verified >= report["acknowledged"]
    assert report["changed"] == [], f"seed {seed}: acknowledged and not the same when retrieved"
    assert unfinished, f"seed {seed}: no cut of {CUTS} came in mid-write: nothing was attacked"


def test_whatever_a_flush_covered_survives_power_cuts_at_random_moments(tmp_path: Path) -> None:
    seed, counted = seed_of_campaign(), 0
    for cut in range(CUTS + 1):
        (tmp_path / "report").unlink(missing_ok=True)
        boot(tmp_path, "cutter.py", seed + cut, last=cut == CUTS)
        report = json.loads((tmp_path / "report").read_text())
        assert report["lost"] == [], f"seed {seed}, after cut {cut}: flushed and not there"
        assert report["wrong"] == [], f"seed {seed}, after cut {cut}: there and not what was written"
        assert len(report["listed"]) >= counted
        counted = len(report["listed"])
    assert counted >= CUTS, f"seed {seed}: {CUTS} cuts and only {counted} packages: nothing was attacked"
