"""Sealing: which studies are quiet, what a package of theirs would hold, and the rows of a new one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session

from hsm import layout, states
from hsm.catalog import deletions, journal, rebuilding, words
from hsm.catalog.instances import instance_columns, viewing_order
from hsm.catalog.placement import begin_copy, move_copy, study_uid
from hsm.catalog.tables import Instance, Package, Patient, Request, Series, Study
from hsm.model import InstanceRef
from hsm.package import Member, PackageIdentity, SeriesIdentity, member_name
from hsm.states import CopyState, RequestKind, RequestState


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
    they become, each with its instance key. What went into the trash makes a package of its own: first come
    those that did not."""
    rows = session.execute(
        instance_columns()
        .add_columns(Instance.number, deletions.of_instance(Instance.pk))
        .where(Study.pk == study_pk, Instance.package_pk.is_(None))
        .order_by(*viewing_order())
    )
    members: dict[int, list[tuple[int, Member]]] = {}
    for *columns, number, deletion_pk in rows:
        instance = InstanceRef(*columns)
        members.setdefault(deletion_pk or 0, []).append((instance.pk, member(instance, number)))
    return members[min(members)] if members else []


def next_package_number(session: Session, study_pk: int) -> int:
    """One more than the study's last; not one that something bears that is quarantined."""
    number = (session.scalar(select(func.max(Package.number)).where(Package.study_pk == study_pk)) or 0) + 1
    uid = study_uid(session, study_pk)
    while rebuilding.name_is_quarantined(session, layout.package_key(uid, number)):
        number += 1
    return number


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
    session: Session,
    new: NewPackage,
    volume_pk: int,
    locator: str,
    now: datetime,
    actor: str,
    why: str = "read back while sealing",
    position: int | None = None,
) -> int:
    """Seal: the package, its instances' places in it, and its first copy, already read back.

    :raises ValueError: one of the instances has been sealed meanwhile, or some of them deleted.
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
        .values(
            unsealed=Study.unsealed - len(new.instances),
            packages=Study.packages + 1,
            **words.said_by(session, new.study_pk),
        )
    )
    deletions.sealed(session, row.pk, [pk for pk, _ in new.instances])
    study_uid = session.execute(select(Study.uid).where(Study.pk == new.study_pk)).scalar_one()
    detail = {
        "package": new.key,
        "instances": len(new.instances),
        "bytes": new.size,
        "sha256": new.digest.hex(),
    }
    journal.append(session, now, actor, "sealed", "study", study_uid, detail)
    copy_pk = begin_copy(session, row.pk, volume_pk, locator, now, actor)
    move_copy(session, copy_pk, CopyState.WRITTEN, now, actor, position=position)
    move_copy(session, copy_pk, CopyState.VERIFIED, now, actor, why=why)
    return row.pk
