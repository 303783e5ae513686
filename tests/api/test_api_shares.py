"""Slow readers: threads, connections of the catalog and answers that nobody takes, each with a bound."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hsm.api import reads, shares
from hsm.api.app import build_app
from hsm.api.caller import Caller
from hsm.api.doors import Doors
from hsm.api.identity import PeerProtocol
from hsm.api.server import ApiServer
from hsm.api.services import Services
from hsm.client import Client

READERS = 40


class _Persons(Doors):
    """Whoever comes is the person that is set."""

    person = "rita"

    def local(self, peer: Any) -> Caller:
        return replace(super().local(peer), person=self.person, name=self.person)


@pytest.fixture
def doors() -> _Persons:
    return _Persons()


@pytest.fixture
def path(
    scripted: Services, doors: _Persons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    monkeypatch.setattr(PeerProtocol, "connections_max", READERS + 10)  # all of this test are one user
    server = ApiServer(build_app(scripted, doors), tmp_path / "s")
    server.start()
    yield tmp_path / "s"
    server.stop()


def ask(path: Path, what: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    connection.sendall(f"GET {what} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return connection


def test_forty_slow_reads_of_one_keep_neither_others_nor_a_look_at_the_status_waiting(
    path: Path, doors: _Persons, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, lock, running, most = threading.Event(), threading.Lock(), 0, 0

    def slow(session: Session, *_: object, **__: object) -> list[object]:
        nonlocal running, most
        session.execute(text("SELECT 1"))  # and holds a connection of the catalog
        with lock:
            running += 1
            most = max(most, running)
        go_on.wait(30)
        with lock:
            running -= 1
        return []

    monkeypatch.setattr(reads.views, "queue", slow)
    readers = [ask(path, "/v1/queue") for _ in range(READERS)]
    try:
        for _ in range(500):
            if running == shares.WORK_OF_ONE_MAX:
                break
            time.sleep(0.01)
        for doors.person in ("rita", "adam"):
            with Client(path) as client:
                assert client.status()["pools"], doors.person
        with Client(path) as client:
            assert client.volumes(limit=5) is not None, "another person's work is done"
        assert running == most == shares.WORK_OF_ONE_MAX
    finally:
        go_on.set()
        answers = [reader.makefile("rb").readline() for reader in readers]
        for reader in readers:
            reader.close()
    assert answers == [b"HTTP/1.1 200 OK\r\n"] * READERS, "all of them have their turn"
    assert most == shares.WORK_OF_ONE_MAX


@pytest.mark.parametrize("size", [30_000_000, 400_000])
def test_who_does_not_take_an_answer_is_hung_up_on(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PeerProtocol, "answer_seconds", 0.1)
    lost = threading.Event()
    was = PeerProtocol.connection_lost

    def gone(self: PeerProtocol, error: Exception | None) -> None:
        was(self, error)
        lost.set()

    monkeypatch.setattr(PeerProtocol, "connection_lost", gone)

    async def large(_request: Request) -> Response:
        return Response(b"x" * size)

    server = ApiServer(Starlette(routes=[Route("/", large)]), tmp_path / "s")
    server.start()
    try:
        with ask(tmp_path / "s", "/") as reader:
            assert lost.wait(10), "it would wait for ever"
            reader.settimeout(5)
            taken = 0
            while data := reader.recv(1 << 20):
                taken += len(data)
            assert taken < size
    except ConnectionResetError:
        pass
    finally:
        server.stop()
