"""Requests that must not be in each other's way, must not be tied for ever, and must not be nagged about."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from hsm import planner, sight
from hsm.catalog import instances, placement, portions, queue, queuelooks, requesting
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Waiter
from hsm.errors import Permanent, Refused
from hsm.model import Priority
from hsm.retrieval import Retrieval
from hsm.states import RequestKind
from tests.sim.conftest import MakeWorld
from tests.sim.world import NEARLINE, TWO_TAPES, Shape, Wait, World

TAPE = """\
policy: tape
priority: 1
copies: {tape: 1}
rules:
  - {name: to tape, copy to: tape}
  - {name: free online, release from: online, when: copies(tape) >= 1}
"""


def on_tape(make_world: MakeWorld, studies: int = 1, **options: Any) -> World:
    world: World = make_world(**{"policies": TAPE, **options})
    for study in range(1, studies + 1):
        world.store(study, 2)
    world.follow()
    return world


def failed(world: World) -> int:
    with world.catalog.read() as session:
        return queuelooks.failed_total(session)


def test_a_recall_that_waits_for_one_cartridge_goes_on_when_another_copy_comes_in(
    make_world: MakeWorld,
) -> None:
    world = on_tape(make_world, policies=TWO_TAPES)
    for barcode in world.on_tape(1):
        world.custody.export(barcode, "B3", "alice")
    wait = world.retrieve(1)
    world.settle()
    (asked,) = world.prompts()
    (other,) = {"HSM001L8", "HSM002L8"} - {asked}
    world.custody.import_(other, "alice")
    world.settle()
    got = wait.look()
    assert (len(got.files), got.lost, got.waiting) == (2, {}, 0)
    assert world.prompts() == [], "nobody is sent for what is not needed any more"
    assert world.volume(asked).place == "shelf"
    wait.close()
    world.check()


def test_a_cartridge_with_a_bad_copy_comes_in_and_the_good_one_is_still_asked_for(
    make_world: MakeWorld,
) -> None:
    world = on_tape(make_world, policies=TWO_TAPES)
    for barcode in world.on_tape(1):
        world.custody.export(barcode, "B3", "alice")
    wait = world.retrieve(1)
    world.settle()
    (asked,) = world.prompts()
    (other,) = {"HSM001L8", "HSM002L8"} - {asked}
    with world.catalog.write() as session:
        (package,) = placement.packages_of_studies(session, [1])
        copies = placement.copies(session, [package.pk])[package.pk]
        pk = next(copy.copy_pk for copy in copies if copy.volume_name == other)
        placement.move_copy(session, pk, placement.CopyState.SUSPECT, world.now(), "test", why="test")
    world.custody.import_(other, "alice")
    world.settle()
    assert world.prompts() == [asked]
    assert [request.state for request in world.requests(kind="recall")] == ["waiting"]
    wait.close()
    world.check()


def test_an_instance_larger_than_the_staging_area_is_refused_at_once_and_says_what_to_change(
    make_world: MakeWorld,
) -> None:
    world = make_world(policies=TAPE, shape=Shape(staging_bytes=1 << 20))
    world.store(1, 1, size=1_500_000)
    world.store(1, 1, first=2)
    world.store(2, 1)
    world.follow()
    waits = [world.retrieve(1), world.retrieve(2)]
    world.settle()
    got = waits[0].look()
    (reason,) = got.lost.values()
    assert "raise staging.size_max_bytes" in reason
    assert (len(got.files), got.waiting) == (1, 0), "what is small enough comes"
    assert len(waits[1].look().files) == 1, "its neighbour is read in the same session"
    for wait in waits:
        wait.close()
    assert {request.state for request in world.requests(kind="recall")} == {"done"}
    assert world.copies(1)["1.p0001", "HSM001L8"] == "verified", "the copy has no part in it"
    with world.catalog.read() as session:
        studies, count, largest = instances.too_large(session, world.staging.room)
    assert (studies, count) == (1, 1)
    assert largest > 1_500_000
    again = world.rebuild(shape=Shape(staging_bytes=4 << 20))
    again.assert_readable(1)
    again.check()
    again.close()


@pytest.mark.parametrize("which", [1, 2, 3])
def test_a_retrieve_that_cannot_be_opened_leaves_neither_waiters_nor_pins(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    # Room for two of the three in the staging area: what stayed pinned would keep the last one out.
    world = make_world(policies=TAPE, shape=Shape(staging_bytes=1_300_000, capacity_bytes=8 << 20))
    for study in (1, 2, 3):
        world.store(study, 1, size=600_000)
    world.follow()
    instances = [each for study in (1, 2, 3) for each in world.instances(study)]
    attach, calls = world.recall.attach, []

    def failing(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == which:
            raise OperationalError("INSERT", {}, Exception("the server is restarting"))
        return attach(*args)

    monkeypatch.setattr(world.recall, "attach", failing)
    with pytest.raises(OperationalError):
        world.retrievals.open(instances, "C-MOVE from WS1", Priority.ROUTINE)
    monkeypatch.undo()
    with world.catalog.read() as session:
        assert session.scalar(select(func.count()).select_from(Waiter)) == 0
    assert len(world.requests(kind="recall")) == which - 1
    world.settle()
    for study in (1, 2, 3):
        world.assert_readable(study)
    world.check()


def test_a_retrieve_is_closed_though_the_catalog_does_not_answer(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = on_tape(make_world, 2)
    instances = world.instances(1) + world.instances(2)
    retrieval: Retrieval = world.retrievals.open(instances, "C-MOVE from WS1", Priority.ROUTINE)

    def down(*_: object) -> None:
        raise OperationalError("DELETE", {}, Exception("the server is restarting"))

    monkeypatch.setattr(queue, "remove_waiters", down)
    retrieval.close()
    monkeypatch.undo()
    world.settle()
    with world.catalog.read() as session:
        keys = [ref.key for ref in placement.packages_of_studies(session, [1, 2])]
    assert [world.staging.complete(key) for key in keys] == [True, True]
    world.staging.admit("1.2.3.p0001.tar", world.staging.size_max_bytes).abort()
    assert [world.staging.complete(key) for key in keys] == [False, False], "not pinned: they made room"


def test_more_requests_than_one_look_considers_are_all_served(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = on_tape(make_world, 7)
    monkeypatch.setattr(sight, "REQUESTS_MAX", 2)
    waits = [world.retrieve(study) for study in range(1, 8)]
    urgent = world.retrieve(7, priority=Priority.STAT)
    with world.catalog.read() as session:
        picture = sight.look(session, world.pools, world.staging, world.reader, world.now())
    assert [work.priority for work in picture.work] == [Priority.STAT, Priority.ROUTINE]
    world.settle()
    assert [len(wait.look().files) for wait in [*waits, urgent]] == [2] * 8
    for wait in [*waits, urgent]:
        wait.close()
    world.check()


def test_requests_that_cannot_go_on_are_not_in_the_way_of_others(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(policies=TAPE, shape=Shape(cartridges=1, capacity_bytes=400_000))
    for study in (1, 2, 3, 4):
        world.store(study, 1, size=150_000)
    world.follow()
    stuck = world.requests(kind="copy", state="queued")
    assert len(stuck) >= 2, "they wait for a blank cartridge"
    monkeypatch.setattr(sight, "REQUESTS_MAX", 1)
    (barcode,) = world.on_tape(1)
    assert world.volumes.verify(barcode, "alice")["requests"] >= 1, "less urgent than any copy"
    world.settle()
    assert {request.state for request in world.requests(kind="verify")} == {"done"}
    assert world.requests(kind="copy", state="queued") != []
    world.check()


def test_a_look_at_more_packages_than_fit_into_one_statement(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = on_tape(make_world, 5)
    monkeypatch.setattr(portions, "IN_LIST_MAX", 2)
    with world.catalog.read() as session:
        refs = placement.packages_of_studies(session, [1, 2, 3, 4, 5])
        pks = [ref.pk for ref in refs]
        assert placement.packages(session, pks) == {ref.pk: ref for ref in refs}
        assert [len(copies) for copies in placement.copies(session, pks).values()] == [1] * 5
    instances = [each for study in range(1, 6) for each in world.instances(study)]
    wait = Wait(world.retrievals.open(instances, "C-MOVE from WS1", Priority.ROUTINE))
    world.settle()
    assert len(wait.look().files) == 10
    wait.close()


def test_no_number_of_packages_is_too_many_for_one_question(sqlite_catalog: Catalog) -> None:
    many = range(1, 250_002)  # more than any build of SQLite takes as parameters of one statement
    with sqlite_catalog.read() as session:
        assert set(placement.copies(session, many)) == set(many)
        assert placement.packages(session, many) == {}
        assert instances.instances(session, many) == {}


def test_a_failed_request_is_counted_until_later_work_makes_it_good(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(policies=NEARLINE)
    world.store(1, 2)
    world.seal_all()

    def refuses(*_: object) -> None:
        raise Permanent("the controller refuses")

    monkeypatch.setattr(world.migrate, "copy_to_disk", refuses)
    world.run_policies()
    monkeypatch.undo()
    assert failed(world) == 1
    world.clock.advance(4000)
    world.run_policies()
    assert [request.state for request in world.requests(kind="copy")] == ["failed", "done"]
    assert failed(world) == 0


def test_a_failed_request_that_is_dismissed_is_not_counted_and_can_be_retried(make_world: MakeWorld) -> None:
    world = make_world()
    world.store(1, 2)
    with world.catalog.write() as session:
        for name in ("one", "two"):
            pk, _ = requesting.enqueue(
                *(session, world.now(), "test", RequestKind.SEAL, name), priority=50, reason="", study_pk=1
            )
            queue.take(session, pk, "test", world.now())
            queue.fail(session, pk, world.now(), "test", "no")
    first, second = world.requests(state="failed")
    assert failed(world) == 2
    with world.catalog.write() as session:
        queue.cancel(session, first.pk, world.now(), "alice")
    assert failed(world) == 1
    with pytest.raises(Refused, match=f"request {first.pk} is cancelled"), world.catalog.write() as session:
        queue.cancel(session, first.pk, world.now(), "alice")
    with world.catalog.write() as session:
        queue.retry(session, second.pk, world.now(), "alice")
    assert failed(world) == 0
    with world.catalog.write() as session:
        queue.retry(session, first.pk, world.now(), "alice")
    assert [request.state for request in world.requests(kind="seal")] == ["queued", "queued"]


def test_what_is_read_from_one_cartridge_is_read_in_the_order_that_moves_its_head_least(
    make_world: MakeWorld,
) -> None:
    world = on_tape(make_world, 4)
    waits = [world.retrieve(study) for study in (3, 1, 4, 2)]
    now = world.clock.now()
    with world.catalog.read() as session:
        picture = sight.look(session, world.pools, world.staging, world.reader, now)
    reads = [each for each in picture.work if each.kind == "read"]
    assert len(reads) == 4
    assert all(each.end is not None and each.position is not None for each in reads)
    by_position = sorted(reads, key=lambda each: each.position or 0)
    cost = picture.costs["HSM001L8"]
    for one, following in itertools.pairwise(by_position):
        assert cost(one.end or 0, following.position or 0) < 0.01, "what follows costs nothing to reach"
    drives = sight.drives(world.pools, world.drives)
    (session_,) = planner.plan(
        picture.work, picture.volumes, drives, now, planner.Site(costs=picture.costs)
    ).sessions
    assert session_.work == tuple(each.request_pk for each in by_position)
    world.settle()
    assert all(len(wait.look().files) == 2 for wait in waits)
    for wait in waits:
        wait.close()
