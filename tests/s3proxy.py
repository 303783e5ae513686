"""A proxy before a real S3 server that does harm: it refuses, breaks off, stalls, flips and forgets."""

from __future__ import annotations

import http.client
import http.server
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

_SKIPPED = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive"})


@dataclass(frozen=True, slots=True)
class Request:
    """What a fault may be chosen by."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    number: int

    @property
    def is_part(self) -> bool:
        return self.method == "PUT" and "partNumber" in self.query


@dataclass(frozen=True, slots=True)
class Fault:
    """``kind`` is one of

    - ``answer``: ``status`` with S3's error ``code``; the server never sees the request;
    - ``reset``: the connection is reset; the server never sees the request;
    - ``lost``: the server does it, the connection is reset instead of its answer;
    - ``cut``, ``short``, ``stall``: ``at`` bytes of the answer's body, then a reset, an end, or nothing more;
    - ``flip``: byte ``at`` of the answer's body is inverted; ``flip request``: of the request's body;
    - ``header``: the answer's header ``code`` becomes ``value``.
    """

    kind: str
    at: int = 0
    status: int = 503
    code: str = "SlowDown"
    value: str = ""


Choose = Callable[[Request], Fault | None]


@dataclass
class Proxy:
    """Running; ``choose`` may be replaced at any time."""

    url: str
    choose: Choose = field(repr=False)
    seen: list[Request] = field(default_factory=list, repr=False)
    stopping: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def harmless(self) -> None:
        self.choose = lambda _: None

    def once(self, fault: Fault, when: Callable[[Request], bool] = lambda _: True, times: int = 1) -> None:
        """Do ``fault`` to the next ``times`` requests that are so."""
        left = times

        def choose(request: Request) -> Fault | None:
            nonlocal left
            with self.lock:
                if left and when(request):
                    left -= 1
                    return fault
                return None

        self.choose = choose


@contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """A harmless proxy before ``upstream`` (``http://HOST:PORT``)."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.upstream = urlsplit(upstream).netloc
    server.proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}", lambda _: None)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.proxy
    finally:
        server.proxy.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    upstream: str
    proxy: Proxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are what it is for."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _do(self) -> None:
        state = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        with state.lock:
            request = Request(
                self.command,
                parts.path,
                parse_qs(parts.query, keep_blank_values=True),
                {name.lower(): value for name, value in self.headers.items()},
                len(state.seen),
            )
            state.seen.append(request)
        fault = state.choose(request)
        kind = fault.kind if fault is not None else ""
        if kind == "reset":
            return self._reset()
        if fault is not None and kind == "answer":
            return self._answer(fault)
        if fault is not None and kind == "flip request" and body:
            at = fault.at % len(body)
            body = body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :]
        return self._forward(body, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _do

    def _forward(self, body: bytes, fault: Fault | None) -> None:
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=30)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    upstream.putheader(name, value)
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            data = answer.read()
        except OSError:
            return self._reset()
        finally:
            upstream.close()
        if fault is not None and fault.kind == "lost":
            return self._reset()
        self.send_response(answer.status)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        for name, value in answer.getheaders():
            if name.lower() not in _SKIPPED and not self._replaced(fault, name):
                self.send_header(name, value)
        if fault is not None and fault.kind == "header":
            self.send_header(fault.code, fault.value)
        if length is not None:
            self.send_header("Content-Length", length)
        self.end_headers()
        return self._send(data, fault)

    @staticmethod
    def _replaced(fault: Fault | None, name: str) -> bool:
        return fault is not None and fault.kind == "header" and fault.code.lower() == name.lower()

    def _send(self, data: bytes, fault: Fault | None) -> None:
        kind = fault.kind if fault is not None else ""
        if fault is None or not data or kind not in ("cut", "short", "stall", "flip"):
            self.wfile.write(data)
            return
        at = fault.at % len(data)
        if kind == "flip":
            self.wfile.write(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
            return
        self.wfile.write(data[:at])
        self.wfile.flush()
        if kind == "cut":
            self._reset()
        elif kind == "stall":
            self.server.proxy.stopping.wait(5)
        self.close_connection = True

    def _answer(self, fault: Fault) -> None:
        text = f"<Error><Code>{fault.code}</Code><Message>so it is</Message></Error>".encode()
        self.send_response(fault.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", "0" if self.command == "HEAD" else str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _reset(self) -> None:
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        self.close_connection = True
