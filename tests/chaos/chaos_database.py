"""A database that is lost at any statement and at any commit, before it took effect or after."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, event

from tests.chaos.chaos_effects import Effects

SAID = "server closed the connection unexpectedly"


class Lost(sqlite3.OperationalError):
    """As the driver of a server that went away raises it."""


class Database:
    """The trouble that is to come, of every engine that is given to it."""

    def __init__(self, seconds: Callable[[], float], effects: Effects) -> None:
        self._seconds = seconds
        self._effects = effects
        self.statement_in: int | None = None
        """The so-manieth statement from now fails, and its connection is gone."""
        self.commit_in: int | None = None
        self.after_commit = False
        """The commit that is lost took effect."""
        self.down_until = float("-inf")

    def heal(self) -> None:
        self.statement_in = self.commit_in = None
        self.down_until = float("-inf")

    @property
    def down(self) -> bool:
        return self._seconds() < self.down_until

    def attach(self, engine: Engine) -> None:
        """Stand between an engine and its driver."""
        dialect: Any = engine.dialect
        execute, many, commit = dialect.do_execute, dialect.do_executemany, dialect.do_commit
        was_lost = dialect.is_disconnect

        def do_execute(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
            self._strike()
            execute(cursor, statement, parameters, context)

        def do_executemany(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
            self._strike()
            many(cursor, statement, parameters, context)

        def do_commit(connection: Any) -> None:
            if self.down:
                self._effects.feel("database down")
                raise Lost(SAID)
            if not connection.in_transaction or not _counts_down(self, "commit_in"):
                commit(connection)
                return
            if self.after_commit:
                commit(connection)
                self._effects.feel("database lost after a commit")
            else:
                self._effects.feel("database lost before a commit")
            raise Lost(SAID)

        dialect.do_execute, dialect.do_executemany, dialect.do_commit = do_execute, do_executemany, do_commit
        dialect.is_disconnect = lambda error, connection, cursor: (
            isinstance(error, Lost) or was_lost(error, connection, cursor)
        )
        event.listen(engine, "do_connect", self._connecting)

    def _connecting(self, *_: Any) -> None:
        if self.down:
            self._effects.feel("database down")
            raise Lost("connection refused")

    def _strike(self) -> None:
        if self.down:
            self._effects.feel("database down")
            raise Lost(SAID)
        if _counts_down(self, "statement_in"):
            self._effects.feel("database statement lost")
            raise Lost(SAID)


def _counts_down(database: Database, name: str) -> bool:
    left = getattr(database, name)
    if left is None:
        return False
    setattr(database, name, left - 1 if left > 1 else None)
    return bool(left <= 1)
