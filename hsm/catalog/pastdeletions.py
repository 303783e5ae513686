"""Deletions of a backup, put back by the steps by which they came to be what they are.

The database takes a deletion only as one that stands, of each study one in the trash at a time, and lets
something be hidden or go only by one that has not ended. A study may have been deleted, taken back or stored
again, and deleted once more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from typing import Any, Final

from sqlalchemy import Table, insert, update
from sqlalchemy.orm import Session

from hsm.catalog.tables import Base, DeletedPackage, Deletion, HiddenInstance
from hsm.states import DeletionKind, DeletionState

Row = dict[str, Any]
TABLES: Final = tuple(each.__tablename__ for each in (Deletion, HiddenInstance, DeletedPackage))
_BEGUN: Final = {"state": DeletionState.STANDING.value, "checked_at": None, "ended_at": None}
"""What a deletion is when it is put in."""
_ENDS: Final = ("ended_at", "ended_by", "ended_reason")


def put(session: Session, rows: Callable[[Table], Iterator[list[Row]]]) -> None:
    """Put all of them in, with what they hide and what went with them.

    :param rows: those of a table in the backup, some at a time; asked for more than once.
    """
    deletion = Base.metadata.tables[Deletion.__tablename__]
    every = [row for some in rows(deletion) for row in some]
    looked = False
    for turn in turns(every):
        session.execute(insert(deletion), [row | _BEGUN for row in turn])
        mine = {row["pk"] for row in turn if row["state"] != DeletionState.UNDONE}
        if mine:
            _name(session, rows, mine)
            looked = True
        for row in turn:
            _end(session, row)
    if not looked:  # nothing is to be in them, and that is seen
        _name(session, rows, frozenset())


def _name(session: Session, rows: Callable[[Table], Iterator[list[Row]]], mine: Set[int]) -> None:
    """Put in what these deletions hide, and the packages that went with them."""
    for name in TABLES[1:]:
        table = Base.metadata.tables[name]
        for some in rows(table):
            if wanted := [row for row in some if row["deletion_pk"] in mine]:
                session.execute(insert(table), wanted)


def turns(rows: Iterable[Row]) -> list[Sequence[Row]]:
    """Which deletions the database takes at a time: of each study one in the trash, in the order in which
    they came. First those that were undone, which hide nothing any more. Pure."""
    before: Counter[tuple[bool, int]] = Counter()
    found: dict[tuple[bool, int], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["ended_at"] is None, row["pk"])):
        undone, turn = row["state"] == DeletionState.UNDONE, 0
        if row["kind"] == DeletionKind.TRASH:
            turn = before[undone, row["study_pk"]]
            before[undone, row["study_pk"]] += 1
        found.setdefault((not undone, turn), []).append(row)
    return [found[key] for key in sorted(found)]


def _end(session: Session, row: Row) -> None:
    """It becomes what it was, by the steps that lead there."""
    steps = {"due": ["due"], "purged": ["due", "purged"], "undone": ["undone"]}.get(row["state"], [])
    for state in steps:
        values = {"state": state} | ({"checked_at": row["checked_at"]} if state == "due" else {})
        if state == row["state"]:
            values = {name: row[name] for name in ("state", "checked_at", *_ENDS)}
        session.execute(update(Deletion).where(Deletion.pk == row["pk"]).values(**values))
