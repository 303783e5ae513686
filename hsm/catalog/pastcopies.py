"""How every study lay at a time that is over, as the journal has it: one pass over its records about copies,
in the database, and a number for each study."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ColumnElement, case, cast, func, select
from sqlalchemy.orm import Session

from hsm.catalog import protection
from hsm.catalog.tables import Journal, Study
from hsm.states import CopyState

_CODES = {state: number for number, state in enumerate(CopyState)}
_STATES = {number: state.value for state, number in _CODES.items()}
_BASE = 16
"""More than there are states: record and state make one number, of which the last record's is the largest."""
_ITEM, _COPY, _PACKAGE = "\x1f", "\x1e", "\x1d"
_ROWS = 2000

Copies = tuple[Mapping[str, str], ...]
"""Of each package: the state of each copy, by volume."""


@dataclass(frozen=True, slots=True)
class Lying:
    """How each study lay: one of few ways."""

    way_of: array[int]
    """By the study's key, which way; 0: it had no package then."""
    ways: tuple[Copies, ...]

    def of(self, study_pk: int) -> int:
        return self.way_of[study_pk] if study_pk < len(self.way_of) else 0


def lying(session: Session, at: datetime) -> Lying:
    """All studies, without packages that were deleted by then; memory is four bytes for each, and a little
    for each way to lie."""
    largest = int(session.scalar(select(func.max(Study.pk))) or 0)
    way_of = array("I", bytes(4 * (largest + 1)))
    numbers: dict[str, int] = {}
    ways: list[Copies] = [()]
    for study_pk, said in _streamed(session, _statement(session, at)):
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


def _statement(session: Session, at: datetime) -> Any:
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
    last = (
        select(
            Journal.subject.label("uid"),
            said("package").label("package"),
            said("volume").label("volume"),
            (func.max(Journal.seq * _BASE + code) % _BASE).label("code"),
        )
        .where(Journal.kind == "study", Journal.verb.startswith("copy "), Journal.at <= at)
        .group_by("uid", "package", "volume")
        .subquery()
    )
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
