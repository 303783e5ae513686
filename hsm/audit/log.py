"""``hsm audit log``: the journal's records, and whether its chain is whole."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from hsm.audit.anchors import AnchorReader, remembered
from hsm.audit.witness import Witness
from hsm.catalog import chaincheck, chainread, journal
from hsm.catalog.chaincheck import NO_VALUES, Problem
from hsm.catalog.engine import Catalog
from hsm.catalog.journal import Wanted
from hsm.policyrun.frozen import frozen

Record = dict[str, Any]

SAME_SECONDS = 600.0
"""The same look at the log by the same person is on record once in so long."""
LOOKS_MAX = 1000
ACTOR_UNKNOWN = "unknown"
PROBLEMS_MAX = 100
"""Breaks that are told; a chain that is broken oftener is broken enough."""


class LogUse:
    """That somebody read the log is on record, too (PS3.15 A.5.3.2): who, and what he looked for.

    Who reads page after page, or looks every minute, is on record once.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str, str], datetime] = {}

    def note(self, by: str, verb: str, detail: Mapping[str, Any]) -> None:
        now = self._catalog.clock.now()
        key = (by, verb, repr(sorted(detail.items())))
        with self._lock:
            seen = self._seen.get(key)
            if seen is not None and timedelta(0) <= now - seen < timedelta(seconds=SAME_SECONDS):
                return
            if len(self._seen) >= LOOKS_MAX:
                self._seen.clear()
            self._seen[key] = now
        with self._catalog.write() as session:
            journal.append(session, now, by or ACTOR_UNKNOWN, verb, "journal", "journal", detail)


def looked_for(wanted: Wanted) -> dict[str, str]:
    """What was looked for, without which page of it."""
    said = {field.name: getattr(wanted, field.name) for field in fields(wanted) if field.name != "before"}
    return {
        name: value.isoformat() if isinstance(value, datetime) else str(value)
        for name, value in said.items()
        if value not in ("", None)
    }


class LogAudit:
    """Reads the journal; changes nothing."""

    def __init__(self, catalog: Catalog, anchors: AnchorReader, file: Path | None = None) -> None:
        """
        :param file: that the journal is streamed to, if it is: it is compared with each verification.
        """
        self._catalog = catalog
        self._anchors = anchors
        self._file = file

    def find(self, wanted: Wanted, limit: int) -> list[Record]:
        """Records that match, the last first: seq, at, actor, verb, kind, subject, detail."""
        with self._catalog.read() as session:
            return [entry.record() for entry in journal.find(session, wanted, limit)]

    def verify(self, anchors: Mapping[int, bytes], volumes: Sequence[str] = ()) -> Record:
        """Walk the whole chain: records, digest (of the last), anchors (how many were compared), file
        (path, records compared; None where there is none), problems (``{seq, message}``, at most
        :data:`PROBLEMS_MAX` of database and of file), good.

        :param volumes: whose anchors are read and compared, too.
        :raises NotFound, Refused: a volume cannot be read now, or carries none.
        """
        carried = [self._anchors.read(volume) for volume in volumes]
        kept = [each for volume in carried for each in volume.kept]
        witness = Witness.before(self._file) if self._file is not None else None
        with frozen(self._catalog) as session:
            with contextlib.suppress(*NO_VALUES):  # the walk names the record that is none
                kept += remembered(session)
            problems = list(islice(chaincheck.verify(session, anchors, kept), PROBLEMS_MAX))
            problems += [each for volume in carried for each in volume.problems]
            seq, digest = 0, b""
            with contextlib.suppress(*NO_VALUES):
                seq, digest = chainread.head(session)
            if witness is not None:
                problems += _told(witness, session)
        return {
            "at": self._catalog.clock.now(),
            "records": seq,
            "digest": digest,
            "anchors": len(anchors) + len(kept),
            "file": None if witness is None else {"path": witness.path, "records": witness.compared},
            "problems": [{"seq": each.seq, "message": each.message} for each in problems],
            "good": not problems,
        }


def _told(witness: Witness, session: Session) -> list[Problem]:
    try:
        found = list(islice(witness.problems(session), PROBLEMS_MAX))
    except OSError as error:
        return [Problem(0, f"{witness.path} cannot be read: {error.strerror or error}")]
    if found and witness.agrees_until:
        said = f"{witness.path} and the database agree up to record {witness.agrees_until}"
        found.append(Problem(witness.agrees_until, said))
    return found
