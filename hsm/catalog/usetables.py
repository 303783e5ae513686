"""Drives as the catalog knows them, and what each has done with each cartridge."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from hsm.catalog.base import Base
from hsm.catalog.columns import Key


class Drive(Base):
    """A drive of a library that a session has used, or that a person has taken out of service."""

    __tablename__ = "drive"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    library: Mapped[str]
    address: Mapped[int]
    """Element address."""
    in_service: Mapped[bool]
    reason: Mapped[str]
    """Why it is in that state."""
    changed_at: Mapped[datetime]
    """When it came into that state: errors before it say nothing about it now."""
    changed_by: Mapped[str]

    __table_args__ = (UniqueConstraint("library", "address"),)


class DriveUse(Base):
    """What one drive has done with one cartridge, in all, and whether it works now."""

    __tablename__ = "drive_use"

    drive_pk: Mapped[int] = mapped_column(ForeignKey("drive.pk"), primary_key=True)
    volume_pk: Mapped[int] = mapped_column(ForeignKey("volume.pk"), primary_key=True, index=True)
    sessions: Mapped[int]
    writes: Mapped[int]
    """Packages written."""
    reads: Mapped[int]
    """Packages read, reading back included."""
    bytes_written: Mapped[int] = mapped_column(BigInteger)
    bytes_read: Mapped[int] = mapped_column(BigInteger)
    soft_errors: Mapped[int] = mapped_column(BigInteger)
    """Errors that the drive corrected, as it counts them."""
    hard_errors: Mapped[int]
    """Writes, reads and loads that failed."""
    alerts: Mapped[int]
    """TapeAlert flags that were raised."""
    failing: Mapped[int]
    """Hard errors since the last session of the two without one."""
    last_at: Mapped[datetime]
    last_error: Mapped[str]
