"""Packages that a volume holds and the catalog does not know: their rows, made from the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from hsm.catalog import (
    awaiting,
    deletions,
    hiding,
    ingest,
    journal,
    marksfound,
    media,
    memberrows,
    permits,
    placement,
    placements,
)
from hsm.catalog.tables import Copy, Instance, Package, Series, Study, Volume
from hsm.errors import Refused
from hsm.package import PackagePlan
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
    members of it. One that a volume names as deleted goes where its study is: into the trash.

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
        said = marksfound.in_force(session, identity.study_uid)
        named = marksfound.names(said, identity.key, digest)
        if not named:
            _refuse_deleted(session, plan)
        package_pk = _package(session, plan, digest, now, actor, is_deleted=named)
    add_copy(session, package_pk, volume_pk, locator, position, now, actor, read_back=read_back)
    if known is None:
        marksfound.heed(session, identity.study_uid, now, actor)


def _refuse_deleted(session: Session, plan: PackagePlan) -> None:
    """:raises Refused: the study was deleted after the package was sealed."""
    identity = plan.identity
    since = permits.deleted_since(session, identity.study_uid, datetime.fromisoformat(identity.sealed_at))
    if since:
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


def _package(
    session: Session, plan: PackagePlan, digest: bytes, now: datetime, actor: str, *, is_deleted: bool
) -> int:
    """The rows of a package that the catalog does not have, and of all that is in it; its key."""
    identity = plan.identity
    sealed_at = datetime.fromisoformat(identity.sealed_at)
    there = memberrows.there(session, [member.sop_instance_uid for member in plan.members])
    memberrows.refuse_others(plan, there)
    described = {each.uid: each for each in identity.series}
    first = plan.members[0]
    received = memberrows.received(plan, described[first.series_uid], first, sealed_at)
    study, news = ingest.study_of(session, received, is_deleted=is_deleted)
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
    memberrows.register(session, plan, study, row.pk, there, sealed_at)
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


def doubt(session: Session, copy_pk: int, now: datetime, actor: str, why: str) -> bool:
    """A copy that was looked at is not what the catalog believes; whether that is news."""
    state = placement.state_of(session, copy_pk)
    if CopyState.SUSPECT not in COPY.table[state]:
        return False
    placement.move_copy(session, copy_pk, CopyState.SUSPECT, now, actor, why=why)
    return True
