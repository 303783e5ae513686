"""Discs that burn badly, and discs that are full: marked, the next blank is taken, nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivers.errors import Permanent
from drivers.optical import xorriso
from hsm.states import VolumeState
from tests.sim.conftest import MakeWorld
from tests.sim.world import ROAD, Shape, World

pytestmark = pytest.mark.skipif(shutil.which("xorriso") is None, reason="xorriso is not installed")


def jukebox(capacity: int) -> Callable[[Path], dict[str, Any]]:
    def options(home: Path) -> dict[str, Any]:
        found = {"images": str(home / "library"), "discs": 4, "drives": 1, "spool": str(home / "spool")}
        return {"driver": "optical", "options": {**found, "capacity_bytes": capacity}}

    return options


def discs(make_world: MakeWorld, capacity: int = 8 << 20) -> World:
    return make_world(policies=ROAD, shape=Shape(library=jukebox(capacity)))


def states(world: World) -> dict[str, VolumeState]:
    return {f"DISC00{number}": world.volume(f"DISC00{number}").state for number in (1, 2, 3, 4)}


@pytest.mark.parametrize("how", ["the burner gives up", "the medium reads otherwise"])
def test_a_bad_burn_marks_the_disc_and_the_next_blank_gets_the_study(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    world = discs(make_world)
    burn, spoilt = xorriso.burn, []

    def burnt(device: str, tree: Path, name: str, **options: Any) -> None:
        if not (tree / "DICOM").exists() or spoilt:  # a label, or a disc after the bad one
            burn(device, tree, name, **options)
            return
        spoilt.append(name)
        if how == "the burner gives up":
            raise Permanent("burn: xorriso ended with 32: FATAL : SCSI error 03 0C 00, WRITE ERROR")
        burn(device, tree, name, **options)
        image = Path(device.removeprefix("stdio:"))
        part10 = next((tree / "DICOM").rglob("F*")).read_bytes()
        data = bytearray(image.read_bytes())
        data[data.rindex(part10[200:]) + 5] ^= 1
        image.write_bytes(data)

    monkeypatch.setattr(xorriso, "burn", burnt)
    world.store(1, 3)
    world.seal_all()
    world.follow()
    assert len(spoilt) == 1
    found = states(world)
    assert found[spoilt[0]] == VolumeState.SUSPECT
    good = [copy for copy, state in world.copies(1).items() if state == "verified"]
    assert len(good) == 1, world.copies(1)
    assert good[0][1] != spoilt[0]
    assert good[0][1].startswith("DISC")
    world.assert_readable(1)
    world.check()


@pytest.mark.campaign
def test_studies_go_on_to_the_next_disc_when_one_is_full(make_world: MakeWorld) -> None:
    world = discs(make_world, 2 << 20)
    for study in range(1, 4):
        world.store(study, 60)
    world.seal_all()
    world.follow()
    used = {volume for study in range(1, 4) for _, volume in world.copies(study) if volume.startswith("DISC")}
    assert len(used) > 1, world.copies()
    for study in range(1, 4):
        assert "verified" in {state for (_, volume), state in world.copies(study).items() if volume in used}
        world.assert_readable(study)
    world.check()


def test_a_restart_finds_the_discs_and_what_is_on_them(make_world: MakeWorld) -> None:
    world = discs(make_world)
    world.store(1, 2)
    world.seal_all()
    world.follow()
    world = world.rebuild()
    world.store(2, 2)
    world.seal_all()
    world.follow()
    for study in (1, 2):
        assert [volume for _, volume in world.copies(study) if volume.startswith("DISC")]
        world.assert_readable(study)
    world.check()
