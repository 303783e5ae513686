"""Worlds on fresh folders."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hsm.clock import ManualClock
from tests.sim import aftermath
from tests.sim.world import ROAD, World

MakeWorld = Callable[..., World]


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """These processes die, the machine never does: what is written is there without waiting for a disk."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _: None)


@pytest.fixture
def sqlite_file(sqlite_template: Path, tmp_path: Path) -> str:
    path = tmp_path / "sim.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def make_world(sqlite_file: str, tmp_path: Path) -> Iterator[MakeWorld]:
    """Builds the one world of a test; the options are World's."""
    made: list[World] = []

    def make(**options: Any) -> World:
        made.append(World(tmp_path / "home", sqlite_file, **options))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture(scope="session")
def filled_homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Archives with one study on tape, by their policies: made once, and copied for each test."""
    return {"folder": tmp_path_factory.mktemp("filled")}


@pytest.fixture
def make_filled(
    make_world: MakeWorld, filled_homes: dict[str, Any], sqlite_template: Path, tmp_path: Path
) -> MakeWorld:
    """As ``make_world``, with the first study of two instances where the policies want it."""

    def make(policies: str = ROAD) -> World:
        if policies not in filled_homes:
            folder = filled_homes["folder"] / str(len(filled_homes))
            folder.mkdir()
            shutil.copyfile(sqlite_template, folder / "sim.db")
            first = World(folder / "home", f"sqlite:///{folder}/sim.db", policies=policies)
            first.store(1, 2)
            first.follow()
            first.close()
            filled_homes[policies] = (folder, first.now(), dict(first.acknowledged))
        folder, now, acknowledged = filled_homes[policies]
        for file in folder.glob("sim.db*"):
            shutil.copyfile(file, tmp_path / file.name)
        shutil.copytree(folder / "home", tmp_path / "home")
        return make_world(clock=ManualClock(now), policies=policies, acknowledged=dict(acknowledged))

    return make


@pytest.fixture
def lose_catalog(sqlite_template: Path, tmp_path: Path) -> Iterator[aftermath.LoseCatalog]:
    """The same folders and cartridges with a catalog that is new."""
    made: list[World] = []
    aftermath.LOOSE.clear()

    def lose(world: World, name: str = "again.db") -> World:
        made.append(aftermath.reborn(world, sqlite_template, tmp_path / name))
        return made[-1]

    yield lose
    for each in made:
        each.close()


@pytest.fixture
def restore(sqlite_template: Path, tmp_path: Path) -> Iterator[aftermath.Restore]:
    """The archive with the catalog that it had once."""
    made: list[World] = []
    aftermath.LOOSE.clear()

    def back(world: World, file: io.BytesIO) -> World:
        path = tmp_path / f"restored{len(made)}.db"
        made.append(aftermath.restored_from(world, sqlite_template, path, file))
        return made[-1]

    yield back
    for each in made:
        each.close()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()
