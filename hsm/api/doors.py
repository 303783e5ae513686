"""The first thing that happens to a request: who asks is found out, and which roles they have."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hsm.api.arrivals import Arrivals
from hsm.api.caller import NOBODY, Caller, roles_for
from hsm.api.identity import UnixPeer, group_names
from hsm.api.problems import problem
from hsm.api.shares import run_in_threadpool
from hsm.api.tcp import DOOR, TcpPeer
from hsm.catalog.access import Note
from hsm.clock import Clock, SystemClock
from hsm.config.access import RolesConfig
from hsm.config.doors import LockoutConfig
from hsm.lockout import Lockout
from hsm.refusals import Refusal
from hsm.tokens import Tokens

GROUPS_SECONDS = 10.0
"""How long a user's groups are remembered: some machines ask a directory for them."""
USERS_MAX = 1000
LOCKOUT = LockoutConfig(failures=5, within_seconds=60, lasts_seconds=300, never=())
"""Of addresses from which tokens come that are none."""
NO_TOKEN = "it has no bearer token"


class TurnedAwayError(Exception):
    """Somebody from another machine whose token is none, or who is locked out.

    :ivar actor: the token's holder, where it is known.
    :ivar seconds: for how long the address is not listened to; 0 where it may try again.
    """

    def __init__(self, reason: str, actor: str = "", seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.actor = actor
        self.seconds = seconds


class Doors:
    """What the daemon knows of callers; ``roles`` may be replaced while it serves."""

    def __init__(
        self,
        roles: RolesConfig | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        tokens: Tokens | None = None,
        clock: Clock | None = None,
        note: Callable[[Refusal], None] = lambda refusal: None,
        arrived: Callable[[Note], None] = lambda note: None,
    ) -> None:
        self.roles = roles or RolesConfig()
        self.tokens = tokens
        self.note = note
        self._arrived = arrived
        self._arrivals = Arrivals(monotonic)
        self._clock = clock or SystemClock()
        self._lockout = Lockout(monotonic, LOCKOUT)
        self._monotonic = monotonic
        self._groups: dict[int, tuple[float, frozenset[str]]] = {}
        self._lock = threading.Lock()

    def local(self, peer: UnixPeer) -> Caller:
        """Somebody on this machine. May wait for the machine's directory of groups."""
        groups = self._groups_of(peer.uid) if self.roles.groups else frozenset()
        roles = roles_for(self.roles, peer.uid, peer.name, groups, os.geteuid())
        return Caller(peer.name, peer.name, peer.name, f"socket, process {peer.pid}", roles)

    def remote(self, peer: TcpPeer, authorization: str) -> Caller:
        """Somebody on another machine, by the token in the header ``Authorization`` (RFC 6750 section 2.1).

        :raises TurnedAwayError: nobody with that token may come in, or nobody from there.
        """
        if why := self._lockout.refuses(peer.address):
            raise TurnedAwayError(why, seconds=LOCKOUT.lasts_seconds)
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            raise self._strike(peer, NO_TOKEN)
        holder = self.tokens.holder(given.strip()) if self.tokens is not None else None
        if holder is None:
            raise self._strike(peer, "its token is not known")
        if not holder.is_good(self._clock.now()):
            raise self._strike(peer, f"the token {holder.name} has expired", holder.person)
        name = f"{holder.person} (token {holder.name})"
        where = f"{peer.address} port {peer.port}"
        self._arrive(name, holder.name, peer.address)
        return Caller(name, holder.person, "", where, frozenset({holder.role}), DOOR)

    def _arrive(self, name: str, token: str, address: str) -> None:
        if told := self._arrivals.told_of(token, address):
            self._arrived(Note(self._clock.now(), name, "came in", "access", DOOR, dict(told)))

    def _strike(self, peer: TcpPeer, reason: str, actor: str = "") -> TurnedAwayError:
        locked = self._lockout.failed(peer.address)
        more, seconds = (f"; {locked}", LOCKOUT.lasts_seconds) if locked else ("", 0.0)
        return TurnedAwayError(reason + more, actor, seconds)

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
            peer = state.get("peer")
            try:
                state["caller"] = await self._caller(peer, scope)
            except TurnedAwayError as error:
                await self._turn_away(peer, error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _turn_away(self, peer: object, error: TurnedAwayError) -> Response:
        where = peer.address if isinstance(peer, TcpPeer) else ""
        self._doors.note(Refusal(error.actor, DOOR, "come in", str(error), where))
        hint = "give a token that `hsm token new` has made: --token-file FILE, or HSM_TOKEN_FILE"
        answer = problem(429 if error.seconds else 401, "refused", f"nobody comes in so: {error}", hint)
        answer.headers["connection"] = "close"
        if error.seconds:
            answer.headers["retry-after"] = f"{error.seconds:.0f}"
        else:
            answer.headers["www-authenticate"] = "Bearer"
        return answer

    async def _caller(self, peer: object, scope: Scope) -> Caller:
        if isinstance(peer, TcpPeer):
            return self._doors.remote(peer, Headers(scope=scope).get("authorization", ""))
        if not isinstance(peer, UnixPeer):
            return NOBODY
        if self._doors.roles.groups:
            return await run_in_threadpool(self._doors.local, peer)
        return self._doors.local(peer)
