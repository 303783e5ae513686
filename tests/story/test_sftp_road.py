"""A migration online -> SFTP -> online while the server is killed, stopped, filled and slowed.

12 studies and one trouble a step; `make story` is 500 studies and every trouble.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import sshserver
from loopmount import LoopMount
from sshserver import SshServer
from tcpproxy import SlowProxy

from tests.story import test_outages
from tests.story.archive import CONFIG, Archive, running
from tests.story.test_outages import LONG, SECONDS, STEP, Road, filling, online_files, send, slowing

STUDIES = test_outages.STUDIES if LONG else 12

REMOTE = CONFIG.replace(
    "  - {{name: tape, tier",
    """  - {{name: bunker, tier: nearline, driver: sftp,
     options: {{host: 127.0.0.1, port: {sshd_port}, user: {user}, path: "{folder}",
                known_hosts: "{known_hosts}", key_file: "{key}", timeout_seconds: 2, connect_seconds: 5}}}}
  - {{name: tape, tier""",
)


@pytest.mark.campaign
@pytest.mark.timeout(int(SECONDS) * 3)
def test_studies_go_to_an_sftp_server_and_come_back_whole_whatever_happens_to_it(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_outages, "STUDIES", STUDIES)
    if sshserver.MISSING:
        pytest.skip(sshserver.MISSING)
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = LoopMount(tmp_path, "ext4", max(64, STUDIES // 4))
    server = SshServer(tmp_path / "server")
    line = SlowProxy(server.port)
    server.known_hosts.write_text(f"[127.0.0.1]:{line.port} {server.host_key()}\n")
    folder = disk.point / "remote"
    folder.mkdir()
    where = {
        "sshd_port": line.port,
        "user": server.user,
        "folder": folder,
        "known_hosts": server.known_hosts,
        "key": server.folder / "id",
    }
    archive = Archive(tmp_path / "home", sqlite_url, STEP.format(to="online", left="bunker"), REMOTE, **where)
    killed = (server.kill, server.start)
    hung = (
        lambda: server.signal_sessions(signal.SIGSTOP),
        lambda: server.signal_sessions(signal.SIGCONT),
    )
    try:
        with running(archive):
            send(archive, STUDIES)
            sent = online_files(archive)
            assert len(sent) == STUDIES
            road = Road(archive)
            road.step("bunker", "online", killed, filling(disk.point), hung, slowing(line))
            assert online_files(archive) == {}
            assert len(list(folder.rglob("*.tar"))) == STUDIES
            road.step("online", "bunker", hung, killed, slowing(line))
            assert online_files(archive) == sent, "the same bytes"
            left = {path.name for path in folder.rglob("*") if path.is_file()}
            assert left == {".hsm-pool"}, "nothing stays there, half-done or released"
            done = archive.command("catalog", "check")
            assert done.returncode == 0, done.stdout + done.stderr
    finally:
        line.close()
        server.kill()
        disk.close()
