"""The helper processes of a store: started when needed, kept, and given up on when they hang.

A thread in a system call that does not return cannot be ended, and neither can the process that it is
in. So file work that may hang is done in processes that the daemon can do without.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drivers import errors
from drivers.errors import DriverError, Retryable
from drivers.nas.frames import Died, Kind, Line
from drivers.nas.segment import Segment, make

_COMMAND = (sys.executable, "-m", "drivers.nas.worker")
_END_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Started:
    """A helper process, and the memory that it shares with us, if any."""

    process: subprocess.Popen[bytes]
    segment: Segment | None


Starter = Callable[[], Started]


def start_helper() -> Started:
    """A helper process; its own session, so that a terminal's Ctrl-C is the daemon's business only."""
    descriptor, segment = make() or (None, None)
    shared = () if descriptor is None else (descriptor,)
    try:
        process = subprocess.Popen(
            (*_COMMAND, *map(str, shared)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            pass_fds=shared,
        )
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return Started(process, segment)


class Helper:
    """One helper process and the line to it."""

    def __init__(self, started: Started) -> None:
        process = started.process
        assert process.stdin and process.stdout
        self._process, self._segment = process, started.segment
        self.line = Line(process.stdout.fileno(), process.stdin.fileno())
        self.at_rest = True
        """Nothing is under way: it can take a command."""

    @property
    def pid(self) -> int:
        return self._process.pid

    def gone(self) -> bool:
        """Whether the process has ended (and is then no zombie any more)."""
        return self._process.poll() is not None

    def command(self, op: str, seconds: float, **fields: Any) -> None:
        """Send a command. :raises Stuck, Died: it cannot take it."""
        self.at_rest = False
        self.line.send(Kind.COMMAND, json.dumps({"op": op, **fields}).encode(), seconds)

    def answer(self, seconds: float) -> tuple[Kind, Any]:
        """The next frame; of a result the value. :raises DriverError: the helper says that it failed."""
        kind, payload = self.line.receive(seconds)
        if kind is Kind.DATA:
            return kind, payload
        if kind is Kind.FILLED:
            return Kind.DATA, self._taken(payload, seconds)
        value = json.loads(payload)
        if kind in (Kind.RESULT, Kind.ERROR):
            self.at_rest = True
        if kind is Kind.ERROR:
            name, message = value
            raise _error(name, message)
        return kind, value

    def _taken(self, filled: bytes, seconds: float) -> bytes:
        if self._segment is None:
            raise Died("a helper process filled memory that it does not share")
        try:
            data = self._segment.taken(filled)
        except (ValueError, struct.error) as error:
            raise Died(f"a helper process says what cannot be: {error}") from error
        self.line.send(Kind.FREE, b"", seconds)
        return data

    def call(self, op: str, seconds: float, **fields: Any) -> Any:
        """Command and result in one. :raises DriverError: it failed; Stuck, Died: there is no answer."""
        self.command(op, seconds, **fields)
        _, value = self.answer(seconds)
        return value

    def kill(self) -> None:
        """End it. One that hangs in a system call ends when that returns."""
        self._process.kill()
        if self._segment is not None:
            self._segment.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def wait(self, seconds: float) -> bool:
        """Wait for its end. Returns whether it came."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Limits:
    """``at_once`` helpers are at work or at rest; ``stuck_max`` may hang before no more are started."""

    at_once: int = 8
    stuck_max: int = 4


class Helpers:
    """Lends helpers; those that hang are counted until the kernel lets them end."""

    def __init__(self, limits: Limits, starter: Starter = start_helper) -> None:
        self._limits, self._start = limits, starter
        self._condition = threading.Condition()
        self._idle: list[Helper] = []
        self._lent = 0
        self._abandoned: list[Helper] = []
        self._ended_late = False

    def stuck(self) -> tuple[int, ...]:
        """The process ids of those that were given up on and have not ended yet."""
        with self._condition:
            self._reap()
            return tuple(each.pid for each in self._abandoned)

    def take(self, seconds: float) -> Helper:
        """Borrow one, started if need be.

        :raises Retryable: all stayed at work for ``seconds``, or too many hang.
        """
        with self._condition:
            if not self._condition.wait_for(lambda: self._lent < self._limits.at_once, seconds):
                raise Retryable(
                    f"all {self._limits.at_once} helper processes stayed at work for {seconds:g} s; "
                    "see the option helpers"
                )
            self._reap()
            while self._idle:
                helper = self._idle.pop()
                if not helper.gone():
                    self._lent += 1
                    return helper
                helper.kill()
            if len(self._abandoned) >= self._limits.stuck_max:
                pids = ", ".join(str(each.pid) for each in self._abandoned)
                raise Retryable(
                    f"{len(self._abandoned)} helper processes hang in the kernel (pids {pids}); no more are "
                    "started until one ends"
                )
            self._lent += 1
        try:
            return Helper(self._start())
        except OSError as error:
            self._returned()
            raise Retryable(f"a helper process cannot be started: {error.strerror}") from error

    def give_back(self, helper: Helper) -> None:
        """Keep it for the next, or end it when something is still under way in it."""
        if not helper.at_rest or helper.gone():
            helper.kill()
            with self._condition:
                self._abandoned.append(helper)
                self._reap()
        else:
            with self._condition:
                self._idle.append(helper)
        self._returned()

    def ended_late(self) -> bool:
        """Whether one that was given up on has ended since this was asked last."""
        with self._condition:
            self._reap()
            ended, self._ended_late = self._ended_late, False
            return ended

    def close(self) -> None:
        """End those at rest, and wait a moment for those that were given up on."""
        with self._condition:
            idle, self._idle = self._idle, []
            abandoned = list(self._abandoned)
        for helper in idle:
            helper.kill()
        for helper in (*idle, *abandoned):
            helper.wait(_END_SECONDS)

    def _returned(self) -> None:
        with self._condition:
            self._lent -= 1
            self._condition.notify()

    def _reap(self) -> None:
        left = [helper for helper in self._abandoned if not helper.gone()]
        self._ended_late = self._ended_late or len(left) < len(self._abandoned)
        self._abandoned = left


def _error(name: str, message: str) -> DriverError:
    kind = getattr(errors, str(name), None)
    if isinstance(kind, type) and issubclass(kind, DriverError):
        return kind(message)
    return Died(f"a helper process failed: {message}")
