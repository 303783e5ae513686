"""What a retrieve leaves in the history: who, how much, from where, and how long it waited."""

from __future__ import annotations

from hsm.catalog import facts, history
from hsm.catalog.engine import Catalog
from hsm.catalog.history import Accessed, Recorder
from hsm.model import Priority
from tests.sim.conftest import MakeWorld
from tests.sim.world import Wait, World, study_uid

MOVED = """\
policy: near
priority: 1
copies: {nearline: 1}
rules:
  - {name: to nearline, copy to: nearline}
  - {name: free online, release from: online, when: copies(nearline) >= 1 and held(online)}
"""


def noting(world: World) -> Recorder:
    recorder = Recorder(world.catalog)
    world.retrievals.history = recorder
    world.retrievals.tiers = world.pools.tiers
    return recorder


def retrieve(world: World, study: int, ae: str = "WS1", wait_seconds: float = 0) -> None:
    instances = world.instances(study)
    wait = Wait(world.retrievals.open(instances, f"C-MOVE from {ae}", Priority.ROUTINE, ae))
    if wait_seconds:
        world.clock.advance(wait_seconds)
        world.settle()
    assert len(wait.look().files) == len(instances)
    wait.close()


def told(world: World, study: int) -> list[Accessed]:
    with world.catalog.read() as session:
        return history.recent(session, study_uid(study), 10)


def recalls(catalog: Catalog, study: int) -> int:
    with catalog.read() as session:
        found = facts.one(session, study_uid(study))
    assert found is not None
    return int(found.values["recalls"])


def test_a_study_that_is_not_sealed_yet_is_read_online(make_world: MakeWorld) -> None:
    world = make_world()
    recorder = noting(world)
    world.store(1, 3)
    retrieve(world, 1)
    recorder.flush()
    (access,) = told(world, 1)
    sizes = sum(instance.size for instance in world.instances(1))
    assert (access.ae, access.tier, access.bytes, access.times) == ("WS1", "online", sizes, 1)
    assert access.waited_seconds == 0


def test_a_study_that_moved_to_nearline_is_read_there(make_world: MakeWorld) -> None:
    world = make_world(policies=MOVED)
    world.store(1, 2)
    world.follow()
    recorder = noting(world)
    retrieve(world, 1)
    recorder.flush()
    assert [each.tier for each in told(world, 1)] == ["nearline"]
    assert recalls(world.catalog, 1) == 0


def test_a_recall_from_tape_says_how_long_it_took_and_the_next_reader_finds_it_staged(
    make_world: MakeWorld,
) -> None:
    world = make_world()
    world.store(1, 2)
    world.follow()
    recorder = noting(world)
    retrieve(world, 1, "WS1", wait_seconds=40)
    retrieve(world, 1, "WS2")
    recorder.flush()
    second, first = sorted(told(world, 1), key=lambda each: each.ae, reverse=True)
    assert (first.ae, second.ae) == ("WS1", "WS2")
    assert first.tier in ("nearline", "offline") and first.waited_seconds >= 40
    assert second.tier == "staging" and second.waited_seconds < 40
    assert recalls(world.catalog, 1) == 1


def test_many_who_wait_for_one_recall_are_one_recall_and_as_many_accesses(make_world: MakeWorld) -> None:
    world = make_world()
    world.store(1, 2)
    world.follow()
    recorder = noting(world)
    waits = [
        Wait(world.retrievals.open(world.instances(1), f"C-MOVE from {ae}", Priority.ROUTINE, ae))
        for ae in ("A", "B", "C")
    ]
    world.settle()
    for wait in waits:
        assert len(wait.look().files) == 2
        wait.close()
        wait.close()
    recorder.flush()
    assert sorted(each.ae for each in told(world, 1)) == ["A", "B", "C"]
    assert recalls(world.catalog, 1) == 1


def test_a_retrieve_that_read_nothing_is_no_access(make_world: MakeWorld) -> None:
    world = make_world()
    world.store(1, 2)
    world.follow()
    recorder = noting(world)
    wait = Wait(world.retrievals.open(world.instances(1), "C-MOVE from WS1", Priority.ROUTINE, "WS1"))
    wait.close()
    assert recorder.flush() == 0
    assert told(world, 1) == []
