"""A C-MOVE's destination gets each instance once, whatever dies meanwhile."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from hsm.catalog import queue
from hsm.catalog.orders import Order
from hsm.catalog.rejections import Note, Reference
from hsm.delivery import Deliveries
from hsm.deliverylog import DeliveryLog
from hsm.states import RequestState
from tests.sim.conftest import MakeWorld
from tests.sim.world import World, header


def deliveries(world: World) -> Deliveries:
    """As a daemon has them."""
    found = Deliveries(world.catalog, world.bell, DeliveryLog(world.home / "deliveries"))
    found.begin_again()
    return found


def order_of(world: World, key: int) -> Order:
    with world.catalog.read() as session:
        return queue.get(session, key)


def left(world: World, key: int) -> list[str]:
    order = deliveries(world).order(order_of(world, key))
    return [each.sop_instance_uid for each in order.instances]


def test_what_a_destination_answered_for_before_a_kill_is_not_sent_again(make_world: MakeWorld) -> None:
    world = make_world()
    world.store(1, 5)
    uids = [header(1, number).sop_instance_uid for number in range(1, 6)]
    mine = deliveries(world)
    key = mine.begin("DEST", "WS1", 7, world.instances(1))
    mine.answered(key, uids[0])
    mine.delivered(key, uids[:1])
    mine.answered(key, uids[1])
    mine.answered(key, uids[3])
    again = world.rebuild()
    assert order_of(again, key).state is RequestState.QUEUED
    assert left(again, key) == [uids[2], uids[4]]
    third = again.rebuild()
    assert left(third, key) == [uids[2], uids[4]], "also after a second one"
    third.close()


def test_a_delivery_that_has_ended_leaves_nothing_behind(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world()
    world.store(1, 2)
    mine = deliveries(world)
    folder = world.home / "deliveries"
    ends = {
        mine.begin("DEST", "WS1", 7, world.instances(1)): lambda key: mine.finish(key, failed=0, comment=""),
        mine.begin("DEST", "WS2", 8, world.instances(1)): mine.cancel,
        mine.begin("DEST", "WS3", 9, world.instances(1)): lambda key: mine.hand_over(key, ["2.25.9"]),
    }
    for key, end in ends.items():
        mine.answered(key, "1.2.3")
        assert (folder / f"{key}.sent").exists()
        end(key)
    assert list(folder.iterdir()) == []
    (folder / "4711.sent").write_text("1.2.3\n")
    deliveries(world)
    assert list(folder.iterdir()) == [], "what nobody knows any more goes at the start"


def test_nothing_is_begun_for_a_destination_that_rests_and_others_are_served_meanwhile(
    make_world: MakeWorld,
) -> None:
    world = make_world()
    world.store(1, 2)
    resting = {"DOWN"}
    joints = world.workers._to
    object.__setattr__(joints, "resting", lambda: resting)
    keys = {}
    for title in ("DOWN", "UP"):
        keys[title] = world.deliveries.begin(title, "WS1", 7, world.instances(1))
        world.deliveries.hand_over(keys[title], [each.sop_instance_uid for each in world.instances(1)])
    world.settle()
    assert {title for title, _ in world.delivered} == {"UP"}
    waiting = order_of(world, keys["DOWN"])
    assert (waiting.state, waiting.attempts) == (RequestState.QUEUED, 0), "it costs no attempt"
    resting.clear()
    world.settle()
    assert sorted({title for title, _ in world.delivered}) == ["DOWN", "UP"]
    assert len(world.delivered) == 4


def test_what_was_deleted_or_rejected_meanwhile_is_told_and_not_taken_for_delivered(
    make_world: MakeWorld,
) -> None:
    world = make_world()
    world.store(1, 3)
    uids = [header(1, number).sop_instance_uid for number in range(1, 4)]
    mine = deliveries(world)
    key = mine.begin("DEST", "WS1", 7, world.instances(1))
    mine.hand_over(key, uids)
    study, series = header(1, 1).study_uid, header(1, 1).series_uid
    for number, code in enumerate(("113001", "113037")):
        world.ingest.reject(Note(f"2.25.{number}", code, (Reference(study, series, uids[number]),)), "ae:CT1")
    found = mine.order(order_of(world, key))
    assert ([each.sop_instance_uid for each in found.instances], found.gone) == (uids[2:], tuple(uids[:2]))
    found = mine.order(order_of(world, key), sees_rejected=True)
    assert {each.sop_instance_uid for each in found.instances} == {uids[0], uids[2]}
    assert found.gone == (uids[1],)


def test_a_move_that_could_not_begin_is_not_left_to_somebody_although_its_commit_took_effect(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    world.store(1, 1)
    mine = deliveries(world)
    with monkeypatch.context() as patch:
        lose_after_commits(world, patch)
        with pytest.raises(OperationalError):
            mine.begin("DEST", "WS1", 7, world.instances(1))
    assert [each.state for each in world.requests(kind="deliver")] == [RequestState.ACTIVE]
    mine.settle()
    assert [each.state for each in world.requests(kind="deliver")] == [RequestState.CANCELLED]
    mine.settle()
    world.check()


def lose_after_commits(world: World, patch: pytest.MonkeyPatch) -> None:
    """Each commit takes effect, and nobody learns of it."""
    dialect = world.catalog.engine.dialect
    commit = dialect.do_commit

    def lost_afterwards(connection: Any) -> None:
        commit(connection)
        raise sqlite3.OperationalError("server closed the connection unexpectedly")

    patch.setattr(dialect, "do_commit", lost_afterwards)


def test_an_end_whose_commit_took_effect_before_the_database_was_lost_is_not_written_again(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    world.store(1, 1)
    mine = deliveries(world)
    keys = [mine.begin("DEST", "WS1", number, world.instances(1)) for number in (1, 2)]
    with monkeypatch.context() as patch:
        lose_after_commits(world, patch)
        for key in keys:
            with pytest.raises(OperationalError):
                mine.hand_over(key, ["2.25.9"])
    mine.settle()
    assert [order_of(world, key).state for key in keys] == [RequestState.QUEUED] * 2
    world.check()
