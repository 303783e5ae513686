"""Opening the catalog: engines for SQLite (WAL) and PostgreSQL, and transactions."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session

from hsm.clock import Clock

SQLITE_BUSY_SECONDS = 30
WAL_ATTEMPTS = 100
WAL_PAUSE_SECONDS = 0.02
POOL_SIZE = 20


class Catalog:
    """An open catalog. :meth:`read` and :meth:`write` are the only ways to a transaction."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.engine = engine
        self.clock = clock

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """A read-only transaction: one snapshot, rolled back at the end."""
        with Session(self.engine) as session:
            yield session

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction, committed at the end or rolled back whole.

        On SQLite it takes the write lock at its start (BEGIN IMMEDIATE): a transaction that reads
        and then writes would otherwise fail with SQLITE_BUSY, which no time-out can cure.
        """
        with Session(self.engine.execution_options(hsm_write=True)) as session, session.begin():
            yield session

    def close(self) -> None:
        self.engine.dispose()


class OneWriter(Catalog):
    """A catalog whose write transactions wait for each other here, not in the database: threads that make
    the same rows in another order can then neither lock each other out nor time out."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        super().__init__(engine, clock)
        self._turn = threading.Lock()

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """See :meth:`Catalog.write`. Not to be nested."""
        with self._turn, super().write() as session:
            yield session


def open_engine(url: str) -> Engine:
    """An engine for ``sqlite:///path`` or ``postgresql+psycopg2://…``, set up for durability."""
    if url.startswith("sqlite"):
        engine = create_engine(
            url, connect_args={"timeout": SQLITE_BUSY_SECONDS}, pool_size=POOL_SIZE, max_overflow=POOL_SIZE
        )
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(url, pool_size=POOL_SIZE, max_overflow=POOL_SIZE, pool_pre_ping=True)


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we emit BEGIN ourselves, below
    cursor = connection.cursor()
    _use_wal(cursor)
    # FULL: a commit in WAL mode is on stable storage before it returns (promise 1).
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    # Without it INSERT OR REPLACE deletes a row past the triggers that forbid deleting it.
    cursor.execute("PRAGMA recursive_triggers = ON")
    cursor.close()


def _use_wal(cursor: Any) -> None:
    """Switch to WAL; nothing to do when the file is in that mode already.

    Two processes that open a new file at once refuse each other at once, without the busy time-out.
    """
    for attempt in range(1, WAL_ATTEMPTS + 1):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if attempt == WAL_ATTEMPTS:
                raise
            time.sleep(WAL_PAUSE_SECONDS)
        else:
            return


def _begin_sqlite(connection: Any) -> None:
    immediate = connection.get_execution_options().get("hsm_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
