"""What tempts an archive into breaking a promise: situations in which one check alone stands between.

Chance reaches them too, once in many hours. Here they are among the things that happen every few minutes:
a release is asked for that policy does not allow, damage is looked at before a scrub has found it, the
daemon dies with work in its hands, a study under legal hold is to be deleted.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from itertools import takewhile

from sqlalchemy import text

from hsm.catalog import deletions, requesting
from hsm.errors import Refused
from hsm.model import Priority
from hsm.states import RequestKind
from tests.chaos.chaos_faults import DISKS, Faults
from tests.chaos.chaos_ledger import GOOD, CopyRow, Ledger
from tests.chaos.chaos_people import People
from tests.sim.world import study_uid

READ_FIRST = ("online", "nearline", "nas", "cloud")
"""Disk pools, in the order in which a retrieve reads from them."""
STEPS_AT_DEATH, NOES_MAX = 8, 3
NOES = ("refuse", "refuse", "lost", "damaged")
QUEUED = "SELECT count(*) FROM request WHERE state = 'queued'"


class Temptations:
    """Acts of people and of fate, each of which says what it did."""

    def __init__(self, people: People, faults: Faults, ledger: Ledger, rng: random.Random) -> None:
        self._people, self._faults, self._ledger, self._rng = people, faults, ledger, rng
        self.acts: dict[str, tuple[float, Callable[[], str]]] = {
            "wrong release": (3, self.release),
            "read what is damaged": (3, self.read_damaged),
            "read what is damaged in staging": (2, self.read_damaged_in_staging),
            "die at work": (2, self.die_at_work),
            "delete what is held": (1, self.delete_held),
            "want more of what is asked for": (2, self.want_more),
            "say no": (2, self.say_no),
        }

    def release(self) -> str:
        """A copy on a disk is to go now, whatever policies say. A run of policies asks for nothing that their
        goals refuse (:mod:`policies.decide`), so that this is asked for as a run would that knew less."""
        copies = [each for each in self._copies() if each.pool in READ_FIRST and each.state == "verified"]
        if not copies:
            return ""
        copy = self._rng.choice(copies)
        self._enqueue(RequestKind.RELEASE, f"release:{copy.key}:{copy.pool}", copy)
        return f"{copy.key} from {copy.pool}"

    def read_damaged(self) -> str:
        """A byte flips in the copy that a retrieve reads from first, and somebody retrieves at once."""
        copies = [each for each in self._copies() if each.pool in READ_FIRST and each.state == "verified"]
        first: dict[str, CopyRow] = {}
        for copy in sorted(copies, key=lambda each: READ_FIRST.index(each.pool), reverse=True):
            first[copy.key] = copy
        some = [copy for copy in first.values() if copy.pool in DISKS]
        if not some:
            return ""
        copy = self._rng.choice(sorted(some, key=lambda each: each.key))
        if not self._faults.flip_file(copy):
            return ""
        self._faults.around.effects.inject(DISKS[copy.pool])
        return f"{copy.key} in {copy.pool}: {self._retrieve(copy.study)}"

    def read_damaged_in_staging(self) -> str:
        """The same in the staging area: what was recalled is no copy, and is served from there."""
        world = self._people.world
        staged = sorted(key for key in world.staging.whole() if "tar" in key)
        if not staged:
            return ""
        key = self._rng.choice(staged)
        path = world.home / "staging" / key
        data = bytearray(path.read_bytes())
        data[self._rng.randrange(len(data))] ^= 0xFF
        path.write_bytes(bytes(data))
        self._faults.around.effects.inject("byte flipped in staging")
        self._faults.around.effects.feel("byte flipped in staging")
        studies = {copy.key: copy.study for copy in self._copies()}
        return f"{key}: {self._retrieve(studies[key])}"

    def _retrieve(self, uid: str) -> str:
        study = next((each for each in self._ledger.studies() if study_uid(each) == uid), None)
        if study is None:
            return "it is deleted, and nobody sees it"
        wait = self._people.world.retrieve(study, "C-MOVE of what is damaged", Priority.ROUTINE)
        try:
            got = self._people.taken(study, wait)
        finally:
            wait.close()
        return f"study {study}, {got.waiting} wait"

    def die_at_work(self) -> str:
        """The daemon dies while a worker has a request in its hands: soon after it was taken."""
        workers, fuse = self._people.world.workers, self._people.world.fuse
        if fuse.blows_at is not None or not self._ledger.scalar(QUEUED):
            return ""
        self._faults.cuts_power = False
        fuse.blows_at = fuse.count + self._rng.randint(4, 12)
        self._faults.around.effects.inject("daemon killed")
        steps = (workers.disk_step, workers.drive_step, workers.verify_step, workers.delivery_step)
        busy = takewhile(bool, (any(step() for step in steps) for _ in range(STEPS_AT_DEATH)))
        return f"survived {len(list(busy))} rounds"

    def say_no(self) -> str:
        """Every cartridge with a study is on a shelf, nothing else has it, and whoever is asked says no."""
        people = self._people
        copies = [each for each in self._copies() if each.state == "verified"]
        near = {each.study for each in copies if each.pool != "tape"}
        some = [each for each in self._ledger.studies() if study_uid(each) not in near]
        if not some:
            return ""
        study = self._rng.choice(some)
        people.put_on_shelf(people.cartridges_of(study), leaves=1.0)
        said = [people.move(study=study, patience=0)]
        for _ in range(NOES_MAX):
            people.world.workers.delivery_step()
            people.world.workers.drive_step()
            asked = [each["barcode"] for each in people.world.operators.prompts()]
            said += [people.says(barcode, self._rng.choice(NOES)) for barcode in asked]
        return f"study {study}: {'; '.join(said)}"

    def want_more(self) -> str:
        """A cartridge is on a shelf, somebody is asked for it, and another one wants something of it."""
        library = self._people.world.library
        on: dict[str, list[CopyRow]] = {}
        for copy in self._copies():
            if copy.pool == "tape" and copy.state == "verified":
                on.setdefault(copy.place.volume, []).append(copy)
        reachable = {*self._people.world.outside_drives(), *library.shelf()}
        some = sorted(name for name, copies in on.items() if len(copies) > 1 and name in reachable)
        if not some:
            return ""
        barcode = self._rng.choice(some)
        self._people.put_on_shelf([barcode], leaves=1.0)
        self._people.world.take_inventory()
        for copy in self._rng.sample(on[barcode], 2):
            self._enqueue(RequestKind.VERIFY, f"verify:{copy.key}:{barcode}", copy)
            self._people.world.workers.drive_step()
        self._ledger.asked_once()
        return barcode

    def _enqueue(self, kind: RequestKind, key: str, copy: CopyRow) -> None:
        """Something is asked for that concerns one copy."""
        world = self._people.world
        with self._ledger.engine.connect() as connection:
            found = connection.execute(
                text(
                    "SELECT p.pk, p.study_pk, v.pk AS volume_pk FROM package p, volume v"
                    " WHERE p.key = :key AND v.name = :name"
                ),
                {"key": copy.key, "name": copy.place.volume},
            ).one()
        with world.catalog.write() as session:
            requesting.enqueue(
                session,
                world.clock.now(),
                "anna",
                kind,
                key,
                priority=Priority.ROUTINE,
                reason="somebody wants it at once",
                study_pk=found.study_pk,
                package_pk=found.pk,
                volume_pk=found.volume_pk if kind is RequestKind.VERIFY else None,
                pool=copy.pool,
            )

    def delete_held(self) -> str:
        """:raises AssertionError: a study under legal hold is in the trash."""
        world = self._people.world
        if not self._ledger.held:
            self._people.hold()
        if not self._ledger.held:
            return ""
        study = self._rng.choice(sorted(self._ledger.held))
        now = world.clock.now()
        try:
            with world.catalog.write() as session:
                deletions.delete(session, study_uid(study), "a mistake", now + timedelta(days=30), now, "bob")
        except Refused as error:
            self._faults.around.effects.checks["3 a held study is not deleted"] += 1
            return str(error)
        raise AssertionError(f"3: study {study} is under legal hold and was deleted")

    def _copies(self) -> list[CopyRow]:
        return [each for each in self._ledger.copies_now() if each.volume_state in GOOD]
