"""Commands that wait for a second person."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from hsm import states
from hsm.catalog.base import Base, one_of
from hsm.catalog.columns import Key


class Approval(Base):
    """A command that one person asked for and another one must agree to."""

    __tablename__ = "approval"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    state: Mapped[str]
    command: Mapped[str]
    """What the configuration calls it: ``volume lost``."""
    asked: Mapped[str]
    """The call with all its parameters, as canonical JSON: just this is executed."""
    digest: Mapped[str]
    """SHA-256 of ``asked``, in hexadecimal."""
    asked_at: Mapped[datetime] = mapped_column(index=True)
    asked_by: Mapped[str]
    asked_person: Mapped[str]
    """Who that is to the kernel or by a token, whatever name was given."""
    expires_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str]
    decided_person: Mapped[str]
    reason: Mapped[str]
    """Why it was refused."""
    outcome: Mapped[str]
    """What came of it: the answer as JSON, or the error."""

    __table_args__ = (
        one_of("state", states.APPROVAL.names()),
        CheckConstraint("(state = 'waiting') = (decided_at IS NULL)", name="decided"),
        # Not even by a mistake above the database.
        CheckConstraint("state IN ('waiting', 'refused') OR decided_person <> asked_person", name="persons"),
    )
