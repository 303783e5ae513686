"""Storage commitment in the simulated archive: what is promised, what waits, and what a restart leaves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hsm import commitment, delivery
from hsm.catalog import queue
from hsm.commitment import Failure, Item, Result
from hsm.dicom.commit import event_information
from hsm.dicom.contexts import is_storage_class
from hsm.errors import NoSpace
from hsm.states import CopyState
from tests.sim.conftest import MakeWorld
from tests.sim.world import NEARLINE, NOTHING, Shape, World, header

TAPE = "policy: t\npriority: 1\ncopies: {tape: 1}\nrules: [{name: t, copy to: tape}]\n"
CT = header(1, 1).sop_class_uid
TRANSACTION = "2.25.77"


def items(study: int = 1, count: int = 2) -> list[Item]:
    return [Item(CT, header(study, number).sop_instance_uid) for number in range(1, count + 1)]


def asked(world: World, wanted: Sequence[Item], transaction: str = TRANSACTION) -> Result:
    """Ask, let the archive work, and give the one report."""
    world.commitments.ask("CT1", transaction, wanted)
    world.settle()
    (result,) = world.reported
    world.reported.clear()
    return result


def reasons(result: Result) -> list[Failure]:
    return [failed.reason for failed in result.failed]


def waits_for(world: World) -> str:
    """Of the one request, which is not reported yet."""
    (waiting,) = world.requests(kind="commit")
    assert waiting.state == "queued"
    with world.catalog.read() as session:
        order = queue.get(session, waiting.pk)
    return world.commitments.result(order, world.wait_for, world.commit_seconds_max).waits_for


def test_what_was_just_received_is_committed_once_it_was_read_back(make_world: MakeWorld) -> None:
    world = make_world(policies=NOTHING)
    world.store(1, 2)
    result = asked(world, items())
    assert (result.calling, result.transaction_uid) == ("CT1", TRANSACTION)
    assert [each.item for each in result.committed] == items()
    assert result.failed == ()


def test_a_file_that_has_other_bytes_than_were_stored_is_not_committed(make_world: MakeWorld) -> None:
    world = make_world(policies=NOTHING)
    world.store(1, 2)
    file = world.online_file(1, 1)
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    result = asked(world, items())
    assert [(each.item, each.reason) for each in result.failed] == [(items()[0], Failure.PROCESSING_FAILURE)]
    assert [each.item for each in result.committed] == items()[1:]


def test_each_instance_that_cannot_be_committed_has_its_own_reason(make_world: MakeWorld) -> None:
    world = make_world(policies=NOTHING)
    world.store(1, 1)
    worklist = "1.2.840.10008.5.1.4.31"
    assert not is_storage_class(worklist)
    (mine,) = items(count=1)
    wanted = [
        mine,
        Item(CT, "2.25.404"),
        Item("1.2.840.10008.5.1.4.1.1.4", mine.sop_instance_uid),
        Item(worklist, "2.25.405"),
    ]
    result = asked(world, wanted)
    assert [each.item for each in result.committed] == [mine]
    assert reasons(result) == [
        Failure.NO_SUCH_OBJECT,
        Failure.CLASS_INSTANCE_CONFLICT,
        Failure.SOP_CLASS_NOT_SUPPORTED,
    ]


def test_a_study_that_is_on_tape_only_is_committed_and_the_cartridge_is_named(make_world: MakeWorld) -> None:
    policy = TAPE.replace(
        "to: tape}]", "to: tape}, {name: free, release from: online, when: copies(tape) >= 1}]"
    )
    world = make_world(policies=policy)
    world.store(1, 2)
    world.follow()
    assert world.copies(1)["1.p0001", "online"] == "released"
    result = asked(world, items())
    media = {each.medium for each in result.committed}
    (medium,) = media
    assert medium is not None
    assert (medium.name, medium.uuid) == ("HSM001L8", world.volume("HSM001L8").uuid)


def test_a_copy_that_is_suspect_promises_nothing(make_world: MakeWorld) -> None:
    world = make_world(policies=NOTHING)
    world.store(1, 2)
    world.seal_all()
    file = world.online_file(1, 1)
    file.write_bytes(b"x" * file.stat().st_size)
    wait = world.retrieve(1)
    wait.look()
    wait.close()
    assert world.copies(1)["1.p0001", "online"] == CopyState.SUSPECT
    assert reasons(asked(world, items())) == [Failure.PROCESSING_FAILURE] * 2


def test_where_copies_are_waited_for_nothing_is_said_until_policys_copies_are_verified(
    make_world: MakeWorld,
) -> None:
    world = make_world(policies=TAPE)
    world.wait_for = "copies"
    world.store(1, 2)
    world.commitments.ask("CT1", TRANSACTION, items())
    world.settle()
    assert "not sealed yet" in waits_for(world)
    world.seal_all()
    world.later(400)
    assert "1 verified in tape, has 0" in waits_for(world)
    assert world.reported == []
    world.follow()
    world.later(400)
    (result,) = world.reported
    assert len(result.committed) == 2 and result.failed == ()
    assert world.on_tape(1) == ["HSM001L8"]


def test_copies_that_never_come_end_the_wait_with_a_failure(make_world: MakeWorld) -> None:
    world = make_world(policies=TAPE)
    world.wait_for, world.commit_seconds_max = "copies", 3600.0
    world.store(1, 2)
    world.commitments.ask("CT1", TRANSACTION, items())
    world.settle()
    assert world.reported == []
    for _ in range(14):
        world.later(300)
    (result,) = world.reported
    assert reasons(result) == [Failure.PROCESSING_FAILURE] * 2, "the peer keeps its images"


def test_copies_for_which_nothing_has_room_end_the_wait_with_that_reason(make_world: MakeWorld) -> None:
    world = make_world(policies=TAPE, shape=Shape(cartridges=0))
    world.wait_for, world.commit_seconds_max = "copies", 3600.0
    world.store(1, 2)
    world.store(2, 1)
    world.commitments.ask("CT1", TRANSACTION, [*items(), *items(2, 1)])
    world.seal_all()
    world.run_policies()
    assert world.reported == []
    for _ in range(14):
        world.later(300)
    (result,) = world.reported
    assert reasons(result) == [Failure.RESOURCE_LIMITATION] * 3
    assert event_information(result, "HSM")[1].FailedSOPSequence[0].FailureReason == 0x0213


def test_what_waits_for_its_copies_is_reported_by_the_next_daemon(make_world: MakeWorld) -> None:
    world = make_world(policies=TAPE)
    world.wait_for = "copies"
    world.store(1, 2)
    world.commitments.ask("CT1", TRANSACTION, items())
    world.settle()
    again = world.rebuild()
    again.wait_for = "copies"
    again.later(400)
    assert again.reported == []
    third = again.rebuild()
    third.wait_for = "copies"
    third.follow()
    third.later(400)
    (result,) = third.reported
    assert len(result.committed) == 2
    assert {each.medium.name for each in result.committed if each.medium} == {"HSM001L8"}
    third.close()


def test_no_policy_is_nothing_to_wait_for(make_world: MakeWorld) -> None:
    world = make_world(policies=NOTHING)
    world.wait_for = "copies"
    world.store(1, 1)
    world.seal_all()
    assert len(asked(world, items(count=1)).committed) == 1


def test_a_request_outlives_the_daemon_and_a_peer_that_is_down_is_told_later(make_world: MakeWorld) -> None:
    world = make_world(policies=NEARLINE)
    world.store(1, 2)
    world.destinations_down.add("CT1")
    world.commitments.ask("CT1", TRANSACTION, items())
    world.settle()
    again = world.rebuild()
    again.destinations_down.clear()
    again.later(700)
    (result,) = again.reported
    assert len(result.committed) == 2
    (request,) = again.requests(kind="commit")
    assert request.state == "done"
    again.close()


def test_the_same_request_again_is_one_and_other_instances_under_its_uid_fail_as_a_duplicate(
    make_world: MakeWorld,
) -> None:
    world = make_world(policies=NOTHING)
    world.store(1, 2)
    world.commitments.ask("CT1", TRANSACTION, items())
    world.commitments.ask("CT1", TRANSACTION, items())
    world.commitments.ask("CT1", TRANSACTION, items(count=1))
    world.commitments.ask("MR1", TRANSACTION, items(count=1))
    world.settle()
    told = {(each.calling, len(each.committed), tuple(reasons(each))) for each in world.reported}
    assert told == {("CT1", 2, ()), ("CT1", 0, (Failure.DUPLICATE_TRANSACTION_UID,)), ("MR1", 1, ())}
    assert len(world.reported) == 3


def test_of_two_versions_of_one_uid_both_must_be_safe(make_world: MakeWorld) -> None:
    world = make_world(policies=NOTHING)
    world.store(1, 1, size=2000)
    world.store_one(header(1, 1), b"\0" * 3000 + bytes(range(256)))
    versions = sorted(world.online_file(1, 1).parent.glob("*.dcm"))
    assert len(versions) == 2
    versions[0].unlink()
    assert reasons(asked(world, items(count=1))) == [Failure.PROCESSING_FAILURE]


def test_requests_and_deliveries_that_wait_are_bounded(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(policies=NOTHING)
    monkeypatch.setattr(commitment, "PENDING_MAX", 2)
    monkeypatch.setattr(delivery, "PENDING_MAX", 2)
    deliveries = delivery.Deliveries(world.catalog, world.bell)
    for number in range(2):
        world.commitments.ask("CT1", f"2.25.{number}", items())
        deliveries.begin("WS1", "CT1", number, ())
    with pytest.raises(NoSpace, match="2 requests commit:CT1:"):
        world.commitments.ask("CT1", "2.25.2", items())
    with pytest.raises(NoSpace, match="deliver:WS1:"):
        deliveries.begin("WS1", "CT1", 3, ())
    world.commitments.ask("CT2", "2.25.2", items())
    deliveries.begin("WS2", "CT1", 3, ())
    world.settle()
    world.commitments.ask("CT1", "2.25.3", items())
