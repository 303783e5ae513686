"""Two robots of different make in one machine (set-up ``library-both``): ours, and the one that tgt emulates,
which says nothing of its drives' serial numbers, and whose drives cannot tell where their heads are."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from halls import new_process, open_library, stock
from instruments import CHANGER_TYPE, generic_devices, generic_of, model_of, run

from drivers.base import ElementKind, Store, VolumeLabel
from drivers.errors import DriverError
from drivers.tape import memory
from drivers.tape.configure import open_mtx
from drivers.tape.library import TapeLibrary
from drivers.tape.ltfs.coherency import ATTRIBUTE

UNIT_ATTENTION = 6
"""sg_raw's exit status."""
OTHER_MODEL, OTHER_SERIAL = "PYTHON", "TGTROBOT1"
OTHER_DRIVES = {"0": "TGTDRIVE01", "1": "TGTDRIVE02"}
OTHER_BARCODES = tuple(f"TGT00{number}L6" for number in range(1, 7))


@pytest.fixture(autouse=True)
def both(library: None) -> None:
    changers = [name for name, kind in generic_devices().items() if kind == CHANGER_TYPE]
    if OTHER_MODEL not in map(model_of, changers):
        pytest.skip("needs a second library: run `make lab`")
    stock("HSM001L6", "HSM002L6")


@pytest.fixture
def other() -> Iterator[TapeLibrary]:
    opened = open_mtx({"name": "other", "changer": OTHER_SERIAL, "drives": OTHER_DRIVES}, new_process())
    yield opened
    for drive in opened.inventory().drives():
        opened.unmount(drive.address)


def label_of(barcode: str) -> VolumeLabel:
    return VolumeLabel(barcode, f"uuid-of-{barcode}", "tape-a")


def put(store: Store, key: str, data: bytes) -> None:
    store.put(key, io.BytesIO(data), len(data), hashlib.sha256(data).digest())


def read(store: Store, key: str) -> bytes:
    return b"".join(store.get(key))


def test_a_robot_that_does_not_tell_its_drives_says_so_and_how_to_name_them() -> None:
    library = open_mtx({"name": "other", "changer": OTHER_SERIAL}, new_process())
    with pytest.raises(DriverError, match="drives"):
        library.inventory()


def test_the_other_robot_is_seen_as_it_is(other: TapeLibrary) -> None:
    seen = other.inventory()
    kinds = [element.kind for element in seen.elements]
    assert (kinds.count(ElementKind.DRIVE), kinds.count(ElementKind.MAIL)) == (2, 2)
    assert [b for b in OTHER_BARCODES if seen.find(b) is None] == []
    assert seen.find("CLN001L1") is None, "a cleaning cartridge is nobody's volume"


def place(library: TapeLibrary, barcode: str) -> ElementKind | None:
    found = library.inventory().find(barcode)
    return None if found is None else found.kind


def test_cartridges_of_the_other_library_are_moved_ejected_and_put_back(other: TapeLibrary) -> None:
    mail = other.eject("TGT001L6")
    there = other.inventory().find("TGT001L6")
    assert there is not None
    assert (there.kind, there.address) == (ElementKind.MAIL, mail)
    other.transfer("TGT001L6", 8)
    there = other.inventory().find("TGT001L6")
    assert there is not None
    assert (there.kind, there.address) == (ElementKind.SLOT, 8)


def test_a_drive_that_cannot_tell_where_its_head_is_gets_nothing_written(other: TapeLibrary) -> None:
    """tgt's drives answer READ POSITION with an error, and a read of a blank tape with a record of zeros."""
    first, second = (element.address for element in other.inventory().drives())
    for barcode, drive in (("TGT002L6", first), ("TGT003L6", second)):
        with pytest.raises(DriverError, match=barcode):
            other.label(label_of(barcode), drive)
        assert place(other, barcode) is ElementKind.DRIVE
        other.unmount(drive)
        assert place(other, barcode) is ElementKind.SLOT


def test_a_drive_without_cartridge_memory_says_so_and_our_driver_takes_no_for_an_answer(
    other: TapeLibrary,
) -> None:
    """tgt knows neither READ ATTRIBUTE nor WRITE ATTRIBUTE: sense 5/20/00, invalid command operation code."""
    generic = generic_of("nst2")
    write = ["sg_raw", generic, "8d", *["00"] * 15]
    for command in (memory.command(generic, ATTRIBUTE), write):
        while (said := run(*command)).returncode == UNIT_ATTENTION:
            pass  # told once each, before the answer
        print(said)
        assert "invalid command operation code" in said.stderr.lower()
    bay = next(iter(other._bays().values()))
    assert bay.drive.attribute(ATTRIBUTE, 0) is None
    assert not bay.drive.set_attribute(ATTRIBUTE, 0, b"x")
    assert not bay.drive.is_worm()
    assert bay.report(None).cartridge is None


def test_two_libraries_work_side_by_side_and_neither_touches_the_other(other: TapeLibrary) -> None:
    ours = open_library()
    drives = [element.address for element in ours.inventory().drives()]
    before = other.inventory()

    def write_and_read(barcode: str, drive: int) -> bool:
        data = random.Random(barcode).randbytes(600_000)
        ours.label(label_of(barcode), drive)
        store = ours.mount(label_of(barcode), drive)
        for number in range(3):
            put(store, f"{barcode}/{number}", data)
        store.flush()
        return all(read(store, f"{barcode}/{number}") == data for number in range(3))

    def move_about() -> bool:
        for _ in range(4):
            address = other.eject("TGT004L6")
            assert place(other, "TGT004L6") is ElementKind.MAIL
            other.transfer("TGT004L6", 4)
            assert address
        return True

    with ThreadPoolExecutor(3) as pool:
        jobs = [
            pool.submit(write_and_read, *work) for work in zip(("HSM001L6", "HSM002L6"), drives, strict=True)
        ]
        jobs.append(pool.submit(move_about))
        assert all(job.result() for job in jobs)
    assert other.inventory() == before
    assert [place(ours, barcode) for barcode in ("HSM001L6", "HSM002L6")] == [ElementKind.DRIVE] * 2
    assert {ours.inventory().find(barcode) for barcode in OTHER_BARCODES} == {None}
    for drive in drives:
        ours.unmount(drive)
