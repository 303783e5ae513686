"""What people said of studies travels with the media: a rebuild brings back no study that was deleted."""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest
from sqlalchemy import select

from drivers.base import VolumeLabel
from hsm import marksfile
from hsm.catalog import deletions, hiding, marks, rejections
from hsm.catalog.tables import Package, Study
from hsm.errors import Refused
from hsm.markingtapes import MarkingTapes
from hsm.rebuild import Report
from tests.sim.aftermath import (
    EVERYWHERE,
    TO_TAPE_ONLY,
    LoseCatalog,
    Restore,
    backup_of,
    check_media,
    rebuild,
)
from tests.sim.conftest import MakeWorld
from tests.sim.test_deletion import DAY, delete, found, rounds, trash_of
from tests.sim.world import World, dataset, header, study_uid


def hold(world: World, study: int) -> None:
    with world.catalog.write() as session:
        marks.place_hold(session, study_uid(study), "court", world.now(), "olga")


def purge(world: World, study: int = 1) -> None:
    """Deleted for good: of what lies on tape nothing is gone but the row."""
    delete(world, study)
    world.clock.advance(31 * DAY)
    rounds(world)
    assert set(world.copies(study).values()) == {"released"}


def forget(world: World, *studies: int) -> None:
    """What was acknowledged of them need not be there."""
    gone = tuple(f"{study_uid(study)}." for study in studies)
    world.acknowledged = {uid: at for uid, at in world.acknowledged.items() if not uid.startswith(gone)}


def told(report: Report, study: int) -> list[str]:
    return [each for each in report.deleted if study_uid(study) in each]


@pytest.mark.parametrize("carrier", ["the tape", pytest.param("a disk", marks=pytest.mark.campaign)])
def test_a_study_deleted_for_good_stays_deleted_when_the_catalog_is_made_from_media_alone(
    carrier: str, make_world: MakeWorld, lose_catalog: LoseCatalog
) -> None:
    world = make_world(policies=TO_TAPE_ONLY)
    for study in (1, 2, 3):
        world.store(study, 2)
    world.follow()
    hold(world, 2)
    purge(world)
    (tape,) = {volume for _, volume in world.copies(2) if volume.startswith("HSM")}
    if carrier == "the tape":
        world.store(4, 1)
        world.follow()  # its flush takes the marks along
    else:
        world.anchoring.round()
    assert (world.home / "nearline" / "marks").exists() == (carrier == "a disk")
    anew = lose_catalog(world)
    report = rebuild(anew)
    assert report.complete and report.quarantined == 0
    (said,) = told(report, 1)
    assert "deleted on" in said and "by anna, for good on" in said and f"bytes lie on {tape}" in said
    assert found(anew) == [] and anew.instances(1) == []
    every = anew.acknowledged
    forget(anew, 1)
    anew.check()
    anew.assert_readable(3)
    with pytest.raises(Refused, match=r"legal hold since .* placed by olga: court"):
        delete(anew, 2)
    trash_of(anew).undelete(study_uid(1), "the court wants it", "anna")
    anew.acknowledged = every
    anew.assert_readable(1)
    anew.check()


@pytest.mark.campaign
def test_a_cartridge_is_brought_for_what_was_said_when_none_was_written_to_for_hours(
    make_world: MakeWorld, lose_catalog: LoseCatalog
) -> None:
    world = make_world(policies=TO_TAPE_ONLY)
    world.store(1, 2)
    world.store(2, 1)
    world.follow()
    tapes = MarkingTapes(world.catalog, world.pools, world.custody, world.anchoring, timedelta(hours=6))
    assert tapes.round() == 0, "nobody has said anything"
    purge(world)
    assert tapes.round() == 1, "it was said long ago"
    hold(world, 2)
    assert tapes.round() == 0, "a flush may come"
    world.clock.advance(6 * 3600)
    world.custody.unmount_all()
    assert tapes.round() == 1
    assert tapes.round() == 0
    shutil.rmtree(world.home / "nearline")
    shutil.rmtree(world.home / "online")
    anew = lose_catalog(world)
    assert told(rebuild(anew), 1) and anew.instances(1) == [] and len(anew.instances(2)) == 1
    with pytest.raises(Refused, match="court"):
        delete(anew, 2)


@pytest.mark.campaign
def test_what_was_undeleted_or_stored_again_comes_back_and_the_rest_does_not(
    make_world: MakeWorld, lose_catalog: LoseCatalog
) -> None:
    world = make_world(policies=EVERYWHERE)
    for study in (1, 2, 3):
        world.store(study, 2)
    world.follow()
    delete(world, 2)
    world.anchoring.round()  # the pools know of it, and then of its end
    trash_of(world).undelete(study_uid(2), "it was right", "anna")
    purge(world, 1)
    world.store_one(header(1, 1), dataset(20_000, 1000 + 100 + 1))
    world.store(3, 1, first=9)
    world.follow()
    delete(world, 3, refuse_late=True)
    world.clock.advance(3600)
    world.anchoring.round()
    anew = lose_catalog(world)
    report = rebuild(anew)
    assert report.complete and report.quarantined == 0
    anew.assert_readable(2)
    assert [len(anew.instances(study)) for study in (1, 2, 3)] == [1, 2, 0]
    assert told(report, 1) and told(report, 3) and not told(report, 2)
    forget(anew, 1, 3)
    anew.check()
    anew.store(1, 1, first=7)
    anew.follow()
    with anew.catalog.read() as session:
        mine = select(Package.key).join(Study, Study.pk == Package.study_pk).where(Study.uid == study_uid(1))
        assert len(session.scalars(mine).all()) == 3, "a name that was used is not used again"
    anew.check()


@pytest.mark.campaign
def test_the_last_word_counts_in_whatever_order_volumes_are_found_and_over_two_fires(
    make_world: MakeWorld, lose_catalog: LoseCatalog
) -> None:
    world = make_world(policies=TO_TAPE_ONLY)
    world.store(1, 2)
    world.follow()
    purge(world)
    world.anchoring.round()
    anew = lose_catalog(world)
    first = rebuild(anew, "HSM001L8")
    assert found(anew) == [] or told(first, 1) == [], "the tape says nothing of it"
    assert told(rebuild(anew), 1), "found first, and known to be deleted afterwards"
    assert found(anew) == []
    again = lose_catalog(anew, "third.db")
    assert told(rebuild(again), 1) and found(again) == []
    trash_of(again).undelete(study_uid(1), "it was right", "anna")
    again.clock.advance(3600)
    again.anchoring.round()
    last = lose_catalog(again, "fourth.db")
    assert told(rebuild(last), 1) == []
    last.assert_readable(1)
    last.check()


@pytest.mark.campaign
def test_what_was_deleted_comes_back_when_that_is_asked_for(
    make_world: MakeWorld, lose_catalog: LoseCatalog
) -> None:
    world = make_world(policies=TO_TAPE_ONLY)
    world.store(1, 2)
    world.follow()
    hold(world, 1)
    with world.catalog.write() as session:
        marks.lift_hold(session, study_uid(1), "settled", world.now(), "olga")
    purge(world)
    world.anchoring.round()
    anew = lose_catalog(world)
    report = rebuild(anew, with_deleted=True)
    assert report.deleted == []
    anew.assert_readable(1)
    delete(anew, 1)  # it is not held
    forget(anew, 1)
    anew.check()


@pytest.mark.campaign
def test_rejections_retention_and_tags_come_back_with_their_study(
    make_world: MakeWorld, lose_catalog: LoseCatalog
) -> None:
    world = make_world(policies=EVERYWHERE)
    world.store(1, 3)
    world.store(2, 1)
    world.follow()
    uid = study_uid(1)
    reference = rejections.Reference(uid, f"{uid}.1", f"{uid}.1.2")
    note = rejections.Note("1.2.3.4", hiding.SAFETY, (reference,))
    with world.catalog.write() as session:
        rejections.reject(session, note, world.now(), world.now(), "WS1")
        marks.retain(session, uid, "20991231", "law", world.now(), "olga")
        marks.tag(session, uid, world.now(), "olga", add=["teaching"])
    world.anchoring.round()
    anew = lose_catalog(world)
    assert rebuild(anew).complete
    assert len(anew.instances(1)) == 2
    with anew.catalog.read() as session:
        pk = marks.study_key(session, uid)
        assert "retained until 2099-12-31" in marks.kept_by_law(session, pk, anew.now())
        assert marks.tags_of(session, session.get_one(Study, pk).tags) == ("teaching",)
        (said,) = rejections.listing(session, 9)
        assert (said.note, said.made_by, said.instances) == ("1.2.3.4", "WS1", 1)
    del anew.acknowledged[f"{uid}.1.2"]
    anew.check()


@pytest.mark.campaign
def test_an_older_catalog_learns_what_was_said_since_and_keeps_what_is_said_after(
    make_world: MakeWorld, restore: Restore
) -> None:
    world = make_world(policies=TO_TAPE_ONLY)
    for study in (1, 2, 3):
        world.store(study, 2)
    world.follow()
    hold(world, 3)
    file = backup_of(world)
    with world.catalog.write() as session:
        marks.lift_hold(session, study_uid(3), "settled", world.now(), "olga")
    delete(world, 2)
    purge(world, 1)
    world.anchoring.round()
    old = restore(world, file)
    hold(old, 2)  # said after the restore: newer than what any volume says
    assert len(old.instances(1)) == 2
    report = check_media(old)
    assert report.lifted and told(report, 1)
    assert old.instances(1) == [] and len(old.instances(2)) == 2
    with old.catalog.read() as session:
        assert marks.hold_of(session, marks.study_key(session, study_uid(3))) is None
    forget(old, 1)
    old.check()


@pytest.mark.campaign
def test_a_file_of_marks_that_was_altered_is_named_and_not_heeded(
    make_world: MakeWorld, lose_catalog: LoseCatalog
) -> None:
    world = make_world(policies=TO_TAPE_ONLY)
    world.store(1, 2)
    world.follow()
    delete(world)
    world.anchoring.round()
    for file in (world.home / "nearline" / "marks").iterdir():
        file.write_bytes(file.read_bytes().replace(b"anna", b"nobo"))
    for file in (world.home / "online" / "marks").iterdir():
        file.write_bytes(b"{}")
    anew = lose_catalog(world)
    report = rebuild(anew)
    assert sum("not heeded" in each for each in report.differs) == 2
    anew.assert_readable(1)
    with anew.catalog.read() as session:
        assert deletions.trash(session, 9) == []


@pytest.mark.campaign
def test_a_volume_gets_what_is_new_once_and_a_new_one_gets_all(make_world: MakeWorld) -> None:
    world = make_world(policies=TO_TAPE_ONLY)
    world.store(1, 1)
    world.store(2, 1)
    world.seal_all()
    folder = world.home / "nearline" / "marks"
    world.anchoring.round()
    assert not folder.exists(), "nobody has said anything"
    hold(world, 1)
    world.anchoring.round()
    delete(world, 2)
    world.anchoring.round()
    assert len(list(folder.iterdir())) == 1, "not every minute"
    world.clock.advance(3600)
    world.anchoring.round()
    world.anchoring.round()
    said = [marksfile.parse(file.read_bytes())[1] for file in sorted(folder.iterdir())]
    assert [[each.study for each in some] for some in said] == [[study_uid(1)], [study_uid(2)]]
    world.follow()
    label = VolumeLabel("HSM001L8", world.volume("HSM001L8").uuid, "tape")
    store = world.library.mount(label, world.library.inventory().drives()[0].address)
    (key,) = [each.key for each in store.list() if marksfile.is_key(each.key)]
    _, every = marksfile.parse(b"".join(store.get(key)))
    assert [each.study for each in every] == [study_uid(1), study_uid(2)]
