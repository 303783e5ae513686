"""What the tables themselves accept and refuse, the same on both databases."""

from __future__ import annotations

import itertools
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from catalog_rows import (
    AT,
    add_instance,
    add_name,
    add_package,
    add_packaged_study,
    add_patient,
    add_request,
    add_series,
    add_study,
    add_volume,
)
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import Session

from hsm import states
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import MountRequest, Request, Study
from hsm.model import Place

NOT_STATES = ["", "Verified", "verified ", "gone"]


def _add_mount_request(session: Session, volume_pk: int, state: str) -> None:
    session.add(
        MountRequest(
            volume_pk=volume_pk,
            state=state,
            priority=0,
            created_at=AT,
            answered_at=None,
            answered_by="",
            comment="",
        )
    )
    session.flush()


def _add_in_state(session: Session, noun: str, state: str) -> None:
    if noun == "volume":
        add_volume(session, "A", state)
    elif noun == "copy":
        add_packaged_study(session, {"B": "verified", "A": state})
    elif noun == "request":
        add_request(session, "k", state)
    else:
        _add_mount_request(session, add_volume(session, "A"), state)


MACHINES: dict[str, tuple[str, ...]] = {
    "volume": states.VOLUME.names(),
    "copy": states.COPY.names(),
    "request": states.REQUEST.names(),
    "mount_request": states.MOUNT.names(),
}


@pytest.mark.parametrize("noun", MACHINES)
def test_every_state_of_a_machine_is_accepted_and_no_other(catalog: Catalog, noun: str) -> None:
    for state in MACHINES[noun]:
        with catalog.read() as session:  # rolled back at the end
            _add_in_state(session, noun, state)
            assert state in session.scalars(text(f"SELECT state FROM {noun}")).all()
    for state in NOT_STATES:
        with pytest.raises(IntegrityError, match=f"ck_{noun}_state"), catalog.write() as session:
            _add_in_state(session, noun, state)


def test_every_kind_of_request_is_accepted_and_no_other(catalog: Catalog) -> None:
    with catalog.write() as session:
        for kind in states.RequestKind:
            add_request(session, kind.value, kind=kind.value)
    with pytest.raises(IntegrityError, match="ck_request_kind"), catalog.write() as session:
        add_request(session, "k", kind="burn")


def test_every_place_is_accepted_and_no_other(catalog: Catalog) -> None:
    with catalog.write() as session:
        add_volume(session, "A")
        for place in Place:
            session.execute(text("UPDATE volume SET place = :place"), {"place": place.value})
    with pytest.raises(IntegrityError, match="ck_volume_place"), catalog.write() as session:
        session.execute(text("UPDATE volume SET place = 'car'"))


def test_a_verified_copy_says_when_it_was_verified(catalog: Catalog) -> None:
    with catalog.write() as session:
        add_packaged_study(session, {"A": "verified"})
    with pytest.raises(IntegrityError, match="ck_copy_verified_at"), catalog.write() as session:
        session.execute(text("UPDATE copy SET verified_at = NULL"))


def test_an_instance_is_sealed_with_its_offset_or_not_at_all(catalog: Catalog) -> None:
    with catalog.write() as session:
        study_pk = add_study(session, add_patient(session))
        package_pk = add_package(session, study_pk)
        series_pk = add_series(session, study_pk, "1.2.3.1")
        add_instance(session, series_pk, add_name(session), "1.2.3.1.1")
    with pytest.raises(IntegrityError, match="ck_instance_sealed"), catalog.write() as session:
        session.execute(text("UPDATE instance SET package_pk = :pk"), {"pk": package_pk})
    with pytest.raises(IntegrityError, match="ck_instance_sealed"), catalog.write() as session:
        session.execute(text('UPDATE instance SET "offset" = 512'))


def test_a_request_has_an_end_exactly_when_it_ended(catalog: Catalog) -> None:
    for state in states.RequestState:
        wrong = AT if state in states.LIVE_REQUESTS else None
        with pytest.raises(IntegrityError, match="ck_request_finished"), catalog.write() as session:
            add_request(session, "k", state.value, finished_at=wrong)


# --- uniqueness


def test_one_live_request_at_most_has_a_key(catalog: Catalog) -> None:
    for first, second in itertools.product(states.LIVE_REQUESTS, repeat=2):
        with catalog.read() as session:  # rolled back at the end
            add_request(session, "recall:1", first.value)
            add_request(session, "recall:2", second.value)
            with pytest.raises(IntegrityError):
                add_request(session, "recall:1", second.value)


def test_any_number_of_ended_requests_share_a_key_with_a_live_one(catalog: Catalog) -> None:
    with catalog.write() as session:
        for state in ("done", "failed", "failed", "cancelled", "queued"):
            add_request(session, "recall:1", state)
    with pytest.raises(IntegrityError), catalog.write() as session:
        session.execute(
            text("UPDATE request SET state = 'active', finished_at = NULL WHERE state = 'cancelled'")
        )


def test_one_open_mount_request_at_most_asks_for_a_volume(catalog: Catalog) -> None:
    with catalog.write() as session:
        volume_pk = add_volume(session, "A")
        for state in ("done", "refused", "obsolete", "open"):
            _add_mount_request(session, volume_pk, state)
    with pytest.raises(IntegrityError), catalog.write() as session:
        _add_mount_request(session, volume_pk, "open")


def test_a_foreign_key_to_nothing_is_refused(catalog: Catalog) -> None:
    with pytest.raises(IntegrityError), catalog.write() as session:
        add_study(session, 4711)


# --- times


MOMENTS = (
    datetime(2026, 3, 29, 1, 59, 59, 999999, tzinfo=UTC),
    datetime(1899, 12, 31, 23, 0, tzinfo=UTC),
    datetime(2026, 7, 1, 0, 30, tzinfo=timezone(timedelta(hours=5, minutes=45))),
)


def test_a_time_comes_back_as_the_same_moment_in_utc(catalog: Catalog) -> None:
    for moment in MOMENTS:
        with catalog.read() as session:  # rolled back at the end
            add_study(session, add_patient(session), last_received=moment)
            session.expire_all()
            back = session.scalars(select(Study.last_received)).one()
            found = session.scalars(select(Study.uid).where(Study.last_received == moment)).all()
        assert back == moment
        assert back.utcoffset() == timedelta(0)
        assert found == ["1.2.3"]


def test_a_time_that_is_absent_stays_absent(catalog: Catalog) -> None:
    with catalog.write() as session:
        add_request(session, "k")
    with catalog.read() as session:
        assert session.scalars(select(Request.started_at)).one() is None


def test_a_time_without_a_zone_never_reaches_the_database(catalog: Catalog) -> None:
    with pytest.raises(StatementError, match="no time zone"), catalog.write() as session:
        add_study(session, add_patient(session), last_received=datetime(2026, 1, 1))


# --- transactions


def test_writers_that_read_first_wait_for_each_other_and_none_fails(catalog: Catalog) -> None:
    """On SQLite a transaction that began without the write lock would end in SQLITE_BUSY here."""
    with catalog.write() as session:
        add_study(session, add_patient(session))
    errors: list[BaseException] = []
    start = threading.Barrier(4)

    def count_up() -> None:
        try:
            start.wait(30)
            for _ in range(25):
                with catalog.write() as session:
                    study = session.scalars(select(Study).with_for_update()).one()
                    study.n_instances += 1
        except BaseException as error:  # noqa: BLE001  (a thread's failure must fail the test)
            errors.append(error)

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    with catalog.read() as session:
        assert session.scalars(select(Study.n_instances)).one() == 100


def test_a_reader_sees_the_last_commit_and_does_not_wait_for_a_writer(catalog: Catalog) -> None:
    with catalog.write() as session:
        add_study(session, add_patient(session))
    with catalog.write() as writer:
        writer.execute(text("UPDATE study SET n_instances = 7"))
        with catalog.read() as reader:
            assert reader.scalars(select(Study.n_instances)).one() == 0
    with catalog.read() as reader:
        assert reader.scalars(select(Study.n_instances)).one() == 7


def test_a_failed_transaction_leaves_nothing(catalog: Catalog) -> None:
    with pytest.raises(RuntimeError, match="power cut"), catalog.write() as session:
        add_patient(session)
        raise RuntimeError("power cut")
    with catalog.read() as session:
        assert session.execute(text("SELECT count(*) FROM patient")).scalar_one() == 0
