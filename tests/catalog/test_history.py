"""Who retrieved and who found what: noted cheaply, written whole, kept small, replayed in order."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from catalog_rows import add_packaged_study, add_patient, add_series, add_study
from sqlalchemy import event, func, select, text, update
from sqlalchemy.exc import OperationalError

from hsm.catalog import chaincheck, history, journal, words
from hsm.catalog.access import AccessLog, Note
from hsm.catalog.engine import Catalog
from hsm.catalog.history import Accessed, Arrived, Recorder, Retrieved
from hsm.catalog.tables import Access, Study
from hsm.clock import ManualClock

DAY = timedelta(days=1)
AT = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)


def _retrieved(uid: str = "1.2.3", at: datetime = AT, **values: object) -> Retrieved:
    given = {"ae": "WS1", "bytes": 100, "tier": "online", "waited_seconds": 0.5}
    return Retrieved(uid, at, **{**given, **values})  # type: ignore[arg-type]


def _rows(catalog: Catalog) -> list[tuple[object, ...]]:
    with catalog.read() as session:
        query = select(
            Study.uid, Access.at, Access.kind, Access.times, Access.bytes, Access.waited_seconds, Access.daily
        ).join(Study, Study.pk == Access.study_pk)
        return [tuple(row) for row in session.execute(query.order_by(Access.at, Access.kind, Access.pk))]


@pytest.fixture
def noted(catalog: Catalog) -> Catalog:
    """A catalog of three studies."""
    with catalog.write() as session:
        patient = add_patient(session)
        for number in range(3, 6):
            add_study(session, patient, f"1.2.{number}", packages=1, first_received=AT - DAY)
    return catalog


# --- noting


def test_nothing_is_written_until_it_is_flushed_and_then_once(noted: Catalog) -> None:
    recorder = Recorder(noted)
    recorder.retrieved(_retrieved())
    assert _rows(noted) == []
    assert recorder.flush() == 1
    assert recorder.flush() == 0
    assert _rows(noted) == [("1.2.3", AT, "retrieve", 1, 100, 0.5, False)]


def test_hits_are_counted_by_study_and_day_however_often_they_are_flushed(
    noted: Catalog, clock: ManualClock
) -> None:
    recorder = Recorder(noted)
    today = history.day_of(clock.now())
    for _ in range(3):
        recorder.found(["1.2.3", "1.2.4"])
        recorder.flush()
    recorder.found(["1.2.3"])
    recorder.found(["1.2.3"])
    recorder.flush()
    clock.advance(86400)
    recorder.found(["1.2.3"])
    recorder.flush()
    assert [(uid, at, times) for uid, at, _, times, *_ in _rows(noted)] == [
        ("1.2.3", today, 5),
        ("1.2.4", today, 3),
        ("1.2.3", today + DAY, 1),
    ]


def test_two_nodes_count_the_same_hits_together(pg_catalog: Catalog) -> None:
    with pg_catalog.write() as session:
        patient = add_patient(session)
        for number in range(40):
            add_study(session, patient, f"1.2.{number}")
    uids = [f"1.2.{number}" for number in range(40)]
    errors: list[BaseException] = []

    def node(order: list[str]) -> None:
        recorder = Recorder(pg_catalog)
        try:
            for _ in range(10):
                recorder.found(order)
                recorder.flush()
        except BaseException as error:  # noqa: BLE001  (a thread's failure must fail the test)
            errors.append(error)

    threads = [threading.Thread(target=node, args=(each,)) for each in (uids, uids[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert {times for _, _, _, times, *_ in _rows(pg_catalog)} == {20}


def test_a_study_that_is_not_there_is_no_hindrance(noted: Catalog) -> None:
    recorder = Recorder(noted)
    recorder.found(["9.9.9", "1.2.3"])
    recorder.retrieved(_retrieved("8.8.8"))
    recorder.flush()
    assert [row[0] for row in _rows(noted)] == ["1.2.3"]


def test_what_the_database_does_not_take_is_written_the_next_time(
    noted: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(noted)
    recorder.found(["1.2.3", "1.2.4"])
    recorder.retrieved(_retrieved())
    refused = OperationalError("INSERT", {}, Exception("disk full"))

    def fail(*_: object) -> None:
        raise refused

    with monkeypatch.context() as patch:
        patch.setattr(history, "_add_retrieves", fail)
        with pytest.raises(OperationalError):
            recorder.flush()
    assert _rows(noted) == []
    recorder.found(["1.2.3"])
    recorder.flush()
    assert [(row[0], row[2], row[3]) for row in _rows(noted)] == [
        ("1.2.3", "query", 2),
        ("1.2.4", "query", 1),
        ("1.2.3", "retrieve", 1),
    ]


def test_memory_has_a_limit_and_what_is_dropped_is_told(
    noted: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(noted, buffer_max=2)
    recorder.found(["1.2.3", "1.2.4", "1.2.5"])
    recorder.found(["1.2.3"])  # known already: counting it takes no room
    for _ in range(3):
        recorder.retrieved(_retrieved())
    recorder.flush()
    assert sum(row[3] for row in _rows(noted) if row[2] == "query") == 3  # type: ignore[misc]
    assert sum(row[2] == "retrieve" for row in _rows(noted)) == 2
    assert "2 query hits or retrieves" in caplog.text


def test_a_query_s_hits_cost_a_few_statements_and_no_row_each(noted: Catalog) -> None:
    recorder = Recorder(noted)
    statements: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        statements.append(statement)

    event.listen(noted.engine, "before_cursor_execute", note)
    for _ in range(1000):
        recorder.found(["1.2.3", "1.2.4"])
    assert statements == []
    recorder.flush()
    event.remove(noted.engine, "before_cursor_execute", note)
    assert len(statements) <= 3
    assert len(_rows(noted)) == 2


# --- keeping it small


def test_old_retrieves_are_counted_by_study_day_caller_and_tier(noted: Catalog) -> None:
    recorder = Recorder(noted)
    for hours in (0, 1, 5, 30):
        recorder.retrieved(_retrieved(at=AT + timedelta(hours=hours)))
    recorder.retrieved(_retrieved(ae="WS2", waited_seconds=60.0, tier="offline"))
    recorder.retrieved(_retrieved("1.2.4"))
    recorder.retrieved(_retrieved(at=AT + 5 * DAY))
    recorder.found(["1.2.3"])
    recorder.flush()
    assert history.compact(noted, AT + 3 * DAY) == 6
    day = history.day_of(AT)
    with noted.read() as session:
        rows = session.execute(
            select(Study.uid, Access.at, Access.ae, Access.tier, Access.times, Access.bytes, Access.daily)
            .join(Study, Study.pk == Access.study_pk)
            .where(Access.kind == "retrieve")
            .order_by(Access.at, Study.uid, Access.ae)
        ).all()
    assert [tuple(row) for row in rows] == [
        ("1.2.3", day, "WS1", "online", 3, 300, True),
        ("1.2.3", day, "WS2", "offline", 1, 100, True),
        ("1.2.4", day, "WS1", "online", 1, 100, True),
        ("1.2.3", day + DAY, "WS1", "online", 1, 100, True),
        ("1.2.3", AT + 5 * DAY, "WS1", "online", 1, 100, False),
    ]
    assert history.compact(noted, AT + 3 * DAY) == 0


def test_what_is_compacted_while_another_node_does_the_same_is_counted_once(pg_catalog: Catalog) -> None:
    with pg_catalog.write() as session:
        add_study(session, add_patient(session), "1.2.3")
    recorder = Recorder(pg_catalog)
    for minutes in range(500):
        recorder.retrieved(_retrieved(at=AT + timedelta(minutes=minutes * 7)))
    recorder.flush()
    threads = [threading.Thread(target=history.compact, args=(pg_catalog, AT + 30 * DAY)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with pg_catalog.read() as session:
        assert session.scalar(select(func.sum(Access.times))) == 500
        assert session.scalar(select(func.sum(Access.bytes))) == 50_000
        assert session.scalar(select(func.count()).where(~Access.daily)) == 0


def test_what_is_very_old_is_forgotten(noted: Catalog) -> None:
    recorder = Recorder(noted)
    for days in range(5):
        recorder.retrieved(_retrieved(at=AT + days * DAY))
    recorder.flush()
    assert history.forget(noted, AT + 3 * DAY) == 3
    assert [row[1] for row in _rows(noted)] == [AT + 3 * DAY, AT + 4 * DAY]


# --- reading it


def test_events_come_in_the_order_of_time_an_arrival_first(noted: Catalog) -> None:
    recorder = Recorder(noted)
    recorder.retrieved(_retrieved("1.2.4", AT + DAY))
    recorder.retrieved(_retrieved("1.2.3", AT - DAY))  # in the moment it arrived
    recorder.retrieved(_retrieved("1.2.3", AT + 2 * DAY))
    recorder.flush()
    with noted.write() as session:
        session.execute(
            update(Study).where(Study.uid == "1.2.5").values(first_received=AT + timedelta(hours=30))
        )
    with noted.read() as session:
        told = list(history.events(session, AT - 2 * DAY, AT + 2 * DAY))
    assert [(type(each), each.study_uid) for each in told] == [
        (Arrived, "1.2.3"),
        (Arrived, "1.2.4"),
        (Accessed, "1.2.3"),
        (Accessed, "1.2.4"),
        (Arrived, "1.2.5"),
    ]


def test_an_arrival_tells_what_policies_may_ask(catalog: Catalog) -> None:
    with catalog.write() as session:
        add_packaged_study(session, {"A": "verified"}, "1.2.3")
        pk = session.execute(select(Study.pk)).scalar_one()
        add_series(session, pk, "1.2.3.1")
        session.execute(text("UPDATE series SET body_part = 'CHEST', description = 'lung'"))
        session.execute(text("UPDATE study SET modalities = '\\CT\\', source_ae = 'CT1', n_bytes = 4711"))
        session.execute(update(Study).values(**words.said_by(session, pk)))
    with catalog.read() as session:
        (arrived,) = list(history.events(session, AT - 365 * DAY, AT + 365 * DAY))
    assert isinstance(arrived, Arrived)
    assert arrived.size == 4711
    assert arrived.values["modalities"] == "\\CT\\"
    assert arrived.values["body_parts"] == ("CHEST",)
    assert arrived.values["series_descriptions"] == ("lung",)
    assert arrived.values["source_ae"] == "CT1"


def test_queries_can_be_left_out(noted: Catalog, clock: ManualClock) -> None:
    recorder = Recorder(noted)
    recorder.found(["1.2.3"])
    recorder.retrieved(_retrieved(at=clock.now()))
    recorder.flush()
    span = (clock.now() - 2 * DAY, clock.now() + DAY)
    with noted.read() as session:
        every = [e.kind for e in history.events(session, *span) if isinstance(e, Accessed)]
        fewer = [e.kind for e in history.events(session, *span, queries=False) if isinstance(e, Accessed)]
    assert sorted(every) == ["query", "retrieve"]
    assert fewer == ["retrieve"]


def test_a_long_history_is_read_in_constant_memory(catalog: Catalog) -> None:
    with catalog.write() as session:
        pk = add_study(session, add_patient(session), "1.2.3", packages=1)
        rows = 60_000
        session.execute(
            Access.__table__.insert(),
            [
                history._row(pk, AT + timedelta(seconds=number), history.RETRIEVE, ae=f"AE{number}")
                for number in range(rows)
            ],
        )

    def read() -> Iterator[int]:
        with catalog.read() as session:
            for number, _ in enumerate(history.events(session, AT, AT + 365 * DAY)):
                yield number

    tracemalloc.start()
    last = 0
    for number in read():
        last = number
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert last == rows - 1
    assert peak < 6_000_000  # all rows at once take several times as much


def test_the_span_reaches_from_the_first_arrival_to_the_last_event(noted: Catalog) -> None:
    with noted.read() as session:
        found = history.span(session)
    assert found is not None and found[0] == AT - DAY
    recorder = Recorder(noted)
    recorder.retrieved(_retrieved(at=AT + 100 * DAY))
    recorder.flush()
    with noted.read() as session:
        found = history.span(session)
    assert found is not None and found[1] == AT + 100 * DAY


def test_an_empty_archive_has_no_span(catalog: Catalog) -> None:
    with catalog.read() as session:
        assert history.span(session) is None
        assert list(history.events(session, AT, AT + DAY)) == []


# --- the same in the journal


def test_retrieves_alike_are_one_record_and_queries_say_how_often(catalog: Catalog) -> None:
    accesses = AccessLog(catalog)
    at = catalog.clock.now()
    for number in range(3):
        got = {"how": "C-GET from WS1", "to": "WS1", "instances": 1, "bytes": 10}
        accesses.note(Note(at, "ae:WS1", "retrieved", "study", "1.2", got))
        accesses.note(
            Note(at, "ae:WS1", "queried", "query", "STUDY", {"keys": ["PatientID"], "matches": number})
        )
    accesses.note(Note(at, "ae:WS2", "retrieved", "study", "1.2", {"instances": 5, "bytes": 50}))
    assert accesses.flush() == 3
    assert accesses.flush() == 0
    with catalog.read() as session:
        found = {(each.actor, each.verb): each.detail for each in journal.read(session, [])}
        assert list(chaincheck.verify(session)) == []
    assert found["ae:WS1", "retrieved"] == {
        "how": "C-GET from WS1",
        "to": "WS1",
        "instances": 3,
        "bytes": 30,
        "times": 3,
    }
    assert found["ae:WS1", "queried"] == {"keys": ["PatientID"], "matches": 3, "times": 3}
    assert "times" not in found["ae:WS2", "retrieved"]


def test_accesses_that_the_database_does_not_take_are_noted_again_and_too_many_are_counted(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    accesses = AccessLog(catalog, buffer_max=2)
    at = catalog.clock.now()
    for number in range(4):
        accesses.note(Note(at, "ae:WS1", "retrieved", "study", f"1.{number}", {"instances": 1}))
    with monkeypatch.context() as broken:
        broken.setattr(journal, "append_many", _fail)
        with pytest.raises(RuntimeError, match="no database"):
            accesses.flush()
    accesses.note(Note(at, "ae:WS1", "retrieved", "study", "1.0", {"instances": 2}))
    accesses.flush()
    with catalog.read() as session:
        entries = journal.read(session, [])
    assert [(each.subject, each.detail.get("instances")) for each in entries[:2]] == [("1.0", 3), ("1.1", 1)]
    assert (entries[2].verb, entries[2].detail["records"]) == ("not noted", 2)


def _fail(*_: object) -> int:
    raise RuntimeError("no database")
