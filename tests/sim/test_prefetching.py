"""Prefetches from scheduled work: whose studies, when, and what becomes of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from hsm.errors import BadInput, NotFound
from hsm.model import Priority
from hsm.prefetch import LEAD, MARGIN, Prefetches, Wanted
from tests.sim.conftest import MakeWorld
from tests.sim.world import World, dataset, header, study_uid

PATIENT = "PAT7"
HOUR = timedelta(hours=1)


def archived(make_world: MakeWorld, *kinds: tuple[str, str], patient: str = PATIENT) -> World:
    """Studies of one patient on tape, by modality and body part, the oldest first."""
    world = make_world()
    for study, (modality, part) in enumerate(kinds, start=1):
        head = replace(
            header(study, 1),
            patient_id=patient,
            modality=modality,
            body_part=part,
            study_date=f"2025010{study}",
            accession=f"A{study}",
        )
        world.store_one(head, dataset(20_000, study))
    world.follow()
    return world


KINDS = (("CT", "HEAD"), ("MR", "HEAD"), ("CT", "CHEST"), ("CT", "HEAD"), ("CT", ""))


def recalled(world: World) -> list[str]:
    return [each.key.split(":")[1].removesuffix(".p0001.tar") for each in world.requests(kind="recall")]


def test_the_newest_studies_that_are_alike_are_here_before_their_time(make_world: MakeWorld) -> None:
    world = archived(make_world, *KINDS)
    desk = Prefetches(world.catalog, world.recall)
    wanted = Wanted(PATIENT, modality="ct", body_part="Head", at_most=2)
    told = desk.ask("ris:1", wanted, world.now() + 2 * HOUR, "ris")
    assert told["studies"] == [study_uid(4), study_uid(1)]
    assert told["deadline"] == world.now() + 2 * HOUR - MARGIN
    (recall, _) = world.requests(kind="recall")
    assert recall.priority == Priority.PREFETCH
    world.settle()
    assert [each["state"] for each in desk.show("ris:1")["requests"]] == ["done", "done"]  # type: ignore[attr-defined]
    assert len(world.retrieve(4).look().files) == 1
    world.check()


def test_it_begins_hours_before_and_not_weeks_and_survives_a_restart(make_world: MakeWorld) -> None:
    world = archived(make_world, *KINDS)
    scheduled = world.now() + timedelta(days=10)
    told = Prefetches(world.catalog, world.recall).ask("ris:1", Wanted(PATIENT), scheduled, "ris")
    assert (told["state"], recalled(world)) == ("planned", [])
    world = world.rebuild()
    desk = Prefetches(world.catalog, world.recall)
    world.clock.advance((timedelta(days=10) - MARGIN - LEAD).total_seconds() - 60)
    assert desk.round() == 0
    world.clock.advance(120)
    assert desk.round() == 1
    assert desk.round() == 0
    assert sorted(recalled(world)) == [study_uid(3), study_uid(4), study_uid(5)]
    world.settle()
    world.check()
    world.close()


def test_the_same_again_is_the_same_and_another_time_moves_it(make_world: MakeWorld) -> None:
    world = archived(make_world, *KINDS)
    desk = Prefetches(world.catalog, world.recall)
    at = world.now() + timedelta(days=3)
    first = desk.ask("ris:1", Wanted(PATIENT), at, "ris")
    again = desk.ask("ris:1", Wanted(PATIENT), at, "ris")
    assert (first["changed"], again["changed"]) == (True, False)
    assert {k: v for k, v in first.items() if k != "changed"} == {
        k: v for k, v in again.items() if k != "changed"
    }
    moved = desk.ask("ris:1", Wanted(PATIENT), world.now() + HOUR, "ris")
    assert (moved["changed"], moved["state"]) == (True, "asked")
    assert len(recalled(world)) == 3
    desk.ask("ris:1", Wanted(PATIENT), world.now() + HOUR, "ris")
    assert len(recalled(world)) == 3


def test_a_time_that_is_over_is_as_soon_as_can_be_and_said_again_changes_nothing(
    make_world: MakeWorld,
) -> None:
    world = archived(make_world, *KINDS)
    desk = Prefetches(world.catalog, world.recall)
    told = desk.ask("ris:1", Wanted(PATIENT), world.now() - HOUR, "ris")
    assert told["state"] == "asked"
    world.clock.advance(60)
    assert desk.ask("ris:1", Wanted(PATIENT), world.now() - HOUR, "ris")["changed"] is False


def test_withdrawn_it_takes_back_what_nobody_else_wants(make_world: MakeWorld) -> None:
    world = archived(make_world, *KINDS)
    desk = Prefetches(world.catalog, world.recall)
    desk.ask("ris:1", Wanted(PATIENT), world.now() + HOUR, "ris")
    wait = world.retrieve(5)
    states = {each["state"] for each in desk.withdraw("ris:1", "ris")["requests"]}  # type: ignore[attr-defined]
    assert states == {"queued", "cancelled"}
    assert [each.state for each in world.requests(kind="recall")].count("queued") == 1
    world.settle()
    assert len(wait.look().files) == 1, "somebody waits for it at a workstation"
    wait.close()
    assert desk.ask("ris:1", Wanted(PATIENT), world.now() + HOUR, "ris")["changed"] is True
    world.check()


def test_a_waiter_makes_it_urgent_and_there_is_one_recall_all_the_same(make_world: MakeWorld) -> None:
    world = archived(make_world, ("CT", "HEAD"))
    desk = Prefetches(world.catalog, world.recall)
    desk.ask("ris:1", Wanted(PATIENT), world.now() + HOUR, "ris")
    desk.ask("ris:2", Wanted(PATIENT), world.now() + 3 * HOUR, "ris")
    wait = world.retrieve(1, priority=Priority.STAT)
    (recall,) = world.requests(kind="recall")
    assert recall.priority == Priority.STAT
    assert recall.detail["wanted by"] == (world.now() + HOUR - MARGIN).isoformat()
    wait.close()


def test_the_study_of_the_accession_comes_too_and_strangers_do_not(make_world: MakeWorld) -> None:
    world = archived(make_world, ("US", "LIVER"), ("CT", "HEAD"))
    desk = Prefetches(world.catalog, world.recall)
    wanted = Wanted(PATIENT, modality="CT", accession="A1")
    assert desk.ask("k", wanted, world.now(), "ris")["studies"] == [study_uid(1), study_uid(2)]
    none = desk.ask("other", Wanted("NOBODY"), world.now(), "ris")
    assert (none["studies"], none["requests"]) == ([], [])
    assert none["comment"]


@pytest.mark.parametrize(
    ("key", "wanted", "message"),
    [
        ("", {"patient_id": "P"}, "key"),
        ("k\n", {"patient_id": "P"}, "printable"),
        ("k", {"patient_id": " "}, "patient_id is empty"),
        ("k", {"patient_id": "P", "at_most": 0}, "at_most"),
        ("k", {"patient_id": "P" * 300}, "characters"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    world: World, key: str, wanted: dict[str, object], message: str
) -> None:
    desk = Prefetches(world.catalog, world.recall)
    with pytest.raises(BadInput, match=message):
        desk.ask(key, Wanted(**wanted), world.now(), "ris")  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        desk.show(key)


def test_a_time_without_a_zone_or_years_ahead_is_refused(world: World) -> None:
    desk = Prefetches(world.catalog, world.recall)
    with pytest.raises(BadInput, match="zone"):
        desk.ask("k", Wanted("P"), world.now().replace(tzinfo=None), "ris")
    with pytest.raises(BadInput, match="ahead"):
        desk.ask("k", Wanted("P"), world.now() + timedelta(days=4000), "ris")
