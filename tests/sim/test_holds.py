"""A legal hold through the whole archive: policies, requests that were queued before it, and repair."""

from __future__ import annotations

from hsm.catalog import facts, marks, requesting
from hsm.states import RequestKind
from tests.sim.conftest import MakeWorld
from tests.sim.world import NOTHING, TWO_TAPES, World, study_uid


def hold(world: World, study: int = 1) -> None:
    with world.catalog.write() as session:
        marks.place_hold(session, study_uid(study), "court of Bern", world.clock.now(), "anna")


def lift(world: World, study: int = 1) -> None:
    with world.catalog.write() as session:
        marks.lift_hold(session, study_uid(study), "settled", world.clock.now(), "anna")


def held_in(world: World, study: int = 1) -> frozenset[str]:
    with world.catalog.read() as session:
        found = facts.one(session, study_uid(study))
    assert found is not None
    return found.held


def test_a_held_study_is_copied_but_released_from_nowhere_until_the_hold_is_lifted(
    make_world: MakeWorld,
) -> None:
    world = make_world(policies=TWO_TAPES)
    for study in (1, 2):
        world.store(study, 2)
    hold(world, 1)
    world.follow()
    assert held_in(world, 1) == {"online", "tape"}
    assert held_in(world, 2) == {"tape"}
    lift(world, 1)
    world.follow()
    assert held_in(world, 1) == {"tape"}
    world.check()


def test_a_release_that_was_queued_before_the_hold_is_refused_and_says_who_holds_it(
    make_world: MakeWorld,
) -> None:
    world = make_world(policies=TWO_TAPES)
    world.store(1, 2)
    hold(world)
    world.follow()
    with world.catalog.write() as session:
        found = facts.one(session, study_uid(1))
        assert found is not None
        package = session.connection().exec_driver_sql("SELECT pk FROM package").scalar_one()
        requesting.enqueue(
            session,
            world.clock.now(),
            "test",
            RequestKind.RELEASE,
            "release:by hand",
            priority=0,
            reason="queued before the hold",
            study_pk=found.study_pk,
            package_pk=package,
            pool="online",
            detail={"goals": []},
        )
    world.settle()
    failed = [each for each in world.requests(kind="release") if each.key == "release:by hand"]
    assert [each.state for each in failed] == ["failed"]
    assert "legal hold" in failed[0].error and "anna" in failed[0].error
    assert held_in(world) == {"online", "tape"}


def test_a_retained_study_stays_until_its_day_is_over(make_world: MakeWorld) -> None:
    world = make_world(policies=TWO_TAPES)
    world.store(1, 2)
    today = f"{world.clock.now():%Y%m%d}"
    with world.catalog.write() as session:
        marks.retain(session, study_uid(1), today, "paediatric", world.clock.now(), "anna")
    world.follow()
    assert held_in(world) == {"online", "tape"}
    world.clock.advance(2 * 86400)
    world.follow()
    assert held_in(world) == {"tape"}


def test_a_hold_does_not_keep_a_study_from_being_read(make_world: MakeWorld) -> None:
    world = make_world(policies=NOTHING)
    world.store(1, 2)
    hold(world)
    world.follow()
    wait = world.retrieve(1)
    assert len(wait.look().files) == 2
    wait.close()
    world.check()
