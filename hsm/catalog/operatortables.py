"""What a person is asked to do and did: mount requests, notices about them, cartridges on their way."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, SmallInteger, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from hsm import states
from hsm.catalog.base import Base, one_of, values, where
from hsm.catalog.columns import Key

OUTCOMES = ("", *values(states.Outcome))


class MountRequest(Base):
    """A volume that a person is asked to bring: a prompt."""

    __tablename__ = "mount_request"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    volume_pk: Mapped[int] = mapped_column(ForeignKey("volume.pk"))
    state: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger)
    created_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    answered_by: Mapped[str]
    comment: Mapped[str]
    acked_at: Mapped[datetime | None]
    acked_by: Mapped[str] = mapped_column(server_default="")
    """Who said last that they are on their way."""
    acked_until: Mapped[datetime | None]
    """From then on nobody is taken to be on the way."""
    outcome: Mapped[str] = mapped_column(server_default="")
    """How it was answered; empty while it is open, and for those of before there were outcomes."""
    instead_pk: Mapped[int | None] = mapped_column(ForeignKey("volume.pk"))
    """The volume that is used instead."""
    note: Mapped[str] = mapped_column(server_default="")
    """What whoever goes should know: that somebody has looked for it before, that it is the only copy."""

    __table_args__ = (
        one_of("state", states.MOUNT.names()),
        one_of("outcome", OUTCOMES),
        where("uq_mount_request_open", "state = 'open'", "volume_pk", unique=True),
    )


class Notice(Base):
    """What was sent about a mount request by one step of the escalation: one row, however often."""

    __tablename__ = "notice"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    mount_pk: Mapped[int] = mapped_column(ForeignKey("mount_request.pk", ondelete="CASCADE"))
    step: Mapped[str]
    """The step's moment and channel: ``10m operator-mail``."""
    channel: Mapped[str]
    state: Mapped[str]
    sent: Mapped[int]
    """How often it was delivered."""
    attempts: Mapped[int] = mapped_column(SmallInteger)
    """Since it was last delivered."""
    last_at: Mapped[datetime | None]
    """When it was last delivered."""
    next_at: Mapped[datetime]
    """When it is looked at again; while one is sent, until when nobody else sends it."""
    error: Mapped[str]

    __table_args__ = (UniqueConstraint("mount_pk", "step"), one_of("state", states.NOTICE.names()))


class Movement(Base):
    """A cartridge's way out of a library or back into one, in two phases."""

    __tablename__ = "movement"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    list_number: Mapped[int]
    """The number of the pick list that it is on."""
    volume_pk: Mapped[int] = mapped_column(ForeignKey("volume.pk"), index=True)
    kind: Mapped[str]
    state: Mapped[str]
    origin: Mapped[str]
    """Where it stood when this was planned, in an operator's words."""
    library: Mapped[str]
    """The library that it leaves or goes to."""
    site: Mapped[str]
    """Where it goes, or (on the way back) came from; empty for the library's own site."""
    shelf: Mapped[str]
    planned_at: Mapped[datetime]
    planned_by: Mapped[str]
    left_at: Mapped[datetime | None]
    left_by: Mapped[str]
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str]
    comment: Mapped[str]

    __table_args__ = (
        one_of("kind", values(states.MovementKind)),
        one_of("state", states.MOVEMENT.names()),
        CheckConstraint("(state IN ('arrived', 'undone')) = (ended_at IS NOT NULL)", name="ended"),
        CheckConstraint("state IN ('planned', 'undone') OR left_at IS NOT NULL", name="left"),
        where("uq_movement_open", "state IN ('planned', 'left')", "volume_pk", unique=True),
    )
