"""Promise 7: each change of state that the database has seen has exactly one record that says it.

Triggers of the test's own note what changed: of what, and into which state. The journal must tell the same of
each subject in the same order, nothing more and nothing less.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from sqlalchemy import Connection, text

Subject = tuple[str, str, str, str]
"""The record's kind and subject, and of a copy its package and volume."""

_COPY = (
    "SELECT 'study', s.uid, 'copy ' || new.state, p.key, v.name FROM package p"
    " JOIN study s ON s.pk = p.study_pk JOIN volume v ON v.pk = new.volume_pk WHERE p.pk = new.package_pk"
)
_REQUEST = "VALUES ('request', CAST(new.pk AS TEXT), new.state, '', '')"
_HOLD = "SELECT 'study', s.uid, '{}', '', '' FROM study s WHERE s.pk = new.study_pk"
_MOUNT = "SELECT 'volume', v.name, 'mount request{}, '', '' FROM volume v WHERE v.pk = new.volume_pk"
_CHANGES = {
    "copy_begins": ("INSERT ON copy", _COPY),
    "copy_changes": ("UPDATE OF state ON copy WHEN old.state <> new.state", _COPY),
    "request_begins": ("INSERT ON request", _REQUEST),
    "request_changes": ("UPDATE OF state ON request WHEN old.state <> new.state", _REQUEST),
    "volume_begins": ("INSERT ON volume", "VALUES ('volume', new.name, 'added', '', '')"),
    "volume_changes": (
        "UPDATE OF state ON volume WHEN old.state <> new.state",
        "VALUES ('volume', new.name, new.state, '', '')",
    ),
    "hold_begins": ("INSERT ON hold", _HOLD.format("hold placed")),
    "hold_ends": (
        "UPDATE OF lifted_at ON hold WHEN old.lifted_at IS NULL AND new.lifted_at IS NOT NULL",
        _HOLD.format("hold lifted"),
    ),
    "mount_begins": ("INSERT ON mount_request", _MOUNT.format("ed'")),
    "mount_ends": (
        "UPDATE OF state ON mount_request WHEN old.state <> new.state",
        _MOUNT.format(" ' || new.outcome"),
    ),
}
TRIGGERS = (
    "CREATE TABLE chaos_account (n INTEGER PRIMARY KEY, kind TEXT, subject TEXT, verb TEXT,"
    " package TEXT, volume TEXT)",
    *(
        f"CREATE TRIGGER chaos_{name} AFTER {event} BEGIN"
        f" INSERT INTO chaos_account (kind, subject, verb, package, volume) {what}; END"
        for name, (event, what) in _CHANGES.items()
    ),
)
"""SQLite's."""

_NO_CHANGE = ("mount request acknowledged", "mount request given back")
_VOLUMES = frozenset(
    "added scratch foreign labelled active full suspect recycled retired lost".split()  # noqa: SIM905
)


class Account:
    """What was seen and what was told of one catalog, up to now."""

    def __init__(self) -> None:
        self._seen = self._told = 0
        self._verified: set[Subject] = set()
        """Copies that are verified, as far as was told: to be read back once more changes no state."""

    def compare(self, connection: Connection) -> int:
        """Between two steps, when no transaction is open: what changed since the last time, with what was
        put on record since then.

        :returns: how many changes were compared.
        :raises AssertionError: one is not on record, or there is a record of what was not.
        """
        seen: dict[Subject, list[str]] = defaultdict(list)
        told: dict[Subject, list[str]] = defaultdict(list)
        for subject, verb in self._changes(connection):
            seen[subject].append(verb)
        for subject, verb in self._records(connection):
            told[subject].append(verb)
        for subject in {**seen, **told}:
            said = f"7: {' '.join(subject).strip()} became {seen[subject]}; on record is {told[subject]}"
            assert seen[subject] == told[subject], said
        return sum(map(len, seen.values()))

    def _changes(self, connection: Connection) -> Iterator[tuple[Subject, str]]:
        for row in connection.execute(
            text("SELECT * FROM chaos_account WHERE n > :n ORDER BY n"), {"n": self._seen}
        ):
            self._seen = row.n
            yield (row.kind, row.subject, row.package, row.volume), row.verb

    def _records(self, connection: Connection) -> Iterator[tuple[Subject, str]]:
        query = text(
            "SELECT seq, verb, kind, subject, json_extract(detail, '$.package') AS package,"
            " json_extract(detail, '$.volume') AS volume FROM journal"
            " WHERE seq > :seq AND kind IN ('request', 'study', 'volume') ORDER BY seq"
        )
        for row in connection.execute(query, {"seq": self._told}):
            self._told = row.seq
            if row.kind == "study" and row.verb.startswith("copy "):
                subject = (row.kind, row.subject, row.package or "", row.volume or "")
                if row.verb == "copy verified" and subject in self._verified:
                    continue
                (self._verified.add if row.verb == "copy verified" else self._verified.discard)(subject)
                yield subject, row.verb
            elif _is_change(row.kind, row.verb):
                yield (row.kind, row.subject, "", ""), row.verb


def _is_change(kind: str, verb: str) -> bool:
    if kind == "study":
        return verb in ("hold placed", "hold lifted")
    if kind == "volume":
        return verb in _VOLUMES or (verb.startswith("mount request") and verb not in _NO_CHANGE)
    return True
