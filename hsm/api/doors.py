"""The first thing that happens to a request: who asks is found out, and which roles they have."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from hsm.api.caller import NOBODY, Caller, roles_for
from hsm.api.identity import UnixPeer, group_names
from hsm.config.access import RolesConfig

GROUPS_SECONDS = 10.0
"""How long a user's groups are remembered: some machines ask a directory for them."""
USERS_MAX = 1000


class Doors:
    """What the daemon knows of callers; ``roles`` may be replaced while it serves."""

    def __init__(
        self, roles: RolesConfig | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.roles = roles or RolesConfig()
        self._monotonic = monotonic
        self._groups: dict[int, tuple[float, frozenset[str]]] = {}
        self._lock = threading.Lock()

    def local(self, peer: UnixPeer) -> Caller:
        """Somebody on this machine. May wait for the machine's directory of groups."""
        groups = self._groups_of(peer.uid) if self.roles.groups else frozenset()
        roles = roles_for(self.roles, peer.uid, peer.name, groups, os.geteuid())
        return Caller(peer.name, peer.name, peer.name, f"socket, process {peer.pid}", roles)

    def _groups_of(self, uid: int) -> frozenset[str]:
        now = self._monotonic()
        with self._lock:
            at, found = self._groups.get(uid, (None, frozenset()))
        if at is None or now - at > GROUPS_SECONDS:
            found = group_names(uid)
            with self._lock:
                if len(self._groups) >= USERS_MAX:
                    self._groups.clear()
                self._groups[uid] = (now, found)
        return found


class Identify:
    """ASGI middleware: puts the :class:`Caller` into the request's state."""

    def __init__(self, app: ASGIApp, doors: Doors) -> None:
        self._app = app
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            state = scope.setdefault("state", {})
            state["caller"] = await self._caller(state.get("peer"))
        await self._app(scope, receive, send)

    async def _caller(self, peer: object) -> Caller:
        if not isinstance(peer, UnixPeer):
            return NOBODY
        if self._doors.roles.groups:
            return await run_in_threadpool(self._doors.local, peer)
        return self._doors.local(peer)
