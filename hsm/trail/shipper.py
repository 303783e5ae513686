"""Carries the journal to one sink: in order, each record at least once, in bounded memory, for ever.

A thread of its own; nobody in the archive waits for it. What the sink does not take stays in the journal,
and is read from there when it does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from hsm.catalog import chainread
from hsm.catalog.engine import Catalog
from hsm.log import get_logger
from hsm.trail.sink import NotTaken, Place, Sink, Whose

log = get_logger(__name__)

BATCH = 200
"""Records that are read and sent at a time."""
POLL_SECONDS = 1.0
PAUSE_SECONDS_MAX = 60.0
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one stream is."""

    to: str
    sent: int
    """Number of the last record it has."""
    waiting: int
    """Records that it has not."""
    error: str
    """Why, where something is wrong; empty when all is well."""
    since: datetime | None
    """Since when."""
    elsewhere: bool = False
    """Another node streams; how far it is is not known here."""


class Shipper:
    """One stream. :meth:`start` and :meth:`stop` once each; a test may call :meth:`step` instead."""

    def __init__(self, catalog: Catalog, sink: Sink) -> None:
        self._catalog = catalog
        self._sink = sink
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._at: Place | None = None
        self._sent = 0
        self._error = ""
        self._since: datetime | None = None
        self._elsewhere = False

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=f"trail to {self._sink.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """What is not sent is sent by the next daemon."""
        self._stop.set()
        if self._thread is None:
            self._sink.close()
        else:
            self._thread.join(STOP_SECONDS / 2)
            if self._thread.is_alive():
                self._sink.abort()
                self._thread.join(STOP_SECONDS / 2)

    def step(self) -> int:
        """Send what there is, a batch at most; how many records. Never raises for what a sink, the database
        or a journal that was tampered with may do."""
        try:
            whose = self._sink.whose()
            if whose is Whose.OPEN:
                return 0
            self._elsewhere = whose is Whose.ANOTHERS
            if self._elsewhere:
                self._at = None
            sent = 0 if self._elsewhere else self._send()
        except NotTaken as error:
            self._at = None
            self._sink.not_taken()
            self._failed(f"{self._sink.name}: {error}")
            return 0
        except SQLAlchemyError as error:
            self._failed(f"the catalog: {getattr(error, 'orig', error)}")
            return 0
        if self._error and not self._elsewhere:
            log.info("the audit trail goes on: %s", self._sink.name)
        self._error, self._since = "", None
        return sent

    def standing(self) -> Standing:
        with self._catalog.read() as session:
            head, _ = chainread.head(session)
        sent = head if self._elsewhere else self._sent
        return Standing(self._sink.name, sent, max(0, head - sent), self._error, self._since, self._elsewhere)

    def problems(self) -> list[str]:
        if not self._error:
            return []
        try:
            waiting = f"{self.standing().waiting} records of it wait"
        except SQLAlchemyError:
            waiting = "records of it wait"
        return [
            f"the audit trail stands still since {self._since:%Y-%m-%d %H:%M} UTC, {waiting}: {self._error}"
        ]

    def _send(self) -> int:
        if self._at is None:
            self._at = self._sink.begin()
            self._sent = self._at.seq
        else:
            self._sink.idle()
        at = self._at
        with self._catalog.read() as session:
            if chainread.digest_of(session, at.seq) != at.digest:
                raise NotTaken(
                    f"the journal's record {at.seq} is not the one that was sent: the journal was written "
                    "anew, or an older database was put in its place; hsm audit log verify says more. After "
                    "a restore that was meant, docs/audit-log.md says how to begin anew"
                )
            links = chainread.after(session, at.seq, BATCH)
        if links:
            self._sink.take(links)
            self._at = Place(links[-1].entry.seq, links[-1].digest)
        self._sent = self._at.seq
        return len(links)

    def _failed(self, error: str) -> None:
        if error != self._error:
            log.error("the audit trail stands still: %s", error)
        self._since = self._since or self._catalog.clock.now()
        self._error = error

    def _run(self) -> None:
        pause = POLL_SECONDS
        wait: Callable[[float], bool] = self._stop.wait
        while True:
            stopping = self._stop.is_set()
            try:
                sent = self.step()
            except Exception as error:  # a fault of ours must not end the stream for ever
                log.exception("%s: unexpected", self._sink.name)
                sent, self._at = 0, None
                self._failed(f"unexpected: {error!r}")
            pause = min(2 * pause, PAUSE_SECONDS_MAX) if self._error else POLL_SECONDS
            if stopping and (sent < BATCH or self._error):
                break  # the last records of this daemon are those that tell of its end
            if sent < BATCH:
                wait(pause)
        self._sink.close()
