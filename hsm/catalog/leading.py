"""What one node at a time does for all of them: whoever holds a lock of the database, as long as he lives.

On PostgreSQL an advisory lock of a session: it ends with the process, at once where that was killed, within
:data:`DEAD_SECONDS` where its machine lost power or the network between was cut. SQLite has one node.
"""

from __future__ import annotations

import contextlib
import hashlib

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from hsm.log import get_logger

log = get_logger(__name__)

DEAD_SECONDS = 25
"""After which the database gives up a session whose machine does not answer."""
_KEEPALIVES = {"idle": 10, "interval": 5, "count": 3}  # in all DEAD_SECONDS; the server's own is two hours


class Lead:
    """One node's try at one lock. For one thread."""

    def __init__(self, engine: Engine, what: str) -> None:
        """:param what: names what is led, the same on every node."""
        self._engine = engine
        self._key = int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], signed=True)
        self._connection: Connection | None = None

    def held(self) -> bool:
        """Whether this node leads; it tries to, and never waits. Once a lock was lost it says so before it
        takes it again: somebody else may have led meanwhile.

        :raises SQLAlchemyError: the database does not answer.
        """
        if self._engine.dialect.name != "postgresql":
            return True
        if self._connection is None:
            return self._take()
        try:
            self._connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            self.let_go()
            return False
        return True

    def let_go(self) -> None:
        """Another node may lead."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):  # it is gone already, and the lock with it
                connection.invalidate()  # not back into the pool: the lock is the session's
            connection.close()

    def _take(self) -> bool:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            for name, value in _KEEPALIVES.items():
                connection.execute(text(f"SET tcp_keepalives_{name} = {value}"))
            got = connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": self._key})
        except BaseException:
            connection.close()
            raise
        if got:
            self._connection = connection
        else:
            connection.close()
        return bool(got)
