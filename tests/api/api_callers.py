"""Calls into the API's application as somebody, without a socket between."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message

from hsm.api.identity import UnixPeer

UIDS = {"admin": 3001, "operator": 3002, "auditor": 3003, "read-only": 3004, "none": 3005}
"""Users of a made-up machine, named as their roles are; ``none`` has none."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


def call(
    app: ASGIApp,
    method: str,
    path: str,
    body: object = None,
    *,
    peer: object = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Answer:
    """One request; ``peer`` is what the listener found out of the caller."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        "client": None,
        "server": None,
        "state": {} if peer is None else {"peer": peer},
    }
    sent: list[Message] = []

    read = False

    async def receive() -> Message:
        nonlocal read
        if read:
            await asyncio.Event().wait()
        read = True
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    first = sent[0]
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(
        first["status"], {name.decode(): value.decode() for name, value in first["headers"]}, content
    )


def local(role: str) -> UnixPeer:
    """Somebody on this machine whose user is called as the role is."""
    return UnixPeer(UIDS[role], role, 4711)
