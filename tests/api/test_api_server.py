"""The socket: who may connect, what a dead daemon leaves, and what a live one keeps."""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from hsm.api.server import ApiServer, listen
from hsm.client import Client, Problem, Unreachable
from hsm.errors import ConfigError


async def _ok(request) -> JSONResponse:
    return JSONResponse({"ok": True})


APP = Starlette(routes=[Route("/v1/health", _ok)])


def test_only_the_owner_and_the_group_may_connect(tmp_path: Path) -> None:
    listener = listen(tmp_path / "s")
    try:
        assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o660
    finally:
        listener.close()


def test_a_dead_daemon_s_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    server = ApiServer(APP, path)
    server.start()
    try:
        with Client(path) as client:
            assert client.health() == {"ok": True}
    finally:
        server.stop()
    assert not path.exists()


def test_a_live_daemon_s_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = ApiServer(APP, path)
    first.start()
    try:
        with pytest.raises(ConfigError, match="another daemon answers"):
            ApiServer(APP, path).start()
        with Client(path) as client:
            assert client.health() == {"ok": True}
    finally:
        first.stop()


def test_a_file_in_the_socket_s_place_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="not a socket"):
        ApiServer(APP, path).start()
    assert path.read_text() == "precious"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone/s: No such file"):
        ApiServer(APP, tmp_path / "gone" / "s").start()


def test_stopping_leaves_a_successor_s_socket_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = ApiServer(APP, path)
    first.start()
    path.unlink()
    second = ApiServer(APP, path)
    second.start()
    first.stop()
    try:
        with Client(path) as client:
            assert client.health() == {"ok": True}
    finally:
        second.stop()


def test_stopping_twice_or_before_starting_is_harmless(tmp_path: Path) -> None:
    before = threading.active_count()
    server = ApiServer(APP, tmp_path / "s")
    server.stop()
    server = ApiServer(APP, tmp_path / "s")
    server.start()
    server.stop()
    server.stop()
    assert threading.active_count() == before


@pytest.mark.parametrize("what", ["nothing", "dead", "folder"])
def test_no_daemon_is_unreachable_with_a_hint(tmp_path: Path, what: str) -> None:
    path = tmp_path / ("x" * 200 if what == "folder" else ".") / "s"
    if what == "dead":
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(path))
        dead.close()
    with pytest.raises(Unreachable, match="no daemon answers") as raised:
        with Client(path) as client:
            client.health()
    assert raised.value.exit_code == 3
    assert "hsm serve" in raised.value.hint


def test_a_peer_that_speaks_something_else_is_not_taken_for_a_daemon(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()

    def answer() -> None:
        probe, _ = listener.accept()
        probe.close()
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")

    thread = threading.Thread(target=answer)
    thread.start()
    with Client(tmp_path / "s") as client, pytest.raises(Problem, match="not JSON"):
        client.health()
    thread.join()
    listener.close()
