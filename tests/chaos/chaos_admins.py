"""Administrators of one archive: what they delete, hold, look after and decide, as the dice have it."""

from __future__ import annotations

import random
from dataclasses import astuple

from hsm.catalog import marks
from hsm.repack import Wanted
from tests.chaos.chaos_ledger import Goals, Ledger
from tests.chaos.chaos_rejections import CODES
from tests.chaos.chaos_studies import Sent
from tests.chaos.chaos_world import ChaosWorld, Surroundings
from tests.sim.world import study_uid

LATE = 100_000
"""Numbers of instances that are named and never come begin here."""
_FREE = (
    "  - {name: free online, release from: online, when: always}\n"
    "  - {name: free near, release from: nearline, when: always}\n"
)
_HEAD = "policy: chaos\npriority: 1\ncopies: {%s}\nrules:\n"
POLICIES: tuple[tuple[str, Goals], ...] = (
    (
        _HEAD % "tape: 2"
        + "  - {name: near, copy to: nearline, when: copies(tape) < 2}\n  - {name: tape, copy to: tape}\n"
        + _FREE,
        {"tape": 2},
    ),
    (
        _HEAD % "cloud: 1, tape: 1"
        + "  - {name: cloud, copy to: cloud}\n  - {name: tape, copy to: tape}\n"
        + _FREE,
        {"cloud": 1, "tape": 1},
    ),
    (
        _HEAD % "nas: 1, tape: 1"
        + "  - {name: nas, copy to: nas}\n  - {name: tape, copy to: tape}\n"
        + _FREE,
        {"nas": 1, "tape": 1},
    ),
    (
        _HEAD % "vault: 1, tape: 1"
        + "  - {name: cold, copy to: vault}\n  - {name: tape, copy to: tape}\n"
        + _FREE,
        {"vault": 1, "tape": 1},
    ),
    (
        _HEAD % "vault: 1, nas: 1, cloud: 1, tape: 1"
        + "  - {name: near, copy to: nearline, when: copies(tape) < 1}\n"
        + "  - {name: nas, copy to: nas}\n  - {name: cold, copy to: vault}\n"
        + "  - {name: cloud, copy to: cloud}\n  - {name: tape, copy to: tape}\n"
        + _FREE,
        {"vault": 1, "nas": 1, "cloud": 1, "tape": 1},
    ),
)
"""Each frees the disks at once: what must not go yet is the guard's business. The last one is everywhere."""


class Administrators:
    """They know what they asked for; the ledger keeps it."""

    def __init__(self, around: Surroundings, ledger: Ledger, rng: random.Random) -> None:
        self.around, self.ledger, self._rng = around, ledger, rng
        self.world: ChaosWorld

    def _any_study(self) -> int | None:
        studies = self.ledger.studies()
        return self._rng.choice(studies) if studies else None

    def delete(self) -> str:
        """A study goes into the trash; whether it did is looked up also where the answer was lost."""
        study = self._any_study()
        if study is None:
            return ""
        there = self.ledger.sent(study)
        held = study in self.ledger.held
        try:
            self.world.trash.delete(study_uid(study), "a wrong patient", "anna")
        finally:
            with self.ledger.engine.connect() as connection:
                done = self.ledger.trash.learn(connection, study, there)
            assert not (held and done), f"3: study {study} is under legal hold and was deleted"
            if done:
                self.ledger.drop(there)
        return f"study {study}: {len(there)} instances"

    def take_back(self) -> str:
        """A study comes out of the trash, as it was."""
        some = self.ledger.trash.studies()
        if not some:
            return ""
        study = self._rng.choice(some)
        try:
            self.world.trash.undelete(study_uid(study), "the right patient", "anna")
        finally:
            with self.ledger.engine.connect() as connection:
                back = self.ledger.trash.learn_undone(connection, study)
            for each in back:
                self.ledger.acknowledged[each.uid].add(each)
        return f"study {study}: {len(back)} instances"

    def reject(self) -> str:
        """A modality or a quality officer sends a rejection note, also of what has not come; or one again."""
        book = self.ledger.rejections
        if book.notes and self._rng.random() < 0.2:
            note = book.notes[self._rng.choice(sorted(book.notes))]
        else:
            study = self._any_study()
            if study is None:
                return ""
            there = sorted({*self.ledger.sent(study), *self.ledger.unsent}, key=astuple)
            there = [each for each in there if each.study == study]
            some = self._rng.sample(there, self._rng.randint(1, min(3, len(there))))
            late = [Sent(study, 1, LATE + len(book.notes), 0, 0)] if self._rng.random() < 0.2 else []
            places = {(each.header().series_uid, each.uid) for each in (*some, *late)}
            note = book.note(self._rng.choice(CODES), study, sorted(places))
        try:
            self.world.ingest.require_rejectable(note)
            hidden = self.world.ingest.reject(note, "ae:CT1")
        finally:
            with self.ledger.engine.connect() as connection:
                book.learn(connection)
        return f"{note.code} {note.uid}: {hidden}"

    def unreject(self) -> str:
        """One note, or all of a study, is taken back."""
        book = self.ledger.rejections
        if not book.standing:
            return ""
        note = book.notes[self._rng.choice(sorted(book.standing))]
        only = note.uid if self._rng.random() < 0.5 else ""
        try:
            self.world.trash.revoke(note.references[0].study_uid, "a mistake", "anna", only)
        finally:
            with self.ledger.engine.connect() as connection:
                book.learn(connection)
        return f"{note.uid} {only}"

    def hold(self) -> str:
        some = sorted({*self.ledger.studies(), *self.ledger.trash.studies()})
        study = self._rng.choice(some) if some else None
        if study is None or study in self.ledger.held:
            return ""
        with self.world.catalog.write() as session:
            marks.place_hold(session, study_uid(study), "court", self.world.clock.now(), "anna")
        self.ledger.held.add(study)
        return f"study {study}"

    def lift(self) -> str:
        if not self.ledger.held:
            return ""
        study = self._rng.choice(sorted(self.ledger.held))
        self.ledger.held.discard(study)
        with self.world.catalog.write() as session:
            marks.lift_hold(session, study_uid(study), "settled", self.world.clock.now(), "anna")
        return f"study {study}"

    def scrub(self) -> str:
        """Everything on a volume is read back."""
        names = sorted({each.place.volume for each in self.ledger.copies_now()})
        if not names:
            return ""
        away = [each for each in names if each in self.world.library.shelf()]
        name = self._rng.choice(away if away and self._rng.random() < 0.4 else names)
        return f"{name}: {self.world.volumes.verify(name, 'alice')['requests']}"

    def repack(self) -> str:
        some = [each for each in self.world.library._places.read().where if each.startswith("HSM")]
        barcode = self._rng.choice(sorted(some))
        shown = self.world.repack.start(Wanted(barcode=barcode, then="recycle"), "alice")
        return f"{barcode}: {len(shown['volumes'])}"  # type: ignore[arg-type]

    def drives_on(self) -> str:
        """A technician looks at what was taken out of service."""
        off = sorted(self.world.use.out_of_service())
        for library, drive in off:
            self.world.use.set_service(library, drive, True, "technician", "looked at")
        return f"{len(off)}"

    def policy(self) -> str:
        self.ledger.check()  # what was released until now is judged by what was demanded then
        written, goals = self._rng.choice(POLICIES)
        self.world.use_policies(written)
        self.ledger.goals = goals
        return f"{goals}"
