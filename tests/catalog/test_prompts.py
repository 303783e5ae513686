"""Mount requests, notices and cartridges on their way, the same on both databases."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from catalog_rows import AT, add_copy, add_packaged_study, add_request, add_volume
from sqlalchemy import event, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hsm.catalog import chaincheck, details, media, movements, notices, prompts, queue, views
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Copy, Request, Volume
from hsm.catalog.views.prompts import others
from hsm.errors import Refused
from hsm.states import MovementKind, MovementState, NoticeState, Outcome

LATER = AT + timedelta(hours=1)


def wanted(catalog: Catalog, barcode: str = "A") -> int:
    """A shelved volume that is asked for."""
    with catalog.write() as session:
        pk = add_volume(session, barcode)
        prompts.ask_for(session, pk, 10, AT, "hsm")
    return pk


def test_an_answer_is_given_once_and_everything_stands_in_the_journal(catalog: Catalog) -> None:
    pk = wanted(catalog)
    with catalog.write() as session:
        assert not prompts.ask_for(session, pk, 0, LATER, "hsm")
        prompts.acknowledge(session, pk, AT, "alice", LATER)
        assert prompts.answer(session, pk, Outcome.CANNOT_FIND, LATER, "alice", "not there")
        assert not prompts.answer(session, pk, Outcome.DONE, LATER, "bob")
        prompt = prompts.last(session, pk)
    assert prompt is not None
    assert (prompt.outcome, prompt.answered_by, prompt.priority) == ("cannot find", "alice", 0)
    with catalog.write() as session:
        assert prompts.ask_for(session, pk, 10, LATER, "hsm")
        again = prompts.current(session, pk)
        assert again is not None
        assert "could not be found" in again.note
        assert prompts.said_before(session, pk, Outcome.CANNOT_FIND, "alice", LATER)
        assert not prompts.said_before(session, pk, Outcome.CANNOT_FIND, "bob", LATER)
        assert not prompts.said_before(session, pk, Outcome.CANNOT_FIND, "alice", LATER + prompts.AGAIN)
    with catalog.read() as session:
        verbs = list(session.scalars(text("SELECT verb FROM journal WHERE subject = 'A' ORDER BY seq")))
    assert verbs == [
        "mount requested",
        "mount request acknowledged",
        "mount request cannot find",
        "mount requested",
    ]
    with catalog.read() as session:
        assert list(chaincheck.verify(session)) == []


def test_two_consoles_that_answer_at_once_are_told_who_was_first(catalog: Catalog) -> None:
    pk = wanted(catalog)
    gate, took = threading.Barrier(2), []

    def answer(by: str, outcome: Outcome) -> None:
        gate.wait(10)
        with catalog.write() as session:
            if prompts.answer(session, pk, outcome, LATER, by):
                took.append(by)

    threads = [
        threading.Thread(target=answer, args=each)
        for each in (("alice", Outcome.DONE), ("bob", Outcome.DAMAGED))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with catalog.read() as session:
        prompt = prompts.last(session, pk)
    assert prompt is not None
    assert took == [prompt.answered_by]


def test_a_notice_is_one_row_however_often_it_was_sent_and_goes_with_its_prompt(catalog: Catalog) -> None:
    wanted(catalog)
    with catalog.write() as session:
        (prompt,) = prompts.open_prompts(session)
        for sent in (1, 2):
            notices.put(
                session, prompt.pk, "600 s mail", "mail", NoticeState.SENT, sent, 0, AT, LATER, "x" * 9999
            )
        assert notices.lock_prompts(session, [prompt.pk, 999]) == {prompt.pk}
    with catalog.read() as session:
        ((key, row),) = notices.of_open_prompts(session).items()
        assert (key, row.sent, len(row.error)) == ((prompt.pk, "600 s mail"), 2, notices.ERROR_MAX)
        assert notices.unsent(session)["mail"][0] == 1
        assert notices.counts(session) == {prompt.pk: 2}
    with pytest.raises(IntegrityError, match="ck_notice_state"), catalog.write() as session:
        session.execute(text("UPDATE notice SET state = 'lost'"))
    with catalog.write() as session:
        prompts.answer(session, prompt.volume_pk, Outcome.DONE, LATER, "alice")
        assert notices.of_open_prompts(session) == {}
        assert notices.unsent(session) == {}


def test_the_other_copies_of_what_waits_are_found_and_lost_ones_are_not(catalog: Catalog) -> None:
    with catalog.write() as session:
        copies = add_packaged_study(session, {"A": "verified", "B": "verified", "C": "verified"})
        volumes = {each.name: each for each in session.scalars(select(Volume))}
        volumes["C"].state = "lost"
        add_request(session, "recall:x", "waiting", kind="recall")
        row = session.scalars(select(Request)).one()
        row.package_pk = session.get_one(Copy, copies["A"]).package_pk
        row.volume_pk, row.detail = volumes["A"].pk, {}
        session.flush()
        found = others(session, [volumes["A"].pk])[volumes["A"].pk]
        assert [(each.name, each.packages, each.requests) for each in found] == [("B", 1, (row.pk,))]
        queue.pass_over(session, [row.pk], "A", AT, "alice", preferred="B")
        assert (row.state, row.volume_pk) == ("queued", None)
        assert row.detail == {details.PASSED: ["A"], details.PREFERRED: "B"}
        queue.pass_over(session, [row.pk], "B", AT, "alice")
        assert row.detail == {details.PASSED: ["A", "B"]}


def plan(session: Session, barcode: str, kind: MovementKind, shelf: str = "B3") -> movements.MovementRef:
    volume = media.volume(session, barcode)
    return movements.plan(session, volume, kind, "lib", "", shelf, AT, "alice", origin="lib slot 1")


def test_a_volume_is_on_one_way_at_most_and_every_step_may_be_said_twice(catalog: Catalog) -> None:
    with catalog.write() as session:
        for barcode in "AB":
            add_volume(session, barcode)
        way = plan(session, "A", MovementKind.EXPORT)
        assert plan(session, "A", MovementKind.EXPORT).pk == way.pk
        assert plan(session, "A", MovementKind.EXPORT, "C1").shelf == "C1"
        with pytest.raises(Refused, match="hsm library undo A"):
            plan(session, "A", MovementKind.RETURN)
        for _ in range(2):
            left = movements.step(session, way.pk, MovementState.LEFT, AT, "bob")
        assert (left.left_by, left.words) == ("bob", "export to shelf C1: left by bob")
        there = movements.step(session, way.pk, MovementState.ARRIVED, LATER, "carol", "", "C2")
        assert (there.shelf, there.ended_by, there.is_open) == ("C2", "carol", False)
        with pytest.raises(Refused, match="arrived -> planned is not a transition"):
            movements.step(session, way.pk, MovementState.PLANNED, LATER, "carol")
        assert plan(session, "B", MovementKind.EXPORT).number != way.number
        assert [each.barcode for each in movements.listing(session)] == ["B"]
        assert [each.barcode for each in movements.listing(session, number=way.number)] == ["A"]
        assert list(movements.open_ones(session)) == [media.volume(session, "B").pk]
    for statement in (
        "UPDATE movement SET state = 'planned' WHERE state = 'arrived'",
        "UPDATE movement SET state = 'left', left_at = NULL",
        "UPDATE movement SET kind = 'theft'",
    ):
        with pytest.raises(IntegrityError), catalog.write() as session:
            session.execute(text(statement))


def test_a_look_at_many_prompts_asks_the_database_no_more_often_than_a_look_at_one(catalog: Catalog) -> None:
    asked: list[str] = []
    event.listen(catalog.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))

    def look() -> tuple[int, list[int]]:
        with catalog.read() as session:
            asked.clear()
            shown = views.mounts(session, LATER, page=views.Page(1000))
            found = others(session, [each["volume_pk"] for each in shown])
            count = len(asked)
            order = [each.id for each in views.asked(session, 1000)]
        assert order == [each["id"] for each in shown]
        assert all(each["waiters"] for each in shown)
        assert all([other.name for other in each] == ["SPARE"] for each in found.values())
        return count, order

    with catalog.write() as session:
        spare = add_volume(session, "SPARE")
    wait_for(catalog, spare, "A000", 10)
    few, _ = look()
    for number in range(1, 30):
        wait_for(catalog, spare, f"A{number:03}", 10 - number % 3)
    many, order = look()
    assert (many, len(order)) == (few, 30)
    with catalog.read() as session:
        shown = views.mounts(session, LATER, only=order[:2])
    assert [each["id"] for each in shown] == order[:2]


def wait_for(catalog: Catalog, spare: int, barcode: str, priority: int) -> None:
    """A recall that a person must bring a cartridge for; a second copy is on the spare one."""
    with catalog.write() as session:
        add_packaged_study(session, {barcode: "verified"}, f"1.2.{barcode[1:]}")
        pk = media.volume(session, barcode).pk
        package_pk = session.scalars(select(Copy.package_pk).where(Copy.volume_pk == pk)).one()
        add_copy(session, package_pk, spare)
        add_request(session, f"recall {pk}", "waiting", package_pk=package_pk, volume_pk=pk, reason="C-MOVE")
        prompts.ask_for(session, pk, priority, AT, "hsm")
