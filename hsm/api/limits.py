"""A limit on everything a caller can make the daemon do: a body's bytes and seconds, a request's seconds."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hsm.api.problems import problem

BODY_BYTES_MAX = 1 << 20
BODY_SECONDS_MAX = 30.0
"""From the first look at a body to its last byte."""
READ_SECONDS_MAX = 60.0
ACT_SECONDS_MAX = 900.0
"""A robot may take minutes to do as told."""


class Limits:
    """ASGI middleware. A body over the limit is 413; a request over its time is 504."""

    def __init__(
        self,
        app: ASGIApp,
        body_bytes: int = BODY_BYTES_MAX,
        read_seconds: float = READ_SECONDS_MAX,
        act_seconds: float = ACT_SECONDS_MAX,
        body_seconds: float = BODY_SECONDS_MAX,
    ) -> None:
        self._app = app
        self._body_bytes = body_bytes
        self._seconds = {"GET": read_seconds, "HEAD": read_seconds}
        self._act_seconds = act_seconds
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = whole = False
        taken, deadline = 0, 0.0

        async def counted() -> Message:
            nonlocal taken, deadline, whole
            if whole:  # what is waited for now is that the other side hangs up
                return await receive()
            loop = asyncio.get_running_loop()
            deadline = deadline or loop.time() + self._body_seconds
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the body took longer than {self._body_seconds:g} s") from None
            whole = not message.get("more_body", False)
            taken += len(message.get("body", b""))
            if taken > self._body_bytes:
                raise HTTPException(413, f"the body is larger than {self._body_bytes} bytes")
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        seconds = self._seconds.get(scope["method"], self._act_seconds)
        try:
            async with asyncio.timeout(seconds):
                await self._app(scope, counted, noted)
        except TimeoutError:
            if started:
                raise
            slow = problem(
                504,
                "time-out",
                f"{scope['method']} {scope['path']} took longer than {seconds:g} s",
                "it may still finish; look again with `hsm status` before you repeat it",
            )
            await slow(scope, receive, send)
