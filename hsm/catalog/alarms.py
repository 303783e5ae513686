"""Messages to people that are to be sent, as the journal has them: a restart forgets none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from hsm.catalog import journal
from hsm.catalog.journal import Wanted

KIND, ACTOR = "alarm", "alarms"
RAISED, TOLD, GIVEN_UP = "alarm raised", "alarm told", "alarm given up"
LOOKED_MAX = 3000
"""The last records that are looked through for what still waits."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One message and whom it is for."""

    subject: str
    text: str
    data: Mapping[str, Any]
    """The same for programs; plain JSON values."""
    to: tuple[str, ...]
    """Names of channels."""
    urgent: bool


def raised(session: Session, now: datetime, node: str, alarm: Alarm) -> int:
    """It is to be sent; the number that :func:`ended` wants.

    :param node: who sends it: each sends what it raised.
    """
    detail: dict[str, Any] = {"subject": alarm.subject, "text": alarm.text, "data": dict(alarm.data)}
    detail |= {"to": list(alarm.to), "urgent": alarm.urgent}
    return journal.append(session, now, ACTOR, RAISED, KIND, node, detail)


def ended(session: Session, now: datetime, node: str, number: int, channel: str, why: str = "") -> None:
    """A channel has taken it, or it was given up.

    :param why: it was given up; empty: it was sent.
    """
    detail = {"alarm": number, "to": channel} | ({"why": why} if why else {})
    journal.append(session, now, ACTOR, GIVEN_UP if why else TOLD, KIND, node, detail)


def waiting(session: Session, node: str) -> Sequence[tuple[int, Alarm]]:
    """What a node raised and has not sent to all of its channels, the first first; ``to`` has those left."""
    done: set[tuple[int, str]] = set()
    found = []
    for entry in journal.find(session, Wanted(subject=node, kind=KIND), LOOKED_MAX):
        detail = entry.detail
        if entry.verb != RAISED:
            done.add((int(detail["alarm"]), str(detail["to"])))
            continue
        left = tuple(name for name in detail["to"] if (entry.seq, name) not in done)
        if left:
            alarm = Alarm(detail["subject"], detail["text"], detail["data"], left, bool(detail["urgent"]))
            found.append((entry.seq, alarm))
    return found[::-1]
