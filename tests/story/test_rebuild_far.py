"""After the fire, from what is not in this house: an SFTP server, a bucket of a cold class, cartridges with a
backup of the catalog."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sshserver
from moto.server import ThreadedMotoServer
from sshserver import SshServer

from hsm.bench.seaweed import ACCESS_KEY, SECRET_KEY
from tests.s3servers import BUCKET, admin
from tests.story.archive import (
    CONFIG,
    KEEP,
    Archive,
    as_sent_by_storescu,
    bundled,
    digests,
    running,
    until,
)
from tests.story.test_road import finished, study_of

IMAGES = ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm")
FAR = CONFIG.replace(
    "libraries:\n",
    """\
  - {{name: bunker, tier: nearline, driver: sftp,
     options: {{host: 127.0.0.1, port: {sshd_port}, user: {user}, path: "{folder}",
                known_hosts: "{known_hosts}", key_file: "{key}", timeout_seconds: 2, connect_seconds: 5}}}}
  - {{name: glacier, tier: nearline, driver: s3, site: provider, options: {{bucket: hsm-tests,
     endpoint_url: "{cold}", addressing: path, profile: hsm, credentials_file: "{home}/credentials",
     storage_class: DEEP_ARCHIVE, restore_tier: Bulk, restore_days: 2}}}}
libraries:
""",
)
EVERYWHERE = """\
policy: everywhere
priority: 1
copies: {bunker: 1, glacier: 1, tape: 1}
rules:
  - {name: to the bunker, copy to: bunker}
  - {name: to the cold, copy to: glacier}
  - {name: to tape, copy to: tape}
  - {name: free online, release from: online,
     when: copies(tape) >= 1 and copies(bunker) >= 1 and copies(glacier) >= 1}
schedule: every 1 second
"""


@pytest.fixture
def cold() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    admin(f"http://{host}:{port}").create_bucket(Bucket=BUCKET)
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[SshServer]:
    if sshserver.MISSING:
        pytest.skip(sshserver.MISSING)
    server = SshServer(tmp_path / "server")
    server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {server.host_key()}\n")
    (tmp_path / "remote").mkdir()
    yield server
    server.kill()


def rebuilt(archive: Archive, *words: str) -> tuple[int, dict[str, Any]]:
    done = archive.command("catalog", "rebuild", "--json", *words)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_a_lost_database_comes_back_from_sftp_from_the_cold_and_from_a_backup_on_tape(
    sqlite_url: str, tmp_path: Path, cold: str, remote: SshServer
) -> None:
    where = {
        "sshd_port": remote.port,
        "user": remote.user,
        "folder": tmp_path / "remote",
        "known_hosts": remote.known_hosts,
        "key": remote.folder / "id",
        "cold": cold,
    }
    archive = Archive(tmp_path / "home", sqlite_url, EVERYWHERE, FAR, **where)
    credentials = archive.home / "credentials"
    credentials.write_text(f"[hsm]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    credentials.chmod(0o600)
    paths = bundled(*IMAGES)
    sent = [digests(as_sent_by_storescu([path], tmp_path / path.name)) for path in paths]
    studies = [study_of(path) for path in paths]

    def everywhere() -> bool:
        good = [copy["pool"] for copy in archive.copies() if copy["state"] == "verified"]
        return sorted(good) == sorted(["bunker", "glacier", "tape"] * len(paths))

    with running(archive):
        assert archive.dcmtk("storescu", *map(str, paths)).returncode == 0
        until(everywhere, "every study verified on every medium, and off the online disk", 120)
        assert archive.command("study", "hold", studies[1], "--reason", "court").returncode == 0
        assert archive.command("study", "delete", studies[2], "--reason", "wrong").returncode == 0
        backup = archive.command("catalog", "backup", "--pool", "tape", "--json")
        assert backup.returncode == 0, backup.stdout + backup.stderr
        until(lambda: _carry_marks(tmp_path / "remote", cold), "both know of hold and deletion", 90)
        archive.write_policy(KEEP)
        archive.kill()
    _lose(tmp_path)

    _from_the_bunker(archive, remote, tmp_path, studies)
    scratch = f"sqlite:///{tmp_path}/cold.db"
    code, asked = rebuilt(archive, "--from", "glacier", "--into", scratch)
    (bucket,) = asked["detail"]["volumes"]
    assert code == 1 and not asked["detail"]["complete"] and bucket["waiting"] == len(paths)
    assert "cold and were asked for" in " ".join(asked["errors"])
    code, there = rebuilt(archive, "--from", "glacier", "--into", scratch, "--wait", "30 s")
    assert code == 0, there["errors"]
    assert there["detail"]["totals"]["studies"] == len(studies)
    assert studies[2] in " ".join(there["detail"]["deleted"])

    back = archive.command("catalog", "restore", "--pool", "tape")
    assert back.returncode == 0, back.stdout + back.stderr
    compared = archive.command("catalog", "check", "--media", "--json")
    assert compared.returncode == 0, compared.stdout + compared.stderr
    _all_but_the_deleted(archive, studies, sent)
    _lose(tmp_path)

    code, whole = rebuilt(archive, "--wait", "30 s")
    assert code == 0 and whole["detail"]["complete"], whole["errors"]
    _all_but_the_deleted(archive, studies, sent)


def _carry_marks(folder: Path, cold: str) -> bool:
    bucket = admin(cold).list_objects_v2(Bucket=BUCKET, Prefix="marks/")
    return bucket["KeyCount"] > 0 and any(folder.rglob("*.jsonl"))


def _lose(folder: Path) -> None:
    for leaving in folder.glob("catalog.db*"):
        leaving.unlink()


def _from_the_bunker(archive: Archive, remote: SshServer, folder: Path, studies: list[str]) -> None:
    scratch = f"sqlite:///{folder}/bunker.db"
    remote.kill()
    code, found = rebuilt(archive, "--from", "bunker", "--into", scratch)
    assert code != 0 and "bunker" in " ".join(found["errors"]), "nobody answers there, and it is said"
    remote.start()
    code, found = rebuilt(archive, "--from", "bunker", "--into", scratch)
    assert code == 0, found["errors"]
    assert found["detail"]["totals"]["studies"] == len(studies)
    assert [each for each in found["warnings"] if studies[2] in each and "stays deleted" in each]


def _all_but_the_deleted(archive: Archive, studies: list[str], sent: list[dict[str, str]]) -> None:
    """Retrieved byte for byte; what was deleted is deleted, and what was held is held."""
    for leaving in archive.received.iterdir():
        leaving.unlink()
    with running(archive):
        for study in studies[:2]:
            finished(archive.retrieve("movescu", study))
        assert digests(list(archive.received.iterdir())) == {**sent[0], **sent[1]}
        assert len(archive.ask(lambda client: client.find_studies(limit=9))) == 2
        refused = archive.command("study", "delete", studies[1], "--reason", "again")
        assert refused.returncode != 0 and "court" in refused.stderr
        assert archive.stop() == 0
