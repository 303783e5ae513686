"""Two operators at two consoles: slow, sometimes wrong, and at home from 18:00 to 07:00."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from drivers.base import ElementKind
from drivers.errors import NotFound, OperatorNeeded, Permanent, Retryable
from hsm.client import ApiError, Client, Refused, Unreachable
from tests.story.hospital import Hospital
from tests.story.hospital_script import BACK_AT, HOME_AT, hurry

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
    going_for: set[str] = field(default_factory=set)
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
                    self._tidy()
                    self._sleep(LOOK_SECONDS)
            except (ApiError, OperatorNeeded, Retryable) as error:
                self._cupboard.note("tries again", str(error))
                self._sleep(LOOK_SECONDS)
            except Exception as error:
                self._cupboard.faults.append(f"{self.name}: {error!r}")
                raise

    def _at_work(self) -> bool:
        return not HOME_AT <= self._hospital.seconds() % BACK_AT < BACK_AT

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
        """Take the first prompt that the other one is not walking for; now and then without asking him."""
        prompts = [each for each in self._ask(lambda client: client.mounts()) if each["state"] == "open"]
        careless = self._rng.random() < 0.15
        for prompt in prompts:
            barcode = str(prompt["barcode"])
            if barcode in self._cupboard.going_for and not careless:
                continue
            self._cupboard.going_for.add(barcode)
            try:
                self._fetch(barcode)
            finally:
                self._cupboard.going_for.discard(barcode)
            return True
        return False

    def _fetch(self, barcode: str) -> None:
        self._walk()
        chance = self._rng.random()
        if chance < 0.1 and not self._mislaid:
            self._cannot_find(barcode)
            return
        if chance < 0.25:
            self._bring_another(barcode)
            self._walk()
        self._bring(barcode)
        self._say_done(barcode)
        if chance > 0.85:
            self._cupboard.note("said done twice")
            self._say_done(barcode)

    def _bring(self, barcode: str) -> None:
        """Into the mail slot, or a slot when that is full."""
        with self._cupboard.door:
            try:
                self._hospital.hands().hand_insert(barcode)
                self._cupboard.note("brought")
            except Permanent:
                self._cupboard.note("was there already")

    def _say_done(self, barcode: str) -> None:
        answer = self._ask(lambda client: client.operator_done(barcode))
        self._cupboard.note("done", str(answer))

    def _bring_another(self, barcode: str) -> None:
        """The wrong cartridge, and "done" all the same: the archive must notice before it reads."""
        with self._cupboard.door:
            hands = self._hospital.hands()
            others = [each for each in hands.shelf() if each != barcode]
            if not others or hands.inventory().find(barcode) is not None:
                return
            other = self._rng.choice(others)
            hands.hand_insert(other)
            self._cupboard.note("brought another", f"{other} for {barcode}")
            try:
                self._ask(lambda client: client.operator_done(barcode))
                self._cupboard.faults.append(f"{other} was taken for {barcode}")
            except Refused as error:
                self._cupboard.note("was told", str(error))
                lies = hands.inventory().find(other)
                if lies is not None and lies.kind is ElementKind.MAIL and other not in str(error):
                    self._cupboard.faults.append(f"{error}: does not say that {other} was inserted")
            try:
                hands.hand_remove(other)
            except (Permanent, NotFound) as error:  # somebody wanted it: it went on into a drive
                self._cupboard.note("kept", str(error))
                return
        self._ask(lambda client: client.inventory())

    def _cannot_find(self, barcode: str) -> None:
        """It is there, on the wrong board; it turns up later."""
        try:
            self._ask(lambda client: client.operator_refuse(barcode, "cannot find it"))
        except Refused as error:
            self._cupboard.note("was answered already", str(error))
            return
        self._cupboard.note("cannot find", barcode)
        self._mislaid.append((self._hospital.seconds() + self._rng.uniform(600, 2400), barcode))

    def _found_after_all(self) -> None:
        for found in [each for each in self._mislaid if each[0] <= self._hospital.seconds()]:
            self._turned_up(found[1])
            self._mislaid.remove(found)

    def _turned_up(self, barcode: str) -> None:
        self._bring(barcode)
        self._ask(lambda client: client.import_(barcode))
        self._cupboard.note("found after all", barcode)

    # Room in the library

    def _tidy(self) -> None:
        """Cartridges that nobody wants go back to the shelf while slots are scarce."""
        with self._cupboard.door:
            hands = self._hospital.hands()
            elements = hands.inventory().elements
            slots = [each for each in elements if each.kind is ElementKind.SLOT]
            if sum(each.barcode is None for each in slots) >= FREE_SLOTS_MIN:
                return
            wanted = {each["barcode"] for each in self._ask(lambda client: client.mounts(every=False))}
            idle = [each.barcode for each in slots if each.barcode and each.barcode not in wanted]
            barcode = self._rng.choice(idle)
            self._export(hands, str(barcode))

    def _export(self, hands: Any, barcode: str) -> None:
        try:
            self._ask(lambda client: client.export(barcode, f"Z{self._rng.randint(1, 9)}"))
        except ApiError as error:
            self._cupboard.note("export refused", str(error))
            return
        found = hands.inventory().find(barcode)
        if found is not None and found.kind is ElementKind.MAIL:
            hands.hand_remove(barcode)
            self._cupboard.note("back to the shelf")
            self._ask(lambda client: client.inventory())
