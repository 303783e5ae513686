"""Packages that a cartridge holds and the catalog does not know: their rows, made from the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hsm.catalog import ingest, journal, media, placement, sealing
from hsm.catalog.tables import Copy, Instance, Package, Volume
from hsm.errors import Refused
from hsm.model import Header
from hsm.package import Member, PackagePlan, SeriesIdentity
from hsm.states import CopyState, VolumeState

FOUND = "found on its volume and read back"


@dataclass(frozen=True, slots=True)
class Listed:
    """A copy that the catalog has on a volume, whatever became of it."""

    copy_pk: int
    package: str
    state: CopyState


def listed(session: Session, volume_pk: int) -> dict[str, Listed]:
    """Every copy on a volume, by its locator."""
    rows = session.execute(
        select(Copy.locator, Copy.pk, Package.key, Copy.state)
        .join(Package, Package.pk == Copy.package_pk)
        .where(Copy.volume_pk == volume_pk)
    )
    return {locator: Listed(pk, key, CopyState(state)) for locator, pk, key, state in rows}


def known_package(session: Session, key: str) -> tuple[int, int, bytes] | None:
    """Primary key, size and digest of the package of this name; None when the catalog has none."""
    row = session.execute(select(Package.pk, Package.size, Package.digest).where(Package.key == key)).first()
    return (row[0], row[1], row[2]) if row is not None else None


def import_volume(
    session: Session, pk: int, pool: str, uuid: str, now: datetime, actor: str, why: str
) -> None:
    """A volume that another archive (or a life of this one that the catalog has lost) has written: it is
    read from now on and takes no writes of ours."""
    row = session.scalars(select(Volume).where(Volume.pk == pk).with_for_update()).one()
    row.pool, row.uuid = pool, uuid
    session.flush()
    media.move_volume(session, pk, VolumeState.FULL, now, actor, why)


def adopt(
    session: Session,
    plan: PackagePlan,
    digest: bytes,
    volume_pk: int,
    locator: str,
    position: int | None,
    now: datetime,
    actor: str,
) -> None:
    """Register a package whose every byte was read and compared with its manifest, and the copy of it.

    A package that is known already gets the copy only.

    :raises Refused: the catalog has other bytes under its name, or one of its instances elsewhere.
    """
    identity = plan.identity
    known = known_package(session, identity.key)
    if known is not None:
        package_pk, size, have = known
        if (size, have) != (plan.size, digest):
            raise Refused(f"{identity.key}: the catalog has another package of this name")
        copy_pk = placement.begin_copy(session, package_pk, volume_pk, locator, now, actor)
        _verified(session, copy_pk, now, actor, position)
        return
    instances = _instances(session, plan, actor)
    study_pk = next(iter(instances.values()))[0]
    new = sealing.NewPackage(
        study_pk,
        identity.number,
        identity.key,
        plan.size,
        digest,
        tuple(
            (instances[member.name][1], offset)
            for member, offset in zip(plan.members, plan.offsets, strict=True)
        ),
    )
    sealing.insert_package(
        session,
        new,
        volume_pk,
        locator,
        now,
        actor,
        why="found on its volume and read back",
        position=position,
    )


def _verified(session: Session, copy_pk: int, now: datetime, actor: str, position: int | None) -> None:
    why = FOUND
    if placement.state_of(session, copy_pk) is CopyState.WRITING:
        placement.move_copy(session, copy_pk, CopyState.WRITTEN, now, actor, position=position, why=why)
    placement.move_copy(session, copy_pk, CopyState.VERIFIED, now, actor, why=why)


def _instances(session: Session, plan: PackagePlan, actor: str) -> Mapping[str, tuple[int, int]]:
    """Rows of every member, by its name: keys of its study and of itself."""
    identity = plan.identity
    series = {each.uid: each for each in identity.series}
    sealed_at = datetime.fromisoformat(identity.sealed_at)
    found: dict[str, tuple[int, int]] = {}
    news: ingest.News = []
    for member in plan.members:
        there = session.execute(
            select(Instance.package_pk).where(
                Instance.uid == member.sop_instance_uid, Instance.version == member.version
            )
        ).first()
        if there is not None:
            raise Refused(f"{identity.key}: instance {member.sop_instance_uid} is in the catalog already")
        received = ingest.Received(
            header=_header(plan, series[member.series_uid], member),
            transfer_syntax_uid=member.transfer_syntax_uid,
            version=member.version,
            size=member.size,
            digest=member.digest,
            source_ae=identity.source_ae,
            at=sealed_at,
            counts=member.version == 0,
        )
        keys, more = ingest.register(session, received)
        news += more
        pk = session.execute(
            select(Instance.pk).where(
                Instance.uid == member.sop_instance_uid, Instance.version == member.version
            )
        ).scalar_one()
        found[member.name] = (keys.study_pk, pk)
    for verb, detail in news:
        journal.append(session, sealed_at, actor, verb, "study", identity.study_uid, detail)
    return found


def _header(plan: PackagePlan, series: SeriesIdentity, member: Member) -> Header:
    identity = plan.identity
    return Header(
        patient_id=identity.patient_id,
        patient_issuer=identity.issuer,
        patient_name=identity.patient_name,
        patient_birth_date=identity.birth_date,
        patient_sex=identity.sex,
        study_uid=identity.study_uid,
        study_date=identity.study_date,
        study_time=identity.study_time,
        study_id=identity.study_id,
        study_description=identity.study_description,
        accession=identity.accession,
        referring_physician=identity.referring_physician,
        series_uid=series.uid,
        series_number=series.number,
        series_description=series.description,
        series_date=series.date,
        series_time=series.time,
        modality=series.modality,
        body_part=series.body_part,
        institution=identity.institution,
        station=series.station,
        sop_instance_uid=member.sop_instance_uid,
        sop_class_uid=member.sop_class_uid,
        instance_number=member.number,
        charset=identity.charset,
    )
