"""Cold storage: what lies there is asked for, waited for without anybody sitting on it, and read."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from hsm.catalog.tables import Package
from hsm.errors import Refused
from hsm.model import Priority
from tests.sim import cloud
from tests.sim.cloud import Switch
from tests.sim.conftest import MakeWorld
from tests.sim.test_pools_away import CLOUD, CLOUD_AND_TAPE, probe, shape_of
from tests.sim.world import World

HOUR = 3600.0


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.install(monkeypatch)


def archived(make_world: MakeWorld, tmp_path: Path, policies: str = CLOUD) -> tuple[World, Switch]:
    """A study that lies in a cold class (and where else the policies want it)."""
    vault = cloud.switch(tmp_path / "bucket")
    vault.cold = True
    world = make_world(policies=policies, shape=shape_of(tmp_path))
    vault.now = world.clock.now
    world.store(1, 2)
    world.follow()
    assert world.copies(1)["1.p0001", "cloud"] == "verified"
    assert len(vault.frozen) == 1, "it was read back first, then it went cold"
    assert vault.asked == []
    return world, vault


def test_a_retrieve_of_a_cold_study_asks_once_waits_for_hours_and_gets_it(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world, vault = archived(make_world, tmp_path)
    wait = world.retrieve(1)
    other = world.retrieve(1, "C-MOVE from WS2")
    world.settle()
    assert wait.look().waiting == 2
    assert "cloud is cold: asked for" in wait.retrieval.waiting_for()
    gets = vault.gets
    for _ in range(7):
        world.later(0.5 * HOUR)
        assert wait.look().waiting == 2
    assert vault.gets == gets, "nobody reads what is not there yet"
    world.later(HOUR)
    got = wait.look()
    assert (len(got.files), got.lost, got.waiting) == (2, {}, 0)
    assert len(other.look().files) == 2
    assert len(vault.asked) == 1
    (recall,) = world.requests(kind="recall")
    assert (recall.state, recall.attempts) == ("done", 1)
    wait.close()
    other.close()
    world.check()


def test_a_cold_recall_outlives_the_daemon(make_world: MakeWorld, tmp_path: Path) -> None:
    world, vault = archived(make_world, tmp_path)
    asked = world.recall.request_study(world.instances(1)[0].study_uid, Priority.ROUTINE, "alice")
    assert len(asked["requests"]) == 1  # type: ignore[arg-type]
    world.settle()
    (recall,) = world.requests(kind="recall")
    assert recall.state == "queued"
    assert "looked at again" in recall.error
    again = world.rebuild()
    again.later(5 * HOUR)
    assert [each.state for each in again.requests(kind="recall")] == ["done"]
    assert len(vault.asked) == 1
    again.assert_readable(1)
    again.check()
    again.close()


def test_what_went_cold_again_before_it_was_read_is_asked_for_again(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world, vault = archived(make_world, tmp_path)
    wait = world.retrieve(1)
    world.settle()
    world.clock.advance(cloud.RESTORE_SECONDS + cloud.KEPT_SECONDS + HOUR)  # the daemon was down
    world.settle()
    assert len(vault.asked) == 2
    world.later(5 * HOUR)
    assert len(wait.look().files) == 2
    wait.close()


def test_a_copy_in_a_library_is_quicker_than_a_cold_one_and_a_cold_one_than_a_shelf(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world, vault = archived(make_world, tmp_path, CLOUD_AND_TAPE)
    world.assert_readable(1)
    assert vault.asked == [], "the tape is in the library"
    with world.catalog.read() as session:
        (key,) = session.scalars(select(Package.key))
    world.staging.remove(key)
    world.custody.export(world.on_tape(1)[0], "B3", "alice")
    wait = world.retrieve(1)
    world.settle()
    assert (len(vault.asked), world.prompts()) == (1, [])
    world.later(5 * HOUR)
    assert len(wait.look().files) == 2
    wait.close()


def test_a_cold_server_that_goes_away_costs_the_recall_nothing(make_world: MakeWorld, tmp_path: Path) -> None:
    world, vault = archived(make_world, tmp_path)
    wait = world.retrieve(1)
    world.settle()
    vault.down = True
    for _ in range(10):
        world.later(HOUR)
        probe(world)
        assert wait.look().lost == {}
    vault.down = False
    probe(world)
    for _ in range(6):
        world.later(HOUR)
    assert len(wait.look().files) == 2
    wait.close()
    world.check()


def test_a_cold_copy_is_read_back_by_policy_and_never_by_accident(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world, vault = archived(make_world, tmp_path)
    with pytest.raises(Refused, match="costs money and hours"):
        world.volumes.verify("cloud", "alice")
    world.use_policies(CLOUD + "  - {name: scrub, verify: cloud, when: verified(cloud) >= 0 days}\n")
    world.run_policies()
    (verify,) = world.requests(kind="verify")
    assert (verify.state, verify.attempts) == ("queued", 0)
    for _ in range(10):
        world.later(0.5 * HOUR)
    assert [each.state for each in world.requests(kind="verify")] == ["done"]
    assert len(vault.asked) == 1
