"""The machine's clock is put back while the archive works: nothing ends before it began."""

from __future__ import annotations

from hsm.catalog import marks, queue
from hsm.catalog.tables import Request
from hsm.clockwatch import ClockWatch
from hsm.states import RequestState
from tests.chaos.chaos_clock import SteppedClock
from tests.sim.conftest import MakeWorld
from tests.sim.world import ROAD, World, study_uid


def sealing(make_world: MakeWorld, clock: SteppedClock) -> tuple[World, Request]:
    """An archive with a study that is about to be sealed."""
    world = make_world(policies=ROAD, clock=clock)
    world.store(1, 2)
    world.clock.advance(61)
    world.seal.enqueue_quiet()
    (seal,) = world.requests(kind="seal")
    return world, seal


def test_what_is_done_after_the_clock_was_put_back_ends_no_earlier_than_it_began(
    make_world: MakeWorld,
) -> None:
    clock = SteppedClock()
    world, seal = sealing(make_world, clock)
    clock.step(-7200)
    with world.catalog.write() as session:
        assert queue.take(session, seal.pk, "a test", clock.now()) is not None
        queue.give_back(session, seal.pk, clock.now(), "a test", "another turn")
    world.follow()
    (seal,) = world.requests(kind="seal")
    assert seal.state == RequestState.DONE
    world.custody.export("HSM001L8", "B3", "alice")
    wait = world.retrieve(1)
    world.settle()
    assert world.prompts() == ["HSM001L8"]
    clock.step(-7200)
    world.custody.operator_done("HSM001L8", "alice")
    world.check()
    world.later(7300)
    assert len(wait.look().files) == 2
    wait.close()
    world.check()


def test_a_hold_is_lifted_no_earlier_than_it_was_placed(make_world: MakeWorld) -> None:
    clock = SteppedClock()
    world = make_world(clock=clock)
    world.store(1, 1)
    with world.catalog.write() as session:
        marks.place_hold(session, study_uid(1), "a case", clock.now(), "a lawyer")
    clock.step(-7200)
    with world.catalog.write() as session:
        marks.lift_hold(session, study_uid(1), "it is over", clock.now(), "a lawyer")
    world.check()


def test_a_pause_between_two_attempts_is_no_longer_because_the_clock_was_put_back(
    make_world: MakeWorld,
) -> None:
    clock = SteppedClock()
    world, seal = sealing(make_world, clock)
    with world.catalog.write() as session:
        assert queue.take(session, seal.pk, "a test", clock.now()) is not None
        queue.retry_later(session, seal.pk, clock.now(), "a test", "not now")
    pause = world.requests(kind="seal")[0].not_before - clock.now()
    watch = ClockWatch(world.catalog)
    assert watch.round() == 0
    clock.step(-86400)
    assert watch.round() == 1
    assert world.requests(kind="seal")[0].not_before - clock.now() == pause
    clock.step(86400)
    assert watch.round() == 0
    clock.step(-86400)
    clock.advance(pause.total_seconds())
    world.rebuild()
    assert world.requests(kind="seal")[0].state == RequestState.QUEUED
    clock.step(-86400)
    assert ClockWatch(world.catalog).round() == 1, "the clock was put back while no daemon ran"
    world.settle()
    assert world.requests(kind="seal")[0].state == RequestState.DONE
    world.check()
