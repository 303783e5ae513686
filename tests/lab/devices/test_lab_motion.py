"""The drivers' own motion, reports and manners, on the kernel's drivers."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator

import pytest
from halls import BARCODES, DRIVES, open_library, stock
from instruments import ask, mt

from drivers.base import VolumeLabel
from drivers.tape.io import Handle, Op
from drivers.tape.library import DRIVE_ADDRESS as DRIVE
from drivers.tape.library import TapeLibrary
from drivers.tape.motion import Spot, locate
from drivers.tape.plain import identify
from drivers.tape.store import PlainStore

VOLUME = VolumeLabel(BARCODES[0], "uuid-1", "tape-a")
DATA = os.urandom(700_000)


@pytest.fixture
def library() -> Iterator[TapeLibrary]:
    stock(*BARCODES)
    made = open_library(load_seconds=5)
    made.label(VOLUME, DRIVE)
    yield made
    made.unmount(DRIVE)


def put(store: PlainStore, key: str) -> None:
    store.put(key, io.BytesIO(DATA), len(DATA), None)
    store.flush()


class NoLocate:
    """A drive without LOCATE."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self.read, self.write, self.tell = handle.read, handle.write, handle.tell
        self.status, self.close = handle.status, handle.close

    def op(self, operation: Op, count: int = 1) -> None:
        if operation is Op.SEEK:
            raise OSError(errno.EIO, "Input/output error")
        self._handle.op(operation, count)


def test_counting_files_and_records_comes_to_where_locating_comes(library: TapeLibrary) -> None:
    store = library.mount(VOLUME, DRIVE)
    assert isinstance(store, PlainStore)
    for key in "abc":
        put(store, key)
    for entry in store.entries():
        for record in range(3):
            spot = Spot(entry.block + record, entry.file, record)
            found = []
            for handle in (store._handle, NoLocate(store._handle)):
                locate(handle, store.label, spot, "look")
                found.append(handle.read(store.label.block_bytes))
            assert found[0] == found[1] == DATA[record << 18 :][: 1 << 18]
    store.drop_caches()
    store._handle = NoLocate(store._handle)
    put(store, "d")
    assert {stat.key: b"".join(store.get(stat.key)) for stat in store.list()} == dict.fromkeys("abcd", DATA)


def test_a_fixed_block_size_that_an_admin_had_set_is_set_again(library: TapeLibrary) -> None:
    assert mt(0, "setblk", 512).returncode == 0
    assert library.read_label(VOLUME.barcode, DRIVE) == VOLUME
    assert "Tape block size 512 bytes" in mt(0, "status").stdout
    store = library.mount(VOLUME, DRIVE)
    assert isinstance(store, PlainStore)
    assert store._handle.status().block_bytes == 0
    put(store, "a")
    library.unmount(DRIVE)
    library.read_label(VOLUME.barcode, DRIVE)
    assert "Tape block size 512 bytes" in mt(0, "status").stdout
    assert mt(0, "setblk", 0).returncode == 0  # as other tests expect it


def test_a_report_tells_of_drive_and_cartridge_while_a_volume_is_mounted(library: TapeLibrary) -> None:
    store = library.mount(VOLUME, DRIVE)
    assert isinstance(store, PlainStore)
    put(store, "a")
    head = store._handle.tell()
    report = library.report(DRIVE)
    assert (report.serial, report.loaded) == ("90WT000001", True)
    assert report.write_errors is not None
    assert report.write_errors.uncorrected == 0
    cartridge = report.cartridge
    assert cartridge is not None
    assert (cartridge.barcode, cartridge.serial, cartridge.kind) == (BARCODES[0], BARCODES[0], "data")
    assert cartridge.manufacturer == "TAPELAB"
    assert cartridge.loads == 1
    assert store._handle.tell() == head


def test_a_write_once_cartridge_says_so_and_is_only_appended_to() -> None:
    stock(BARCODES[0], kind="worm")
    library = open_library(load_seconds=5)
    library.label(VOLUME, DRIVE)
    for key in "ab":
        store = library.mount(VOLUME, DRIVE)
        assert isinstance(store, PlainStore)
        put(store, key)
        library.unmount(DRIVE)
    store = library.mount(VOLUME, DRIVE)
    assert {stat.key: b"".join(store.get(stat.key)) for stat in store.list()} == dict.fromkeys("ab", DATA)
    report = library.report(DRIVE).cartridge
    assert report is not None
    assert report.kind == "worm"
    library.unmount(DRIVE)
    with pytest.raises(Exception, match="write-once"):
        library.overwrite(VOLUME, DRIVE, BARCODES[0])
    library.unmount(DRIVE)


def test_a_drive_that_asks_for_it_is_cleaned_before_the_cartridge_is_mounted(library: TapeLibrary) -> None:
    ask("place", barcode="CLN001CU", element=0x1006, options={"kind": "clean"}, quiet=True)
    ask("alert", drive=0, flags=[0x14])
    store = library.mount(VOLUME, DRIVE)
    assert isinstance(store, PlainStore)
    put(store, "a")
    assert ask("status")["at"][str(0x1006)] == "CLN001CU"
    assert ask("status")["at"][str(DRIVES)] == BARCODES[0]


def test_the_label_is_what_the_first_read_gives(library: TapeLibrary) -> None:
    store = library.mount(VOLUME, DRIVE)
    assert isinstance(store, PlainStore)
    assert identify(store._handle).label == store.label
