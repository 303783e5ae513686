"""Peers that are told how available studies have become: when, how often, and that nothing is forgotten."""

from __future__ import annotations

from collections import Counter

import pytest

from hsm import announce
from hsm.model import Availability
from hsm.states import VolumeState
from tests.sim.conftest import MakeWorld
from tests.sim.world import ROAD, World, study_uid

PACS = "PACS1"


def subscribed(make_world: MakeWorld, *titles: str, policies: str = ROAD) -> World:
    world = make_world(policies=policies)
    world.subscribers = list(titles or (PACS,))
    world.announcements.round()
    return world


Telling = list[tuple[str, str, dict[Availability, int]]]


def tell(world: World) -> Telling:
    """What is told now: to whom, of which study, and how many instances are how available."""
    world.announcements.round()
    world.later(10)
    found = [
        (title, each.study_uid, dict(Counter(told.standing.availability for told in each.items)))
        for title, each in world.notified
    ]
    world.notified.clear()
    return found


def one(
    availability: Availability, count: int = 2, study: int = 1
) -> list[tuple[str, str, dict[Availability, int]]]:
    return [(PACS, study_uid(study), {availability: count})]


def test_a_study_that_goes_to_tape_to_the_shelf_and_comes_back_is_told_once_each_time(
    make_world: MakeWorld,
) -> None:
    world = subscribed(make_world)
    world.store(1, 2)
    world.seal_all()
    assert tell(world) == [], "it is online, as everything that comes is"
    world.follow()
    assert tell(world) == one(Availability.NEARLINE)
    assert tell(world) == []
    world.custody.export("HSM001L8", "B3", "Ann")
    assert tell(world) == one(Availability.OFFLINE)
    wait = world.retrieve(1)
    world.settle()
    assert tell(world) == [], "asked for is not there yet"
    world.custody.operator_done("HSM001L8", "Ann")
    world.settle()
    wait.look()
    wait.close()
    assert tell(world) == one(Availability.ONLINE), "the recall has completed"
    for key in world.staging.whole():
        world.staging.remove(key)
    assert tell(world) == one(Availability.NEARLINE), "the staging area has let it go"
    world.check()


def test_changes_that_come_faster_than_they_are_sent_are_one_notification(make_world: MakeWorld) -> None:
    world = subscribed(make_world)
    world.store(1, 2)
    world.follow()
    tell(world)
    world.destinations_down.add(PACS)
    for _ in range(3):
        world.custody.export("HSM001L8", "B3", "Ann")
        assert tell(world) == []
        world.custody.operator_done("HSM001L8", "Ann")
        assert tell(world) == []
    world.custody.export("HSM001L8", "B4", "Ann")
    tell(world)
    world.destinations_down.clear()
    world.later()
    assert tell(world) == one(Availability.OFFLINE), "the last word counts"
    assert [each.state for each in world.requests(kind="notify")] == ["done", "done"]


def test_a_lost_cartridge_is_told_of_each_study_on_it(make_world: MakeWorld) -> None:
    world = subscribed(make_world, PACS, "RIS")
    for study in (1, 2):
        world.store(study, 2)
    world.follow()
    tell(world)
    world.custody.export("HSM001L8", "B3", "Ann")
    tell(world)
    world.volumes.lost("HSM001L8", "Ann", "burnt")
    told = tell(world)
    gone = {Availability.UNAVAILABLE: 2}
    wanted = [(title, study_uid(study), gone) for title in (PACS, "RIS") for study in (1, 2)]
    assert sorted(told, key=str) == sorted(wanted, key=str)
    assert world.volume("HSM001L8").state == VolumeState.LOST


def test_a_peer_that_was_away_and_a_daemon_that_died_are_no_reason_to_forget(make_world: MakeWorld) -> None:
    world = subscribed(make_world)
    world.store(1, 2)
    world.destinations_down.add(PACS)
    world.follow()
    assert tell(world) == []
    again = world.rebuild()
    again.subscribers = [PACS]
    again.later()
    assert tell(again) == one(Availability.NEARLINE)
    again.close()


def test_what_is_told_while_a_study_changes_is_followed_by_what_it_has_become(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = subscribed(make_world)
    world.store(1, 2)
    world.follow()
    world.announcements.round()
    sent = world.announcements.sent

    def move_meanwhile(*args: object) -> None:
        monkeypatch.setattr(world.announcements, "sent", sent)
        world.custody.export("HSM001L8", "B3", "Ann")
        world.announcements.round()
        sent(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(world.announcements, "sent", move_meanwhile)
    world.later(10)
    world.notified.clear()
    assert tell(world) == one(Availability.OFFLINE)


def test_a_large_study_is_told_in_several_and_a_part_that_was_told_is_not_told_again(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announce, "ITEMS_MAX", 2)
    world = subscribed(make_world)
    world.store(1, 5)
    world.follow()
    world.announcements.round()
    sent = world.announcements.sent

    def once(*args: object) -> None:
        sent(*args)  # type: ignore[arg-type]
        world.destinations_down.add(PACS)

    monkeypatch.setattr(world.announcements, "sent", once)
    world.later(10)
    assert len(world.notified) == 1
    monkeypatch.setattr(world.announcements, "sent", sent)
    world.destinations_down.clear()
    world.later()
    assert [len(each.items) for _, each in world.notified] == [2, 2, 1]
    assert len({each.uid for _, each in world.notified}) == 3
    assert len({told.sop_instance_uid for _, each in world.notified for told in each.items}) == 5


def test_who_subscribes_is_told_what_changes_from_then_on(make_world: MakeWorld) -> None:
    world = make_world()
    world.store(1, 2)
    world.follow()
    world.announcements.round()
    world.subscribers = [PACS]
    assert tell(world) == []
    world.custody.export("HSM001L8", "B3", "Ann")
    assert tell(world) == one(Availability.OFFLINE)
    world.subscribers = []
    world.announcements.round()
    world.custody.operator_done("HSM001L8", "Ann")
    world.announcements.round()
    world.subscribers = [PACS]
    assert tell(world) == []


def test_an_outage_of_storage_is_not_told(make_world: MakeWorld) -> None:
    world = subscribed(make_world)
    world.store(1, 2)
    world.seal_all()
    (world.home / "online").rename(world.home / "away")
    (world.home / "online").mkdir()
    world.clock.advance(2)
    disk = world.pools.disks["online"]
    assert disk.service is not None
    disk.service.probe()
    world.pools.tell(world.catalog)
    assert world.volume("online").place == "unknown"
    assert tell(world) == []
