"""LTFS volumes through the emulation and, where there is one, a real LTFS: every known trap, noticed."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "ltfs_emulator"))
from ltfs_hall import KINDS, LtfsIo, library_options

from drivers.base import Store, VolumeLabel
from drivers.tape.configure import open_mtx
from drivers.tape.library import TapeLibrary

ONE, TWO = VolumeLabel("HSM001L8", "uuid-1", "tape-a"), VolumeLabel("HSM002L8", "uuid-2", "tape-a")
DRIVE, OTHER = 60_000, 60_001
DATA = bytes(range(256)) * 6000


class World:
    """A library, and what is behind it."""

    def __init__(self, io: LtfsIo, kind: str) -> None:
        self.io, self.kind = io, kind
        self.library = self.open()

    def open(self, **options: Any) -> TapeLibrary:
        self.library = open_mtx(library_options(self.io, self.kind, **options), self.io)
        return self.library

    def mounted(self, label: VolumeLabel = ONE, drive: int = DRIVE) -> Store:
        self.library.label(label, drive)
        return self.library.mount(label, drive)


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    machine = LtfsIo(tmp_path, ("HSM001L8", "HSM002L8", "HSM003L8"))
    yield World(machine, request.param)
    machine.close()


def put(store: Store, key: str = "k", data: bytes = DATA) -> None:
    store.put(key, io.BytesIO(data), len(data), hashlib.sha256(data).digest())


def read(store: Store, key: str = "k") -> bytes:
    return b"".join(store.get(key))


def test_the_whole_road_of_an_ltfs_volume(world: World) -> None:
    store = world.mounted()
    put(store, "1.2.3/a.tar")
    store.flush()
    store.drop_caches()
    assert read(store, "1.2.3/a.tar") == DATA
    world.library.unmount(DRIVE)
    assert world.library.read_label("HSM001L8", OTHER) == ONE
    assert read(world.library.mount(ONE, OTHER), "1.2.3/a.tar") == DATA
    world.library.unmount(OTHER)
