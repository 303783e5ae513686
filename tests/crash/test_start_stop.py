"""Starts that fail in mid-way, signals at bad moments, and stops in mid-work."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from hsm.clock import SystemClock
from hsm.config import load
from hsm.daemon import Daemon
from hsm.errors import ConfigError
from hsm.serve import _Asked
from tests.story.archive import KEEP, Archive, running, until


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_a_start_whose_port_is_taken_ends_with_the_reason_and_leaves_nothing_behind(
    sqlite_url: str, tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, KEEP)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", archive.port))
        taken.listen()
        done = archive.command("serve", "--config", str(archive.config))
        assert done.returncode == 1
        assert f"cannot listen on 127.0.0.1 port {archive.port}" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (archive.home / "hsm.sock").exists()
    with running(archive, from_nothing=True):
        assert archive.stop() == 0


def test_a_start_that_failed_lets_go_of_lock_threads_and_sockets(sqlite_url: str, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, KEEP)
    environ = {"HSM_HOME": str(archive.home)}
    config = load(archive.config, environ)
    before, descriptors = threads(), len(os.listdir("/proc/self/fd"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", archive.port))
        taken.listen()
        for _ in range(2):
            daemon = Daemon(config, environ, SystemClock())
            with pytest.raises(ConfigError, match="cannot listen"):
                daemon.start()
            daemon.stop()
    until(lambda: threads() <= before, "its threads have ended")
    until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 1, "its files are closed")
    daemon = Daemon(config, environ, SystemClock())
    daemon.start()
    daemon.stop()


def test_a_socket_that_another_daemon_serves_stops_the_start(sqlite_url: str, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, KEEP)
    environ = {"HSM_HOME": str(archive.home)}
    config = load(archive.config, environ)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(config.api.socket))
        other.listen()
        daemon = Daemon(config, environ, SystemClock())
        with pytest.raises(ConfigError, match=r"hsm\.sock"):
            daemon.start()
        daemon.stop()
    assert not [name for name in threads() if name.startswith(("disk-", "delivery-", "dispatcher", "dicom"))]


def test_a_part_that_fails_to_stop_does_not_keep_the_others_running(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, KEEP)
    environ = {"HSM_HOME": str(archive.home)}
    config = load(archive.config, environ)
    daemon = Daemon(config, environ, SystemClock())
    daemon.start()
    routines_stop = daemon.routines.stop

    def fail() -> None:
        routines_stop()
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(daemon.routines, "stop", fail)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        daemon.stop()
    again = Daemon(config, environ, SystemClock())  # the lock is free again
    again.start()
    again.stop()


@pytest.mark.campaign
def test_a_hangup_during_the_start_reloads_when_started_and_a_stop_then_stops(
    sqlite_url: str, tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, KEEP)
    starting = threading.Thread(target=archive.start, daemon=True)
    starting.start()
    until(lambda: archive.process is not None, "the process exists")
    until(lambda: _handles(archive.pid, signal.SIGHUP), "it has its handlers")
    os.kill(archive.pid, signal.SIGHUP)
    starting.join(40)
    until(lambda: "policies are in force" in archive.log(), "the reload that was asked for")
    assert archive.stop() == 0
    archive.kill()


def test_a_stop_during_the_start_ends_well(sqlite_url: str, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, KEEP)
    with running(archive):
        pass
    starting = threading.Thread(target=_ignore_end, args=(archive,), daemon=True)
    archive.process = None
    starting.start()
    until(lambda: archive.process is not None, "the process exists")
    process = archive.process
    assert process is not None
    until(lambda: _handles(process.pid, signal.SIGTERM), "it has its handlers")
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0
    starting.join(40)


def test_signals_wake_the_main_loop_however_many_there_are() -> None:
    asked = _Asked()
    for _ in range(100_000):
        asked.note(signal.SIGHUP, None)
    begin = time.monotonic()
    asked.wait(30)
    assert time.monotonic() - begin < 5
    assert asked.take_reload()
    assert not asked.take_reload()
    assert not asked.stop
    asked.note(signal.SIGTERM, None)
    assert asked.stop


def _ignore_end(archive: Archive) -> None:
    try:
        archive.start()
    except AssertionError:
        return


def _handles(pid: int, number: signal.Signals) -> bool:
    """Whether the process catches the signal (proc(5), SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)
