"""Instances as values: where each lies in its package, and in which order they are viewed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Select, SQLColumnExpression, func, select
from sqlalchemy.orm import Session

from hsm.availability import Room
from hsm.catalog import hiding
from hsm.catalog.placement import PackageRef
from hsm.catalog.portions import chunks
from hsm.catalog.tables import Instance, Journal, Name, Package, Series, Study
from hsm.model import InstanceRef

DAMAGED = "instance damaged"
"""Verb of the journal."""
DAMAGED_MAX = 10_000
_CLASS = Name.__table__.alias("class_name")
_SYNTAX = Name.__table__.alias("syntax_name")


def instance_columns() -> Select[
    tuple[int, str, str, str, int, int, bytes, str, str, int | None, int | None]
]:
    """A SELECT of the fields of :class:`InstanceRef` in their order, joined up to the study."""
    return (
        select(
            Instance.pk,
            Instance.uid,
            _CLASS.c.uid,
            _SYNTAX.c.uid,
            Instance.version,
            Instance.size,
            Instance.digest,
            Study.uid,
            Series.uid,
            Instance.package_pk,
            Instance.offset,
        )
        .join(Series, Series.pk == Instance.series_pk)
        .join(Study, Study.pk == Series.study_pk)
        .join(_CLASS, _CLASS.c.pk == Instance.class_pk)
        .join(_SYNTAX, _SYNTAX.c.pk == Instance.syntax_pk)
    )


def instances(session: Session, pks: Sequence[int]) -> dict[int, InstanceRef]:
    """These instances as the catalog has them now, by key."""
    found = [
        InstanceRef(*tuple[Any, ...](columns))
        for some in chunks(pks)
        for columns in session.execute(instance_columns().where(Instance.pk.in_(some)))
    ]
    return {instance.pk: instance for instance in found}


def instances_in(session: Session, package: PackageRef) -> list[InstanceRef]:
    """A package's instances. Through their study: no index leads from packages to instances."""
    rows = session.execute(
        instance_columns().where(Series.study_pk == package.study_pk, Instance.package_pk == package.pk)
    )
    return [InstanceRef(*tuple[Any, ...](columns)) for columns in rows]


def too_large(session: Session, room: Room) -> tuple[int, int, int]:
    """What could not come back through the staging area, if no disk had it: how many studies have such
    instances, how many instances these are, and bytes of the largest."""
    large = select(Package.study_pk).where(Package.size > room.package)
    query = select(func.count(Series.study_pk.distinct()), func.count(), func.max(Instance.size))
    query = query.select_from(Instance).join(Series, Series.pk == Instance.series_pk)
    query = query.join(Package, Package.pk == Instance.package_pk)
    query = query.where(Series.study_pk.in_(large), Package.size > room.package)
    studies, count, largest = session.execute(query.where(Instance.size > room.instance)).one()
    return studies, count, largest or 0


def every_version(session: Session, sop_instance_uids: Sequence[str]) -> list[InstanceRef]:
    """What there is to be seen of these SOP Instance UIDs, whatever study and version, by key."""
    found = []
    for some in chunks(sop_instance_uids):
        query = instance_columns().where(Instance.uid.in_(some), ~hiding.hidden()).order_by(Instance.pk)
        found += [InstanceRef(*tuple[Any, ...](row)) for row in session.execute(query)]
    return found


def every_unsealed(session: Session) -> Iterator[InstanceRef]:
    """All instances that are in no package, study by study."""
    for study_pk in session.scalars(select(Study.pk).where(Study.unsealed > 0)).all():
        rows = session.execute(
            instance_columns().where(Series.study_pk == study_pk, Instance.package_pk.is_(None))
        )
        for columns in rows:
            yield InstanceRef(*tuple[Any, ...](columns))


def viewing_order() -> tuple[SQLColumnExpression[Any], ...]:
    """Series number, instance number, then UIDs so that the order is total."""
    return (
        Series.number.nulls_last(),
        Series.uid,
        Instance.number.nulls_last(),
        Instance.uid,
        Instance.version,
    )


def damaged_unsealed(session: Session) -> list[str]:
    """SOP Instance UIDs of what is in no package yet and was read as other bytes than were stored: no copy is
    there to be marked, so the studies' histories say it. At most :data:`DAMAGED_MAX` records are read."""
    found = session.scalars(
        select(Journal.detail)
        .join(Study, Study.uid == Journal.subject)
        .where(Study.unsealed > 0, Journal.kind == "study", Journal.verb == DAMAGED)
        .order_by(Journal.seq)
        .limit(DAMAGED_MAX)
    )
    uids = list(dict.fromkeys(str(json.loads(each).get("instance", "")) for each in found))
    loose: set[str] = set()
    for some in chunks(uids):
        loose |= set(
            session.scalars(select(Instance.uid).where(Instance.uid.in_(some), Instance.package_pk.is_(None)))
        )
    return [uid for uid in uids if uid in loose]
