"""Refused acts in the journal: every kind of them, and no flood."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from sqlalchemy.exc import OperationalError

from hsm.catalog import journal
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Journal
from hsm.clock import ManualClock
from hsm.refusals import DIFFERENT_MAX, RECORDS_A_MINUTE, TEXT_MAX, Refusal, Refusals


def entries(catalog: Catalog) -> list[journal.Entry]:
    with catalog.read() as session:
        return journal.read(session, [Journal.verb == "refused"])


def refusal(number: int = 1, reason: str = "no right") -> Refusal:
    return Refusal(f"WS{number}", "modality", "move", reason, "10.0.0.1")


def test_a_refusal_is_a_record_with_who_where_what_and_why(sqlite_catalog: Catalog) -> None:
    refusals = Refusals(sqlite_catalog, sqlite_catalog.clock)
    refusals.note(refusal())
    assert refusals.round() == 1
    [entry] = entries(sqlite_catalog)
    assert (entry.actor, entry.verb, entry.kind, entry.subject) == ("WS1", "refused", "access", "modality")
    assert entry.detail == {"act": "move", "reason": "no right", "address": "10.0.0.1", "times": 1}


def test_the_same_refusal_is_one_record_a_minute_with_how_often_it_came(
    sqlite_catalog: Catalog, clock: ManualClock
) -> None:
    refusals = Refusals(sqlite_catalog, clock)
    for _ in range(3):
        for _ in range(40):
            refusals.note(refusal())
            refusals.round()
        clock.advance(61)
        refusals.round()
    assert [entry.detail["times"] for entry in entries(sqlite_catalog)] == [1, 39, 40, 40]


def test_a_flood_of_different_refusals_fills_no_catalog_and_is_counted_whole(
    sqlite_catalog: Catalog, clock: ManualClock
) -> None:
    refusals = Refusals(sqlite_catalog, clock)
    count = 3 * DIFFERENT_MAX
    for number in range(count):
        refusals.note(refusal(number, f"a wrong name {number}"))
    refusals.round()
    clock.advance(10)
    refusals.round()
    written = entries(sqlite_catalog)
    assert len(written) == RECORDS_A_MINUTE + 1
    assert sum(entry.detail["times"] for entry in written) == count
    assert written[-1].actor == "many"


def test_what_a_stranger_says_is_cut_and_cannot_break_the_record(sqlite_catalog: Catalog) -> None:
    refusals = Refusals(sqlite_catalog, sqlite_catalog.clock)
    refusals.note(Refusal("", "api", "x" * 5000, "a\0b\nc‮", "::1"))
    assert refusals.round() == 1
    [entry] = entries(sqlite_catalog)
    assert entry.actor == "unknown"
    assert len(entry.detail["act"]) == TEXT_MAX
    assert "\0" not in entry.detail["reason"]
    assert "\n" not in entry.detail["reason"]


def test_what_the_catalog_does_not_take_waits_and_a_stop_writes_the_rest(
    sqlite_catalog: Catalog, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = Refusals(sqlite_catalog, clock)
    refusals.note(refusal())

    @contextlib.contextmanager
    def broken() -> Iterator[None]:
        raise OperationalError("insert", {}, Exception("the disk is full"))
        yield

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_catalog, "write", broken)
        assert refusals.round() == 0
    refusals.note(refusal())
    refusals.round()
    refusals.note(refusal())
    refusals.stop()
    assert [entry.detail["times"] for entry in entries(sqlite_catalog)] == [2, 1]
