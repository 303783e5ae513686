"""What a check of the catalog finds, and the shape of one that is a query."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsm.catalog.columns import unpack_uid


@dataclass(frozen=True, slots=True)
class Finding:
    """One row that cannot be right."""

    check: str
    """The check's name: stable, for scripts."""
    noun: str
    subject: str
    """The row, by the name an operator knows it by."""
    message: str
    remedy: str
    """What to do."""


@dataclass(frozen=True, slots=True)
class Check:
    """A query whose every row is a finding; its columns fill the templates. One must be ``subject``."""

    name: str
    noun: str
    query: str
    message: str
    remedy: str


def run(session: Session, one: Check, limit: int) -> Iterator[Finding]:
    """At most ``limit`` findings of one check."""
    rows = session.execute(text(f"{one.query}\nORDER BY 1 LIMIT :limit"), {"limit": limit})
    for row in rows.mappings():
        values = dict(row)
        if not isinstance(values["subject"], str):
            values["subject"] = unpack_uid(values["subject"])
        yield Finding(
            one.name,
            one.noun,
            str(values["subject"]),
            one.message.format_map(values),
            one.remedy.format_map(values),
        )


def by_hand(statement: str) -> str:
    """How a person mends it."""
    return f"stop the daemon, back the catalog up, and run: {statement}"
