"""Malformed input at both listeners: never a 500, nothing leaks, and the next good request is answered."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import resource
import socket
import ssl
import threading
import time
from asyncio import sslproto
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from api_malformed import exchange, malformed, odd_authorization, statuses, with_token
from api_world import Script
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from uvicorn.server import ServerState

from hsm import tokens
from hsm.api.app import build_app
from hsm.api.doors import Doors
from hsm.api.limits import Limits
from hsm.api.protocol import LimitedProtocol
from hsm.api.server import ApiServer, settings
from hsm.api.services import Services
from hsm.api.tcp import TcpServer
from hsm.client import Client, Remote
from hsm.clock import SystemClock
from hsm.config import TcpConfig, accepting_api
from hsm.tokens import Token, Tokens
from tests.wire.wire_tls import Authority

SEED = int(os.environ.get("HSM_MALFORMED_SEED", "11"))
OVER_SOCKET, OVER_TLS = 250, 60
"""Inputs in this suite; the campaign in test_malformed_daemon.py has 10,000 at each listener."""


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


@contextmanager
def _unharmed() -> Iterator[None]:
    """Nothing was logged as an error, and neither threads nor descriptors were left behind."""
    errors = _Errors()
    logging.getLogger().addHandler(errors)
    before = (len(os.listdir("/proc/self/fd")), threading.active_count())
    try:
        yield
    finally:
        logging.getLogger().removeHandler(errors)
    assert errors.found == []
    for _ in range(500):
        after = (len(os.listdir("/proc/self/fd")), threading.active_count())
        if after[0] <= before[0] + 2 and after[1] <= before[1] + 40:  # threads of the pool stay
            return
        time.sleep(0.01)
    raise AssertionError(f"descriptors and threads before {before}, after {after}")


def _bad(found: list[int]) -> list[int]:
    return [status for status in found if status >= 500]


@pytest.fixture
def local(scripted: Services, tmp_path: Path) -> Iterator[Path]:
    server = ApiServer(build_app(scripted), tmp_path / "s")
    server.start()
    yield tmp_path / "s"
    server.stop()


@contextmanager
def over_tls(folder: Path, app: Callable[[Doors], Starlette]) -> Iterator[tuple[TcpServer, Remote, str]]:
    """A listener over TLS, a way to it, and the token of an admin."""
    authority = Authority(folder / "ca")
    made, now = tokens.new_token(), SystemClock().now()
    tokens.add(folder / "tokens.json", Token("t", "t", "admin", tokens.digest_of(made), now, None))
    (folder / "token").write_text(made)
    (folder / "token").chmod(0o600)
    config = TcpConfig(
        certificate=authority.certificate("archive"),
        key=authority.key("archive"),
        tokens_file=folder / "tokens.json",
    )
    doors = Doors(tokens=Tokens(config.tokens_file), monotonic=lambda: 1e5 * time.monotonic())
    server = TcpServer(app(doors), "127.0.0.1", 0, accepting_api(config))
    server.start()
    try:
        yield server, Remote(f"https://localhost:{server.port}", folder / "token", authority.ca), made
    finally:
        server.stop()


def test_malformed_input_on_the_socket_is_answered_as_such(local: Path, script: Script) -> None:
    script.answers |= {"prove": b"PK"}
    chance = random.Random(SEED)
    seen: dict[int, int] = {}
    with Client(local) as client, _unharmed():
        for number in range(OVER_SOCKET):
            content = malformed(chance)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(local))
                found = statuses(exchange(connection, content))
            assert not _bad(found), (number, found, content[:2000])
            for status in found:
                seen[status] = seen.get(status, 0) + 1
            if number % 50 == 0:
                assert client.health() == {"ok": True}
        assert client.health() == {"ok": True}
    assert seen[400] > OVER_SOCKET / 5
    assert {200, 404, 405} <= set(seen)


def test_malformed_input_over_tls_is_answered_as_such(
    scripted: Services, script: Script, tmp_path: Path
) -> None:
    script.answers |= {"prove": b"PK"}
    chance = random.Random(SEED)
    with over_tls(tmp_path, lambda doors: build_app(scripted, doors)) as (server, way, made), _unharmed():
        context = ssl.create_default_context(cafile=str(way.ca))
        good = f"Authorization: Bearer {made}\r\n".encode()
        for number in range(OVER_TLS):
            header = good if number % 2 else odd_authorization(chance, made)
            content = with_token(malformed(chance), header)
            try:
                with socket.create_connection(("localhost", server.port)) as plain:
                    if number % 5 == 0:  # in place of TLS, or instead of going on with it
                        exchange(plain, content if number % 10 else b"\x16\x03\x01\x02\x00\x01" + content)
                        continue
                    with context.wrap_socket(plain, server_hostname="localhost") as secure:
                        found = statuses(exchange(secure, content))
            except OSError:
                continue
            assert not _bad(found), (number, found, content[:2000])
            if header != good:
                assert not {200, 202} & set(found), (number, found, content[:2000])
        with Client(way) as client:
            assert client.health() == {"ok": True}


def test_what_comes_after_the_last_answer_is_not_answered() -> None:
    """A connection over TLS takes its time to close, and what comes meanwhile is read."""

    class Wire(asyncio.Transport):
        closed = False

        def write(self, data: object) -> None:
            assert not self.closed

        def close(self) -> None:
            self.closed = True

        def is_closing(self) -> bool:
            return self.closed

        def get_write_buffer_size(self) -> int:
            return 0

    async def answer(scope: object, receive: object, send: Callable[..., Awaitable[None]]) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b""})

    async def talk() -> Wire:
        config, wire = settings(answer, LimitedProtocol), Wire()
        config.load()
        protocol = LimitedProtocol(config, ServerState(), {})
        protocol.connection_made(wire)
        protocol.data_received(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await asyncio.gather(*protocol.tasks)
        protocol.data_received(b"zz\r\n")
        protocol.connection_lost(None)
        return wire

    assert asyncio.run(talk()).closed


def test_an_answer_ends_on_a_tls_connection_that_was_closed_twice() -> None:
    async def end() -> None:
        async def answer(scope: object, receive: object, send: object) -> None:
            """Asked nothing."""

        config, loop = settings(answer, LimitedProtocol), asyncio.get_running_loop()
        config.load()
        protocol = LimitedProtocol(config, ServerState(), {})
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        transport = sslproto.SSLProtocol(loop, protocol, context, None, True)._get_app_transport()
        protocol.connection_made(transport)
        transport.close()
        transport.close()
        protocol.on_response_complete()  # asks the transport what it has not sent yet
        protocol.connection_lost(None)

    asyncio.run(end())


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"uids": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"uids": ["1.2.3"], "priority": "\\u0000"}',
        b'{"uids": ["\\ud800"]}',
        b'{"uids": ["1.2.3"], "by": NaN}',
        b'{"uids": 1e999}',
        b'{"seconds": 99999999999999999999}',
        b"\xff\xfe{\x00}\x00",
    ],
)
def test_json_that_nothing_behind_could_take_is_bad_input(local: Path, content: bytes) -> None:
    head = f"POST /v1/recalls HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with socket.socket(socket.AF_UNIX) as connection, _unharmed():
        connection.connect(str(local))
        answer = exchange(connection, head + content, 5)
    assert statuses(answer) == [400]
    assert b'"kind":"bad input"' in answer


def test_an_address_with_a_nul_is_bad_input(local: Path) -> None:
    for target in ("/v1/studies/1%002", "/v1/studies?text=a%00b", "/v1/volumes/%00"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(local))
            answer = exchange(connection, f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 5)
        assert statuses(answer) == [400], target


def test_who_sends_headers_drop_by_drop_is_hung_up_on(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LimitedProtocol, "header_seconds", 0.1)
    slow = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    with _unharmed():
        for number, connection in enumerate(slow):
            connection.connect(str(local))
            if number % 2:
                connection.sendall(b"GET /v1/health HTTP/1.1\r\nX: ")
        with Client(local) as client:
            assert client.health() == {"ok": True}
        for number, connection in enumerate(slow):
            connection.settimeout(5)
            try:
                if number % 2:
                    connection.sendall(b"y")  # another drop does not buy time
                assert connection.recv(1) == b""
            except OSError as error:
                assert isinstance(error, ConnectionResetError | BrokenPipeError)
            connection.close()


def _hanging(path: Path, count: int, *starts: bytes) -> list[socket.socket]:
    """Connections that have sent these beginnings of requests in turn, and send nothing more."""
    held = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    for number, connection in enumerate(held):
        connection.connect(str(path))
        connection.settimeout(5)
        connection.sendall(starts[number % len(starts)])
    return held


def _hung_up_on(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def _hung_up_on_at_once(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_who_holds_connections_open_keeps_neither_others_nor_himself_out(
    local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsm.api.identity.PeerProtocol.connections_max", 5)
    body = b"POST /v1/recalls HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n12"
    held = _hanging(local, 12, b"", b"GET /v1/health HTTP/1.1\r\nX: ", body)
    assert all(map(_hung_up_on, held[:7])), "the oldest first"
    with Client(local) as client:
        assert client.health() == {"ok": True}
        assert all(map(_hung_up_on, held[7:8]))
        more = _hanging(local, 5, b"")
        assert client.health() == {"ok": True}, "who has had an answer goes after those who never asked"
        assert not _hung_up_on_at_once(more[-1])
    for connection in (*held, *more):
        connection.close()


def test_those_who_hold_most_connections_open_make_room_for_others(
    scripted: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsm.api.server.CONNECTIONS_MAX", 8)
    came = iter([1001] * 5 + [1002] * 2 + [0] * 9)
    monkeypatch.setattr(
        "hsm.api.identity.PeerProtocol.learn_peer", lambda self, _: setattr(self, "_uid", next(came))
    )
    server = ApiServer(build_app(scripted), tmp_path / "s")
    server.start()
    try:
        held = _hanging(tmp_path / "s", 7, b"")
        # By hand: a client looks first whether anybody is there, which may or may not count as one more.
        held += _hanging(tmp_path / "s", 1, b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert _hung_up_on(held[0])
        assert not any(map(_hung_up_on_at_once, held[1:7]))
    finally:
        for connection in held:
            connection.close()
        server.stop()


def test_a_connection_whose_request_is_worked_on_gives_way_to_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsm.api.identity.PeerProtocol.connections_max", 2)
    begun, go_on = threading.Semaphore(0), threading.Event()

    def work(_request: Request) -> JSONResponse:
        begun.release()
        go_on.wait(10)
        return JSONResponse({})

    server = ApiServer(Starlette(routes=[Route("/", work)]), tmp_path / "s")
    server.start()
    try:
        working = _hanging(tmp_path / "s", 2, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert all(begun.acquire(timeout=5) for _ in working)
        [late] = _hanging(tmp_path / "s", 1, b"")
        assert _hung_up_on(late)
        go_on.set()
        assert [connection.recv(12) for connection in working] == [b"HTTP/1.1 200"] * 2
    finally:
        go_on.set()
        for connection in (*working, late):
            connection.close()
        server.stop()


def test_a_body_that_comes_drop_by_drop_ends_with_408(tmp_path: Path) -> None:
    async def take(request: Request) -> JSONResponse:
        return JSONResponse({"bytes": len(await request.body())})

    app = Starlette(routes=[Route("/", take, methods=["POST"])])
    server = ApiServer(Limits(app, body_seconds=0.1), tmp_path / "s")
    server.start()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(tmp_path / "s"))
            answer = exchange(connection, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n12", 5)
        assert statuses(answer) == [408]
    finally:
        server.stop()


def test_memory_does_not_grow_with_what_is_sent(local: Path) -> None:
    """A body that is too large is not kept while it comes in."""
    with socket.socket(socket.AF_UNIX) as warm:
        warm.connect(str(local))
        exchange(warm, b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n", 5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    head = b"POST /v1/recalls HTTP/1.1\r\nHost: x\r\nContent-Length: 500000000\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(local))
        connection.settimeout(5)
        found, sent = b"", 0
        try:
            connection.sendall(head)
            while sent < 64 << 20 and not found:
                sent += connection.send(b"x" * (1 << 18))
                connection.setblocking(False)
                try:
                    found = connection.recv(4096)
                except BlockingIOError:
                    found = b""
                connection.settimeout(5)
        except OSError:
            found = found or b"closed"
    assert found
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10  # KiB
