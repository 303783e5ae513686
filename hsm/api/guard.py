"""What stands before every path: the caller's role, and what becomes of those who lack it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from hsm.api.access import Needs, needs_of, said
from hsm.api.caller import Caller, caller_of
from hsm.api.problems import Forbidden
from hsm.api.wire import parsed, require_text
from hsm.errors import BadInput

Endpoint = Callable[[Request], Awaitable[Response]]


class Held(Protocol):
    """Keeps calls that need a second person."""

    async def hold(self, request: Request, act: str) -> None: ...

    def knows(self, act: str, endpoint: Endpoint) -> None: ...


class Guard:
    """Makes routes that let in whom :data:`hsm.api.access.ACCESS` names."""

    def __init__(self, held: Held | None = None) -> None:
        self._held = held

    def route(self, method: str, path: str, endpoint: Endpoint) -> BaseRoute:
        """
        :raises UnguardedError: the table says nothing of the path.
        """
        needs, act, held = needs_of(method, path), f"{method} {path}", self._held
        if held is not None:
            held.knows(act, endpoint)

        async def guarded(request: Request) -> Response:
            _require_texts(request)
            await self._admit(request, act, needs)
            if held is not None:
                await held.hold(request, act)
            return await endpoint(request)

        return Route(path, guarded, methods=[method])

    async def _admit(self, request: Request, act: str, needs: Needs) -> None:
        caller = caller_of(request)
        wanted = needs.roles
        if needs.member and not admits(caller, needs.with_member):
            wanted = needs.asked(await members(request))
        if not admits(caller, wanted):
            more = f" with {needs.member}" if needs.member and wanted == needs.with_member else ""
            raise Forbidden(act + more, caller.name, said(wanted), caller.said_roles())


def _require_texts(request: Request) -> None:
    """:raises BadInput: the address holds what no catalog can."""
    try:
        for text in (*request.path_params.values(), *request.query_params.values()):
            require_text(str(text))
    except ValueError as error:
        raise BadInput(f"the address: {error}") from error


def admits(caller: Caller, wanted: frozenset[str]) -> bool:
    """Whether one of the caller's roles is wanted, or none is."""
    return not wanted or bool(caller.roles & wanted)


async def members(request: Request) -> dict[str, Any]:
    """The JSON object of a body; empty where it is none, which the path itself complains of."""
    try:
        found = parsed(await request.body())
    except BadInput:
        return {}
    return found if isinstance(found, dict) else {}
