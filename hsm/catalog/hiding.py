"""What is hidden from peers: conditions for queries, and counters that say what is left to see.

A study without anything to see has ``n_instances`` 0, a series likewise: so queries for studies and series
ask no other table. Bytes are counted as long as no deletion of the whole study hides them: what is rejected
is kept, copied and migrated like everything else.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, exists, func, insert, select, text, update
from sqlalchemy.orm import Session

from hsm.catalog.ingest import join_modalities
from hsm.catalog.portions import chunks
from hsm.catalog.tables import DeletedPackage, Deletion, HiddenInstance, Instance, Series, Study
from hsm.states import DeletionKind, DeletionState

QUALITY = "113001"
"""Code Value of the title Rejected for Quality Reasons: some peers may see what it hides."""
SAFETY, WORKLIST, EXPIRED = "113037", "113038", "113039"
TITLES: Mapping[str, str] = MappingProxyType(
    {
        QUALITY: "Rejected for Quality Reasons",
        SAFETY: "Rejected for Patient Safety Reasons",
        WORKLIST: "Incorrect Modality Worklist Entry",
        EXPIRED: "Data Retention Policy Expired",
    }
)
"""Titles of rejection notes (PS3.16 CID 7011): Code Value -> Code Meaning, of the coding scheme DCM."""

# Any constant will do, as long as all nodes use the same: "hsm" and "h" in ASCII.
_ADVISORY_LOCK = 0x68736D68
SHARED_LOCK = f"SELECT pg_advisory_xact_lock_shared({_ADVISORY_LOCK})"
"""PostgreSQL: whoever decides what becomes of an arriving instance keeps others from hiding it meanwhile."""


class Concealment(enum.IntFlag):
    """How a version of an instance is hidden, if it is."""

    SHOWN = 0
    DELETED = 1  # its study went into the trash
    CLOSED = 2  # and nothing of the study is to come again
    REJECTED = 4  # a rejection note names it


def lock(session: Session) -> None:
    """Keep arrivals out until the transaction ends. First thing in it: they lock studies after this."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))


def stand(
    session: Session,
    study_pk: int,
    kind: DeletionKind,
    instances: Iterable[int],
    now: datetime,
    by: str,
    reason: str,
    *,
    code: str = "",
    note: str = "",
    approved_by: str = "",
    due_at: datetime | None = None,
    refuses: bool = False,
) -> Deletion:
    """A deletion or rejection of a study begins to stand: these instances are hidden by it."""
    row = Deletion(
        study_pk=study_pk,
        kind=kind.value,
        state=DeletionState.STANDING.value,
        code=code,
        note=note,
        reason=reason,
        made_at=now,
        made_by=by,
        approved_by=approved_by,
        due_at=due_at,
        refuses=refuses,
        checked_at=None,
        ended_at=None,
        ended_by="",
        ended_reason="",
    )
    session.add(row)
    session.flush()
    hide(session, row.pk, instances)
    return row


def hidden(instance: Any = Instance, *, sees_rejected: bool = False) -> ColumnElement[bool]:
    """The instance is hidden.

    :param sees_rejected: from somebody who may see what was rejected for quality reasons.
    """
    found = exists().where(HiddenInstance.instance_pk == instance.pk)
    if not sees_rejected:
        return found
    return found.where(Deletion.pk == HiddenInstance.deletion_pk, Deletion.code != QUALITY)


def concealment(instance_pk: ColumnElement[int]) -> ColumnElement[int | None]:
    """How an instance is hidden; null where it is not."""
    flags = (
        (Deletion.kind == DeletionKind.TRASH, Concealment.DELETED),
        (Deletion.refuses, Concealment.CLOSED),
        (Deletion.kind == DeletionKind.REJECTION, Concealment.REJECTED),
    )
    worth = [func.max(case((condition, int(flag)), else_=0)) for condition, flag in flags]
    return (
        select(worth[0] + worth[1] + worth[2])
        .select_from(HiddenInstance)
        .join(Deletion, Deletion.pk == HiddenInstance.deletion_pk)
        .where(HiddenInstance.instance_pk == instance_pk)
        .scalar_subquery()
    )


def hide(session: Session, deletion_pk: int, instance_pks: Iterable[int]) -> None:
    """Hide these instances. The caller counts again."""
    for some in chunks(instance_pks):
        rows = [{"instance_pk": pk, "deletion_pk": deletion_pk} for pk in some]
        session.execute(insert(HiddenInstance), rows)


def show(session: Session, deletion_pk: int) -> None:
    """A deletion that was undone hides nothing any more. The caller counts again."""
    for table in (HiddenInstance, DeletedPackage):
        session.execute(delete(table).where(table.deletion_pk == deletion_pk))


def recount(session: Session, study_pk: int) -> None:
    """Make a study's counters and those of its series what is to be seen of them."""
    mine = and_(Instance.series_pk == Series.pk, ~hidden())
    counted = select(func.count(Instance.uid.distinct())).where(mine).scalar_subquery()
    session.execute(
        update(Series)
        .where(Series.study_pk == study_pk)
        .values(n_instances=counted)
        .execution_options(synchronize_session=False)
    )
    rows = session.execute(
        select(Series.n_instances, Series.modality).where(Series.study_pk == study_pk, Series.n_instances > 0)
    ).all()
    in_trash = exists().where(
        HiddenInstance.instance_pk == Instance.pk,
        Deletion.pk == HiddenInstance.deletion_pk,
        Deletion.kind == DeletionKind.TRASH,
    )
    kept = session.scalar(
        select(func.coalesce(func.sum(Instance.size), 0))
        .join(Series, Series.pk == Instance.series_pk)
        .where(Series.study_pk == study_pk, ~in_trash)
    )
    session.execute(
        update(Study)
        .where(Study.pk == study_pk)
        .values(
            n_instances=sum(count for count, _ in rows),
            n_series=len(rows),
            n_bytes=int(kept or 0),
            modalities=join_modalities({modality for _, modality in rows}),
        )
        .execution_options(synchronize_session=False)
    )


def rejected(session: Session, study_pk: int) -> int:
    """Instances of a study that rejection notes hide."""
    query = (
        select(func.count(Instance.uid.distinct()))
        .join(HiddenInstance, HiddenInstance.instance_pk == Instance.pk)
        .join(Deletion, Deletion.pk == HiddenInstance.deletion_pk)
        .where(Deletion.study_pk == study_pk, Deletion.kind == DeletionKind.REJECTION)
    )
    return session.scalar(query) or 0


def was_deleted() -> ColumnElement[bool]:
    """The study was put into the trash, and not taken back."""
    return exists().where(
        Deletion.study_pk == Study.pk,
        Deletion.kind == DeletionKind.TRASH,
        Deletion.state != DeletionState.UNDONE,
    )
