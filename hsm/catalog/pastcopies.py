"""How studies lay at a time that is over.

Those none of whose copies, packages and volumes has changed since lie as they lay (promise 7: nothing changes
without a record). Of the others the journal's records about copies say it: of few studies each is looked up,
of many the database makes one pass over the journal.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ColumnElement, case, cast, exists, false, func, select, true, union
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from hsm.catalog import protection
from hsm.catalog.tables import Copy, DeletedPackage, Deletion, Journal, Package, Study, Volume
from hsm.guard import GOOD_VOLUMES
from hsm.states import CopyState

_CODES = {state: number for number, state in enumerate(CopyState)}
_STATES = {number: state.value for state, number in _CODES.items()}
_BASE = 16
"""More than there are states: record and state make one number, of which the last record's is the largest."""
_ITEM, _COPY, _PACKAGE = "\x1f", "\x1e", "\x1d"
_ROWS = 2000
_FEW = 0.05
"""Share of all studies up to which each is looked up."""
_ABOUT_COPIES = (Journal.kind == "study", Journal.verb.startswith("copy "))

Copies = tuple[Mapping[str, str], ...]
"""Of each package: the state of each copy, by volume."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The studies that were there at a time and may have lain otherwise."""

    study_pks: Sequence[int]


def moved(session: Session, at: datetime, untrusted: Set[str]) -> Moved:
    """Find them.

    :param untrusted: volumes whose copies did not count at that time.
    """
    there = Study.first_received <= at
    since = (
        select(Study.pk)
        .join(Journal, Journal.subject == Study.uid)
        .where(there, *_ABOUT_COPIES, Journal.at > at)
    )
    deleted = (
        select(Study.pk)
        .join(Package, Package.study_pk == Study.pk)
        .join(DeletedPackage, DeletedPackage.package_pk == Package.pk)
        .join(Deletion, Deletion.pk == DeletedPackage.deletion_pk)
        .where(there, Deletion.made_at > at)
    )
    ways = [since, deleted]
    volumes = session.execute(select(Volume.pk, Volume.name, Volume.state))
    turned = [pk for pk, name, state in volumes if (name in untrusted) is (state in GOOD_VOLUMES)]
    if turned:
        ways.append(
            select(Study.pk)
            .join(Package, Package.study_pk == Study.pk)
            .join(Copy, Copy.package_pk == Package.pk)
            .where(there, Copy.volume_pk.in_(turned))
        )
    return Moved(sorted(session.scalars(union(*ways))))


def among(session: Session, moved: Moved, *, wanted: bool) -> ColumnElement[bool]:
    """Whether a study is one of them, or is not. The list is put as one value, however long it is."""
    if not moved.study_pks:
        return false() if wanted else true()
    if session.get_bind().dialect.name == "postgresql":
        keys = func.unnest(cast(list(moved.study_pks), ARRAY(BigInteger))).column_valued("moved")
        found = exists().where(keys == Study.pk).correlate(Study)
        return found if wanted else ~found
    each = func.json_each(json.dumps(moved.study_pks)).table_valued("value")
    return Study.pk.in_(select(each.c.value)) if wanted else Study.pk.not_in(select(each.c.value))


@dataclass(frozen=True, slots=True)
class Lying:
    """How each study lay: one of few ways."""

    way_of: array[int]
    """By the study's key, which way; 0: it had no package then, or is not known."""
    ways: tuple[Copies, ...]

    def of(self, study_pk: int) -> int:
        return self.way_of[study_pk] if study_pk < len(self.way_of) else 0


def lying(session: Session, at: datetime, moved: Moved) -> Lying:
    """These studies, without packages that were deleted by then; memory is four bytes for each that there is,
    and a little for each way to lie."""
    if not moved.study_pks:
        return Lying(array("I"), ((),))
    largest = int(session.scalar(select(func.max(Study.pk))) or 0)
    way_of = array("I", bytes(4 * (largest + 1)))
    numbers: dict[str, int] = {}
    ways: list[Copies] = [()]
    for study_pk, said in _streamed(
        session, _statement(session, at, moved if len(moved.study_pks) < largest * _FEW else None)
    ):
        number = numbers.get(said)
        if number is None:
            number = numbers[said] = len(ways)
            ways.append(_parsed(said))
        way_of[study_pk] = number
    return Lying(way_of, tuple(ways))


def received(
    session: Session, owned: ColumnElement[bool], until: datetime
) -> Iterator[tuple[int, str, int, datetime]]:
    """Key, UID, size and last reception of the sealed studies that meet a condition and had an instance by
    then, by their keys."""
    query = (
        select(Study.pk, Study.uid, Study.n_bytes, Study.last_received)
        .where(Study.packages > 0, Study.first_received <= until, owned)
        .order_by(Study.pk)
    )
    for pk, uid, size, last in _streamed(session, query):
        yield pk, uid, int(size), last


def _statement(session: Session, at: datetime, few: Moved | None) -> Any:
    """:param few: only these studies, each found by its UID; None: all."""
    postgresql = session.get_bind().dialect.name == "postgresql"
    joined = func.string_agg if postgresql else func.group_concat

    def said(name: str) -> ColumnElement[str]:
        if postgresql:
            return func.json_extract_path_text(cast(Journal.detail, JSON), name)
        return func.json_extract(Journal.detail, f"$.{name}")

    code = case(
        {f"copy {state.value}": number for state, number in _CODES.items()},
        value=Journal.verb,
        else_=_BASE - 1,
    )
    records = (
        select(
            Journal.subject.label("uid"),
            said("package").label("package"),
            said("volume").label("volume"),
            (func.max(Journal.seq * _BASE + code) % _BASE).label("code"),
        )
        .where(*_ABOUT_COPIES, Journal.at <= at)
        .group_by("uid", "package", "volume")
    )
    if few is not None:
        uids = select(Study.uid).where(among(session, few, wanted=True))
        records = records.where(Journal.subject.in_(uids))
    last = records.subquery()
    copy = last.c.volume.concat(_ITEM).concat(cast(last.c.code, Study.uid.type))
    packages = (
        select(last.c.uid, joined(copy, _COPY).label("copies"))
        .where(last.c.package.not_in(protection.deleted_by(at)))
        .group_by(last.c.uid, last.c.package)
        .subquery()
    )
    studies = (
        select(packages.c.uid, joined(packages.c.copies, _PACKAGE).label("said"))
        .group_by(packages.c.uid)
        .subquery()
    )
    return select(Study.pk, studies.c.said).join(studies, studies.c.uid == Study.uid)


def _parsed(said: str) -> Copies:
    found = []
    for package in said.split(_PACKAGE):
        pairs = (each.rpartition(_ITEM) for each in package.split(_COPY))
        found.append({volume: _STATES.get(int(code), "") for volume, _, code in pairs})
    return tuple(found)


def _streamed(session: Session, query: Any) -> Iterator[Any]:
    # Of the connection: the session would read all of SQLite's rows before it gave one.
    options = {"stream_results": True, "max_row_buffer": _ROWS}
    with session.connection().execute(query, execution_options=options) as result:
        while rows := result.fetchmany(_ROWS):
            yield from rows
