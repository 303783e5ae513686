"""A daemon is killed with -9 in the middle of a policy's run over thousands of studies."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm.bench.archive import Row, Shape, batches
from hsm.bench.fill import fill
from hsm.catalog import placements
from hsm.catalog.engine import Catalog, open_engine
from hsm.client import ApiError
from hsm.clock import SystemClock
from tests.story.archive import KEEP, Archive, until

STUDIES = 2500
COPY_ALL = """\
policy: keep
priority: 1
copies: {nearline: 1}
rules: [{name: all, copy to: nearline}]
schedule: every 1 hour
limits: {studies per run: 2300}
"""


def studies_online(url: str) -> None:
    """A catalog full of studies with one copy each in the pool online; their files are not there."""
    catalog = Catalog(open_engine(url), SystemClock())

    def rows() -> Iterator[tuple[str, list[Row]]]:
        for table, some in batches(Shape(STUDIES, series=1, instances=1, copies=1)):
            if table not in ("name", "volume", "series", "instance"):
                yield table, some

    fill(catalog, rows())
    with catalog.write() as session:
        placements.refresh(session, range(1, STUDIES + 1))
    catalog.close()


def requested(path: Path) -> list[tuple[int, str, int]]:
    """(key, state, requests) of each run of the policy."""
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as found:
        return found.execute("SELECT pk, state, requested FROM run ORDER BY pk").fetchall()


@pytest.mark.campaign
def test_a_run_that_was_killed_goes_on_where_it_was_and_asks_for_nothing_twice(
    sqlite_url: str, tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, KEEP)
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    archive.start()
    archive.stop()
    studies_online(sqlite_url)
    archive.write_policy(COPY_ALL)
    archive.start()
    try:
        archive.ask(lambda client: client.activate_policies("copy everything"))

        def run() -> None:
            with contextlib.suppress(ApiError):
                archive.ask(lambda client: client.run_policies("keep"))

        runner = threading.Thread(target=run)
        runner.start()
        until(lambda: any(count > 0 for _, _, count in requested(path)), "a page is asked for")
        archive.kill()
        runner.join()
        ((first, state, before),) = requested(path)
        assert state == "running", f"it was through with {before} before it was killed"
        assert 0 < before < 2300
        archive.start()
        done = archive.ask(lambda client: client.run_policies("keep"))["runs"][0]
        assert done["state"] == "finished"
        assert requested(path) == [(first, "finished", 2300)], (
            "the same run, and its limit holds for all of it"
        )
        assert done["requests"] == 2300 - before
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as found:
            total, keys, studies = found.execute(
                "SELECT count(*), count(DISTINCT key), count(DISTINCT study_pk) FROM request"
                " WHERE kind = 'copy'"
            ).fetchone()
            decided = found.execute("SELECT count(*) FROM decision").fetchone()[0]
        assert (total, keys, studies, decided) == (2300, 2300, 2300, 2300)
    finally:
        archive.kill()
