"""One life of an archive under everything at once: an hour or more of it, then peace, then the reckoning.

One thread, one clock that is pushed, and one source of chance: the same seed lives the same life.
"""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.simulated.drive import CartridgeStore
from hsm.errors import ConfigError
from tests.chaos.chaos_admins import POLICIES
from tests.chaos.chaos_clock import SteppedClock
from tests.chaos.chaos_database import Database
from tests.chaos.chaos_effects import KINDS, Effects
from tests.chaos.chaos_faults import Faults
from tests.chaos.chaos_fire import burn
from tests.chaos.chaos_host import Host
from tests.chaos.chaos_ledger import Ledger
from tests.chaos.chaos_media import Media
from tests.chaos.chaos_moves import Moves
from tests.chaos.chaos_network import Trouble, installed
from tests.chaos.chaos_peace import Peace
from tests.chaos.chaos_people import People
from tests.chaos.chaos_provoke import FIRST, provoke
from tests.chaos.chaos_temptations import Temptations
from tests.chaos.chaos_trash import Trashcan
from tests.chaos.chaos_world import TROUBLES, ChaosWorld, Surroundings, one_thread, shape
from tests.sim.taps import Crash

STEP_MEAN_SECONDS = 9.0
FAULT_SHARE = 0.4
CHECK_SHARE = 0.06
MEANWHILE_SHARE = 0.03
WAIT_MEAN_SECONDS, ANSWER_SHARE = 20.0, 0.2
"""Of somebody who waits for a C-MOVE: between two looks, and how often an operator does something."""
WORKER_STEPS_MAX = 8
STEPS = ("disk", "verify", "drive", "delivery")
"""Of :class:`hsm.workers.Workers`: one for each kind of thread."""
SETTLE_STEPS_MAX = 300
TRASH_SECONDS = (600.0, 2400.0, 90_000.0)
"""How long a deleted study can be taken back: one of these in each life."""
CALM_STORES = 5
"""Before anything goes wrong there is something on tape."""
PAUSE_SECONDS = 5.0
"""Of a thread that could not do its work (:data:`hsm.workers.ERROR_PAUSE_SECONDS`)."""
STARTS_MAX = 400


@dataclass(frozen=True)
class Plan:
    """How much of what."""

    seed: int
    hours: float = 1.0
    every: bool = False
    """It ends, without the peace, once each kind of fault was felt."""


class Life:
    """One seed's."""

    def __init__(self, plan: Plan, folder: Path, template: Path) -> None:
        self.plan, self._template = plan, template
        self._rng = random.Random(plan.seed)
        self._home = folder / "home"
        self._home.mkdir()
        shutil.copyfile(template, folder / "catalog.db")
        self.url = f"sqlite:///{folder / 'catalog.db'}"
        self.effects = Effects()
        self.effects.home = str(folder)
        clock = SteppedClock()
        # Each has chance of its own, so that a further fault does not change what the others do.
        host = Host(self._home, self._chance(), self.effects)

        def trouble(name: str) -> Trouble:
            return Trouble(name, clock, self._chance(), self.effects, lambda: host.fuse)

        self.around = Surroundings(
            clock,
            self.effects,
            host,
            Database(clock.monotonic, self.effects),
            trouble("NAS"),
            trouble("S3"),
            set(),
            self._rng.choice(TRASH_SECONDS),
        )
        self.ledger = Ledger(self.url, Media(self._home), self.effects, Trashcan(clock.latest))
        self.faults = Faults(self.around, self.ledger, self._chance())
        self.people = People(self.around, self.ledger, self._chance())
        self.around.moves = Moves(
            self.ledger, lambda: self.world.destinations_down, self.while_somebody_waits
        )
        self.people.acts |= Temptations(self.people, self.faults, self.ledger, self._chance()).acts
        self.world: ChaosWorld
        self._due: dict[str, float] = {}
        self._inside = self.at_peace = False
        self._unexpected: list[str] = []

    def _chance(self) -> random.Random:
        return random.Random(self._rng.getrandbits(64))

    # The whole of it.

    def live(self) -> None:
        """:raises AssertionError: a promise was broken."""
        with self._in_force():
            self._begin()
            end = self.around.clock.monotonic() + self.plan.hours * 3600
            while self.around.clock.monotonic() < end and not (self.plan.every and self._all_felt()):
                self._step()
            self.at_peace = True
            if not self.plan.every:
                Peace(self).come()
                burn(self.world, self.ledger, self.effects, self._template)
            else:
                self.world.close()
        self.ledger.close()

    def _all_felt(self) -> bool:
        self.ledger.catch_up()
        return set(KINDS) <= set(+self.effects.felt)

    @contextmanager
    def _in_force(self) -> Iterator[None]:
        put = CartridgeStore.put

        def interrupted(store: CartridgeStore, key: str, *args: Any) -> object:
            self._meanwhile()
            done = put(store, key, *args)
            self.faults.written(store, key)
            return done

        with ExitStack() as stack:
            stack.enter_context(self.around.host.in_force())
            stack.enter_context(one_thread(self.around))
            bucket = self.around.bucket
            troubles = {"chaosnas": self.around.nas, "chaosbucket": bucket, "chaosvault": bucket}
            stack.enter_context(installed(troubles))
            stack.enter_context(self.around.moves.in_force())
            stack.enter_context(_watched(self._unexpected))
            CartridgeStore.put = interrupted  # type: ignore[method-assign, assignment]
            stack.callback(setattr, CartridgeStore, "put", put)
            yield

    def _begin(self) -> None:
        policy, goals = FIRST if self.plan.every else self._rng.choice(POLICIES)
        self.ledger.goals = goals
        ChaosWorld.surroundings = self.around
        self.around.host.idle = True
        site = shape(self._home, self._rng.choice((400_000, 1_500_000)), 1 << 20)
        world = ChaosWorld(
            self._home, self.url, self.around.clock, policies=policy, shape=site, handless=True
        )
        self.around.host.idle = True
        self.around.host.power.on()
        self.around.host.idle = False
        if self.plan.every:
            self.faults.once = True
            self.people.be_eager()
        self._take(world)
        for _ in range(CALM_STORES):
            self.do("store", self.people.store)
        for seconds in (61.0, 60.0, 60.0):
            self.around.clock.advance(seconds)
            self.settle()
        if self.plan.every:
            provoke(self)

    def settle(self) -> None:
        """Everything that runs by itself, until nothing goes on at this time.

        :raises AssertionError: it goes on for ever.
        """
        self.run_routines()
        self.do("policies", lambda: self.world._policies() or "")
        for _ in range(SETTLE_STEPS_MAX):
            done = [self.do(name, self.work(name)) for name in STEPS]
            if not any(done):
                return
        raise AssertionError("6: it never settles")

    def _take(self, world: ChaosWorld) -> None:
        self.world = self.faults.world = self.people.world = world

    # Steps.

    def _step(self) -> None:
        """Time passes, routines that are due run, workers take some steps, something happens."""
        self.around.clock.advance(self._rng.expovariate(1 / STEP_MEAN_SECONDS))
        for kind in self.faults.end_what_is_over():
            self.note(f"over: {kind}")
        self.run_routines()
        for _ in range(self._rng.randint(0, WORKER_STEPS_MAX)):
            name = self._rng.choice((*STEPS, "drive"))
            self.do(name, self.work(name))
        if self._rng.random() < FAULT_SHARE:
            kind = self.faults.one()
            if kind:
                self.note(f"FAULT {kind}")
        name, act = self.people.one()
        self.do(name, act)
        if self._rng.random() < CHECK_SHARE and self.quiet:
            self.ledger.check()
            self.note("checked")

    @property
    def quiet(self) -> bool:
        """Nothing is half-way: no death is on its way through the process."""
        return not self.world.fuse.blown

    def work(self, name: str) -> Callable[[], str]:
        step = getattr(self.world.workers, f"{name}_step")
        return lambda: "works" if step() else ""

    def run_routines(self) -> None:
        """Those that are due, in any order."""
        now = self.around.clock.monotonic()
        routines = self.world.routines()
        due = [name for name in routines if self._due.get(name, 0.0) <= now]
        self._rng.shuffle(due)
        for name in due:
            self._due[name] = now + routines[name][0]
            self.do(name, self.world.routines()[name][1])

    def do(self, name: str, act: Callable[[], object]) -> bool:
        """One thing, of which the process may die; whether it did something."""
        self.effects.acts[name] += 1
        try:
            said = act()
        except Crash as crash:
            if self._inside:
                raise  # whoever it happens to is as dead
            self.note(f"{name}: dies {crash}")
            self._start_again()
            return True
        except TROUBLES as error:
            said = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
            if not self._inside:
                self.around.clock.advance(PAUSE_SECONDS)
            self.note(f"{name}: {said}")
            return True
        finally:
            if self._unexpected:
                raise AssertionError(f"a fault of ours: {self._unexpected[0]}")
        if said:
            self.note(f"{name}: {said}")
        return bool(said)

    def note(self, what: str) -> None:
        self.effects.note(self.around.clock.now(), what)

    def _meanwhile(self) -> None:
        """While a drive writes, somebody else does something."""
        if self._inside or self.world.fuse.blown or self._rng.random() >= MEANWHILE_SHARE:
            return
        self._inside = True
        try:
            name = self._rng.choice(("store", "retrieve", "recall", "fault", "scrub", "send again", "hold"))
            if name == "fault" and self.at_peace:
                return
            if name == "fault":
                self.note(f"meanwhile FAULT {self.faults.one()}")
            else:
                with suppress(*TROUBLES):
                    self.note(f"meanwhile {name}: {self.people.acts[name][1]()}")
            self.effects.inject("meanwhile")
            self.effects.feel("meanwhile")
        finally:
            self._inside = False

    def while_somebody_waits(self) -> None:
        """A C-MOVE is held: everything else goes on."""
        was, self._inside = self._inside, True
        try:
            self.around.clock.advance(self._rng.expovariate(1 / WAIT_MEAN_SECONDS))
            self.faults.end_what_is_over()
            self.run_routines()
            for name in STEPS:
                self.do(name, self.work(name))
            if self._rng.random() < ANSWER_SHARE:
                self.do("answer", self.people.answer)
        finally:
            self._inside = was

    # Deaths.

    def _start_again(self) -> None:
        """A new process, on what the old one (and the machine) left; until one stays alive."""
        self.effects.feel("power cut" if self.faults.cuts_power else "daemon killed")
        self.restart()

    def restart(self) -> None:
        """:raises AssertionError: no daemon starts any more."""
        dead = self.world
        self.ledger.asked_once()
        self.people.waits.clear()
        host = self.around.host
        host.idle = True
        if self.faults.cuts_power:
            dice = None if self._rng.random() < 0.5 else self._chance()
            host.power.cut(dice)
            host.power.on()
        self.faults.cuts_power = False
        for _ in range(STARTS_MAX):
            host.idle = True
            try:
                world = dead.again(self.faults.dies_in_start)
            except Crash:
                self.effects.inject("daemon killed in its start")
                self.effects.feel("daemon killed in its start")
                self.note("dies in its start")
                self.faults.dies_in_start = None
            except (*TROUBLES, ConfigError) as error:
                self.note(f"cannot start: {str(error).splitlines()[0][:160]}")
                self.around.clock.advance(PAUSE_SECONDS)
                self.faults.end_what_is_over()
            else:
                down = dead.destinations_down
                world.destinations_down |= down
                self.faults.dies_in_start = world.fuse.blows_at = None
                self._take(world)
                self.ledger.nobody_works()
                self.note("started")
                return
        raise AssertionError("the daemon never starts again")


@contextmanager
def _watched(unexpected: list[str]) -> Iterator[None]:
    """What the daemon's own log calls unexpected is a defect; the rest is not printed."""

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and "unexpected" in record.getMessage():
                unexpected.append(logging.Formatter().format(record))

    logger, ear = logging.getLogger("hsm"), Ear()
    before = (logger.level, logger.propagate)
    logger.addHandler(ear)
    logger.propagate = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.removeHandler(ear)
        logger.level, logger.propagate = before
