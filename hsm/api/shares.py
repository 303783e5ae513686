"""Whose work the threads do: nobody takes all of them, and a look at the archive's state finds one.

A request that has taken too long is answered with 504 while its thread works on. The thread counts for its
caller until it is done, so callers who come again and again do not make it more threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any, Final, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from anyio import CapacityLimiter, to_thread
from starlette.types import ASGIApp, Receive, Scope, Send

from hsm.api.caller import NOBODY, Caller

P = ParamSpec("P")
T = TypeVar("T")

WORK_MAX: Final = 20
"""Threads of one listener that work on requests at the same time. Each may hold a connection of the catalog,
which has 40 for the whole daemon."""
WORK_OF_ONE_MAX: Final = 8
"""Of these, those of one person: what they ask for besides waits for one of their own."""
LOOKS_MAX: Final = 4
"""Further threads, for :data:`LOOKS` only."""
LOOKS_OF_ONE_MAX: Final = 2
LOOKS: Final = frozenset({"/metrics", "/v1/health", "/v1/status"})
"""What is answered also while all other threads are taken: monitoring, and who looks for the reason."""


class _Lane:
    """Threads for one sort of request, on one event loop. Not thread-safe: all calls come from its loop."""

    def __init__(self, threads: int, of_one: int) -> None:
        self._limiter = CapacityLimiter(threads)
        self._of_one = of_one
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._here: Counter[str] = Counter()

    async def run(self, person: str, act: Callable[[], T]) -> T:
        """Do it on a thread, when it is this person's turn."""
        self._here[person] += 1
        turn = self._turns.setdefault(person, asyncio.Semaphore(self._of_one))
        try:
            await turn.acquire()
        except BaseException:
            self._leave(person)
            raise
        work: asyncio.Task[T] = asyncio.ensure_future(to_thread.run_sync(act, limiter=self._limiter))

        def done(task: asyncio.Task[T]) -> None:
            turn.release()
            self._leave(person)
            if not task.cancelled():
                task.exception()  # who asked may have gone

        work.add_done_callback(done)
        return await asyncio.shield(work)

    def _leave(self, person: str) -> None:
        self._here[person] -= 1
        if not self._here[person]:
            del self._here[person], self._turns[person]


class _Lanes:
    def __init__(self) -> None:
        self.work = _Lane(WORK_MAX, WORK_OF_ONE_MAX)
        self.looks = _Lane(LOOKS_MAX, LOOKS_OF_ONE_MAX)


_lanes: WeakKeyDictionary[asyncio.AbstractEventLoop, _Lanes] = WeakKeyDictionary()
_lock = threading.Lock()
_asked: ContextVar[tuple[str, bool]] = ContextVar("asked", default=(NOBODY.person, False))


def _here() -> _Lanes:
    loop = asyncio.get_running_loop()
    with _lock:
        found = _lanes.get(loop)
        if found is None:
            found = _lanes[loop] = _Lanes()
        return found


async def run_in_threadpool(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call it on a thread, for the person whose request this is."""
    person, looks = _asked.get()
    context = copy_context()
    lane = _here().looks if looks else _here().work
    return await lane.run(person, lambda: context.run(act, *args, **kwargs))


class Shares:
    """ASGI middleware, after who asks is known: notes whose share the request's work is of."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            state: dict[str, Any] = scope.get("state", {})
            caller = state.get("caller", NOBODY)
            person = caller.person if isinstance(caller, Caller) else NOBODY.person
            _asked.set((person, scope["path"] in LOOKS))
        await self._app(scope, receive, send)
