"""What peers were told of how available studies are, and what has happened since."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from hsm.availability import Reach, Standing, by_disks, standing, unsealed
from hsm.catalog import hiding, placement, portions
from hsm.catalog.tables import (
    Announced,
    Copy,
    Followed,
    Instance,
    Journal,
    JournalHead,
    Name,
    Package,
    Request,
    Series,
    Study,
    Volume,
)
from hsm.model import Availability
from hsm.states import RequestKind

PICTURE_CHARACTERS_MAX = 64
STUDIES_AT_ONCE = 500
_LETTER = {Availability.NEARLINE: "N", Availability.OFFLINE: "F", Availability.UNAVAILABLE: "U"}
_SILENT = ("copy writing", "copy written")
"""What is said of a copy that changes nothing for who retrieves."""
_HIDES = ("deleted", "undeleted", "rejected", "rejected on arrival", "rejection revoked")
"""What hides instances of a study, or shows them again."""
_GONE = Standing(Availability.UNAVAILABLE)
_OF_VOLUMES = ("lost", "retired", "suspect", "active", "full")
"""States of volumes that may change how available a study is, as changes of place do."""


@dataclass(frozen=True, slots=True)
class Picture:
    """How available the packages of a study are, as far as they are not online."""

    text: str
    staged: bool
    """Some lie in the staging area."""


@dataclass(frozen=True, slots=True)
class Told:
    """One instance as a peer is told of it."""

    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    standing: Standing


def followed(session: Session, name: str) -> int | None:
    """How far somebody has read the journal; None where he has not begun."""
    return session.scalar(select(Followed.seq).where(Followed.name == name))


def follow(session: Session, name: str, seq: int | None) -> None:
    """Note how far the journal has been read; None: nobody follows it any more."""
    session.execute(delete(Followed).where(Followed.name == name))
    if seq is not None:
        session.add(Followed(name=name, seq=seq))


def head(session: Session) -> int:
    """The number of the journal's last record."""
    return session.scalar(select(JournalHead.seq)) or 0


def touched(session: Session, since: int, limit: int) -> tuple[int, list[int]]:
    """Studies whose availability what the journal says may have changed, and how far it was read.

    :param since: the last record that was read before.
    :param limit: records at once.
    """
    entries = session.execute(
        select(Journal.seq, Journal.kind, Journal.verb, Journal.subject)
        .where(Journal.seq > since)
        .order_by(Journal.seq)
        .limit(limit)
    ).all()
    uids = {
        entry.subject
        for entry in entries
        if entry.kind == "study"
        and (entry.verb in _HIDES or (entry.verb.startswith("copy ") and entry.verb not in _SILENT))
    }
    requests = [int(each.subject) for each in entries if each.kind == "request" and each.verb == "done"]
    volumes = {
        entry.subject
        for entry in entries
        if entry.kind == "volume" and (entry.verb.startswith("to ") or entry.verb in _OF_VOLUMES)
    }
    found: set[int] = set()
    for some in portions.chunks(sorted(uids)):
        found.update(session.scalars(select(Study.pk).where(Study.uid.in_(some))))
    for keys in portions.chunks(requests):
        mine = select(Request.study_pk).where(Request.pk.in_(keys), Request.kind == RequestKind.RECALL)
        found.update(pk for pk in session.scalars(mine) if pk is not None)
    for some in portions.chunks(sorted(volumes)):
        on = select(Package.study_pk).join(Copy, Copy.package_pk == Package.pk)
        on = on.join(Volume, Volume.pk == Copy.volume_pk).where(Volume.name.in_(some))
        found.update(session.scalars(on.distinct()))
    return (entries[-1].seq if entries else since), sorted(found)


def staged(session: Session) -> list[int]:
    """Studies of which peers know that the staging area holds some: it may have gone since."""
    return list(session.scalars(select(Announced.study_pk).where(Announced.staged)))


def pictures(session: Session, study_pks: Collection[int], reach: Reach) -> dict[int, Picture]:
    """How available each of these studies is, package by package."""
    found: dict[int, list[tuple[int, str]]] = {pk: [] for pk in study_pks}
    in_staging: set[int] = set()
    for some in portions.chunks(study_pks):
        rows = session.execute(
            select(Package.pk, Package.study_pk, Package.number, Package.key).where(
                Package.study_pk.in_(some)
            )
        ).all()
        copies = placement.copies(session, [row.pk for row in rows])
        for pk, study_pk, number, key in rows:
            if key in reach.staged:
                in_staging.add(study_pk)
            known = standing(copies[pk], reach, staged=key in reach.staged)
            if known.availability is not Availability.ONLINE:
                found[study_pk].append((number, _LETTER[known.availability]))
        hidden = (
            select(Series.study_pk, func.count())
            .join(Instance, Instance.series_pk == Series.pk)
            .where(Series.study_pk.in_(some), hiding.hidden())
            .group_by(Series.study_pk)
        )
        for study_pk, count in session.execute(hidden):
            found[study_pk].append((count, "H"))
    return {pk: Picture(_text(parts), pk in in_staging) for pk, parts in found.items()}


def _text(parts: Iterable[tuple[int, str]]) -> str:
    text = " ".join(f"{number}{letter}" for number, letter in sorted(parts))
    if len(text) <= PICTURE_CHARACTERS_MAX:
        return text
    return hashlib.sha256(text.encode()).hexdigest()[:PICTURE_CHARACTERS_MAX]


def known(session: Session, study_pks: Sequence[int]) -> dict[int, Picture]:
    """What peers were told last of these studies; of those that lie online nothing is kept."""
    found: dict[int, Picture] = {}
    for some in portions.chunks(study_pks):
        query = select(Announced.study_pk, Announced.picture, Announced.staged)
        rows = session.execute(query.where(Announced.study_pk.in_(some)))
        found |= {pk: Picture(text, staged) for pk, text, staged in rows}
    return found


def note(session: Session, study_pk: int, picture: Picture, now: datetime) -> None:
    """Peers are told this."""
    session.execute(delete(Announced).where(Announced.study_pk == study_pk))
    if picture.text or picture.staged:
        row = Announced(study_pk=study_pk, picture=picture.text, staged=picture.staged, at=now)
        session.add(row)
        session.flush()


def instances(session: Session, study_uid: str, reach: Reach) -> Iterator[Told]:
    """The newest version of each instance of a study, by series and number, and how available it is: what is
    hidden is not (IHE RAD TF-3 section 4.49.4.1.2)."""
    study_pk = session.scalar(select(Study.pk).where(Study.uid == study_uid))
    packages = session.execute(
        select(Package.pk, Package.key, Package.size).where(Package.study_pk == study_pk)
    ).all()
    copies = placement.copies(session, [row.pk for row in packages])
    of: dict[int | None, Standing] = {None: unsealed(reach)}
    passing: dict[int | None, Standing] = {}
    for pk, key, size in packages:
        of[pk] = standing(copies[pk], reach, staged=key in reach.staged)
        if reach.room is not None and of[pk].recalled and size > reach.room.package:
            passing[pk] = Standing(by_disks(copies[pk], reach).availability)
    hidden = hiding.hidden().label("hidden")
    rows = session.execute(
        select(Series.uid, Name.uid, Instance.uid, Instance.package_pk, Instance.size, hidden)
        .select_from(Instance)
        .join(Series, Series.pk == Instance.series_pk)
        .join(Name, Name.pk == Instance.class_pk)
        .where(Series.study_pk == study_pk)
        .order_by(Series.number, Series.uid, Instance.number, Instance.uid, "hidden", Instance.version.desc())
    )
    last = ("", "")
    for series_uid, sop_class_uid, uid, package_pk, size, is_hidden in rows:
        if (series_uid, uid) != last:
            large = reach.room is not None and size > reach.room.instance
            found = passing.get(package_pk, of[package_pk]) if large else of[package_pk]
            yield Told(series_uid, sop_class_uid, uid, _GONE if is_hidden else found)
        last = (series_uid, uid)


def media(session: Session, names: Collection[str]) -> Mapping[str, str]:
    """The UUIDs of removable volumes."""
    rows = session.execute(select(Volume.name, Volume.uuid).where(Volume.name.in_(list(names))))
    return {str(row.name): str(row.uuid) for row in rows}
