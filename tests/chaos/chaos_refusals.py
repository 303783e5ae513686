"""Whether it was true when the archive said that something cannot be had.

Triggers of the test keep, for each recall that fails, every copy of its package as it was at that moment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, text

from tests.chaos.chaos_effects import Effects

_COPIES = (
    "SELECT {}, p.key AS package, v.name, c.state AS copy, v.state AS volume, v.place FROM copy c"
    " JOIN package p ON p.pk = c.package_pk JOIN volume v ON v.pk = c.volume_pk WHERE p.pk = {}"
)
TRIGGERS = (
    "CREATE TABLE chaos_refused (n INTEGER PRIMARY KEY, error TEXT, package TEXT,"
    " name TEXT, copy TEXT, volume TEXT, place TEXT)",
    "CREATE TRIGGER chaos_refuses AFTER UPDATE OF state ON request"
    " WHEN new.kind = 'recall' AND new.state = 'failed' AND old.state <> 'failed' BEGIN"
    " INSERT INTO chaos_refused (error, package, name, copy, volume, place) "
    + _COPIES.format("new.error", "new.package_pk")
    + "; END",
)
"""SQLite's."""

NO_COPY = "no copy that can be read is left"
UNSEALED = "it is not sealed yet, and its file is damaged or missing"
GONE_VOLUMES = ("lost", "retired")


@dataclass
class Refusals:
    """What was refused in one archive, and what people and faults have done to cartridges."""

    effects: Effects
    not_brought: set[str] = field(default_factory=set)
    """Barcodes that somebody has refused to bring."""
    damaged: set[tuple[str, str]] = field(default_factory=set)
    """(package, volume) of copies that were damaged at some time."""
    _seen: int = 0
    _said: set[tuple[str, str]] = field(default_factory=set)
    """(package, error) of each recall that failed, and was judged."""

    def check(self, connection: Connection) -> None:
        """Judge the recalls that have failed since the last time.

        :raises AssertionError: one need not have.
        """
        rows = connection.execute(
            text("SELECT * FROM chaos_refused WHERE n > :n ORDER BY n"), {"n": self._seen}
        )
        for row in rows.all():
            self._seen = row.n
            self._said.add((row.package, row.error))
            self._judge(row.error, row)
            self.effects.checks["6 a recall fails where no copy can be had, and says why"] += 1

    def judge(self, connection: Connection, package_pk: int | None, reason: str, *, seen: bool) -> None:
        """A reason for which one instance was refused just now.

        :param package_pk: None: the instance is in no package.
        :param seen: nobody has deleted or rejected it.
        :raises AssertionError: it is not true.
        """
        self.check(connection)
        self.effects.checks["6 what cannot be had is refused with a reason that is true"] += 1
        copies = connection.execute(text(_COPIES.format("0", ":pk")), {"pk": package_pk}).all()
        if copies and (copies[0].package, reason) in self._said:
            return  # of its recall
        if cancelled := re.fullmatch(r"its recall \(request (\d+)\) was cancelled", reason):
            state = connection.scalar(
                text("SELECT state FROM request WHERE pk = :pk"), {"pk": int(cancelled[1])}
            )
            assert state == "cancelled", f"6: {reason}: it is {state}"
        elif reason == UNSEALED:
            assert not seen, f"6: {reason}; and it is there"
        else:
            assert reason.startswith(NO_COPY), f"6: a reason that nobody knows: {reason}"
            for copy in copies:
                self._judge(reason, copy)

    def _judge(self, said: str, copy: Row[Any]) -> None:
        """What a reason says of one copy of the package, as that was when it was given."""
        spoilt = (copy.package, copy.name) in self.damaged
        there = copy.copy == "verified" and copy.volume not in GONE_VOLUMES and copy.place != "unknown"
        assert spoilt or not there, f"6: refused ({said}), and {copy.name} has a verified copy"
        name = re.escape(copy.name)
        told = {
            rf"nobody knows where {name} is": copy.place == "unknown" and copy.name in self.not_brought,
            rf"{name} gave other bytes": spoilt,
            rf"the copy on {name} is {copy.copy}": True,
            rf"{name} is {copy.volume}": True,
        }
        true = [holds for what, holds in told.items() if re.search(what, said)]
        named = re.search(rf"\b{name}\b", said) is not None
        assert any(true) or not named, f"6: not true of {copy}: {said}"
