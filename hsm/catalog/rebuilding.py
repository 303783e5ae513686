"""What the journal keeps of rebuilds, of restores, and of what was found on media and belongs to nothing.

No table of its own: the journal is in the same transaction, and nobody can take a record back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session

from hsm.catalog import awaiting, hiding, ingest, journal, portions, restored
from hsm.catalog.restored import CATALOG
from hsm.catalog.tables import (
    Base,
    Copy,
    Instance,
    Journal,
    JournalHead,
    Package,
    Patient,
    Series,
    Study,
    Volume,
)
from hsm.errors import Refused
from hsm.states import CopyState, VolumeState

OBJECT = "object"
"""Kind of what lies on a volume and is in no package of ours; its subject is ``volume/key``."""
BEGAN, REBUILT = restored.REBUILD_BEGAN, "rebuilt"
COMPARING = "comparing with media"
QUARANTINED = "quarantined"


def require_empty(session: Session) -> bool:
    """Whether a rebuild of this catalog was begun before, and goes on now; else it is empty.

    :raises Refused: it holds something that no rebuild has made.
    """
    first = session.execute(select(Journal.verb).where(Journal.seq == 1)).scalar_one_or_none()
    if first == BEGAN:
        return True
    for table in Base.metadata.sorted_tables:
        if table.name == JournalHead.__tablename__:
            continue
        if session.scalar(select(func.count()).select_from(table)):
            raise Refused(
                f"the catalog is not empty: {table.name} has rows; rebuild into a new one (--into URL), or "
                "compare this one with its media: hsm catalog check --media"
            )
    return False


def begin(session: Session, now: datetime, actor: str, sources: Sequence[str]) -> None:
    """The first record of a catalog that is rebuilt: from what."""
    detail = {"from": list(sources), "why": "the catalog that was before is not there"}
    journal.append(session, now, actor, BEGAN, CATALOG, CATALOG, detail)


def finished(session: Session, now: datetime, actor: str, detail: Mapping[str, Any]) -> None:
    """Everything that was named has been read."""
    journal.append(session, now, actor, REBUILT, CATALOG, CATALOG, detail)


def begin_comparing(session: Session, now: datetime, actor: str, sources: Sequence[str]) -> None:
    """A comparison of catalog and media begins."""
    journal.append(session, now, actor, COMPARING, CATALOG, CATALOG, {"with": list(sources)})


def comparing_since(session: Session) -> datetime | None:
    """When the comparison began that has not come to its end; None where none has begun."""
    query = select(Journal.verb, Journal.at).where(
        Journal.subject == CATALOG,
        Journal.kind == CATALOG,
        Journal.verb.in_((restored.RESTORED, restored.COMPARED, COMPARING)),
    )
    last = session.execute(query.order_by(Journal.seq.desc()).limit(1)).first()
    return last[1] if last is not None and last[0] == COMPARING else None


def compared(session: Session, now: datetime, actor: str, detail: Mapping[str, Any]) -> None:
    """Catalog and media have been compared as a whole."""
    journal.append(session, now, actor, restored.COMPARED, CATALOG, CATALOG, detail)


def volume_done(session: Session, name: str, verb: str, now: datetime, actor: str, detail: Any) -> None:
    """A whole volume has been read (``REBUILT``) or compared (``COMPARED``), or is left out of it."""
    journal.append(session, now, actor, verb, "volume", name, detail)


def volumes_done(session: Session, verb: str, since: int = 0) -> set[str]:
    """The volumes of which that is on record, behind record ``since``."""
    query = select(Journal.subject).where(Journal.seq > since, Journal.kind == "volume", Journal.verb == verb)
    return set(session.scalars(query))


def quarantine(
    session: Session, volume: str, key: str, now: datetime, actor: str, why: str, package: str = ""
) -> bool:
    """Note an object that contradicts the catalog: it stays where it lies, and nobody of ours will touch it.
    Whether that is news.

    :param package: the package whose name it bears, so that no other one gets that name.
    """
    if is_quarantined(session, volume, key):
        return False
    detail = {"why": why} | ({"package": package} if package else {})
    journal.append(session, now, actor, QUARANTINED, OBJECT, f"{volume}/{key}", detail)
    if package:
        journal.append(session, now, actor, QUARANTINED, OBJECT, package, {"volume": volume, "why": why})
    return True


def is_quarantined(session: Session, volume: str, key: str) -> bool:
    """Whether an object of this volume is."""
    return _quarantined(session, f"{volume}/{key}")


def quarantined_of(session: Session, volume: str, keys: Iterable[str]) -> set[str]:
    """Which of these objects of a volume are."""
    subjects = [f"{volume}/{key}" for key in keys]
    query = select(Journal.subject).where(
        Journal.subject.in_(subjects), Journal.kind == OBJECT, Journal.verb == QUARANTINED
    )
    return {subject.removeprefix(f"{volume}/") for subject in session.scalars(query)}


def anything_is_quarantined(session: Session, volume: str, folder: str) -> bool:
    """Whether an object below a folder of this volume is."""
    query = select(Journal.seq).where(
        Journal.subject.startswith(f"{volume}/{folder}/", autoescape=True),
        Journal.kind == OBJECT,
        Journal.verb == QUARANTINED,
    )
    return session.scalar(query.limit(1)) is not None


def name_is_quarantined(session: Session, package: str) -> bool:
    """Whether an object that bears this package's name is."""
    return _quarantined(session, package)


def _quarantined(session: Session, subject: str) -> bool:
    query = select(Journal.seq).where(
        Journal.subject == subject, Journal.kind == OBJECT, Journal.verb == QUARANTINED
    )
    return session.scalar(query.limit(1)) is not None


@dataclass(frozen=True, slots=True)
class Holding:
    """A copy that the catalog has on a volume."""

    copy_pk: int
    package_pk: int
    package: str
    size: int
    digest: bytes
    state: CopyState
    verified_at: datetime | None


def holdings(session: Session, volume_pk: int, locators: Iterable[str]) -> dict[str, Holding]:
    """What the catalog has on a volume at these places."""
    rows = session.execute(_holdings().where(Copy.volume_pk == volume_pk, Copy.locator.in_(list(locators))))
    return dict(_holding(row) for row in rows)


def believed(session: Session, volume_pk: int, after: int, limit: int) -> list[tuple[str, Holding]]:
    """The next copies, by key, that the catalog counts on a volume, with their places."""
    rows = session.execute(
        _holdings()
        .where(
            Copy.volume_pk == volume_pk,
            Copy.pk > after,
            Copy.state.in_((CopyState.WRITTEN, CopyState.VERIFIED)),
        )
        .order_by(Copy.pk)
        .limit(limit)
    )
    return [_holding(row) for row in rows]


def _holdings() -> Select[str, int, int, str, int, bytes, str, datetime | None]:
    return select(
        *(Copy.locator, Copy.pk, Package.pk, Package.key, Package.size, Package.digest, Copy.state),
        Copy.verified_at,
    ).join(Package, Package.pk == Copy.package_pk)


def _holding(
    row: Row[str, int, int, str, int, bytes, str, datetime | None],
) -> tuple[str, Holding]:
    locator, copy_pk, package_pk, key, size, digest, state, verified_at = row
    return locator, Holding(copy_pk, package_pk, key, size, digest, CopyState(state), verified_at)


@dataclass(frozen=True, slots=True)
class File:
    """A version of an instance, as the catalog has it."""

    size: int
    digest: bytes
    sealed: bool


def files(session: Session, uids: Iterable[str]) -> dict[tuple[str, str, str, int], File]:
    """What the catalog has of these SOP Instance UIDs, by study, series, instance and version."""
    found = {}
    for some in portions.chunks(uids):
        rows = session.execute(
            select(
                *(Study.uid, Series.uid, Instance.uid, Instance.version),
                *(Instance.size, Instance.digest, Instance.package_pk),
            )
            .join(Series, Series.pk == Instance.series_pk)
            .join(Study, Study.pk == Series.study_pk)
            .where(Instance.uid.in_(some))
        )
        for study, series, uid, version, size, digest, package_pk in rows:
            found[study, series, uid, version] = File(size, digest, package_pk is not None)
    return found


def take_instance(session: Session, received: ingest.Received, actor: str, now: datetime) -> None:
    """Register an instance that lies in the online pool and in no package.

    :raises Refused: the catalog has this version of it already.
    """
    header = received.header
    there = files(session, [header.sop_instance_uid])
    key = (header.study_uid, header.series_uid, header.sop_instance_uid, received.version)
    if any(each[2:] == key[2:] for each in there):
        raise Refused(f"instance {header.sop_instance_uid}, version {received.version}, is known already")
    known = [
        ingest.Known(version, found.digest, (study, series))
        for (study, series, _, version), found in there.items()
    ]
    keys, news = ingest.register(session, received.after(known, received.version))
    rejected = awaiting.heed(session, keys.study_pk, header.study_uid, [header.sop_instance_uid])
    if rejected:
        hiding.recount(session, keys.study_pk)
    for verb, detail in [*news, *rejected]:
        journal.append(session, now, actor, verb, "study", header.study_uid, detail)


@dataclass(frozen=True, slots=True)
class Totals:
    """How much a catalog holds."""

    patients: int
    studies: int
    instances: int
    packages: int
    copies: int
    volumes: int


def totals(session: Session) -> Totals:
    """Counted now."""

    def count(table: type[Base], *where: Any) -> int:
        return session.scalar(select(func.count()).select_from(table).where(*where)) or 0

    gone = (CopyState.RELEASED, CopyState.LOST)
    return Totals(
        count(Patient),
        count(Study),
        count(Instance),
        count(Package),
        count(Copy, Copy.state.not_in(gone)),
        count(Volume, Volume.state.not_in((VolumeState.SCRATCH, VolumeState.FOREIGN))),
    )
