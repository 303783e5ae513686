"""Errors of drives and cartridges: who is suspected, what is tried next, what goes out of service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from drivers.simulated.faults import dead_drive, door_open
from hsm.audit.verify import AskedFor, VerifyAudit
from hsm.errors import OperatorNeeded, Refused
from hsm.mediawatch import MediaWatch
from tests.sim.conftest import MakeWorld
from tests.sim.test_volume_life import TO_TAPE
from tests.sim.world import NOTHING, TWO_TAPES, Shape, World

FIRST, SECOND = 256, 257


def sealed(make_world: MakeWorld, studies: int = 1, **options: Any) -> World:
    world = make_world(**({"policies": TO_TAPE} | options))
    for study in range(1, studies + 1):
        world.store(study, 1)
    world.seal_all()
    return world


def use(world: World, drive: int, volume: str) -> Mapping[str, Any]:
    shown: Any = world.use.report("library")
    return next(each for each in shown["uses"] if (each["drive"], each["volume"]) == (drive, volume))


def test_sessions_are_counted_by_drive_and_cartridge(make_world: MakeWorld) -> None:
    world = sealed(make_world, 2)
    world.run_policies()
    counted = use(world, FIRST, "HSM001L8")
    assert (counted["sessions"], counted["writes"], counted["reads"]) == (1, 2, 2)
    assert counted["bytes_written"] == counted["bytes_read"] > 40_000
    assert (counted["hard_errors"], counted["blame"]) == (0, "")


@pytest.mark.parametrize("operation", ["write", "flush"])
def test_after_a_write_error_another_drive_is_tried_with_the_same_cartridge(
    make_world: MakeWorld, operation: str
) -> None:
    world = sealed(make_world, 3)
    world.fault(operation, "permanent", drive=FIRST, barcode="HSM001L8", nth=2 if operation == "write" else 1)
    world.run_policies()
    world.later()
    for study in (1, 2, 3):
        assert world.on_tape(study) == ["HSM001L8"], "not one package is counted twice or lost"
        world.assert_readable(study)
    assert use(world, FIRST, "HSM001L8")["hard_errors"] == 1
    assert use(world, FIRST, "HSM001L8")["blame"] == "drive", "the cartridge works in the other one"
    assert use(world, SECOND, "HSM001L8")["hard_errors"] == 0
    assert world.volume("HSM001L8").state == "active"
    world.check()


def test_a_catalog_that_is_lost_during_a_session_blames_neither_drive_nor_cartridge_nor_program(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lost(*_: object) -> None:
        raise OperationalError("UPDATE", {}, ConnectionError("connection refused"))

    world = sealed(make_world)
    with monkeypatch.context() as patch:
        patch.setattr("hsm.drivesession.media.set_room", lost)
        world.run_policies()
    said = [record.getMessage() for record in caplog.records]
    assert any("the catalog: " in text and "connection refused" in text for text in said)
    assert not any("unexpected" in text for text in said)
    world.later()
    world.assert_readable(1)
    assert use(world, FIRST, "HSM001L8")["hard_errors"] == 0
    assert world.volume("HSM001L8").state == "active"


def test_a_read_error_sends_the_recall_to_the_other_drive(make_world: MakeWorld) -> None:
    world = sealed(make_world, policies=TWO_TAPES)
    world.follow()
    world.use_policies(NOTHING)
    world.custody.unmount_all()
    world.library.hand_remove("HSM002L8")
    world.custody.inventory()
    world.fault("read", "permanent", times=None, drive=FIRST, barcode="HSM001L8")
    world.assert_readable(1)
    assert world.copies(1)["1.p0001", "HSM001L8"] == "verified", "the cartridge is as good as it was"
    assert world.prompts() == []
    world.check()


def test_what_neither_drive_can_read_is_suspect_and_the_other_copy_is_read(make_world: MakeWorld) -> None:
    world = sealed(make_world, policies=TWO_TAPES)
    world.follow()
    world.use_policies(NOTHING)
    world.fault("read", "permanent", times=None, barcode="HSM001L8")
    world.assert_readable(1)
    assert world.copies(1)["1.p0001", "HSM001L8"] == "suspect"
    world.check()


def test_a_drive_that_fails_with_several_cartridges_goes_out_of_service(make_world: MakeWorld) -> None:
    world = sealed(make_world, 1, shape=Shape(cartridges=6))
    world.fault("write", "permanent", times=None, drive=FIRST)
    for study in range(2, 8):
        world.run_policies()
        world.later()
        world.custody.unmount_all()
        world.custody.inventory()
        for barcode in ("HSM001L8", "HSM002L8", "HSM003L8"):
            if world.volume(barcode).state == "active" and world.volume(barcode).place == "slot":
                world.custody.export(barcode, "A", "alice")
        world.store(study, 1)
        world.seal_all()
    world.run_policies()
    world.later()
    off = world.use.out_of_service()
    assert list(off) == [("library", FIRST)]
    assert "it failed with 3 cartridges" in off["library", FIRST]
    problem = next(each for each in MediaWatch(world.catalog, world.pools).problems() if "drive" in each)
    assert "hsm library drive library 256 on" in problem
    assert ("out of service", {"why": off["library", FIRST]}) in world.history("library/256")
    for study in range(1, 8):
        assert len(world.on_tape(study)) == 1, "the other drive wrote it"
    world.check()
    world.use.set_service("library", FIRST, True, "bob", "cleaned")
    assert world.use.out_of_service() == {}
    assert use(world, FIRST, "HSM001L8")["failing"] == 0


def test_a_dead_drive_with_a_cartridge_inside_is_left_out_and_the_work_goes_elsewhere(
    make_world: MakeWorld,
) -> None:
    world = sealed(make_world, policies=TWO_TAPES)
    world.follow()
    world.use_policies(NOTHING)
    (inside,) = (
        each.barcode for each in world.library.inventory().drives() if each.address == FIRST and each.barcode
    )
    world.library.faults.add(dead_drive(FIRST))
    world.assert_readable(1)
    world.store(2, 1)
    world.use_policies(TO_TAPE)
    world.follow()
    assert len(world.on_tape(2)) == 1
    world.check()
    assert inside in world.on_tape(1), "what is inside is as good as it was"


def test_nothing_is_done_in_a_drive_that_is_out_of_service(make_world: MakeWorld) -> None:
    world = sealed(make_world)
    for drive in (FIRST, SECOND):
        world.use.set_service("library", drive, False, "alice", "being cleaned")
    world.run_policies()
    world.later()
    assert world.on_tape(1) == []
    assert "no drive in service" in world.requests(kind="copy")[0].error
    world.use.set_service("library", SECOND, True, "alice", "")
    world.later()
    assert world.on_tape(1) == ["HSM001L8"]
    assert [each["drive"] for each in world.use.report("library")["uses"]] == [SECOND]  # type: ignore[attr-defined]


def test_a_pool_that_wants_another_drive_to_read_back_counts_nothing_before(make_world: MakeWorld) -> None:
    world = sealed(make_world, 2, shape=Shape(tape={"verify": "other-drive"}))
    world.use.set_service("library", SECOND, False, "alice", "away")
    world.use.set_service("library", SECOND, True, "alice", "")
    world.run_policies()
    world.later()
    assert world.on_tape(1) == world.on_tape(2) == ["HSM001L8"]
    wrote, proved = use(world, FIRST, "HSM001L8"), use(world, SECOND, "HSM001L8")
    assert (wrote["writes"], wrote["reads"]) == (2, 0)
    assert proved["reads"] == 2
    world.check()


def test_with_one_drive_it_reads_back_itself(make_world: MakeWorld) -> None:
    world = sealed(make_world, shape=Shape(drives=1, tape={"verify": "other-drive"}))
    world.run_policies()
    assert world.on_tape(1) == ["HSM001L8"]


def test_of_a_sample_the_rest_is_written_and_counts_for_nothing_until_it_is_read_back(
    make_world: MakeWorld,
) -> None:
    world = sealed(make_world, 4, shape=Shape(tape={"verify": "sample 25%"}))
    seen: list[list[str]] = []
    world.tapped.on_mount = lambda _: seen.append(sorted(world.copies().values()))
    world.run_policies()
    assert any(states.count("written") == 3 for states in seen), "three wait for their reading back"
    assert all(world.on_tape(study) == ["HSM001L8"] for study in (1, 2, 3, 4))
    assert use(world, FIRST, "HSM001L8")["sessions"] == 2
    world.check()


def test_a_drive_is_cleaned_when_it_is_asked_for_and_says_what_it_is(make_world: MakeWorld) -> None:
    world = sealed(make_world, shape=Shape(cartridges=2))
    world.run_policies()
    report: Any = world.use.report("library")
    assert {"product", "serial", "cleaning_asked", "alerts"} <= report["drives"][0].keys()
    with pytest.raises(OperatorNeeded, match="no cleaning cartridge"):
        world.custody.clean("library", FIRST, "alice")
    with world.drives.claimed("library", FIRST), pytest.raises(Refused, match="in use"):
        world.custody.clean("library", FIRST, "alice")
    assert world.history(f"library/{FIRST}") == [], "nothing was cleaned"


def test_a_cartridge_that_is_being_taken_out_for_another_one_is_waited_for_and_counts_no_attempt(
    make_world: MakeWorld,
) -> None:
    """The dispatcher looks again while the first drive still changes cartridges."""
    world = sealed(make_world, 1, policies=TWO_TAPES)
    world.run_policies()
    world.later()
    world.use_policies(NOTHING)
    world.custody.unmount_all()
    world.custody.load("HSM001L8", FIRST, "alice")
    world.drives.claim("library", SECOND)
    audit = VerifyAudit(world.catalog, world.pools, world.bell)
    audit.ask(AskedFor(volume="HSM002L8"), "alice")

    def look_again(barcode: str) -> None:
        if barcode == "HSM002L8":
            world.tapped.on_mount = lambda _: None
            world.drives.free("library", SECOND)
            audit.ask(AskedFor(volume="HSM001L8"), "alice")
            world.workers.drive_step()

    world.tapped.on_mount = look_again
    world.settle()
    done = world.requests(kind="verify")
    assert [(each.state, each.attempts, each.error) for each in done] == [("done", 1, "")] * 2
    world.check()


def test_a_robot_that_does_not_answer_makes_the_work_wait_and_says_so(make_world: MakeWorld) -> None:
    world = sealed(make_world)
    world.library.faults.add(door_open())
    world.run_policies()
    for _ in range(3):
        world.later()
    assert world.on_tape(1) == []
    assert world.use.out_of_service() == {}, "an open door is no drive's fault"
    world.heal()
    world.later(4000)
    assert len(world.on_tape(1)) == 1
    world.check()
