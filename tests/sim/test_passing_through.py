"""Packages that are larger than the staging area: they pass through it to those who wait."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.simulated.medium import flip_byte
from hsm.clock import ManualClock
from hsm.model import Priority
from hsm.recall import BACK_PRESSURE_SECONDS
from tests.sim.conftest import MakeWorld
from tests.sim.world import NOTHING, TWO_TAPES, Got, Shape, Wait, World, study_uid

AREA = 1 << 20
COUNT, SIZE = 24, 100_000
SHAPE = Shape(staging_bytes=AREA, capacity_bytes=16 << 20)


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """A study of 2.4 MB on tape and nowhere else, and a staging area of 1 MiB."""
    return large(make_world)


def large(make_world: MakeWorld, **options: object) -> World:
    world = make_world(shape=SHAPE, **options)
    world.store(1, COUNT, size=SIZE)
    world.follow()
    return world


def staged(world: World) -> list[Path]:
    return list((world.home / "staging").iterdir())


def bytes_staged(world: World) -> int:
    return sum(path.stat().st_size for path in staged(world))


def whole(world: World, got: Got, study: int = 1) -> bool:
    wanted = {
        uid: digest for uid, digest in world.acknowledged.items() if uid.startswith(f"{study_uid(study)}.")
    }
    return got.lost == {} and {u: hashlib.sha256(d).digest() for u, d in got.files.items()} == wanted


def to_the_end(world: World, *waits: Wait, rounds: int = 20) -> int:
    """Look and let time pass by turns until everyone has everything; the rounds that took."""
    for number in range(rounds):
        world.later(11)
        assert bytes_staged(world) <= AREA
        if not any([wait.look().waiting for wait in waits]):  # noqa: C419  everyone looks
            return number + 1
    raise AssertionError(f"still waiting: {[wait.got.waiting for wait in waits]}, {world.requests()}")


def test_a_study_larger_than_the_staging_area_comes_through_whole_in_bounded_space(world: World) -> None:
    wait = world.retrieve(1)
    to_the_end(world, wait)
    assert whole(world, wait.got)
    wait.close()
    world.settle()
    assert staged(world) == [], "nothing of it stays"
    assert [each.state for each in world.requests(kind="recall")] == ["done"]
    world.check()


def test_the_first_instance_goes_out_long_before_the_last_is_read(world: World) -> None:
    wait = world.retrieve(1)
    world.settle()
    got = wait.look()
    assert 0 < len(got.files) < COUNT
    assert world.staging.arrived(f"{study_uid(1)}.p0001.tar") < COUNT * SIZE
    to_the_end(world, wait)
    wait.close()


def test_two_waiters_of_one_share_the_reads(world: World) -> None:
    waits = [world.retrieve(1, who) for who in ("C-MOVE from A", "C-GET from B")]
    to_the_end(world, *waits)
    assert all(whole(world, wait.got) for wait in waits)
    assert len(world.requests(kind="recall")) == 1
    for wait in waits:
        wait.close()
    assert staged(world) == []


def test_who_comes_late_gets_what_still_passes_and_the_rest_when_it_is_read_again(world: World) -> None:
    first = world.retrieve(1)
    world.settle()
    first.look()
    world.later(11)
    late = world.retrieve(1, "C-GET from B")
    got = late.look()
    assert len(got.files) > 0, "what is there is given at once"
    early = {each.sop_instance_uid for each in world.instances(1)[:3]}
    assert not early & set(got.files), "what has gone by comes later"
    to_the_end(world, first, late)
    assert whole(world, first.got) and whole(world, late.got)
    first.close()
    late.close()
    assert staged(world) == []
    world.check()


def test_one_series_of_it_is_read_and_no_more(world: World) -> None:
    world.store(2, 3, size=SIZE, series=1)
    world.store(2, 20, size=SIZE, series=2)
    world.follow()
    few = [each for each in world.instances(2) if each.series_uid.endswith(".1")]
    wait = Wait(world.retrievals.open(few, "C-GET", Priority.ROUTINE))
    world.settle()
    assert len(wait.look().files) == 3
    assert world.staging.arrived(f"{study_uid(2)}.p0001.tar") < 6 * SIZE
    wait.close()


def test_a_flipped_byte_on_its_tape_is_never_served_and_the_other_copy_is_read(
    make_world: MakeWorld,
) -> None:
    world = large(make_world, policies=TWO_TAPES)
    world.use_policies(NOTHING)
    at = world.instances(1)[15].offset or 0
    flip_byte(world.library.medium_folder("HSM001L8"), world.tar_of(1), at + 50)
    flip_byte(world.library.medium_folder("HSM001L8"), world.tar_of(1), at + 5000)
    wait = world.retrieve(1)
    to_the_end(world, wait)
    assert whole(world, wait.got)
    assert world.copies(1)["1.p0001", "HSM001L8"] == "suspect"
    assert world.copies(1)["1.p0001", "HSM002L8"] == "verified"
    wait.close()
    world.check()


def test_bytes_damaged_in_the_staging_area_are_read_again_and_the_tape_is_not_blamed(world: World) -> None:
    wait = world.retrieve(1)
    world.settle()
    for path in staged(world):
        path.write_bytes(b"\0" * path.stat().st_size)
    to_the_end(world, wait)
    assert whole(world, wait.got)
    assert world.copies(1)["1.p0001", "HSM001L8"] == "verified"
    wait.close()


def test_a_restart_in_the_middle_leaves_nothing_behind_and_the_next_waiter_gets_everything(
    world: World,
) -> None:
    wait = world.retrieve(1)
    world.settle()
    assert wait.look().waiting
    assert staged(world)
    again = world.rebuild()
    assert staged(again) == []
    wait = again.retrieve(1)
    to_the_end(again, wait)
    assert whole(again, wait.got)
    wait.close()
    assert staged(again) == []
    again.check()
    again.close()


def test_its_recall_without_anybody_who_waits_says_why_it_cannot_be_kept(world: World) -> None:
    asked = world.recall.request_study(study_uid(1), Priority.ROUTINE, "alice")
    assert asked["too_large"] == [f"{study_uid(1)}.p0001.tar"]
    assert world.requests(kind="recall") == []


def test_a_waiter_that_leaves_in_the_middle_frees_the_room(world: World) -> None:
    wait = world.retrieve(1)
    world.settle()
    wait.look()
    wait.close()
    assert staged(world) == []
    assert world.staging.used_bytes == 0
    world.later(11)
    (recall,) = world.requests(kind="recall")
    assert recall.state == "cancelled", "nobody wants it, and nothing has failed"
    again = world.retrieve(1)
    to_the_end(world, again)
    assert whole(world, again.got)
    again.close()
    world.check()


def test_an_instance_larger_than_the_area_is_refused_with_what_to_do(make_world: MakeWorld) -> None:
    world = make_world(shape=SHAPE)
    world.store(1, 1, size=AREA + 1)
    world.follow()
    wait = world.retrieve(1)
    world.settle()
    (reason,) = wait.look().lost.values()
    assert "raise staging.size_max_bytes" in reason
    wait.close()
    world.check()


def test_a_delivery_that_comes_and_goes_finds_what_was_kept_for_it(world: World) -> None:
    uids = [each.sop_instance_uid for each in world.instances(1)]
    key = world.deliveries.begin("DEST", "WS1", 7, world.instances(1))
    world.deliveries.hand_over(key, uids)
    for _ in range(12):
        world.later()
    assert sorted(world.delivered) == sorted(("DEST", uid) for uid in uids)
    world.check()


class Meanwhile(ManualClock):
    """Whenever the archive waits, somebody does something."""

    act: Callable[[], object] | None = None

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if self.act is not None:
            self.act()
        return super().wait(event, seconds)


def test_a_slow_waiter_does_not_keep_the_drive_from_a_quick_one(make_world: MakeWorld) -> None:
    clock = Meanwhile()
    world = large(make_world, clock=clock)
    quick, slow = world.retrieve(1, "quick"), world.retrieve(1, "slow")
    began = clock.monotonic()
    clock.act = quick.look
    world.settle()
    assert whole(world, quick.look()), "in one go"
    assert clock.monotonic() - began < 2 * BACK_PRESSURE_SECONDS
    assert slow.got.files == {}
    clock.act = None
    to_the_end(world, slow)
    assert whole(world, slow.got), "its turn comes with another read"
    quick.close()
    slow.close()
    assert staged(world) == []


def test_a_quick_waiter_gets_all_of_it_with_one_mount_and_one_read(make_world: MakeWorld) -> None:
    clock = Meanwhile()
    world = large(make_world, clock=clock)
    mounts = []
    world.tapped.on_mount = lambda _: mounts.append(1)
    wait = world.retrieve(1)
    clock.act = wait.look
    world.settle()
    assert whole(world, wait.look())
    assert len(mounts) == 1
    assert world.requests(kind="recall")[0].attempts == 1
    wait.close()


def test_of_a_package_that_fits_too_the_first_instance_goes_out_while_the_rest_is_read(
    make_world: MakeWorld,
) -> None:
    world = make_world(shape=Shape(capacity_bytes=16 << 20))
    world.store(1, 6, size=900_000)
    world.follow()
    wait = world.retrieve(1)
    had: list[int] = []
    watch = world.session.stopwatch.read

    def looking(*given: Any, **more: Any) -> Iterator[bytes]:
        for chunk in watch(*given, **more):
            had.append(len(wait.look().files))
            yield chunk

    world.session.stopwatch.read = looking  # type: ignore[method-assign]
    world.settle()
    assert had[0] == 0
    assert 1 <= had[-1] < 6, "before the last piece was read"
    assert len(wait.look().files) == 6
    assert world.staging.complete(f"{study_uid(1)}.p0001.tar")
    wait.close()
