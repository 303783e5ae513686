"""Two operators at two consoles: slow, sometimes wrong, and at home from 18:00 to 07:00."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from drivers.base import ElementKind
from drivers.errors import NotFound, OperatorNeeded, Permanent, Retryable
from drivers.simulated.library import SimulatedLibrary
from hsm.client import ApiError, Client, Refused, Unreachable
from tests.story.hospital import Hospital
from tests.story.hospital_script import HOUR, hurry

T = TypeVar("T")

WALK_SECONDS = (120.0, 900.0)
LOOK_SECONDS = 120.0
"""Between two looks at the list of prompts."""
FREE_SLOTS_MIN = 5
"""With fewer, cartridges go back to the shelf."""
NOBODY_ANSWERS = 30
"""So often an operator asks a daemon that does not answer."""


@dataclass(slots=True)
class Cupboard:
    """What both operators see of the library's door, and what they did there."""

    hospital: Hospital
    door: threading.Lock = field(default_factory=threading.Lock)
    """One of them at a time has the hands at the mail slot."""
    brought: dict[str, float] = field(default_factory=dict)
    """When each cartridge was last put in."""
    did: Counter[str] = field(default_factory=Counter)
    said: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def note(self, what: str, more: str = "") -> None:
        self.did[what] += 1
        if more:
            self.said.append(f"{self.hospital.seconds():.0f} {what}: {more}")


class Operator(threading.Thread):
    """One person with one console."""

    def __init__(self, name: str, cupboard: Cupboard, seed: int, stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self._rng = random.Random(f"{seed} {name}")
        self._cupboard = cupboard
        self._hospital = cupboard.hospital
        self._halt = stop
        self._mislaid: list[tuple[float, str]] = []
        """Cartridges that this one could not find, and when they turn up."""

    def run(self) -> None:
        while not self._halt.is_set():
            if not self._at_work():
                self._sleep(600)
                continue
            try:
                self._found_after_all()
                if not self._answer_one():
                    with self._cupboard.door:
                        self._make_room()
                    self._sleep(LOOK_SECONDS)
            except (ApiError, OperatorNeeded, Retryable) as error:
                self._cupboard.note("tries again", str(error))
                self._sleep(LOOK_SECONDS)
            except Exception as error:
                self._cupboard.faults.append(f"{self.name}: {error!r}")
                raise

    def _at_work(self) -> bool:
        return not self._hospital.shape.home_at <= self._hospital.seconds() < self._hospital.shape.back_at

    def _sleep(self, seconds: float) -> None:
        assert self._hospital.clock is not None
        self._halt.wait(hurry(self._hospital.shape, seconds) / self._hospital.clock.speed)

    def _walk(self) -> None:
        self._sleep(self._rng.uniform(*WALK_SECONDS))

    def _ask(self, question: Callable[[Client], T]) -> T:
        """Over this console, however often the daemon dies meanwhile: answers are idempotent."""
        for attempt in range(NOBODY_ANSWERS):
            try:
                with Client(self._hospital.home / "hsm.sock", by=self.name) as client:
                    return question(client)
            except Unreachable:
                if attempt + 1 == NOBODY_ANSWERS or self._halt.is_set():
                    raise
                self._cupboard.note("no daemon")
                self._sleep(300)
        raise AssertionError("unreachable")

    # The prompts

    def _answer_one(self) -> bool:
        """Go for the first prompt that nobody is walking for; now and then without asking who is."""
        careless = self._rng.random() < 0.1
        for prompt in self._ask(lambda client: client.prompts()):
            barcode = str(prompt["barcode"])
            if prompt["state"] != "open" or barcode in {each for _, each in self._mislaid}:
                continue
            if not careless and not self._acknowledged(barcode):
                continue
            self._fetch(barcode, int(prompt["id"]))
            return True
        return False

    def _acknowledged(self, barcode: str) -> bool:
        try:
            self._ask(lambda client: client.acknowledge(barcode))
        except Refused as error:
            self._cupboard.note("left it to the other one", str(error))
            return False
        self._cupboard.note("acknowledged")
        return True

    def _fetch(self, barcode: str, number: int) -> None:
        self._walk()
        chance = self._rng.random()
        if chance < 0.1:
            self._cannot_find(barcode, number)
            return
        if chance < 0.25:
            self._bring_another(barcode)
            self._walk()
        self._bring(barcode)
        if chance < 0.6:
            self._scan(barcode)
        else:
            self._say_done(barcode)
        if chance > 0.85:
            self._cupboard.note("said done twice")
            self._say_done(barcode)

    def _bring(self, barcode: str) -> None:
        """Into the mail slot, or a slot when that is full."""
        with self._cupboard.door:
            self._make_room()
            try:
                self._hospital.hands().hand_insert(barcode)
                self._cupboard.brought[barcode] = self._hospital.seconds()
                self._cupboard.note("brought")
            except Permanent:
                self._cupboard.note("was there already")

    def _say_done(self, barcode: str) -> None:
        answer = self._ask(lambda client: client.operator_done(barcode))
        self._cupboard.note("done", str(answer))

    def _scan(self, barcode: str) -> None:
        answer = self._ask(lambda client: client.operator_scan(barcode))
        self._cupboard.note(f"scanned: {answer['verdict']}", str(answer["text"]))
        if answer["verdict"] not in ("done", "again"):
            self._cupboard.faults.append(f"{barcode} was brought and scanned: {answer}")

    def _bring_another(self, barcode: str) -> None:
        """The wrong cartridge, and "done" all the same: the archive must notice before it reads."""
        with self._cupboard.door:
            self._make_room()
            hands = self._hospital.hands()
            wanted = {each["barcode"] for each in self._ask(lambda client: client.prompts())}
            others = [each for each in hands.shelf() if each not in wanted]
            if not others or hands.inventory().find(barcode) is not None:
                return
            other = self._rng.choice(others)
            hands.hand_insert(other)
            self._cupboard.note("brought another", f"{other} for {barcode}")
            self._is_told(hands, other, barcode)
            try:
                hands.hand_remove(other)
            except (Permanent, NotFound) as error:  # somebody wanted it: it went on into a drive
                self._cupboard.note("kept", str(error))
                return
        self._ask(lambda client: client.inventory())

    def _is_told(self, hands: SimulatedLibrary, other: str, barcode: str) -> None:
        answer = self._ask(lambda client: client.operator_scan(other))
        if answer["verdict"] == "done":
            self._cupboard.note("somebody wants that one too", other)
        try:
            self._ask(lambda client: client.operator_done(barcode))
        except Refused as error:
            self._cupboard.note("was told", str(error))
            lies = hands.inventory().find(other)
            if lies is not None and lies.kind is ElementKind.MAIL and other not in str(error):
                self._cupboard.faults.append(f"{error}: does not say that {other} was inserted")
            return
        if hands.inventory().find(barcode) is None:
            self._cupboard.faults.append(f"{other} was taken for {barcode}")

    def _cannot_find(self, barcode: str, number: int) -> None:
        """It is there, on the wrong board; it turns up later."""
        try:
            answer = self._ask(
                lambda client: client.answer(barcode, "cannot-find", "it is not on its board", id=number)
            )
        except Refused as error:
            self._cupboard.note("was answered already", str(error))
            return
        self._cupboard.note("cannot find", str(answer))
        self._mislaid.append((self._hospital.seconds() + self._rng.uniform(600, 2400), barcode))

    def _found_after_all(self) -> None:
        for found in [each for each in self._mislaid if each[0] <= self._hospital.seconds()]:
            self._bring(found[1])
            self._say_done(found[1])
            self._mislaid.remove(found)
            self._cupboard.note("found after all", found[1])

    # Room in the library

    def _make_room(self) -> None:
        """Cartridges that nobody wants go back to the shelf while slots are scarce, the mail slot's first."""
        hands = self._hospital.hands()
        for _ in range(FREE_SLOTS_MIN):
            elements = hands.inventory().elements
            inside = [each for each in elements if each.kind is not ElementKind.DRIVE]
            if sum(each.barcode is None for each in inside) >= FREE_SLOTS_MIN:
                return
            wanted = {each["barcode"] for each in self._ask(lambda client: client.prompts())}
            recent = self._hospital.seconds() - hurry(self._hospital.shape, HOUR)
            wanted |= {each for each, at in self._cupboard.brought.items() if at > recent}
            idle = [each for each in inside if each.barcode and each.barcode not in wanted]
            if not idle:
                return
            mail = [each for each in idle if each.kind is ElementKind.MAIL]
            self._export(hands, str(self._rng.choice(mail or idle).barcode))

    def _export(self, hands: SimulatedLibrary, barcode: str) -> None:
        shelf = f"Z{self._rng.randint(1, 9)}"
        try:
            self._ask(lambda client: client.export(barcode, shelf))
        except ApiError as error:
            self._cupboard.note("export refused", str(error))
            return
        found = hands.inventory().find(barcode)
        if found is not None and found.kind is ElementKind.MAIL:
            hands.hand_remove(barcode)
            self._cupboard.note("back to the shelf")
            self._ask(lambda client: client.inventory())
            self._confirm(barcode, shelf)

    def _confirm(self, barcode: str, shelf: str) -> None:
        """It stands there; nobody else has brought it back meanwhile, or the archive says so."""
        try:
            self._ask(lambda client: client.movement(barcode, "arrived", "", shelf))
            self._cupboard.note("confirmed")
        except Refused as error:
            self._cupboard.note("not confirmed", str(error))
