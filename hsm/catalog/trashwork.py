"""What the end of a deletion takes: requests that end with it, copies that are left, where bytes remain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session, aliased

from hsm import states
from hsm.catalog import deletions, journal, marks, queue, volumelife
from hsm.catalog.deletions import DeletionRef
from hsm.catalog.tables import Copy, DeletedPackage, Deletion, Package, Request, Study, Volume
from hsm.states import LIVE_REQUESTS, CopyState, DeletionState, RequestKind, RequestState

ENDS_AT_ONCE = (RequestKind.RECALL, RequestKind.RELEASE)
"""Requests that a study's deletion ends: nobody may read it, and every copy stays."""
PURGE = "purge:"
"""How the key of a release begins that a deletion has asked for."""


def withdraw(session: Session, study_pk: int, now: datetime, by: str) -> None:
    """Cancel what must not be done for a study that has just gone into the trash, and nobody has begun."""
    rows = session.execute(
        select(Request.pk, Request.state).where(
            Request.study_pk == study_pk,
            Request.kind.in_(ENDS_AT_ONCE),
            Request.state.in_((RequestState.QUEUED, RequestState.WAITING)),
        )
    ).all()
    for pk, _ in rows:
        queue.cancel(session, pk, now, by)


def end_requests(session: Session, deletion_pk: int, now: datetime, by: str) -> bool:
    """Cancel what waits for the packages of a deletion that is due; whether somebody works on one.

    The deletion's own releases go on.
    """
    rows = session.execute(
        select(Request.pk, Request.state)
        .join(DeletedPackage, DeletedPackage.package_pk == Request.package_pk)
        .where(
            DeletedPackage.deletion_pk == deletion_pk,
            Request.state.in_(LIVE_REQUESTS),
            ~Request.key.startswith(PURGE),
        )
        .order_by(Request.pk)
    ).all()
    for pk, state in rows:
        if state != RequestState.ACTIVE:
            queue.cancel(session, pk, now, by)
    return any(state == RequestState.ACTIVE for _, state in rows)


def still_due(session: Session, deletion_pk: int) -> bool:
    """Whether a deletion is due and nobody else ends it: it is locked."""
    query = select(Deletion.pk).where(Deletion.pk == deletion_pk, Deletion.state == DeletionState.DUE)
    return session.scalar(query.with_for_update()) is not None


def package_keys(session: Session, deletion_pk: int) -> list[str]:
    """Names of a deletion's packages."""
    rows = session.scalars(
        select(Package.key)
        .join(DeletedPackage, DeletedPackage.package_pk == Package.pk)
        .where(DeletedPackage.deletion_pk == deletion_pk)
        .order_by(Package.pk)
    )
    return list(rows)


def sizes(session: Session, deletion_pks: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Packages of each deletion, and their bytes."""
    rows = session.execute(
        select(DeletedPackage.deletion_pk, func.count(), func.sum(Package.size))
        .join(Package, Package.pk == DeletedPackage.package_pk)
        .where(DeletedPackage.deletion_pk.in_(deletion_pks))
        .group_by(DeletedPackage.deletion_pk)
    )
    return {pk: (count, int(size)) for pk, count, size in rows}


def kept(session: Session, found: Iterable[DeletionRef], now: datetime) -> dict[int, str]:
    """Why each of these deletions would not come to its end now; empty where nothing forbids it."""
    live = [each for each in found if each.ended_at is None]
    return {each.pk: marks.kept_by_law(session, each.study_pk, now) for each in live}


@dataclass(frozen=True, slots=True)
class Left:
    """A copy of a deleted package that still stands for bytes."""

    copy_pk: int
    package_pk: int
    study_pk: int
    package: str
    volume_pk: int
    volume: str
    pool: str | None
    removable: bool
    worm: bool

    @property
    def end(self) -> str:
        """What must happen to the volume before its bytes are gone."""
        return "destroyed" if self.worm else "repacked and written over, or destroyed"


def left(session: Session, deletion_pk: int | None = None, limit: int = 1000) -> list[Left]:
    """Copies that a deletion still lets go; without one, those of deletions that were through: their volume
    was found again."""
    which = (
        (Deletion.pk == deletion_pk, Deletion.state == DeletionState.DUE)
        if deletion_pk is not None
        else (Deletion.state == DeletionState.PURGED,)
    )
    rows = session.execute(
        select(
            *(Copy.pk, Package.pk, Package.study_pk, Package.key),
            *(Volume.pk, Volume.name, Volume.pool, Volume.removable, Volume.worm),
        )
        .select_from(Deletion)
        .join(DeletedPackage, DeletedPackage.deletion_pk == Deletion.pk)
        .join(Package, Package.pk == DeletedPackage.package_pk)
        .join(Copy, Copy.package_pk == Package.pk)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(*which, Copy.state.in_(volumelife.LIVE))
        .order_by(Copy.pk)
        .limit(limit)
    )
    return [Left(*tuple[Any, ...](row)) for row in rows]


@dataclass(frozen=True, slots=True)
class Failed:
    """A release that a deletion has asked for and that failed for good, with its copy still there."""

    request_pk: int
    study_uid: str
    volume: str
    error: str
    asked_at: datetime


def failed(session: Session, study_pks: Sequence[int] | None = None, limit: int = 1000) -> list[Failed]:
    """Releases that failed, and have not been asked for again, the first first.

    :param study_pks: of these studies (some hundreds) only.
    """
    later = aliased(Request)
    newer = exists().where(later.key == Request.key, later.pk > Request.pk)
    which = [] if study_pks is None else [Request.study_pk.in_(study_pks)]
    rows = session.execute(
        select(Request.pk, Study.uid, Volume.name, Request.error, Request.created_at)
        .join(Study, Study.pk == Request.study_pk)
        .join(Volume, Volume.pk == Request.volume_pk)
        .join(Copy, (Copy.package_pk == Request.package_pk) & (Copy.volume_pk == Request.volume_pk))
        .where(
            Request.state == RequestState.FAILED,
            Request.key.startswith(PURGE),
            Copy.state.in_(volumelife.LIVE),
            ~newer,
            *which,
        )
        .order_by(Request.pk)
        .limit(limit)
    )
    return [Failed(*tuple[Any, ...](row)) for row in rows]


def remains(session: Session, deletion_pk: int) -> list[str]:
    """Removable volumes on which bytes of a deletion's packages lie until they are written over or destroyed,
    and lost volumes that may hold some."""
    rows = session.scalars(
        select(Volume.name)
        .join(Copy, Copy.volume_pk == Volume.pk)
        .join(DeletedPackage, DeletedPackage.package_pk == Copy.package_pk)
        .where(
            DeletedPackage.deletion_pk == deletion_pk,
            (Volume.removable & Volume.state.not_in(("recycled", "scratch")))
            | (Copy.state == CopyState.LOST),
            Copy.written_at.is_not(None),
        )
        .distinct()
        .order_by(Volume.name)
    )
    return list(rows)


def lies_on(session: Session, deletion_pk: int) -> list[str]:
    """The volumes on which copies of a deletion's packages stand for bytes."""
    rows = session.scalars(
        select(Volume.name)
        .join(Copy, Copy.volume_pk == Volume.pk)
        .join(DeletedPackage, DeletedPackage.package_pk == Copy.package_pk)
        .where(DeletedPackage.deletion_pk == deletion_pk, Copy.state.in_(volumelife.LIVE))
        .distinct()
        .order_by(Volume.name)
    )
    return list(rows)


def purged(session: Session, pk: int, now: datetime, by: str) -> list[str]:
    """No copy counts any more: the deletion is through. The volumes on which bytes remain."""
    found = deletions.get(session, pk)
    states.DELETION.check(found.state, DeletionState.PURGED)
    volumes = remains(session, pk)
    session.execute(
        update(Deletion)
        .where(Deletion.pk == pk)
        .values(state=DeletionState.PURGED.value, ended_at=now, ended_by=by, ended_reason="all released")
    )
    detail: dict[str, Any] = {"why": found.reason, "deleted_by": found.made_by, "bytes_remain_on": volumes}
    journal.append(session, now, by, "purged", "study", found.study_uid, detail)
    return volumes
