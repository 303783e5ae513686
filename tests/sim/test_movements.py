"""Cartridges on their way: planned, left, arrived, said twice, said wrongly, and back."""

from __future__ import annotations

import contextlib

import pytest

from hsm.errors import BadInput, NotFound, Refused
from hsm.operators import Movements
from tests.sim.conftest import MakeWorld
from tests.sim.world import TWO_TAPES, World


def desk(world: World) -> Movements:
    return Movements(world.catalog, world.pools, world.custody, world.bell)


def states(world: World) -> list[tuple[str, str, str]]:
    return [(row["barcode"], row["kind"], row["state"]) for row in desk(world).listing(every=True)]


def test_what_has_left_is_not_there_until_somebody_says_so(make_filled: MakeWorld) -> None:
    world = make_filled()
    (row,) = desk(world).export(["HSM001L8"], "V7", "alice", "vault")
    assert (row["state"], row["left_by"], row["to"]) == ("left", "alice", "shelf V7 at vault")
    volume = world.volume("HSM001L8")
    assert (volume.place, volume.shelf, volume.site) == ("shelf", "V7", "vault")
    arrived = desk(world).arrived("HSM001L8", "bob")
    assert (arrived["state"], arrived["ended_by"]) == ("arrived", "bob")
    assert desk(world).arrived("HSM001L8", "carol")["ended_by"] == "bob", "said twice it is no news"
    moved = desk(world).arrived("HSM001L8", "carol", shelf="V8")
    assert (moved["shelf"], world.volume("HSM001L8").shelf) == ("V8", "V8")
    verbs = [verb for verb, _ in world.history("HSM001L8") if verb.startswith("export")]
    assert verbs == ["export planned", "export left", "export arrived", "export left", "export arrived"]


def test_a_confirmation_is_undone_and_what_has_left_must_be_found_first(make_filled: MakeWorld) -> None:
    world = make_filled()
    desk(world).export(["HSM001L8"], "B3", "alice")
    desk(world).arrived("HSM001L8", "bob")
    assert desk(world).undo("HSM001L8", "bob", "it was another one")["state"] == "left"
    with pytest.raises(Refused, match="hsm library arrived HSM001L8 --shelf"):
        desk(world).undo("HSM001L8", "bob")
    world.custody.import_("HSM001L8", "carol")
    assert states(world) == [("HSM001L8", "export", "undone")], "it is in the library again"
    with pytest.raises(Refused, match="not on its way anywhere; its last way was undone"):
        desk(world).left("HSM001L8", "carol")


def test_a_plan_moves_nothing_and_may_be_undone_or_made_true(make_filled: MakeWorld) -> None:
    world = make_filled()
    rows = desk(world).export(["HSM001L8", "HSM002L8", "HSM001L8"], "B3", "alice", plan_only=True)
    assert [(row["barcode"], row["state"]) for row in rows] == [
        ("HSM001L8", "planned"),
        ("HSM002L8", "planned"),
    ]
    assert len({row["list"] for row in rows}) == 1
    assert world.volume("HSM001L8").place == "drive"
    with pytest.raises(Refused, match="still sees HSM001L8 in drive"):
        desk(world).left("HSM001L8", "bob")
    with pytest.raises(Refused, match="still sees HSM001L8"):
        desk(world).arrived("HSM001L8", "bob")
    assert desk(world).undo("HSM002L8", "bob")["state"] == "undone"
    assert desk(world).export(["HSM001L8"], "B3", "bob")[0]["list"] == rows[0]["list"], "the same way goes on"
    assert states(world) == [("HSM001L8", "export", "left"), ("HSM002L8", "export", "undone")]


def test_a_cartridge_that_recalls_will_be_read_from_stays_until_they_have_it(make_filled: MakeWorld) -> None:
    world = make_filled(TWO_TAPES)
    first, second = sorted(world.on_tape(1))
    desk(world).export([second], "B3", "alice")
    waiting = world.retrieve(1)
    (row,) = desk(world).export([first], "B3", "alice")
    assert (row["state"], world.volume(first).place) == ("planned", "drive")
    assert "a recall under way will read from it" in row["note"]
    (row,) = desk(world).export([first], "B3", "alice", force=True)
    assert row["state"] == "left", "whoever insists is asked to bring it back"
    world.custody.import_(first, "bob")
    world.settle()
    assert len(waiting.look().files) == 2
    waiting.close()
    (row,) = desk(world).export([first], "B3", "alice")
    assert row["state"] == "left", "nobody waits for it any more"


def test_of_two_cartridges_with_the_same_packages_one_may_leave(make_filled: MakeWorld) -> None:
    world = make_filled(TWO_TAPES)
    first, _ = sorted(world.on_tape(1))
    with contextlib.closing(world.retrieve(1)):
        (row,) = desk(world).export([first], "B3", "alice")
    assert row["state"] == "left"


def test_a_plan_with_one_impossible_volume_plans_nothing(make_filled: MakeWorld) -> None:
    world = make_filled()
    with pytest.raises(NotFound):
        desk(world).export(["HSM001L8", "XYZ"], "B3", "alice")
    desk(world).export(["HSM002L8"], "B3", "alice")
    with pytest.raises(Refused, match="in no library"):
        desk(world).arrived("HSM002L8", "alice")
        desk(world).export(["HSM001L8", "HSM002L8"], "B3", "alice")
    with pytest.raises(BadInput, match="expected 1 to 500"):
        desk(world).export([], "B3", "alice")
    assert states(world) == [("HSM002L8", "export", "arrived")]


def test_a_cartridge_taken_from_the_mail_slot_has_left_when_the_inventory_misses_it(
    make_filled: MakeWorld,
) -> None:
    world = make_filled().rebuild(handless=True)
    (row,) = desk(world).export(["HSM001L8"], "V7", "alice", "vault")
    assert (row["state"], row["note"]) == ("planned", "")
    assert world.volume("HSM001L8").place == "mail"
    with pytest.raises(Refused, match="still sees HSM001L8 in mail"):
        desk(world).left("HSM001L8", "bob")
    world.library.hand_remove("HSM001L8")
    world.custody.inventory()
    volume = world.volume("HSM001L8")
    assert (volume.place, volume.shelf, volume.site) == ("shelf", "V7", "vault")
    assert states(world) == [("HSM001L8", "export", "left")]


def test_full_mail_slots_leave_the_rest_planned_for_the_next_time(make_filled: MakeWorld) -> None:
    world = make_filled().rebuild(handless=True)
    rows = desk(world).export([f"HSM00{n}L8" for n in (1, 2, 3, 4)], "B3", "alice")
    stay = [row["barcode"] for row in rows if row["note"]]
    assert stay
    assert all("stays planned" in row["note"] for row in rows if row["note"])
    for row in rows:
        if not row["note"]:
            world.library.hand_remove(row["barcode"])
    world.custody.inventory()
    again = desk(world).export(stay, "B3", "alice")
    assert not again[0]["note"]


def test_a_return_is_planned_taken_and_ends_when_the_library_sees_it(make_filled: MakeWorld) -> None:
    world = make_filled()
    with pytest.raises(Refused, match="in library already"):
        desk(world).bring_back(["HSM001L8"], "alice")
    desk(world).export(["HSM001L8"], "V7", "alice", "vault")
    with pytest.raises(Refused, match="on its way to shelf V7 at vault since"):
        desk(world).bring_back(["HSM001L8"], "alice")
    desk(world).arrived("HSM001L8", "bob")
    (row,) = desk(world).bring_back(["HSM001L8"], "alice")
    assert (row["from"], row["to"]) == ("shelf V7 at vault", "library")
    assert desk(world).left("HSM001L8", "bob")["state"] == "left"
    assert desk(world).undo("HSM001L8", "bob")["state"] == "planned"
    desk(world).left("HSM001L8", "bob")
    world.library.hand_insert("HSM001L8")
    world.custody.inventory()
    assert states(world)[0] == ("HSM001L8", "return", "arrived")
    assert world.volume("HSM001L8").site == ""
    with pytest.raises(Refused, match="export it to have it out again"):
        desk(world).undo("HSM001L8", "bob")


def test_a_recall_of_what_is_on_its_way_asks_for_it_all_the_same(make_filled: MakeWorld) -> None:
    world = make_filled()
    desk(world).export(["HSM001L8"], "V7", "alice", "vault")
    wait = world.retrieve(1)
    world.settle()
    (prompt,) = world.operators.prompts()
    assert (prompt["where"], prompt["moving"]) == (
        "shelf V7 at vault",
        "export to shelf V7 at vault: left by alice",
    )
    world.custody.operator_done("HSM001L8", "bob")
    world.settle()
    assert len(wait.look().files) == 2
    assert states(world) == [("HSM001L8", "export", "undone")]
    wait.close()
    world.check()


def test_a_volume_on_its_way_arrives_where_somebody_notes_it_or_is_lost(make_filled: MakeWorld) -> None:
    world = make_filled()
    desk(world).export(["HSM001L8", "HSM002L8"], "B3", "alice")
    world.volumes.move("HSM001L8", "C9", "bob")
    world.volumes.lost("HSM002L8", "bob", "fell off the cart")
    assert sorted(states(world)) == [("HSM001L8", "export", "arrived"), ("HSM002L8", "export", "undone")]
    assert world.volume("HSM001L8").shelf == "C9"
