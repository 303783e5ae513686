"""Matching terms as SQL conditions (PS3.4 section C.2.2.2), alike on SQLite and PostgreSQL."""

from __future__ import annotations

import itertools
from typing import Any

from sqlalchemy import ColumnElement, and_, or_
from sqlalchemy.orm import InstrumentedAttribute

from hsm import terms
from hsm.terms import AnyOf, Exact, NameMatch, Range, Wildcard

Column = ColumnElement[Any] | InstrumentedAttribute[Any]


def compare(column: Column, term: Exact | Wildcard | AnyOf | Range, sqlite: bool) -> ColumnElement[bool]:
    """The condition that a column's value matches a term."""
    match term:
        case Exact(value):
            return column == _typed(column, value)
        case Wildcard(pattern):
            return _like(column, pattern, sqlite)
        case AnyOf(choices):
            exact = [_typed(column, each.value) for each in choices if isinstance(each, Exact)]
            parts: list[ColumnElement[bool]] = [column.in_(exact)] if exact else []
            parts += [_like(column, each.pattern, sqlite) for each in choices if isinstance(each, Wildcard)]
            return or_(*parts)
        case Range(low, high):
            # Code point order, whatever the database's locale; SQLite compares so by itself.
            text = column if sqlite else column.collate("C")
            parts = [column != ""]
            parts += [text >= low] if low is not None else []
            parts += [text <= high] if high is not None else []
            return and_(*parts)


def _typed(column: Column, value: str) -> str | int:
    return int(value) if column.type.python_type is int else value


def _like(column: Column, pattern: str, sqlite: bool) -> ColumnElement[bool]:
    """Case-sensitive on both databases: SQLite's LIKE is not, its GLOB is."""
    if terms.is_plain(pattern):
        return column == terms.literal(pattern)
    if sqlite:
        return column.op("GLOB", is_comparison=True)(glob_pattern(pattern))
    return column.like(like_pattern(pattern), escape="!")


def glob_pattern(pattern: str) -> str:
    """A wildcard pattern for SQLite's GLOB."""
    return "".join(
        token if token in "*?" else f"[{token[-1]}]" if token[-1] in "*?[" else token[-1]
        for token in terms.tokens(pattern)
    )


def like_pattern(pattern: str) -> str:
    """A wildcard pattern for LIKE ... ESCAPE '!'."""
    wild = {"*": "%", "?": "_"}
    return "".join(
        wild.get(token) or (f"!{token[-1]}" if token[-1] in "!%_" else token[-1])
        for token in terms.tokens(pattern)
    )


def name(alphabetic: Column, other: Column, term: NameMatch, sqlite: bool) -> ColumnElement[bool]:
    """A superset of what matches: in joined groups a star may run over the ``=`` between them.

    :param alphabetic: the column of the alphabetic group.
    :param other: the column of the other groups; the same one where all are joined in it.

    :meth:`hsm.terms.NameMatch.accepts` takes the surplus away.
    """
    first, second, third = term.groups

    def any_of(column: Column, pattern: str, joined: bool) -> ColumnElement[bool]:
        around = itertools.product(("", "*="), ("", "=*")) if joined else [("", "")]
        return or_(
            *(
                _like(column, f"{before}{variant}{after}", sqlite)
                for before, after in around
                for variant in terms.name_variants(pattern)
            )
        )

    if alphabetic is other:
        return and_(*(any_of(other, pattern, True) for pattern in term.groups if pattern))
    if term.any_group:
        return or_(any_of(alphabetic, first, False), any_of(other, first, True))
    parts = [any_of(alphabetic, first, False)] if first else []
    parts += [any_of(other, pattern, True) for pattern in (second, third) if pattern]
    return and_(*parts)
