"""The tables behind deletion: who deleted or rejected what, what that hides, and which packages may end."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, false
from sqlalchemy.orm import Mapped, mapped_column

from hsm import states
from hsm.catalog.base import Base, one_of, values, where
from hsm.catalog.columns import Key, PackedUid


class Deletion(Base):
    """A study that was put into the trash, or instances that a rejection note took out of use.

    While it stands (or is due) its instances are hidden from peers. Only one that is *due* lets the
    last copies of its packages go; it stays on record as what proves that they were allowed to.
    """

    __tablename__ = "deletion"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    study_pk: Mapped[int] = mapped_column(ForeignKey("study.pk"), index=True)
    kind: Mapped[str]
    state: Mapped[str]
    code: Mapped[str]
    """Code Value of the rejection note's title (CID 7011); empty where no note asked."""
    note: Mapped[str]
    """SOP Instance UID of the rejection note; empty where none asked."""
    reason: Mapped[str]
    made_at: Mapped[datetime]
    made_by: Mapped[str]
    approved_by: Mapped[str]
    """The second person; empty where none was needed."""
    due_at: Mapped[datetime | None]
    """When its copies may go; None for a rejection, whose copies stay."""
    refuses: Mapped[bool] = mapped_column(server_default=false())
    """Whether what arrives for the study from now on is refused."""
    checked_at: Mapped[datetime | None]
    """When it was last found that its day has come and neither hold nor retention forbids it."""
    ended_at: Mapped[datetime | None]
    """When it was undone, or the last of its copies was released."""
    ended_by: Mapped[str]
    ended_reason: Mapped[str]

    __table_args__ = (
        one_of("kind", values(states.DeletionKind)),
        one_of("state", states.DELETION.names()),
        CheckConstraint("(state IN ('undone', 'purged')) = (ended_at IS NOT NULL)", name="ended"),
        CheckConstraint("(kind = 'trash') = (due_at IS NOT NULL)", name="due_at"),
        CheckConstraint("kind = 'trash' OR state IN ('standing', 'undone')", name="rejected"),
        where("uq_deletion_trash", "kind = 'trash' AND ended_at IS NULL", "study_pk", unique=True),
        where("ix_deletion_due", "kind = 'trash' AND ended_at IS NULL", "due_at"),
    )


class HiddenInstance(Base):
    """An instance that a deletion hides; it is shown again when no row names it."""

    __tablename__ = "hidden_instance"

    instance_pk: Mapped[int] = mapped_column(ForeignKey("instance.pk"), primary_key=True)
    deletion_pk: Mapped[int] = mapped_column(ForeignKey("deletion.pk"), primary_key=True)

    __table_args__ = (Index("ix_hidden_instance_deletion_pk", "deletion_pk"),)


class DeletedPackage(Base):
    """A package all of whose instances went with a deletion."""

    __tablename__ = "deleted_package"

    package_pk: Mapped[int] = mapped_column(ForeignKey("package.pk"), primary_key=True)
    deletion_pk: Mapped[int] = mapped_column(ForeignKey("deletion.pk"), primary_key=True)

    __table_args__ = (Index("ix_deleted_package_deletion_pk", "deletion_pk"),)


class AwaitedRejection(Base):
    """An instance that a rejection note names and that has not come yet. It is hidden when it comes.

    No keys of other rows: neither its series nor its study need be there.
    """

    __tablename__ = "awaited_rejection"

    uid: Mapped[str] = mapped_column(PackedUid, primary_key=True)
    series_uid: Mapped[str] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(primary_key=True, index=True)
    note: Mapped[str] = mapped_column(primary_key=True)
    """SOP Instance UID of the rejection note."""
    code: Mapped[str]
    """Code Value of its title (CID 7011)."""
    made_at: Mapped[datetime]
    made_by: Mapped[str]
