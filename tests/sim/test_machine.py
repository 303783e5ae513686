"""Anything, in any order: Hypothesis plays modality, policy, operator, tape library and power cut.

After each step the promises are looked at. What fails is printed as the shortest list of steps that
fails; `make sim` runs many more and longer ones.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from drivers.simulated.medium import flip_byte
from hsm.catalog.tables import Copy, Instance, Package, Volume
from hsm.errors import DriverError, HsmError
from hsm.guard import GOOD_VOLUMES
from tests.sim.taps import Crash
from tests.sim.world import LONG, NEARLINE, NOTHING, ROAD, TWO_TAPES, Shape, Wait, World, study_uid

STUDIES = st.integers(1, 3)
BARCODES = st.sampled_from(["HSM001L8", "HSM002L8", "HSM003L8"])
POLICIES = st.sampled_from([ROAD, TWO_TAPES, NEARLINE, NOTHING])
OPERATIONS = st.sampled_from(["move", "load", "put", "write", "get", "read", "flush", "unload", "label"])
ERRORS = st.sampled_from(["retryable", "operator needed", "no space", "permanent"])


class Archive(RuleBasedStateMachine):
    """One archive and its surroundings."""

    template: Path

    @initialize(policy=st.sampled_from([TWO_TAPES, ROAD]))
    def open(self, policy: str) -> None:
        """One study on its way to tape, another one just received."""
        self.folder = Path(tempfile.mkdtemp(prefix="hsm-sim-"))
        shutil.copyfile(self.template, self.folder / "catalog.db")
        shape = Shape(cartridges=3, capacity_bytes=300_000, mail_slots=1)
        url = f"sqlite:///{self.folder / 'catalog.db'}"
        self.world = World(self.folder / "home", url, policies=policy, shape=shape)
        self.next_number = 1
        self.waits: list[Wait] = []
        self.flipped: set[tuple[str, str]] = set()
        self.store(1, 2)
        self.the_daemon_goes_its_way()
        self.store(2, 2)

    def alive(self, act: Callable[[], object]) -> None:
        """Do something that a power cut may end; then the archive starts again."""
        try:
            act()
        except Crash:
            self.waits.clear()
            self.world = self.world.rebuild()

    # The surroundings.

    @rule(study=STUDIES, count=st.integers(1, 2))
    def store(self, study: int, count: int) -> None:
        first, self.next_number = self.next_number, self.next_number + count
        self.alive(lambda: self.world.store(study, count, first=first, size=5_000))

    @rule()
    def the_daemon_goes_its_way(self) -> None:
        """Quiet studies are sealed, policies run, and everything is done that can be done now."""

        def act() -> None:
            self.world.seal_all()
            self.world.run_policies()

        self.alive(act)

    @rule(policy=POLICIES)
    def other_policies(self, policy: str) -> None:
        self.world.use_policies(policy)
        self.alive(lambda: self.world.run_policies() and None)

    @rule(seconds=st.sampled_from([3, 700, 4000]))
    def time_passes(self, seconds: int) -> None:
        self.alive(lambda: self.world.later(seconds))

    @rule()
    def one_step(self) -> None:
        self.alive(lambda: self.world.steps() and None)

    @rule(effect=st.integers(1, 40))
    def power_cut_soon(self, effect: int) -> None:
        self.world.fuse.blows_at = self.world.fuse.count + effect

    @rule(faults=st.lists(st.tuples(OPERATIONS, ERRORS), min_size=1, max_size=3), study=STUDIES)
    def trouble(self, faults: list[tuple[str, str]], study: int) -> None:
        """The library fails, and is used at once: by whatever policy wants, and by a retrieve."""
        for operation, error in faults:
            self.world.fault(operation, error)
        self.retrieve(study)
        self.the_daemon_goes_its_way()

    @rule()
    def mended(self) -> None:
        self.world.heal()

    @rule(study=STUDIES)
    def retrieve(self, study: int) -> None:
        def act() -> None:
            if self.world.instances(study):
                self.waits.append(self.world.retrieve(study))

        self.alive(act)

    @precondition(lambda self: self.waits)
    @rule()
    def look_and_leave(self) -> None:
        def act() -> None:
            wait = self.waits.pop()
            wait.look()
            wait.close()

        self.alive(act)

    @rule(barcode=BARCODES, what=st.sampled_from(["export", "bring", "refuse", "tear out", "inventory"]))
    def hands(self, barcode: str, what: str) -> None:
        world = self.world
        acts: dict[str, Callable[[], object]] = {
            "export": lambda: world.custody.export(barcode, "B3", "op"),
            "bring": lambda: world.custody.operator_done(barcode, "op"),
            "refuse": lambda: world.custody.operator_refuse(barcode, "op", "cannot find it"),
            "tear out": lambda: world.library.hand_remove(barcode),
            "inventory": world.custody.inventory,
        }
        self.by_hand(acts[what])

    @rule(barcode=BARCODES, study=STUDIES, at=st.integers(0, 4_000))
    def a_byte_flips(self, barcode: str, study: int, at: int) -> None:
        """At most one copy of a package at a time, or nothing could be promised."""
        if any(each == study_uid(study) for _, each in self.flipped) or len(self.readable(study)) < 2:
            return
        if barcode in self.world.on_tape(study):
            try:
                flip_byte(self.world.library.medium_folder(barcode), self.world.tar_of(study), at)
            except (ValueError, StopIteration, OSError):
                return
            self.flipped.add((barcode, study_uid(study)))

    def by_hand(self, act: Callable[[], object]) -> None:
        """What people do may be refused, never do harm."""

        def careful() -> None:
            try:
                act()
            except (HsmError, DriverError):
                return

        self.alive(careful)

    # The promises.

    def readable(self, study: int) -> list[str]:
        return [
            volume
            for (_, volume), state in self.world.copies(study).items()
            if state == "verified" and self.world.volume(volume).state in GOOD_VOLUMES
        ]

    @invariant()
    def the_books_are_in_order(self) -> None:
        if hasattr(self, "world") and not self.world.fuse.blown:
            fuse, self.world.fuse.blows_at = self.world.fuse.blows_at, None
            self.world.check()
            self.world.fuse.blows_at = fuse

    @invariant()
    def nothing_acknowledged_is_gone(self) -> None:
        if not hasattr(self, "world"):
            return
        with self.world.catalog.engine.connect() as connection:
            rows = connection.execute(select(Instance.uid, Instance.digest, Instance.package_pk)).all()
            held = connection.execute(
                select(Copy.package_pk, Copy.state, Volume.state)
                .join(Volume, Volume.pk == Copy.volume_pk)
                .where(Copy.state.in_(("verified", "suspect")))
            ).all()
            packages = set(connection.scalars(select(Package.pk)))
        found = {uid: digest for uid, digest, _ in rows}
        for uid, digest in self.world.acknowledged.items():
            assert found.get(uid) == digest, f"{uid} was acknowledged"
        for uid, _, package_pk in rows:
            if package_pk is None:
                study, series, number = uid.removeprefix("1.2.826.0.1.3680043.8.498.").split(".")
                assert self.world.online_file(int(study), int(number), int(series)).exists()
        # One flipped byte and one refused cartridge at most stand between a package and its good copies.
        for package_pk in packages:
            assert any(pk == package_pk for pk, *_ in held), "a package has lost every copy"

    @invariant()
    def nothing_is_released_below_its_goals(self) -> None:
        """A released copy has verified ones elsewhere: the guard saw to it when it was released, and what
        has become suspect or refused since is still there to be read."""
        if not hasattr(self, "world"):
            return
        for study in (1, 2, 3):
            by_package: dict[str, list[str]] = {}
            for (package, _), state in self.world_copies(study).items():
                by_package.setdefault(package, []).append(state)
            for package, states in by_package.items():
                assert {"verified", "suspect"} & set(states), package

    def world_copies(self, study: int) -> dict[tuple[str, str], str]:
        if self.world.fuse.blown:
            return {}
        return self.world.copies(study)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.fuse.blows_at = None
        try:
            self.everything_comes_back()
        finally:
            self.world.close()
            shutil.rmtree(self.folder)

    def everything_comes_back(self) -> None:
        """In the end people bring every cartridge and mend the library, and all is there."""
        for wait in self.waits:
            wait.close()
        world = self.world
        world.heal()
        for barcode in world.library.shelf():
            try:
                world.library.hand_insert(barcode)
            except DriverError:
                continue
        world.custody.inventory()
        for _ in range(3):
            world.later(4000)
        world.check()
        damaged = {study for _, study in self.flipped}
        for study in (1, 2, 3):
            if world.instances(study) and study_uid(study) not in damaged:
                world.assert_readable(study)


# Time enough to shrink what fails (Hypothesis takes five minutes at most), or nobody would see it.
@pytest.mark.timeout(7200 if LONG else 900)
def test_whatever_happens_in_whatever_order_an_archive_keeps_its_promises(sqlite_template: Path) -> None:
    Archive.template = sqlite_template
    run_state_machine_as_test(
        Archive,
        settings=settings(
            max_examples=400 if LONG else 6,
            stateful_step_count=60 if LONG else 30,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
