"""Candidates of a policy's rule: one statement, read a page at a time, from where a run had come to.

The statement gives keys in the rule's order. It runs once a rule and run, from a cursor of the
database's, so that neither its cost nor the memory grows with the pages. A run that was cut short goes
on behind the last study that it had decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, UnaryExpression, and_, false, or_, select
from sqlalchemy.orm import Session
from sqlalchemy.sql import operators

from hsm.catalog import placements
from hsm.catalog.tables import Study

PAGE = 500
"""Studies that are read, decided and asked for at a time."""

Position = list[Any]
"""The values of the order's terms and the key of one study, as JSON can hold them."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some studies, in order."""

    keys: tuple[int, ...]
    end: Position
    """Where a run goes on behind this page."""


def pages(
    session: Session,
    where: Iterable[ColumnElement[bool]],
    order: Sequence[ColumnElement[Any]] = (),
    after: Position | None = None,
    size: int = PAGE,
) -> Iterator[Page]:
    """Matching studies that have a package which was not deleted, in ``order`` and then by key.

    :param order: terms without nulls, ``.asc()`` and ``.desc()`` as needed.
    :param after: the position behind which to go on.
    """
    terms = [*_terms(order), (Study.pk.expression, False)]
    where = placements.narrowed(session, where)
    query = select(*(column for column, _ in terms)).where(
        Study.packages > 0, Study.placement_pk.is_not(None), *where
    )
    if after is not None:
        query = query.where(_behind(terms, after))
    query = query.order_by(*(column.desc() if down else column.asc() for column, down in terms))
    # Of the connection: the session would read all of SQLite's rows before it gave one.
    options = {"stream_results": True, "max_row_buffer": size}
    connection = session.connection()
    result = connection.execute(query, execution_options=options)
    try:
        while rows := result.fetchmany(size):
            yield Page(tuple(row[-1] for row in rows), [_plain(value) for value in rows[-1]])
    finally:
        # Who was cut off ends this late: of a connection that is gone there is no cursor to close.
        if not (connection.closed or connection.invalidated):
            result.close()


def _terms(order: Sequence[ColumnElement[Any]]) -> Iterator[tuple[ColumnElement[Any], bool]]:
    for term in order:
        if isinstance(term, UnaryExpression) and term.modifier in (operators.desc_op, operators.asc_op):
            yield term.element, term.modifier is operators.desc_op
        else:
            yield term, False


def _behind(terms: Sequence[tuple[ColumnElement[Any], bool]], after: Position) -> ColumnElement[bool]:
    """Row comparison, which no database does where directions are mixed."""
    if len(after) != len(terms):
        return ~false()  # of another order: from its beginning
    either: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for (column, down), value in zip(terms, map(_value, after), strict=True):
        either.append(and_(*equal, column < value if down else column > value))
        equal.append(column == value)
    return or_(*either)


def _plain(value: Any) -> Any:
    return {"at": value.isoformat()} if isinstance(value, datetime) else value


def _value(value: Any) -> Any:
    return datetime.fromisoformat(value["at"]) if isinstance(value, dict) else value
