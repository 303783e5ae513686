"""Recalls and retrieves: who waits for what, and what is never served."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from drivers.simulated.medium import flip_byte, swap, tear
from hsm.catalog import queue
from hsm.catalog.instances import damaged_unsealed
from hsm.catalog.tables import Request, Waiter
from hsm.model import Priority
from hsm.states import CopyState
from tests.sim.conftest import MakeWorld
from tests.sim.world import NEARLINE, NOTHING, TWO_TAPES, Shape, Wait, World, header, study_uid


def on_tape(make_world: MakeWorld, studies: int = 1, **options: object) -> World:
    """Studies that are on tape and nowhere else."""
    world = make_world(**options)
    for study in range(1, studies + 1):
        world.store(study, 2)
    world.follow()
    return world


def waiters(world: World) -> int:
    with world.catalog.read() as session:
        return session.scalar(select(func.count()).select_from(Waiter)) or 0


def damage_on_tape(world: World, study: int, barcode: str, at: int = -1) -> None:
    """Flip a byte in the last instance (unless told) of the study's package on a cartridge."""
    last = world.instances(study)[-1]
    offset = (last.offset or 0) + last.size - 1 if at < 0 else at
    flip_byte(world.library.medium_folder(barcode), world.tar_of(study), offset)


def test_several_waiters_share_one_recall(make_world: MakeWorld) -> None:
    world = on_tape(make_world)
    waits = [world.retrieve(1, who) for who in ("C-MOVE from A", "C-GET from B", "recall by alice")]
    assert len(world.requests(kind="recall")) == 1
    assert waiters(world) == 3
    world.settle()
    assert [len(wait.look().files) for wait in waits] == [2, 2, 2]
    for wait in waits:
        wait.close()
    assert waiters(world) == 0
    world.check()


def test_a_more_urgent_waiter_makes_the_recall_more_urgent(make_world: MakeWorld) -> None:
    world = on_tape(make_world)
    first = world.retrieve(1, priority=Priority.BULK)
    second = world.retrieve(1, priority=Priority.STAT)
    third = world.retrieve(1, priority=Priority.ROUTINE)
    assert [request.priority for request in world.requests(kind="recall")] == [Priority.STAT]
    for wait in (first, second, third):
        wait.close()


def test_a_recall_goes_on_when_its_last_waiter_leaves(make_world: MakeWorld) -> None:
    world = on_tape(make_world)
    wait = world.retrieve(1)
    wait.close()
    wait.close()
    world.settle()
    (recall,) = world.requests(kind="recall")
    assert recall.state == "done"
    again = world.retrieve(1)
    assert len(again.look().files) == 2, "the next one finds it staged"
    again.close()


def test_a_cancelled_recall_tells_its_waiters_and_withdraws_its_prompt(make_world: MakeWorld) -> None:
    world = on_tape(make_world)
    world.custody.export("HSM001L8", "B3", "alice")
    wait = world.retrieve(1)
    world.settle()
    assert world.prompts() == ["HSM001L8"]
    (recall,) = world.requests(kind="recall")
    with world.catalog.write() as session:
        queue.cancel(session, recall.pk, world.now(), "alice")
    assert set(wait.look().lost.values()) == {f"its recall (request {recall.pk}) was cancelled"}
    world.settle()
    assert world.prompts() == [], "nobody is sent for what nobody wants"
    wait.close()
    world.check()


def test_a_flipped_byte_on_tape_is_never_served_and_another_copy_is_read(make_world: MakeWorld) -> None:
    world = on_tape(make_world, policies=TWO_TAPES)
    damage_on_tape(world, 1, "HSM001L8")
    world.assert_readable(1)
    assert world.copies(1)["1.p0001", "HSM001L8"] == "suspect"
    told = [detail for verb, detail in world.history(study_uid(1)) if verb == "copy suspect"]
    assert [detail["volume"] for detail in told] == ["HSM001L8"]
    world.run_policies()
    for _ in range(3):
        world.later()
    assert len(world.on_tape(1)) == 2, "policy makes up for the lost one"
    world.check()


def test_a_flipped_byte_nearline_is_never_served_and_another_copy_is_read(make_world: MakeWorld) -> None:
    world = make_world(policies=NEARLINE)
    world.store(1, 2)
    world.follow()
    world.use_policies(
        NEARLINE.replace(
            "rules: [", "rules: [{name: free, release from: online, when: copies(nearline) > 0}, "
        )
    )
    world.use_policies(TWO_TAPES)
    world.follow()
    last = world.instances(1)[-1]
    path = world.home / "nearline" / world.tar_of(1)
    data = bytearray(path.read_bytes())
    data[(last.offset or 0) + last.size - 1] ^= 1
    path.write_bytes(data)
    world.assert_readable(1)
    assert world.copies(1)["1.p0001", "nearline"] == "suspect"
    assert any(verb == "copy suspect" for verb, _ in world.history(study_uid(1)))
    world.check()


def test_a_flipped_byte_online_is_never_served_and_another_copy_is_read(make_world: MakeWorld) -> None:
    world = make_world(policies=NEARLINE)
    world.store(1, 2)
    world.follow()
    path = world.online_file(1, 2)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    world.assert_readable(1)
    assert world.copies(1)["1.p0001", "online"] == "suspect"


def test_when_every_copy_is_bad_the_retrieve_ends_with_the_reason(make_world: MakeWorld) -> None:
    world = on_tape(make_world, policies=TWO_TAPES)
    world.use_policies(NOTHING)
    for barcode in ("HSM001L8", "HSM002L8"):
        damage_on_tape(world, 1, barcode, at=700)
    wait = world.retrieve(1)
    for _ in range(5):
        world.later()
    got = wait.look()
    assert got.waiting == 0
    assert got.files == {}
    (reason,) = set(got.lost.values())
    assert "HSM001L8 gave other bytes" in reason
    assert "HSM002L8 gave other bytes" in reason
    wait.close()
    assert {state for (_, volume), state in world.copies(1).items() if volume.startswith("HSM")} == {
        "suspect"
    }
    world.check()


def test_a_recall_that_failed_for_bad_copies_tries_them_again_when_told(make_world: MakeWorld) -> None:
    world = on_tape(make_world)
    folder = world.library.medium_folder("HSM001L8")
    keep = (folder / "image").read_bytes()
    damage_on_tape(world, 1, "HSM001L8", at=700)
    wait = world.retrieve(1)
    for _ in range(3):
        world.later()
    assert len(wait.look().lost) == 2
    wait.close()
    (folder / "image").write_bytes(keep)  # as when a drive was cleaned
    (recall,) = world.requests(kind="recall")
    with world.catalog.write() as session:
        queue.retry(session, recall.pk, world.now(), "alice")
    world.settle()
    world.assert_readable(1)


def test_what_is_whole_in_a_suspect_copy_is_served_when_there_is_no_other(make_world: MakeWorld) -> None:
    world = make_world(policies=NOTHING)
    world.store(1, 4)
    world.seal_all()
    path = world.online_file(1, 2)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    for _ in range(2):
        wait = world.retrieve(1)
        for _ in range(3):
            world.later()
            got = wait.look()
        assert got.waiting == 0
        assert sorted(got.lost) == [header(1, 2).sop_instance_uid]
        assert len(got.files) == 3
        wait.close()
    world.check()


def test_a_damaged_instance_that_is_not_sealed_is_not_served_and_is_on_record(world: World) -> None:
    world.store(1, 2)
    path = world.online_file(1, 2)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    wait = world.retrieve(1)
    got = wait.look()
    assert list(got.lost) == [header(1, 2).sop_instance_uid]
    assert len(got.files) == 1
    assert any(verb == "instance damaged" for verb, _ in world.history(study_uid(1)))
    wait.close()
    with world.catalog.read() as session:
        assert damaged_unsealed(session) == [header(1, 2).sop_instance_uid], "hsm status says it"


def test_an_instance_sealed_and_released_after_it_was_selected_is_still_delivered(world: World) -> None:
    world.store(1, 3)
    instances = world.instances(1)
    assert {instance.package_pk for instance in instances} == {None}
    before = Wait(world.retrievals.open(instances, "C-MOVE from WS1", Priority.ROUTINE))
    world.follow()
    after = Wait(world.retrievals.open(instances, "C-MOVE from WS2", Priority.ROUTINE))
    assert not world.online_file(1, 1).exists()
    for wait in (before, after):
        wait.look()
        world.settle()
        got = wait.look()
        assert (len(got.files), got.lost, got.waiting) == (3, {}, 0)
        wait.close()
    world.check()


def test_a_late_instance_in_mid_retrieve_is_told_from_its_sealed_siblings(make_world: MakeWorld) -> None:
    world = make_world()
    world.store(1, 2)
    selected = world.instances(1)
    world.follow()
    world.store(1, 1, first=3)
    late = [each for each in world.instances(1) if each.package_pk is None]
    wait = Wait(world.retrievals.open([*selected, *late], "C-MOVE", Priority.ROUTINE))
    wait.look()
    world.settle()
    got = wait.look()
    assert (len(got.files), got.lost) == (3, {})
    wait.close()


def test_a_cartridge_that_cannot_be_read_gives_way_to_another_one(make_world: MakeWorld) -> None:
    world = on_tape(make_world, policies=TWO_TAPES)
    world.use_policies(NOTHING)
    world.fault("read", "retryable", times=None, barcode="HSM001L8")
    world.assert_readable(1)
    assert world.copies(1)["1.p0001", "HSM001L8"] == "suspect", "neither drive could read it"
    world.check()


def test_a_drive_that_does_not_answer_does_not_end_a_recall(make_world: MakeWorld) -> None:
    world = on_tape(make_world, shape=Shape(drives=1))
    world.fault("*", "operator needed", times=None, drive=256)
    wait = world.retrieve(1)
    for _ in range(20):
        world.later()
    assert wait.look().waiting == 2, "waiting is not failing"
    world.heal()
    world.later()
    assert len(wait.look().files) == 2
    wait.close()
    world.check()


def test_a_wrong_cartridge_under_the_barcode_is_suspect_and_the_other_copy_is_read(
    make_world: MakeWorld,
) -> None:
    world = on_tape(make_world, policies=TWO_TAPES)
    world.use_policies(NOTHING)
    world.custody.unmount_all()
    swap(world.library.medium_folder("HSM001L8"), world.library.medium_folder("HSM003L8"))
    world.assert_readable(1)
    assert world.volume("HSM001L8").state == "suspect"
    assert world.copies(1)["1.p0001", "HSM001L8"] == "verified", "nobody has seen its bytes"
    world.check()


@pytest.mark.parametrize("damage", [tear, lambda folder: shutil.rmtree(folder) or folder.mkdir()])
def test_an_only_cartridge_that_is_torn_or_blank_ends_the_retrieve_with_the_reason(
    make_world: MakeWorld, damage: object
) -> None:
    world = on_tape(make_world)
    world.custody.unmount_all()
    damage(world.library.medium_folder("HSM001L8"))  # type: ignore[operator]
    wait = world.retrieve(1)
    for _ in range(5):
        world.later()
    got = wait.look()
    assert got.waiting == 0
    assert "HSM001L8" in next(iter(got.lost.values()))
    assert world.volume("HSM001L8").state == "suspect"
    wait.close()
    world.check()


def test_a_staging_area_full_of_pins_makes_the_next_recall_wait_and_then_go_on(make_world: MakeWorld) -> None:
    world = make_world(shape=Shape(staging_bytes=1 << 20, capacity_bytes=8 << 20))
    for study in (1, 2):
        world.store(study, 2, size=300_000)
    world.follow()
    first, second = world.retrieve(1), world.retrieve(2)
    world.settle()
    for _ in range(5):
        world.later()
    assert {len(wait.look().files) for wait in (first, second)} == {0, 2}
    early, late = (first, second) if first.got.files else (second, first)
    early.close()
    world.later()
    assert len(late.look().files) == 2
    late.close()
    world.check()


def test_a_retrieve_larger_than_the_staging_area_gets_through_it_piece_by_piece(
    make_world: MakeWorld,
) -> None:
    world = make_world(shape=Shape(staging_bytes=1 << 20, capacity_bytes=8 << 20))
    for part in range(3):
        world.store(1, 1, first=part + 1, size=600_000)
        world.seal_all()
    world.follow()
    wait = world.retrieve(1)
    for _ in range(8):
        wait.look()
        world.later()
    got = wait.look()
    assert (len(got.files), got.lost, got.waiting) == (3, {}, 0)
    wait.close()


def test_a_package_damaged_in_the_staging_area_is_recalled_again_and_served_whole(
    make_world: MakeWorld,
) -> None:
    world = on_tape(make_world)
    world.assert_readable(1)
    (staged,) = (world.home / "staging").glob("*.tar")
    data = bytearray(staged.read_bytes())
    for instance in world.instances(1):
        data[instance.offset or 0] ^= 1
    staged.write_bytes(data)
    world.assert_readable(1)
    assert world.copies(1)["1.p0001", "HSM001L8"] == "verified", "the tape is not to blame"
    assert {request.state for request in world.requests(kind="recall")} == {"done"}
    world.check()


def test_a_suspect_disk_copy_does_not_end_the_recall_from_tape(make_world: MakeWorld) -> None:
    world = make_world(
        policies=TWO_TAPES.replace("release from: online, when: copies(tape) >= 2", "copy to: nearline")
    )
    world.store(1, 2)
    world.follow()
    for number in (1, 2):
        world.online_file(1, number).write_bytes(b"x")
    path = world.home / "nearline" / world.tar_of(1)
    path.write_bytes(b"x" * path.stat().st_size)
    world.use_policies(NOTHING)
    world.assert_readable(1)
    states = world.copies(1)
    assert {states["1.p0001", name] for name in ("online", "nearline")} == {"suspect"}


def test_a_pool_that_is_not_mounted_condemns_no_copy(make_world: MakeWorld) -> None:
    world = make_world(policies=NEARLINE)
    world.store(1, 2)
    world.follow()
    online = world.home / "online"
    online.rename(world.home / "elsewhere")
    online.mkdir()
    world.assert_readable(1)
    assert world.copies(1)["1.p0001", "online"] == "verified"
    online.rmdir()
    Path(world.home / "elsewhere").rename(online)
    world.assert_readable(1)


def test_nothing_of_a_study_is_wanted_and_nothing_is_recalled(make_world: MakeWorld) -> None:
    world = on_tape(make_world, studies=2)
    wait = world.retrieve(1)
    world.settle()
    wait.close()
    assert [request.key for request in world.requests(kind="recall")] == [f"recall:{study_uid(1)}.p0001.tar"]


def test_a_recall_asked_for_by_hand_says_what_is_here_and_what_was_asked_for(make_world: MakeWorld) -> None:
    world = on_tape(make_world)
    first = world.recall.request_study(study_uid(1), Priority.ROUTINE, "alice")
    again = world.recall.request_study(study_uid(1), Priority.STAT, "bob")
    assert first["requests"] == again["requests"]
    assert (first["packages"], first["readable_now"]) == (1, 0)
    world.settle()
    (progress,) = world.recall.progress([world.requests(kind="recall")[0].pk])
    assert progress["state"] == "done"
    assert progress["bytes"] == progress["bytes_done"]
    third = world.recall.request_study(study_uid(1), Priority.ROUTINE, "carol")
    assert (third["requests"], third["readable_now"]) == ([], 1)


def test_a_delivery_whose_caller_went_away_is_executed_when_its_study_is_there(make_world: MakeWorld) -> None:
    world = on_tape(make_world)
    world.custody.export("HSM001L8", "B3", "alice")
    uids = [instance.sop_instance_uid for instance in world.instances(1)]
    key = world.deliveries.begin("DEST", "WS1", 7, world.instances(1))
    world.deliveries.hand_over(key, uids)
    world.settle()
    assert world.prompts() == ["HSM001L8"]
    assert world.delivered == []
    world.custody.operator_done("HSM001L8", "alice")
    for _ in range(3):
        world.later()
    assert sorted(world.delivered) == sorted(("DEST", uid) for uid in uids)
    assert [request.state for request in world.requests(kind="deliver")] == ["done"]
    world.check()


def test_a_destination_that_is_down_is_tried_again_and_nothing_is_sent_twice(make_world: MakeWorld) -> None:
    world = make_world()
    world.store(1, 3)
    instances = world.instances(1)
    uids = [instance.sop_instance_uid for instance in instances]
    key = world.deliveries.begin("DEST", "WS1", 7, instances)
    world.deliveries.delivered(key, uids[:1])
    world.deliveries.hand_over(key, uids[1:])
    world.destinations_down.add("DEST")
    for _ in range(12):
        world.later()
    (delivery,) = world.requests(kind="deliver")
    assert delivery.state == "queued"
    assert "down" in delivery.error
    world.destinations_down.clear()
    world.later()
    assert sorted(world.delivered) == sorted(("DEST", uid) for uid in uids[1:])


def test_a_stop_in_mid_session_hands_its_requests_back_untouched(make_world: MakeWorld) -> None:
    world = make_world(policies=TWO_TAPES)
    for study in (1, 2, 3):
        world.store(study, 1)
    world.seal_all()
    world.tapped.on_mount = lambda _: world.workers.ask_to_stop()
    world.policies.run(None, dry_run=False, by="test")
    world.workers.drive_step()
    copies = world.requests(kind="copy")
    assert {(copy.state, copy.attempts) for copy in copies} == {("queued", 0)}
    again = world.rebuild()
    again.follow()
    assert all(len(again.on_tape(study)) == 2 for study in (1, 2, 3))
    again.check()
    again.close()


def test_a_stop_between_writing_and_reading_back_leaves_the_copy_written(make_world: MakeWorld) -> None:
    world = make_world(policies=TWO_TAPES.replace("tape: 2", "tape: 1").replace(">= 2", ">= 1"))
    world.store(1, 1)
    world.seal_all()
    prove = world.migrate.proofs.prove

    def stop_first(*arguments: Any) -> None:
        world.workers.ask_to_stop()
        prove(*arguments)

    world.migrate.proofs.prove = stop_first  # type: ignore[method-assign]
    world.policies.run(None, dry_run=False, by="test")
    world.workers.drive_step()
    assert world.copies(1)["1.p0001", "HSM001L8"] == CopyState.WRITTEN
    assert {(copy.state, copy.attempts) for copy in world.requests(kind="copy")} == {("queued", 0)}
    again = world.rebuild()
    again.follow()
    assert again.on_tape(1) == ["HSM001L8"]
    again.check()
    again.close()


def test_every_live_request_is_about_something(make_world: MakeWorld) -> None:
    world = on_tape(make_world, studies=3)
    with world.catalog.read() as session:
        states = set(session.scalars(select(Request.state)))
    assert states == {"done"}
    world.check()
