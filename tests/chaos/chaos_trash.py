"""What the world outside knows of deletions, and whether the archive did what it was asked, and no more.

A deletion that nobody asked for, one that ends before its day, one that is gone and one that is altered are
found by comparing what people were told with the catalog's rows, by a connection of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from tests.chaos.chaos_studies import Sent
from tests.sim.world import study_uid

OVER = ("due", "purged")
"""States in which the last copies may go."""


@dataclass(frozen=True, slots=True)
class Row:
    """A deletion as the catalog has it now."""

    pk: int
    state: str
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Deleted:
    """A deletion as it was asked for."""

    study: int
    instances: frozenset[Sent]
    """What was acknowledged, and to be seen, at that moment."""
    due_at: datetime


class Trashcan:
    """Deletions of one archive.

    :param latest: the latest time that the archive's wall clock has ever shown.
    """

    def __init__(self, latest: Callable[[], datetime]) -> None:
        self._latest = latest
        self.deleted: dict[int, Deleted] = {}
        """By the deletion's key in the catalog."""
        self.undone: set[int] = set()

    # What people do.

    def learn(self, connection: Connection, study: int, there: Iterable[Sent]) -> bool:
        """After somebody asked for a deletion, whatever became of the answer: whether there is one now.

        :param there: what had been acknowledged of the study.
        """
        new = [row for row in rows(connection, study) if row.pk not in self.deleted]
        if not new:
            return False
        # What is in the trash already goes there anew, with what has come since: its time begins again.
        before = self.learn_undone(connection, study)
        for row in new:
            self.deleted[row.pk] = Deleted(study, frozenset(there) | before, row.due_at)
        return True

    def learn_undone(self, connection: Connection, study: int) -> set[Sent]:
        """After somebody took a study back, whatever became of the answer: what is there again."""
        back: set[Sent] = set()
        for row in rows(connection, study):
            if row.state == "undone" and row.pk not in self.undone and row.pk in self.deleted:
                self.undone.add(row.pk)
                back |= self.deleted[row.pk].instances
        return back

    def studies(self) -> list[int]:
        """Studies that are in the trash or were, and were not taken back."""
        return sorted({each.study for pk, each in self.deleted.items() if pk not in self.undone})

    def sent(self) -> set[Sent]:
        """Everything that was part of a deletion."""
        return {each for some in self.deleted.values() for each in some.instances}

    # What must hold.

    def check(self, connection: Connection) -> Iterator[tuple[Deleted, Row]]:
        """Each deletion that was not taken back, with its row.

        :raises AssertionError: one is gone, altered, was not asked for or ended before its day.
        """
        found = {row.pk: row for row in rows(connection)}
        strange = sorted(set(found) - set(self.deleted))
        assert not strange, f"3: deletions that nobody asked for: {strange}"
        for pk, asked in self.deleted.items():
            assert pk in found, f"3: deletion {pk} of study {asked.study} is gone"
            row = found[pk]
            assert row.due_at == asked.due_at, f"3: deletion {pk} was due {asked.due_at}, now {row.due_at}"
            assert (row.state == "undone") == (pk in self.undone), (
                f"3: deletion {pk} of study {asked.study} is {row.state}, and people know otherwise"
            )
            if row.state in OVER:
                assert row.due_at <= self._latest(), (
                    f"3: deletion {pk} is {row.state}, and its day is {row.due_at}"
                )
            if pk not in self.undone:
                yield asked, row

    def overdue(self, connection: Connection, now: datetime) -> list[str]:
        """Deletions whose day has come, which nothing forbids, and which have not come to their end."""
        held = set(
            connection.scalars(
                text("SELECT s.uid FROM hold h JOIN study s ON s.pk = h.study_pk WHERE h.lifted_at IS NULL")
            )
        )
        return [
            f"deletion {row.pk} of study {self.deleted[row.pk].study} is {row.state}, due {row.due_at}"
            for row in rows(connection)
            if row.state in ("standing", "due")
            and row.due_at <= now
            and study_uid(self.deleted[row.pk].study) not in held
        ]


def rows(connection: Connection, study: int | None = None) -> list[Row]:
    """Deletions of studies, as the catalog has them."""
    found = connection.execute(
        text(
            "SELECT d.pk, d.state, d.due_at FROM deletion d JOIN study s ON s.pk = d.study_pk"
            " WHERE d.kind = 'trash' AND (:uid = '' OR s.uid = :uid) ORDER BY d.pk"
        ),
        {"uid": "" if study is None else study_uid(study)},
    )
    return [Row(pk, state, _time(due)) for pk, state, due in found]


def packages(connection: Connection, states: Iterable[str]) -> set[str]:
    """Keys of the packages that deletions in these states name."""
    named = ", ".join(f"'{state}'" for state in states)
    return set(
        connection.scalars(
            text(
                "SELECT p.key FROM package p JOIN deleted_package e ON e.package_pk = p.pk"
                f" JOIN deletion d ON d.pk = e.deletion_pk WHERE d.state IN ({named})"
            )
        )
    )


def _time(said: object) -> datetime:
    found = datetime.fromisoformat(str(said))
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
