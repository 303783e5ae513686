"""What is due to be read back, what is damaged, and what depends on a volume: in SQL, on both databases."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import event, text

from hsm.catalog import mediafacts, requesting, scrubbing, usage
from hsm.catalog.engine import Catalog
from hsm.catalog.mediafacts import Depends
from hsm.catalog.usage import Tally
from hsm.model import Place, Priority
from hsm.scrub import request_key, verifications
from tests.catalog.catalog_rows import (
    AT,
    add_copy,
    add_package,
    add_packaged_study,
    add_patient,
    add_request,
    add_study,
    add_volume,
)

LATER = AT + timedelta(days=400)


def filled(catalog: Catalog) -> dict[str, int]:
    """T1 and T2 hold package A, T1 alone holds B; of C the copy on T2 is damaged and T3 is suspect."""
    with catalog.write() as session:
        volumes = {name: add_volume(session, name) for name in ("T1", "T2")}
        volumes["T3"] = add_volume(session, "T3", "suspect")
        patient = add_patient(session)
        for number, holds in enumerate(
            ({"T1": "verified", "T2": "verified"}, {"T1": "verified"}, {"T2": "suspect", "T3": "verified"}), 1
        ):
            package = add_package(session, add_study(session, patient, f"1.2.{number}", packages=1))
            for name, state in holds.items():
                add_copy(session, package, volumes[name], state)
    return volumes


def test_what_is_due_is_counted_by_volume_less_what_is_asked_for_already(catalog: Catalog) -> None:
    volumes = filled(catalog)
    with catalog.write() as session:
        assert scrubbing.due_volumes(session, "tape-a", AT, LATER) == [], "before, not at"
        due = {each.name: each for each in scrubbing.due_volumes(session, "tape-a", LATER, LATER)}
        assert {name: (each.copies, each.usable) for name, each in due.items()} == {
            "T1": (2, True),
            "T2": (1, True),
            "T3": (1, False),
        }
        (first, second) = scrubbing.due_copies(session, volumes["T1"], LATER, LATER, 9)
        assert (first.volume, first.pool) == ("T1", "tape-a")
        requesting.enqueue_many(session, LATER, "test", verifications([first], Priority.SCRUB, "due"))
        assert scrubbing.due_copies(session, volumes["T1"], LATER, LATER, 9) == [second]
        due = {each.name: each for each in scrubbing.due_volumes(session, "tape-a", LATER, LATER)}
        assert (due["T1"].copies, due["T1"].queued, due["T1"].place) == (1, 1, Place.SLOT)
        assert not scrubbing.drive_work_waits(session, Priority.SCRUB, [], LATER)
        keys = [request_key(first.package, "T1"), "verify:nothing"]
        assert list(scrubbing.hasten(session, keys, Priority.BULK)) == keys[:1]
        assert scrubbing.drive_work_waits(session, Priority.SCRUB, [], LATER)
        assert not scrubbing.drive_work_waits(session, Priority.SCRUB, ["tape-a"], LATER)


def test_a_copy_that_could_not_be_read_rests_for_a_day(catalog: Catalog) -> None:
    volumes = filled(catalog)
    with catalog.write() as session:
        (copy, _) = scrubbing.due_copies(session, volumes["T1"], LATER, LATER, 9)
        values = {"package_pk": copy.package_pk, "volume_pk": copy.volume_pk, "finished_at": LATER}
        add_request(session, "verify:a", "failed", kind="verify", **values)
        soon, late = LATER + timedelta(hours=23), LATER + timedelta(hours=25)
        assert len(scrubbing.due_copies(session, volumes["T1"], LATER, soon, 9)) == 1
        assert len(scrubbing.due_copies(session, volumes["T1"], LATER, late, 9)) == 2


def test_damage_is_found_without_reading_every_copy(catalog: Catalog) -> None:
    filled(catalog)
    statements: list[str] = []
    event.listen(catalog.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    with catalog.read() as session:
        (damaged,) = scrubbing.suspects(session, 9)
        assert (damaged.volume, damaged.study_uid) == ("T2", "1.2.3")
        assert scrubbing.suspects_total(session) == 1
        assert scrubbing.made_good(session, 9) == []
        assert scrubbing.under_way(session, [damaged.package_pk]) == set()
    looks = [each for each in statements if "FROM copy" in each][:2]
    assert ["'suspect'" in each for each in looks] == [True, True], "the partial index sees its condition"
    with catalog.read() as session:
        if session.get_bind().dialect.name == "sqlite":
            plan = session.execute(text("EXPLAIN QUERY PLAN SELECT pk FROM copy WHERE state = 'suspect'"))
            assert "ix_copy_suspect" in str(plan.all())


def test_who_loses_what_with_a_volume_is_counted_and_named(catalog: Catalog) -> None:
    volumes = filled(catalog)
    with catalog.write() as session:
        usage.note(session, "lib", 256, volumes["T1"], Tally(writes=2, bytes_written=9, errors=["torn"]), AT)
        found = mediafacts.depends(session)
        assert found[volumes["T1"]] == Depends(2, AT, 1, 1, 1, 1)
        assert found[volumes["T2"]] == Depends(1, AT, 0, 0, 1, 1)
        assert found[volumes["T3"]].only_studies == 1, "nothing else has it, though its volume is suspect"
        for name, pk in volumes.items():
            assert mediafacts.depends(session, pk) == {pk: found[pk]}, name
        on = mediafacts.studies_on(session, volumes["T1"], 9)
        assert [(each.uid, each.elsewhere) for each in on] == [("1.2.2", 0), ("1.2.1", 1)]
        assert mediafacts.suspects(session) == {volumes["T2"]: 1}
        assert [each.name for each in mediafacts.volumes(session)] == ["T1", "T2", "T3"]
        assert mediafacts.uses(session)[volumes["T1"]].hard_errors == 1
        ((library, drive, name, use),) = mediafacts.troubles(session, 9)
        assert (library, drive, name, use.hard_errors) == ("lib", 256, "T1", 1)
        assert [each.written for each in mediafacts.drives(session)] == [("T1",)]


def test_a_sample_is_a_part_of_the_good_copies_and_differs_with_its_salt(catalog: Catalog) -> None:
    with catalog.write() as session:
        for number in range(40):
            add_packaged_study(session, {f"V{number:02}": "verified"}, f"1.3.{number}")
        add_packaged_study(session, {"BAD": "suspect"}, "1.4")
        samples = [
            {each.copy_pk for each in scrubbing.asked_for(session, per_million=250_000, salt=salt, limit=99)}
            for salt in (1, 400_000, 800_000)
        ]
        assert all(8 <= len(each) <= 12 for each in samples)
        assert len(set.union(*samples)) > 20
        assert len(scrubbing.asked_for(session, limit=99)) == 41
        assert len(scrubbing.asked_for(session, limit=5, pools=["tape-a"])) == 5
        assert scrubbing.asked_for(session, limit=5, pools=["other"]) == []
