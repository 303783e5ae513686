"""Hands, mail slots, prompts and barcodes."""

from __future__ import annotations

import pytest

from hsm.errors import NotFound, OperatorNeeded, Refused
from tests.sim.conftest import MakeWorld
from tests.sim.world import NOTHING, TWO_TAPES, Shape, World


def shelved(make_world: MakeWorld, **options: object) -> World:
    """A study whose cartridges are on the shelf."""
    world = make_world(**options)
    world.store(1, 2)
    world.follow()
    for barcode in world.on_tape(1):
        world.custody.export(barcode, "B3", "alice")
    return world


def test_a_shelved_cartridge_is_asked_for_once_and_its_return_answers_the_prompt(
    make_world: MakeWorld,
) -> None:
    world = shelved(make_world)
    assert world.volume("HSM001L8").place == "shelf"
    waits = [world.retrieve(1), world.retrieve(1)]
    world.settle()
    world.settle()
    assert world.prompts() == ["HSM001L8"]
    assert [request.state for request in world.requests(kind="recall")] == ["waiting"]
    assert "waiting for operator: HSM001L8 shelf B3" in waits[0].retrieval.waiting_for()
    answer = world.custody.operator_done("HSM001L8", "alice")
    assert answer["answered"] is True
    world.settle()
    assert all(len(wait.look().files) == 2 for wait in waits)
    assert world.prompts() == []
    for wait in waits:
        wait.close()
    world.check()


def test_a_cartridge_that_nobody_announced_is_found_by_the_inventory(make_world: MakeWorld) -> None:
    world = shelved(make_world)
    wait = world.retrieve(1)
    world.settle()
    world.library.hand_insert("HSM001L8")
    world.custody.inventory()
    world.settle()
    assert len(wait.look().files) == 2
    wait.close()


def test_done_for_a_cartridge_that_is_not_there_is_refused_with_what_is_seen(make_world: MakeWorld) -> None:
    world = shelved(make_world)
    again = world.rebuild(handless=True)
    wait = again.retrieve(1)
    again.settle()
    with pytest.raises(Refused, match="does not see HSM001L8; its mail slots are empty"):
        again.custody.operator_done("HSM001L8", "alice")
    assert again.prompts() == ["HSM001L8"]
    again.library.hand_remove("HSM002L8")
    again.library.hand_insert("HSM002L8")
    with pytest.raises(Refused, match="its mail slots hold HSM002L8"):
        again.custody.operator_done("HSM001L8", "alice")
    again.library.hand_insert("HSM001L8")
    again.custody.operator_done("HSM001L8", "alice")
    again.settle()
    assert len(wait.look().files) == 2
    wait.close()
    again.check()
    again.close()


def test_done_for_a_barcode_that_nobody_knows_is_refused(world: World) -> None:
    with pytest.raises((Refused, NotFound), match="NOSUCH"):
        world.custody.operator_done("NOSUCH", "alice")


def test_an_operator_who_refuses_sends_the_recall_to_another_copy(make_world: MakeWorld) -> None:
    world = shelved(make_world, policies=TWO_TAPES)
    world.use_policies(NOTHING)
    wait = world.retrieve(1)
    world.settle()
    (first,) = world.prompts()
    world.custody.operator_refuse(first, "alice", "it is not in its box")
    world.settle()
    (second,) = world.prompts()
    assert second != first
    world.custody.operator_done(second, "alice")
    world.settle()
    assert len(wait.look().files) == 2
    wait.close()
    world.check()


def test_an_operator_who_refuses_the_only_copy_ends_the_wait_with_the_reason(make_world: MakeWorld) -> None:
    world = shelved(make_world)
    wait = world.retrieve(1)
    world.settle()
    world.custody.operator_refuse("HSM001L8", "alice", "burnt")
    world.settle()
    got = wait.look()
    assert got.waiting == 0
    assert "nobody knows where HSM001L8 is" in next(iter(got.lost.values()))
    wait.close()
    assert any("burnt" in str(detail) for _, detail in world.history("HSM001L8"))
    with pytest.raises(Refused, match="no open mount request"):
        world.custody.operator_refuse("HSM001L8", "alice", "again")
    world.check()


def test_a_cartridge_that_is_found_again_can_be_read_again(make_world: MakeWorld) -> None:
    world = shelved(make_world)
    wait = world.retrieve(1)
    world.settle()
    world.custody.operator_refuse("HSM001L8", "alice", "lost")
    world.settle()
    wait.close()
    world.custody.operator_done("HSM001L8", "bob")
    world.assert_readable(1)


def test_a_cartridge_torn_out_by_hand_is_missed_and_asked_for(make_world: MakeWorld) -> None:
    world = make_world()
    world.store(1, 2)
    world.follow()
    world.custody.unmount_all()
    world.library.hand_remove("HSM001L8")  # nobody told the daemon
    wait = world.retrieve(1)
    world.settle()
    assert world.volume("HSM001L8").place == "shelf"
    assert world.prompts() == ["HSM001L8"]
    world.custody.operator_done("HSM001L8", "alice")
    world.settle()
    assert len(wait.look().files) == 2
    wait.close()
    world.check()


def test_a_cartridge_in_use_is_not_exported(make_world: MakeWorld) -> None:
    world = make_world(policies=TWO_TAPES)
    world.store(1, 1)
    world.seal_all()
    tried: list[str] = []

    def export_now(barcode: str) -> None:
        with pytest.raises(Refused, match="in use"):
            world.custody.export(barcode, "B3", "alice")
        tried.append(barcode)

    world.tapped.on_mount = export_now
    world.run_policies()
    assert tried
    assert world.on_tape(1)
    world.check()


def test_a_cartridge_on_its_way_out_is_not_loaded(make_world: MakeWorld) -> None:
    world = make_world()
    world.store(1, 2)
    world.follow()
    world.custody.unmount_all()
    wait = world.retrieve(1)
    with world.drives.leaving("HSM001L8"):
        world.settle()
        assert wait.look().waiting == 2
    world.settle()
    assert len(wait.look().files) == 2
    wait.close()


def test_an_export_needs_a_free_mail_slot_and_leaves_everything_where_it_was(make_world: MakeWorld) -> None:
    world = make_world(shape=Shape(mail_slots=1))
    world.library.hand_remove("HSM004L8")
    world.library.hand_insert("HSM004L8")
    world.custody.inventory()
    with pytest.raises(OperatorNeeded, match="empty the mail slots"):
        world.custody.export("HSM001L8", "B3", "alice")
    assert world.volume("HSM001L8").place == "slot"
    world.library.hand_remove("HSM004L8")
    assert world.custody.export("HSM001L8", "B3", "alice")["place"] == "shelf"


def test_what_is_on_the_shelf_cannot_be_exported_again(make_world: MakeWorld) -> None:
    world = shelved(make_world)
    with pytest.raises(Refused, match="in no library"):
        world.custody.export("HSM001L8", "B4", "alice")
    world.volumes.move("HSM001L8", "C1", "alice")
    assert world.volume("HSM001L8").shelf == "C1"


def test_a_cartridge_in_the_library_has_no_place_on_the_shelf(world: World) -> None:
    with pytest.raises(Refused, match="export it first"):
        world.volumes.move("HSM001L8", "C1", "alice")


def test_a_volume_that_holds_copies_is_not_retired_and_an_empty_one_is(make_world: MakeWorld) -> None:
    world = make_world()
    world.store(1, 2)
    world.follow()
    with pytest.raises(Refused, match="copies that count"):
        world.volumes.retire("HSM001L8", "alice")
    assert world.volumes.retire("HSM004L8", "alice")["state"] == "retired"
    with pytest.raises(Refused, match="not scratch"):
        world.volumes.label("HSM004L8", "tape", "alice")


def test_only_a_blank_volume_is_given_to_a_pool(make_world: MakeWorld) -> None:
    world = make_world()
    assert world.volumes.label("HSM003L8", "tape", "alice") == {"barcode": "HSM003L8", "pool": "tape"}
    assert world.volume("HSM003L8").state == "labelled"
    with pytest.raises(Refused, match="not scratch"):
        world.volumes.label("HSM003L8", "tape", "alice")
    with pytest.raises(Refused, match="not a pool of a library"):
        world.volumes.label("HSM002L8", "nearline", "alice")


def test_the_places_in_the_catalog_follow_the_library(make_world: MakeWorld) -> None:
    world = make_world()
    world.store(1, 2)
    world.follow()
    world.custody.inventory()
    seen = {e.barcode: e for e in world.library.inventory().elements if e.barcode}
    for barcode, element in seen.items():
        volume = world.volume(barcode)
        assert (volume.place, volume.element) == (element.kind.value, element.address), barcode
