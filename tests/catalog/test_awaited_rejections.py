"""Rejection notes that come before what they name: it is hidden when it comes, on both databases."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from test_group_commit import Gate, Place

from hsm.catalog import awaiting, chaincheck, check, deletions, journal, marks, rejections
from hsm.catalog.engine import Catalog
from hsm.catalog.journal import Wanted
from hsm.catalog.rejections import Note, Reference
from hsm.catalog.tables import Instance, Series, Study
from hsm.config.deletion import DeletionConfig
from hsm.errors import NoSpace, NotFound, Refused
from hsm.ingest import StoreOutcome
from hsm.staging import Staging
from hsm.trash import Trash
from hsm.wake import Bell

STUDY, OTHER = "1.2.3", "1.2.4"
SAFETY, EXPIRED = "113037", "113039"


@pytest.fixture
def place(catalog: Catalog, tmp_path: Path) -> Any:
    made = Place(catalog, tmp_path / "online")
    yield made
    made.ingest.close()


def note(*uids: str, code: str = SAFETY, uid: str = "9.1", study: str = STUDY, series: str = "") -> Note:
    return Note(uid, code, tuple(Reference(study, series or f"{study}.1", each) for each in uids))


def seen(place: Place, study: str = STUDY) -> tuple[int, int, str]:
    """Instances, series and modalities that a study shows; and that the counters are right."""
    with place.catalog.read() as session:
        assert check.check(session) == []
        query = select(Study.n_instances, Study.n_series, Study.modalities).where(Study.uid == study)
        return tuple[Any, ...](session.execute(query).one())


def said(place: Place, study: str = STUDY) -> list[str]:
    with place.catalog.read() as session:
        assert not list(chaincheck.verify(session))
        return [each.verb for each in journal.find(session, Wanted(subject=study), 100)][::-1]


def test_what_a_note_named_is_hidden_when_it_comes_and_answered_as_stored(place: Place) -> None:
    place.store("1.1")
    assert place.ingest.reject(note("1.1", "1.2", "1.3", "1.4"), "ae:QC") == 1
    assert place.store("1.2", modality="MR") is StoreOutcome.STORED
    assert place.store("1.2", modality="MR") is StoreOutcome.DUPLICATE
    with pytest.raises(Refused, match="rejected"):
        place.store("1.2", b"other bytes")
    assert seen(place) == (0, 0, ""), "a modality of which nothing is seen is none of the study's"
    together = [lambda n=n: place.store(f"1.{n}") for n in (3, 4, 5)]  # type: ignore[misc]
    assert Gate(place.ingest, 3).run(together) == [StoreOutcome.STORED] * 3
    assert seen(place) == (1, 1, "\\CT\\")
    assert said(place).count("rejected on arrival") == 3
    with place.catalog.write() as session:
        (shown,) = rejections.listing(session, 9)
        assert (shown.instances, shown.awaited, shown.made_by) == (4, 0, "ae:QC")
        assert awaiting.count(session) == 0
        assert rejections.revoke(session, STUDY, "a mistake", place.catalog.clock.now(), "anna") == 1
    assert seen(place) == (5, 1, "\\CT\\")


def test_a_note_about_a_study_that_is_nowhere_waits_for_it_and_can_be_revoked(place: Place) -> None:
    mine, others = note("1.1", "1.2"), note("2.1", uid="9.2", study=OTHER)
    assert place.ingest.reject(mine, "ae:QC") == place.ingest.reject(mine, "ae:QC") == 0
    place.ingest.reject(others, "ae:QC")
    with place.catalog.read() as session:
        found = rejections.listing(session, 9)
        assert {(each.study_uid, each.instances, each.awaited) for each in found} == {
            (STUDY, 0, 2),
            (OTHER, 0, 1),
        }
    place.store("1.1")
    place.store("1.2", series=f"{STUDY}.2")
    assert seen(place) == (1, 1, "\\CT\\"), "of the series that the note names, and no other"
    with place.catalog.write() as session:
        now = place.catalog.clock.now()
        rejections.revoke(session, OTHER, "a mistake", now, "anna")
        with pytest.raises(NotFound):
            rejections.revoke(session, OTHER, "again", now, "anna")
    place.store("2.1", study=OTHER)
    assert seen(place, OTHER) == (1, 1, "\\CT\\")


def test_a_study_that_has_expired_before_it_came_goes_into_the_trash_when_nothing_forbids_it(
    place: Place, tmp_path: Path
) -> None:
    catalog = place.catalog
    trash = Trash(catalog, Staging(tmp_path / "staging", 2**20), Bell(), DeletionConfig())
    place.ingest.reject(note("1.1", "1.2", code=EXPIRED), "ae:QC")
    place.store("1.1")
    with catalog.write() as session:
        marks.place_hold(session, STUDY, "court", catalog.clock.now(), "anna")
    trash.round()
    assert trash.listing(9) == [], "it is held"
    with catalog.write() as session:
        marks.lift_hold(session, STUDY, "settled", catalog.clock.now(), "anna")
    trash.round()
    (found,) = trash.listing(9)
    assert (found["code"], found["due_at"] - found["deleted_at"]) == (EXPIRED, timedelta(days=30))
    with catalog.write() as session:
        deletions.undelete(session, STUDY, "kept after all", catalog.clock.now(), "anna")
    place.store("1.2")
    assert seen(place) == (2, 1, "\\CT\\"), "and what had not come is kept too"


def test_notes_cannot_name_more_than_there_is_room_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaiting, "AWAITED_MAX", 2)
    place.store("1.1")
    place.ingest.require_rejectable(note("1.1", "1.2", "1.3"))
    with pytest.raises(NoSpace, match="hsm study rejections"):
        place.ingest.require_rejectable(note("1.1", "1.2", "1.3", "1.4"))
    with place.catalog.read() as session:
        assert len(session.scalars(select(Instance.pk).join(Series)).all()) == 1
