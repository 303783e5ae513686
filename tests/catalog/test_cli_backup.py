"""``hsm catalog backup`` and ``restore``: from one database into the other, by command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from hsm.bench.archive import Shape, batches
from hsm.bench.fill import fill
from hsm.catalog import restored
from hsm.catalog.engine import Catalog, open_engine
from hsm.clock import ManualClock

CONFIG = """\
catalog: {{url: "{url}"}}
archive: {{ae_title: HSM}}
pools: [{{name: online, tier: online, layout: files, options: {{path: {home}/online}}}}]
staging: {{path: {home}/staging}}
policies: {home}/policies
api: {{socket: {home}/hsm.sock}}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["--by", "alice", "catalog", *arguments])


def config(folder: Path, url: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "hsm.yaml"
    path.write_text(CONFIG.format(home=folder, url=url))
    return path


@pytest.fixture
def old(tmp_path: Path, sqlite_template: Path) -> Path:
    """The configuration of an archive on SQLite with some studies."""
    folder = tmp_path / "old"
    folder.mkdir()
    shutil.copyfile(sqlite_template, folder / "catalog.db")
    url = f"sqlite:///{folder / 'catalog.db'}"
    catalog = Catalog(open_engine(url), ManualClock())
    fill(catalog, batches(Shape(5, series=1, instances=2, copies=1)))
    catalog.close()
    return config(folder, url)


def test_a_backup_of_sqlite_is_restored_into_postgresql_and_checked(
    old: Path, tmp_path: Path, pg_url: str
) -> None:
    to = tmp_path / "catalog.zip"
    done = run("backup", "-o", str(to), "--config", str(old), "--json")
    assert done.exit_code == 0, done.output
    (_, head) = json.loads(done.stdout)["facts"]
    new = config(tmp_path / "new", pg_url)
    restored = run("restore", str(to), "--config", str(new), "--json")
    assert restored.exit_code == 0, restored.output
    assert head in json.loads(restored.stdout)["facts"]
    again = run("restore", str(to), "--config", str(new))
    assert again.exit_code == 4
    assert "not empty" in again.stderr


def test_a_backup_never_replaces_a_file_and_leaves_none_behind_when_it_fails(
    old: Path, tmp_path: Path
) -> None:
    to = tmp_path / "out" / "catalog.zip"
    to.parent.mkdir()
    to.write_bytes(b"the last good one")
    assert run("backup", "-o", str(to), "--config", str(old)).exit_code == 1
    assert to.read_bytes() == b"the last good one"
    assert [each.name for each in to.parent.iterdir()] == ["catalog.zip"]
    nowhere = run("backup", "-o", str(tmp_path / "no" / "x.zip"), "--config", str(old))
    assert (nowhere.exit_code, "No such file" in nowhere.stderr) == (1, True)


def test_a_catalog_that_is_not_there_is_not_made_by_a_backup_and_rubbish_is_not_restored(
    old: Path, tmp_path: Path
) -> None:
    empty = config(tmp_path / "empty", f"sqlite:///{tmp_path / 'empty' / 'catalog.db'}")
    assert run("backup", "-o", str(tmp_path / "x.zip"), "--config", str(empty)).exit_code == 1
    assert not (tmp_path / "empty" / "catalog.db").exists()
    rubbish = run("restore", str(old), "--config", str(empty))
    assert rubbish.exit_code == 1
    assert "damaged" in rubbish.stderr


def test_a_catalog_that_only_moves_need_not_be_compared_with_its_media(old: Path, tmp_path: Path) -> None:
    to = tmp_path / "catalog.zip"
    assert run("backup", "-o", str(to), "--config", str(old)).exit_code == 0
    for name, options, owed in (("restored", [], True), ("moved", ["--moved"], False)):
        url = f"sqlite:///{tmp_path / name / 'catalog.db'}"
        done = run("restore", str(to), *options, "--config", str(config(tmp_path / name, url)))
        assert done.exit_code == 0, done.output
        catalog = Catalog(open_engine(url), ManualClock())
        with catalog.read() as session:
            assert restored.is_owed(session) is owed
        catalog.close()
    assert run("restore", "--pool", "online", "--moved", "--config", str(old)).exit_code == 2
