"""Commands that wait for a second person: asked for, agreed to or refused, executed once.

What was asked for is kept as one canonical text with its digest, and the journal, whose chain nobody can
mend, has the digest too: what was shown is what is executed, or nothing is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from hsm.catalog import journal
from hsm.catalog.tables import Approval, Journal
from hsm.errors import NotFound, Refused
from hsm.states import APPROVAL, ApprovalState

KIND: Final = "approval"
WAITING_MAX: Final = 200
"""Commands that may wait at the same time."""
OUTCOME_MAX: Final = 20_000
_WAITING = ApprovalState.WAITING


@dataclass(frozen=True, slots=True)
class ApprovalRef:
    """One command that needs, or needed, a second person."""

    pk: int
    state: ApprovalState
    command: str
    asked: Mapping[str, Any]
    """act (``POST /v1/volumes/{barcode}/lost``), path (its parameters), body, caller."""
    digest: str
    asked_at: datetime
    asked_by: str
    asked_person: str
    expires_at: datetime
    decided_at: datetime | None
    decided_by: str
    reason: str
    outcome: str

    def said_state(self, now: datetime) -> str:
        """The state, or ``expired``."""
        return "expired" if self.state is _WAITING and self.expires_at <= now else self.state.value


def text_of(asked: Mapping[str, Any]) -> str:
    """The one text that says it.

    :raises ValueError: something that is no JSON.
    """
    return json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def ask(
    session: Session,
    command: str,
    asked: Mapping[str, Any],
    by: str,
    person: str,
    now: datetime,
    until: datetime,
) -> ApprovalRef:
    """Write a command down; the one that waits already where the same person asked the same.

    :raises Refused: too many wait.
    """
    text = text_of(asked)
    digest = digest_of(text)
    waiting = _waits(now)
    same = session.scalars(
        select(Approval).where(*waiting, Approval.digest == digest, Approval.asked_person == person)
    ).first()
    if same is not None:
        return _ref(same)
    if waiting_total(session, now) >= WAITING_MAX:
        raise Refused(f"{WAITING_MAX} commands wait for a second person already: hsm approve ls")
    row = Approval(
        state=_WAITING,
        command=command,
        asked=text,
        digest=digest,
        asked_at=now,
        asked_by=by,
        asked_person=person,
        expires_at=until,
        decided_at=None,
        decided_by="",
        decided_person="",
        reason="",
        outcome="",
    )
    session.add(row)
    session.flush()
    detail = {"command": command, "asked": dict(asked), "digest": digest, "until": until.isoformat()}
    journal.append(session, now, by, "approval asked", KIND, str(row.pk), detail)
    return _ref(row)


def waiting_total(session: Session, now: datetime) -> int:
    """How many wait for a second person."""
    return session.scalar(select(func.count()).select_from(Approval).where(*_waits(now))) or 0


def _waits(now: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return Approval.state == _WAITING, Approval.expires_at > now


def get(session: Session, pk: int) -> ApprovalRef:
    """:raises NotFound: there is none with this number."""
    row = session.get(Approval, pk)
    if row is None:
        raise NotFound(f"no command {pk} waits for a second person, or ever did: hsm approve ls --all")
    return _ref(row)


def listing(session: Session, now: datetime, *, every: bool, limit: int) -> list[ApprovalRef]:
    """Those that wait, the first asked first; or every one, the last asked first."""
    query = select(Approval).order_by(Approval.asked_at.desc(), Approval.pk.desc())
    if not every:
        query = select(Approval).where(*_waits(now)).order_by(Approval.asked_at, Approval.pk)
    return [_ref(row) for row in session.scalars(query.limit(limit))]


def approve(session: Session, pk: int, digest: str, by: str, person: str, now: datetime) -> ApprovalRef:
    """Agree to just what has this digest; who calls executes it then, and says by :func:`finish` how it went.

    :raises NotFound: there is none with this number.
    :raises Refused: the same person, expired, decided on before, or another command than was shown.
    """
    row = _undecided(session, pk, now)
    if row.asked_person.casefold() == person.casefold():  # `Anna` may be another token of anna
        raise Refused(f"approval {pk}: {person} asked for it; another person must agree")
    if not row.digest == digest_of(row.asked) == _journalled(session, pk):
        raise Refused(f"approval {pk}: what is kept of it is not what was asked for: ask again")
    if row.digest != digest:
        raise Refused(f"approval {pk}: it is not what was shown; look at it again (hsm approve show {pk})")
    _decide(row, ApprovalState.APPROVED, by, person, now)
    detail = {"command": row.command, "asked_by": row.asked_by, "digest": row.digest}
    session.flush()
    journal.append(session, now, by, "approval given", KIND, str(pk), detail)
    return _ref(row)


def refuse(session: Session, pk: int, reason: str, by: str, person: str, now: datetime) -> ApprovalRef:
    """It is not done. Who asked may take it back in the same way.

    :raises NotFound: there is none with this number.
    :raises Refused: expired, or decided on before.
    """
    row = _undecided(session, pk, now)
    _decide(row, ApprovalState.REFUSED, by, person, now)
    row.reason = reason
    session.flush()
    detail = {"command": row.command, "asked_by": row.asked_by, "why": reason}
    journal.append(session, now, by, "approval refused", KIND, str(pk), detail)
    return _ref(row)


def finish(session: Session, pk: int, good: bool, outcome: str, now: datetime) -> None:
    """How the execution went."""
    row = session.scalars(select(Approval).where(Approval.pk == pk).with_for_update()).one()
    state = ApprovalState.DONE if good else ApprovalState.FAILED
    APPROVAL.check(ApprovalState(row.state), state)
    row.state, row.outcome = state, outcome[:OUTCOME_MAX]
    session.flush()
    detail = {"command": row.command} | ({} if good else {"why": row.outcome[:500]})
    verb = "approval executed" if good else "approval failed"
    journal.append(session, now, row.decided_by, verb, KIND, str(pk), detail)


def _undecided(session: Session, pk: int, now: datetime) -> Approval:
    row = session.scalars(select(Approval).where(Approval.pk == pk).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"no command {pk} waits for a second person, or ever did: hsm approve ls --all")
    if row.state != _WAITING:
        raise Refused(f"approval {pk}: it was decided on before: {row.state}, by {row.decided_by}")
    if row.expires_at <= now:
        raise Refused(f"approval {pk}: it expired at {row.expires_at:%Y-%m-%d %H:%M} UTC: ask again")
    return row


def _journalled(session: Session, pk: int) -> object:
    """The digest that the journal has of what was asked for last under this number."""
    where = (Journal.subject == str(pk), Journal.kind == KIND, Journal.verb == "approval asked")
    found = journal.read(session, where, last_first=True, limit=1)
    return found[0].detail.get("digest") if found else None


def _decide(row: Approval, state: ApprovalState, by: str, person: str, now: datetime) -> None:
    APPROVAL.check(ApprovalState(row.state), state)
    row.state, row.decided_at, row.decided_by, row.decided_person = state, now, by, person


def _ref(row: Approval) -> ApprovalRef:
    return ApprovalRef(
        row.pk,
        ApprovalState(row.state),
        row.command,
        json.loads(row.asked),
        row.digest,
        row.asked_at,
        row.asked_by,
        row.asked_person,
        row.expires_at,
        row.decided_at,
        row.decided_by,
        row.reason,
        row.outcome,
    )
