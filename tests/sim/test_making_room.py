"""A long session never keeps a stat recall waiting for more than one package, and loses nothing by it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from drivers.simulated.drive import CartridgeStore
from hsm.catalog import media
from hsm.model import Priority
from hsm.states import VolumeState
from tests.sim.conftest import MakeWorld
from tests.sim.test_queueing import TAPE
from tests.sim.world import Shape, Wait, World, study_uid

STUDIES = range(2, 8)


class Told:
    """What the drive does, in order; something happens when a thing was done for the nth time."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self._then: dict[tuple[str, int], Callable[[], None]] = {}
        for owner, name, word in (
            (CartridgeStore, "put", "put"),
            (world.migrate.proofs, "prove", "prove"),
            (world.recall, "fetch", "read"),
        ):
            monkeypatch.setattr(owner, name, self._telling(getattr(owner, name), word))

    def after(self, word: str, times: int, then: Callable[[], None]) -> None:
        self._then[word, times] = then

    def _telling(self, act: Callable[..., Any], word: str) -> Callable[..., Any]:
        def told(*args: Any, **more: Any) -> Any:
            found = act(*args, **more)
            self.events.append(word)
            then = self._then.pop((word, self.events.count(word)), None)
            if then is not None:
                then()
            return found

        return told


def busy_world(make_world: MakeWorld, **shape: Any) -> World:
    """One drive; study 1 is on a cartridge that is full, the others wait to be written to another one."""
    world: World = make_world(policies=TAPE, shape=Shape(drives=1, **shape))
    world.store(1, 2)
    world.seal_all()
    world.run_policies()
    world.run_policies()
    (full,) = world.on_tape(1)
    with world.catalog.write() as session:
        pk = media.volume(session, full).pk
        media.move_volume(session, pk, VolumeState.FULL, world.now(), "test")
    for study in STUDIES:
        world.store(study, 1)
    world.seal_all()
    return world


def retrieve(world: World, waits: list[Wait], study: int, priority: Priority) -> Callable[[], None]:
    return lambda: waits.append(world.retrieve(study, priority=priority))


def finish(world: World, waits: list[Wait]) -> None:
    for wait in waits:
        got = wait.look()
        assert (got.lost, got.waiting) == ({}, 0)
        wait.close()
    for study in STUDIES:
        (barcode,) = world.on_tape(study)
        assert barcode != world.on_tape(1)[0]
        world.assert_readable(study)
    assert {each.state for each in world.requests()} <= {"done"}
    assert all(each.attempts <= 1 for each in world.requests(kind="copy")), "making room is no failed attempt"
    world.check()


def test_a_migration_makes_room_for_a_stat_recall_after_the_package_it_is_writing(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, waits = busy_world(make_world), list[Wait]()
    told = Told(world, monkeypatch)
    states: list[list[str]] = []
    told.after("put", 2, retrieve(world, waits, 1, Priority.STAT))
    told.after("read", 1, lambda: states.append(sorted(world.copies().values())))
    world.run_policies()
    assert told.events[:3] == ["put", "put", "read"], "what was put is read back later"
    assert told.events.count("put") == told.events.count("prove") == len(STUDIES)
    assert states[0].count("written") == 2, "flushed and noted before the drive was given up"
    finish(world, waits)
    with_reason = [
        each.pk
        for each in world.requests(kind="copy")
        if any("makes room" in str(detail) for _, detail in world.history(str(each.pk)))
    ]
    assert len(with_reason) == len(STUDIES), "the journal says of each why it had to wait"


def test_reading_back_makes_room_too(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world, waits = busy_world(make_world), list[Wait]()
    told = Told(world, monkeypatch)
    told.after("prove", 3, retrieve(world, waits, 1, Priority.STAT))
    world.run_policies()
    first = told.events.index("read")
    assert told.events[:first].count("prove") == 3
    assert told.events.count("put") == told.events.count("prove") == len(STUDIES), "nothing is written twice"
    finish(world, waits)


def test_a_batch_of_bulk_reads_makes_room_and_goes_on_where_it_was(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, waits = busy_world(make_world), list[Wait]()
    world.run_policies()
    world.run_policies()
    told = Told(world, monkeypatch)
    bulk = [world.retrieve(study, priority=Priority.BULK) for study in STUDIES]
    seen: list[str] = []
    told.after("read", 2, retrieve(world, waits, 1, Priority.STAT))
    told.after("read", 3, lambda: seen.append((waits[0].look().files and "stat") or ""))
    world.settle()
    assert seen == ["stat"], "the third that was read"
    for wait in [*bulk, *waits]:
        assert wait.look().waiting == 0
        wait.close()
    world.check()


def test_a_stat_recall_from_the_very_cartridge_that_is_written_does_not_wait_for_the_rest(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, waits = busy_world(make_world), list[Wait]()
    world.run_policies()
    world.run_policies()
    for study in range(20, 24):
        world.store(study, 1)
    world.seal_all()
    told = Told(world, monkeypatch)
    told.after("put", 1, retrieve(world, waits, 2, Priority.STAT))
    world.run_policies()
    assert told.events[:2] == ["put", "read"]
    finish(world, waits)


def test_clinical_recalls_and_work_of_the_same_class_wait_for_the_end_of_a_clinical_session(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, waits = busy_world(make_world), list[Wait]()
    world.run_policies()
    world.run_policies()
    told = Told(world, monkeypatch)
    clinical = [world.retrieve(study) for study in STUDIES]
    told.after("read", 2, retrieve(world, waits, 1, Priority.ROUTINE))
    world.settle()
    assert waits[0].look().waiting == 0
    assert told.events == ["read"] * (len(STUDIES) + 1)
    for wait in [*clinical, *waits]:
        wait.close()
    world.check()


def test_what_is_overdue_is_not_stopped_before_its_package_though_stat_recalls_come_without_end(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every package another stat recall comes; the migration is through in the end."""
    world, waits = busy_world(make_world), list[Wait]()
    told = Told(world, monkeypatch)

    def another() -> None:
        if all(world.on_tape(study) for study in STUDIES):
            return
        for wait in waits:
            wait.close()
        world.staging.remove(f"{study_uid(1)}.p0001.tar")
        waits[:] = [world.retrieve(1, priority=Priority.STAT)]
        told.after("read", told.events.count("read") + 1, another)
        told.after("put", told.events.count("put") + 1, another)
        told.after("prove", told.events.count("prove") + 1, another)

    told.after("put", 1, another)
    world.policies.run(None, dry_run=False, by="test")
    world.clock.advance(timedelta(hours=16).total_seconds())
    world.settle()
    assert told.events.count("put") == told.events.count("prove") == len(STUDIES)
    others = [each != "read" for each in told.events[:-1]]
    assert not any(one and following for one, following in pairwise(others)), "in turns, package by package"
    for wait in waits:
        wait.close()


def test_an_outlook_says_who_is_under_way_and_who_is_next(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = busy_world(make_world)
    told = Told(world, monkeypatch)
    seen: list[Any] = []
    planning = world.workers.planning

    def look() -> None:
        pks = [each.pk for each in world.requests(state="active")]
        seen.append((planning.outlook(), planning.turns(pks)))

    told.after("put", 2, look)
    world.run_policies()
    ((outlook, turns),) = seen
    found = outlook.all()
    assert {turn["position"] for turn in turns.values()} == set(range(len(STUDIES)))
    assert all(turn["finishes_at"] > outlook.now for turn in turns.values())
    assert [each.position for each in found] == list(range(len(found)))
    assert found[0].reason.startswith("under way on HSM002L8 in drive ")
    assert found[-1].ahead_total == len(STUDIES) - 1
    world.check()
