"""The same SOP Instance UIDs stored by two processes at once: nothing is overwritten, lost or there twice."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from hsm.catalog.engine import Catalog, open_engine
from hsm.catalog.tables import Instance, Study
from hsm.clock import SystemClock
from hsm.errors import Retryable
from hsm.ingest import Ingest, StoreOutcome
from hsm.ingest import shelf as ingest_shelf
from hsm.opening import open_ingest
from tests.sim.world import EXPLICIT_LITTLE, dataset, header
from tests.wire.store_process import archive_config

ROOT = Path(__file__).resolve().parents[2]
STUDIES, INSTANCES = 2, 6


def store_from_two_processes(home: Path, url: str, seeds: Sequence[int]) -> Counter[str]:
    """How often each outcome came, in both together; each process stores everything twice."""
    line = [sys.executable, "-m", "tests.wire.store_process", str(home), url]
    processes = [
        subprocess.Popen(
            [*line, str(seed), str(STUDIES), str(INSTANCES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for seed in seeds
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        outcomes: Counter[str] = Counter()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            out, _ = process.communicate(timeout=60)
            outcomes.update(json.loads(out))
        return outcomes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def rows_and_files(home: Path, url: str) -> tuple[list[Any], dict[str, str], dict[str, int]]:
    """Rows (UID, version, digest), files (name, digest), and instances that each study says it has."""
    with closing(Catalog(open_engine(url), SystemClock())) as catalog, catalog.read() as session:
        rows = list(session.execute(select(Instance.uid, Instance.version, Instance.digest)))
        counted = {study.uid: study.n_instances for study in session.scalars(select(Study))}
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (home / "online" / "studies").rglob("*.dcm")
    }
    return rows, files, counted


@pytest.mark.parametrize(
    "same_bytes",
    [
        pytest.param(True, id="same bytes", marks=pytest.mark.campaign),
        pytest.param(False, id="other bytes"),
    ],
)
def test_two_processes_that_store_the_same_uids_keep_every_content_once(
    migrated_url: str, tmp_path: Path, same_bytes: bool
) -> None:
    with closing(Catalog(open_engine(migrated_url), SystemClock())) as catalog:
        open_ingest(archive_config(tmp_path, migrated_url), catalog)  # the daemon has been there first
    contents = 1 if same_bytes else 2
    outcomes = store_from_two_processes(tmp_path, migrated_url, [0, 0 if same_bytes else 1000])

    distinct = STUDIES * INSTANCES
    assert outcomes["stored"] == distinct
    assert outcomes["kept both"] == distinct * (contents - 1)
    assert outcomes["duplicate"] == 4 * distinct - contents * distinct
    rows, files, counted = rows_and_files(tmp_path, migrated_url)
    assert len(rows) == len(set(rows)) == contents * distinct
    named = {f"{uid}{f'.v{version}' if version else ''}.dcm": digest.hex() for uid, version, digest in rows}
    assert files == named, "each row has its file and each file its row"
    assert set(counted.values()) == {INSTANCES}
    assert [path.name for path in (tmp_path / "online" / ".incoming").iterdir()] == []


class Two:
    """Two ingests into one pool, as two processes have them, the first of which fails."""

    def __init__(self, home: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = SystemClock()
        self.catalogs = [Catalog(open_engine(url), clock) for _ in range(2)]
        self.first, self.second = (
            Ingest(catalog, open_ingest(archive_config(home, url), catalog), "keep both")
            for catalog in self.catalogs
        )
        self.failed, self.go_on = threading.Event(), threading.Event()

        def refuse(*_: object) -> None:
            raise OperationalError("INSERT", {}, Exception("the connection is lost"))

        remove = self.first._shelf.remove

        def remove_late(key: str) -> None:
            self.failed.set()
            assert self.go_on.wait(10)
            remove(key)

        monkeypatch.setattr(self.first._registrar, "register", refuse)
        monkeypatch.setattr(self.first._shelf, "remove", remove_late)
        self.errors: list[Exception] = []
        self.thread = threading.Thread(target=self._fail)
        self.thread.start()
        assert self.failed.wait(10), "the transaction is over, the name still there"

    def _fail(self) -> None:
        try:
            self.store(self.first, 1)
        except Retryable as error:
            self.errors.append(error)

    def store(self, ingest: Ingest, seed: int) -> StoreOutcome:
        return ingest.store(header(1, 1), EXPLICIT_LITTLE, dataset(3000, seed), "CT1")

    def close(self) -> None:
        self.go_on.set()
        self.thread.join()
        for catalog in self.catalogs:
            catalog.close()


@pytest.mark.parametrize("seed", [1, 2], ids=["same bytes", "other bytes"])
def test_a_name_that_is_about_to_be_taken_back_is_not_relied_on(
    migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    with closing(Two(tmp_path, migrated_url, monkeypatch)) as two:
        threading.Timer(0.05, two.go_on.set).start()
        assert two.store(two.second, seed) is StoreOutcome.STORED
        two.thread.join()
        assert len(two.errors) == 1
    rows, files, _ = rows_and_files(tmp_path, migrated_url)
    assert list(files.values()) == [digest.hex() for _, _, digest in rows], "what was acknowledged is there"
    assert len(rows) == 1
    assert not (tmp_path / "online" / ".incoming" / "aside").exists()


def test_an_arrival_that_hangs_with_a_name_fails_others_and_is_not_trusted(
    migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_shelf, "IN_USE_SECONDS", 0.05)
    with closing(Two(tmp_path, migrated_url, monkeypatch)) as two:
        with pytest.raises(Retryable, match="busy"):
            two.store(two.second, 1)
        two.go_on.set()
        two.thread.join()
        assert two.store(two.second, 1) is StoreOutcome.STORED
    rows, files, _ = rows_and_files(tmp_path, migrated_url)
    assert list(files.values()) == [digest.hex() for _, _, digest in rows]
