"""An optical jukebox (set-up ``jukebox``): the changer with the tools, and a disc burnt and read back."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from instruments import changer_device, mtx, run

DISC = Path("/dev/sr0")
DISCS = tuple(f"DVD000{number}" for number in range(1, 7))
SETTLE_SECONDS = 15.0


@pytest.fixture(autouse=True)
def library() -> Iterator[None]:
    """Instead of the tape library: the jukebox, its drive empty."""
    if not DISC.exists():
        pytest.skip("needs the laboratory's jukebox: run `make lab`")
    yield
    if "Data Transfer Element 0:Full" in mtx("status").stdout:
        run("sg_start", "--eject", DISC)
        assert mtx("unload").returncode == 0


def slots() -> dict[int, str]:
    """Slot -> barcode."""
    shown = mtx("status").stdout
    return {int(n): tag for n, tag in re.findall(r"Storage Element (\d+)[^:]*:Full :VolumeTag=(\S+)", shown)}


def load(slot: int) -> None:
    assert mtx("load", slot, 0).returncode == 0
    deadline = time.monotonic() + SETTLE_SECONDS
    while run("sg_turs", DISC).returncode and time.monotonic() < deadline:
        time.sleep(0.2)


def test_the_changer_shows_its_discs_and_moves_them() -> None:
    assert "PYTHON" not in run("sg_inq", changer_device()).stdout
    assert sorted(slots().values()) == sorted(DISCS)
    assert mtx("load", 1, 0).returncode == 0
    shown = mtx("status").stdout
    assert re.search(r"Data Transfer Element 0:Full .*VolumeTag *= ?DVD0001", shown), shown
    assert mtx("load", 2, 0).returncode != 0, "the drive is full"
    assert mtx("unload", 8, 0).returncode == 0
    assert slots()[8] == "DVD0001"
    assert mtx("transfer", 8, 9).returncode == 0, "into the mail slot"
    assert "DVD0001" in mtx("status").stdout.split("IMPORT/EXPORT")[1]
    assert mtx("transfer", 9, 1).returncode == 0


def test_a_disc_is_burnt_once_and_reads_back_after_it_was_moved(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    data = random.Random(3).randbytes(300_000)
    (tmp_path / "files" / "IM000001").write_bytes(data)
    load(2)
    burnt = run("growisofs", "-Z", DISC, "-R", "-quiet", tmp_path / "files", seconds=120)
    assert burnt.returncode == 0, burnt.stdout + burnt.stderr
    assert mtx("unload", 2, 0).returncode == 0
    load(2)
    there = run("xorriso", "-indev", DISC, "-osirrox", "on", "-extract", "/IM000001", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data, there.stderr
