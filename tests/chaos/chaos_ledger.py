"""What the world outside knows of the archive, and whether the archive keeps its promises to it.

The ledger keeps its own account: what was acknowledged, what is held, what was damaged on purpose. It looks
at the catalog's file with a connection of its own and at the media without the archive.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, text
from sqlalchemy.orm import Session

from hsm.catalog import chaincheck, check
from hsm.catalog.engine import open_engine
from tests.chaos import chaos_account, chaos_prompts, chaos_refusals
from tests.chaos.chaos_account import Account
from tests.chaos.chaos_effects import Effects
from tests.chaos.chaos_media import Media, Member, Place, digests_in
from tests.chaos.chaos_prompts import Prompts
from tests.chaos.chaos_refusals import Refusals
from tests.chaos.chaos_rejections import Rejections
from tests.chaos.chaos_studies import Sent
from tests.chaos.chaos_trash import OVER, Deleted, Row, Trashcan

GOOD = ("labelled", "active", "full")
"""States of volumes whose copies count (docs/INVARIANTS.md, 3)."""

_TRIGGERS = (
    "CREATE TABLE chaos_change (n INTEGER PRIMARY KEY, pk INTEGER, package TEXT, volume TEXT,"
    " old TEXT, new TEXT, tape INTEGER, cloud INTEGER, nas INTEGER, vault INTEGER, total INTEGER,"
    " held INTEGER, trashed INTEGER, over INTEGER, emptied INTEGER)",
    """CREATE TRIGGER chaos_copy AFTER UPDATE OF state ON copy WHEN old.state <> new.state BEGIN
       INSERT INTO chaos_change
         (pk, package, volume, old, new, tape, cloud, nas, vault, total, held, trashed, over, emptied)
       SELECT new.pk, (SELECT key FROM package WHERE pk = new.package_pk),
              (SELECT name FROM volume WHERE pk = new.volume_pk), old.state, new.state,
              coalesce(sum(v.pool = 'tape'), 0), coalesce(sum(v.pool = 'cloud'), 0),
              coalesce(sum(v.pool = 'nas'), 0), coalesce(sum(v.pool = 'vault'), 0), count(*),
              (SELECT count(*) FROM hold h JOIN package p ON p.study_pk = h.study_pk
                WHERE p.pk = new.package_pk AND h.lifted_at IS NULL),
              (SELECT count(*) FROM deleted_package e JOIN deletion d ON d.pk = e.deletion_pk
                WHERE e.package_pk = new.package_pk AND d.state = 'standing'),
              (SELECT count(*) FROM deleted_package e JOIN deletion d ON d.pk = e.deletion_pk
                WHERE e.package_pk = new.package_pk AND d.state IN ('due', 'purged')),
              (SELECT count(*) FROM volume e WHERE e.pk = new.volume_pk AND e.drain_to <> '')
         FROM copy c JOIN volume v ON v.pk = c.volume_pk
        WHERE c.package_pk = new.package_pk AND c.pk <> new.pk AND c.state = 'verified'
          AND v.state IN ('labelled', 'active', 'full') AND v.pk <> new.volume_pk; END""",
)
"""An account of changes of state that the archive does not know of."""
_NOTED_BY = (chaos_account, chaos_prompts, chaos_refusals)
"""Modules with triggers of their own."""

Goals = dict[str, int]
"""Verified copies on distinct volumes, by pool."""


@dataclass(frozen=True, slots=True)
class CopyRow:
    key: str
    study: str
    digest: bytes
    state: str
    pool: str
    volume_state: str
    place: Place


@dataclass
class Ledger:
    """One archive's."""

    url: str
    media: Media
    effects: Effects
    trash: Trashcan
    acknowledged: dict[str, set[Sent]] = field(default_factory=lambda: defaultdict(set))
    """By SOP Instance UID; without what is in the trash."""
    unsent: deque[Sent] = field(default_factory=deque)
    """Sent without an answer that it is kept: sent again."""
    held: set[int] = field(default_factory=set)
    """Studies of which we know that the hold was placed."""
    damaged: dict[tuple[str, str], str] = field(default_factory=dict)
    """(package, volume) -> what was done to the copy."""
    goals: Goals = field(default_factory=dict)
    """Of the policies in force."""
    forgiven: bool = False
    """Policies change just now: what is released is judged by nobody."""
    _seen: int = 0
    _account: Account = field(default_factory=Account)
    _prompts: Prompts = field(default_factory=Prompts)
    _proved: dict[bytes, set[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.refusals = Refusals(self.effects)
        self.rejections = Rejections()
        self.engine = open_engine(self.url)
        with self.engine.begin() as connection:
            for statement in (*_TRIGGERS, *(each for of in _NOTED_BY for each in of.TRIGGERS)):
                connection.execute(text(statement))

    def close(self) -> None:
        self.engine.dispose()

    # What is known.

    def scalar(self, query: str) -> Any:
        """One value of the catalog, as it is now."""
        with self.engine.connect() as connection:
            return connection.scalar(text(query))

    def copies_now(self) -> list[CopyRow]:
        with self.engine.connect() as connection:
            return self.copies(connection)

    def copies(self, connection: Connection) -> list[CopyRow]:
        rows = connection.execute(
            text(
                "SELECT p.key, s.uid, p.digest, c.state, v.pool, v.state, v.name, v.uuid, v.removable,"
                " c.locator FROM copy c"
                " JOIN package p ON p.pk = c.package_pk JOIN study s ON s.pk = p.study_pk"
                " JOIN volume v ON v.pk = c.volume_pk ORDER BY c.pk"
            )
        )
        return [
            CopyRow(
                key, study, digest, state, pool, volume_state, Place(name, uuid, bool(removable), locator)
            )
            for key, study, digest, state, pool, volume_state, name, uuid, removable, locator in rows
        ]

    def members(self, connection: Connection) -> dict[str, list[Member]]:
        """By package key; under "" what is in none."""
        from hsm.catalog.deletions import of_instance
        from hsm.catalog.tables import Instance, Package, Series, Study

        found: dict[str, list[Member]] = defaultdict(list)
        hidden = func.coalesce(of_instance(Instance.pk), 0)
        with Session(bind=connection) as session:
            rows = session.query(
                *(Study.uid, Series.uid, Instance.uid, Instance.version, Instance.digest, hidden, Package.key)
            ).select_from(Instance)
            rows = rows.join(Series, Series.pk == Instance.series_pk).join(Study, Study.pk == Series.study_pk)
            for *values, key in rows.outerjoin(Package, Package.pk == Instance.package_pk):
                found[key or ""].append(Member(*values))
        return found

    def served(self, uid: str, data: bytes) -> None:
        """Somebody got the file of an instance.

        :raises AssertionError: it is not one that was sent.
        """
        sent = {*self.acknowledged[uid], *self.trash.sent(), *self.unsent}
        digests = {each.digest() for each in sent if each.uid == uid}
        assert hashlib.sha256(data).digest() in digests, f"4: other bytes were served for {uid}"
        self.effects.checks["4 what was served is what was sent"] += 1

    def hidden_once(self) -> set[str]:
        """SOP Instance UIDs of what was deleted or rejected at some time, taken back or not."""
        return {each.uid for each in self.trash.sent()} | self.rejections.once

    def shown(self, study: int, *, sees_rejected: bool = False) -> set[str]:
        """SOP Instance UIDs that a peer is to see of a study."""
        hidden = self.rejections.hidden(study, sees_rejected=sees_rejected)
        return {each.uid for each in self.sent(study)} - hidden

    def intact(self, copy: CopyRow, members: Iterable[Member]) -> bool:
        """Whether the copy's bytes are on its medium."""
        if copy.place.volume == "online":
            return all(_is(self.media.online(each), each.digest) for each in members)
        package = self.media.package(copy.place)
        if not _is(package, copy.digest):
            return False
        if copy.digest not in self._proved:
            assert package is not None
            self._proved[copy.digest] = set(digests_in(package).values())
            self.effects.checks["5 a package is opened with tar and its manifest holds"] += 1
        return True

    # The promises.

    def check(self) -> None:
        """Everything that must hold at any moment between two steps.

        :raises AssertionError: a promise is broken; says which.
        """
        self.asked_once()
        with self.engine.connect() as connection:
            copies, members = self.copies(connection), self.members(connection)
            deletions = list(self.trash.check(connection))
            self._nothing_acknowledged_is_gone(copies, members, deletions)
            self._changes_are_allowed(connection)
            self._verified_reads_back(copies, members)
            self.effects.checks["7 a change of state is on record as what it was"] += self._account.compare(
                connection
            )
            self._waits_are_explained(connection)
            self.refusals.check(connection)
            self.effects.checks["3 what is rejected is hidden until somebody takes that back"] += (
                self.rejections.check(connection)
            )
            with Session(bind=connection) as session:
                problems = [f"journal {each.seq}: {each.message}" for each in chaincheck.verify(session)]
                problems += [str(each) for each in check.check(session)]
                assert not problems, f"7: {problems[:5]}"
                self.effects.checks["7 the journal's chain and the catalog's own check"] += 1
                active = connection.scalars(text("SELECT key FROM request WHERE state = 'active'")).all()
        self.effects.more(repr(sorted((c.key, c.place.volume, c.state) for c in copies)))
        self.effects.more(repr(sorted(active)))

    def _nothing_acknowledged_is_gone(
        self,
        copies: list[CopyRow],
        members: dict[str, list[Member]],
        deletions: Iterable[tuple[Deleted, Row]],
    ) -> None:
        of: dict[str, list[CopyRow]] = defaultdict(list)
        for copy in copies:
            of[copy.key].append(copy)
        found: dict[tuple[str, bytes, int], tuple[str, Member]] = {}
        for key, some in members.items():
            for each in some:
                found[each.uid, each.digest, each.hidden] = key, each
        whole: dict[str, bool] = {}

        def is_there(sent: Sent, hidden: int) -> None:
            uid, digest = sent.uid, sent.digest()
            assert (uid, digest, hidden) in found, f"1: {uid} was acknowledged and is not in the catalog"
            key, member = found[uid, digest, hidden]
            if not key:
                there = _is(self.media.online(member), digest) or digest in self.media.interrupted()
                assert there, f"1: {uid} was acknowledged, its file is gone"
            elif key not in whole:
                whole[key] = any(self.intact(copy, members[key]) for copy in of[key])
                assert whole[key], f"1, 3: no copy of {key} is whole: {of[key]}, {self.damaged}"
            if key and (proved := self._proved.get(of[key][0].digest)) is not None:
                assert digest in proved, f"1: {uid} is not in its package {key}"

        for _, acknowledged in sorted(self.acknowledged.items()):
            for each in acknowledged:
                is_there(each, 0)
                self.effects.checks[
                    "1 an acknowledged instance is catalogued and its bytes are on a medium"
                ] += 1
        for asked, row in deletions:
            for each in asked.instances:
                if row.state in OVER:
                    there = (each.uid, each.digest(), row.pk) in found
                    assert there, f"3: nothing tells any more that {each.uid} was deleted"
                    self.effects.checks["3 what was deleted leaves its rows"] += 1
                else:
                    is_there(each, row.pk)
                    self.effects.checks["3 what is in the trash is on a medium up to its day"] += 1

    def _verified_reads_back(self, copies: list[CopyRow], members: dict[str, list[Member]]) -> None:
        for copy in copies:
            if copy.state == "verified":
                good = self.intact(copy, members[copy.key])
                if good:
                    self.damaged.pop((copy.key, copy.place.volume), None)
                known = (copy.key, copy.place.volume) in self.damaged
                assert good or known, (
                    f"2: {copy.key} on {copy.place.volume} is verified and does not read back"
                )
                self.effects.checks["2 a verified copy reads back"] += 1

    def nobody_works(self) -> None:
        """:raises AssertionError: a daemon that has just started leaves something to the dead one."""
        with self.engine.connect() as connection:
            active = connection.scalars(text("SELECT key FROM request WHERE state = 'active'")).all()
        assert not active, f"6: the daemon that had it is dead, and nobody goes on with {active}"
        self.effects.checks["6 a new daemon goes on with what the dead one had"] += 1

    def catch_up(self) -> None:
        """Look at what changed since the last time.

        :raises AssertionError: a promise is broken.
        """
        with self.engine.connect() as connection:
            self._changes_are_allowed(connection)

    def _changes_are_allowed(self, connection: Connection) -> None:
        rows = connection.execute(
            text("SELECT * FROM chaos_change WHERE n > :n ORDER BY n"), {"n": self._seen}
        )
        for row in rows:
            self._seen = row.n
            if row.new == "releasing":
                self._release_is_allowed(row)
            if row.new == "suspect":  # damage is felt once the archive has called the copy so
                kind = self.damaged.get((row.package, row.volume), "torn")
                if kind != "torn":
                    self.effects.feel(kind)
            if row.new == "verified":  # what was done to it before has been noticed and mended
                self.damaged.pop((row.package, row.volume), None)

    def _release_is_allowed(self, row: Any) -> None:
        self.effects.checks["3 a release leaves what policy demands"] += 1
        if row.over:
            self.effects.checks["3 a deleted study's copy goes after its day, and unless it is held"] += 1
            assert not row.held, f"3: copy {row.pk} of a study under legal hold was released"
            return
        assert row.total >= 1, f"3: copy {row.pk} was released, and no verified one was left"
        if row.old == "suspect":
            return
        assert not row.held, f"3: copy {row.pk} of a study under legal hold was released"
        if row.trashed:  # carried along: that a verified one is left was asked for above
            assert row.emptied, f"3: copy {row.pk} of a study in the trash was released before its day"
            return
        if self.forgiven:
            return
        for pool, wanted in self.goals.items():
            assert getattr(row, pool) >= wanted, f"3: {row} was released, and policy demands {self.goals}"

    def asked_once(self) -> None:
        """:raises AssertionError: somebody was asked twice for the same, or for no reason."""
        with self.engine.connect() as connection:
            asked = self._prompts.check(connection)
        self.effects.checks["6 a person is asked for a medium once, and again only for a reason"] += asked

    def _waits_are_explained(self, connection: Connection) -> None:
        without = connection.execute(
            text("SELECT pk, key FROM request WHERE state = 'waiting' AND error = '' AND volume_pk IS NULL")
        ).all()
        assert not without, f"6: waits and nobody knows for what: {without}"
        self.effects.checks["6 who waits says for what"] += 1

    # Damage is done only where a good copy is left.

    def damage(self, packages: Iterable[str], volume: str, kind: str) -> None:
        """Somebody has done this to the copies of these packages on a volume."""
        for key in packages:
            self.damaged[key, volume] = kind
            self.refusals.damaged.add((key, volume))

    def may_damage(self, volume: str, only: str = "") -> set[str] | None:
        """The packages whose copies on a volume may all be damaged (or ``only`` that one's): each has another
        good one elsewhere, and no other copy that is called verified and is not. None where it may not be."""
        with self.engine.connect() as connection:
            self._changes_are_allowed(connection)  # what has been mended is whole before it is damaged again
            copies, members = self.copies(connection), self.members(connection)
        here = {each.key for each in copies if each.place.volume == volume and each.state != "released"}
        here = here & {only} if only else here
        latent = {key for key, _ in self.damaged}
        if here & latent:
            return None
        for key in here:
            others = [
                each
                for each in copies
                if each.key == key
                and each.place.volume != volume
                and each.state == "verified"
                and each.volume_state in GOOD
                and self.intact(each, members[key])
            ]
            if not others:
                return None
        return here

    def studies(self) -> list[int]:
        """Numbers of the studies of which something was acknowledged."""
        return sorted({each.study for sent in self.acknowledged.values() for each in sent})

    def sent(self, study: int) -> set[Sent]:
        """What was acknowledged of a study, and is not in the trash."""
        return {each for sent in self.acknowledged.values() for each in sent if each.study == study}

    def drop(self, deleted: Iterable[Sent]) -> None:
        """It went into the trash."""
        for each in deleted:
            self.acknowledged[each.uid].discard(each)

    def wanted(self, study: int) -> set[bytes]:
        """Digests of the files of a study that were acknowledged."""
        return {each.digest() for each in self.sent(study)}


def _is(data: bytes | None, digest: bytes) -> bool:
    return data is not None and hashlib.sha256(data).digest() == digest
