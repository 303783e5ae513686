"""sd_notify against a real datagram socket."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm.clock import ManualClock
from hsm.notify import Notifier


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """What systemd holds: the receiving socket, and the environment that it gives a service."""
    name = str(tmp_path / "notify") if request.param == "file" else f"@hsm-test-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + name[1:] if name.startswith("@") else name)
        receiver.settimeout(5)
        yield receiver, {"NOTIFY_SOCKET": name}


def test_the_states_of_a_daemon_s_life_reach_the_service_manager(
    manager: tuple[socket.socket, dict[str, str]],
) -> None:
    receiver, environ = manager
    clock = ManualClock()
    clock.advance(12.5)
    notifier = Notifier(environ, clock)
    assert notifier.enabled
    notifier.ready("listening on 127.0.0.1:11112")
    notifier.watchdog()
    notifier.reloading()
    notifier.status("3 recalls wait")
    notifier.extend_timeout(90)
    notifier.stopping()
    assert [receiver.recv(4096) for _ in range(6)] == [
        b"READY=1\nSTATUS=listening on 127.0.0.1:11112",
        b"WATCHDOG=1",
        b"RELOADING=1\nMONOTONIC_USEC=12500000",
        b"STATUS=3 recalls wait",
        b"EXTEND_TIMEOUT_USEC=90000000",
        b"STOPPING=1",
    ]


def test_a_status_cannot_smuggle_in_another_state(manager: tuple[socket.socket, dict[str, str]]) -> None:
    receiver, environ = manager
    Notifier(environ, ManualClock()).status("waiting for TAPE1\nSTOPPING=1")
    assert receiver.recv(4096) == b"STATUS=waiting for TAPE1\\nSTOPPING=1"


def test_without_a_service_manager_nothing_happens() -> None:
    notifier = Notifier({"WATCHDOG_USEC": "1000000"}, ManualClock())
    notifier.ready()
    notifier.stopping()
    assert not notifier.enabled
    assert notifier.watchdog_seconds is None


def test_a_service_manager_that_is_gone_is_logged_and_not_raised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}, ManualClock()).ready()
    assert "cannot notify the service manager" in caplog.text


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_on_when_it_is_meant_for_this_process(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert Notifier({"NOTIFY_SOCKET": "@x", **environ}, ManualClock()).watchdog_seconds == seconds
