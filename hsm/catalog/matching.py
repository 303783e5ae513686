"""Matching terms as SQL conditions (PS3.4 section C.2.2.2), alike on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
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
            # From the smallest text that is not empty.
            parts = [column > ""] if not low else [column >= low]
            parts += [column <= high] if high is not None else []
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


def name(columns: Sequence[Column], term: NameMatch, sqlite: bool) -> ColumnElement[bool]:
    """The condition that a person's name matches, as :meth:`hsm.terms.NameMatch.accepts` says.

    :param columns: of the alphabetic, the ideographic and the phonetic group.
    """

    def group_matches(column: Column, pattern: str) -> ColumnElement[bool]:
        return or_(*(_like(column, variant, sqlite) for variant in terms.name_variants(pattern)))

    if term.any_group:
        return or_(*(group_matches(column, term.groups[0]) for column in columns))
    pairs = zip(columns, term.groups, strict=True)
    return and_(*(group_matches(column, pattern) for column, pattern in pairs if pattern))
