"""LTFS volumes for the contract suites (tests/contract)."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ltfs_hall import LtfsIo, library_options, real_ltfs, why_not

from drivers.base import Library, Store, VolumeLabel
from drivers.tape.configure import open_mtx

_halls: list[LtfsIo] = []
_labelled: dict[str, Path] = {}
LABEL = VolumeLabel("HSM001L8", "5f0c0a3e-0000-4000-8000-000000000001", "tape-a")


def close_halls(*, gone: bool = False) -> None:
    """End every ltfs of the tests so far; with ``gone`` only of those whose folder is gone."""
    for hall in list(_halls):
        if not gone or not hall.folder.exists():
            _halls.remove(hall)
            hall.close()


class LtfsHarness:
    """A mounted LTFS volume; a crash is a kill -9 of its ltfs."""

    label = LABEL

    def __init__(self, folder: Path, wrap: Callable[[Store], Store], kind: str) -> None:
        _require(kind)
        close_halls(gone=True)
        self._folder, self._wrap, self._kind = folder, wrap, kind
        self._numbers = itertools.count()
        self._hall = self._new(None)
        self.store = self._mount(self._hall, None)

    def crash(self) -> Store:
        self._hall.kill_ltfs()
        self.store = self._mount(self._hall, None)
        return self.store

    def small(self, free: int) -> Store:
        capacity = free * 20 // 19
        return self._mount(self._new(capacity), capacity)

    def _new(self, capacity: int | None) -> LtfsIo:
        hall = _hall(self._folder / f"hall-{next(self._numbers)}", (LABEL.barcode,))
        shutil.copytree(_a_labelled_cartridge(self._kind), hall.cartridge(LABEL.barcode), dirs_exist_ok=True)
        return hall

    def _mount(self, hall: LtfsIo, capacity: int | None) -> Store:
        library = open_mtx(library_options(hall, self._kind, capacity_bytes=capacity), hall)
        return self._wrap(library.mount(LABEL, library.inventory().drives()[0].address))


class LtfsLibraryHarness:
    """A robot whose volumes are LTFS, cabled crosswise."""

    def __init__(self, folder: Path, kind: str) -> None:
        _require(kind)
        self.barcodes = ("HSM001L8", "HSM002L8", "HSM003L8")
        self.absent = "HSM004L8"
        self._kind = kind
        self._hall = _hall(folder, self.barcodes)
        self._hall.add(self.absent)
        self._hall.cabling = (1, 0)
        self.library: Library = self._open()

    def _open(self) -> Library:
        library: Any = open_mtx(library_options(self._hall, self._kind), self._hall)
        library.hand_insert, library.hand_remove = self._hall.hand_insert, self._hall.hand_remove
        opened: Library = library
        return opened

    def crash(self) -> Library:
        self._hall.kill_ltfs()
        self.library = self._open()
        return self.library


def _hall(folder: Path, barcodes: tuple[str, ...]) -> LtfsIo:
    hall = LtfsIo(folder, barcodes)
    _halls.append(hall)
    return hall


def _require(kind: str) -> None:
    trouble = why_not()
    if kind == "real":
        trouble = "" if real_ltfs() else "mkltfs is not on the path (HSM_LTFS_BIN may name its folder)"
    if trouble:
        pytest.skip(f"no {kind} LTFS: {trouble}")


def _a_labelled_cartridge(kind: str) -> Path:
    """Formatted and labelled once, to be copied: that takes three mounts."""
    if kind not in _labelled:
        folder = Path(tempfile.mkdtemp(prefix="hsm-ltfs-labelled-"))
        hall = LtfsIo(folder / "hall", (LABEL.barcode,))
        try:
            library = open_mtx(library_options(hall, kind), hall)
            library.label(LABEL, library.inventory().drives()[0].address)
        finally:
            hall.close()
        _labelled[kind] = hall.cartridge(LABEL.barcode)
    return _labelled[kind]


def forget_labelled() -> None:
    """Remove what :func:`_a_labelled_cartridge` has made."""
    while _labelled:
        _, folder = _labelled.popitem()
        with contextlib.suppress(OSError):
            shutil.rmtree(folder.parents[2])
