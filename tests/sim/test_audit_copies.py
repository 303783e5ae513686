"""The audit of copies: what is promised against what is there, now and at a time that is over."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from hsm.audit.copies import NOBODYS, Asked, CopiesAudit
from hsm.catalog import media, pastcopies, placement
from hsm.catalog.pastcopies import Moved
from hsm.catalog.tables import Copy, Request
from hsm.errors import NotFound
from hsm.states import CopyState, VolumeState
from tests.sim.conftest import MakeWorld
from tests.sim.world import World, study_uid

PROMISE = """\
policy: two
priority: 1
scope: size > 10 kB
copies: {tape: 2 within 7d, nearline: 1}
rules:
  - {name: to nearline, copy to: nearline}
  - {name: to tape, copy to: tape}
"""
SMALL = 100


def report(world: World, **asked: Any) -> dict[str, Any]:
    audit = CopiesAudit(world.catalog, world.pools, lambda _: world.policies.set)
    return audit.report(Asked(**asked))


def standings(found: dict[str, Any], policy: str = "two") -> dict[str, int]:
    record = next(each for each in found["policies"] if each["policy"] == policy)
    names = ("protected", "due", "late", "under_protected")
    return {name: record[name]["studies"] for name in names if record[name]["studies"]}


def goals(found: dict[str, Any]) -> dict[str, dict[str, int]]:
    return {
        goal["goal"]: {name: goal[name]["studies"] for name in ("protected", "due", "past_due")}
        for goal in found["policies"][0]["goals"]
    }


def named(found: dict[str, Any], policy: str = "two") -> list[dict[str, Any]]:
    studies = next(each["studies"] for each in found["policies"] if each["policy"] == policy)
    assert isinstance(studies, list)
    return studies


def test_studies_are_due_then_under_protected_then_late_and_at_last_protected(make_world: MakeWorld) -> None:
    world = make_world(policies=PROMISE)
    world.store(1, 2)
    assert report(world)["unsealed"]["instances"] == 2
    world.seal_all()
    found = report(world)
    assert standings(found) == {"due": 1}
    assert found["good"]
    assert found["unsealed"]["studies"] == 0
    world.clock.advance(2 * 86400.0)
    found = report(world)
    assert standings(found) == {"under_protected": 1}
    assert not found["good"]
    assert found["under_protected"] == 1
    two, near = "2 verified copies in tape", "1 verified copy in nearline"
    assert goals(found) == {
        two: {"protected": 0, "due": 1, "past_due": 0},
        near: {"protected": 0, "due": 0, "past_due": 1},
    }
    (study,) = named(found)
    assert study["study"] == study_uid(1)
    assert study["since"] == study["received_at"] + timedelta(hours=24)
    assert [(each["target"], each["have"], each["want"]) for each in study["lacks"]] == [
        ("tape", 0, 2),
        ("nearline", 0, 1),
    ]
    assert standings(report(world, grace=timedelta(days=3))) == {"due": 1}
    world.policies.run(None, dry_run=False, by="test")
    found = report(world)
    assert standings(found) == {"late": 1}
    assert not found["good"], "late is no better for an auditor; it only says that somebody works on it"
    assert "copy to nearline queued" in named(found)[0]["under_way"]
    world.follow()
    found = report(world)
    assert standings(found) == {"protected": 1}
    assert found["good"]
    assert named(found) == []


def test_a_study_whose_cartridge_is_lost_is_under_protected_since_then_and_says_which(
    make_world: MakeWorld,
) -> None:
    world = make_world(policies=PROMISE)
    world.store(1, 2)
    world.follow()
    before = world.now()
    world.clock.advance(30 * 86400.0)
    barcode = world.on_tape(1)[0]
    lost_at = world.now()
    world.volumes.lost(barcode, "alice", "fell into the lift shaft")
    found = report(world)
    (study,) = named(found)
    assert study["standing"] == "late", "a copy in its place was queued at once"
    assert study["since"] == lost_at
    assert f"the copy on {barcode} of tape is lost" in study["why"]
    assert study["lacks"] == [{"goal": "2 verified copies in tape", "target": "tape", "have": 1, "want": 2}]
    assert standings(report(world, as_of=before)) == {"protected": 1}
    world.follow()
    assert standings(report(world)) == {"protected": 1}


def test_the_audit_of_a_time_that_is_over_agrees_with_the_one_made_then(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(policies=PROMISE)
    made: list[tuple[datetime, dict[str, int], dict[str, dict[str, int]]]] = []

    def audit() -> None:
        found = report(world)
        counted = standings(found)
        # Whether work was queued then nobody knows any more.
        over = counted.pop("late", 0) + counted.pop("under_protected", 0)
        made.append((world.now(), counted | ({"under_protected": over} if over else {}), goals(found)))
        world.clock.advance(1.0)

    for study in (1, 2, 3):
        world.store(study, 2)
        world.seal_all()
        audit()
        world.clock.advance(2 * 86400.0)
        audit()
        world.follow()
        audit()
    world.clock.advance(8 * 86400.0)
    world.volumes.lost(world.on_tape(2)[1], "alice", "burnt")
    audit()
    world.follow()
    audit()
    suspected = next(name for name in world.on_tape(3) if world.volume(name).state != "suspect")
    with world.catalog.write() as session:
        pk = media.volume(session, suspected).pk
        media.move_volume(session, pk, VolumeState.SUSPECT, world.now(), "test", "a spot")
    audit()
    assert {key for _, counted, _ in made for key in counted} == {"protected", "due", "under_protected"}
    for at, counted, by_goal in made:
        then = report(world, as_of=at)
        assert (standings(then), goals(then)) == (counted, by_goal), at
        assert then["source"] == "journal"
        assert then["good"] is ("under_protected" not in counted)
    # What lies as it lay is counted without its records; read from them it is the same, word for word.
    walked_back = [report(world, as_of=at) for at, _, _ in made]
    monkeypatch.setattr(pastcopies, "moved", lambda *_: Moved((1, 2, 3)))
    assert [report(world, as_of=at) for at, _, _ in made] == walked_back


def test_a_study_that_no_policy_owns_needs_one_verified_copy_all_the_same(make_world: MakeWorld) -> None:
    world = make_world(policies=PROMISE)
    world.store(1, 1, size=SMALL)
    world.seal_all()
    world.clock.advance(2 * 86400.0)
    assert standings(report(world), NOBODYS) == {"protected": 1}, "its copy online was read back"
    with world.catalog.write() as session:
        pk = session.scalars(select(Copy.pk)).one()
        placement.move_copy(session, pk, CopyState.SUSPECT, world.now(), "test", why="a bit fell over")
    found = report(world)
    assert standings(found, NOBODYS) == {"under_protected": 1}
    (study,) = named(found, NOBODYS)
    assert study["lacks"][0]["goal"] == "1 verified copy in any pool"
    assert "is suspect" in study["why"]
    assert standings(report(world, policy="two")) == {}
    assert [each["policy"] for each in report(world, policy="two")["policies"]] == ["two"]
    with pytest.raises(NotFound, match="no policy 'three'; in force: two"):
        report(world, policy="three")


def test_a_failed_request_is_named_as_the_reason(make_world: MakeWorld) -> None:
    world = make_world(policies=PROMISE)
    world.store(1, 2)
    world.seal_all()
    world.policies.run(None, dry_run=False, by="test")
    with world.catalog.write() as session:
        session.execute(
            update(Request)
            .where(Request.pool == "tape")
            .values(state="failed", error="no blank cartridge is left", finished_at=world.now())
        )
    world.settle()
    world.clock.advance(9 * 86400.0)
    (study,) = named(report(world))
    assert study["standing"] == "under_protected"
    assert "no blank cartridge is left" in study["why"]


def test_only_as_many_studies_are_named_as_asked_for_and_all_are_counted(make_world: MakeWorld) -> None:
    world = make_world(policies=PROMISE)
    for study in range(1, 6):
        world.store(study, 1)
        world.clock.advance(1.0)
    world.seal_all()
    world.clock.advance(2 * 86400.0)
    found = report(world, limit=2)
    assert standings(found) == {"under_protected": 5}
    assert [each["study"] for each in named(found)] == [study_uid(1), study_uid(2)], "the oldest first"
    assert found["policies"][0]["not_named"] == 3
    with pytest.raises(ValueError, match="no time zone"):
        Asked(as_of=datetime(2026, 1, 1))
