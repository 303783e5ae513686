"""Scans: a cartridge is compared with the catalog, and what is unknown is taken in when it is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from drivers.simulated.medium import flip_byte, make_foreign
from hsm.errors import Refused
from tests.sim.conftest import MakeWorld
from tests.sim.test_volume_life import TO_TAPE
from tests.sim.world import NOTHING, World, study_uid


def written(world: World) -> World:
    for study in (1, 2):
        world.store(study, 2)
    world.follow()
    world.custody.unmount_all()
    world.custody.inventory()
    return world


@pytest.fixture
def other(tmp_path: Path, sqlite_template: Path) -> World:
    """Another archive, with its own catalog and cartridges."""
    shutil.copyfile(sqlite_template, tmp_path / "other.db")
    return World(tmp_path / "other", f"sqlite:///{tmp_path}/other.db", policies=TO_TAPE)


def test_a_scan_of_a_cartridge_that_is_what_the_catalog_says_finds_nothing_new(make_world: MakeWorld) -> None:
    world = written(make_world(policies=TO_TAPE))
    found = world.scan.scan("HSM001L8", "alice")
    assert (found["known"], found["unknown"], found["missing"]) == (2, 0, 0)
    assert "pool 'tape'" in world.volume("HSM001L8").content
    assert world.scan.scan("HSM004L8", "alice")["says"] == "blank"
    make_foreign(world.library.medium_folder("HSM003L8"))
    assert "no label of this archive" in str(world.scan.scan("HSM003L8", "alice")["says"])
    assert world.volume("HSM003L8").state == "foreign"
    world.check()


def test_what_the_catalog_expects_and_is_not_there_is_suspect(make_world: MakeWorld) -> None:
    world = written(make_world(policies=TO_TAPE))
    index = world.library.medium_folder("HSM001L8") / "index.json"
    stored = json.loads(index.read_text())
    stored["objects"] = [each for each in stored["objects"] if not each[0].endswith(world.tar_of(1))]
    index.write_text(json.dumps(stored))
    found = world.scan.scan("HSM001L8", "alice")
    assert (found["known"], found["missing"]) == (1, 1)
    assert world.copies(1)["1.p0001", "HSM001L8"] == "suspect"
    assert world.copies(2)["2.p0001", "HSM001L8"] == "verified"
    world.check()


def test_a_cartridge_of_another_archive_is_imported_and_its_studies_come_back_whole(
    make_world: MakeWorld, other: World
) -> None:
    written(other)
    world = make_world(policies=NOTHING)
    shutil.copytree(
        other.library.medium_folder("HSM001L8"), world.library.medium_folder("HSM001L8"), dirs_exist_ok=True
    )
    seen = world.scan.scan("HSM001L8", "alice")
    assert (seen["known"], seen["unknown"], seen["adopted"]) == (0, 2, 0)
    assert world.copies() == {}, "looking changes nothing"
    with pytest.raises(Refused, match="name one with --pool"):
        world.scan.scan("HSM001L8", "alice", adopt=True, pool="nearline")
    done = world.scan.scan("HSM001L8", "alice", adopt=True)
    assert (done["adopted"], done["refused"]) == (2, 0)
    assert world.on_tape(1) == world.on_tape(2) == ["HSM001L8"]
    assert (world.volume("HSM001L8").state, world.volume("HSM001L8").pool) == ("full", "tape")
    again = world.scan.scan("HSM001L8", "alice", adopt=True)
    assert (again["known"], again["adopted"]) == (2, 0)
    world.acknowledged.update(other.acknowledged)
    world.assert_readable(1)
    world.assert_readable(2)
    assert [verb for verb, _ in world.history(study_uid(1))][:2] == ["received", "sealed"]
    world.check()
    other.close()


def test_a_spoilt_package_is_not_adopted_and_keeps_no_other_one_out(
    make_world: MakeWorld, other: World
) -> None:
    written(other)
    flip_byte(other.library.medium_folder("HSM001L8"), other.tar_of(1), 20_000)
    world = make_world(policies=NOTHING)
    shutil.copytree(
        other.library.medium_folder("HSM001L8"), world.library.medium_folder("HSM001L8"), dirs_exist_ok=True
    )
    done = world.scan.scan("HSM001L8", "alice", adopt=True)
    assert (done["adopted"], done["refused"]) == (1, 1)
    assert world.on_tape(2) == ["HSM001L8"]
    assert world.copies(1) == {}
    world.check()
    other.close()


def test_a_copy_that_the_catalog_has_lost_sight_of_is_taken_in_again(
    make_world: MakeWorld, other: World
) -> None:
    """The same studies are known here already: the cartridge is one more copy of them."""
    written(other)
    world = written(make_world(policies=TO_TAPE))
    folder = world.library.medium_folder("HSM004L8")
    shutil.copytree(other.library.medium_folder("HSM001L8"), folder, dirs_exist_ok=True)
    label = json.loads((folder / "label.json").read_text())
    (folder / "label.json").write_text(json.dumps(label | {"barcode": "HSM004L8"}))
    done = world.scan.scan("HSM004L8", "alice", adopt=True)
    refused = done["refused"]
    assert (done["adopted"], refused) in ((2, 0), (0, 2)), "the same package, or another one of its name"
    assert len(world.on_tape(1)) == (2 if refused == 0 else 1)
    world.check()
    other.close()


def test_a_cartridge_under_another_ones_sticker_is_left_alone(make_world: MakeWorld) -> None:
    world = written(make_world(policies=TO_TAPE))
    shutil.copytree(
        world.library.medium_folder("HSM001L8"), world.library.medium_folder("HSM003L8"), dirs_exist_ok=True
    )
    with pytest.raises(Refused, match="which sticker is right"):
        world.scan.scan("HSM003L8", "alice", adopt=True)
    world.custody.export("HSM001L8", "A1", "alice")
    with pytest.raises(Refused, match="bring it in"):
        world.scan.scan("HSM001L8", "alice")
    world.check()
