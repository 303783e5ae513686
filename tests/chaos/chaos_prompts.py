"""Promise 6: a person is asked for a medium once, and again only when there is a reason.

Triggers of the test note each prompt as it is opened and closed, which requests wait for a volume, and when a
volume comes or goes. So a prompt that was there between two looks is seen as well.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from sqlalchemy import Connection, text

_NOTE = (
    "INSERT INTO chaos_prompt (volume, event, detail, open) SELECT name, {}, {}, (SELECT count(*) FROM"
    " mount_request m WHERE m.volume_pk = volume.pk AND m.state = 'open') FROM volume WHERE pk = {}"
)
_OUT = "IN ('shelf', 'unknown')"
TRIGGERS = (
    "CREATE TABLE chaos_prompt (n INTEGER PRIMARY KEY, volume TEXT, event TEXT, detail TEXT, open INTEGER)",
    *(
        f"CREATE TRIGGER chaos_prompt_{name} AFTER {event} BEGIN {_NOTE.format(*what)}; END"
        for name, event, what in (
            ("opened", "INSERT ON mount_request", ("'asked'", "''", "new.volume_pk")),
            (
                "closed",
                "UPDATE OF state ON mount_request WHEN old.state = 'open' AND new.state <> 'open'",
                ("'answered'", "new.outcome", "new.volume_pk"),
            ),
            (
                "waited_for",
                "UPDATE OF state ON request WHEN new.state = 'waiting' AND new.volume_pk IS NOT NULL",
                ("'waits'", "new.pk", "new.volume_pk"),
            ),
            (
                "moved",
                f"UPDATE OF place ON volume WHEN (old.place {_OUT}) <> (new.place {_OUT})",
                ("'moved'", "new.place", "new.pk"),
            ),
        )
    ),
)
"""SQLite's."""

WITHDRAWN = "not needed"
"""An answer that nobody has given."""


class Prompts:
    """How often people were asked for each volume, and how often there was a reason to."""

    def __init__(self) -> None:
        self._seen = self._moves = 0
        self._asked: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()
        self._reasons: dict[str, set[tuple[str, int]]] = defaultdict(set)
        """By volume: who has waited for it, and between which comings and goings of volumes."""

    def check(self, connection: Connection) -> int:
        """Look at what happened since the last time.

        :returns: how often somebody was asked since then.
        :raises AssertionError: somebody was asked for what he was asked for already, or for no reason.
        """
        query = text("SELECT * FROM chaos_prompt WHERE n > :n ORDER BY n")
        before = self._asked.total()
        for row in connection.execute(query, {"n": self._seen}):
            self._seen = row.n
            if row.event == "asked":
                assert row.open == 1, f"6: {row.volume} is asked for {row.open} times at once"
                self._asked[row.volume] += 1
            elif row.event == "answered":
                self._answers[row.volume] += row.detail != WITHDRAWN
            elif row.event == "waits":
                self._reasons[row.volume].add((row.detail, self._moves))
            else:
                self._moves += 1
        for volume, times in self._asked.items():
            reasons, answers = len(self._reasons[volume]), self._answers[volume]
            assert times <= reasons + answers, (
                f"6: {volume} was asked for {times} times, for {reasons} reasons and after {answers} answers"
            )
        return self._asked.total() - before
