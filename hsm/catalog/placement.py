"""Packages and their copies: what is where, in which state, and what may go.

Every change of a copy's state passes :func:`move_copy`; a release passes the guard inside the
transaction that does it (promise 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Row, Select, SQLColumnExpression, exists, func, select, update
from sqlalchemy.orm import Session

from hsm import guard, states
from hsm.catalog import journal
from hsm.catalog.tables import Copy, Instance, Name, Package, Patient, Request, Series, Study, Volume
from hsm.model import CopyAt, Goal, InstanceRef, Place
from hsm.package import Member, PackageIdentity, SeriesIdentity, member_name
from hsm.states import READABLE_COPIES, CopyState, RequestKind, RequestState, VolumeState

T = TypeVar("T")

IN_LIST_MAX = 1000
COPYABLE_STATES = (CopyState.WRITING, CopyState.WRITTEN, CopyState.VERIFIED, CopyState.SUSPECT)
"""States of copies that stand for bytes on a volume, whole or not."""


@dataclass(frozen=True, slots=True)
class PackageRef:
    """One sealed package."""

    pk: int
    key: str
    study_pk: int
    study_uid: str
    size: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class NewPackage:
    """What sealing found: instance keys and offsets in the package's order."""

    study_pk: int
    number: int
    key: str
    size: int
    digest: bytes
    instances: tuple[tuple[int, int], ...]
    """(instance key, offset of its Part 10 file in the tar)"""


def package(session: Session, package_pk: int) -> PackageRef:
    return _package_ref(session.execute(_packages().where(Package.pk == package_pk)).one())


def packages(session: Session, package_pks: Iterable[int]) -> dict[int, PackageRef]:
    """Those packages, by key."""
    return {
        ref.pk: ref
        for some in chunks(package_pks)
        for ref in map(_package_ref, session.execute(_packages().where(Package.pk.in_(some))))
    }


def chunks(keys: Iterable[T]) -> Iterator[list[T]]:
    """Keys in portions that every database takes in one IN list."""
    every = list(keys)
    return (every[start : start + IN_LIST_MAX] for start in range(0, len(every), IN_LIST_MAX))


def packages_of_studies(session: Session, study_pks: Sequence[int]) -> list[PackageRef]:
    query = _packages().where(Package.study_pk.in_(study_pks)).order_by(Package.study_pk, Package.number)
    return [_package_ref(row) for row in session.execute(query)]


def _packages() -> Select[int, str, int, str, int, bytes]:
    return select(Package.pk, Package.key, Package.study_pk, Study.uid, Package.size, Package.digest).join(
        Study, Study.pk == Package.study_pk
    )


def _package_ref(row: Row[int, str, int, str, int, bytes]) -> PackageRef:
    return PackageRef(*row)


def copies(session: Session, package_pks: Iterable[int]) -> dict[int, list[CopyAt]]:
    """All copies that stand for bytes, by package."""
    wanted = list(package_pks)
    found: dict[int, list[CopyAt]] = {pk: [] for pk in wanted}
    for some in chunks(wanted):
        for copy in _copies(session, some):
            found[copy.package_pk].append(copy)
    return found


def _copies(session: Session, package_pks: list[int]) -> Iterator[CopyAt]:
    rows = session.execute(
        # Columns, not entities: a query of thousands of studies reads as many copies.
        select(
            *(Copy.pk, Copy.package_pk, Volume.pk, Volume.name, Volume.pool, Copy.state, Volume.state),
            *(Volume.place, Copy.locator, Copy.position, Volume.library, Volume.shelf),
        )
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(Copy.package_pk.in_(package_pks), Copy.state.in_(COPYABLE_STATES))
        .order_by(Copy.pk)
    )
    for copy_pk, package_pk, volume_pk, name, pool, state, volume_state, place, *rest in rows:
        yield CopyAt(
            *(copy_pk, package_pk, volume_pk, name, pool or "", state, volume_state, Place(place)), *rest
        )


def begin_copy(
    session: Session, package_pk: int, volume_pk: int, locator: str, now: datetime, actor: str
) -> int:
    """The copy row of this package on this volume, in state ``writing`` (or further, after a crash)."""
    row = session.scalars(
        select(Copy).where(Copy.package_pk == package_pk, Copy.volume_pk == volume_pk).with_for_update()
    ).one_or_none()
    if row is None:
        row = Copy(
            package_pk=package_pk,
            volume_pk=volume_pk,
            state=CopyState.WRITING.value,
            locator=locator,
            position=None,
            written_at=None,
            verified_at=None,
        )
        session.add(row)
        session.flush()
        _record(session, row, now, actor, "writing", "")
    elif row.state == CopyState.RELEASED:
        row.locator = locator
        move_copy(session, row.pk, CopyState.WRITING, now, actor)
    return row.pk


def move_copy(
    session: Session,
    copy_pk: int,
    new: CopyState,
    now: datetime,
    actor: str,
    *,
    why: str = "",
    position: int | None = None,
) -> None:
    """Change a copy's state and record it.

    :raises ValueError: the transition table has no such step.
    """
    row = session.scalars(select(Copy).where(Copy.pk == copy_pk).with_for_update()).one()
    states.COPY.check(CopyState(row.state), new)
    if new is CopyState.WRITTEN:
        row.written_at, row.position, row.verified_at = now, position, None
        size = _size(session, row)
        session.execute(update(Volume).where(Volume.pk == row.volume_pk).values(used=Volume.used + size))
    elif new is CopyState.VERIFIED:
        row.verified_at = now
    elif new is CopyState.RELEASED and row.state != CopyState.WRITING:
        size = _size(session, row)
        session.execute(
            update(Volume)
            .where(Volume.pk == row.volume_pk, ~Volume.removable)
            .values(used=Volume.used - size)
        )
    row.state = new.value
    session.flush()
    _record(session, row, now, actor, new.value, why)


def give_up_unfinished(
    session: Session,
    now: datetime,
    actor: str,
    why: str,
    *,
    volume_pk: int | None = None,
    package_pk: int | None = None,
    pool: str | None = None,
) -> int:
    """Copies that were begun and will not be finished (on a volume, or of a package in a pool) end as
    released: nothing counts on them, and what was written of them is nobody's. How many there were."""
    query = select(Copy.pk).join(Volume, Volume.pk == Copy.volume_pk).where(Copy.state == CopyState.WRITING)
    if volume_pk is not None:
        query = query.where(Copy.volume_pk == volume_pk)
    if package_pk is not None:
        query = query.where(Copy.package_pk == package_pk)
    if pool is not None:
        query = query.where(Volume.pool == pool)
    pks = session.scalars(query.order_by(Copy.pk)).all()
    for pk in pks:
        move_copy(session, pk, CopyState.RELEASED, now, actor, why=why)
    return len(pks)


def state_of(session: Session, copy_pk: int) -> CopyState:
    return CopyState(session.execute(select(Copy.state).where(Copy.pk == copy_pk)).scalar_one())


def release(
    session: Session, copy_pk: int, goals: Sequence[Goal], now: datetime, actor: str
) -> guard.Verdict:
    """Move a copy to ``releasing`` if the guard agrees; the verdict says why or why not.

    The package row is locked first, so that two releases of one package see each other.
    """
    row = session.scalars(select(Copy).where(Copy.pk == copy_pk)).one()
    session.execute(select(Package.pk).where(Package.pk == row.package_pk).with_for_update())
    facts = copy_facts(session, row.package_pk)
    mine = next(fact for fact in facts if fact.copy_pk == copy_pk)
    if mine.state is CopyState.RELEASING:
        return guard.Verdict(True, "its release was agreed before")
    verdict = guard.may_release(mine, [fact for fact in facts if fact.copy_pk != copy_pk], goals)
    if verdict.allowed:
        move_copy(session, copy_pk, CopyState.RELEASING, now, actor, why=verdict.reason)
    return verdict


def copy_facts(session: Session, package_pk: int) -> list[guard.CopyFact]:
    """What the guard decides on, read afresh."""
    rows = session.execute(
        select(Copy.pk, Copy.volume_pk, Volume.pool, Copy.state, Volume.state)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(Copy.package_pk == package_pk)
        .order_by(Copy.pk)
        .execution_options(populate_existing=True)
    )
    return [
        guard.CopyFact(copy_pk, volume_pk, pool or "", CopyState(state), VolumeState(volume_state))
        for copy_pk, volume_pk, pool, state, volume_state in rows
    ]


def quiet_studies(
    session: Session, before: datetime, failed_since: datetime, limit: int
) -> list[tuple[int, str]]:
    """Studies with unsealed instances whose last one came before ``before``, oldest first; without
    those whose sealing is under way or has failed since ``failed_since``."""
    tried = exists().where(
        Request.study_pk == Study.pk,
        Request.kind == RequestKind.SEAL,
        Request.state.in_(states.LIVE_REQUESTS)
        | ((Request.state == RequestState.FAILED) & (Request.finished_at > failed_since)),
    )
    rows = session.execute(
        select(Study.pk, Study.uid)
        .where(Study.unsealed > 0, Study.last_received <= before, ~tried)
        .order_by(Study.last_received)
        .limit(limit)
    )
    return [(pk, uid) for pk, uid in rows]


def unsealed_members(session: Session, study_pk: int) -> list[tuple[int, Member]]:
    """Instances of a study that are in no package, in viewing order, every version, as the members
    they become, each with its instance key."""
    rows = session.execute(
        instance_columns()
        .add_columns(Instance.number)
        .where(Study.pk == study_pk, Instance.package_pk.is_(None))
        .order_by(*viewing_order())
    )
    members = []
    for *columns, number in rows:
        instance = InstanceRef(*columns)
        members.append((instance.pk, member(instance, number)))
    return members


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


def every_unsealed(session: Session) -> Iterator[InstanceRef]:
    """All instances that are in no package, study by study."""
    for study_pk in session.scalars(select(Study.pk).where(Study.unsealed > 0)).all():
        rows = session.execute(
            instance_columns().where(Series.study_pk == study_pk, Instance.package_pk.is_(None))
        )
        for columns in rows:
            yield InstanceRef(*tuple[Any, ...](columns))


def packages_on(session: Session, volume_pk: int) -> list[tuple[int, int, str]]:
    """(key, study, name) of each package with a copy on the volume that can be read back."""
    rows = session.execute(
        select(Package.pk, Package.study_pk, Package.key)
        .join(Copy, Copy.package_pk == Package.pk)
        .where(Copy.volume_pk == volume_pk, Copy.state.in_((*READABLE_COPIES, CopyState.SUSPECT)))
        .order_by(Copy.position, Package.pk)
    )
    return [(pk, study_pk, key) for pk, study_pk, key in rows]


def viewing_order() -> tuple[SQLColumnExpression[Any], ...]:
    """Series number, instance number, then UIDs so that the order is total."""
    return (
        Series.number.nulls_last(),
        Series.uid,
        Instance.number.nulls_last(),
        Instance.uid,
        Instance.version,
    )


def next_package_number(session: Session, study_pk: int) -> int:
    return (session.scalar(select(func.max(Package.number)).where(Package.study_pk == study_pk)) or 0) + 1


def identity(session: Session, study_pk: int, key: str, number: int, sealed_at: datetime) -> PackageIdentity:
    """What a package says of its study: enough to rebuild the catalog from the medium."""
    study, patient = session.execute(
        select(Study, Patient).join(Patient, Patient.pk == Study.patient_pk).where(Study.pk == study_pk)
    ).one()
    series = session.scalars(
        select(Series).where(Series.study_pk == study_pk).order_by(Series.number, Series.uid)
    )
    return PackageIdentity(
        key=key,
        number=number,
        sealed_at=sealed_at.isoformat(timespec="seconds"),
        study_uid=study.uid,
        patient_id=patient.patient_id,
        issuer=patient.issuer,
        patient_name=patient.name,
        birth_date=patient.birth_date,
        sex=patient.sex,
        study_date=study.date,
        study_time=study.time,
        study_id=study.study_id,
        accession=study.accession,
        study_description=study.description,
        referring_physician=study.referring_physician,
        institution=study.institution,
        charset=study.charset,
        source_ae=study.source_ae,
        series=tuple(
            SeriesIdentity(
                uid=row.uid,
                modality=row.modality,
                number=row.number,
                description=row.description,
                body_part=row.body_part,
                date=row.date,
                time=row.time,
                station=row.station,
            )
            for row in series
        ),
    )


def member(instance: InstanceRef, number: int | None) -> Member:
    """The package member that an instance becomes."""
    return Member(
        name=member_name(instance.series_uid, instance.sop_instance_uid, instance.version),
        series_uid=instance.series_uid,
        sop_instance_uid=instance.sop_instance_uid,
        sop_class_uid=instance.sop_class_uid,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        version=instance.version,
        number=number,
        size=instance.size,
        digest=instance.digest,
    )


def insert_package(
    session: Session, new: NewPackage, volume_pk: int, locator: str, now: datetime, actor: str
) -> int:
    """Seal: the package, its instances' places in it, and its first copy, already read back.

    :raises ValueError: one of the instances has been sealed meanwhile.
    """
    row = Package(
        study_pk=new.study_pk,
        number=new.number,
        key=new.key,
        size=new.size,
        digest=new.digest,
        n_instances=len(new.instances),
        sealed_at=now,
    )
    session.add(row)
    session.flush()
    for instance_pk, offset in new.instances:
        changed = session.execute(
            update(Instance)
            .where(Instance.pk == instance_pk, Instance.package_pk.is_(None))
            .values(package_pk=row.pk, offset=offset)
            .returning(Instance.pk)
        ).all()
        if len(changed) != 1:
            raise ValueError(f"instance {instance_pk} was sealed by somebody else")
    session.execute(
        update(Study)
        .where(Study.pk == new.study_pk)
        .values(unsealed=Study.unsealed - len(new.instances), packages=Study.packages + 1)
    )
    study_uid = session.execute(select(Study.uid).where(Study.pk == new.study_pk)).scalar_one()
    detail = {
        "package": new.key,
        "instances": len(new.instances),
        "bytes": new.size,
        "sha256": new.digest.hex(),
    }
    journal.append(session, now, actor, "sealed", "study", study_uid, detail)
    copy_pk = begin_copy(session, row.pk, volume_pk, locator, now, actor)
    move_copy(session, copy_pk, CopyState.WRITTEN, now, actor)
    move_copy(session, copy_pk, CopyState.VERIFIED, now, actor, why="read back while sealing")
    return row.pk


def touch_studies(session: Session, study_uids: Iterable[str], now: datetime) -> None:
    """Note that somebody retrieved from these studies."""
    for some in chunks(study_uids):
        session.execute(update(Study).where(Study.uid.in_(some)).values(last_accessed=now))


def _size(session: Session, row: Copy) -> int:
    return session.execute(select(Package.size).where(Package.pk == row.package_pk)).scalar_one()


def _record(session: Session, row: Copy, now: datetime, actor: str, verb: str, why: str) -> None:
    """A copy's history is its study's: that is what an auditor asks for."""
    study_uid, key, volume = session.execute(
        select(Study.uid, Package.key, Volume.name)
        .select_from(Copy)
        .join(Package, Package.pk == Copy.package_pk)
        .join(Study, Study.pk == Package.study_pk)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(Copy.pk == row.pk)
    ).one()
    detail = {"package": key, "volume": volume} | ({"why": why} if why else {})
    journal.append(session, now, actor, f"copy {verb}", "study", study_uid, detail)


def study_uid(session: Session, study_pk: int) -> str:
    return session.execute(select(Study.uid).where(Study.pk == study_pk)).scalar_one()


def locator_of(session: Session, copy_pk: int) -> str:
    return session.execute(select(Copy.locator).where(Copy.pk == copy_pk)).scalar_one()
