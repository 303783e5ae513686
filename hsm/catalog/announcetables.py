"""What peers were told about studies, and how far the journal has been followed for it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from hsm.catalog.base import Base, where
from hsm.catalog.columns import Key


class Announced(Base):
    """How available a study was when its peers were last told. A study without a row lies online."""

    __tablename__ = "announced"

    study_pk: Mapped[int] = mapped_column(Key, ForeignKey("study.pk", ondelete="CASCADE"), primary_key=True)
    picture: Mapped[str]
    """The availability of each of its packages, shortened: another one is news."""
    staged: Mapped[bool]
    """Some of it lay in the staging area, from which it goes without a record in the journal."""
    at: Mapped[datetime]

    __table_args__ = (where("ix_announced_staged", "staged", "study_pk"),)


class Followed(Base):
    """How far somebody has read the journal."""

    __tablename__ = "followed"

    name: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)
    """The last record that was dealt with."""
