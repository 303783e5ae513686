"""Administrators of one archive: what they delete, hold, look after and decide, as the dice have it."""

from __future__ import annotations

import random

from hsm.catalog import marks
from hsm.repack import Wanted
from tests.chaos.chaos_ledger import Goals, Ledger
from tests.chaos.chaos_world import ChaosWorld, Surroundings
from tests.sim.world import study_uid

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
        with self.ledger.engine.connect() as connection:
            names = sorted({each.place.volume for each in self.ledger.copies(connection)})
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


__all__ = ["POLICIES", "Administrators"]
