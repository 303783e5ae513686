"""Legal holds, tags and retention: said by people, kept by the guard and by the database."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from catalog_rows import add_packaged_study, add_patient, add_study
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from hsm.catalog import journal, marks, placement
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Copy, Study
from hsm.errors import BadInput, NotFound, Refused
from hsm.states import CopyState

UID = "1.2.3"
BY = "anna"


def _two(catalog: Catalog, first: str = "verified", second: str = "verified") -> tuple[int, int]:
    with catalog.write() as session:
        copies = add_packaged_study(session, {"A": first, "B": second}, UID)
    return copies["A"], copies["B"]


def _hold(catalog: Catalog, reason: str = "court of Bern 12/26") -> None:
    with catalog.write() as session:
        marks.place_hold(session, UID, reason, catalog.clock.now(), BY)


def _lift(catalog: Catalog) -> None:
    with catalog.write() as session:
        marks.lift_hold(session, UID, "settled", catalog.clock.now(), BY)


def _set(catalog: Catalog, copy_pk: int, state: str) -> None:
    with catalog.write() as session:
        session.execute(
            text("UPDATE copy SET state = :state WHERE pk = :pk"), {"state": state, "pk": copy_pk}
        )


def _verbs(catalog: Catalog) -> list[tuple[str, str]]:
    with catalog.read() as session:
        return [(entry.actor, entry.verb) for entry in journal.history(session, UID)]


# --- the guard


def test_nothing_of_a_held_study_is_released_and_the_reason_names_who_and_why(catalog: Catalog) -> None:
    first, _ = _two(catalog)
    _hold(catalog)
    with catalog.write() as session:
        verdict = placement.release(session, first, [], catalog.clock.now(), "test")
    assert not verdict.allowed
    assert "legal hold" in verdict.reason
    assert "anna" in verdict.reason and "court of Bern 12/26" in verdict.reason


def test_when_the_hold_is_lifted_the_copy_goes(catalog: Catalog) -> None:
    first, _ = _two(catalog)
    _hold(catalog)
    _lift(catalog)
    with catalog.write() as session:
        assert placement.release(session, first, [], catalog.clock.now(), "test").allowed


def test_a_held_study_is_mended_all_the_same(catalog: Catalog) -> None:
    first, _ = _two(catalog, "suspect")
    _hold(catalog)
    with catalog.write() as session:
        assert placement.release(session, first, [], catalog.clock.now(), "test").allowed
        placement.move_copy(session, first, CopyState.RELEASED, catalog.clock.now(), "test")


def test_the_last_good_copy_of_a_held_study_does_not_go_for_a_suspect_one(catalog: Catalog) -> None:
    first, _ = _two(catalog, "suspect", "suspect")
    _hold(catalog)
    with catalog.write() as session:
        assert not placement.release(session, first, [], catalog.clock.now(), "test").allowed


def test_a_study_is_retained_up_to_its_last_day_and_no_longer(catalog: Catalog) -> None:
    first, _ = _two(catalog)
    now = catalog.clock.now()
    with catalog.write() as session:
        marks.retain(session, UID, f"{now:%Y%m%d}", "paediatric", now, BY)
    with catalog.read() as session:
        verdict = placement.release(session, first, [], now, "test")
        assert not verdict.allowed and "retained until" in verdict.reason
    with catalog.write() as session:
        assert placement.release(session, first, [], now + timedelta(days=1), "test").allowed


# --- the database


def test_the_database_refuses_to_release_a_copy_of_a_held_study(catalog: Catalog) -> None:
    first, _ = _two(catalog)
    _hold(catalog)
    with pytest.raises(IntegrityError, match="legal hold"):
        _set(catalog, first, "releasing")
    _lift(catalog)
    _set(catalog, first, "releasing")


def test_the_database_lets_no_unproved_copy_of_a_held_study_go(catalog: Catalog) -> None:
    first, _ = _two(catalog, "written")
    _hold(catalog)
    with pytest.raises(IntegrityError, match="legal hold"):
        _set(catalog, first, "released")


def test_a_hold_on_another_study_is_no_hindrance(catalog: Catalog) -> None:
    first, _ = _two(catalog)
    with catalog.write() as session:
        add_packaged_study(session, {"C": "verified"}, "1.2.4")
        marks.place_hold(session, "1.2.4", "court", catalog.clock.now(), BY)
    _set(catalog, first, "releasing")


@pytest.mark.parametrize(
    "attack",
    [
        "DELETE FROM hold",
        "UPDATE hold SET reason = 'none'",
        "UPDATE hold SET placed_by = 'nobody'",
        "UPDATE hold SET study_pk = (SELECT pk FROM study WHERE uid = '9.9')",
    ],
)
def test_who_held_a_study_and_why_stays_on_record(catalog: Catalog, attack: str) -> None:
    _two(catalog)
    _hold(catalog)
    with catalog.write() as session:
        add_study(session, add_patient(session, "other"), "9.9")
    with pytest.raises(IntegrityError, match="hold"), catalog.write() as session:
        session.execute(text(attack))


def test_a_hold_is_lifted_once(catalog: Catalog) -> None:
    _two(catalog)
    _hold(catalog)
    _lift(catalog)
    with pytest.raises(IntegrityError, match="lifted once"), catalog.write() as session:
        session.execute(text("UPDATE hold SET lifted_at = NULL"))


def test_holds_cannot_be_truncated(pg_catalog: Catalog) -> None:
    with pytest.raises(IntegrityError, match="never deleted"), pg_catalog.write() as session:
        session.execute(text("TRUNCATE hold"))


def test_a_release_waits_for_a_hold_that_is_being_placed_and_is_refused(pg_catalog: Catalog) -> None:
    first, _ = _two(pg_catalog)
    outcome: list[str] = []

    def release() -> None:
        with pg_catalog.write() as session:
            outcome.append(placement.release(session, first, [], pg_catalog.clock.now(), "test").reason)

    other = threading.Thread(target=release)
    with pg_catalog.write() as session:
        marks.place_hold(session, UID, "court", pg_catalog.clock.now(), BY)
        other.start()
        _wait_for_a_lock(pg_catalog)
        assert outcome == []
    other.join(30)
    assert len(outcome) == 1 and "legal hold" in outcome[0]
    with pg_catalog.read() as session:
        assert session.execute(select(Copy.state).where(Copy.pk == first)).scalar_one() == "verified"


def _wait_for_a_lock(catalog: Catalog) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    tick = threading.Event()
    for _ in range(2000):
        with catalog.read() as session:
            if session.execute(waiting).scalar_one():
                return
        tick.wait(0.005)
    pytest.fail("nobody waits for a lock")


# --- what people may say


def test_a_study_is_held_once_at_a_time(catalog: Catalog) -> None:
    _two(catalog)
    _hold(catalog)
    with pytest.raises(Refused, match=r"already, since 20.* by anna: court of Bern"):
        _hold(catalog, "another court")
    _lift(catalog)
    with pytest.raises(Refused, match="not under legal hold"):
        _lift(catalog)
    _hold(catalog, "another court")
    with catalog.read() as session:
        ((uid, standing),) = marks.held(session, 10)
        assert (uid, standing.reason) == (UID, "another court")
    assert [verb for _, verb in _verbs(catalog)] == ["hold placed", "hold lifted", "hold placed"]


@pytest.mark.parametrize("reason", ["", "   ", "x" * 1001])
def test_a_hold_needs_a_reason(catalog: Catalog, reason: str) -> None:
    _two(catalog)
    with pytest.raises(BadInput, match="reason"):
        _hold(catalog, reason)


def test_a_study_that_is_not_there_is_named(catalog: Catalog) -> None:
    with pytest.raises(NotFound, match=r"1\.2\.3"):
        _hold(catalog)


def test_tags_come_and_go_and_only_changes_are_recorded(catalog: Catalog) -> None:
    _two(catalog)
    now = catalog.clock.now()
    with catalog.write() as session:
        assert marks.tag(session, UID, now, BY, add=["teaching", "Öffentlich"]) == ("teaching", "Öffentlich")
        assert marks.tag(session, UID, now, BY, add=["teaching"], remove=["nothing"]) == (
            "teaching",
            "Öffentlich",
        )
        assert marks.tag(session, UID, now, BY, remove=["Öffentlich"]) == ("teaching",)
    assert [verb for _, verb in _verbs(catalog)] == ["tagged", "untagged"]
    with catalog.write() as session:
        assert marks.tag(session, UID, now, BY, remove=["teaching"]) == ()
        assert session.execute(select(Study.tags)).scalar_one() is None


@pytest.mark.parametrize("tag", ["", " x", "a,b", "line\nbreak", "x" * 65])
def test_what_is_no_tag_is_refused(catalog: Catalog, tag: str) -> None:
    _two(catalog)
    with pytest.raises(BadInput, match="tag"), catalog.write() as session:
        marks.tag(session, UID, catalog.clock.now(), BY, add=[tag])


def test_a_study_has_no_more_than_fifty_tags(catalog: Catalog) -> None:
    _two(catalog)
    with catalog.write() as session:
        marks.tag(session, UID, catalog.clock.now(), BY, add=[f"t{n}" for n in range(50)])
    with pytest.raises(BadInput, match="51 tags"), catalog.write() as session:
        marks.tag(session, UID, catalog.clock.now(), BY, add=["one more"])


@pytest.mark.parametrize("day", ["2026-01-01", "20260231", "202601", "٢٠٢٦٠١٠١"])
def test_what_is_no_day_is_refused(catalog: Catalog, day: str) -> None:
    _two(catalog)
    with pytest.raises(BadInput, match="YYYYMMDD"), catalog.write() as session:
        marks.retain(session, UID, day, "because", catalog.clock.now(), BY)
