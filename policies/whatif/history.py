"""What happened, as a stream of values: studies that arrived and retrieves that were asked for.

A history is any iterable of :class:`Arrival` and :class:`Access` in the order of their times, so that a
year of a hospital never lies in memory at once. docs/simulate.md describes the file.
"""

from __future__ import annotations

import enum
import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

FactValue = str | int | bool | tuple[str, ...] | None
"""Sets of texts are tuples; dates are ``YYYYMMDD``; codes are ``\\\\CT\\\\SR\\\\``."""


class AccessKind(enum.StrEnum):
    RETRIEVE = "retrieve"
    """Somebody wants its images: C-MOVE, C-GET, WADO."""
    QUERY = "query"
    """It was a match of a query; it costs nothing and warms nothing."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A study, as it was when its last instance had come."""

    at: datetime
    """Aware; when its last instance was received."""
    study: str
    """Study Instance UID."""
    size: int
    """Bytes of all instances."""
    facts: Mapping[str, FactValue] = field(default_factory=dict)
    """What policies may ask, by source as :data:`policies.facts.STUDY_SOURCES` names them; those that
    are missing are not known."""

    def __post_init__(self) -> None:
        _require_aware(self.at, self.study)
        if self.size < 0 or not self.study:
            raise ValueError(f"arrival of {self.study!r}: needs a study and a size that is not negative")


@dataclass(frozen=True, slots=True)
class Access:
    at: datetime
    study: str
    kind: AccessKind = AccessKind.RETRIEVE

    def __post_init__(self) -> None:
        _require_aware(self.at, self.study)


Event = Arrival | Access
History = Iterable[Event]


class HistoryError(ValueError):
    """A history that cannot be replayed; the message names the file and line, or the study."""


def _require_aware(at: datetime, study: str) -> None:
    if at.tzinfo is None:
        raise ValueError(f"event of study {study}: {at} has no time zone")


def scaled(history: History, factor: float, seed: int = 0) -> Iterator[Event]:
    """The history of an archive ``factor`` times as large: whole patients are doubled or left out.

    A further patient's studies and accesses are those of the original, up to an hour later, under UIDs
    and Patient IDs of their own. Which patients a fraction takes hangs on ``seed`` and on nothing else.

    :raises ValueError: the factor is not above 0 and at most 1000.
    """
    if not 0 < factor <= 1000:
        raise ValueError(f"scale {factor:g} is out of range: write a factor above 0, at most 1000")
    if factor == 1:
        yield from history
        return
    patients: dict[str, str] = {}
    waiting: list[tuple[datetime, int, Event]] = []
    count = 0
    for event in history:
        if isinstance(event, Arrival):
            patients[event.study] = str(event.facts.get("patient_id") or event.study)
        while waiting and waiting[0][0] <= event.at:
            yield heapq.heappop(waiting)[2]
        patient = patients.get(event.study, event.study)
        for number in range(_times(patient, factor, seed)):
            count += 1
            further = _moved(event, patient, number, seed) if number else event
            heapq.heappush(waiting, (further.at, count, further))
    while waiting:
        yield heapq.heappop(waiting)[2]


def _times(patient: str, factor: float, seed: int) -> int:
    whole = int(factor)
    return whole + (_chance(f"{seed}/{patient}") < factor - whole)


def _moved(event: Event, patient: str, number: int, seed: int) -> Event:
    later = timedelta(seconds=int(3600 * _chance(f"{seed}/{patient}/{number}")))
    study = f"{event.study}.{number}"
    if isinstance(event, Access):
        return replace(event, at=event.at + later, study=study)
    facts = dict(event.facts)
    if facts.get("patient_id"):
        facts["patient_id"] = f"{facts['patient_id']}~{number}"
    return replace(event, at=event.at + later, study=study, facts=facts)


def _chance(text: str) -> float:
    """From 0 to 1, always the same for the same text, also in another process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64


def until(history: History, end: datetime) -> Iterator[Event]:
    """Events before ``end``. :raises HistoryError: an event is earlier than the one before it."""
    last: datetime | None = None
    for event in history:
        if last is not None and event.at < last:
            raise HistoryError(
                f"study {event.study}: an event of {event.at.isoformat()} comes after one of "
                f"{last.isoformat()}; sort the history by time"
            )
        last = event.at
        if event.at >= end:
            return
        yield event
