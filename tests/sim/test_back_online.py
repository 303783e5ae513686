"""A released study comes back to the pool of received files: the same files, proved like any copy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sim.test_crashes import MakeScene, attack, make_scene
from tests.sim.world import World

__all__ = ["make_scene"]

AWAY = """\
policy: away
priority: 1
copies: {nearline: 1}
rules:
  - {name: to nearline, copy to: nearline}
  - {name: free online, release from: online, when: copies(nearline) >= 1}
"""
BACK = """\
policy: back
priority: 1
rules: [{name: back, copy to: online}]
"""
Files = dict[str, bytes]


def files(world: World) -> Files:
    root = world.pools.ingest.root
    found = (path for path in (root / "studies").rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def released(world: World, count: int = 3) -> Files:
    """A study that left the online pool; the files that it had there."""
    world.use_policies(AWAY)
    world.store(1, count)
    world.store(1, 1, first=1, series=2)
    world.seal_all()
    there = files(world)
    for _ in range(2):
        world.run_policies()
    assert world.copies(1)["1.p0001", "online"] == "released"
    assert files(world) == {}
    return there


def test_a_study_that_comes_back_has_the_files_that_it_had(world: World) -> None:
    there = released(world)
    world.use_policies(BACK)
    world.run_policies()
    assert world.copies(1)["1.p0001", "online"] == "verified"
    assert files(world) == there
    world.check()
    world.assert_readable(1)


def test_it_is_released_and_comes_back_as_often_as_wanted(world: World) -> None:
    there = released(world)
    for _ in range(2):
        world.use_policies(BACK)
        world.run_policies()
        assert files(world) == there
        world.use_policies(AWAY)
        world.run_policies()
        assert files(world) == {}
    world.assert_readable(1)


def test_a_file_with_other_bytes_that_lies_in_the_way_is_replaced(world: World) -> None:
    there = released(world)
    stray = world.pools.ingest.root / next(key for key in there if key.endswith(".dcm"))
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"left by somebody")
    world.use_policies(BACK)
    world.run_policies()
    assert files(world) == there


@pytest.mark.parametrize(
    "damage",
    [
        lambda tar: tar[:-1],
        lambda tar: tar + bytes(512),
        lambda tar: tar[:600] + b"?" + tar[601:],
        lambda tar: tar[:-2000] + bytes([tar[-2000] ^ 1]) + tar[-1999:],
        lambda tar: b"",
    ],
    ids=["cut off", "too long", "manifest", "instance", "empty"],
)
def test_damaged_bytes_are_never_taken_for_the_study(world: World, damage: Callable[[bytes], bytes]) -> None:
    released(world)
    (tar,) = (world.home / "nearline").rglob("*.tar")
    tar.write_bytes(damage(tar.read_bytes()))
    world.use_policies(BACK)
    world.run_policies()
    assert world.copies(1).get(("1.p0001", "online")) != "verified"
    assert world.copies(1)["1.p0001", "nearline"] == "suspect"


def test_what_was_written_wrong_is_suspect_and_not_served(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(world)
    world.use_policies(BACK)

    def flip() -> None:
        path = next((world.pools.ingest.root / "studies").rglob("*.dcm"))
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    flush = world.migrate.mark_written
    monkeypatch.setattr(world.migrate, "mark_written", lambda pk, position: (flush(pk, position), flip()))
    world.run_policies()
    assert world.copies(1)["1.p0001", "online"] == "suspect"
    monkeypatch.undo()
    world.assert_readable(1)


@pytest.mark.campaign
def test_a_crash_at_any_point_on_the_way_back_ends_with_the_same_files(make_scene: MakeScene) -> None:
    there: Files = {}

    def prepare(world: World) -> None:
        there.update(released(world, 2))
        world.use_policies(BACK)

    scene = make_scene(AWAY, prepare)

    def arrived(world: World) -> None:
        assert world.copies(1)["1.p0001", "online"] == "verified"
        assert files(world) == there
        world.assert_readable(1)

    assert attack(scene, lambda world: world.run_policies() and None, arrived, every=4) > 10
