"""Studies in the trash: hidden at once, whole when they come back, gone when their day has come."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from sqlalchemy import select

from hsm.audit.copies import Asked, CopiesAudit
from hsm.catalog import backup, check, deletions, find, marks, rejections
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Base, Request, Study
from hsm.catalog.trashwork import PURGE
from hsm.commitment import Failure, Item
from hsm.config.deletion import DeletionConfig
from hsm.errors import NotFound, Permanent, Refused
from hsm.ingest import StoreOutcome
from hsm.model import Availability
from hsm.terms import Exact, Field, Level
from hsm.trash import Trash
from tests.sim import aftermath
from tests.sim.conftest import MakeWorld
from tests.sim.world import CT_IMAGE, ROAD, TWO_TAPES, World, dataset, header, study_uid

DAY = 86400.0


def trash_of(world: World, **config: Any) -> Trash:
    return Trash(world.catalog, world.staging, world.bell, DeletionConfig(**config))


def archived(make_world: MakeWorld, *instances: int, policies: str = TWO_TAPES) -> World:
    """An archive with studies of so many instances, each where its policy wants it."""
    world = make_world(policies=policies)
    for study, count in enumerate(instances, 1):
        world.store(study, count)
    world.follow()
    return world


def delete(world: World, study: int = 1, **more: Any) -> dict[str, Any]:
    return trash_of(world).delete(study_uid(study), "wrong patient", "anna", **more)


def undelete(world: World, study: int = 1) -> None:
    trash_of(world).undelete(study_uid(study), "it was right", "anna")


def found(world: World, level: Level = Level.STUDY, study: int = 1, **more: Any) -> list[dict[Field, Any]]:
    with world.catalog.read() as session:
        wanted = {Field.STUDY_UID: Exact(study_uid(study))} if level is not Level.PATIENT else {}
        matches = find.find(session, level, wanted, world.reader.reach(), **more)
        return [dict(match.values) for match in matches]


def counted(world: World) -> dict[str, int]:
    """What is in the trash or rejected, without what there is none of."""
    with world.catalog.read() as session:
        return {noun: count for noun, count in deletions.counts(session).items() if count}


def rounds(world: World, count: int = 4) -> None:
    for _ in range(count):
        trash_of(world).round()
        world.settle()


def test_a_deleted_study_is_hidden_at_once_and_comes_back_byte_for_byte(make_world: MakeWorld) -> None:
    world = archived(make_world, 3, 1)
    before = world.copies(1)
    shown = delete(world)
    assert shown["state"] == "standing" and shown["packages"] == 1
    for level in (Level.STUDY, Level.SERIES, Level.IMAGE):
        assert found(world, level) == [], level
        assert len(found(world, level, study=2)) == 1
    assert [each[Field.PATIENT_ID] for each in found(world, Level.PATIENT)] == ["P2"]
    assert world.instances(1) == []
    with pytest.raises(NotFound):
        world.recall.request_study(study_uid(1), 0, "test")  # type: ignore[arg-type]
    world.check()
    world.follow()
    assert world.copies(1) == before, "every copy stays"
    trash_of(world).undelete(study_uid(1), "it was right", "anna")
    assert found(world)[0][Field.STUDY_INSTANCES] == 3
    world.assert_readable(1)
    world.check()


def test_what_is_held_or_retained_is_not_deleted(make_world: MakeWorld) -> None:
    world = archived(make_world, 1)
    with world.catalog.write() as session:
        marks.place_hold(session, study_uid(1), "court", world.now(), "anna")
    with pytest.raises(Refused, match="legal hold"):
        delete(world)
    with world.catalog.write() as session:
        marks.lift_hold(session, study_uid(1), "settled", world.now(), "anna")
        marks.retain(session, study_uid(1), f"{world.now():%Y%m%d}", "law", world.now(), "anna")
    with pytest.raises(Refused, match="retained until"):
        delete(world)
    world.clock.advance(DAY)
    assert delete(world)["state"] == "standing"


def test_when_its_day_has_come_every_copy_goes_and_the_cartridges_are_named(make_world: MakeWorld) -> None:
    world = make_world(policies=ROAD)
    world.store(1, 2)
    world.seal_all()
    world.run_policies()
    tape = world.on_tape(1) or (world.follow(), world.on_tape(1))[1]
    delete(world)
    rounds(world, 1)
    assert "verified" in world.copies(1).values(), "its day has not come"
    world.clock.advance(31 * DAY)
    rounds(world)
    assert set(world.copies(1).values()) == {"released"}
    verbs = dict(world.history(study_uid(1)))
    assert verbs["purged"]["bytes_remain_on"] == tape
    released = [detail["why"] for verb, detail in world.history(study_uid(1)) if verb == "copy released"]
    assert any(f"bytes remain on {tape[0]}" in why for why in released)
    shown = trash_of(world).listing(10, every=True)[0]
    assert shown["state"] == "purged" and shown["bytes_on_removable"] == tape
    assert not any(world.home.joinpath("online").rglob("*.dcm"))
    with pytest.raises(NotFound):
        trash_of(world).undelete(study_uid(1), "too late", "anna")
    world.check()


def test_a_hold_that_is_placed_on_a_study_in_the_trash_keeps_every_copy(make_world: MakeWorld) -> None:
    world = archived(make_world, 2)
    before = world.copies(1)
    delete(world)
    with world.catalog.write() as session:
        marks.place_hold(session, study_uid(1), "court", world.now(), "anna")
    world.clock.advance(31 * DAY)
    rounds(world)
    assert world.copies(1) == before
    assert "legal hold" in trash_of(world).listing(10)[0]["kept"]
    trash_of(world).undelete(study_uid(1), "wanted", "anna")
    world.assert_readable(1)


@pytest.mark.campaign
def test_what_is_in_the_trash_is_released_by_no_policy_and_copied_by_none(make_world: MakeWorld) -> None:
    world = make_world(policies=ROAD)
    world.store(1, 2)
    world.seal_all()
    delete(world)
    assert set(world.copies(1).values()) == {"verified"}
    world.follow()
    assert list(world.copies(1)) == [("1.p0001", "online")]


def test_what_was_not_sealed_when_it_was_deleted_is_sealed_apart(make_world: MakeWorld) -> None:
    world = make_world(policies=TWO_TAPES)
    world.store(1, 2)
    delete(world)
    world.store(1, 1, first=9)
    world.seal_all()
    world.seal_all()
    assert found(world)[0][Field.STUDY_INSTANCES] == 1
    assert len(world.copies(1)) == 2
    world.check()
    world.clock.advance(31 * DAY)
    rounds(world)
    assert sorted(world.copies(1).values()) == ["released", "verified"]
    world.acknowledged = {uid: digest for uid, digest in world.acknowledged.items() if uid.endswith(".9")}
    world.assert_readable(1)
    world.check()


@pytest.mark.campaign
def test_the_same_bytes_sent_anew_are_kept_anew_and_outlive_the_deletion(make_world: MakeWorld) -> None:
    world = archived(make_world, 2)
    delete(world)
    data = dataset(20_000, 1000 + 100 + 1)
    assert world.store_one(header(1, 1), data) is StoreOutcome.STORED
    assert world.store_one(header(1, 1), data) is StoreOutcome.DUPLICATE
    assert "received after its deletion" in [verb for verb, _ in world.history(study_uid(1))]
    world.follow()
    world.clock.advance(31 * DAY)
    rounds(world)
    del world.acknowledged[header(1, 2).sop_instance_uid]
    assert found(world)[0][Field.STUDY_INSTANCES] == 1
    world.assert_readable(1)
    world.check()


@pytest.mark.campaign
def test_a_deletion_that_refuses_what_is_late_takes_nothing_more(make_world: MakeWorld) -> None:
    world = archived(make_world, 1)
    delete(world, refuse_late=True)
    for number, seed in ((1, 1101), (2, 5)):
        with pytest.raises(Refused, match="deleted"):
            world.store_one(header(1, number), dataset(20_000, seed))
    trash_of(world).undelete(study_uid(1), "back", "anna")
    world.store(1, 1, first=2)
    world.check()


@pytest.mark.campaign
def test_a_scanned_cartridge_does_not_bring_a_deleted_study_back(make_world: MakeWorld) -> None:
    world = archived(make_world, 2, policies=ROAD)
    barcode = world.on_tape(1)[0]
    delete(world)
    world.clock.advance(31 * DAY)
    rounds(world)
    seen = world.scan.scan(barcode, "anna", adopt=True)
    assert (seen["adopted"], seen["left_over"]) == (0, 1)
    assert found(world) == []
    world.check()


@pytest.mark.campaign
def test_of_a_forgotten_patient_uids_and_digests_stay(make_world: MakeWorld) -> None:
    world = archived(make_world, 2)
    delete(world)
    world.clock.advance(31 * DAY)
    for _ in range(4):
        trash_of(world, forget_patient=True).round()
        world.settle()
    with world.catalog.read() as session:
        study = session.scalars(select(Study)).one()
        assert (study.uid, study.accession) == (study_uid(1), "")
        text = session.connection().exec_driver_sql("SELECT patient_id, name FROM patient").all()
    assert text == [("", "")]
    world.check()
    world.store(1, 1)
    assert found(world)[0][Field.PATIENT_ID] == "P1", "what is sent anew is a new story"
    world.check()


def test_what_comes_for_a_study_in_the_trash_is_told_and_goes_there_when_it_is_deleted_again(
    make_world: MakeWorld,
) -> None:
    world = archived(make_world, 1)
    first = delete(world)
    with pytest.raises(Refused, match="nothing of it has come since"):
        delete(world)
    with pytest.raises(NotFound):
        delete(world, 7)
    assert counted(world) == {"in_trash": 1}
    world.clock.advance(29 * DAY)
    world.store(1, 1, first=9)
    assert counted(world) == {"in_trash": 1, "grown": 1}
    (shown,) = trash_of(world).listing(10)
    assert shown["bytes_since"] > 0 and found(world)[0][Field.STUDY_INSTANCES] == 1
    assert "received after its deletion" in [verb for verb, _ in world.history(study_uid(1))]
    world.follow()
    again = delete(world)
    assert found(world) == [] and counted(world) == {"in_trash": 1}
    assert again["packages"] == 2 and again["due_at"] > first["due_at"]
    world.clock.advance(2 * DAY)
    rounds(world)
    assert set(world.copies(1).values()) <= {"verified", "released"}
    trash_of(world).undelete(study_uid(1), "it was right", "anna")
    assert found(world)[0][Field.STUDY_INSTANCES] == 2
    world.assert_readable(1)
    world.check()


def test_an_audit_of_copies_lists_the_trash_and_counts_it_as_no_violation(make_world: MakeWorld) -> None:
    world = archived(make_world, 2, 1)
    audit = CopiesAudit(world.catalog, world.pools, lambda _at: world.policies.set)
    before = world.now()
    world.clock.advance(1)
    delete(world)
    found = audit.report(Asked())
    assert found["good"] and found["in_trash"]["studies"] == 1
    assert found["policies"][0]["protected"]["studies"] == 1
    world.clock.advance(31 * DAY)
    rounds(world)
    assert audit.report(Asked())["good"]
    for at, protected in ((before, 2), (world.now(), 1)):
        then = audit.report(Asked(as_of=at))
        assert (then["good"], then["policies"][0]["protected"]["studies"]) == (True, protected)


@pytest.mark.campaign
def test_commitment_and_notifications_know_nothing_of_what_is_deleted(make_world: MakeWorld) -> None:
    world = make_world(policies=TWO_TAPES)
    world.subscribers = ["RIS"]
    world.announcements.round()
    world.store(1, 2)
    world.follow()
    delete(world)
    world.commitments.ask("CT1", "9.1", [Item(CT_IMAGE, header(1, 1).sop_instance_uid)])
    world.announcements.round()
    world.later(60)
    assert [each.reason for each in world.reported[-1].failed] == [Failure.NO_SUCH_OBJECT]
    told = [each for title, note in world.notified if title == "RIS" for each in note.items]
    assert {each.standing.availability for each in told[-2:]} == {Availability.UNAVAILABLE}
    trash_of(world).undelete(study_uid(1), "back", "anna")
    world.announcements.round()
    world.later(60)
    assert world.notified[-1][1].items[0].standing.availability is not Availability.UNAVAILABLE


@pytest.mark.campaign
def test_a_backup_knows_what_was_deleted_rejected_and_taken_back(
    make_world: MakeWorld, pg_catalog: Catalog
) -> None:
    world = make_world(policies=TWO_TAPES)
    for study in (1, 2, 3):
        world.store(study, 2)
    world.follow()
    for study in (1, 2, 3):
        delete(world, study)
    trash_of(world).undelete(study_uid(2), "back", "anna")
    with world.catalog.write() as session:
        marks.place_hold(session, study_uid(3), "court", world.now(), "anna")
    world.clock.advance(31 * DAY)
    rounds(world)
    named = (rejections.Reference(study_uid(2), header(2, 1).series_uid, header(2, 1).sop_instance_uid),)
    world.ingest.reject(rejections.Note("9.9", "113037", named), "ae:EDITOR")
    backup.restore(pg_catalog, aftermath.backup_of(world), "anna")
    with pg_catalog.read() as session:
        states = {each.study_uid: each.state.value for each in deletions.trash(session, 9, every=True)}
        assert states == {study_uid(1): "purged", study_uid(2): "undone", study_uid(3): "standing"}
        counts = deletions.counts(session)
        assert (counts["in_trash"], counts["due"], counts["rejected_instances"]) == (1, 0, 1)
        assert check.check(session) == []


def test_a_backup_of_studies_that_were_deleted_again_and_again_can_be_restored(
    make_world: MakeWorld, restore: aftermath.Restore
) -> None:
    world = make_world()
    for study in (1, 2):
        world.store(study, 2)
        world.seal_all()
        for _ in range(3):
            delete(world, study)
            undelete(world, study)
        delete(world, study)
    for _ in range(2):
        world.clock.advance(31 * DAY)
        rounds(world)
        world.store(1, 2)
        world.seal_all()
        delete(world, 1)
    before = _deleted(world)
    restored = restore(world, aftermath.backup_of(world))
    assert _deleted(restored) == before and all(before.values())
    with restored.catalog.read() as session:
        states = Counter(each.state for each in deletions.trash(session, 20, every=True))
        assert states == {"undone": 6, "purged": 3, "standing": 1}
        assert check.check(session) == []


def _deleted(world: World) -> dict[str, list[tuple[Any, ...]]]:
    names = ("deletion", "hidden_instance", "deleted_package", "copy")
    with world.catalog.read() as session:
        return {
            table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.primary_key))]
            for table in map(Base.metadata.tables.__getitem__, names)
        }


def test_a_release_that_failed_for_good_is_told_and_asked_for_again_a_day_later(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    world.store(1, 1)
    world.seal_all()
    delete(world)
    world.clock.advance(31 * DAY)

    def stuck(*_: object) -> None:
        raise Permanent("the share is read-only")

    with monkeypatch.context() as broken:
        broken.setattr("hsm.release.delete_package", stuck)
        rounds(world)
        [shown] = trash_of(world).listing(10)
        assert shown["state"] == "due"
        assert "read-only" in shown["waits"] and "hsm queue retry" in shown["waits"]
        [problem] = trash_of(world).problems()
        assert study_uid(1) in problem and "read-only" in problem
        world.clock.advance(3 * DAY)
        rounds(world)
        with world.catalog.read() as session:
            asked = session.scalars(select(Request.key).where(Request.key.startswith(PURGE))).all()
        assert asked == [asked[0]] * 2, "once a day, however many rounds there are"
    rounds(world)
    assert trash_of(world).listing(10)[0]["state"] == "due", "its day is not over"
    world.clock.advance(DAY)
    rounds(world)
    assert set(world.copies(1).values()) == {"released"}
    assert trash_of(world).problems() == [] and trash_of(world).listing(10) == []
    assert trash_of(world).listing(10, every=True)[0]["waits"] == ""
    world.check()
