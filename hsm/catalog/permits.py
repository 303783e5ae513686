"""What lets the last copy of a package go, as :mod:`hsm.catalog.deletions` has written it down."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hsm.catalog.tables import DeletedPackage, Deletion, Study
from hsm.guard import CopyFact, Permit
from hsm.states import DeletionKind, DeletionState


def permit(session: Session, package_pk: int) -> Permit | None:
    """What lets the last copy of a package go, as long as nothing forbids it; None where nothing does."""
    row = session.execute(
        select(Deletion.made_at, Deletion.made_by, Deletion.due_at)
        .join(DeletedPackage, DeletedPackage.deletion_pk == Deletion.pk)
        .where(
            DeletedPackage.package_pk == package_pk,
            Deletion.state.in_((DeletionState.DUE, DeletionState.PURGED)),
            Deletion.due_at <= Deletion.checked_at,
        )
        .limit(1)
    ).first()
    return None if row is None else Permit(row[0], row[1], row[2] or row[0])


def ended(session: Session, package_pk: int) -> str:
    """Why a package does not come back; empty where it may."""
    found = permit(session, package_pk)
    return "" if found is None else f"its study was deleted on {found.made_at:%Y-%m-%d} by {found.made_by}"


def deleted_since(session: Session, study_uid: str, sealed_at: datetime) -> str:
    """Why a package that is not in the catalog does not come into it: its study was deleted after it was
    sealed; empty where it was not."""
    row = session.execute(
        select(Deletion.made_at, Deletion.made_by)
        .join(Study, Study.pk == Deletion.study_pk)
        .where(
            Study.uid == study_uid,
            Deletion.kind == DeletionKind.TRASH,
            Deletion.state != DeletionState.UNDONE,
            Deletion.made_at >= sealed_at,
        )
        .order_by(Deletion.pk.desc())
        .limit(1)
    ).first()
    return "" if row is None else f"its study was deleted on {row[0]:%Y-%m-%d} by {row[1]}"


def in_trash(session: Session, package_pk: int) -> str:
    """Why no copy of a package is released now: it is in the trash, whole; empty where it is not."""
    due_at = _until(session, [package_pk]).get(package_pk)
    return (
        "" if due_at is None else f"the study is in the trash until {due_at:%Y-%m-%d}, where every copy stays"
    )


def trashed(session: Session, package_pks: Sequence[int]) -> set[int]:
    """Those of these packages (some hundreds) that are in the trash, and whose day has not come."""
    return set(_until(session, package_pks))


def _until(session: Session, package_pks: Sequence[int]) -> dict[int, datetime | None]:
    rows = session.execute(
        select(DeletedPackage.package_pk, Deletion.due_at)
        .join(Deletion, Deletion.pk == DeletedPackage.deletion_pk)
        .where(DeletedPackage.package_pk.in_(package_pks), Deletion.state == DeletionState.STANDING)
    )
    return {row[0]: row[1] for row in rows}


def carried(copy: CopyFact, others: Iterable[CopyFact], emptied: Collection[int]) -> bool:
    """Whether a copy of what is in the trash may leave its volume: that is being emptied, and another
    verified one is on a good volume that is not. Whoever empties it makes that copy first."""
    return copy.volume_pk in emptied and any(
        other.good and other.volume_pk not in emptied for other in others if other.copy_pk != copy.copy_pk
    )
