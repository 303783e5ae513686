"""The connections of one store: made when needed, kept for the next, left alone while the server is away."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from drivers.breaker import Breaker
from drivers.errors import OperatorNeeded, Retryable
from drivers.sftp.connect import connect
from drivers.sftp.session import Lost, Session
from drivers.sftp.settings import Settings

Dial = Callable[[Settings], Session]


def dial(settings: Settings) -> Session:
    """A new session. :raises Retryable, OperatorNeeded: see :func:`drivers.sftp.connect.connect`."""
    channel = connect(settings)
    try:
        return Session(channel, settings.server)
    except BaseException:
        channel.get_transport().close()
        raise


class Sessions:
    """At most ``settings.connections`` sessions at once, each lent to one caller at a time.

    :param begin: called with every new session before it is first lent.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float],
        rng: random.Random,
        begin: Callable[[Session], None],
        dialler: Dial = dial,
    ) -> None:
        self._settings, self._begin, self._dial = settings, begin, dialler
        self.breaker = Breaker(clock, rng)
        self._condition = threading.Condition()
        self._idle: list[Session] = []
        self._out = 0
        self._closed = False

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Borrow a session; it is kept afterwards if it still stands with nothing under way.

        :raises Retryable: the server cannot be reached, or all sessions stayed in use for too long.
        :raises OperatorNeeded: it does not let us in.
        """
        session = self._take()
        try:
            yield session
        except Lost as error:
            # The others lead to the same server: who tries next connects anew, and by the breaker's leave.
            self.breaker.failed(error)
            self._drop_idle()
            raise
        finally:
            self._give_back(session)

    def close(self) -> None:
        """Drop every idle connection; what is lent out goes when it comes back."""
        with self._condition:
            self._closed = True
        self._drop_idle()

    def _drop_idle(self) -> None:
        with self._condition:
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()

    def _take(self) -> Session:
        limit = self._settings.connections
        with self._condition:
            if not self._condition.wait_for(lambda: self._out < limit, self._settings.timeout_seconds):
                raise Retryable(
                    f"{self._settings.server}: all {limit} connections stayed in use for "
                    f"{self._settings.timeout_seconds:.0f} s; see the option connections"
                )
            self._out += 1
            stale = [session for session in self._idle if not session.usable]
            self._idle = [session for session in self._idle if session.usable]
            kept = self._idle.pop() if self._idle else None
        for each in stale:
            each.close()
        try:
            return kept or self._connect()
        except BaseException:
            self._count_down()
            raise

    def _connect(self) -> Session:
        with self.breaker.passage():
            try:
                session = self._dial(self._settings)
                try:
                    self._begin(session)
                except BaseException:
                    session.close()
                    raise
            except (Retryable, OperatorNeeded) as error:
                self.breaker.failed(error)
                raise
            self.breaker.succeeded()
            return session

    def _give_back(self, session: Session) -> None:
        keep = session.usable and not self._closed
        if not keep:
            session.close()
        with self._condition:
            if keep:
                self._idle.append(session)
            self._out -= 1
            self._condition.notify()

    def _count_down(self) -> None:
        with self._condition:
            self._out -= 1
            self._condition.notify()
