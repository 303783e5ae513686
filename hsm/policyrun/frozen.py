"""A transaction in which the database itself refuses to write: for what only says what would be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsm.catalog.engine import Catalog


@contextlib.contextmanager
def frozen(catalog: Catalog) -> Iterator[Session]:
    """One snapshot, read-only, rolled back at the end.

    :raises sqlalchemy.exc.DBAPIError: of whatever tries to write in it.
    """
    if catalog.engine.dialect.name == "postgresql":
        engine = catalog.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with Session(engine) as session:
            yield session
        return
    with Session(catalog.engine) as session:
        session.execute(text("PRAGMA query_only = ON"))
        try:
            yield session
        finally:
            # Of the connection, which goes back into the pool.
            session.execute(text("PRAGMA query_only = OFF"))
