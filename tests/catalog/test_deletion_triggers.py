"""Attacks on the one permission under which a last copy may go, past every guard of the daemon."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from catalog_rows import add_copy, add_instance, add_name, add_package, add_patient, add_series, add_study
from catalog_rows import add_volume as volume
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hsm.catalog.engine import Catalog

AT = datetime(2026, 3, 1, tzinfo=UTC)
DUE = AT + timedelta(days=30)
LAST = "no other verified copy"


def filled(session: Session, *, deleted: bool = True, hidden: bool = True) -> dict[str, int]:
    """A study with one verified copy, deleted on the first of March for thirty days."""
    study = add_study(session, add_patient(session, "P1"), "1.2.3", n_series=1, n_instances=0)
    package = add_package(session, study, n_instances=1)
    series = add_series(session, study, "1.2.3.1", "CT", 0)
    instance = add_instance(session, series, add_name(session), "1.2.3.1.1", package_pk=package)
    copy = add_copy(session, package, volume(session, "A"), "verified")
    keys = {"study": study, "package": package, "instance": instance, "copy": copy}
    if deleted:
        run(session, _INSERT, study=study, state="standing", at=AT, due=DUE)
    if deleted and hidden:
        run(session, "INSERT INTO hidden_instance (instance_pk, deletion_pk) VALUES (:instance, 1)", **keys)
        run(session, "INSERT INTO deleted_package (package_pk, deletion_pk) VALUES (:package, 1)", **keys)
    return keys


_INSERT = (
    "INSERT INTO deletion (pk, study_pk, kind, state, code, note, reason, made_at, made_by, approved_by,"
    " due_at, refuses, ended_by, ended_reason) VALUES (1, :study, 'trash', :state, '', '', 'r', :at, 'a', '',"
    " :due, false, '', '')"
)
_RELEASE = "UPDATE copy SET state = 'releasing' WHERE pk = :copy"
_IS_DUE = "UPDATE deletion SET state = 'due', checked_at = :at WHERE pk = 1"
_HELD = (
    "INSERT INTO hold (study_pk, placed_at, placed_by, reason, lifted_by, lifted_reason)"
    " VALUES (:study, :at, 'a', 'court', '', '')"
)


def run(session: Session, statement: str, **values: Any) -> None:
    """As a hand at the SQL prompt would."""
    for name, value in values.items():
        if isinstance(value, datetime) and session.get_bind().dialect.name == "sqlite":
            values[name] = f"{value:%Y-%m-%d %H:%M:%S}.000000"
    wanted = {name: value for name, value in values.items() if f":{name}" in statement}
    session.execute(text(statement), wanted)


def test_the_last_copy_goes_once_the_day_has_come(catalog: Catalog) -> None:
    with catalog.write() as session:
        keys = filled(session)
        run(session, _IS_DUE, at=DUE)
        run(session, _RELEASE, **keys)
        run(session, "UPDATE copy SET state = 'released'")
        run(session, "UPDATE deletion SET state = 'purged', ended_at = :at WHERE pk = 1", at=DUE)


def test_it_does_not_go_while_the_study_is_in_the_trash(catalog: Catalog) -> None:
    for deleted in (False, True):
        with catalog.read() as session:  # rolled back at the end
            keys = filled(session, deleted=deleted)
            with pytest.raises(IntegrityError, match=LAST):
                run(session, _RELEASE, **keys)


LIES = (
    ("UPDATE deletion SET state = 'due', checked_at = made_at", "once its day has come"),
    ("UPDATE deletion SET state = 'due'", "once its day has come"),
    ("UPDATE deletion SET due_at = made_at", "never changes"),
    ("UPDATE deletion SET reason = 'another'", "never changes"),
    ("UPDATE deletion SET made_by = 'another'", "never changes"),
    ("UPDATE deletion SET state = 'purged', ended_at = made_at", "never changes|still count"),
    ("DELETE FROM deletion", "never deleted"),
    ("DELETE FROM hidden_instance", "only when its deletion is undone"),
    ("DELETE FROM deleted_package", "unless its deletion is undone"),
)


def test_a_hand_written_statement_neither_hastens_nor_forges_it(catalog: Catalog) -> None:
    for lie, match in LIES:
        with catalog.read() as session:  # rolled back at the end
            filled(session)
            with pytest.raises(IntegrityError, match=match):
                run(session, lie)


def test_a_deletion_is_not_put_in_as_due_nor_one_that_is_due_before_it_was_made(catalog: Catalog) -> None:
    for state, due in (("due", DUE), ("purged", DUE), ("standing", AT - timedelta(days=1))):
        with catalog.read() as session:
            keys = filled(session, deleted=False)
            with pytest.raises(IntegrityError, match=r"begins as standing|ended"):
                run(session, _INSERT, study=keys["study"], state=state, at=AT, due=due)


def test_a_package_of_which_something_is_shown_is_no_part_of_it(catalog: Catalog) -> None:
    with catalog.read() as session:
        keys = filled(session, hidden=False)
        with pytest.raises(IntegrityError, match="does not hide all of it"):
            run(session, "INSERT INTO deleted_package (package_pk, deletion_pk) VALUES (:package, 1)", **keys)


def test_another_study_s_package_is_no_part_of_it(catalog: Catalog) -> None:
    with catalog.read() as session:
        filled(session)
        other = add_package(session, add_study(session, add_patient(session, "P2"), "1.2.4"))
        with pytest.raises(IntegrityError, match="does not hide all of it"):
            run(
                session,
                "INSERT INTO deleted_package (package_pk, deletion_pk) VALUES (:package, 1)",
                package=other,
            )


def test_a_hold_or_a_retention_keeps_the_last_copy_of_what_is_due(catalog: Catalog) -> None:
    lies = (
        (_HELD, "legal hold|no other verified copy"),
        ("UPDATE study SET retain_until = '20260331'", LAST),
    )
    for kept, match in lies:
        with catalog.read() as session:
            keys = filled(session)
            run(session, _IS_DUE, at=DUE)
            run(session, kept, study=keys["study"], at=DUE)
            with pytest.raises(IntegrityError, match=match):
                run(session, _RELEASE, **keys)


def test_a_retention_that_is_over_keeps_nothing(catalog: Catalog) -> None:
    with catalog.read() as session:
        keys = filled(session)
        run(session, "UPDATE study SET retain_until = '20260330'")
        run(session, _IS_DUE, at=DUE)
        run(session, _RELEASE, **keys)


def test_what_was_undone_lets_nothing_go_and_stays_undone(catalog: Catalog) -> None:
    with catalog.read() as session:
        keys = filled(session)
        run(session, _IS_DUE, at=DUE)
        run(session, "UPDATE deletion SET state = 'undone', ended_at = :at", at=DUE)
        with pytest.raises(IntegrityError, match=LAST), session.begin_nested():
            run(session, _RELEASE, **keys)
        with pytest.raises(IntegrityError, match=r"stays so|never changes"):
            run(session, "UPDATE deletion SET state = 'due', ended_at = NULL")
