"""Modalities, workstations, operators and administrators of one archive, as the dice have it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import astuple, replace

from hsm.catalog import retrievable
from hsm.config.fields import RIGHTS
from hsm.errors import Refused
from hsm.model import Priority, Selection
from hsm.states import Outcome
from tests.chaos.chaos_admins import Administrators
from tests.chaos.chaos_ledger import Ledger
from tests.chaos.chaos_moves import PEERS, Caller
from tests.chaos.chaos_studies import Sent
from tests.chaos.chaos_world import SHELF_MAX, Surroundings
from tests.sim.world import EXPLICIT_LITTLE, Wait, study_uid

STUDIES_OPEN = 4
"""So many of the last studies still get instances."""
EAGER = {"retrieve": 20, "answer": 14, "export": 8, "scrub": 8, "policy": 3, "recall": 4}
WAITS_MAX = 6
ANSWERS = (*("done", "done", "done", "wrong") * 2, "nothing", "refuse", "lost", "damaged")
"""What somebody does who is asked for a cartridge."""
PATIENCE_SECONDS = (0, 0, 0, 30, 30, 300, 1200)
"""After so long somebody who waits for a C-MOVE hangs up or cancels."""
BLANKS = 2
"""Cartridges that somebody brings who is asked for a blank one."""


class People(Administrators):
    """What the world outside does."""

    def __init__(self, around: Surroundings, ledger: Ledger, rng: random.Random) -> None:
        super().__init__(around, ledger, rng)
        self.waits: list[tuple[int, Wait]] = []
        self.recalls: set[int] = set()
        """Requests that somebody asked for."""
        self.boxed: int | None = None
        """A study whose cartridges were put on a shelf."""
        self._study = 0
        self._number = 0
        self.acts: dict[str, tuple[float, Callable[[], str]]] = {
            "store": (12, self.store),
            "send again": (4, self.send_again),
            "retrieve": (8, self.retrieve),
            "look": (8, self.look),
            "recall": (2, self.recall),
            "move": (4, self.move),
            "answer": (8, self.answer),
            "export": (4, self.export),
            "bring back": (2, self.bring_back),
            "stock up": (1, self.stock_up),
            "delete": (0.7, self.delete),
            "take back": (0.5, self.take_back),
            "reject": (0.8, self.reject),
            "unreject": (0.4, self.unreject),
            "hold": (0.7, self.hold),
            "lift": (0.5, self.lift),
            "scrub": (2, self.scrub),
            "repack": (0.3, self.repack),
            "drive on": (1, self.drives_on),
            "policy": (0.3, self.policy),
        }

    def be_eager(self) -> None:
        """Much is asked for that lies on tape, in a cold class or on a shelf."""
        for name, weight in EAGER.items():
            self.acts[name] = (weight, self.acts[name][1])

    def one(self) -> tuple[str, Callable[[], str]]:
        names = list(self.acts)
        (name,) = self._rng.choices(names, [self.acts[each][0] for each in names])
        return name, self.acts[name][1]

    # Modalities.

    def store(self) -> str:
        """A few instances of a new study, or of one that is there."""
        if self._study == 0 or self._rng.random() < 0.35:
            self._study += 1
            study = self._study
        else:
            study = self._rng.randint(max(1, self._study - STUDIES_OPEN), self._study)
        said = []
        for _ in range(self._rng.randint(1, 3)):
            self._number += 1
            size = self._rng.randint(600, 12_000) if self._rng.random() < 0.95 else 150_000
            said.append(self._send(Sent(study, self._rng.randint(1, 2), self._number, 0, size)))
        return f"study {study}: {' '.join(said)}"

    def send_again(self) -> str:
        """What was not answered; or what is there already, the same or with other bytes."""
        if self.ledger.unsent:
            return self._send(self.ledger.unsent.popleft())
        known = sorted(uid for uid, some in self.ledger.acknowledged.items() if some)
        deleted = sorted(self.ledger.trash.sent(), key=astuple)
        if deleted and self._rng.random() < 0.15:
            return f"although deleted {self._send(self._rng.choice(deleted))}"
        if not known:
            return ""
        each = min(self.ledger.acknowledged[self._rng.choice(known)], key=lambda sent: sent.variant)
        if self._rng.random() < 0.3:
            each = replace(each, variant=self._rng.randint(1, 2))
        return f"again {self._send(each)}"

    def _send(self, each: Sent) -> str:
        self.ledger.unsent.append(each)  # until there is an answer
        try:
            outcome = self.world.ingest.store(each.header(), EXPLICIT_LITTLE, each.dataset(), "CT1")
        except Refused as error:
            rejected = each.uid in self.ledger.rejections.hidden(each.study)
            known = each in self.ledger.acknowledged[each.uid]
            assert rejected and not known, f"1: {each} is refused: {error}"
            self.ledger.unsent.remove(each)
            return f"{each.number} refused"
        self.ledger.unsent.remove(each)
        self.ledger.acknowledged[each.uid].add(each)
        return f"{each.number} {outcome.value}"

    # Workstations.

    def retrieve(self) -> str:
        study = self._any_study()
        if study is None:
            return ""
        if self.boxed in self.ledger.studies() and self._rng.random() < 0.4:
            study = self.boxed
        if len(self.waits) >= WAITS_MAX:
            self._leave(0)
        self.seen(study)
        priority = self._rng.choice((Priority.STAT, Priority.ROUTINE, Priority.BULK))
        self.waits.append((study, self.world.retrieve(study, f"C-MOVE {len(self.waits)}", priority)))
        return f"study {study}"

    def seen(self, study: int) -> set[str]:
        """The SOP Instance UIDs that peers see; none of them was deleted or rejected, and each was sent."""
        there = {each.digest() for some in self.ledger.acknowledged.values() for each in some}
        maybe = {each.digest() for each in self.ledger.unsent}
        found = self.world.instances(study)
        for each in found:
            assert each.digest in there | maybe, f"3: {each.sop_instance_uid} is seen, and was deleted"
            self.around.effects.checks["3 what is in the trash is not seen"] += 1
        uids, all_uids = {each.sop_instance_uid for each in found}, self._seen_by_quality_officers(study)
        hidden = self.ledger.rejections.hidden(study)
        assert not uids & hidden, f"3: rejected, and seen: {sorted(uids & hidden)[:3]}"
        never = self.ledger.rejections.hidden(study, sees_rejected=True)
        assert not all_uids & never, f"3: rejected by all means, and seen: {sorted(all_uids & never)[:3]}"
        assert self.ledger.shown(study, sees_rejected=True) <= all_uids, (
            f"3: of study {study} too much is hidden"
        )
        return uids

    def _seen_by_quality_officers(self, study: int) -> set[str]:
        with self.world.catalog.read() as session:
            selection = Selection(study_uids=(study_uid(study),))
            found = retrievable.select_instances(session, selection, sees_rejected=True)
        return {each.sop_instance_uid for each in found}

    def look(self) -> str:
        if not self.waits:
            return ""
        at = self._rng.randrange(len(self.waits))
        study, wait = self.waits[at]
        got = self.taken(study, wait)
        if not got.waiting or self._rng.random() < 0.2:
            self._leave(at)
        return f"study {study}: {len(got.files)} come, {len(got.lost)} cannot be had, {got.waiting} wait"

    def taken(self, study: int, wait: Wait) -> object:
        """What a retrieve gives now, of which every byte is compared."""
        got = wait.look()
        for uid, data in got.files.items():
            self.ledger.served(uid, data)
        got.files.clear()
        return got

    def _leave(self, at: int) -> None:
        _, wait = self.waits.pop(at)
        wait.close()

    def recall(self) -> str:
        study = self._any_study()
        if study is None:
            return ""
        priority = self._rng.choice((Priority.STAT, Priority.ROUTINE, Priority.BULK))
        found = self.world.recall.request_study(study_uid(study), priority, "hsm recall")
        self.recalls |= set(found["requests"])  # type: ignore[call-overload]
        return f"study {study}: {found['requests']}"

    def move(self, *, study: int | None = None, patience: float | None = None, to: str = "") -> str:
        """A workstation asks for a study to be sent somewhere, and waits, hangs up or cancels."""
        study = self._any_study() if study is None else study
        if study is None:
            return ""
        world, clock, moves = self.world, self.world.clock, self.around.moves
        uids = self.seen(study)
        asked = moves.ask(study, to or self._rng.choice(sorted(PEERS)), frozenset(uids))
        patience = self._rng.choice(PATIENCE_SECONDS) if patience is None else patience
        until = clock.monotonic() + patience
        caller = Caller(
            asked,
            lambda: clock.monotonic() >= until,
            world.fuse,
            moves.told,
            self._rng.randrange(3),
            cancels=self._rng.random() < 0.2,
        )
        world.waiting_room.places = self._rng.choice((0, 1, 1, 1))
        with moves.serving(asked.number, held=True):
            world.mover.serve(caller, frozenset(RIGHTS))  # type: ignore[arg-type]
        return f"{asked.number}: study {study} to {asked.destination}, {len(asked.got)} of {len(uids)} came"

    # Operators.

    def answer(self, *, rightly: bool = False) -> str:
        """Somebody goes for what is asked for, and does it right, or does not."""
        said = []
        for prompt in self.world.operators.prompts():
            barcode = prompt["barcode"]
            how = "done" if rightly else self._rng.choice(ANSWERS)
            said.append(f"{barcode} {how}: {self.says(barcode, how)}")
        return "; ".join(said)

    def says(self, barcode: str, how: str) -> str:
        """Somebody who is asked for a cartridge does one of :data:`ANSWERS`."""
        library, effects = self.world.library, self.around.effects
        desk = self.world.operators
        if how in ("wrong", "nothing"):
            if barcode not in library.shelf():
                return "it is there"
            kind = "said done, brought nothing"
            if how == "wrong":
                kind = "wrong cartridge brought"
                others = [each for each in library.shelf() if each != barcode]
                library.hand_insert(self._rng.choice(others) if others else self._new_cartridge())
            effects.inject(kind)
            try:
                desk.answer(barcode, Outcome.DONE, "bob")
            except Refused as error:
                effects.feel(kind)
                return str(error)
            raise AssertionError(f"6: {barcode} is on the shelf, and its prompt was believed to be answered")
        if how == "done":
            if barcode in library.shelf():
                library.hand_insert(barcode)
            return f"{desk.answer(barcode, Outcome.DONE, 'alice')['answered']}"
        if how == "refuse":
            self.ledger.refusals.not_brought.add(barcode)
        kind, outcome = {
            "refuse": ("refused by the operator", Outcome.REFUSED),
            "lost": ("not found by the operator", Outcome.CANNOT_FIND),
            "damaged": ("called damaged by the operator", Outcome.DAMAGED),
        }[how]
        effects.inject(kind)
        desk.answer(barcode, outcome, "bob", "chaos")
        effects.feel(kind)
        return "so be it"

    def export(self) -> str:
        """A cartridge goes to a shelf, or a box with every one that holds something of a study."""
        library = self.world.library
        some = self.world.outside_drives()
        if not some or len(library.shelf()) > SHELF_MAX:
            return ""
        box = [self._rng.choice(some)]
        if (study := self._any_study()) is not None and self._rng.random() < 0.5:
            self.boxed = study
            box = self.cartridges_of(study)
        return " ".join(self.put_on_shelf(box, leaves=0.8))

    def put_on_shelf(self, box: list[str], leaves: float) -> list[str]:
        """Those that hands can reach are sent out.

        :param leaves: the share of them that somebody takes out of the mail slot.
        """
        box = [each for each in box if each in self.world.outside_drives()]
        for barcode in box:
            self.world.custody.export(barcode, f"B{self._rng.randint(1, 4)}", "alice")
            if self._rng.random() < leaves:
                self.world.library.hand_remove(barcode)
        return box

    def cartridges_of(self, study: int) -> list[str]:
        copies, uid = self.ledger.copies_now(), study_uid(study)
        return sorted({each.place.volume for each in copies if each.pool == "tape" and each.study == uid})

    def bring_back(self) -> str:
        """Somebody puts a cartridge from the shelf into the library, and tells nobody."""
        shelf = self.world.library.shelf()
        if not shelf:
            return ""
        barcode = self._rng.choice(sorted(shelf))
        self.world.library.hand_insert(barcode)
        return barcode

    def _new_cartridge(self) -> str:
        """A blank one from the cupboard, in somebody's hand."""
        with self.world.library._places.changing() as box:
            barcode = f"HSM{101 + sum(each >= 'HSM101' for each in box[0].where):03}L8"
            box[0] = box[0].added(barcode, on_shelf=True)
        return barcode

    def stock_up(self) -> str:
        """Whoever reads at a request that a blank cartridge is to be put in puts some in."""
        asked = self.ledger.scalar(
            "SELECT count(*) FROM request WHERE state IN ('queued', 'waiting')"
            " AND error LIKE '%put a blank one in%'"
        )
        if not asked:
            return ""
        brought = [self._new_cartridge() for _ in range(BLANKS)]
        for barcode in brought:
            self.world.library.hand_insert(barcode)
        self.world.take_inventory()
        return f"{asked} wait for a blank cartridge: {brought}"
