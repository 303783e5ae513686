"""Upgrading: whole or not at all, once, by one process, and never from a newer schema."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, event, inspect, make_url, text

from hsm.catalog.engine import Catalog, open_engine
from hsm.catalog.migrations import triggers_0001
from hsm.catalog.tables import Base
from hsm.catalog.upgrade import current_revision, head_revision, require_head, upgrade
from hsm.errors import ConfigError


@pytest.fixture
def empty(catalog_url: str) -> Iterator[Engine]:
    engine = open_engine(catalog_url)
    yield engine
    engine.dispose()


def _at_revision(engine: Engine, revision: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :new"), {"new": revision})


def _schema(engine: Engine) -> list[tuple[str, ...]]:
    """All tables, columns, constraints and indexes, as the database words them; no order of columns."""
    if engine.dialect.name == "sqlite":
        query = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE type IN ('table', 'index')"
    else:
        query = """
            SELECT 'column', table_name || '.' || column_name, data_type,
                   is_nullable || coalesce(column_default, '')
              FROM information_schema.columns WHERE table_schema = 'public'
            UNION ALL SELECT 'constraint', conname, conrelid::regclass::text, pg_get_constraintdef(oid)
              FROM pg_constraint WHERE connamespace = 'public'::regnamespace
            UNION ALL SELECT 'index', indexname, tablename, indexdef
              FROM pg_indexes WHERE schemaname = 'public'"""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(query)
        found = [tuple("" if part is None else str(part) for part in row) for row in rows]
    return sorted(
        (kind, name, table, _lines(sql)) for kind, name, table, sql in found if "alembic_version" not in name
    )


def _lines(sql: str) -> str:
    """SQLite keeps the text of CREATE TABLE, to which ALTER TABLE adds at its end: neither the order of
    the parts says anything, nor whether a constraint stands by itself or with its column."""
    head, parenthesis, body = " ".join(sql.replace('"', "").split()).partition("(")
    if not head.startswith("CREATE TABLE"):
        return head + parenthesis + body
    parts: list[str] = []
    for part in _top_level(body.rstrip(")") + ")" * (body.count("(") - body.rstrip(")").count(")"))):
        column, constraint, rest = part.partition(" CONSTRAINT ")
        parts.append(column)
        if constraint:
            references = re.fullmatch(r"(\w+) REFERENCES (.*)", rest)
            if references:
                rest = f"{references[1]} FOREIGN KEY({column.split()[0]}) REFERENCES {references[2]}"
            parts.append(f"CONSTRAINT {rest}")
    return "\n".join([head, *sorted(parts)])


def _top_level(body: str) -> list[str]:
    """The parts between commas that stand in no parentheses."""
    parts, depth = [""], 0
    for character in body:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def test_the_migrated_schema_is_the_one_the_tables_declare(catalog: Catalog) -> None:
    with catalog.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_migrated_schema_has_the_same_checks_and_partial_indexes(catalog: Catalog, empty: Engine) -> None:
    """Alembic compares neither CHECK constraints nor the conditions of partial indexes."""
    Base.metadata.create_all(empty)
    assert _schema(catalog.engine) == _schema(empty)


def test_upgrading_again_changes_nothing(empty: Engine) -> None:
    upgrade(empty)
    before = _schema(empty)
    upgrade(empty)
    assert _schema(empty) == before
    assert current_revision(empty) == head_revision()
    require_head(empty)


def test_an_empty_database_is_told_to_upgrade(empty: Engine) -> None:
    assert current_revision(empty) is None
    with pytest.raises(ConfigError, match="hsm catalog upgrade"):
        require_head(empty)


def test_asking_for_the_revision_leaves_an_empty_database_empty(empty: Engine) -> None:
    assert current_revision(empty) is None
    assert inspect(empty).get_table_names() == []


def test_a_catalog_that_is_behind_is_told_to_upgrade(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsm.catalog.upgrade.head_revision", lambda: "9998")
    with pytest.raises(ConfigError, match=r"at revision 0007.*needs 9998.*hsm catalog upgrade"):
        require_head(catalog.engine)


def test_a_database_newer_than_the_software_is_refused_and_left_alone(catalog: Catalog) -> None:
    _at_revision(catalog.engine, "9999")
    before = _schema(catalog.engine)
    for act in (upgrade, require_head):
        with pytest.raises(ConfigError, match=r"9999.*a newer version has upgraded it"):
            act(catalog.engine)
    assert _schema(catalog.engine) == before
    assert current_revision(catalog.engine) == "9999"


def test_an_upgrade_that_fails_half_way_leaves_nothing_behind(
    empty: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(dialect: str) -> list[str]:
        return [*statements(dialect)[:3], "CREATE NONSENSE"]

    statements = triggers_0001.statements
    with monkeypatch.context() as patch:
        patch.setattr(triggers_0001, "statements", broken)
        with pytest.raises(Exception, match="NONSENSE"):
            upgrade(empty)
    assert inspect(empty).get_table_names() == []
    upgrade(empty)
    require_head(empty)


def test_several_processes_that_upgrade_at_once_do_it_once(catalog_url: str) -> None:
    creations: list[str] = []
    errors: list[BaseException] = []
    start = threading.Barrier(4)

    def run() -> None:
        engine = open_engine(catalog_url)

        @event.listens_for(engine, "before_cursor_execute")
        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if statement.lstrip().startswith("CREATE TABLE journal_head"):
                creations.append(statement)

        try:
            start.wait(30)
            upgrade(engine)
            require_head(engine)
        except BaseException as error:  # noqa: BLE001  (a thread's failure must fail the test)
            errors.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(creations) == 1


def test_a_password_never_shows_in_the_message(pg_url: str) -> None:
    engine = open_engine(make_url(pg_url).set(password="geheim").render_as_string(hide_password=False))
    try:
        with pytest.raises(ConfigError) as caught:
            require_head(engine)
    finally:
        engine.dispose()
    assert "geheim" not in str(caught.value)
    assert "hsm_test" in str(caught.value)
