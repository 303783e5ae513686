"""Studies in the trash: put there, taken back, and what lets their last copies go (promise 3).

A deletion hides everything that there is of a study when it is made: its instances, and the packages that
consist of them. What arrives later is not part of it. Nothing is released before its day has come; from then
on the deletion is *due*, and the guard and the database let the copies of its packages go, as long as the
study is neither held nor retained. Rows stay: they are what keeps a scanned cartridge from bringing it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, SQLColumnExpression, exists, func, insert, select, update
from sqlalchemy.orm import Session

from hsm import states
from hsm.catalog import awaiting, hiding, journal, marks, placements
from hsm.catalog.portions import chunks
from hsm.catalog.tables import (
    Copy,
    DeletedPackage,
    Deletion,
    HiddenInstance,
    Instance,
    Package,
    Series,
    Study,
    Volume,
)
from hsm.errors import NotFound, Refused
from hsm.guard import GOOD_VOLUMES
from hsm.states import LIVE_DELETIONS, CopyState, DeletionKind, DeletionState


@dataclass(frozen=True, slots=True)
class DeletionRef:
    """One deletion of a study."""

    pk: int
    study_pk: int
    study_uid: str
    state: DeletionState
    code: str
    reason: str
    made_at: datetime
    made_by: str
    approved_by: str
    due_at: datetime
    refuses: bool
    ended_at: datetime | None
    ended_by: str
    ended_reason: str
    came_since: int
    """Bytes of the study that are no part of it: they came later, and are kept."""


def delete(
    session: Session,
    study_uid: str,
    reason: str,
    due_at: datetime,
    now: datetime,
    by: str,
    *,
    approved_by: str = "",
    refuses: bool = False,
    code: str = "",
    note: str = "",
) -> DeletionRef:
    """Put a study into the trash: peers see nothing of it from now on, and every copy stays until ``due_at``.

    One that is there already, and of which something has come since, goes there anew with all of it: its time
    begins again. To be called first in its transaction.

    :param refuses: what arrives for it from now on is refused.
    :param code: and ``note``: the title and the UID of the rejection note that asks for it.
    :raises NotFound: no such study, or nothing of it is left that is not on its way out.
    :raises BadInput: no reason.
    :raises Refused: it is held or retained, or all of it is in the trash already.
    """
    hiding.lock(session)
    reason = marks.checked_reason(reason)
    pk = marks.study_key(session, study_uid)
    session.execute(select(Study.pk).where(Study.pk == pk).with_for_update())
    kept = marks.kept_by_law(session, pk, now)
    if kept:
        raise Refused(f"study {study_uid} cannot be deleted: {kept}")
    standing = standing_of(session, pk)
    if standing is not None:
        _require_more(session, standing)
        _undo(session, standing, "it is deleted again, with what came since", now, by)
    instances = _loose(session, pk)
    if not instances:
        raise NotFound(f"study {study_uid} was deleted before, and nothing of it has come since")
    row = hiding.stand(
        session,
        pk,
        DeletionKind.TRASH,
        instances,
        now,
        by,
        reason,
        code=code,
        note=note,
        approved_by=approved_by,
        due_at=due_at,
        refuses=refuses,
    )
    packages = _name_packages(session, row)
    _counted(session, pk)
    _tell_deleted(session, get(session, row.pk), packages, len(instances), note)
    return get(session, row.pk)


def _loose(session: Session, study_pk: int) -> Sequence[int]:
    """Instances of a study that are part of no deletion."""
    mine = (
        select(Instance.pk).join(Series, Series.pk == Instance.series_pk).where(Series.study_pk == study_pk)
    )
    return session.scalars(mine.where(of_instance(Instance.pk).is_(None))).all()


def _require_more(session: Session, standing: DeletionRef) -> None:
    """:raises Refused: all of the study is in the trash, or on its way out of it."""
    since = f"study {standing.study_uid} is in the trash since {standing.made_at:%Y-%m-%d}"
    if standing.state is DeletionState.DUE:
        raise Refused(
            f"{since}, and its copies are being released; what has come since can be deleted once they are"
        )
    if not _loose(session, standing.study_pk):
        raise Refused(f"{since} ({standing.made_by}: {standing.reason}), and nothing of it has come since")


def _name_packages(session: Session, row: Deletion) -> int:
    """Note which packages may go with a deletion; how many."""
    packages = session.scalars(
        select(Package.pk).where(Package.study_pk == row.study_pk, ~placements.deleted()).order_by(Package.pk)
    ).all()
    if packages:
        rows = [{"package_pk": package, "deletion_pk": row.pk} for package in packages]
        session.execute(insert(DeletedPackage), rows)
    return len(packages)


def _counted(session: Session, study_pk: int) -> None:
    """Count what is to be seen of a study, and what policies are to know of it, anew."""
    hiding.recount(session, study_pk)
    placements.refresh(session, [study_pk])


def _tell_deleted(session: Session, found: DeletionRef, packages: int, instances: int, note: str) -> None:
    detail: dict[str, Any] = {"why": found.reason, "until": found.due_at.isoformat(timespec="seconds")}
    detail |= {"packages": packages, "instances": instances} | ({"refuses": True} if found.refuses else {})
    said = (("note", note), ("code", found.code), ("approved_by", found.approved_by))
    detail |= {name: text for name, text in said if text}
    journal.append(session, found.made_at, found.made_by, "deleted", "study", found.study_uid, detail)


def undelete(session: Session, study_uid: str, reason: str, now: datetime, by: str) -> DeletionRef:
    """Take a study out of the trash: it is as it was.

    To be called first in its transaction.

    :raises NotFound: no such study, or it is not in the trash.
    :raises BadInput: no reason.
    :raises Refused: its copies are being released, and one package has no good copy any more.
    """
    hiding.lock(session)
    reason = marks.checked_reason(reason)
    pk = marks.study_key(session, study_uid)
    session.execute(select(Study.pk).where(Study.pk == pk).with_for_update())
    found = standing_of(session, pk)
    if found is None:
        raise NotFound(f"study {study_uid} is not in the trash; `hsm study trash` lists what is")
    # Whoever releases a copy locks its package first: what is good now stays so until this is committed.
    packages = select(Package.pk, Package.key).where(Package.study_pk == pk).order_by(Package.pk)
    keys = dict(session.execute(packages.with_for_update()).all())
    if found.state is DeletionState.DUE:
        gone = sorted(set(_packages(session, found.pk)) - _good(session, found.pk))
        if gone:
            raise Refused(
                f"study {study_uid} cannot be brought back whole: its time in the trash ended on "
                f"{found.due_at:%Y-%m-%d}, and {keys[gone[0]]} has no verified copy any more"
            )
    _undo(session, found, reason, now, by)
    if found.code == hiding.EXPIRED:  # it is kept after all, and so is what these notes name and has not come
        awaiting.forget(session, study_uid, code=found.code)
    _counted(session, pk)
    return get(session, found.pk)


def _undo(session: Session, found: DeletionRef, reason: str, now: datetime, by: str) -> None:
    row = session.get_one(Deletion, found.pk)
    states.DELETION.check(found.state, DeletionState.UNDONE)
    row.state, row.ended_at, row.ended_by, row.ended_reason = DeletionState.UNDONE.value, now, by, reason
    session.flush()
    hiding.show(session, found.pk)
    journal.append(session, now, by, "undeleted", "study", found.study_uid, {"why": reason})


def _packages(session: Session, deletion_pk: int) -> Sequence[int]:
    return session.scalars(
        select(DeletedPackage.package_pk)
        .where(DeletedPackage.deletion_pk == deletion_pk)
        .order_by(DeletedPackage.package_pk)
    ).all()


def _good(session: Session, deletion_pk: int) -> set[int]:
    """Packages of a deletion that have a good copy."""
    return set(
        session.scalars(
            select(Copy.package_pk)
            .join(DeletedPackage, DeletedPackage.package_pk == Copy.package_pk)
            .join(Volume, Volume.pk == Copy.volume_pk)
            .where(
                DeletedPackage.deletion_pk == deletion_pk,
                Copy.state == CopyState.VERIFIED,
                Volume.state.in_(GOOD_VOLUMES),
            )
        )
    )


def standing_of(session: Session, study_pk: int) -> DeletionRef | None:
    """The deletion by which a study is in the trash, if it is."""
    return next(
        iter(_refs(session, Deletion.study_pk == study_pk, Deletion.state.in_(LIVE_DELETIONS), limit=1)), None
    )


def get(session: Session, pk: int) -> DeletionRef:
    """:raises NotFound: there is no such deletion of a study."""
    found = _refs(session, Deletion.pk == pk, limit=1)
    if not found:
        raise NotFound(f"deletion {pk} does not exist")
    return found[0]


def trash(session: Session, limit: int, offset: int = 0, *, every: bool = False) -> list[DeletionRef]:
    """Studies in the trash, those whose day comes next first; with ``every`` also what has ended."""
    where = [] if every else [Deletion.state.in_(LIVE_DELETIONS)]
    return _refs(session, *where, limit=limit, offset=offset)


def _refs(session: Session, *where: ColumnElement[bool], limit: int, offset: int = 0) -> list[DeletionRef]:
    rows = session.execute(
        select(Deletion, Study.uid, Study.n_bytes)
        .join(Study, Study.pk == Deletion.study_pk)
        .where(Deletion.kind == DeletionKind.TRASH, *where)
        .order_by(Deletion.due_at, Deletion.pk)
        .limit(limit)
        .offset(offset)
        .execution_options(populate_existing=True)
    )
    found = []
    for row, uid, n_bytes in rows:
        assert row.due_at is not None  # the database says so of the trash
        found.append(
            DeletionRef(
                *(row.pk, row.study_pk, uid, DeletionState(row.state), row.code, row.reason),
                *(row.made_at, row.made_by, row.approved_by, row.due_at, row.refuses),
                *(
                    row.ended_at,
                    row.ended_by,
                    row.ended_reason,
                    int(n_bytes) if row.state in LIVE_DELETIONS else 0,
                ),
            )
        )
    return found


def of_instance(instance_pk: SQLColumnExpression[int]) -> ColumnElement[int | None]:
    """The deletion that put an instance into the trash; null where none did."""
    return (
        select(func.min(HiddenInstance.deletion_pk))
        .join(Deletion, Deletion.pk == HiddenInstance.deletion_pk)
        .where(HiddenInstance.instance_pk == instance_pk, Deletion.kind == DeletionKind.TRASH)
        .scalar_subquery()
    )


def sealed(session: Session, package_pk: int, instance_pks: Sequence[int]) -> None:
    """A package has been sealed: it is part of the deletion that its instances are part of.

    :raises ValueError: some of them are part of one and others are not.
    """
    of: set[int | None] = set()
    for some in chunks(instance_pks):
        of |= set(session.scalars(select(of_instance(Instance.pk)).where(Instance.pk.in_(some)).distinct()))
    if len(of) > 1:
        raise ValueError("some of its instances were deleted, or undeleted, while they were sealed")
    for deletion_pk in of - {None}:
        session.execute(insert(DeletedPackage), [{"package_pk": package_pk, "deletion_pk": deletion_pk}])


def due(session: Session, now: datetime, limit: int) -> list[DeletionRef]:
    """Deletions whose day has come, those being released among them."""
    return _refs(session, Deletion.state.in_(LIVE_DELETIONS), Deletion.due_at <= now, limit=limit)


def make_due(session: Session, pk: int, now: datetime, by: str) -> str:
    """Let the copies of a deletion's packages go, if nothing forbids it now; why not otherwise.

    What waits to be sealed is sealed first: it is in no package that could be named.
    """
    found = get(session, pk)
    if found.state not in LIVE_DELETIONS or found.due_at > now:
        return "it is not due"
    kept = marks.kept_by_law(session, found.study_pk, now)
    if kept:
        return kept
    unsealed = exists().where(
        HiddenInstance.deletion_pk == pk,
        Instance.pk == HiddenInstance.instance_pk,
        Instance.package_pk.is_(None),
    )
    if session.scalar(select(unsealed)):
        return "some of it is in no package yet"
    session.execute(
        update(Deletion).where(Deletion.pk == pk).values(state=DeletionState.DUE.value, checked_at=now)
    )
    if found.state is DeletionState.STANDING:
        detail: dict[str, Any] = {"why": found.reason, "deleted_at": found.made_at.isoformat()}
        journal.append(session, now, by, "deletion due", "study", found.study_uid, detail)
    return ""


def grown(session: Session) -> int:
    """Studies in the trash of which something has come since they were deleted."""
    query = select(func.count()).select_from(Deletion).join(Study, Study.pk == Deletion.study_pk)
    live = (Deletion.kind == DeletionKind.TRASH, Deletion.state.in_(LIVE_DELETIONS))
    # A study's bytes are counted as long as no deletion hides them.
    return session.scalar(query.where(*live, Study.n_bytes > 0)) or 0


def counts(session: Session) -> dict[str, int]:
    """Studies in the trash, those of them that are being released or of which something has come since, and
    instances that notes have rejected."""
    rows = dict(
        session.execute(
            select(Deletion.state, func.count())
            .where(Deletion.kind == DeletionKind.TRASH, Deletion.state.in_(LIVE_DELETIONS))
            .group_by(Deletion.state)
        ).all()
    )
    rejected = session.scalar(
        select(func.count(HiddenInstance.instance_pk.distinct()))
        .join(Deletion, Deletion.pk == HiddenInstance.deletion_pk)
        .where(Deletion.kind == DeletionKind.REJECTION)
    )
    return {
        "in_trash": sum(rows.values()),
        "due": rows.get(DeletionState.DUE.value, 0),
        "grown": grown(session),
        "rejected_instances": rejected or 0,
        "awaited_rejections": awaiting.count(session),
    }
