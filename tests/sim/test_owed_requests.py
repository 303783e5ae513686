"""Requests whose end could not be written down, because the catalog went away just then."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError

from hsm.catalog import queue
from hsm.catalog.orders import Order
from hsm.states import RequestKind
from tests.sim.conftest import MakeWorld
from tests.sim.world import QUIET_SECONDS, World

SEALS = (RequestKind.SEAL,)


def queued(make_world: MakeWorld) -> tuple[World, int]:
    """A world with one request to seal, that nobody has taken yet."""
    world = make_world()
    world.store(1, 1)
    world.clock.advance(QUIET_SECONDS)
    world.seal.enqueue_quiet()
    (request,) = world.requests(kind="seal")
    return world, request.pk


def test_a_request_that_was_taken_again_is_not_given_back_while_somebody_works_on_it(
    make_world: MakeWorld,
) -> None:
    """Its end was recorded and only the answer lost: it is owed, and queued all the same."""
    world, pk = queued(make_world)
    world.workers._owed.add([pk])
    seen: list[str] = []

    def act(order: Order) -> None:
        world.workers._owed.pay("test")
        seen.extend(request.state for request in world.requests(kind="seal"))

    assert world.workers._execution.take(SEALS, None, act)
    assert seen == ["active"]


def test_a_request_whose_end_was_not_written_down_is_queued_again(make_world: MakeWorld) -> None:
    world, pk = queued(make_world)
    with world.catalog.write() as session:
        assert queue.take(session, pk, "somebody", world.now()) is not None
    world.workers._owed.add([pk])
    world.workers._owed.pay("test")
    assert [request.state for request in world.requests(kind="seal")] == ["queued"]


def test_a_request_is_not_active_for_ever_when_the_answer_to_its_taking_was_lost(
    make_world: MakeWorld,
) -> None:
    world, pk = queued(make_world)
    with pytest.raises(OperationalError):
        with world.workers._owed.taking() as (session, taken):
            order = queue.take(session, pk, "somebody", world.now())
            assert order is not None
            taken.append(order)
            session.commit()
            raise OperationalError("COMMIT", {}, Exception("the connection is lost"))
    assert [request.state for request in world.requests(kind="seal")] == ["active"]
    world.workers._owed.pay("test")
    assert [request.state for request in world.requests(kind="seal")] == ["queued"]
