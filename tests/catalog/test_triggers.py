"""Attacks on what the database itself forbids: promises 3 and 7, past every guard of the daemon."""

from __future__ import annotations

import threading

import pytest
from catalog_rows import (
    add_copy,
    add_instance,
    add_name,
    add_package,
    add_packaged_study,
    add_patient,
    add_series,
    add_study,
    add_volume,
)
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hsm.catalog import journal
from hsm.catalog.engine import Catalog
from hsm.catalog.migrations import triggers_0001, triggers_0002, triggers_0003, triggers_0006
from hsm.catalog.tables import Copy
from hsm.guard import GOOD_VOLUMES
from hsm.states import CopyState, VolumeState

LAST = "no other verified copy"


def _set(catalog: Catalog, copy_pk: int, state: str) -> None:
    with catalog.write() as session:
        session.execute(
            text("UPDATE copy SET state = :state WHERE pk = :pk"), {"state": state, "pk": copy_pk}
        )


def _state(catalog: Catalog, copy_pk: int) -> str:
    with catalog.read() as session:
        return session.execute(select(Copy.state).where(Copy.pk == copy_pk)).scalar_one()


def _set_volume(catalog: Catalog, name: str, state: str) -> None:
    with catalog.write() as session:
        session.execute(
            text("UPDATE volume SET state = :state WHERE name = :name"), {"state": state, "name": name}
        )


def _two(catalog: Catalog, first: str = "verified", second: str = "verified") -> tuple[int, int]:
    with catalog.write() as session:
        copies = add_packaged_study(session, {"A": first, "B": second})
    return copies["A"], copies["B"]


# --- copies


def test_a_copy_is_released_while_another_verified_one_remains(catalog: Catalog) -> None:
    first, _ = _two(catalog)
    _set(catalog, first, "releasing")
    _set(catalog, first, "released")
    assert _state(catalog, first) == "released"


def test_only_a_verified_copy_lets_the_other_be_released(catalog: Catalog) -> None:
    for state in CopyState:
        with catalog.read() as session:  # rolled back at the end
            first = add_packaged_study(session, {"A": "verified", "B": state.value})["A"]
            release = text("UPDATE copy SET state = 'releasing' WHERE pk = :pk")
            if state is CopyState.VERIFIED:
                session.execute(release, {"pk": first})
                continue
            with pytest.raises(IntegrityError, match=LAST):
                session.execute(release, {"pk": first})


def test_a_verified_copy_counts_only_on_a_good_volume(catalog: Catalog) -> None:
    for state in VolumeState:
        with catalog.read() as session:  # rolled back at the end
            first = add_packaged_study(session, {"A": "verified", "B": "verified"})["A"]
            # The only way to `retired` for a volume that holds a live copy is past the triggers.
            _disable(session, "volume", "volume_retired")
            _disable(session, "volume", _reuse(session))
            session.execute(text("UPDATE volume SET state = :new WHERE name = 'B'"), {"new": state})
            release = text("UPDATE copy SET state = 'releasing' WHERE pk = :pk")
            if state in GOOD_VOLUMES:
                session.execute(release, {"pk": first})
                continue
            with pytest.raises(IntegrityError, match=LAST):
                session.execute(release, {"pk": first})


def test_a_verified_copy_of_another_package_does_not_count(catalog: Catalog) -> None:
    with catalog.write() as session:
        mine = add_packaged_study(session, {"A": "verified"}, "1.2.3")["A"]
        add_packaged_study(session, {"B": "verified"}, "1.2.4")
    with pytest.raises(IntegrityError, match=LAST):
        _set(catalog, mine, "releasing")


def test_one_statement_cannot_release_both_copies(catalog: Catalog) -> None:
    first, second = _two(catalog)
    with pytest.raises(IntegrityError, match=LAST), catalog.write() as session:
        session.execute(text("UPDATE copy SET state = 'releasing'"))
    assert (_state(catalog, first), _state(catalog, second)) == ("verified", "verified")


def test_a_suspect_copy_goes_only_while_a_verified_one_remains(catalog: Catalog) -> None:
    first, second = _two(catalog, "suspect", "suspect")
    with pytest.raises(IntegrityError, match=LAST):
        _set(catalog, first, "releasing")
    _set(catalog, second, "verified")
    _set(catalog, first, "releasing")
    assert _state(catalog, first) == "releasing"


@pytest.mark.parametrize("state", ["verified", "suspect", "lost"])
def test_no_copy_is_released_past_releasing(catalog: Catalog, state: str) -> None:
    first, _ = _two(catalog, state)
    with pytest.raises(IntegrityError, match="only through releasing"):
        _set(catalog, first, "released")


def test_the_only_written_copy_cannot_be_given_up_before_it_was_read_back(catalog: Catalog) -> None:
    first, second = _two(catalog, "written", "writing")
    with pytest.raises(IntegrityError, match=LAST):
        _set(catalog, first, "released")
    _set(catalog, second, "released")  # its bytes never were a whole copy
    assert _state(catalog, second) == "released"


def test_a_copy_cannot_be_inserted_as_releasing_without_another(catalog: Catalog) -> None:
    with pytest.raises(IntegrityError, match=LAST), catalog.write() as session:
        add_packaged_study(session, {"A": "releasing"})


def test_a_copy_is_never_deleted(catalog: Catalog) -> None:
    first, _ = _two(catalog, "released")
    with pytest.raises(IntegrityError, match="never deleted"), catalog.write() as session:
        session.execute(text("DELETE FROM copy WHERE pk = :pk"), {"pk": first})
    assert _state(catalog, first) == "released"


def test_a_copy_cannot_be_replaced_on_sqlite(sqlite_catalog: Catalog) -> None:
    first, _ = _two(sqlite_catalog)
    with pytest.raises(IntegrityError, match="never deleted"), sqlite_catalog.write() as session:
        session.execute(
            text(
                "INSERT OR REPLACE INTO copy (package_pk, volume_pk, state, locator)"
                " SELECT package_pk, volume_pk, 'released', '' FROM copy WHERE pk = :pk"
            ),
            {"pk": first},
        )
    assert _state(sqlite_catalog, first) == "verified"


@pytest.mark.parametrize("column", ["package_pk", "volume_pk"])
def test_a_copy_keeps_its_package_and_its_volume(catalog: Catalog, column: str) -> None:
    first, _ = _two(catalog)
    with catalog.write() as session:
        others = {
            "package_pk": add_package(session, add_study(session, add_patient(session), "1.9"), 1),
            "volume_pk": add_volume(session, "C"),
        }
    with pytest.raises(IntegrityError, match="never changes its package or volume"):
        with catalog.write() as session:
            session.execute(
                text(f"UPDATE copy SET {column} = :new WHERE pk = :pk"), {"new": others[column], "pk": first}
            )


# --- volumes


def test_a_volume_that_holds_a_live_copy_cannot_be_retired(catalog: Catalog) -> None:
    retire = text("UPDATE volume SET state = 'retired' WHERE name = 'A'")
    for state in CopyState:
        with catalog.read() as session:  # rolled back at the end
            add_packaged_study(session, {"B": "verified", "A": state.value})
            if state in (CopyState.RELEASED, CopyState.LOST):
                session.execute(retire)
                continue
            with pytest.raises(IntegrityError, match="cannot be retired"):
                session.execute(retire)


def test_a_retired_volume_takes_no_copies(catalog: Catalog) -> None:
    with catalog.write() as session:
        add_packaged_study(session, {"B": "verified"})
        package_pk = session.execute(text("SELECT pk FROM package")).scalar_one()
        retired = add_volume(session, "A", "retired")
        released = add_copy(session, package_pk, retired, "released")
    with pytest.raises(IntegrityError, match="retired"):
        _set(catalog, released, "writing")
    with catalog.write() as session:
        package_pk = add_package(session, add_study(session, add_patient(session), "1.9"))
    with pytest.raises(IntegrityError, match="retired"), catalog.write() as session:
        add_copy(session, package_pk, retired, "writing")


# --- the journal


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE journal SET actor = 'nobody'",
        "UPDATE journal SET seq = 7",
        "DELETE FROM journal",
    ],
)
def test_the_journal_is_append_only(catalog: Catalog, attack: str) -> None:
    with catalog.write() as session:
        journal.append(session, catalog.clock.now(), "alice", "retire", "volume", "A", {})
    with pytest.raises(IntegrityError, match="append-only"), catalog.write() as session:
        session.execute(text(attack))
    with catalog.read() as session:
        assert [entry.actor for entry in journal.history(session, "A")] == ["alice"]


def test_the_head_of_the_journal_cannot_be_deleted(catalog: Catalog) -> None:
    with pytest.raises(IntegrityError, match="head"), catalog.write() as session:
        session.execute(text("DELETE FROM journal_head"))


@pytest.mark.parametrize("table", ["journal", "journal_head", "copy"])
def test_truncate_is_refused_on_postgresql(pg_catalog: Catalog, table: str) -> None:
    with pytest.raises(IntegrityError), pg_catalog.write() as session:
        session.execute(text(f"TRUNCATE {table}"))


# --- instances and packages


@pytest.mark.parametrize("change", ["uid = '1.9'", "size = 11", "digest = (SELECT digest FROM package)"])
def test_an_instance_keeps_its_uid_and_its_bytes(catalog: Catalog, change: str) -> None:
    with catalog.write() as session:
        study_pk = add_study(session, add_patient(session))
        add_package(session, study_pk)
        add_instance(session, add_series(session, study_pk, "1.2.3.1"), add_name(session), "1.2.3.1.1")
        session.execute(text("UPDATE instance SET number = 5"))
    with pytest.raises(IntegrityError, match="of an instance never change"), catalog.write() as session:
        session.execute(text(f"UPDATE instance SET {change}"))


@pytest.mark.parametrize("change", ["key = 'x.tar'", "size = 11", "digest = (SELECT digest FROM instance)"])
def test_a_package_keeps_its_key_and_its_bytes(catalog: Catalog, change: str) -> None:
    with catalog.write() as session:
        study_pk = add_study(session, add_patient(session))
        add_package(session, study_pk)
        add_instance(session, add_series(session, study_pk, "1.2.3.1"), add_name(session), "1.2.3.1.1")
        session.execute(text("UPDATE package SET n_instances = 5"))
    with pytest.raises(IntegrityError, match="of a package never change"), catalog.write() as session:
        session.execute(text(f"UPDATE package SET {change}"))


# --- two nodes at once


def test_two_nodes_cannot_each_release_the_other_ones_last_copy(pg_catalog: Catalog) -> None:
    """The second waits for the first to commit, then sees that its copy is the last."""
    first, second = _two(pg_catalog)
    outcome: list[str] = []

    def release_second() -> None:
        try:
            _set(pg_catalog, second, "releasing")
            outcome.append("released")
        except IntegrityError as error:
            outcome.append(str(error))

    other = threading.Thread(target=release_second)
    with pg_catalog.write() as session:
        session.execute(text("UPDATE copy SET state = 'releasing' WHERE pk = :pk"), {"pk": first})
        other.start()
        _wait_until_somebody_waits_for_a_lock(pg_catalog)
        assert outcome == []
    other.join(30)
    assert len(outcome) == 1 and LAST in outcome[0]
    assert (_state(pg_catalog, first), _state(pg_catalog, second)) == ("releasing", "verified")


def test_the_second_node_may_release_when_the_first_one_rolls_back(pg_catalog: Catalog) -> None:
    first, second = _two(pg_catalog)
    other = threading.Thread(target=_set, args=(pg_catalog, second, "releasing"))
    with pg_catalog.read() as session:
        session.execute(text("UPDATE copy SET state = 'releasing' WHERE pk = :pk"), {"pk": first})
        other.start()
        _wait_until_somebody_waits_for_a_lock(pg_catalog)
        session.rollback()
    other.join(30)
    assert (_state(pg_catalog, first), _state(pg_catalog, second)) == ("verified", "releasing")


def test_a_release_from_an_older_snapshot_is_refused(pg_catalog: Catalog) -> None:
    first, _ = _two(pg_catalog)
    engine = pg_catalog.engine.execution_options(isolation_level="REPEATABLE READ")
    with pytest.raises(IntegrityError, match="READ COMMITTED"), Session(engine) as session:
        session.execute(text("UPDATE copy SET state = 'releasing' WHERE pk = :pk"), {"pk": first})


def test_a_volume_cannot_be_retired_past_a_copy_that_another_node_is_adding(pg_catalog: Catalog) -> None:
    with pg_catalog.write() as session:
        add_volume(session, "A")
    outcome: list[str] = []

    def retire() -> None:
        try:
            _set_volume(pg_catalog, "A", "retired")
            outcome.append("retired")
        except IntegrityError as error:
            outcome.append(str(error))

    other = threading.Thread(target=retire)
    with pg_catalog.write() as session:
        volume_pk = session.execute(text("SELECT pk FROM volume")).scalar_one()
        package_pk = add_package(session, add_study(session, add_patient(session)))
        add_copy(session, package_pk, volume_pk, "writing")
        other.start()
        _wait_until_somebody_waits_for_a_lock(pg_catalog)
    other.join(30)
    assert len(outcome) == 1 and "cannot be retired" in outcome[0]


def test_a_copy_cannot_be_added_to_a_volume_that_another_node_is_retiring(pg_catalog: Catalog) -> None:
    with pg_catalog.write() as session:
        volume_pk = add_volume(session, "A")
        package_pk = add_package(session, add_study(session, add_patient(session)))
    outcome: list[str] = []

    def add() -> None:
        try:
            with pg_catalog.write() as session:
                add_copy(session, package_pk, volume_pk, "writing")
            outcome.append("added")
        except IntegrityError as error:
            outcome.append(str(error))

    other = threading.Thread(target=add)
    with pg_catalog.write() as session:
        session.execute(text("UPDATE volume SET state = 'retired'"))
        other.start()
        _wait_until_somebody_waits_for_a_lock(pg_catalog)
    other.join(30)
    assert len(outcome) == 1 and "is retired" in outcome[0]


def _wait_until_somebody_waits_for_a_lock(catalog: Catalog) -> None:
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


# --- the triggers are there


def test_every_trigger_is_in_the_database(catalog: Catalog) -> None:
    """A migration that rebuilds a table on SQLite loses its triggers without a word."""
    dialect = catalog.engine.dialect.name
    wanted = {
        statement.split()[2]
        for triggers in (triggers_0001, triggers_0002, triggers_0003, triggers_0006)
        for statement in triggers.statements(dialect)
        if statement.startswith("CREATE TRIGGER")
    }
    query = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        if dialect == "sqlite"
        else "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    )
    with catalog.read() as session:
        assert set(session.scalars(text(query))) == wanted
    assert len(wanted) > 8


def test_the_triggers_and_the_guard_agree_on_good_volumes() -> None:
    assert triggers_0001.GOOD_VOLUMES == "('labelled', 'active', 'full')"
    assert {state.value for state in GOOD_VOLUMES} == {"labelled", "active", "full"}


def _reuse(session: Session) -> str:
    return "volume_recycled" if session.get_bind().dialect.name == "sqlite" else "volume_reuse"


def test_a_volume_that_holds_copies_is_neither_recycled_nor_given_another_label(catalog: Catalog) -> None:
    for change in ("state = 'recycled'", "state = 'scratch'", "uuid = 'another'"):
        with catalog.read() as session:
            add_packaged_study(session, {"A": "verified", "B": "suspect"})
            for name in ("A", "B"):
                with (
                    pytest.raises(IntegrityError, match="a volume that holds copies"),
                    session.begin_nested(),
                ):
                    session.execute(text(f"UPDATE volume SET {change} WHERE name = :name"), {"name": name})
            session.execute(text("UPDATE copy SET state = 'releasing' WHERE state = 'suspect'"))
            session.execute(text("UPDATE copy SET state = 'released' WHERE state = 'releasing'"))
            session.execute(text(f"UPDATE volume SET {change} WHERE name = 'B'"))


def _disable(session: Session, table: str, trigger: str) -> None:
    if session.get_bind().dialect.name == "sqlite":
        session.execute(text(f"DROP TRIGGER {trigger}"))
    else:
        session.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}"))
