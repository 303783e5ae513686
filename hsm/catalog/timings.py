"""How long things really took: what drives did, and what operators did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hsm.catalog.tables import MountRequest, Timing
from hsm.states import MountState

KEPT = 100
"""Of each library and kind: the last ones. A drive that was exchanged or cleaned is soon known anew."""


@dataclass(frozen=True, slots=True)
class Took:
    """One thing that a drive did. Seconds, and what the drive's model says."""

    kind: str
    """``mount``, ``locate`` or ``read``."""
    seconds: float
    expected: float
    size: int = 0


def note(session: Session, library: str, drive: int, took: Sequence[Took], now: datetime) -> None:
    """Keep what a session measured, and forget the oldest."""
    for each in took:
        session.add(
            Timing(
                library=library,
                drive=drive,
                kind=each.kind,
                seconds=each.seconds,
                expected=each.expected,
                size=each.size,
                at=now,
            )
        )
    session.flush()
    for kind in sorted({each.kind for each in took}):
        of_kind = (Timing.library == library, Timing.kind == kind)
        oldest = session.scalar(
            select(Timing.pk).where(*of_kind).order_by(Timing.pk.desc()).offset(KEPT - 1).limit(1)
        )
        if oldest is not None:
            session.execute(delete(Timing).where(*of_kind, Timing.pk < oldest))


def recent(session: Session) -> dict[tuple[str, str], list[Took]]:
    """By library and kind, the oldest first."""
    found: dict[tuple[str, str], list[Took]] = defaultdict(list)
    for row in session.scalars(select(Timing).order_by(Timing.pk)):
        found[row.library, row.kind].append(Took(row.kind, row.seconds, row.expected, row.size))
    return found


def answers(session: Session) -> list[float]:
    """How many seconds the last volumes took that operators brought, from the prompt to the library."""
    rows = session.execute(
        select(MountRequest.created_at, MountRequest.answered_at)
        .where(MountRequest.state == MountState.DONE, MountRequest.answered_at.is_not(None))
        .order_by(MountRequest.pk.desc())
        .limit(KEPT)
    )
    return [(end - begin).total_seconds() for begin, end in rows if end is not None]
