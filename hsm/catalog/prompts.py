"""Mount requests: a volume that a person is asked to bring, who has gone for it, and how that ended.

An answer is given once; the same one again changes nothing. Every step is a record in the journal, with the
person's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from hsm import states
from hsm.catalog import journal
from hsm.catalog.tables import MountRequest, Volume
from hsm.states import MountState, Outcome

ACTOR = "hsm"
AGAIN = timedelta(minutes=10)
"""How long an answer from the same person counts as said twice, although the volume was asked for again."""

_STATE_AFTER = {
    Outcome.DONE: MountState.DONE,
    Outcome.SUBSTITUTED: MountState.OBSOLETE,
    Outcome.UNANSWERED: MountState.OBSOLETE,
    Outcome.NOT_NEEDED: MountState.OBSOLETE,
}
_FAILED = (Outcome.CANNOT_FIND, Outcome.DAMAGED, Outcome.WRONG_SITE)
"""Outcomes after which the volume is asked for again when nothing else has what is wanted."""


@dataclass(frozen=True, slots=True)
class PromptRef:
    """One mount request."""

    pk: int
    volume_pk: int
    barcode: str
    state: MountState
    priority: int
    created_at: datetime
    acked_by: str
    acked_until: datetime | None
    outcome: str
    answered_at: datetime | None
    answered_by: str
    comment: str
    note: str

    @property
    def is_open(self) -> bool:
        return self.state is MountState.OPEN

    def walker(self, now: datetime) -> str:
        """Who is on the way; empty when nobody is, or was too long ago."""
        return self.acked_by if self.acked_until is not None and now < self.acked_until else ""


def ask_for(session: Session, volume_pk: int, priority: int, now: datetime, actor: str) -> bool:
    """Open a mount request for a volume, or make the open one more urgent; whether it is new."""
    row = _open(session, volume_pk)
    if row is not None:
        row.priority = min(row.priority, priority)
        return False
    before = last(session, volume_pk)
    row = MountRequest(
        volume_pk=volume_pk,
        state=MountState.OPEN.value,
        priority=priority,
        created_at=now,
        answered_at=None,
        answered_by="",
        comment="",
        acked_at=None,
        acked_until=None,
        instead_pk=None,
        note=_note(before) if before is not None else "",
    )
    session.add(row)
    session.flush()
    _record(session, volume_pk, now, actor, "mount requested", {"note": row.note} if row.note else {})
    return True


def _note(before: PromptRef) -> str:
    """What whoever is asked next should know of how it ended last time."""
    said = f"{before.answered_by}: {before.comment}".rstrip(": ")
    at = f"{before.answered_at:%Y-%m-%d %H:%M} UTC" if before.answered_at else ""
    words = {
        Outcome.CANNOT_FIND: f"could not be found {at} by {said}; nothing else has what is wanted: search on",
        Outcome.DAMAGED: f"is damaged, says {said} ({at}); nothing else has what is wanted: bring it all the"
        " same, or give it up with hsm volume lost",
        Outcome.WRONG_SITE: f"is at another site, says {said} ({at}); nothing else has what is wanted",
    }
    return words.get(Outcome(before.outcome), "") if before.outcome in _FAILED else ""


def answer(
    session: Session,
    volume_pk: int,
    outcome: Outcome,
    now: datetime,
    by: str,
    comment: str = "",
    *,
    instead_pk: int | None = None,
) -> bool:
    """Close the open mount request of a volume; False when there is none (answers are idempotent).

    What nobody in particular has answered was done by whoever had gone for it.
    """
    row = _open(session, volume_pk)
    if row is None:
        return False
    new = _STATE_AFTER.get(outcome, MountState.REFUSED)
    states.MOUNT.check(MountState(row.state), new)
    walker = row.acked_by if row.acked_until is not None and now < row.acked_until else ""
    if outcome is Outcome.DONE and by == "custody" and walker:
        by = walker
    row.state, row.outcome = new.value, outcome.value
    row.answered_at = max(now, row.created_at)  # somebody may have put the clock back
    row.answered_by, row.comment = by, comment
    row.instead_pk = instead_pk
    session.flush()
    detail = {"comment": comment} if comment else {}
    if instead_pk is not None:
        detail["instead"] = _name(session, instead_pk)
    _record(session, volume_pk, now, by, f"mount request {outcome.value}", detail)
    return True


def acknowledge(session: Session, volume_pk: int, now: datetime, by: str, until: datetime) -> PromptRef:
    """Somebody has gone for it: nobody else need.

    :raises LookupError: it is not asked for.
    """
    row = _open(session, volume_pk)
    if row is None:
        raise LookupError(f"volume {volume_pk} is not asked for")
    news = row.acked_by != by or row.acked_until is None or row.acked_until <= now
    row.acked_at, row.acked_by, row.acked_until = now, by, until
    session.flush()
    if news:
        _record(session, volume_pk, now, by, "mount request acknowledged", {"until": until.isoformat()})
    return _ref(row, _name(session, volume_pk))


def release(session: Session, volume_pk: int, now: datetime, by: str) -> bool:
    """Whoever has gone for it has not after all; False where nobody had."""
    row = _open(session, volume_pk)
    if row is None or row.acked_until is None or row.acked_until <= now:
        return False
    row.acked_until = now
    session.flush()
    _record(session, volume_pk, now, by, "mount request given back", {"from": row.acked_by})
    return True


def current(session: Session, volume_pk: int) -> PromptRef | None:
    """The open one, else the last."""
    return _one(session, volume_pk, is_open=True) or last(session, volume_pk)


def last(session: Session, volume_pk: int) -> PromptRef | None:
    """The one that was answered last."""
    return _one(session, volume_pk, is_open=False)


def said_before(session: Session, volume_pk: int, outcome: Outcome, by: str, now: datetime) -> bool:
    """Whether the same person has just said this, and the volume was only asked for again since."""
    before = last(session, volume_pk)
    return (
        before is not None
        and before.outcome == outcome
        and before.answered_by == by
        and before.answered_at is not None
        and now - before.answered_at < AGAIN
    )


def by_number(session: Session, pk: int) -> PromptRef | None:
    row = session.execute(_query().where(MountRequest.pk == pk)).one_or_none()
    return None if row is None else _ref(*row)


def open_prompts(session: Session) -> list[PromptRef]:
    """Those that nobody has answered: the most urgent first, then the oldest."""
    query = _query().where(MountRequest.state == MountState.OPEN)
    query = query.order_by(MountRequest.priority, MountRequest.created_at, MountRequest.pk)
    return [_ref(*row) for row in session.execute(query)]


def open_mount_requests(session: Session) -> list[int]:
    """Keys of the volumes that somebody is asked to load."""
    return list(session.scalars(select(MountRequest.volume_pk).where(MountRequest.state == MountState.OPEN)))


def retire_obsolete(session: Session, wanted: Iterable[int], now: datetime) -> int:
    """Close the mount requests of volumes that nobody waits for any more."""
    keep = set(wanted)
    stale = [pk for pk in open_mount_requests(session) if pk not in keep]
    why = "nobody waits for it"
    return sum(answer(session, pk, Outcome.NOT_NEEDED, now, ACTOR, why) for pk in stale)


def add_note(session: Session, volume_pks: Sequence[int], note: str) -> None:
    """Tell whoever goes for these."""
    session.execute(
        update(MountRequest)
        .where(MountRequest.volume_pk.in_(volume_pks), MountRequest.state == MountState.OPEN)
        .values(note=note)
    )


def _query() -> Select[*tuple[Any, ...]]:
    return select(MountRequest, Volume.name).join(Volume, Volume.pk == MountRequest.volume_pk)


def _one(session: Session, volume_pk: int, *, is_open: bool) -> PromptRef | None:
    state = MountRequest.state == MountState.OPEN
    query = _query().where(MountRequest.volume_pk == volume_pk, state if is_open else ~state)
    row = session.execute(query.order_by(MountRequest.pk.desc()).limit(1)).one_or_none()
    return None if row is None else _ref(*row)


def _ref(row: MountRequest, barcode: str) -> PromptRef:
    return PromptRef(
        row.pk,
        row.volume_pk,
        barcode,
        MountState(row.state),
        row.priority,
        row.created_at,
        row.acked_by,
        row.acked_until,
        row.outcome,
        row.answered_at,
        row.answered_by,
        row.comment,
        row.note,
    )


def _open(session: Session, volume_pk: int) -> MountRequest | None:
    return session.scalars(
        select(MountRequest)
        .where(MountRequest.volume_pk == volume_pk, MountRequest.state == MountState.OPEN)
        .with_for_update()
    ).one_or_none()


def _name(session: Session, volume_pk: int) -> str:
    return session.scalars(select(Volume.name).where(Volume.pk == volume_pk)).one()


def _record(
    session: Session, volume_pk: int, now: datetime, actor: str, verb: str, detail: dict[str, str]
) -> None:
    journal.append(session, now, actor, verb, "volume", _name(session, volume_pk), detail)
