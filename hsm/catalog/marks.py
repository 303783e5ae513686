"""What people say of a study: legal holds, tags, and until when it is kept. Each change is in the journal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hsm.catalog import journal, words
from hsm.catalog.tables import Hold, Study
from hsm.errors import BadInput, NotFound, Refused
from hsm.model import check_uid

TAG_LENGTH_MAX = 64
TAGS_MAX = 50
REASON_LENGTH_MAX = 1000


@dataclass(frozen=True, slots=True)
class HoldRef:
    """A legal hold that stands."""

    placed_at: datetime
    placed_by: str
    reason: str


def place_hold(session: Session, study_uid: str, reason: str, now: datetime, by: str) -> None:
    """From now on no good copy of the study is released.

    :raises NotFound: no such study.
    :raises BadInput: no reason.
    :raises Refused: it is held already.
    """
    pk, reason = study_key(session, study_uid), checked_reason(reason)
    standing = hold_of(session, pk)
    if standing is not None:
        raise Refused(
            f"study {study_uid} is under legal hold already, since {standing.placed_at:%Y-%m-%d} by"
            f" {standing.placed_by}: {standing.reason}"
        )
    session.add(
        Hold(
            study_pk=pk,
            placed_at=now,
            placed_by=by,
            reason=reason,
            lifted_at=None,
            lifted_by="",
            lifted_reason="",
        )
    )
    session.flush()
    journal.append(session, now, by, "hold placed", "study", study_uid, {"why": reason})


def lift_hold(session: Session, study_uid: str, reason: str, now: datetime, by: str) -> None:
    """End the study's hold.

    :raises NotFound: no such study.
    :raises BadInput: no reason.
    :raises Refused: it is not held.
    """
    pk, reason = study_key(session, study_uid), checked_reason(reason)
    row = session.scalars(
        select(Hold).where(Hold.study_pk == pk, Hold.lifted_at.is_(None)).with_for_update()
    ).one_or_none()
    if row is None:
        raise Refused(f"study {study_uid} is not under legal hold")
    row.lifted_at = max(now, row.placed_at)  # somebody may have put the clock back
    row.lifted_by, row.lifted_reason = by, reason
    session.flush()
    journal.append(session, now, by, "hold lifted", "study", study_uid, {"why": reason})


def hold_of(session: Session, study_pk: int) -> HoldRef | None:
    """The hold that stands on a study."""
    row = session.scalars(
        select(Hold).where(Hold.study_pk == study_pk, Hold.lifted_at.is_(None))
    ).one_or_none()
    return None if row is None else HoldRef(row.placed_at, row.placed_by, row.reason)


def held(session: Session, limit: int, offset: int = 0) -> list[tuple[str, HoldRef]]:
    """The studies under hold, the last placed first."""
    rows = session.execute(
        select(Study.uid, Hold.placed_at, Hold.placed_by, Hold.reason)
        .join(Study, Study.pk == Hold.study_pk)
        .where(Hold.lifted_at.is_(None))
        .order_by(Hold.pk.desc())
        .limit(limit)
        .offset(offset)
    )
    return [(uid, HoldRef(at, by, reason)) for uid, at, by, reason in rows]


def tag(
    session: Session,
    study_uid: str,
    now: datetime,
    by: str,
    *,
    add: Iterable[str] = (),
    remove: Iterable[str] = (),
) -> tuple[str, ...]:
    """Give a study tags and take some away; the tags that it has then, in code point order.

    :raises NotFound: no such study.
    :raises BadInput: something that is no tag, or more than :data:`TAGS_MAX` of them.
    """
    wanted, unwanted = {check_tag(each) for each in add}, {check_tag(each) for each in remove}
    study_key(session, study_uid)
    row = session.execute(
        select(Study.pk, Study.tags).where(Study.uid == study_uid).with_for_update(key_share=True)
    ).one()
    old = set(words.members(session, [row.tags])[row.tags])
    new = (old | wanted) - unwanted
    if len(new) > TAGS_MAX:
        raise BadInput(f"study {study_uid} would have {len(new)} tags; at most {TAGS_MAX} are kept")
    if new != old:
        number = words.set_of(session, new)
        session.execute(update(Study).where(Study.pk == row.pk).values(tags=number))
        changes = (("tagged", new - old), ("untagged", old - new))
        for verb, some in changes:
            if some:
                journal.append(session, now, by, verb, "study", study_uid, {"tags": sorted(some)})
    return tuple(sorted(new))


def check_tag(text: str) -> str:
    """:raises BadInput: not 1 to 64 printable characters without a comma or spaces at the ends."""
    if not 1 <= len(text) <= TAG_LENGTH_MAX or not text.isprintable() or "," in text or text != text.strip():
        raise BadInput(
            f"tag {text[:80]!r}: expected 1 to {TAG_LENGTH_MAX} printable characters without a comma"
        )
    return text


def retain(session: Session, study_uid: str, until: str, reason: str, now: datetime, by: str) -> None:
    """Keep a study up to a day (``YYYYMMDD``); an empty day ends that.

    :raises NotFound: no such study.
    :raises BadInput: not a day, or no reason.
    """
    pk, reason = study_key(session, study_uid), checked_reason(reason)
    _check_day(until)
    session.execute(update(Study).where(Study.pk == pk).values(retain_until=until))
    verb = f"retained until {until}" if until else "retention ended"
    journal.append(session, now, by, verb, "study", study_uid, {"why": reason})


def kept_by_law(session: Session, study_pk: int, now: datetime) -> str:
    """Why nothing of a study may be released now, whatever a policy says; empty when it may."""
    standing = hold_of(session, study_pk)
    if standing is not None:
        return (
            f"the study is under legal hold since {standing.placed_at:%Y-%m-%d}, placed by"
            f" {standing.placed_by}: {standing.reason}"
        )
    until = session.execute(select(Study.retain_until).where(Study.pk == study_pk)).scalar_one()
    if until and until >= f"{now.astimezone(UTC):%Y%m%d}":
        return f"the study is retained until {until[:4]}-{until[4:6]}-{until[6:]}"
    return ""


def tags_of(session: Session, set_pk: int | None) -> Sequence[str]:
    """The words of a study's set of tags."""
    return words.members(session, [set_pk])[set_pk]


def study_key(session: Session, uid: str) -> int:
    """:raises NotFound: no such study."""
    check_uid(uid, "Study Instance UID")
    pk = session.scalar(select(Study.pk).where(Study.uid == uid))
    if pk is None:
        raise NotFound(f"study {uid} is not in the catalog; `hsm study find` searches by name, ID or date")
    return pk


def checked_reason(text: str) -> str:
    """:raises BadInput: nothing, or too much of it."""
    reason = " ".join(text.split())
    if not 1 <= len(reason) <= REASON_LENGTH_MAX:
        raise BadInput(f"a reason is needed, of at most {REASON_LENGTH_MAX} characters")
    return reason


def _check_day(text: str) -> None:
    if not text:
        return
    try:
        if len(text) != 8 or not text.isascii() or not text.isdigit():
            raise ValueError
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        raise BadInput(f"{text[:40]!r} is no day: expected YYYYMMDD") from None
