"""Packages that a volume holds and the catalog does not know: their rows, made from the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from hsm.catalog import (
    awaiting,
    deletions,
    hiding,
    ingest,
    journal,
    marksfound,
    media,
    permits,
    placement,
    placements,
    words,
)
from hsm.catalog.tables import Copy, Instance, Package, Series, Study, Volume
from hsm.errors import Refused
from hsm.model import Header
from hsm.package import Member, PackagePlan, SeriesIdentity
from hsm.states import COPY, CopyState, VolumeState

FOUND = "found on its volume"
READ_BACK = "found on its volume and read back"


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


def relabelled(session: Session, pk: int, pool: str, uuid: str, now: datetime, actor: str, why: str) -> None:
    """A volume has got another label since the catalog looked; no copy on it may count any more."""
    row = session.scalars(select(Volume).where(Volume.pk == pk).with_for_update()).one()
    row.pool, row.uuid = pool, uuid
    session.flush()
    journal.append(session, now, actor, "relabelled", "volume", row.name, {"why": why})


def adopt(
    session: Session,
    plan: PackagePlan,
    digest: bytes,
    volume_pk: int,
    locator: str,
    position: int | None,
    now: datetime,
    actor: str,
    *,
    read_back: bool = True,
) -> None:
    """Register a package as its manifest describes it, and the copy of it.

    A package that is known already gets the copy only; instances that are known and in no package become
    members of it.

    :param read_back: every byte of the copy was read and compared: it is verified; else it is only written.
    :raises Refused: the catalog has other bytes under its name, or one of its instances elsewhere.
    """
    identity = plan.identity
    known = known_package(session, identity.key)
    if known is not None:
        package_pk, size, have = known
        if (size, have) != (plan.size, digest):
            raise Refused(f"{identity.key}: the catalog has another package of this name")
    else:
        _refuse_deleted(session, plan, digest)
        package_pk = _package(session, plan, digest, now, actor)
    add_copy(session, package_pk, volume_pk, locator, position, now, actor, read_back=read_back)
    if known is None:
        marksfound.heed(session, identity.study_uid, now, actor)


def _refuse_deleted(session: Session, plan: PackagePlan, digest: bytes) -> None:
    """:raises Refused: the study was deleted after the package was sealed. One that a volume names as deleted
    goes where the study is: into the trash."""
    identity = plan.identity
    since = permits.deleted_since(session, identity.study_uid, datetime.fromisoformat(identity.sealed_at))
    if since and not marksfound.names(marksfound.in_force(session, identity.study_uid), identity.key, digest):
        raise Refused(f"{identity.key}: {since}; it is not taken in again")


def add_copy(
    session: Session,
    package_pk: int,
    volume_pk: int,
    locator: str,
    position: int | None,
    now: datetime,
    actor: str,
    *,
    read_back: bool,
) -> None:
    """A copy that was found on a volume; or, of one that is known, what reading it has shown.

    :raises Refused: the copy is known there and on its way out, or its study was deleted and is over.
    """
    ended = permits.ended(session, package_pk)
    if ended:
        raise Refused(f"{locator}: {ended}; it is not taken in again")
    copy_pk = placement.begin_copy(session, package_pk, volume_pk, locator, now, actor)
    state = placement.state_of(session, copy_pk)
    if state is CopyState.RELEASING:
        raise Refused(f"{locator}: its release was agreed and is under way")
    if state is CopyState.WRITING:
        placement.move_copy(session, copy_pk, CopyState.WRITTEN, now, actor, position=position, why=FOUND)
    elif state is CopyState.LOST:
        placement.move_copy(session, copy_pk, CopyState.SUSPECT, now, actor, why=FOUND)
    if read_back:
        placement.move_copy(session, copy_pk, CopyState.VERIFIED, now, actor, why=READ_BACK)


@dataclass(frozen=True, slots=True)
class FoundCopy:
    """A copy of a known package, as its volume's own list describes it."""

    package_pk: int
    locator: str
    position: int | None


def add_copies(
    session: Session, found: Sequence[FoundCopy], volume_pk: int, now: datetime, actor: str
) -> None:
    """As :func:`add_copy` without reading back, of many; none of them has a row on this volume yet."""
    wanted = [each.package_pk for each in found]
    rows = session.execute(
        select(Package.pk, Package.key, Package.size, Study.pk, Study.uid)
        .join(Study, Study.pk == Package.study_pk)
        .where(Package.pk.in_(wanted))
    )
    packages = {pk: (key, size, study_pk, uid) for pk, key, size, study_pk, uid in rows}
    studies = {study_pk for _, _, study_pk, _ in packages.values()}
    placements.lock(session, studies)
    session.execute(
        insert(Copy),
        [
            {
                "package_pk": each.package_pk,
                "volume_pk": volume_pk,
                "state": CopyState.WRITTEN.value,
                "locator": each.locator,
                "position": each.position,
                "written_at": now,
                "verified_at": None,
            }
            for each in found
        ],
    )
    volume = session.scalars(select(Volume).where(Volume.pk == volume_pk).with_for_update()).one()
    volume.used += sum(size for _, size, _, _ in packages.values())
    session.flush()
    placements.refresh(session, studies)
    records: list[tuple[str, dict[str, str]]] = []
    for each in found:
        key, _, _, study_uid = packages[each.package_pk]
        records.append((study_uid, {"package": key, "volume": volume.name, "why": FOUND}))
    journal.append_many(session, now, actor, "copy written", "study", records)


def agrees(session: Session, package_pk: int, plan: PackagePlan) -> bool:
    """Whether a manifest describes the very instances that the catalog has in a package, where it has them.
    Their digests are compared, and so are the offsets: equal manifests give equal packages."""
    study_pk = session.execute(select(Package.study_pk).where(Package.pk == package_pk)).scalar_one()
    rows = session.execute(
        select(Instance.uid, Instance.version, Instance.size, Instance.digest, Instance.offset)
        .join(Series, Series.pk == Instance.series_pk)
        .where(Series.study_pk == study_pk, Instance.package_pk == package_pk)
    )
    have = {tuple[Any, ...](row) for row in rows}
    return have == {
        (member.sop_instance_uid, member.version, member.size, member.digest, offset)
        for member, offset in zip(plan.members, plan.offsets, strict=True)
    }


@dataclass(frozen=True, slots=True)
class _There:
    """A version of an instance that the catalog has."""

    pk: int
    size: int
    digest: bytes
    sealed: bool
    place: tuple[str, str]


def _package(session: Session, plan: PackagePlan, digest: bytes, now: datetime, actor: str) -> int:
    """The rows of a package that the catalog does not have, and of all that is in it; its key."""
    identity = plan.identity
    sealed_at = datetime.fromisoformat(identity.sealed_at)
    there = _there(session, [member.sop_instance_uid for member in plan.members])
    _refuse_others(plan, there)
    described = {each.uid: each for each in identity.series}
    first = plan.members[0]
    study, news = ingest.study_of(session, _received(plan, described[first.series_uid], first, sealed_at))
    number_taken = session.scalar(
        select(Package.key).where(Package.study_pk == study.pk, Package.number == identity.number)
    )
    if number_taken is not None:
        raise Refused(f"{identity.key}: the catalog has {number_taken} as package {identity.number}")
    row = Package(
        study_pk=study.pk,
        number=identity.number,
        key=identity.key,
        size=plan.size,
        digest=digest,
        n_instances=len(plan.members),
        sealed_at=sealed_at,
    )
    session.add(row)
    session.flush()
    _members(session, plan, study, row.pk, there, sealed_at)
    if there:
        _heed_deletions(session, row, identity.key)
    uids = {member.sop_instance_uid for member in plan.members}
    rejected = awaiting.heed(session, study.pk, identity.study_uid, uids)
    if rejected:
        hiding.recount(session, study.pk)
    for verb, detail in [*news, *rejected]:
        journal.append(session, now, actor, verb, "study", identity.study_uid, detail)
    said = {"package": identity.key, "instances": len(plan.members), "bytes": plan.size}
    said |= {"sha256": digest.hex(), "at": identity.sealed_at, "why": "its manifest says so"}
    journal.append(session, now, actor, "sealed", "study", identity.study_uid, said)
    return row.pk


def _heed_deletions(session: Session, package: Package, key: str) -> None:
    """Some of its instances had rows, and may be hidden."""
    mine = select(Instance.pk).join(Series, Series.pk == Instance.series_pk)
    mine = mine.where(Series.study_pk == package.study_pk, Instance.package_pk == package.pk)
    try:
        deletions.sealed(session, package.pk, session.scalars(mine).all())
    except ValueError as error:
        raise Refused(f"{key}: {error}") from error
    hiding.recount(session, package.study_pk)


def _there(session: Session, uids: Sequence[str]) -> dict[str, dict[int, _There]]:
    """What the catalog has of these SOP Instance UIDs, by UID and version."""
    found: dict[str, dict[int, _There]] = {}
    for some in placement.chunks(dict.fromkeys(uids)):
        rows = session.execute(
            select(
                *(Instance.uid, Instance.version, Instance.pk, Instance.size, Instance.digest),
                *(Instance.package_pk, Study.uid, Series.uid),
            )
            .join(Series, Series.pk == Instance.series_pk)
            .join(Study, Study.pk == Series.study_pk)
            .where(Instance.uid.in_(some))
        )
        for uid, version, pk, size, digest, package_pk, study_uid, series_uid in rows:
            place = (study_uid, series_uid)
            found.setdefault(uid, {})[version] = _There(pk, size, digest, package_pk is not None, place)
    return found


def _refuse_others(plan: PackagePlan, there: Mapping[str, Mapping[int, _There]]) -> None:
    """:raises Refused: an instance is in another package, or the catalog has other bytes of it."""
    identity = plan.identity
    for member in plan.members:
        have = there.get(member.sop_instance_uid, {}).get(member.version)
        if have is None:
            continue
        what = f"{identity.key}: instance {member.sop_instance_uid}"
        what += f", version {member.version}," if member.version else ""
        if (have.size, have.digest) != (member.size, member.digest):
            raise Refused(f"{what} is in the catalog with other bytes")
        if have.sealed or have.place != (identity.study_uid, member.series_uid):
            raise Refused(f"{what} is in the catalog already")


def _members(
    session: Session,
    plan: PackagePlan,
    study: Study,
    package_pk: int,
    there: Mapping[str, Mapping[int, _There]],
    sealed_at: datetime,
) -> None:
    """A package's instances: new rows, places in the package for those that have rows, and the counters."""
    described = {each.uid: each for each in plan.identity.series}
    rows: list[dict[str, Any]] = []
    counted: Counter[str] = Counter()
    places = {uid: {each.place for each in versions.values()} for uid, versions in there.items()}
    keys: dict[str, ingest.Keys] = {}
    names: dict[str, int] = {}
    new_series = sealed = size = 0
    for member, offset in zip(plan.members, plan.offsets, strict=True):
        received = _received(plan, described[member.series_uid], member, sealed_at)
        if member.series_uid not in keys:
            series_pk, new = ingest.series_of(session, study.pk, received.header)
            new_series += new
            keys[member.series_uid] = ingest.Keys(study.pk, series_pk, 0, 0)
        for uid in (member.sop_class_uid, member.transfer_syntax_uid):
            if uid not in names:
                names[uid] = ingest.name_pk(session, uid)
        have = there.get(member.sop_instance_uid, {}).get(member.version)
        if have is not None:
            place = {"package_pk": package_pk, "offset": offset}
            session.execute(update(Instance).where(Instance.pk == have.pk).values(**place))
            sealed += 1
            continue
        mine = replace(
            keys[member.series_uid],
            class_pk=names[member.sop_class_uid],
            syntax_pk=names[member.transfer_syntax_uid],
        )
        rows.append(ingest.instance_values(received, mine) | {"package_pk": package_pk, "offset": offset})
        size += member.size
        known = places.setdefault(member.sop_instance_uid, set())
        if received.place not in known:
            counted[member.series_uid] += 1
            known.add(received.place)
    if rows:
        session.execute(insert(Instance), rows)
    for uid, count in counted.items():
        session.execute(
            update(Series)
            .where(Series.pk == keys[uid].series_pk)
            .values(n_instances=Series.n_instances + count)
        )
    modalities = {*study.modalities.split("\\"), *(described[uid].modality for uid in keys)}
    session.execute(
        update(Study)
        .where(Study.pk == study.pk)
        .values(
            n_instances=Study.n_instances + counted.total(),
            n_series=Study.n_series + new_series,
            n_bytes=Study.n_bytes + size,
            unsealed=Study.unsealed - sealed,
            packages=Study.packages + 1,
            modalities=ingest.join_modalities(modalities),
            first_received=min(study.first_received, sealed_at),
            last_received=max(study.last_received, sealed_at),
            last_accessed=max(study.last_accessed, sealed_at),
            **words.said_by(session, study.pk),
        )
    )


def _received(
    plan: PackagePlan, series: SeriesIdentity, member: Member, sealed_at: datetime
) -> ingest.Received:
    return ingest.Received(
        header=_header(plan, series, member),
        transfer_syntax_uid=member.transfer_syntax_uid,
        version=member.version,
        size=member.size,
        digest=member.digest,
        source_ae=plan.identity.source_ae,
        at=sealed_at,
    )


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


def doubt(session: Session, copy_pk: int, now: datetime, actor: str, why: str) -> bool:
    """A copy that was looked at is not what the catalog believes; whether that is news."""
    state = placement.state_of(session, copy_pk)
    if CopyState.SUSPECT not in COPY.table[state]:
        return False
    placement.move_copy(session, copy_pk, CopyState.SUSPECT, now, actor, why=why)
    return True
