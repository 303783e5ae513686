"""Backups of the catalog in pools, and rebuilds that are tried, on an archive that goes on meanwhile."""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from drivers.base import ObjectStat, Readable, VolumeLabel
from drivers.wrappers import PassingStore
from hsm.catalog import backup
from hsm.catalog.drills import Weight
from hsm.catalog.engine import Catalog, open_engine
from hsm.errors import Corrupt, NotFound, Refused
from hsm.poolbackup import Failing, Plan, PoolBackups, fetch, newest, put_proved
from hsm.rebuild import Drills
from hsm.rebuild.drill import Tried, estimate
from tests.sim.aftermath import EVERYWHERE, facts, some_header
from tests.sim.conftest import MakeWorld
from tests.sim.world import World


def backups_of(world: World, plan: Plan | None = None) -> PoolBackups:
    return PoolBackups(world.catalog, world.pools, world.custody, world.volumes.label_in, world.home, plan)


def test_a_planned_backup_that_fails_is_told_once_a_day_and_when_it_is_good_again(
    make_world: MakeWorld,
) -> None:
    world = make_world(policies=EVERYWHERE)
    told: list[Failing] = []

    def started() -> PoolBackups:
        plan = Plan("nearline", timedelta(days=1), 2)
        rest = (world.custody, world.volumes.label_in, world.home, plan, told.append)
        return PoolBackups(world.catalog, world.pools, *rest)

    backups = started()
    assert backups.round() and told == []
    written = world.now()
    world.clock.advance(86400)
    folder, aside = world.home / "nearline" / "catalog", world.home / "aside"
    folder.rename(aside)
    folder.write_text("in the way")
    for _ in range(8):
        assert not backups.round()
        world.clock.advance(6 * 3600)
    assert [each.why != "" for each in told] == [True, True], "in two days"
    assert {each.last for each in told} == {written}
    again = started()
    assert not again.round() and len(told) == 3, "a restart tells it once more, and forgets nothing"
    folder.unlink()
    aside.rename(folder)
    world.clock.advance(3600)
    assert again.round() and (told[-1].why, len(told)) == ("", 4)
    world.clock.advance(86400)
    assert again.round() and len(told) == 4


def restored(world: World, template: Path, file: io.BytesIO) -> Catalog:
    path = world.home / "restored.db"
    shutil.copyfile(template, path)
    catalog = Catalog(open_engine(f"sqlite:///{path}"), world.clock)
    file.seek(0)
    backup.restore(catalog, file, "alice")
    return catalog


def test_backups_go_into_a_pool_on_schedule_are_read_back_and_the_last_ones_kept(
    make_world: MakeWorld, sqlite_template: Path
) -> None:
    world = make_world(policies=EVERYWHERE)
    world.store(1, 2)
    world.follow()
    backups = backups_of(world, Plan("nearline", timedelta(days=1), 2))
    assert backups.round() and not backups.round()
    for _ in range(3):
        world.clock.advance(86400)
        assert backups.round()
    folder = world.home / "nearline" / "catalog"
    zips = sorted(folder.glob("*.zip"))
    assert len(zips) == 2
    by_hand = subprocess.run(["sha256sum", "-c", f"{zips[-1].name}.sha256"], cwd=folder, capture_output=True)
    assert by_hand.returncode == 0
    store, file = world.pools.disks["nearline"].store, io.BytesIO()
    assert newest(store) == f"catalog/{zips[-1].name}"
    fetch(store, newest(store), file)
    catalog = restored(world, sqlite_template, file)
    old = World.__new__(World)
    old.catalog = catalog  # type: ignore[assignment]
    assert facts(old) == facts(world)
    catalog.close()
    world.follow()
    world.check()


def test_a_backup_that_reads_back_differently_fails_and_is_told(make_world: MakeWorld) -> None:
    world = make_world(policies=EVERYWHERE)

    class Lies(PassingStore):
        def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
            done = super().put(key, source, size, digest)
            path = world.home / "nearline" / key
            path.chmod(0o600)
            with path.open("r+b") as file:
                file.write(b"\xff")
            return done

    liar = Lies(world.pools.disks["nearline"].store)
    with pytest.raises(Corrupt, match="reads back differently"):
        put_proved(liar, "catalog/x.zip", io.BytesIO(b"abc"), 3, _sha(b"abc"))
    backups = backups_of(world)
    with pytest.raises(NotFound, match="no pool"):
        backups.write("nowhere", "alice")
    assert any("backup failed" in each for each in backups.problems())
    assert any(verb == "backup failed" for verb, _ in world.history("catalog"))
    backups.write("nearline", "alice")
    assert backups.problems() == []


@pytest.mark.campaign
def test_a_backup_goes_onto_a_cartridge_beside_the_packages_and_disturbs_none(
    make_world: MakeWorld, sqlite_template: Path
) -> None:
    world = make_world(policies=EVERYWHERE)
    world.store(1, 2)
    world.follow()
    done = backups_of(world).write("tape", "alice", keep=1)
    assert done["volume"] == "HSM001L8"
    world.clock.advance(1)
    backups_of(world).write("tape", "alice", keep=1)
    volume = world.volume("HSM001L8")
    drive = world.library.inventory().drives()[0].address
    store = world.library.mount(VolumeLabel("HSM001L8", volume.uuid, "tape"), drive)
    assert len([each.key for each in store.list() if each.key.endswith(".zip")]) == 2, "a tape frees nothing"
    file = io.BytesIO()
    fetch(store, newest(store), file)
    restored(world, sqlite_template, file).close()
    found = world.scan.scan("HSM001L8", "alice", adopt=True)
    assert (found["known"], found["unknown"], found["refused"]) == (1, 0, 0)
    world.assert_readable(1)
    world.check()


def _sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def drill(world: World, **options: Any) -> dict[str, Any]:
    drills = Drills(world.catalog, world.pools, world.custody, some_header, world.home, rng=random.Random(1))
    return drills.drill(options.get("sample", 9), options.get("pool", ""), "alice")


@pytest.mark.campaign
def test_a_drill_rebuilds_a_sample_says_how_long_it_takes_and_changes_nothing(make_world: MakeWorld) -> None:
    world = make_world(policies=EVERYWHERE)
    world.store(1, 2)
    world.store(2, 2)
    world.follow()
    before = facts(world)
    done = drill(world)
    assert done["good"] and {each["volume"] for each in done["sample"]} == {"online", "nearline", "HSM001L8"}
    assert all(each["whole"] and each["packages"] == 2 for each in done["sample"])
    assert (done["whole"]["packages"], done["whole"]["mounts"], done["whole"]["guessed"]) == (6, 3, [])
    assert facts(world) == before
    assert [verb for verb, _ in world.history("catalog")] == ["drilled"]
    with pytest.raises(NotFound):
        drill(world, pool="nowhere")
    with (world.home / "nearline" / world.tar_of(1)).open("r+b") as file:
        file.seek(20_000)
        file.write(b"\0\0\0\0")
    (world.home / "nearline" / world.tar_of(2)).unlink()
    bad = drill(world, pool="nearline")
    (nearline,) = bad["sample"]
    assert not bad["good"]
    assert len(nearline["differs"]) == 1
    assert len(nearline["missing"]) == 2
    world.check()


def test_the_whole_is_reckoned_from_mounts_and_packages() -> None:
    tried = [
        Tried("T1", "tape", 10, mount_seconds=60, seconds=100, packages=10),
        Tried("D1", "disk", 4, seconds=2, packages=4),
        Tried("T2", "tape", 10, failed="no drive"),
    ]
    found = estimate(tried, [Weight("tape", 3, 40), Weight("disk", 1, 100), Weight("cloud", 1, 14)])
    assert found is not None
    assert found.seconds == pytest.approx(3 * 60 + 40 * 10 + 100 * 0.5 + 30 + 14 * 102 / 14)
    assert (found.mounts, found.packages, found.guessed) == (5, 154, ("cloud",))
    assert estimate([Tried("T2", "tape", 10, failed="no drive")], []) is None


@pytest.mark.campaign
def test_a_drill_refuses_where_nothing_can_be_read(make_world: MakeWorld) -> None:
    world = make_world(policies=EVERYWHERE)
    with pytest.raises(Refused, match="no volume of tape"):
        drill(world, pool="tape")
