"""The journal as syslog messages to one server.

What counts as sent is kept in a file: the last record whose message the server's kernel acknowledged some
seconds ago on a connection that has not broken since. After a break, or a restart, it goes on from there,
so that a server may see messages twice and misses none.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from hsm.catalog.chainread import Link
from hsm.trail.line import Line
from hsm.trail.message import Outcome
from hsm.trail.sink import BEGINNING, NotTaken, Place, Whose
from hsm.trail.syslog import MESSAGE_ID_DICOM, MESSAGE_ID_JOURNAL, Origin, message
from hsm.trail.translate import Translator
from hsm.trail.turn import Turn

SETTLED_SECONDS = 5.0
CURSOR_BYTES_MAX = 4096
_SEVERITY = {Outcome.SUCCESS: 5, Outcome.MINOR: 4, Outcome.SERIOUS: 3, Outcome.MAJOR: 2}


class SyslogSink:
    """See :class:`hsm.trail.sink.Sink`."""

    def __init__(
        self,
        name: str,
        line: Line,
        origin: Origin,
        translate: Translator,
        cursor: Path,
        monotonic: Callable[[], float],
        *,
        every_record: bool,
        turn: Turn | None = None,
    ) -> None:
        """
        :param cursor: a file of ours that says how far it is.
        :param every_record: each record is sent as JSON too, not only what has an audit message.
        :param turn: with several nodes, which of them streams; None: there is one.
        """
        self.name = name
        self._line = line
        self._origin = origin
        self._translate = translate
        self._cursor = cursor
        self._monotonic = monotonic
        self._every_record = every_record
        self._turn = turn
        self._settling: deque[tuple[float, Place]] = deque()
        self._settled: Place | None = None

    def begin(self) -> Place:
        self._settling.clear()
        if self._settled is None:
            self._settled = self._read()
        if self._turn is not None:
            shared = self._turn.place()
            if shared.seq > self._settled.seq:  # another node went on meanwhile
                self._settled = shared
        return self._settled

    def whose(self) -> Whose:
        found = self._turn.whose() if self._turn is not None else Whose.OURS
        if found is not Whose.OURS:
            self._line.close()
        return found

    def not_taken(self) -> None:
        """A server that we do not reach may be reached by another node."""
        if self._turn is not None:
            self._turn.let_go(self._settled)

    def take(self, links: Sequence[Link]) -> None:
        messages = [each for link in links for each in self.messages(link)]
        if messages:
            if not self._line.open:
                self._line.connect()
            self._line.send(messages)
        last = links[-1]
        self._settling.append((self._monotonic(), Place(last.entry.seq, last.digest)))

    def idle(self) -> None:
        self._line.look()
        now, settled = self._monotonic(), None
        while self._settling and self._settling[0][0] <= now - SETTLED_SECONDS:
            settled = self._settling.popleft()[1]
        if settled is not None:
            self._write(settled)
            self._settled = settled
            if self._turn is not None:
                self._turn.note(settled)

    def abort(self) -> None:
        self._line.abort()

    def close(self) -> None:
        self._line.close()
        self.not_taken()

    def messages(self, link: Link) -> list[bytes]:
        """What is said of one record; often nothing."""
        entry, found = link.entry, []
        audit = self._translate(entry)
        if audit is not None:
            text = self._translate.xml(audit)
            severity = _SEVERITY[audit.outcome]
            found.append(message(self._origin, severity, entry.at, MESSAGE_ID_DICOM, entry.seq, text))
        if self._every_record:
            text = f'{{"seq":{entry.seq},"digest":"{link.digest.hex()}","record":{link.line}}}'
            found.append(message(self._origin, 6, entry.at, MESSAGE_ID_JOURNAL, entry.seq, text))
        return found

    def _read(self) -> Place:
        try:
            with self._cursor.open("rb") as file:
                said = json.loads(file.read(CURSOR_BYTES_MAX))
            return Place(int(said["seq"]), bytes.fromhex(said["digest"]))
        except FileNotFoundError:
            return BEGINNING
        except OSError as error:
            raise NotTaken(f"{self._cursor}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise NotTaken(
                f"{self._cursor} is damaged; delete it, and everything is sent once more"
            ) from error

    def _write(self, place: Place) -> None:
        said = json.dumps({"seq": place.seq, "digest": place.digest.hex()})
        new = self._cursor.with_name(f"{self._cursor.name}.new")
        try:
            self._cursor.parent.mkdir(parents=True, exist_ok=True)
            with new.open("w", encoding="ascii") as file:
                file.write(said)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._cursor)
        except OSError as error:
            raise NotTaken(f"{self._cursor}: {error.strerror}") from error
