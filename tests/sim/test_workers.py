"""The workers when the catalog itself fails under them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from hsm.catalog import queue
from hsm.catalog.orders import Order
from hsm.recall import Postponed
from tests.sim.conftest import MakeWorld
from tests.sim.world import NEARLINE, ROAD, World, header


class Outage:
    """A catalog that stops taking writes after some, as a database that restarts does."""

    def __init__(self, world: World, after: int) -> None:
        self._world, self._left, self._write = world, after, world.catalog.write

    def begin(self) -> None:
        self._world.catalog.write = self._failing  # type: ignore[method-assign]

    def end(self) -> None:
        self._world.catalog.write = self._write  # type: ignore[method-assign]

    @contextlib.contextmanager
    def _failing(self) -> Iterator[Session]:
        if self._left <= 0:
            raise OperationalError("BEGIN", {}, Exception("the server is restarting"))
        self._left -= 1
        with self._write() as session:
            yield session


@pytest.mark.parametrize("after", range(1, 9))
@pytest.mark.parametrize("policy", [NEARLINE, ROAD], ids=["nearline", "road"])
def test_no_request_stays_active_when_the_catalog_fails_for_a_while(
    make_world: MakeWorld, policy: str, after: int
) -> None:
    world = make_world(policies=policy)
    world.store(1, 2)
    world.seal_all()
    for _ in range(2):  # the road has two legs: to nearline, then to tape
        world.policies.run(None, dry_run=False, by="test")
        outage = Outage(world, after)
        outage.begin()
        for step in (world.workers.disk_step, world.workers.drive_step):
            with contextlib.suppress(OperationalError):
                step()
        outage.end()
        world.later()
        world.check()
        assert not [drive for drive in (256, 257) if world.drives.busy("library", drive)]
    world.follow()
    world.assert_readable(1)
    assert all(request.state == "done" for request in world.requests(kind="copy"))


@pytest.mark.parametrize("end", ["finish", "cancel", "hand_over"])
def test_a_move_whose_end_the_catalog_could_not_take_is_settled_when_it_can(world: World, end: str) -> None:
    world.store(1, 2)
    uids = [header(1, number).sop_instance_uid for number in (1, 2)]
    key = world.deliveries.begin("DEST", "WS1", 7, world.instances(1))
    outage = Outage(world, 0)
    outage.begin()
    ways = {
        "finish": lambda: world.deliveries.finish(key, failed=0, comment=""),
        "cancel": lambda: world.deliveries.cancel(key),
        "hand_over": lambda: world.deliveries.hand_over(key, uids[1:]),
    }
    with pytest.raises(OperationalError):
        ways[end]()
    with pytest.raises(OperationalError):
        world.deliveries.settle()
    outage.end()
    world.deliveries.settle()
    world.later()
    world.deliveries.settle()  # nothing is owed twice
    states = {"finish": "done", "cancel": "cancelled", "hand_over": "done"}
    assert [request.state for request in world.requests(kind="deliver")] == [states[end]]
    assert world.delivered == ([("DEST", uids[1])] if end == "hand_over" else [])


def test_deliveries_that_wait_for_media_leave_the_workers_to_those_that_do_not(world: World) -> None:
    taken: list[str] = []

    def deliver(order: Order, _stop: object) -> None:
        taken.append(order.detail["destination"])
        if taken[-1] != "READY":
            raise Postponed("HSM001L8 is on the shelf")

    world.workers._to = replace(world.workers._to, deliver=deliver)
    world.store(1, 1)
    for destination in ("SHELF1", "SHELF2", "READY"):
        key = world.deliveries.begin(destination, "WS1", 7, world.instances(1))
        world.deliveries.hand_over(key, [header(1, 1).sop_instance_uid])
    while world.workers.delivery_step():
        pass
    assert taken == ["SHELF1", "SHELF2", "READY"]
    assert [request.state for request in world.requests(kind="deliver")] == ["queued", "queued", "done"]
    assert {request.attempts for request in world.requests(kind="deliver", state="queued")} == {0}
    with world.catalog.write() as session:
        queue.cancel(session, world.requests(kind="deliver")[0].pk, world.now(), "operator")
    world.clock.advance(11)
    assert world.workers.delivery_step()
    assert not world.workers.delivery_step()
    assert taken[3:] == ["SHELF2"]
