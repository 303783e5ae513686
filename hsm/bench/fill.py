"""Rows into an empty catalog as fast as the database takes them, past what checks each one."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text

from hsm.bench.archive import COLUMNS, Row
from hsm.catalog.engine import Catalog

SQLITE_CACHE_KIB = 1_000_000


def fill(
    catalog: Catalog,
    batches: Iterable[tuple[str, list[Row]]],
    after: Callable[[Any, str], None] = lambda *_: None,
) -> None:
    """Insert these rows, indexes being kept as they come (built at the end they would be smaller).

    Foreign keys and triggers are not asked; the caller's rows must be right.

    :param after: called with the DBAPI connection and the table after each batch.
    """
    postgresql = catalog.engine.dialect.name == "postgresql"
    connection = catalog.engine.raw_connection()
    try:
        cursor = connection.cursor()
        for statement in _POSTGRESQL if postgresql else _SQLITE:
            cursor.execute(statement)
        for table, rows in batches:
            (_copy_in if postgresql else _insert)(cursor, table, rows)
            after(connection.dbapi_connection, table)
            if postgresql:
                connection.commit()
        if not postgresql:
            cursor.execute("COMMIT")
    finally:
        # Not back into the pool: its settings are for filling only.
        connection.invalidate()
        connection.close()


def settle(catalog: Catalog) -> None:
    """What a running PostgreSQL does by itself in time: statistics, and a map of free space."""
    if catalog.engine.dialect.name == "postgresql":
        with catalog.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("VACUUM ANALYZE"))
            connection.execute(text("CHECKPOINT"))


_POSTGRESQL = (
    "SET session_replication_role = replica",
    "SET synchronous_commit = off",
    "SET timezone = 'UTC'",
)
_SQLITE = (
    "PRAGMA foreign_keys = OFF",
    "PRAGMA synchronous = OFF",
    f"PRAGMA cache_size = -{SQLITE_CACHE_KIB}",
    "BEGIN IMMEDIATE",
)

_ENCODE: dict[type, Callable[[Any], str]] = {
    int: str,
    bool: str,
    type(None): lambda _: "\\N",
    str: lambda value: value.replace("\\", "\\\\"),
    bytes: lambda value: f"\\\\x{value.hex()}",
    datetime: lambda value: value.astimezone(UTC).isoformat(),
}


def _copy_in(cursor: Any, table: str, rows: list[Row]) -> None:
    lines = ("\t".join([_ENCODE[type(value)](value) for value in row]) for row in rows)
    cursor.copy_expert(f"COPY {table} ({_names(table)}) FROM STDIN", io.StringIO("\n".join(lines) + "\n"))


def _insert(cursor: Any, table: str, rows: list[Row]) -> None:
    marks = ", ".join("?" * len(COLUMNS[table]))
    cursor.executemany(f"INSERT INTO {table} ({_names(table)}) VALUES ({marks})", rows)


def _names(table: str) -> str:
    return ", ".join(f'"{column}"' for column in COLUMNS[table])
