"""The end of a life: every fault is over, people do what they are asked, and the archive comes to rest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sqlalchemy import text

from drivers.errors import DriverError
from hsm.catalog import placement
from hsm.errors import HsmError
from hsm.model import Availability, Priority
from tests.chaos.chaos_ledger import GOOD, CopyRow
from tests.chaos.chaos_media import online_keys
from tests.chaos.chaos_trash import packages
from tests.chaos.chaos_world import SCRUBBED, ChaosWorld
from tests.sim.world import study_uid

if TYPE_CHECKING:
    from tests.chaos.chaos_life import Life

ROUND_SECONDS = 900.0
LATER_SECONDS = 5400.0
"""The first rounds, and those after them: what failed is asked for again after an hour."""
ROUNDS_MAX = 60
"""Almost four days, more than any clock was put back."""
QUIET_ROUNDS = 2
LOOKS_MAX = 60
"""At a retrieve at the end, some of them half an hour apart: a cold class takes hours."""


class Peace:
    """Liveness, and all that must be true of an archive at rest."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._ledger = life.ledger

    @property
    def _world(self) -> ChaosWorld:
        return self._life.world

    def come(self) -> None:
        life = self._life
        life.faults.end_all()
        if life.faults.swapped:
            self._world.custody.unmount_all()
            assert life.faults._swap_back()
        self._everybody_leaves()
        self._nobody_pretends_to_work()
        life.restart()  # what a full disk kept the last start from taking in is taken in by the next
        self._come_to_rest()
        self._everybody_leaves()  # somebody may have come while a drive wrote
        self._ledger.check()
        self._recalls_have_ended()
        self._outcomes_are_as_told()
        self._what_was_deleted_stays_so()
        self._nothing_is_left_behind()
        self._ledger.check()
        life.effects.more("".join(self._journal()))

    def _everybody_leaves(self) -> None:
        for study, wait in self._life.people.waits:
            self._life.people.taken(study, wait)
            wait.close()
        self._life.people.waits.clear()

    def _nobody_pretends_to_work(self) -> None:
        """What the last daemon could not write down of its own work it writes down before it is asked to."""
        life = self._life
        for _ in range(2):
            life.around.clock.advance(LATER_SECONDS)
            life.settle()
        active = [each for each in self._live() if " active " in each]
        assert not active, f"6: active, and nobody works on it: {active}"
        life.effects.checks["6 what is called active is worked on"] += 1

    # Liveness.

    def _come_to_rest(self) -> None:
        life, quiet = self._life, 0
        for number in range(ROUNDS_MAX):
            life.around.clock.advance(ROUND_SECONDS if number < 4 else LATER_SECONDS)
            life.do("drive on", life.people.drives_on)
            life.do("stock up", life.people.stock_up)
            busy = self._round()
            if number < 3 or number % 8 == 0:
                busy = self._bring() or busy
            left = [*self._live(), *self._short_of_goals(), *self._overdue()]
            quiet = 0 if busy or left else quiet + 1
            life.note(f"peace {number}: {busy} {len(left)}")
            if quiet >= QUIET_ROUNDS:
                life.effects.checks["6 after all faults the archive comes to rest by itself"] += 1
                life.effects.checks["4 every damage was found by reading back"] += 1
                return
        raise AssertionError(f"6: it does not come to rest: {left[:10]}; {self._failed()}")

    def _round(self) -> bool:
        """Everything that runs by itself, until nothing goes on at this time; whether policies asked."""
        life = self._life
        while self._ledger.unsent:
            life.do("send again", life.people.send_again)
        life.settle()
        report = self._world.policies.run(None, dry_run=False, by="schedule")
        life.settle()
        return any(run["requests"] for run in report["runs"])

    def _bring(self) -> bool:
        """People put everything that stands on a shelf back, and answer what is asked."""
        world = self._world
        brought = False
        for barcode in world.library.shelf():
            try:
                world.library.hand_insert(barcode)
                world.operators.scan(barcode, "alice")
                brought = True
            except (DriverError, HsmError) as error:
                self._life.note(f"{barcode}: {error}")
        world.custody.inventory()
        self._life.do("answer", lambda: self._life.people.answer(rightly=True))
        return brought

    def _live(self) -> list[str]:
        with self._ledger.engine.connect() as connection:
            rows = connection.execute(
                text("SELECT key, state, error FROM request WHERE state IN ('queued', 'active', 'waiting')")
            )
            return [f"{key} {state} {error}" for key, state, error in rows]

    def _overdue(self) -> list[str]:
        with self._ledger.engine.connect() as connection:
            return self._ledger.trash.overdue(connection, self._life.around.clock.now())

    # At rest.

    def _short_of_goals(self) -> list[str]:
        """The packages of which policy demands more than there is, and what is not sealed."""
        with self._ledger.engine.connect() as connection:
            deleted = packages(connection, ("standing", "due", "purged"))
            copies = [each for each in self._ledger.copies(connection) if each.key not in deleted]
            members = self._ledger.members(connection)
        by_key: dict[str, list[CopyRow]] = {}
        for copy in copies:
            by_key.setdefault(copy.key, []).append(copy)
        short = [f"{each.uid} is not sealed" for each in members[""]]
        for copy in copies:
            known = (copy.key, copy.place.volume) in self._ledger.damaged
            counts = copy.state == "verified" and copy.volume_state in GOOD
            if (
                known
                and counts
                and copy.pool in SCRUBBED
                and not self._ledger.intact(copy, members[copy.key])
            ):
                short.append(f"{copy.key} on {copy.place.volume} is damaged, and nobody has noticed")
        for key, some in by_key.items():
            good = [each for each in some if each.state == "verified" and each.volume_state in GOOD]
            for pool, wanted in self._ledger.goals.items():
                have = len({each.place.volume for each in good if each.pool == pool})
                self._life.effects.checks["3 goals are reached at the end"] += 1
                if have < wanted:
                    where = [f"{each.place.volume} {each.state}" for each in some]
                    short.append(f"{key} has {have} of {wanted} in {pool}: {where}")
        return short

    def _failed(self) -> list[str]:
        with self._ledger.engine.connect() as connection:
            rows = connection.execute(
                text("SELECT key, error FROM request WHERE state = 'failed' ORDER BY pk DESC LIMIT 8")
            )
            return [f"{key}: {error}" for key, error in rows]

    def _nothing_is_left_behind(self) -> None:
        world, count = self._world, self._life.effects.checks
        assert world.staging._pins == {}, f"6: pinned at rest: {world.staging._pins}"
        count["6 nothing is pinned at rest"] += 1
        world.ingest.settle()
        for pool in world.pools.disks.values():
            pool.store.flush()
        with self._ledger.engine.connect() as connection:
            copies, members = self._ledger.copies(connection), self._ledger.members(connection)
        prompts = self._ledger.scalar("SELECT count(*) FROM mount_request WHERE state = 'open'")
        assert prompts == 0, "6: somebody is asked for what nobody waits for"
        expected: dict[str, set[str]] = {"online": set()}
        for copy in copies:
            if copy.state not in ("released",):
                name = copy.place.volume
                keys = (
                    online_keys(copy.key, copy.study, members[copy.key])
                    if name == "online"
                    else {copy.place.locator}
                )
                expected.setdefault(name, set()).update(keys)
        strangers = list(self._ledger.media.strangers(expected))
        assert not strangers, f"5: left behind: {strangers[:5]}"
        count["5 no file is left behind that nobody knows"] += 1

    def _recalls_have_ended(self) -> None:
        with self._ledger.engine.connect() as connection:
            for pk in sorted(self._life.people.recalls):
                state = connection.scalar(text("SELECT state FROM request WHERE pk = :pk"), {"pk": pk})
                assert state in ("done", "failed", "cancelled"), f"6: recall {pk} is {state}"
                self._life.effects.checks["6 a recall that was asked for ended"] += 1
        self._life.around.moves.check_at_rest()

    def _outcomes_are_as_told(self) -> None:
        """Every study comes back whole, and as a query tells."""
        life = self._life
        for study in self._ledger.studies():
            told = self._availability(study)
            wait = self._world.retrieve(study, "C-MOVE at the end", Priority.ROUTINE)
            files: dict[str, bytes] = {}
            for look in range(LOOKS_MAX):
                got = wait.look()
                files |= got.files
                if not got.waiting:
                    break
                life.around.clock.advance(60 if look < LOOKS_MAX / 2 else 1800)
                self._round()
                if told is Availability.OFFLINE:
                    self._bring()
            assert not got.lost, f"6: study {study} was {told}: {got.lost}"
            assert not got.waiting, f"6: study {study} was {told} and does not come"
            wait.close()
            digests = {hashlib.sha256(data).digest() for data in files.values()}
            # Of several versions under one UID a retrieve gives the one that counts.
            wanted = self._ledger.wanted(study)
            newest = self._ledger.shown(study)
            assert newest <= set(files), f"1: study {study} lacks {sorted(newest - set(files))[:3]}"
            assert digests <= wanted, f"4: study {study} gave other bytes"
            life.effects.checks["6 a study comes back as its availability tells"] += 1
            life.effects.checks["4 what was served is what was sent"] += len(files)

    def _what_was_deleted_stays_so(self) -> None:
        """Peers see nothing of it, and of what has ended no copy counts."""
        with self._ledger.engine.connect() as connection:
            over = packages(connection, ("purged",))
            left = [each for each in self._ledger.copies(connection) if each.key in over]
        counting = [each for each in left if each.state not in ("released", "lost")]
        assert not counting, f"3: copies of what was deleted still count: {counting[:3]}"
        for study in sorted({*self._ledger.trash.studies(), *self._ledger.studies()}):
            seen = self._life.people.seen(study)
            assert seen == self._ledger.shown(study), f"3: of study {study} is seen {seen}"
            self._life.effects.checks["3 what was deleted or rejected is not seen at the end"] += 1

    def _availability(self, study: int) -> Availability | None:
        from hsm.availability import standing

        with self._ledger.engine.connect() as connection:
            pks = connection.scalars(
                text(
                    "SELECT p.pk FROM package p JOIN study s ON s.pk = p.study_pk WHERE s.uid = :uid AND"
                    " NOT EXISTS (SELECT 1 FROM deleted_package e JOIN deletion d ON d.pk = e.deletion_pk"
                    " WHERE e.package_pk = p.pk AND d.state <> 'undone')"
                ),
                {"uid": study_uid(study)},
            ).all()
        with self._world.catalog.read() as session:
            found = [
                standing(c, self._world.reader.reach()) for c in placement.copies(session, list(pks)).values()
            ]
        worst = max((each.availability for each in found), key=list(Availability).index, default=None)
        assert worst is not Availability.UNAVAILABLE, f"6: study {study} is unavailable at rest"
        return worst

    def _journal(self) -> list[str]:
        """An anchor's digest covers texts that name the folder, which is another one each time."""
        told = "CASE verb WHEN 'anchored' THEN '' ELSE detail END"
        with self._ledger.engine.connect() as connection:
            rows = connection.execute(
                text(f"SELECT at, actor, verb, kind, subject, {told} FROM journal ORDER BY seq")
            )
            return [f"{tuple(row)}\n" for row in rows]
