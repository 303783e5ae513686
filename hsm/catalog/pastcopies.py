"""How studies lay at a time that is over.

Those none of whose copies, packages and volumes has changed since lie as they lay (promise 7: nothing changes
without a record). Of the others the journal's records about copies say it, each study looked up by its UID:
that costs less than to group the whole journal by studies.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Text,
    cast,
    exists,
    false,
    func,
    literal,
    select,
    text,
    true,
    union,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute, Session

from hsm.catalog import protection
from hsm.catalog.tables import (
    ABOUT_COPIES,
    Copy,
    DeletedPackage,
    Deletion,
    Journal,
    Package,
    Study,
    Volume,
)
from hsm.guard import GOOD_VOLUMES

_ROWS = 2000
_STUDIES = 2000
_ABOUT_COPIES = (Journal.kind == "study", text(ABOUT_COPIES))

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
    changed = select(Journal.subject).where(*_ABOUT_COPIES, Journal.at > at)
    since = select(Study.pk).where(there, Study.uid.in_(changed))
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
        keys = func.unnest(_array(moved.study_pks)).column_valued("moved")
        found = exists().where(keys == Study.pk).correlate(Study)
        return found if wanted else ~found
    each = func.json_each(json.dumps(moved.study_pks)).table_valued("value")
    return Study.pk.in_(select(each.c.value)) if wanted else Study.pk.not_in(select(each.c.value))


def _array(keys: Sequence[int]) -> ColumnElement[Any]:
    """Keys as one value of PostgreSQL. As text: of ARRAY[1, 2], which psycopg2 makes of a list, the server
    parses each element as an expression (1.5 s of 80,000 keys, where this takes 0.04 s)."""
    return cast(literal("{" + ",".join(map(str, keys)) + "}", Text()), ARRAY(BigInteger))


def _one_of(session: Session, column: InstrumentedAttribute[int], keys: Sequence[int]) -> ColumnElement[bool]:
    """Whether a key is one of a page of them."""
    if session.get_bind().dialect.name == "postgresql":
        return column == func.any(_array(keys))
    return column.in_(keys)


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
    way_of = array("I", bytes(4 * (moved.study_pks[-1] + 1)))
    numbers: dict[tuple[tuple[tuple[str, str], ...], ...], int] = {}
    ways: list[Copies] = [()]
    for start in range(0, len(moved.study_pks), _STUDIES):
        found = copies_at(session, moved.study_pks[start : start + _STUDIES], at)
        for study_pk, packages in found.items():
            key = tuple(tuple(sorted(copies.items())) for copies in packages.values())
            number = numbers.get(key)
            if number is None:
                number = numbers[key] = len(ways)
                ways.append(tuple(packages.values()))
            way_of[study_pk] = number
    return Lying(way_of, tuple(ways))


def copies_at(
    session: Session, study_pks: Sequence[int], at: datetime
) -> dict[int, dict[str, dict[str, str]]]:
    """As the journal has it: of each study, of each package, by volume, the state of its copy at a time.
    Packages that were deleted by then are left out.

    :param study_pks: a page of them: they are looked up one by one, in one statement.
    :returns: by the study's key, package key, volume; studies with no package then are left out.
    """
    mine = protection.deleted_by(at).where(_one_of(session, Package.study_pk, study_pks))
    gone = set(session.scalars(mine))
    rows = session.execute(
        select(Study.pk, Journal.verb, Journal.detail)
        .join(Journal, Journal.subject == Study.uid)
        .where(_one_of(session, Study.pk, study_pks), *_ABOUT_COPIES, Journal.at <= at)
        .order_by(Journal.seq)
    )
    found: dict[int, dict[str, dict[str, str]]] = {}
    for pk, verb, written in rows:
        detail: Mapping[str, str] = json.loads(written)
        if detail["package"] not in gone:
            copies = found.setdefault(pk, {}).setdefault(detail["package"], {})
            copies[detail["volume"]] = verb.removeprefix("copy ")
    return found


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


def _streamed(session: Session, query: Any) -> Iterator[Any]:
    # Of the connection: the session would read all of SQLite's rows before it gave one.
    options = {"stream_results": True, "max_row_buffer": _ROWS}
    with session.connection().execute(query, execution_options=options) as result:
        while rows := result.fetchmany(_ROWS):
            yield from rows
