"""The process dies at every single effect of an operation, and starts again on what is left.

Each operation is first run to its end to count its effects (commits, puts, flushes, deletes, labels,
mounts); then, for each count, a fresh archive dies there, is built anew on the same folders, goes on,
and must arrive where the undisturbed one arrived.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.base import VolumeLabel
from hsm.clock import ManualClock
from hsm.model import Priority
from tests.sim.taps import Crash
from tests.sim.world import LONG, NEARLINE, NOTHING, ROAD, TWO_TAPES, World

FREE_ONLINE = """\
policy: free
priority: 1
copies: {nearline: 1}
rules: [{name: free online, release from: online, when: copies(nearline) >= 1}]
"""


class Scene:
    """A folder with an archive in some state, of which any number of lives can be tried."""

    def __init__(self, folder: Path, template: Path, policies: str, prepare: Callable[[World], None]) -> None:
        self._folder = folder
        self._clock_start = ManualClock()
        first = folder / "start"
        first.mkdir()
        shutil.copyfile(template, first / "catalog.db")
        world = World(first / "home", _url(first), self._clock_start, policies=policies)
        prepare(world)
        self._policies = world.policy_text
        self._acknowledged = dict(world.acknowledged)
        world.custody.unmount_all()
        world.close()

    def life(self, name: str) -> World:
        """A copy of the scene, opened."""
        copy = self._folder / name
        shutil.copytree(self._folder / "start", copy)
        clock = ManualClock(self._clock_start.now())
        world = World(
            copy / "home",
            _url(copy),
            clock,
            policies=self._policies,
            acknowledged=dict(self._acknowledged),
        )
        world.fuse.count = 0
        return world

    def forget(self, name: str) -> None:
        shutil.rmtree(self._folder / name)


def _url(folder: Path) -> str:
    return f"sqlite:///{folder / 'catalog.db'}"


MakeScene = Callable[[str, Callable[[World], None]], Scene]


@pytest.fixture
def make_scene(tmp_path: Path, sqlite_template: Path) -> MakeScene:
    return lambda policies, prepare: Scene(tmp_path, sqlite_template, policies, prepare)


LIVES = 12
"""Deaths of a scene at most, about; `make sim` dies at every effect."""


def attack(
    scene: Scene, act: Callable[[World], None], arrived: Callable[[World], None], every: int = 1
) -> int:
    """Die at each effect of ``act`` in turn (of a long one at a sample, unless `make sim` says all); how
    many there are."""
    whole = scene.life("whole")
    act(whole)
    effects = whole.fuse.count
    arrived(whole)
    whole.close()
    step = 1 if LONG else max(every, effects // LIVES)
    for at in range(1, effects + 1, step):
        world = scene.life(f"life{at}")
        world.fuse.blows_at = at
        try:
            act(world)
        except Crash:
            pass
        else:
            assert not world.fuse.blown, f"effect {at}: somebody swallowed the crash"
        again = world.rebuild()
        try:
            again.check()
            for _ in range(2):
                again.later(4000)
            act(again)
            again.later(4000)
            arrived(again)
            again.check()
        except (AssertionError, Exception) as error:
            raise AssertionError(f"after a crash at effect {at} of {effects}: {error}") from error
        again.close()
        scene.forget(f"life{at}")
    return effects


def received(world: World) -> None:
    world.store(1, 2)


def sealed(world: World) -> None:
    world.store(1, 2)
    world.seal_all()


def followed(world: World) -> None:
    world.store(1, 2)
    world.follow()


def test_a_crash_at_any_point_of_receiving_keeps_what_was_acknowledged(make_scene: MakeScene) -> None:
    scene = make_scene(NOTHING, lambda world: None)

    def arrived(world: World) -> None:
        assert len(world.acknowledged) == 2
        world.assert_readable(1)
        world.ingest.settle()
        assert not [
            path for path in (world.home / "online" / ".incoming").glob("*.part") if path.stat().st_size
        ]

    attack(scene, received, arrived)


@pytest.mark.campaign
def test_a_crash_at_any_point_of_sealing_leaves_a_study_that_can_be_sealed(make_scene: MakeScene) -> None:
    scene = make_scene(NOTHING, received)

    def arrived(world: World) -> None:
        assert world.copies(1) == {("1.p0001", "online"): "verified"}
        world.assert_readable(1)

    assert attack(scene, lambda world: world.seal_all(), arrived) > 8


@pytest.mark.campaign
def test_a_crash_at_any_point_of_a_copy_to_disk_ends_with_one_verified_copy(make_scene: MakeScene) -> None:
    scene = make_scene(NEARLINE, sealed)

    def arrived(world: World) -> None:
        assert world.copies(1) == {("1.p0001", "online"): "verified", ("1.p0001", "nearline"): "verified"}
        world.assert_readable(1)

    assert attack(scene, lambda world: world.run_policies() and None, arrived) > 10


def test_a_crash_at_any_point_of_a_copy_to_tape_ends_with_one_verified_copy(make_scene: MakeScene) -> None:
    policy = "policy: t\npriority: 1\ncopies: {tape: 1}\nrules: [{name: t, copy to: tape}]\n"
    scene = make_scene(policy, sealed)

    def arrived(world: World) -> None:
        assert world.on_tape(1) == ["HSM001L8"]
        world.assert_readable(1)
        states = [world.volume(f"HSM00{n}L8").state for n in (1, 2, 3, 4)]
        assert states == ["active", "scratch", "scratch", "scratch"], "a crash costs no cartridge"
        volume = world.volume("HSM001L8")
        (drive, *_) = world.library.inventory().drives()
        label = VolumeLabel(volume.name, volume.uuid, "tape")
        room = world.library.mount(label, drive.address).capacity()
        assert volume.used == room.total - room.free, "what was put twice is there once"

    assert attack(scene, lambda world: world.run_policies() and None, arrived, every=2) > 15


@pytest.mark.campaign
def test_a_crash_at_any_point_of_two_copies_to_tape_ends_with_two_cartridges(make_scene: MakeScene) -> None:
    scene = make_scene(TWO_TAPES, sealed)

    def arrived(world: World) -> None:
        for _ in range(3):
            world.run_policies()
            world.later()
        assert world.on_tape(1) == ["HSM001L8", "HSM002L8"]
        assert world.copies(1)["1.p0001", "online"] == "released"
        world.assert_readable(1)

    assert attack(scene, lambda world: world.run_policies() and None, arrived, every=5) > 30


@pytest.mark.campaign
def test_a_crash_at_any_point_of_a_release_ends_with_a_release_and_a_copy(make_scene: MakeScene) -> None:
    def prepare(world: World) -> None:
        sealed(world)
        world.run_policies()
        world.use_policies(FREE_ONLINE)

    scene = make_scene(NEARLINE, prepare)

    def arrived(world: World) -> None:
        assert world.copies(1) == {("1.p0001", "online"): "released", ("1.p0001", "nearline"): "verified"}
        assert not world.online_file(1, 1).exists()
        world.assert_readable(1)

    assert attack(scene, lambda world: world.run_policies() and None, arrived) > 8


@pytest.mark.campaign
def test_a_crash_at_any_point_of_a_recall_leaves_a_recall_that_is_finished(make_scene: MakeScene) -> None:
    scene = make_scene(ROAD, followed)

    def recall(world: World) -> None:
        wait = world.retrieve(1)
        try:
            world.settle()
            wait.look()
        finally:
            if not world.fuse.blown:
                wait.close()

    def arrived(world: World) -> None:
        assert {request.state for request in world.requests(kind="recall")} == {"done"}
        world.assert_readable(1)

    assert attack(scene, recall, arrived) > 8


@pytest.mark.campaign
def test_a_crash_at_any_point_of_an_operators_answer_loses_neither_prompt_nor_recall(
    make_scene: MakeScene,
) -> None:
    def prepare(world: World) -> None:
        followed(world)
        world.custody.export("HSM001L8", "B3", "alice")
        world.retrieve(1).close()
        world.settle()
        assert world.prompts() == ["HSM001L8"]

    scene = make_scene(ROAD, prepare)

    def answer(world: World) -> None:
        world.custody.operator_done("HSM001L8", "alice")
        world.settle()

    def arrived(world: World) -> None:
        assert {request.state for request in world.requests(kind="recall")} == {"done"}
        assert world.prompts() == []
        world.assert_readable(1)

    assert attack(scene, answer, arrived) > 6


@pytest.mark.campaign
def test_a_crash_at_any_point_of_an_export_leaves_a_cartridge_that_can_be_had(make_scene: MakeScene) -> None:
    scene = make_scene(ROAD, followed)

    def export(world: World) -> None:
        if world.volume("HSM001L8").place != "shelf":
            world.custody.export("HSM001L8", "B3", "alice")

    def arrived(world: World) -> None:
        assert world.volume("HSM001L8").place == "shelf"
        assert world.library.shelf() == ("HSM001L8",)
        world.custody.operator_done("HSM001L8", "alice")
        world.assert_readable(1)

    assert attack(scene, export, arrived) > 3


@pytest.mark.campaign
def test_a_crash_at_any_point_of_a_delivery_delivers_what_is_left(make_scene: MakeScene) -> None:
    def prepare(world: World) -> None:
        followed(world)
        instances = world.instances(1)
        key = world.deliveries.begin("DEST", "WS1", 7, instances)
        world.deliveries.hand_over(key, [instance.sop_instance_uid for instance in instances])

    scene = make_scene(ROAD, prepare)

    def arrived(world: World) -> None:
        world.later()
        assert {request.state for request in world.requests(kind="deliver")} == {"done"}

    assert attack(scene, lambda world: world.settle(), arrived, every=4) > 8


def test_a_crash_while_a_second_waiter_joins_leaves_no_pin(make_scene: MakeScene) -> None:
    scene = make_scene(ROAD, followed)
    world = scene.life("pins")
    package = world.retrievals  # the retrieval below fails in mid-way
    world.fuse.blows_at = 3
    with pytest.raises(Crash):
        package.open(world.instances(1), "C-MOVE", Priority.ROUTINE)
    again = world.rebuild()
    again.assert_readable(1)
    again.close()
