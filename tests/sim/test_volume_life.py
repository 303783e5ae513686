"""A volume's life: scratch, foreign, labelled, recycled, retired, lost; which pool may have which."""

from __future__ import annotations

import pytest

from drivers.base import ElementKind
from drivers.simulated.library import SimulatedLibrary
from drivers.simulated.medium import make_foreign
from hsm.catalog import check, media
from hsm.errors import BadInput, Refused
from hsm.mediawatch import MediaWatch
from hsm.model import Place
from hsm.states import VolumeState
from tests.sim.conftest import MakeWorld
from tests.sim.world import NOTHING, TWO_TAPES, Shape, World

TO_TAPE = """\
policy: tape
priority: 1
copies: {tape: 1}
rules: [{name: to tape, copy to: tape}]
"""


def test_a_tape_with_a_backup_on_it_is_left_alone_and_overwritten_only_by_its_barcode(
    make_world: MakeWorld,
) -> None:
    world = make_world(policies=TO_TAPE)
    folder = world.library.medium_folder("HSM001L8")
    make_foreign(folder)
    before = (folder / "image").read_bytes()
    with pytest.raises(Refused, match=r"not blank and was left alone.*foreign"):
        world.volumes.label("HSM001L8", "tape", "alice")
    volume = world.volume("HSM001L8")
    assert (volume.state, volume.pool) == ("foreign", None)
    assert (folder / "image").read_bytes() == before
    shown = next(each for each in world.custody.inventory() if each["barcode"] == "HSM001L8")
    assert shown["state"] == "foreign"
    assert "no label of this archive" in str(shown["note"])
    with pytest.raises(Refused, match="--overwrite HSM001L8"):
        world.volumes.label("HSM001L8", "tape", "alice")
    with pytest.raises(BadInput, match="type the volume's barcode out"):
        world.volumes.label("HSM001L8", "tape", "alice", overwrite="HSM002L8")
    assert (folder / "image").read_bytes() == before
    done = world.volumes.label("HSM001L8", "tape", "alice", overwrite="HSM001L8")
    assert "no label of this archive" in str(done["was"])
    assert world.volume("HSM001L8").state == "labelled"
    assert any("alice, who overwrote" in entry for entry in actors(world, "HSM001L8"))
    world.store(1, 2)
    world.follow()
    assert world.on_tape(1) == ["HSM001L8"]
    world.check()


def actors(world: World, subject: str) -> list[str]:
    from hsm.catalog import journal

    with world.catalog.read() as session:
        return [entry.actor for entry in journal.history(session, subject)]


def test_a_volume_that_holds_copies_is_neither_overwritten_nor_recycled(make_world: MakeWorld) -> None:
    world = make_world(policies=TO_TAPE)
    world.store(1, 2)
    world.follow()
    for act in (
        lambda: world.volumes.label("HSM001L8", "tape", "alice", overwrite="HSM001L8"),
        lambda: world.volumes.recycle("HSM001L8", "alice", "old"),
        lambda: world.volumes.retire("HSM001L8", "alice", "old"),
    ):
        with pytest.raises(Refused, match="copies that count"):
            act()
    assert world.on_tape(1) == ["HSM001L8"]
    with pytest.raises(Refused, match="not a removable volume"):
        world.volumes.recycle("online", "alice")


def test_a_recycled_volume_is_labelled_anew_when_its_turn_comes(make_world: MakeWorld) -> None:
    world = make_world(policies=TO_TAPE, shape=Shape(cartridges=1))
    world.volumes.label("HSM001L8", "tape", "alice")
    first = world.volume("HSM001L8").uuid
    world.volumes.recycle("HSM001L8", "alice", "nothing came")
    assert (world.volume("HSM001L8").state, world.volume("HSM001L8").pool) == ("recycled", None)
    assert ("recycled", {"why": "nothing came"}) in world.history("HSM001L8")
    world.store(1, 2)
    world.follow()
    assert world.on_tape(1) == ["HSM001L8"]
    assert world.volume("HSM001L8").uuid != first
    world.assert_readable(1)
    world.check()


def test_a_write_once_cartridge_is_retired_and_never_recycled(make_world: MakeWorld) -> None:
    world = make_world()
    with world.catalog.write() as session:
        pk = media.add_volume(
            session,
            media.VolumeRef(
                *(0, "HSM009LY", "u9", "tape", VolumeState.FULL, True, 0, 0, None),
                *(media.Place.SHELF, None, "A1", True),
            ),
            world.now(),
            "test",
        )
        assert media.volume_by_key(session, pk).worm
    with pytest.raises(Refused, match="write-once"):
        world.volumes.recycle("HSM009LY", "alice")
    assert world.volumes.retire("HSM009LY", "alice", "full")["state"] == "retired"


def test_a_lost_volume_takes_its_copies_with_it_and_policy_makes_up_for_them(make_world: MakeWorld) -> None:
    world = make_world(policies=TWO_TAPES)
    for study in (1, 2):
        world.store(study, 2)
    world.follow()
    assert world.on_tape(1) == ["HSM001L8", "HSM002L8"]
    world.custody.export("HSM001L8", "B3", "alice")
    done = world.volumes.lost("HSM001L8", "alice", "fell into the lift shaft")
    assert (done["copies"], done["requests"], done["without_copy"]) == (2, 2, 0)
    assert world.copies(1)["1.p0001", "HSM001L8"] == "lost"
    assert world.volume("HSM001L8").error == "fell into the lift shaft"
    for _ in range(3):
        world.later()
    assert world.on_tape(1) == world.on_tape(2) == ["HSM002L8", "HSM003L8"]
    world.assert_readable(1)
    world.check()
    # It turns up again: nothing on it is believed before it was read back.
    world.library.hand_insert("HSM001L8")
    world.custody.inventory()
    assert world.volume("HSM001L8").state == "suspect"
    assert world.copies(1)["1.p0001", "HSM001L8"] == "suspect"
    world.volumes.verify("HSM001L8", "alice")
    world.settle()
    assert world.copies(1)["1.p0001", "HSM001L8"] == "verified"
    world.check()


def test_a_volume_that_is_given_up_while_it_lies_in_the_library_stays_given_up(
    make_world: MakeWorld,
) -> None:
    world = make_world(policies=TWO_TAPES)
    world.store(1, 2)
    world.follow()
    world.volumes.lost("HSM001L8", "alice", "its leader is torn off")
    world.custody.inventory()
    world.later()
    assert world.volume("HSM001L8").state == "lost"
    assert world.on_tape(1) == ["HSM002L8", "HSM003L8"]
    world.check()


def test_packages_whose_last_copy_is_lost_are_told(make_world: MakeWorld) -> None:
    world = make_world()
    world.store(1, 2)
    world.follow()
    assert [volume for _, volume in world.copies(1) if world.copies(1)["1.p0001", volume] == "verified"] == [
        "HSM001L8"
    ]
    wait = world.retrieve(1)
    done = world.volumes.lost("HSM001L8", "alice", "burnt")
    assert done["without_copy"] == 1
    assert "1.p0001.tar" in str(done["named"])
    world.settle()
    assert len(wait.look().lost) == 2, "who waits is told, and not kept waiting"
    wait.close()
    with world.catalog.read() as session:
        assert ["1.p0001.tar" in str(each) for each in check.check(session)] == [True], (
            "and so is the auditor"
        )


def test_each_pool_begins_only_the_cartridges_that_are_for_it(make_world: MakeWorld) -> None:
    world = make_world(
        policies=TO_TAPE, shape=Shape(tape={"scratch": ["HSM003L8", "VLT*"], "scratch_low": 2})
    )
    watch = MediaWatch(world.catalog, world.pools)
    assert "1 blank cartridges are left" in watch.problems()[0]
    with pytest.raises(Refused, match="not for pool tape"):
        world.volumes.label("HSM001L8", "tape", "alice")
    world.store(1, 2)
    world.follow()
    assert world.on_tape(1) == ["HSM003L8"]
    assert "0 blank cartridges are left" in watch.problems()[0]
    world.check()


def test_a_pool_is_named_where_several_may_have_a_cartridge(make_world: MakeWorld) -> None:
    vault = {"name": "vault", "tier": "offline", "library": "library", "scratch": "HSM00[34]L8"}
    world = make_world(policies=NOTHING, shape=Shape(pools=(vault,), tape={"scratch": "HSM00[123]L8"}))
    assert world.volumes.label("HSM001L8", "", "alice")["pool"] == "tape"
    assert world.volumes.label("HSM004L8", "", "alice")["pool"] == "vault"
    with pytest.raises(Refused, match="may go to: tape, vault"):
        world.volumes.label("HSM003L8", "", "alice")


def test_a_full_library_says_so_and_which_cartridges_may_go(make_world: MakeWorld) -> None:
    world = make_world(policies=TWO_TAPES, shape=Shape(cartridges=4, slots=4, mail_slots=1))
    world.store(1, 2)
    world.follow()
    loaded = [drive for drive in world.library.inventory().drives() if drive.barcode is not None]
    idle = loaded[-1]
    world.custody.unload("library", idle.address, "alice")
    watch = MediaWatch(world.catalog, world.pools)
    assert watch.problems() == [], "those in the drives have slots to go back to"

    more = ("HSM008L8", "HSM009L8")
    SimulatedLibrary(world.home / "library", on_shelf=more)
    for barcode in more:  # into the mail slot, and the last free slot
        world.library.hand_insert(barcode)
    world.custody.inventory()
    (problem,) = watch.problems()
    assert "is full: 0 free slots for 1 loaded drives, which cannot all be unloaded" in problem
    assert f"take cartridges out ({idle.barcode}: nothing waits for them)" in problem, "blank ones stay"

    wait = world.retrieve(1)
    (problem,) = watch.problems()
    assert str(idle.barcode) not in problem, "somebody waits for what is on it"
    wait.close()


def test_after_a_stop_the_catalog_has_what_came_out_of_the_drives_where_it_lies(
    make_world: MakeWorld,
) -> None:
    world = make_world(policies=TO_TAPE)
    world.store(1, 2)
    world.follow()
    (barcode,) = world.on_tape(1)
    world.custody.unmount_all()
    lies = world.library.inventory().find(barcode)
    assert lies is not None
    assert lies.kind is ElementKind.SLOT
    with world.catalog.read() as session:
        volume = media.volume(session, barcode)
    assert (volume.place, volume.element) == (Place.SLOT, lies.address)
