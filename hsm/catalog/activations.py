"""Which policies were in force when: every activation with all its texts, append-only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from hsm.catalog import journal
from hsm.catalog.tables import Activation
from hsm.errors import NotFound

# Any constant will do, as long as all nodes use the same: "hsm" and "ac" in ASCII.
_ADVISORY_LOCK = 0x68736D6163


@dataclass(frozen=True, slots=True)
class ActivationRef:
    """One set of policies as it came into force."""

    number: int
    """From 1."""
    at: datetime
    actor: str
    digest: bytes
    comment: str
    texts: Mapping[str, str]
    restores: int | None
    """The earlier activation whose texts these are, where somebody went back to it."""


def activate(
    session: Session,
    now: datetime,
    actor: str,
    digest: bytes,
    texts: Mapping[str, str],
    comment: str = "",
    restores: int | None = None,
) -> int:
    """Note that these texts are in force from now on; the number of the activation."""
    if session.get_bind().dialect.name == "postgresql":
        # Numbers go up by one, whoever activates at the same time.
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    number = (session.scalar(select(func.max(Activation.number))) or 0) + 1
    row = Activation(
        number=number,
        at=now,
        actor=actor,
        digest=digest,
        comment=comment,
        texts=dict(texts),
        restores=restores,
    )
    session.add(row)
    session.flush()
    detail: dict[str, object] = {"number": number, "digest": digest.hex(), "files": sorted(texts)}
    detail |= {"why": comment} if comment else {}
    detail |= {"restores": restores} if restores is not None else {}
    journal.append(session, now, actor, "activated", "policies", f"{number}", detail)
    return number


def active(session: Session) -> ActivationRef | None:
    """What is in force; None where nothing was ever activated."""
    row = session.scalars(select(Activation).order_by(Activation.number.desc()).limit(1)).one_or_none()
    return None if row is None else _ref(row)


def at(session: Session, moment: datetime) -> ActivationRef | None:
    """What was in force then; None where nothing had been activated yet."""
    query = select(Activation).where(Activation.at <= moment).order_by(Activation.number.desc()).limit(1)
    row = session.scalars(query).one_or_none()
    return None if row is None else _ref(row)


def get(session: Session, number: int) -> ActivationRef:
    """:raises NotFound: there is no such activation."""
    row = session.get(Activation, number)
    if row is None:
        raise NotFound(f"there is no activation {number} of policies")
    return _ref(row)


def history(session: Session, limit: int = 50, before: int | None = None) -> list[ActivationRef]:
    """The activations, the last first; those with a number below ``before``."""
    query = select(Activation).order_by(Activation.number.desc()).limit(limit)
    if before is not None:
        query = query.where(Activation.number < before)
    return [_ref(row) for row in session.scalars(query)]


def _ref(row: Activation) -> ActivationRef:
    texts = {str(name): str(body) for name, body in row.texts.items()}
    return ActivationRef(row.number, row.at, row.actor, row.digest, row.comment, texts, row.restores)
