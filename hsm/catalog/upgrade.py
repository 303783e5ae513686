"""Bringing a catalog to the schema this software knows, and refusing any other.

The migrations are in :mod:`hsm.catalog.migrations`; Alembic runs them in one transaction, so an
upgrade happens whole or not at all, on SQLite too.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from hsm.errors import ConfigError

_MIGRATIONS = Path(__file__).parent / "migrations"

# Any constant will do, as long as all nodes use the same: "hsm" and "up" in ASCII.
_ADVISORY_LOCK = 0x68736D7570


def head_revision() -> str:
    """The newest schema revision this software knows."""
    head = _scripts().get_current_head()
    if head is None:
        raise RuntimeError(f"no migrations in {_MIGRATIONS}; the installation is incomplete")
    return head


def current_revision(engine: Engine) -> str | None:
    """The schema revision the database is at; None when it has never been upgraded."""
    with engine.connect() as connection:
        return _current(connection)


def upgrade(engine: Engine) -> None:
    """Bring the database to :func:`head_revision`; at head already, change nothing.

    One process upgrades while the others wait: an advisory lock on PostgreSQL, the write lock on
    SQLite, held until the commit.

    :raises ConfigError: the database is at a revision that this software does not know.
    """
    with engine.execution_options(hsm_write=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        _refuse_unknown(connection, _current(connection))
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def require_head(engine: Engine) -> None:
    """Return if the database is at :func:`head_revision`.

    :raises ConfigError: it is behind (``hsm catalog upgrade`` helps) or newer than this software.
    """
    with engine.connect() as connection:
        current = _current(connection)
        _refuse_unknown(connection, current)
    if current is None:
        raise ConfigError(f"{_where(engine)} has no catalog yet; run `hsm catalog upgrade`")
    if current != head_revision():
        raise ConfigError(
            f"the catalog in {_where(engine)} is at revision {current}, this software needs"
            f" {head_revision()}; stop all nodes and run `hsm catalog upgrade`"
        )


def _refuse_unknown(connection: Connection, current: str | None) -> None:
    known = {script.revision for script in _scripts().walk_revisions()}
    if current is not None and current not in known:
        raise ConfigError(
            f"the catalog in {_where(connection.engine)} is at revision {current}, which this software"
            f" (newest known: {head_revision()}) does not know: a newer version has upgraded it. Install"
            " that version again, or restore the backup made before the upgrade"
        )


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _where(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    # Alembic interpolates its options: a % in the installation's path must be doubled.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
