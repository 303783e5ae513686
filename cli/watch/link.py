"""The threads that speak to the daemon, so that the screen never waits: one looks, one acts."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from cli import text
from cli.watch import ask
from cli.watch.actions import Act, Outcome
from cli.watch.values import Picture
from hsm.client import ApiError, Client, Unreachable

AWAY_SECONDS = 2.0
"""How long after a failed connection the next one is tried."""
SHARE = 5.0
"""Consoles look seldom where looking is slow: after as many times as long as the last look took."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A look succeeded."""

    picture: Picture


@dataclass(frozen=True, slots=True)
class Away:
    """A look failed: why, and whether a daemon answers at all."""

    error: str
    answers: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """An act was answered, well or not."""

    outcome: Outcome


def pause(interval: float, took: float, *, reachable: bool) -> float:
    """Seconds until the next look, after one that ``took`` so many."""
    return max(interval, SHARE * took) if reachable else max(interval, AWAY_SECONDS)


@dataclass(frozen=True, slots=True)
class Stopped:
    """A thread has ended by a fault of this program: nothing more would be seen or sent."""

    fault: str


News = Seen | Away | Answered | Stopped
OpenClient = Callable[[], Client]


class Link:
    """Looks every ``interval`` seconds and performs acts in their order; ``tell`` is called from its threads.

    An act that finds no daemon is kept and tried again when a look has found one: every act may be asked
    for twice. The threads end with the process, whatever they wait for.
    """

    def __init__(self, open_client: OpenClient, interval: float, tell: Callable[[News], object]) -> None:
        self._open = open_client
        self._interval = interval
        self._tell = tell
        self._acts: deque[Act] = deque()
        self._change = threading.Condition()
        self._reachable = True
        self._look_now = False
        self._ended = False

    def start(self) -> None:
        for name, target in (("looks", self._looks), ("acts", self._performs)):
            threading.Thread(target=self._run, args=(target,), name=f"operator-{name}", daemon=True).start()

    def _run(self, target: Callable[[], None]) -> None:
        """A thread never ends unnoticed."""
        try:
            target()
        finally:
            if not self._ended:
                self._tell(Stopped(text.clean(repr(sys.exc_info()[1]))))

    def do(self, act: Act) -> None:
        """Have an act performed."""
        with self._change:
            self._acts.append(act)
            self._change.notify_all()

    def end(self) -> None:
        """Begin nothing more."""
        with self._change:
            self._ended = True
            self._change.notify_all()

    def _looks(self) -> None:
        with self._open() as client:
            looks = ask.Looks(client)
            fresh = True
            while not self._ended:
                began = time.monotonic()
                self._look(looks, fresh)
                took = time.monotonic() - began
                with self._change:
                    seconds = pause(self._interval, took, reachable=self._reachable)
                    self._change.wait_for(lambda: self._look_now or self._ended, seconds)
                    fresh, self._look_now = self._look_now, False

    def _look(self, looks: ask.Looks, fresh: bool) -> None:
        try:
            picture = looks.look(fresh=fresh)
        except ApiError as error:
            answers = not isinstance(error, Unreachable)
            self._set_reachable(answers)
            self._tell(Away(text.clean(error), answers))
        except (KeyError, TypeError, ValueError) as error:
            self._tell(Away(text.clean(f"its answer is not understood: {error!r}"), answers=True))
        else:
            self._set_reachable(True)
            self._tell(Seen(picture))

    def _performs(self) -> None:
        with self._open() as client:
            while True:
                with self._change:
                    self._change.wait_for(lambda: self._ended or (bool(self._acts) and self._reachable))
                    if self._ended:
                        return
                    act = self._acts[0]
                self._perform(client, act)

    def _perform(self, client: Client, act: Act) -> None:
        try:
            outcome = ask.perform(client, act)
        except Unreachable as error:
            self._set_reachable(False)
            self._tell(Away(text.clean(error)))
            return
        except (KeyError, TypeError, ValueError) as error:
            outcome = Outcome(act, False, f"{act}: the daemon's answer is not understood: {error!r}")
        with self._change:
            self._acts.popleft()
            self._look_now = True
            self._change.notify_all()
        self._tell(Answered(outcome))

    def _set_reachable(self, reachable: bool) -> None:
        with self._change:
            self._reachable = reachable
            self._change.notify_all()
