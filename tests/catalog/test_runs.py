"""Runs that go on where they were, one of a policy at a time; and what was in force when."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from catalog_rows import AT, add_patient, add_study
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from hsm.catalog import activations, journal, runs
from hsm.catalog.engine import Catalog
from hsm.catalog.runs import NewDecision
from hsm.catalog.tables import Decision, Run
from hsm.errors import NotFound, Refused
from hsm.states import RunState

DIGEST = bytes(32)
LOST = timedelta(minutes=5)


def _begin(catalog: Catalog, policy: str = "p", worker: str = "a") -> int:
    with catalog.write() as session:
        return runs.begin(session, policy, DIGEST, AT, actor="schedule", worker=worker)


# --- the cursor


def test_a_run_goes_on_from_where_it_was_with_its_counts(catalog: Catalog) -> None:
    pk = _begin(catalog)
    steps = ({"rule": 0, "after": ["2026", 7]}, {"rule": 1, "after": None})
    for position in steps:
        with catalog.write() as session:
            assert runs.advance(
                session, pk, AT, position, worker="a", matched=3, requested=2, refused=1, errors=1, size=10
            )
    with catalog.read() as session:
        (found,) = runs.unfinished(session)
    assert found.position == steps[-1]
    assert (found.matched, found.requested, found.refused, found.errors, found.bytes) == (6, 4, 2, 2, 20)


def test_what_a_batch_asked_for_and_its_position_are_one_transaction(catalog: Catalog) -> None:
    pk = _begin(catalog)
    with catalog.write() as session:
        study = add_study(session, add_patient(session))
    with pytest.raises(RuntimeError), catalog.write() as session:
        runs.record_many(session, pk, [NewDecision(study, "r", "copy", "tape", "because", None)])
        runs.advance(session, pk, AT, {"after": [1]}, worker="a", requested=1)
        raise RuntimeError("killed")
    with catalog.read() as session:
        assert session.scalars(select(Decision)).all() == []
        assert runs.get(session, pk).position == {}


def test_a_policy_has_one_run_that_is_not_finished_whatever_a_program_does(catalog: Catalog) -> None:
    _begin(catalog)
    with pytest.raises(IntegrityError), catalog.write() as session:
        session.add(
            Run(
                policy="p",
                policy_digest=DIGEST,
                started_at=AT,
                finished_at=None,
                matched=0,
                requested=0,
                refused=0,
                state="running",
                activation=None,
                moved_at=None,
            )
        )
    _begin(catalog, "another")


def test_a_new_run_abandons_the_old_one_and_says_so(catalog: Catalog) -> None:
    old = _begin(catalog)
    new = _begin(catalog)
    with catalog.read() as session:
        was = runs.get(session, old)
        assert (was.state, was.message) == (RunState.ABANDONED, "another run of it began")
        assert [each.pk for each in runs.unfinished(session)] == [new]


def test_a_run_is_taken_over_only_when_its_worker_has_not_moved_it_for_long(catalog: Catalog) -> None:
    pk = _begin(catalog, worker="a")
    with catalog.write() as session:
        assert runs.claim(session, "p", "b", AT + LOST / 2, LOST) is None
        assert runs.claim(session, "p", "a", AT + LOST / 2, LOST) is not None  # its own
    with catalog.write() as session:
        taken = runs.claim(session, "p", "b", AT + 2 * LOST, LOST)
        assert taken is not None and taken.pk == pk
    with catalog.write() as session:
        assert not runs.advance(session, pk, AT, {"x": 1}, worker="a")
        assert runs.advance(session, pk, AT, {"x": 2}, worker="b")
        assert runs.claim(session, "nothing", "b", AT, LOST) is None


def test_of_two_nodes_that_claim_a_lost_run_one_gets_it(pg_catalog: Catalog) -> None:
    pk = _begin(pg_catalog, worker="dead")
    taken: list[str] = []
    start = threading.Barrier(4)

    def claim(name: str) -> None:
        start.wait(30)
        with pg_catalog.write() as session:
            if runs.claim(session, "p", name, AT + 2 * LOST, LOST) is not None:
                taken.append(name)

    threads = [threading.Thread(target=claim, args=(name,)) for name in "bcde"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(taken) == 1
    with pg_catalog.read() as session:
        assert runs.get(session, pk).worker == taken[0]


def test_a_suspended_run_moves_for_nobody_until_a_person_resumes_it(catalog: Catalog) -> None:
    pk = _begin(catalog)
    with catalog.write() as session:
        runs.advance(session, pk, AT, {"after": [3]}, worker="a", errors=5)
        runs.suspend(session, pk, AT, "policy:p", "5 requests have failed")
    with catalog.write() as session:
        assert runs.claim(session, "p", "a", AT + 2 * LOST, LOST) is None
        assert not runs.advance(session, pk, AT, {}, worker="a")
        assert [each.message for each in runs.unfinished(session)] == ["5 requests have failed"]
    with catalog.write() as session:
        runs.resume(session, pk, AT, "anna")
        taken = runs.claim(session, "p", "b", AT, LOST)
    assert taken is not None and (taken.position, taken.errors) == ({"after": [3]}, 0)
    with catalog.read() as session:
        said = [(each.actor, each.verb) for each in journal.history(session, "p")]
    assert said == [("policy:p", "run suspended"), ("anna", "run resumed")]


def test_what_is_over_stays_over(catalog: Catalog) -> None:
    pk = _begin(catalog)
    with catalog.write() as session:
        runs.finish(session, pk, AT, matched=9)
    with catalog.write() as session:
        assert not runs.advance(session, pk, AT, {}, worker="a")
        assert runs.claim(session, "p", "a", AT, LOST) is None
        assert runs.get(session, pk).matched == 9
        for act in (runs.resume, lambda s, k, now, by: runs.abandon(s, k, now, by, "why")):
            with pytest.raises(Refused):
                act(session, pk, AT, "anna")
        with pytest.raises(ValueError, match="not a transition"):
            runs.suspend(session, pk, AT, "anna", "why")
    with catalog.write() as session, pytest.raises(NotFound, match="no run 4711"):
        runs.suspend(session, 4711, AT, "anna", "why")


# --- activations


def test_activations_are_numbered_and_the_last_is_in_force(catalog: Catalog) -> None:
    texts = ({"a.yaml": "policy: a"}, {"a.yaml": "policy: b", "ä.yaml": "Grüße"})
    with catalog.write() as session:
        assert activations.active(session) is None
        assert activations.activate(session, AT, "anna", DIGEST, texts[0], "first") == 1
        assert activations.activate(session, AT, "berta", DIGEST, texts[1]) == 2
        assert activations.activate(session, AT, "anna", DIGEST, texts[0], "back again", restores=1) == 3
    with catalog.read() as session:
        now = activations.active(session)
        assert now is not None and (now.number, now.texts, now.restores) == (3, texts[0], 1)
        assert activations.get(session, 2).texts == texts[1]
        assert [each.number for each in activations.history(session)] == [3, 2, 1]
        assert [each.number for each in activations.history(session, before=3, limit=1)] == [2]
        with pytest.raises(NotFound, match="no activation 4"):
            activations.get(session, 4)


@pytest.mark.parametrize("attack", ["DELETE FROM activation", "UPDATE activation SET actor = 'nobody'"])
def test_what_came_into_force_stays_on_record(catalog: Catalog, attack: str) -> None:
    with catalog.write() as session:
        activations.activate(session, AT, "anna", DIGEST, {"a.yaml": "x"})
    with pytest.raises(IntegrityError, match="stays on record"), catalog.write() as session:
        session.execute(text(attack))


def test_nodes_that_activate_at_once_get_numbers_of_their_own(pg_catalog: Catalog) -> None:
    numbers: list[int] = []

    def activate(name: str) -> None:
        with pg_catalog.write() as session:
            numbers.append(activations.activate(session, AT, name, DIGEST, {name: name}))

    threads = [threading.Thread(target=activate, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]
