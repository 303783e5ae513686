"""Worlds on fresh folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sim.world import World

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


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()
