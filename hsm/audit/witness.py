"""The journal's file (:mod:`hsm.trail.file`) against the journal in the database: each vouches for both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.orm import Session

from hsm.catalog import chainread
from hsm.catalog.chaincheck import Problem
from hsm.trail.file import Line, last_record, read


@dataclass
class Witness:
    """What a comparison has come to, once its problems were read."""

    path: Path
    known: int | None = None
    """The last record that the file had before the database was looked at. What the daemon has streamed
    into it since is younger than that look, and no news of it; None: nothing is."""
    compared: int = 0
    last: int = 0
    """The last record that the file has."""
    agrees_until: int = field(default=0)
    """Up to this record file and database say the same."""

    @classmethod
    def before(cls, path: Path) -> Witness:
        """Of a file, to be compared with a look at the database that comes after this."""
        with suppress(OSError):  # reading it will say so
            return cls(path, last_record(path))
        return cls(path)

    def problems(self, session: Session) -> Iterator[Problem]:
        """Everything that is wrong with the file by itself, and where it and the database differ; in constant
        memory.

        :raises OSError: the file cannot be read.
        """
        found = read(self.path)
        stored: Iterator[tuple[int, bytes]] | None = None
        here: tuple[int, bytes] | None = None
        for each in found:
            if isinstance(each, Problem):
                yield each
                continue
            if stored is None:
                stored = chainread.digests(session, each.seq)
                here = next(stored, None)
            while here is not None and here[0] < each.seq:
                here = next(stored, None)
            if here is None and self.known is not None and each.seq > self.known:
                continue
            self.compared += 1
            self.last = max(self.last, each.seq)
            if here is None or here[0] != each.seq:
                yield _missing(each)
            elif here[1] != each.digest:
                yield _differs(each)
            elif self.agrees_until in (0, each.seq - 1):
                self.agrees_until = each.seq


def _missing(line: Line) -> Problem:
    return Problem(
        line.seq,
        f"record {line.seq} is missing in the database, and is in {line.where}: it was removed, or an older "
        "database was put in its place",
    )


def _differs(line: Line) -> Problem:
    return Problem(
        line.seq,
        f"record {line.seq} is another one in the database than in {line.where}: one of the two was written "
        "anew",
    )
