"""Who asked for studies and got them, in the journal: noted in memory, written some seconds later in one
go."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hsm.catalog import journal
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Instance, Name, Patient, Series, Study
from hsm.log import get_logger

log = get_logger(__name__)

BUFFER_MAX = 20_000
"""Records that wait to be written; what comes beyond is counted, and the count is a record."""
AT_ONCE = 1000
SUMS = ("instances", "bytes", "matches")
TIMES = "times"
"""How many notes a record stands for, where it is more than one."""


@dataclass(frozen=True, slots=True)
class Note:
    """One record that is to be."""

    at: datetime
    actor: str
    verb: str
    kind: str
    subject: str
    detail: dict[str, Any] = field(default_factory=dict)


class AccessLog:
    """Any thread may note, and none waits; one at a time flushes."""

    def __init__(self, catalog: Catalog, buffer_max: int = BUFFER_MAX) -> None:
        self._catalog = catalog
        self._buffer_max = buffer_max
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._notes: list[Note] = []
        self._last: dict[str, int] = {}
        """Where the note stands that further ones alike are added to."""
        self._dropped = 0

    def note(self, note: Note) -> None:
        """What differs from a note that waits in nothing but :data:`SUMS` is added to it: a viewer that
        retrieves a study image by image makes one record of some seconds."""
        same = _same(note)
        with self._lock:
            at = self._last.get(same)
            if at is not None:
                self._notes[at] = _sum(self._notes[at], note)
            elif len(self._notes) < self._buffer_max:
                self._last[same] = len(self._notes)
                self._notes.append(note)
            else:
                self._dropped += 1

    def flush(self) -> int:
        """Write what was noted; how many records. What the database does not take is noted again.

        :raises SQLAlchemyError: the database failed.
        """
        with self._flushing:
            with self._lock:
                notes, self._notes, self._last = self._notes, [], {}
                dropped, self._dropped = self._dropped, 0
            if dropped:
                log.warning("%d retrieves or queries were more than could be noted", dropped)
                told = {"why": "more came than could be noted", "records": dropped}
                notes.append(Note(self._catalog.clock.now(), "hsm", "not noted", "query", "accesses", told))
            done = 0
            try:
                while done < len(notes):
                    some = notes[done : done + AT_ONCE]
                    with self._catalog.write() as session:
                        for each in _runs(some):
                            first = each[0]
                            subjects = [(note.subject, note.detail) for note in each]
                            journal.append_many(
                                session, first.at, first.actor, first.verb, first.kind, subjects
                            )
                    done += len(some)
            except BaseException:
                with self._lock:
                    self._notes = [*notes[done:], *self._notes][: self._buffer_max + 1]
                    self._last = {_same(each): number for number, each in enumerate(self._notes)}
                raise
        return len(notes)


def _same(note: Note) -> str:
    detail = {name: value for name, value in note.detail.items() if name not in (*SUMS, TIMES)}
    return repr((note.actor, note.verb, note.kind, note.subject, sorted(detail.items())))


def _sum(old: Note, new: Note) -> Note:
    detail = dict(old.detail)
    for name in SUMS:
        if name in detail:
            detail[name] += new.detail.get(name, 0)
    detail[TIMES] = old.detail.get(TIMES, 1) + new.detail.get(TIMES, 1)
    return replace(old, detail=detail)


def _runs(notes: list[Note]) -> list[list[Note]]:
    """Those that differ in subject and detail alone, together; the order stays."""
    found: list[list[Note]] = []
    for note in notes:
        last = found[-1][0] if found else None
        if last is not None and (last.at, last.actor, last.verb, last.kind) == (
            note.at,
            note.actor,
            note.verb,
            note.kind,
        ):
            found[-1].append(note)
        else:
            found.append([note])
    return found


def about(session: Session, study_uid: str) -> tuple[str, str, str, tuple[tuple[str, int], ...]] | None:
    """Of a study its source AE, its patient's ID and name, and its SOP classes with their instances; None: it
    is not in the catalog."""
    row = session.execute(
        select(Study.pk, Study.source_ae, Patient.patient_id, Patient.name)
        .join(Patient, Patient.pk == Study.patient_pk)
        .where(Study.uid == study_uid)
    ).one_or_none()
    if row is None:
        return None
    classes = session.execute(
        select(Name.uid, func.count())
        .select_from(Series)
        .join(Instance, Instance.series_pk == Series.pk)
        .join(Name, Name.pk == Instance.class_pk)
        .where(Series.study_pk == row.pk)
        .group_by(Name.uid)
        .order_by(Name.uid)
    )
    return row.source_ae, row.patient_id, row.name, tuple((uid, int(count)) for uid, count in classes)
