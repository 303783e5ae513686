"""What forecasts of recalls start from: how long things really took, and what will be wanted when."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Float, Index
from sqlalchemy.orm import Mapped, mapped_column

from hsm.catalog.base import Base, one_of
from hsm.catalog.columns import Key

TIMED = ("mount", "locate", "read")
PREFETCHES = ("planned", "asked", "withdrawn")


class Timing(Base):
    """How long a drive took for something, beside what its model says. The last ones of each sort only."""

    __tablename__ = "timing"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    library: Mapped[str]
    drive: Mapped[int]
    """Element address."""
    kind: Mapped[str]
    seconds: Mapped[float] = mapped_column(Float)
    expected: Mapped[float] = mapped_column(Float)
    """Seconds, by the model of the drive."""
    size: Mapped[int] = mapped_column(BigInteger)
    """Bytes read; 0 for what is not a read."""
    at: Mapped[datetime]

    __table_args__ = (one_of("kind", TIMED), Index("ix_timing_kind", "library", "kind", "pk"))


class Prefetch(Base):
    """What somebody said will be read, and by when it is wanted: a scheduled examination's priors."""

    __tablename__ = "prefetch"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    """The caller's: the same again is the same prefetch."""
    state: Mapped[str]
    wanted: Mapped[dict[str, Any]]
    """Patient and what the priors have in common with the examination, as they were given."""
    begins_at: Mapped[datetime]
    """Its recalls are asked for then."""
    deadline: Mapped[datetime]
    requested_by: Mapped[str]
    created_at: Mapped[datetime]
    found: Mapped[dict[str, Any]]
    """When it began: the studies, and the recalls that it asked for or joined."""
    comment: Mapped[str]

    __table_args__ = (
        one_of("state", PREFETCHES),
        CheckConstraint("begins_at <= deadline", name="begins_at"),
        Index("ix_prefetch_begins", "state", "begins_at"),
    )
