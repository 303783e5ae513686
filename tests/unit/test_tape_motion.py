"""Where the head is: found by locating or by counting, proved, and never believed; and beginnings of tapes
that were cut off, written by others, or cannot be written twice."""

from __future__ import annotations

import errno
import hashlib
import io
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Capacity, VolumeLabel
from drivers.errors import NotFound, Permanent, Retryable, WrongVolume
from drivers.tape import logpages
from drivers.tape.configure import open_mtx
from drivers.tape.fake import FakeDrive, Tape
from drivers.tape.fakelibrary import CHANGER, FakeIo, fake_library
from drivers.tape.io import Op
from drivers.tape.label import PlainLabel, label_records
from drivers.tape.library import DRIVE_ADDRESS as DRIVE
from drivers.tape.motion import Spot, locate
from drivers.tape.plain import identify, recover, write_label
from drivers.tape.store import PlainStore
from drivers.tape.tapedrive import TapeDrive

BLOCK = 4096
ONE = VolumeLabel("HSM001L8", "uuid-1", "tape-a")
LABEL = PlainLabel(ONE, BLOCK)
DATA = random.Random(8).randbytes(5 * BLOCK + 77)
BIG = Capacity(1 << 40, 1 << 40)


@pytest.fixture
def drive() -> FakeDrive:
    made = FakeDrive()
    made.load(Tape())
    handle = made.open(write=True)
    write_label(handle, LABEL)
    handle.close()
    return made


def mount(drive: FakeDrive) -> PlainStore:
    handle = drive.open(write=True)
    found = identify(handle)
    assert isinstance(found.label, PlainLabel)
    return PlainStore(handle, "/dev/nst0", found.label, recover(handle, found.label), BIG)


def put(store: PlainStore, key: str) -> None:
    store.put(key, io.BytesIO(DATA), len(DATA), hashlib.sha256(DATA).digest())


def without(*operations: str) -> Callable[[str, int], OSError | None]:
    return lambda name, _: OSError(errno.EIO, "Input/output error") if name in operations else None


def test_a_drive_that_cannot_locate_is_read_and_written_by_counting_from_the_beginning(
    drive: FakeDrive,
) -> None:
    store = mount(drive)
    for key in "abc":
        put(store, key)
    store.flush()
    drive.fault = without("seek")
    assert b"".join(store.get("b", BLOCK + 5, 3 * BLOCK)) == DATA[BLOCK + 5 :][: 3 * BLOCK]
    assert "FSF 2" in drive.log
    put(store, "d")
    store.flush()
    store.close()
    drive.fault = None
    again = mount(drive)
    assert {stat.key: b"".join(again.get(stat.key)) for stat in again.list()} == dict.fromkeys("abcd", DATA)


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(0, 3 * BLOCK), min_size=1, max_size=6), pick=st.integers(0, 100))
def test_counting_comes_to_where_locating_comes(sizes: list[int], pick: int) -> None:
    drive = FakeDrive()
    drive.load(Tape())
    handle = drive.open(write=True)
    write_label(handle, LABEL)
    handle.close()
    store = mount(drive)
    for number, size in enumerate(sizes):
        store.put(f"k{number}", io.BytesIO(DATA[:size]), size, None)
    store.flush()
    entry = store.entries()[pick % len(sizes)]
    store.close()
    handle = drive.open(write=True)
    for record in range(-(-entry.size // BLOCK)):
        spot = Spot(entry.block + record, entry.file, record)
        drive.fault = None
        locate(handle, LABEL, spot, "look")
        expected = handle.read(BLOCK)
        drive.fault = without("seek")
        locate(handle, LABEL, spot, "look")
        assert handle.read(BLOCK) == expected


def test_counting_on_another_cartridge_is_noticed_by_its_label(drive: FakeDrive) -> None:
    store = mount(drive)
    put(store, "a")
    store.flush()
    other = FakeDrive()
    other.load(Tape())
    write_label(other.open(write=True), PlainLabel(VolumeLabel("HSM002L8", "uuid-2", "tape-a"), BLOCK))
    drive.tape = other.tape
    drive.fault = without("seek")
    with pytest.raises(Retryable, match="uuid-2"):
        b"".join(store.get("a"))


@pytest.mark.parametrize("off", [-1, 1])
def test_a_locate_that_ends_elsewhere_gives_no_bytes(drive: FakeDrive, off: int) -> None:
    store = mount(drive)
    put(store, "a")
    store.flush()

    class Missing:
        """Its locate is off by one and says nothing."""

        def __init__(self, handle: object) -> None:
            self._handle = handle

        def __getattr__(self, name: str) -> object:
            return getattr(self._handle, name)

        def op(self, operation: Op, count: int = 1) -> None:
            self._handle.op(operation, count + off if operation is Op.SEEK else count)  # type: ignore[attr-defined]

    store._handle = Missing(store._handle)  # type: ignore[assignment]
    with pytest.raises(Retryable, match="the drive is at block"):
        b"".join(store.get("a", BLOCK))


@pytest.fixture
def machine() -> FakeIo:
    return fake_library((ONE.barcode,))


@pytest.mark.parametrize("records", [0, 1, 2])
def test_a_cartridge_whose_label_was_cut_off_is_labelled_over_when_an_admin_insists(
    machine: FakeIo, records: int
) -> None:
    library = open_mtx({"changer": CHANGER}, machine)
    machine.tapes[ONE.barcode].records = list(label_records(LABEL))[:records]
    lost = True

    def end_is_lost(name: str, _: int) -> OSError | None:
        return OSError(errno.EIO, "Input/output error") if lost and name == "eom" else None

    machine.drives[0].fault = end_is_lost
    if records < 2:
        with pytest.raises((Retryable, WrongVolume)):
            library.label(ONE, DRIVE)

    def written(name: str, _: int) -> OSError | None:
        nonlocal lost
        lost = lost and name != "write"
        return end_is_lost(name, 0)

    machine.drives[0].fault = written
    with pytest.raises(Permanent, match="type its barcode"):
        library.overwrite(ONE, DRIVE, "HSM001L9")
    assert library.overwrite(ONE, DRIVE, ONE.barcode)
    store = library.mount(ONE, DRIVE)
    store.put("a", io.BytesIO(DATA), len(DATA), None)
    store.flush()


def test_a_write_once_cartridge_is_labelled_appended_to_and_never_labelled_again(machine: FakeIo) -> None:
    library = open_mtx({"changer": CHANGER}, machine)
    machine.tapes[ONE.barcode].worm = True
    library.label(ONE, DRIVE)
    for key in "abc":
        store = library.mount(ONE, DRIVE)
        store.put(key, io.BytesIO(DATA), len(DATA), None)
        store.flush()
        library.unmount(DRIVE)
    store = library.mount(ONE, DRIVE)
    assert {stat.key: b"".join(store.get(stat.key)) for stat in store.list()} == dict.fromkeys("abc", DATA)
    report = library.report(DRIVE).cartridge
    assert report is not None
    assert report.kind == "worm"
    library.unmount(DRIVE)
    before = list(machine.tapes[ONE.barcode].records)
    with pytest.raises(Permanent, match="write-once"):
        library.overwrite(ONE, DRIVE, ONE.barcode)
    assert machine.tapes[ONE.barcode].records == before


def test_a_failed_write_on_a_write_once_cartridge_costs_dead_bytes_only(machine: FakeIo) -> None:
    library = open_mtx({"changer": CHANGER}, machine)
    machine.tapes[ONE.barcode].worm = True
    library.label(ONE, DRIVE)
    store = library.mount(ONE, DRIVE)
    with pytest.raises(Exception, match="ended after"):
        store.put("torn", io.BytesIO(DATA[:-1]), len(DATA), None)
    store.put("a", io.BytesIO(DATA), len(DATA), None)
    store.flush()
    with pytest.raises(NotFound):
        store.stat("torn")
    assert b"".join(store.get("a")) == DATA


def test_what_is_written_with_fixed_blocks_is_read_and_their_size_is_set_again(machine: FakeIo) -> None:
    library = open_mtx({"changer": CHANGER}, machine)
    library.label(ONE, DRIVE)
    fake = machine.drives[0]
    fake.block_bytes = 512
    drive = TapeDrive(machine, "/dev/nst0")
    handle, _ = drive.open()
    assert handle.status().block_bytes == 0
    assert identify(handle).label is not None
    handle.close()
    assert fake.block_bytes == 512
    assert library.read_label(ONE.barcode, DRIVE) == ONE
    assert fake.block_bytes == 512


def test_somebodys_tape_of_fixed_blocks_is_called_by_its_name(machine: FakeIo) -> None:
    library = open_mtx({"changer": CHANGER}, machine)
    archive = b"etc/passwd".ljust(257, b"\0") + b"ustar\x0000" + bytes(512 - 265)
    machine.tapes[ONE.barcode].records = [archive, bytes(512), bytes(512), None]
    with pytest.raises(WrongVolume, match="a tar archive"):
        library.label(ONE, DRIVE)


def test_a_medium_with_two_sides_is_shown_and_not_loaded(machine: FakeIo) -> None:
    library = open_mtx({"changer": CHANGER}, machine)
    text = machine.status_text()
    two = text.replace("VolumeTag=HSM001L8".ljust(42), "VolumeTag=HSM001L8 :AlternateVolumeTag=HSM001LB")
    assert two != text
    machine.status_text = lambda: two  # type: ignore[method-assign]
    element = library.inventory().find(ONE.barcode)
    assert element is not None
    assert element.note == "has two sides; the other one is HSM001LB"
    with pytest.raises(Permanent, match="two"):
        library.read_label(ONE.barcode, DRIVE)
    assert not [line for line in machine.ran if " load " in line]


def test_drives_cabled_crosswise_get_the_cartridges_that_the_robot_gives_them() -> None:
    """The first tape device is the second drive; only serial numbers tell."""
    machine = fake_library((ONE.barcode, "HSM002L8"))
    machine.cabling = (1, 0)
    library = open_mtx({"changer": CHANGER}, machine)
    two = VolumeLabel("HSM002L8", "uuid-2", "tape-a")
    library.label(ONE, DRIVE)
    library.label(two, DRIVE + 1)
    for volume, drive in ((ONE, DRIVE), (two, DRIVE + 1)):
        store = library.mount(volume, drive)
        store.put("a", io.BytesIO(volume.barcode.encode()), 8, None)
        store.flush()
    assert machine.loaded == {0: ONE.barcode, 1: "HSM002L8"}
    machine.log_pages[0, logpages.LIFE] = bytes.fromhex("1400000600000002 0005")
    life = library.report(DRIVE).life
    assert life is not None
    assert (library.report(DRIVE).serial, life.loads) == ("90WT000001", 5)
    for volume in (ONE, two):
        records = machine.tapes[volume.barcode].records
        assert volume.barcode.encode() in records
