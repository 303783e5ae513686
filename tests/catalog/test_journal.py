"""The journal's chain: what it records, and that no tampering goes unseen."""

from __future__ import annotations

import hashlib
import json
import threading
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from catalog_rows import add_volume
from sqlalchemy import event, text

from hsm.catalog import chaincheck, chainread, journal
from hsm.catalog.engine import Catalog
from hsm.errors import ConfigError

THREADS, APPENDS = 8, 50


def _append(catalog: Catalog, subject: str, detail: dict[str, Any] | None = None) -> int:
    with catalog.write() as session:
        return journal.append(
            session, catalog.clock.now(), "alice", "retire", "volume", subject, detail or {}
        )


def _fill(catalog: Catalog, count: int = 5) -> None:
    for number in range(1, count + 1):
        _append(catalog, f"T{number:05}", {"n": number})


def _problems(catalog: Catalog) -> list[chaincheck.Problem]:
    with catalog.read() as session:
        return list(chaincheck.verify(session))


def _tamper(catalog: Catalog, *statements: str) -> list[chaincheck.Problem]:
    """Change the journal as somebody would who owns the database, past the triggers, and verify it.

    It is rolled back at the end.
    """
    with catalog.read() as session:
        if catalog.engine.dialect.name == "sqlite":
            for trigger in ("journal_update", "journal_delete", "journal_head_delete"):
                session.execute(text(f"DROP TRIGGER {trigger}"))
        else:
            session.execute(text("ALTER TABLE journal DISABLE TRIGGER USER"))
            session.execute(text("ALTER TABLE journal_head DISABLE TRIGGER USER"))
        for statement in statements:
            session.execute(text(statement))
        return list(chaincheck.verify(session))


def _seqs(problems: list[chaincheck.Problem]) -> list[int]:
    return [problem.seq for problem in problems]


# --- appending and reading


def test_an_appended_record_is_found_in_the_history_of_its_subject(catalog: Catalog) -> None:
    number = _append(catalog, "T00001", {"why": "döst 张", "n": 1.5, "nul": "\0"})
    _append(catalog, "T00002")
    with catalog.read() as session:
        entries = journal.history(session, "T00001")
    assert entries == [
        journal.Entry(
            number,
            catalog.clock.now(),
            "alice",
            "retire",
            "volume",
            "T00001",
            {"why": "döst 张", "n": 1.5, "nul": "\0"},
        )
    ]
    assert _problems(catalog) == []


def test_a_record_s_digest_can_be_computed_by_hand(catalog: Catalog) -> None:
    """What docs/catalog.md tells an auditor, done without this software's help."""
    at = datetime(2026, 3, 1, 12, 30, tzinfo=timezone(timedelta(hours=2)))
    with catalog.write() as session:
        journal.append(session, at, "alice", "retire", "volume", "T00001", {"b": 1, "a": "ö"})
    line = '[1,"2026-03-01T10:30:00.000000+00:00","alice","retire","volume","T00001",{"a":"ö","b":1}]'
    with catalog.read() as session:
        stored = session.execute(text("SELECT digest FROM journal")).scalar_one()
        head = session.execute(text("SELECT digest FROM journal_head")).scalar_one()
    assert bytes(stored) == hashlib.sha256(bytes(32) + line.encode()).digest() == bytes(head)


def test_a_record_is_gone_with_the_transaction_that_wrote_it(catalog: Catalog) -> None:
    _append(catalog, "A")
    with pytest.raises(RuntimeError, match="power cut"), catalog.write() as session:
        journal.append(session, catalog.clock.now(), "alice", "retire", "volume", "B", {})
        raise RuntimeError("power cut")
    assert _append(catalog, "C") == 2
    assert _problems(catalog) == []


@pytest.mark.parametrize("field", ["actor", "verb", "kind", "subject"])
@pytest.mark.parametrize("value", ["", "a\0b"])
def test_an_empty_or_unstorable_field_is_refused(sqlite_catalog: Catalog, field: str, value: str) -> None:
    fields = {"actor": "alice", "verb": "retire", "kind": "volume", "subject": "A", field: value}
    with pytest.raises(ValueError, match=field), sqlite_catalog.write() as session:
        journal.append(session, sqlite_catalog.clock.now(), **fields, detail={})


def test_a_time_without_a_zone_is_refused(sqlite_catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="time zone"), sqlite_catalog.write() as session:
        journal.append(session, datetime(2026, 1, 1), "alice", "retire", "volume", "A", {})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", datetime(2026, 1, 1, tzinfo=UTC)])
def test_a_detail_that_json_cannot_express_is_refused(sqlite_catalog: Catalog, value: object) -> None:
    with pytest.raises(ValueError), sqlite_catalog.write() as session:
        journal.append(
            session, sqlite_catalog.clock.now(), "alice", "retire", "volume", "A", {"value": value}
        )


def test_a_catalog_without_a_head_is_told_to_upgrade(sqlite_catalog: Catalog) -> None:
    with pytest.raises(ConfigError, match="hsm catalog upgrade"), sqlite_catalog.write() as session:
        session.execute(text("DROP TRIGGER journal_head_delete"))
        session.execute(text("DELETE FROM journal_head"))
        journal.append(session, sqlite_catalog.clock.now(), "alice", "retire", "volume", "A", {})


def test_many_writers_at_once_make_one_chain(catalog: Catalog) -> None:
    errors: list[BaseException] = []

    def append_all(name: str) -> None:
        try:
            for number in range(APPENDS):
                _append(catalog, name, {"n": number})
        except BaseException as error:  # noqa: BLE001  (a thread's failure must fail the test)
            errors.append(error)

    threads = [threading.Thread(target=append_all, args=(f"W{number}",)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert _problems(catalog) == []
    with catalog.read() as session:
        assert session.execute(text("SELECT count(*), max(seq) FROM journal")).one() == (400, 400)
        for number in range(THREADS):
            own = [entry.detail["n"] for entry in journal.history(session, f"W{number}")]
            assert own == list(range(APPENDS))


# --- verifying


def test_an_empty_journal_is_whole(catalog: Catalog) -> None:
    assert _problems(catalog) == []


def test_an_altered_record_is_found_where_it_is(catalog: Catalog) -> None:
    _fill(catalog)
    zone = "" if catalog.engine.dialect.name == "sqlite" else "+00"
    for change in (
        "actor = 'mallory'",
        "verb = 'label'",
        "kind = 'copy'",
        "subject = 'T99999'",
        f"at = '2020-01-01{zone}'" if zone else "at = '2020-01-01 00\\:00\\:00.000000'",
        """detail = '{"n"\\:7}'""",
        """detail = '{"n"\\: 3}'""",  # the same value with a space
    ):
        problems = _tamper(catalog, f"UPDATE journal SET {change} WHERE seq = 3")
        assert _seqs(problems) == [3], change
    assert _problems(catalog) == []


def test_each_altered_record_is_reported(catalog: Catalog) -> None:
    _fill(catalog)
    assert _seqs(_tamper(catalog, "UPDATE journal SET actor = 'mallory' WHERE seq IN (2, 5)")) == [2, 5]


def test_a_removed_record_is_found_even_the_first_and_the_last(catalog: Catalog) -> None:
    _fill(catalog)
    for removed in (1, 3, 5):
        (problem,) = _tamper(catalog, f"DELETE FROM journal WHERE seq = {removed}")
        assert problem.seq == removed
        assert f"record {removed} is missing" in problem.message


def test_a_removed_run_of_records_is_named_whole(catalog: Catalog) -> None:
    _fill(catalog)
    (problem,) = _tamper(catalog, "DELETE FROM journal WHERE seq IN (2, 3, 4)")
    assert "records 2 to 4 are missing" in problem.message
    (problem,) = _tamper(catalog, "DELETE FROM journal")
    assert "records 1 to 5 are missing" in problem.message


def test_a_removed_record_whose_successors_were_renumbered_is_found(catalog: Catalog) -> None:
    _fill(catalog)
    problems = _tamper(
        catalog,
        "DELETE FROM journal WHERE seq = 3",
        "UPDATE journal SET seq = 3 WHERE seq = 4",
        "UPDATE journal SET seq = 4 WHERE seq = 5",
        "UPDATE journal_head SET seq = 4",
    )
    assert _seqs(problems) == [3, 4]


def test_an_inserted_record_is_found_where_it_is(catalog: Catalog) -> None:
    _fill(catalog)
    problems = _tamper(
        catalog,
        "UPDATE journal SET seq = 6 WHERE seq = 5",
        "UPDATE journal SET seq = 5 WHERE seq = 4",
        _INSERT.format(seq=4),
        "UPDATE journal_head SET seq = 6",
    )
    assert _seqs(problems) == [4, 5, 6]


def test_a_record_inserted_outside_the_chain_is_found(catalog: Catalog) -> None:
    _fill(catalog)
    for seq in (0, 6):
        assert seq in _seqs(_tamper(catalog, _INSERT.format(seq=seq)))


_INSERT = (
    "INSERT INTO journal (seq, at, actor, verb, kind, subject, detail, digest)"
    " SELECT {seq}, at, 'mallory', verb, kind, subject, detail, digest FROM journal WHERE seq = 3"
)


def test_two_records_that_changed_places_are_both_found(catalog: Catalog) -> None:
    _fill(catalog)
    problems = _tamper(
        catalog,
        "UPDATE journal SET seq = 99 WHERE seq = 2",
        "UPDATE journal SET seq = 2 WHERE seq = 3",
        "UPDATE journal SET seq = 3 WHERE seq = 99",
    )
    assert _seqs(problems)[:2] == [2, 3]


def test_a_record_altered_with_its_own_digest_made_anew_breaks_the_next(catalog: Catalog) -> None:
    _fill(catalog)
    with catalog.read() as session:
        before = bytes(session.execute(text("SELECT digest FROM journal WHERE seq = 2")).scalar_one())
    line = json.dumps(
        [3, "2026-01-01T00:00:00.000000+00:00", "mallory", "retire", "volume", "T00003", {"n": 3}],
        separators=(",", ":"),
    )
    forged = hashlib.sha256(before + line.encode()).hexdigest()
    literal = f"X'{forged}'" if catalog.engine.dialect.name == "sqlite" else f"decode('{forged}', 'hex')"
    change = f"UPDATE journal SET actor = 'mallory', digest = {literal} WHERE seq = 3"
    assert _seqs(_tamper(catalog, change)) == [4]


def test_an_altered_or_missing_head_is_found(catalog: Catalog) -> None:
    assert "head is missing" in _tamper(catalog, "DELETE FROM journal_head")[0].message
    _fill(catalog)
    for attack in (
        "UPDATE journal_head SET seq = 9",
        "UPDATE journal_head SET seq = 4",
        "UPDATE journal_head SET digest = (SELECT digest FROM journal WHERE seq = 1)",
        "DELETE FROM journal_head",
    ):
        assert len(_tamper(catalog, attack)) == 1, attack


NO_RECORDS = {
    "at = '2020-01-01 00:00:00.000000'": "does not follow",
    "at = 'yesterday'": "cannot be read",
    "at = 5": "cannot be read",
    "actor = CAST(actor AS BLOB)": "does not follow",
    "actor = CAST(x'ff41' AS TEXT)": "cannot be read",
    "subject = subject || char(0) || 'x'": "does not follow",
    "digest = 'no digest'": "does not follow",
    "detail = '{'": "does not follow",
    "detail = 7": "does not follow",
}
"""What SQLite takes into record 3 from somebody who owns the file, and what is said of it."""


def test_values_that_no_record_can_have_are_named_and_hide_nothing_behind_them(
    sqlite_catalog: Catalog,
) -> None:
    _fill(sqlite_catalog, 6)
    for change, said in NO_RECORDS.items():
        problems = _tamper(
            sqlite_catalog,
            f"UPDATE journal SET {change} WHERE seq = 3",
            "UPDATE journal SET verb = 'other' WHERE seq = 5",
        )
        found = {each.seq: each.message for each in problems}
        assert said in found[3], change
        assert "does not follow" in found[5], change
        assert found.keys() <= {3, 4, 5}, change


def test_an_empty_journal_of_a_catalog_that_holds_something_was_emptied(catalog: Catalog) -> None:
    none = (
        "decode(repeat('00', 32), 'hex')" if catalog.engine.dialect.name == "postgresql" else "zeroblob(32)"
    )
    emptied = ("DELETE FROM journal", f"UPDATE journal_head SET seq = 0, digest = {none}")
    _fill(catalog)
    assert _tamper(catalog, *emptied) == []
    with catalog.write() as session:
        add_volume(session, "HSM001L8")
    (problem,) = _tamper(catalog, *emptied)
    assert "every record was removed" in problem.message


def test_verifying_a_long_journal_does_not_hold_it_in_memory(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 MB of records (not chained: each is a problem) in batches of half a megabyte."""
    monkeypatch.setattr(chaincheck, "BATCH", 50)
    dialect = catalog.engine.dialect.name
    padding, no_digest = {
        "sqlite": ("hex(zeroblob(5000))", "zeroblob(32)"),
        "postgresql": ("repeat('0', 10000)", "decode(repeat('00', 32), 'hex')"),
    }[dialect]
    with catalog.write() as session:
        session.execute(
            text(
                "INSERT INTO journal (seq, at, actor, verb, kind, subject, detail, digest)"
                " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
                f" SELECT i, '2026-01-01 00\\:00\\:00', 'a', 'b', 'c', 'd', {padding}, {no_digest} FROM n"
            )
        )
    server_side: list[bool] = []

    @event.listens_for(catalog.engine, "before_cursor_execute")
    def note(_connection: Any, cursor: Any, *_: Any) -> None:
        server_side.append(getattr(cursor, "name", None) is not None)

    tracemalloc.start()
    try:
        with catalog.read() as session:
            count = sum(1 for _ in chaincheck.verify(session))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 2001  # each record, and the head that knows of none
    assert peak < 4 << 20
    # The client library's own memory is not traced: on PostgreSQL a server-side cursor keeps it small.
    assert any(server_side) == (dialect == "postgresql")


def _rewritten(catalog: Catalog, from_seq: int) -> tuple[list[chaincheck.Problem], list[chaincheck.Problem]]:
    """The journal written anew from a record on, digests and head included, by who owns the database:
    what a verification without and with an anchor of the old head finds. Rolled back at the end."""
    with catalog.read() as session:
        seq, digest = chainread.head(session)
        rows = [json.loads(line) for line in chainread.lines(session, 1, seq)]
        before = chainread.digest_of(session, from_seq - 1)
    assert before is not None
    statements = []
    for number, at, actor, verb, kind, subject, detail in rows[from_seq - 1 :]:
        line = json.dumps([number, at, actor, verb, kind, subject], separators=(",", ":"))
        text_ = json.dumps(detail | {"forged": 1}, sort_keys=True, separators=(",", ":"))
        before = hashlib.sha256(before + f"{line[:-1]},{text_}]".encode()).digest()
        literal = f"x'{before.hex()}'" if catalog.engine.dialect.name == "sqlite" else f"'\\x{before.hex()}'"
        said = text_.replace(":", "\\:")
        statements.append(f"UPDATE journal SET detail = '{said}', digest = {literal} WHERE seq = {number}")
        statements.append(f"UPDATE journal_head SET digest = {literal}")
    blind = _tamper(catalog, *statements)
    with catalog.read() as session:
        if catalog.engine.dialect.name == "sqlite":
            for trigger in ("journal_update", "journal_delete", "journal_head_delete"):
                session.execute(text(f"DROP TRIGGER {trigger}"))
        else:
            session.execute(text("ALTER TABLE journal DISABLE TRIGGER USER"))
        for statement in statements:
            session.execute(text(statement))
        return blind, list(chaincheck.verify(session, {seq: digest}))


def test_a_journal_that_was_written_anew_is_found_by_a_digest_that_was_kept_elsewhere(
    catalog: Catalog,
) -> None:
    _fill(catalog)
    blind, seen = _rewritten(catalog, 3)
    assert blind == [], "the chain itself is whole again: that is why anchors are kept"
    assert _seqs(seen) == [5]
    assert "written anew" in seen[0].message


def test_anchors_of_a_whole_journal_agree_and_one_of_a_removed_end_is_missed(catalog: Catalog) -> None:
    _fill(catalog)
    with catalog.read() as session:
        anchors = {seq: chainread.digest_of(session, seq) or b"" for seq in (0, 2, 5)}
        assert list(chaincheck.verify(session, anchors)) == []
        found = list(chaincheck.verify(session, anchors | {9: bytes(32)}))
    assert [(each.seq, "was there when" in each.message) for each in found] == [(9, True)]


def test_records_are_found_by_who_what_and_when_the_last_first(catalog: Catalog) -> None:
    _fill(catalog, 3)
    catalog.clock.advance(3600.0)
    later = catalog.clock.now()
    with catalog.write() as session:
        journal.append(session, later, "bob", "copy lost", "study", "1.2", {"why": "50%"})
    with catalog.read() as session:

        def seqs(**wanted: Any) -> list[int]:
            return [entry.seq for entry in journal.find(session, journal.Wanted(**wanted), 10)]

        assert seqs() == [4, 3, 2, 1]
        assert seqs(before=3) == [2, 1]
        assert seqs(actor="bob") == [4]
        assert seqs(subject="T00002") == [2]
        assert seqs(verb="copy*") == [4]
        assert seqs(verb="cop%") == []
        assert seqs(kind="volume", until=later) == [3, 2, 1]
        assert seqs(since=later) == [4]
        assert [entry.seq for entry in journal.find(session, journal.Wanted(), 1)] == [4]
