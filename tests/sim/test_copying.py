"""Copies onto tape and nearline disk, and everything that can go wrong with them."""

from __future__ import annotations

import pytest

from drivers.simulated.medium import flip_byte, make_foreign, swap
from hsm.catalog import media, placement
from hsm.states import CopyState, VolumeState
from tests.sim.conftest import MakeWorld
from tests.sim.world import NEARLINE, TWO_TAPES, Shape, World, study_uid

TO_TAPE = """\
policy: tape
priority: 1
copies: {tape: 1}
rules: [{name: to tape, copy to: tape}]
"""


def sealed(make_world: MakeWorld, **options: object) -> World:
    """One sealed study that a policy wants on tape."""
    world = make_world(**{"policies": TO_TAPE, **options})
    world.store(1, 2)
    world.seal_all()
    return world


def test_a_late_instance_seals_a_further_package(world: World) -> None:
    world.store(1, 2)
    world.seal_all()
    world.store(1, 1, first=3)
    world.follow()
    assert set(world.copies(1)) >= {("1.p0001", "HSM001L8"), ("1.p0002", "HSM001L8")}
    world.assert_readable(1)
    world.check()


def test_a_study_is_not_sealed_before_it_has_been_quiet(world: World) -> None:
    world.store(1, 1)
    world.clock.advance(30)
    world.store(1, 1, first=2)
    world.clock.advance(40)
    assert world.seal.enqueue_quiet() == 0
    world.clock.advance(30)
    assert world.seal.enqueue_quiet() == 1


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_a_corrupt_online_file_keeps_its_study_from_being_sealed_and_is_named(
    world: World, damage: str
) -> None:
    world.store(1, 3)
    path = world.online_file(1, 2)
    if damage == "missing":
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes(data[:-1] + (b"" if damage == "truncated" else bytes([data[-1] ^ 1])))
    world.seal_all()
    (failed,) = world.requests(kind="seal")
    assert failed.state == "failed"
    assert path.name.removesuffix(".dcm") in failed.error
    assert world.copies() == {}
    assert all(instance.package_pk is None for instance in world.instances(1))
    world.check()


def test_a_study_that_cannot_be_sealed_is_not_tried_at_every_round(world: World) -> None:
    world.store(1, 1)
    world.online_file(1, 1).unlink()
    for _ in range(5):
        world.seal_all()
    assert len(world.requests(kind="seal")) == 1
    world.clock.advance(3600)
    world.seal_all()
    assert len(world.requests(kind="seal")) == 2


def test_a_copy_is_verified_only_after_it_was_read_back(make_world: MakeWorld) -> None:
    world = sealed(make_world)
    world.fault("get", "retryable")
    world.run_policies()
    assert world.copies(1)["1.p0001", "HSM001L8"] == "written"
    world.later()
    assert world.copies(1)["1.p0001", "HSM001L8"] == "verified"
    world.check()


@pytest.mark.parametrize("operation", ["move", "load", "label", "put", "write", "flush", "get", "read"])
@pytest.mark.parametrize("error", ["retryable", "operator needed"])
def test_an_error_that_passes_is_tried_again(make_world: MakeWorld, operation: str, error: str) -> None:
    world = sealed(make_world)
    world.fault(operation, error)
    world.run_policies()
    assert world.on_tape(1) == [], "the fault struck"
    world.check()
    world.later()
    assert world.on_tape(1) == ["HSM001L8"]
    world.check()


@pytest.mark.parametrize("error", ["permanent", "retryable"])
@pytest.mark.parametrize("operation", ["put", "write", "flush"])
def test_a_volume_that_cannot_be_written_takes_no_more_and_another_one_gets_the_copy(
    make_world: MakeWorld, operation: str, error: str
) -> None:
    world = sealed(make_world)
    world.fault(operation, error, times=None, barcode="HSM001L8")
    world.run_policies()
    for _ in range(4):
        world.later()
    assert world.on_tape(1) == ["HSM002L8"]
    assert world.volume("HSM001L8").state == VolumeState.SUSPECT
    assert world.copies(1)["1.p0001", "HSM001L8"] == "released", "what was begun there counts for nothing"
    world.check()


def test_a_copy_that_reads_back_wrong_is_suspect_and_made_again_elsewhere(make_world: MakeWorld) -> None:
    world = sealed(make_world)
    world.fault("get", "corrupt")
    world.run_policies()
    assert world.copies(1)["1.p0001", "HSM001L8"] == "suspect"
    world.later()
    assert world.on_tape(1) == ["HSM002L8"]
    assert any(verb == "copy suspect" for verb, _ in world.history(study_uid(1)))
    world.check()


def test_a_copy_that_can_never_be_read_back_is_suspect_and_made_again_elsewhere(
    make_world: MakeWorld,
) -> None:
    world = sealed(make_world)
    world.fault("read", "retryable", times=None, barcode="HSM001L8")
    world.run_policies()
    for _ in range(4):
        world.later()
    assert world.copies(1)["1.p0001", "HSM001L8"] == "suspect"
    assert world.on_tape(1) == ["HSM002L8"]
    world.check()


def test_a_volume_that_is_full_in_mid_session_hands_the_rest_to_the_next_one(make_world: MakeWorld) -> None:
    world = make_world(policies=TO_TAPE, shape=Shape(capacity_bytes=200_000, drives=1))
    for study in range(1, 6):
        world.store(study, 2)
    world.fault("put", "no space", nth=3)
    world.follow()
    assert all(world.on_tape(study) for study in range(1, 6))
    states = {barcode: world.volume(barcode).state for barcode in ("HSM001L8", "HSM002L8")}
    assert states["HSM001L8"] == "full"
    assert {barcode for study in range(1, 6) for barcode in world.on_tape(study)} >= {"HSM001L8", "HSM002L8"}
    world.check()


def test_a_copy_that_only_waits_for_its_reading_back_needs_no_room(make_world: MakeWorld) -> None:
    world = sealed(make_world, shape=Shape(capacity_bytes=70_000))
    world.fault("get", "retryable")
    world.run_policies()
    assert world.copies(1)["1.p0001", "HSM001L8"] == "written"
    world.later()
    assert world.on_tape(1) == ["HSM001L8"], "the volume has no room for a second one and needs none"
    world.check()


@pytest.mark.parametrize("cartridges", [1, 2])
def test_dead_bytes_of_a_failed_first_write_take_room_and_the_package_settles_elsewhere(
    make_world: MakeWorld, cartridges: int
) -> None:
    shape = Shape(cartridges=cartridges, drives=1, capacity_bytes=4 << 20)
    world = make_world(policies=TO_TAPE, shape=shape)
    world.store(1, 1, size=2_600_000)
    world.seal_all()
    mounts: list[str] = []
    world.tapped.on_mount = mounts.append
    world.fault("write", "retryable", nth=3)  # in mid-package: what came before lies dead on the tape
    world.run_policies()
    for _ in range(4):
        world.later()
    first = world.volume("HSM001L8")
    assert 0 < first.capacity - first.used < 2_600_000, "what the drive says, not what copies add up to"
    assert mounts.count("HSM001L8") <= 2, "it is not mounted again and again for what cannot fit"
    (copy,) = world.requests(kind="copy")
    if cartridges == 1:
        assert copy.state == "queued"
        assert copy.error == "no volume has room for tape: put a blank one in"
    else:
        assert copy.state == "done"
        assert world.on_tape(1) == ["HSM002L8"]
        # The room that is left on the first one is used for what does fit.
        world.store(2, 1, size=200_000)
        world.follow()
        assert len(world.on_tape(2)) == 1
        assert world.requests(kind="copy", state="queued") == []
    world.check()


def test_a_package_larger_than_any_volume_waits_and_says_so(make_world: MakeWorld) -> None:
    world = sealed(make_world, shape=Shape(capacity_bytes=30_000))
    world.run_policies()
    for _ in range(3):
        world.later()
    (copy,) = world.requests(kind="copy")
    assert copy.state == "queued"
    assert "the largest blank one takes" in copy.error
    assert [world.volume(f"HSM00{n}L8").state for n in (1, 2)] == ["labelled", "scratch"], "one try is enough"
    world.check()


def test_without_blank_volumes_a_copy_waits_says_so_and_goes_on_when_one_comes(make_world: MakeWorld) -> None:
    world = sealed(make_world, shape=Shape(cartridges=1))
    make_foreign(world.library.medium_folder("HSM001L8"))
    world.run_policies()
    world.later()
    (copy,) = world.requests(kind="copy")
    assert copy.state == "queued"
    assert copy.error == "no volume has room for tape: put a blank one in"
    again = world.rebuild(shape=Shape(cartridges=2))
    again.later()
    assert again.on_tape(1) == ["HSM002L8"]
    again.check()
    again.close()


def test_a_foreign_cartridge_among_the_blank_ones_is_left_alone(make_world: MakeWorld) -> None:
    world = sealed(make_world)
    folder = world.library.medium_folder("HSM001L8")
    make_foreign(folder)
    before = (folder / "image").read_bytes()
    world.run_policies()
    world.later()
    assert world.on_tape(1) == ["HSM002L8"]
    assert world.volume("HSM001L8").state == VolumeState.FOREIGN
    assert "foreign" in world.volume("HSM001L8").content
    assert world.requests(kind="copy")[0].attempts == 1, "a tape that is not blank is no failed attempt"
    assert (folder / "image").read_bytes() == before
    assert [entry.name for entry in folder.iterdir()] == ["image"]


def test_exchanged_stickers_are_noticed_before_anything_is_written(make_world: MakeWorld) -> None:
    world = sealed(make_world)
    world.run_policies()
    world.library.unmount(256)
    one, other = (world.library.medium_folder(barcode) for barcode in ("HSM001L8", "HSM002L8"))
    swap(one, other)
    world.store(2, 1)
    world.seal_all()
    world.run_policies()
    world.later()
    world.later()
    assert {world.volume(barcode).state for barcode in ("HSM001L8", "HSM002L8")} == {VolumeState.SUSPECT}
    assert world.on_tape(2) == ["HSM003L8"]
    world.check()


def test_two_copies_lie_on_two_cartridges(make_world: MakeWorld) -> None:
    world = make_world(policies=TWO_TAPES)
    for study in (1, 2, 3):
        world.store(study, 2)
    world.follow()
    for study in (1, 2, 3):
        assert world.on_tape(study) == ["HSM001L8", "HSM002L8"]
        world.assert_readable(study)
    world.check()


def test_two_copies_wait_for_a_second_cartridge_instead_of_sharing_one(make_world: MakeWorld) -> None:
    world = make_world(policies=TWO_TAPES, shape=Shape(cartridges=1))
    world.store(1, 2)
    world.follow()
    assert world.on_tape(1) == ["HSM001L8"]
    assert world.copies(1)["1.p0001", "online"] == "verified", "one copy of two is not enough to let go"
    assert [request.state for request in world.requests(kind="copy")] == ["done", "queued"]
    again = world.rebuild(shape=Shape(cartridges=2))
    again.follow()
    assert again.on_tape(1) == ["HSM001L8", "HSM002L8"]
    assert again.copies(1)["1.p0001", "online"] == "released"
    again.close()


def test_a_copy_on_a_suspect_volume_does_not_count_and_is_made_again(make_world: MakeWorld) -> None:
    world = sealed(make_world)
    world.run_policies()
    with world.catalog.write() as session:
        volume = media.volume(session, "HSM001L8")
        media.move_volume(session, volume.pk, VolumeState.SUSPECT, world.now(), "test", "scratched")
    world.run_policies()
    world.later()
    assert world.on_tape(1) == ["HSM001L8", "HSM002L8"]
    report = world.run_policies()
    assert [run["requests"] for run in report["runs"]] == [0]
    world.check()


def test_a_bad_source_is_found_out_and_another_copy_is_read(make_world: MakeWorld) -> None:
    world = make_world(policies=NEARLINE)
    world.store(1, 2)
    world.follow()
    world.online_file(1, 2).write_bytes(b"not what was stored")
    world.use_policies(TO_TAPE)
    world.run_policies()
    world.later()
    assert world.on_tape(1) == ["HSM001L8"]
    assert world.copies(1)["1.p0001", "online"] == "suspect"
    world.check()


def test_the_only_source_is_bad_and_no_copy_is_made_of_it(make_world: MakeWorld) -> None:
    world = sealed(make_world)
    world.online_file(1, 2).write_bytes(b"not what was stored")
    world.run_policies()
    for _ in range(9):
        world.later()
    (copy,) = world.requests(kind="copy")
    assert copy.state == "failed"
    assert world.on_tape(1) == []
    assert {world.volume(f"HSM00{n}L8").state for n in (1, 2, 3, 4)} <= {"scratch", "labelled"}
    world.check()


def test_a_suspect_nearline_copy_is_replaced_while_another_good_one_is_there(make_world: MakeWorld) -> None:
    world = make_world(policies=NEARLINE)
    world.store(1, 2)
    world.follow()
    path = world.home / "nearline" / world.tar_of(1)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with world.catalog.read() as session:
        package = placement.packages_of_studies(session, [1])[0]
        copy = next(c for c in placement.copies(session, [package.pk])[package.pk] if c.pool == "nearline")
    world.migrate.proofs.judge(copy.copy_pk, CopyState.SUSPECT, "test")
    world.run_policies()
    world.later()
    assert world.copies(1)["1.p0001", "nearline"] == "verified"
    world.check()


def test_a_package_that_is_only_on_tape_is_copied_by_way_of_the_staging_area(make_world: MakeWorld) -> None:
    world = make_world()
    world.store(1, 2)
    world.follow()
    world.use_policies(NEARLINE)
    world.run_policies()
    for _ in range(3):
        world.later()
    assert world.copies(1)["1.p0001", "nearline"] == "verified"
    world.check()


def test_a_package_damaged_in_the_staging_area_is_recalled_again_before_it_is_copied(
    make_world: MakeWorld,
) -> None:
    world = make_world()
    world.store(1, 2)
    world.follow()
    wait = world.retrieve(1)
    world.settle()
    wait.close()
    (staged,) = (world.home / "staging").glob("*.tar")
    staged.write_bytes(staged.read_bytes()[:-1] + b"!")
    world.use_policies(TWO_TAPES)
    world.run_policies()
    for _ in range(4):
        world.later()
    assert world.on_tape(1) == ["HSM001L8", "HSM002L8"]
    assert {world.volume(f"HSM00{n}L8").state for n in (1, 2)} == {"active"}, "the tapes are not to blame"
    world.check()


def test_a_flipped_byte_on_tape_is_found_by_reading_back(make_world: MakeWorld) -> None:
    world = sealed(make_world)
    world.fault("get", "retryable")
    world.run_policies()
    flip_byte(world.library.medium_folder("HSM001L8"), world.tar_of(1), 700)
    world.later()
    assert world.copies(1)["1.p0001", "HSM001L8"] == "suspect"
    world.later()
    assert world.on_tape(1) == ["HSM002L8"]
