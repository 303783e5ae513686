"""Cartridges that nobody can bring, that are found again, and that are read back when somebody asks."""

from __future__ import annotations

import pytest

from drivers.simulated.medium import flip_byte
from hsm.catalog import media
from hsm.errors import NotFound
from hsm.states import VolumeState
from tests.sim.conftest import MakeWorld
from tests.sim.world import NEARLINE, NOTHING, Shape, World, study_uid

TAPE = """\
policy: tape
priority: 1
copies: {tape: 1}
rules:
  - {name: to tape, copy to: tape}
  - {name: free online, release from: online, when: copies(tape) >= 1}
"""


def refused(make_world: MakeWorld, policies: str = TAPE) -> World:
    """A study on one cartridge, and the operator cannot find it."""
    world = make_world(policies=policies)
    world.store(1, 2)
    world.follow()
    world.custody.export("HSM001L8", "B3", "alice")
    wait = world.retrieve(1)
    world.settle()
    world.custody.operator_refuse("HSM001L8", "alice", "the safe is locked until Monday")
    world.settle()
    assert len(wait.look().lost) == 2
    wait.close()
    volume = world.volume("HSM001L8")
    assert (volume.state, volume.place) == ("suspect", "unknown")
    assert "the safe is locked until Monday" in volume.error
    return world


def counts_again(world: World) -> None:
    volume = world.volume("HSM001L8")
    assert (volume.state, volume.error) == ("active", "")
    assert any(detail.get("why") == "it is there again" for _, detail in world.history("HSM001L8"))
    world.assert_readable(1)
    assert [run["requests"] for run in world.run_policies()["runs"]] == [0], "its copy counts"
    world.check()


def test_a_cartridge_that_could_not_be_brought_counts_again_when_it_is_imported(
    make_world: MakeWorld,
) -> None:
    world = refused(make_world)
    world.custody.import_("HSM001L8", "bob")
    counts_again(world)


def test_a_cartridge_that_could_not_be_brought_counts_again_when_the_inventory_sees_it(
    make_world: MakeWorld,
) -> None:
    world = refused(make_world)
    world.library.hand_insert("HSM001L8")
    world.custody.inventory()
    counts_again(world)


def test_a_cartridge_that_was_found_on_another_shelf_first_counts_again(make_world: MakeWorld) -> None:
    world = refused(make_world)
    world.volumes.move("HSM001L8", "C1", "bob")
    assert world.volume("HSM001L8").state == "suspect", "nobody has seen it in the library yet"
    world.custody.import_("HSM001L8", "bob")
    counts_again(world)


def test_while_a_cartridge_is_missing_its_copy_does_not_count(make_world: MakeWorld) -> None:
    world = make_world(policies=TAPE.replace("copies(tape) >= 1}", "copies(tape) >= 3}"))
    world.store(1, 2)
    world.follow()
    world.custody.export("HSM001L8", "B3", "alice")
    world.volumes.verify("HSM001L8", "alice")
    world.settle()
    world.custody.operator_refuse("HSM001L8", "alice", "")
    world.run_policies()
    world.later()
    assert world.on_tape(1) == ["HSM001L8", "HSM002L8"], "policy has made up for it"
    world.check()


def test_a_volume_that_is_suspect_for_something_else_stays_so_when_it_is_found(
    make_world: MakeWorld,
) -> None:
    world = make_world(policies=TAPE)
    world.store(1, 2)
    world.follow()
    world.custody.export("HSM001L8", "B3", "alice")
    with world.catalog.write() as session:
        pk = media.volume(session, "HSM001L8").pk
        media.move_volume(session, pk, VolumeState.SUSPECT, world.now(), "test", "it was dropped")
    wait = world.retrieve(1)
    world.settle()
    world.custody.operator_refuse("HSM001L8", "alice", "not in its box")
    world.settle()
    wait.close()
    world.custody.import_("HSM001L8", "bob")
    volume = world.volume("HSM001L8")
    assert (volume.state, volume.error) == ("suspect", "it was dropped")
    world.assert_readable(1)
    assert world.volume("HSM001L8").state == "suspect"


def test_a_volume_on_tape_is_read_back_when_asked(make_world: MakeWorld) -> None:
    world = make_world(policies=TAPE, shape=Shape(cartridges=1))
    for study in (1, 2):
        world.store(study, 2)
    world.follow()
    world.use_policies(NOTHING)
    flip_byte(world.library.medium_folder("HSM001L8"), world.tar_of(2), 700)
    assert world.volumes.verify("HSM001L8", "alice") == {"barcode": "HSM001L8", "requests": 2}
    assert world.volumes.verify("HSM001L8", "alice")["requests"] == 0, "they are queued already"
    world.settle()
    assert world.copies(1)["1.p0001", "HSM001L8"] == "verified"
    assert world.copies(2)["2.p0001", "HSM001L8"] == "suspect"
    told = [detail for verb, detail in world.history(study_uid(1)) if verb == "copy verified"]
    assert [detail["volume"] for detail in told] == ["online", "HSM001L8", "HSM001L8"]
    first, _ = world.requests(kind="verify")
    assert first.state == "done"
    assert first.reason == "asked for by alice"
    world.check()


@pytest.mark.parametrize("pool", ["online", "nearline"])
def test_a_volume_on_disk_is_read_back_when_asked(make_world: MakeWorld, pool: str) -> None:
    world = make_world(policies=NEARLINE)
    for study in (1, 2):
        world.store(study, 2)
    world.follow()
    world.use_policies(NOTHING)
    damaged = world.online_file(2, 2) if pool == "online" else world.home / pool / world.tar_of(2)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    assert world.volumes.verify(pool, "alice")["requests"] == 2
    world.settle()
    assert world.copies(1)["1.p0001", pool] == "verified"
    assert world.copies(2)["2.p0001", pool] == "suspect"
    assert [request.state for request in world.requests(kind="verify")] == ["done", "failed"]
    world.check()


def test_a_volume_that_nobody_knows_is_not_read_back(world: World) -> None:
    with pytest.raises(NotFound, match="NOSUCH"):
        world.volumes.verify("NOSUCH", "alice")


def test_a_shelved_volume_is_asked_for_to_be_read_back_and_not_twice_when_refused(
    make_world: MakeWorld,
) -> None:
    world = make_world(policies=TAPE)
    world.store(1, 2)
    world.follow()
    world.custody.export("HSM001L8", "B3", "alice")
    world.volumes.verify("HSM001L8", "alice")
    world.settle()
    assert world.prompts() == ["HSM001L8"]
    world.use_policies(NOTHING)
    world.custody.operator_refuse("HSM001L8", "alice", "burnt")
    world.settle()
    assert world.prompts() == []
    (verify,) = world.requests(kind="verify")
    assert (verify.state, verify.error) == ("failed", "nobody knows where HSM001L8 is")
    world.custody.import_("HSM001L8", "bob")
    world.volumes.verify("HSM001L8", "alice")
    world.settle()
    assert [request.state for request in world.requests(kind="verify")] == ["failed", "done"]
    world.check()
