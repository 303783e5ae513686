"""Repack: cartridges are emptied, and nothing is lost, forgotten or left without its copies on the way."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.simulated.medium import flip_byte
from hsm.catalog import marks, media
from hsm.config.deletion import DeletionConfig
from hsm.errors import BadInput, Refused
from hsm.repack import Wanted
from hsm.states import VolumeState
from hsm.trash import Trash
from tests.sim.conftest import MakeWorld
from tests.sim.taps import Crash
from tests.sim.test_volume_life import TO_TAPE
from tests.sim.world import NOTHING, TWO_TAPES, Shape, World, study_uid

ONLY_TAPE = """\
policy: tape
priority: 1
copies: {tape: 1}
rules:
  - {name: to tape, copy to: tape}
  - {name: free online, release from: online, when: copies(tape) >= 1}
"""


def written(make_world: MakeWorld, studies: int = 2, **options: Any) -> World:
    world = make_world(**({"policies": ONLY_TAPE} | options))
    for study in range(1, studies + 1):
        world.store(study, 2)
    world.follow()
    return world


def finish(world: World, rounds: int = 6) -> None:
    for _ in range(rounds):
        world.repack.round()
        world.later()
    world.repack.round()


def one(done: dict[str, Any]) -> dict[str, Any]:
    (shown,) = done["volumes"]
    return dict(shown)


def test_a_repacked_cartridge_is_empty_and_every_package_is_on_another_one(make_world: MakeWorld) -> None:
    world = written(make_world)
    assert world.on_tape(1) == world.on_tape(2) == ["HSM001L8"]
    dry = one(world.repack.start(Wanted("HSM001L8"), "alice", dry_run=True))
    assert (dry["packages"], dry["then"], dry["to_pool"]) == (2, "recycled", "tape")
    assert world.volume("HSM001L8").drain_to == "", "a dry run changes nothing"
    trash = Trash(world.catalog, world.staging, world.bell, DeletionConfig())
    trash.delete(study_uid(2), "wrong patient", "anna")
    begun = one(world.repack.start(Wanted("HSM001L8"), "alice"))
    assert (begun["queued"], begun["left"]) == (2, 2)
    finish(world)
    trash.undelete(study_uid(2), "it was right", "anna")  # what is in the trash was carried along
    assert world.on_tape(1) == world.on_tape(2) == ["HSM002L8"]
    volume = world.volume("HSM001L8")
    assert (volume.state, volume.pool, volume.drain_to, volume.used) == ("recycled", None, "", 0)
    world.assert_readable(1)
    world.assert_readable(2)
    world.check()


def test_a_crash_at_any_point_of_a_repack_loses_and_doubles_nothing(make_world: MakeWorld) -> None:
    world = written(make_world, 1)
    world.repack.start(Wanted("HSM001L8"), "alice")
    for step in range(3, 60, 7):
        world.fuse.count, world.fuse.blows_at = 0, step
        try:
            finish(world, 2)
        except Crash:
            world = world.rebuild()
        else:
            break
    world.fuse.blows_at = None
    finish(world)
    assert len(world.on_tape(1)) == 1
    assert world.on_tape(1) != ["HSM001L8"]
    assert world.volume("HSM001L8").state == "recycled"
    world.assert_readable(1)
    world.check()
    world.close()


def test_a_repack_that_finds_policies_want_more_than_when_it_began_makes_that_and_ends(
    make_world: MakeWorld,
) -> None:
    world = written(make_world, 1)
    world.repack.start(Wanted("HSM001L8"), "alice")
    world.settle()
    assert world.on_tape(1) == ["HSM001L8", "HSM002L8"]
    world.use_policies(TWO_TAPES)
    world.run_policies()
    finish(world)
    assert world.on_tape(1) == ["HSM002L8", "HSM003L8"]
    assert world.volume("HSM001L8").state == "recycled"
    world.check()


def test_two_cartridges_that_are_emptied_at_once_keep_the_number_of_copies(make_world: MakeWorld) -> None:
    world = make_world(policies=TWO_TAPES, shape=Shape(cartridges=5))
    world.store(1, 2)
    world.follow()
    world.use_policies(NOTHING)
    for barcode in world.on_tape(1):
        world.repack.start(Wanted(barcode, then="retire"), "alice")
    finish(world)
    assert world.on_tape(1) == ["HSM003L8", "HSM004L8"]
    assert {world.volume(barcode).state for barcode in ("HSM001L8", "HSM002L8")} == {"retired"}
    world.check()


def test_a_package_that_this_cartridge_gives_back_wrong_is_copied_from_another_one(
    make_world: MakeWorld,
) -> None:
    world = make_world(policies=TWO_TAPES, shape=Shape(cartridges=5))
    world.store(1, 2)
    world.follow()
    world.use_policies(NOTHING)
    flip_byte(world.library.medium_folder("HSM001L8"), world.tar_of(1), 700)
    world.repack.start(Wanted("HSM001L8"), "alice")
    finish(world, 8)
    assert world.on_tape(1) == ["HSM002L8", "HSM003L8"]
    assert world.volume("HSM001L8").state == "recycled"
    world.assert_readable(1)
    world.check()


def test_a_package_that_can_nowhere_be_read_is_told_and_stays(make_world: MakeWorld) -> None:
    world = written(make_world)
    flip_byte(world.library.medium_folder("HSM001L8"), world.tar_of(1), 700)
    world.repack.start(Wanted("HSM001L8"), "alice")
    finish(world, 10)
    (failed,) = (each for each in world.requests(kind="copy") if each.state == "failed")
    assert "can nowhere be read" in failed.error
    assert failed.key.startswith("repack:HSM001L8:")
    assert world.on_tape(2) == ["HSM002L8"]
    assert world.copies(1)["1.p0001", "HSM001L8"] == "suspect", "it is not forgotten"
    assert world.volume("HSM001L8").state != "recycled"
    again = one(world.repack.start(Wanted("HSM001L8"), "alice"))
    assert (again["left"], again["queued"]) == (1, 1), "whoever asks again gets another try"
    with pytest.raises(Refused, match="copies that count"):
        world.volumes.recycle("HSM001L8", "alice")


def test_what_the_guard_keeps_on_a_cartridge_is_named_with_its_reason(make_world: MakeWorld) -> None:
    world = written(make_world)
    with world.catalog.write() as session:
        marks.place_hold(session, study_uid(1), "court", world.now(), "alice")
    world.repack.start(Wanted("HSM001L8"), "alice")
    finish(world)
    left = one(world.repack.start(Wanted("HSM001L8"), "alice"))
    assert left["left"] == 1
    ((kept),) = left["refused"]
    assert "1.p0001.tar" in kept["package"]
    assert "hold" in kept["why"]
    assert world.on_tape(1) == ["HSM001L8", "HSM002L8"], "and no third copy was made when it was asked again"
    world.check()


def test_sparse_suspect_and_old_cartridges_are_found(make_world: MakeWorld) -> None:
    world = written(make_world, policies=TO_TAPE)
    names = lambda wanted: [  # noqa: E731
        each["volume"] for each in world.repack.start(wanted, "alice", dry_run=True)["volumes"]
    ]
    assert names(Wanted(generation="lto8")) == ["HSM001L8"]
    assert names(Wanted(generation="LTO6")) == []
    assert names(Wanted(suspect=True)) == []
    with world.catalog.write() as session:
        pk = media.volume(session, "HSM001L8").pk
        media.move_volume(session, pk, VolumeState.FULL, world.now(), "test")
        media.set_room(session, pk, 4 << 20, (4 << 20) - 1_000_000)
    assert names(Wanted(sparse_percent=5)) == []
    assert names(Wanted(sparse_percent=50)) == ["HSM001L8"]
    with world.catalog.write() as session:
        media.move_volume(session, pk, VolumeState.SUSPECT, world.now(), "test", "it squeaks")
    done = one(world.repack.start(Wanted(suspect=True), "alice"))
    assert done["then"] == "retired"
    finish(world)
    assert world.volume("HSM001L8").state == "retired"
    assert world.on_tape(1) == ["HSM002L8"]
    world.check()


def test_a_repack_can_be_given_up_and_moves_to_another_pool_when_told(make_world: MakeWorld) -> None:
    vault = {"name": "vault", "tier": "offline", "library": "library", "scratch": "HSM004L8"}
    world = written(
        make_world, policies=TO_TAPE, shape=Shape(pools=(vault,), tape={"scratch": "HSM00[123]L8"})
    )
    world.repack.start(Wanted("HSM001L8", pool="vault"), "alice")
    assert world.repack.stop("HSM001L8", "alice")["cancelled"] == 2
    assert world.volume("HSM001L8").drain_to == ""
    world.use_policies(NOTHING)
    world.repack.start(Wanted("HSM001L8", pool="vault"), "alice")
    finish(world)
    assert world.on_tape(1) == ["HSM004L8"]
    assert world.volume("HSM004L8").pool == "vault"
    world.check()


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"barcode": "HSM004L8"}, "only a labelled"),
        ({"barcode": "online"}, "only a labelled"),
        ({"barcode": "HSM001L8", "pool": "nearline"}, "not a pool of a library"),
    ],
)
def test_what_cannot_be_repacked_is_refused(
    make_world: MakeWorld, wanted: dict[str, Any], error: str
) -> None:
    world = written(make_world, 1)
    with pytest.raises(Refused, match=error):
        world.repack.start(Wanted(**wanted), "alice")


@pytest.mark.parametrize(
    "wanted", [{}, {"barcode": "A", "suspect": True}, {"sparse_percent": 0}, {"barcode": "A", "then": "burn"}]
)
def test_what_to_repack_is_said_once_and_well(wanted: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Wanted(**wanted)
