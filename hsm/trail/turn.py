"""Which of several nodes streams the journal to the one syslog server, and from where the next one goes on.

How far the stream is stands in the journal itself now and then (verb ``streamed``), so that a node that takes
over repeats what was sent since and no more: each message at least once, a second time with the sequenceId
that it had before.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from hsm.catalog import journal
from hsm.catalog.engine import Catalog
from hsm.catalog.journal import Wanted
from hsm.catalog.leading import Lead
from hsm.log import get_logger
from hsm.trail.sink import BEGINNING, Place, Whose

log = get_logger(__name__)

VERB, KIND, ACTOR = "streamed", "trail", "trail"
TRY_SECONDS = 5.0
"""Between two tries to take over; twice as long before one that let it go tries again."""
NOTE_SECONDS = 300.0
NOTE_RECORDS = 2000
"""How far the stream is is noted after so many, or after so long."""


class Turn:
    """One node's part. For the stream's thread alone."""

    def __init__(self, catalog: Catalog, to: str, monotonic: Callable[[], float]) -> None:
        """:param to: where the stream goes, the same on every node."""
        self._catalog = catalog
        self._to = to
        self._lead = Lead(catalog.engine, f"hsm audit trail to {to}")
        self._monotonic = monotonic
        self._tried_at = float("-inf")
        self._mine = False
        self._whose = Whose.OPEN
        self._noted = 0
        self._noted_at = monotonic()

    def whose(self) -> Whose:
        """Which node streams now.

        :raises SQLAlchemyError: the database does not answer.
        """
        now = self._monotonic()
        if not self._mine and now - self._tried_at < TRY_SECONDS:
            return self._whose
        self._tried_at, before = now, self._mine
        self._mine, self._whose = False, Whose.OPEN
        self._mine = self._lead.held()
        self._whose = Whose.OURS if self._mine else Whose.ANOTHERS
        if self._mine != before:
            log.info("%s: %s", self._to, "this node streams" if self._mine else "another node may stream")
        return self._whose

    def place(self) -> Place:
        """How far whoever streamed last has noted that he is.

        :raises SQLAlchemyError: the database does not answer.
        """
        with self._catalog.read() as session:
            last = journal.last(session, Wanted(subject=self._to, kind=KIND, verb=VERB))
        if last is None:
            return BEGINNING
        return Place(int(last.detail["record"]), bytes.fromhex(str(last.detail["digest"])))

    def note(self, place: Place, *, now: bool = False) -> None:
        """The stream has got to this record for good.

        :param now: put it on record whatever was noted last.
        :raises SQLAlchemyError: the database does not answer.
        """
        more = place.seq - self._noted
        late = self._monotonic() - self._noted_at >= NOTE_SECONDS
        # One more record is the note itself: it must not make another.
        if more < 2 or not (now or late or more >= NOTE_RECORDS):
            return
        with self._catalog.write() as session:
            detail = {"record": place.seq, "digest": place.digest.hex()}
            journal.append(session, self._catalog.clock.now(), ACTOR, VERB, KIND, self._to, detail)
        self._noted, self._noted_at = place.seq, self._monotonic()

    def let_go(self, place: Place | None) -> None:
        """Another node may stream; this one tries again in a while.

        :param place: how far it got.
        """
        if self._mine and place is not None:
            try:
                self.note(place, now=True)
            except SQLAlchemyError as error:
                log.warning("%s: the next node repeats more: %s", self._to, getattr(error, "orig", error))
        # One try more than the others need: who does not reach the server is the last to try again.
        self._mine, self._whose, self._tried_at = False, Whose.OPEN, self._monotonic() + TRY_SECONDS
        self._lead.let_go()
