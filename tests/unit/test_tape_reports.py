"""What drives say of themselves and of their cartridges: read, reported, and never guessed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from drivers.base import Cleaning, Library, Reporting, VolumeLabel
from drivers.errors import OperatorNeeded, Retryable
from drivers.reports import Alert, DriveLife, ErrorCounters
from drivers.simulated.faults import Fault
from drivers.simulated.library import SimulatedLibrary
from drivers.tape import encryption, logpages, memory
from drivers.tape.configure import open_manual, open_mtx
from drivers.tape.fakelibrary import CHANGER, FakeIo, fake_library
from drivers.tape.library import DRIVE_ADDRESS as DRIVE

ONE = VolumeLabel("HSM001L8", "5f0c0a3e-0001", "tape-a")


def page(code: int, values: dict[int, bytes]) -> bytes:
    body = b"".join(
        name.to_bytes(2, "big") + bytes((0x40, len(value))) + value for name, value in values.items()
    )
    return bytes((code, 0)) + len(body).to_bytes(2, "big") + body


@pytest.fixture
def machine() -> FakeIo:
    return fake_library([ONE.barcode])


@pytest.fixture
def library(machine: FakeIo) -> Library:
    return open_mtx({"changer": CHANGER}, machine)


def test_every_library_of_drives_reports(machine: FakeIo, tmp_path: Path) -> None:
    robot, desk = open_mtx({"changer": CHANGER}, machine), open_manual({"drives": ["/dev/nst0"]}, machine)
    simulated = SimulatedLibrary(tmp_path)
    assert all(isinstance(each, Reporting) for each in (robot, desk, simulated))
    assert [isinstance(each, Cleaning) for each in (robot, desk, simulated)] == [True, False, True]


def test_a_report_has_alerts_counters_the_drive_and_its_cartridge(machine: FakeIo) -> None:
    library = open_mtx({"changer": CHANGER}, machine)
    library.label(ONE, DRIVE)
    machine.log_pages |= {
        (0, logpages.TAPE_ALERT): page(0x2E, {3: b"\1", 0x14: b"\1", 7: b"\0", 0x27: b"\1"}),
        (0, logpages.WRITE_ERRORS): page(0x02, {3: b"\5", 5: b"\x10\0", 6: b"\0"}),
        (0, logpages.VOLUME): page(
            0x17, {1: b"\x0c", 4: b"\1", 9: b"\2", 0x10: b"\x03", 0x11: b"\xff\xff", 0x81: b"\0"}
        ),
        (0, logpages.LIFE): page(0x14, {0: b"\x64", 1: b"\2", 8: b"\x09", 0x0E: b"\0", 0x0F: b"\7"}),
    }
    machine.tapes[ONE.barcode].memory = {memory.WRITTEN: (5).to_bytes(8, "big")}
    report = library.report(DRIVE)
    assert (report.drive, report.serial, report.product) == (DRIVE, "90WT000001", "IBM ULT3580-TD8")
    assert report.alerts == (
        Alert(3, "hard error"),
        Alert(0x14, "clean now"),
        Alert(0x27, "diagnostics required"),
    )
    assert (report.cleaning_asked, report.blames_drive, report.blames_cartridge) == (True, True, False)
    assert report.write_errors == ErrorCounters(5, 0, 4096)
    assert report.read_errors is None
    assert report.life == DriveLife(100, 2, None, None, 9, 0, 7)
    cartridge = report.cartridge
    assert cartridge is not None
    assert (cartridge.barcode, cartridge.serial, cartridge.kind) == (ONE.barcode, "SNHSM001L8", "data")
    assert (cartridge.loads, cartridge.write_errors, cartridge.read_errors) == (12, 1, 2)
    assert (cartridge.written_bytes, cartridge.read_bytes) == (5 << 20, None)


def test_alerts_that_the_drive_has_lowered_by_telling_them_are_told_again(machine: FakeIo) -> None:
    library = open_mtx({"changer": CHANGER}, machine)
    machine.log_pages[0, logpages.TAPE_ALERT] = page(0x2E, {0x15: b"\1"})
    library.report(DRIVE)
    machine.log_pages[0, logpages.TAPE_ALERT] = page(0x2E, {0x15: b"\0"})
    assert library.report(DRIVE).alerts == (Alert(0x15, "clean periodic"),)


def test_a_mounted_volume_is_reported_on_and_not_disturbed(machine: FakeIo) -> None:
    library = open_mtx({"changer": CHANGER}, machine)
    library.label(ONE, DRIVE)
    library.mount(ONE, DRIVE)
    before = list(machine.drives[0].log)
    report = library.report(DRIVE)
    assert report.loaded
    assert report.cartridge is not None
    assert report.cartridge.barcode == ONE.barcode
    assert machine.drives[0].log == before


def test_an_empty_drive_has_no_cartridge_and_an_open_door_hides_no_drive(machine: FakeIo) -> None:
    library = open_mtx({"changer": CHANGER}, machine)
    library.inventory()
    machine.complaints = ["mtx: Request Sense: Sense Key=Not Ready\n"] * 9
    report = library.report(DRIVE)
    assert not report.loaded
    assert report.cartridge is None
    assert report.serial == "90WT000001"


@pytest.mark.parametrize("length", [0, 3, 9, 40])
def test_cartridge_memory_that_is_cut_short_is_refused(length: int) -> None:
    answer = (
        (60).to_bytes(4, "big")
        + bytes.fromhex("0401800020")
        + b"SN".ljust(32)
        + bytes.fromhex("0408800001 80")
    )
    with pytest.raises(Retryable, match="READ ATTRIBUTE"):
        memory.attributes(answer[:length])


def test_cartridge_memory_is_read() -> None:
    body = (
        bytes.fromhex("0401800020")
        + b"SN1".ljust(32)
        + bytes.fromhex("040880000180")
        + bytes.fromhex("0003800008ffffffffffffffff")
    )
    values = memory.attributes(len(body).to_bytes(4, "big") + body)
    assert memory.text(values, memory.SERIAL) == "SN1"
    assert memory.kind(values) == "worm"
    assert memory.number(values, memory.LOADS) is None
    assert memory.text(values, memory.BARCODE) == ""


def test_what_a_drive_does_with_encryption_is_read() -> None:
    head = bytes.fromhex("0020 0024 42 02 03 01 00000001") + bytes(12)
    said = encryption.parse_status(head + bytes.fromhex("00000010") + b"pool tape-a".ljust(16))
    assert str(said) == "encrypts, reads both kinds with the key 'pool tape-a'"
    assert str(encryption.parse_status(bytes.fromhex("0020 0014 00 00 00 00") + bytes(16))) == "off"
    for damaged in (b"", head, b"\0\x10" + head[2:] + bytes(20)):
        with pytest.raises(Retryable):
            encryption.parse_status(damaged)


def test_the_simulated_library_counts_what_its_drives_do(tmp_path: Path) -> None:
    library = SimulatedLibrary(tmp_path, cartridges=(ONE.barcode, "CLN001L1"))
    assert library.inventory().find("CLN001L1") is None
    drive = library.inventory().drives()[0].address
    assert library.report(drive).cartridge is None
    library.label(ONE, drive)
    store = library.mount(ONE, drive)
    store.put("key", io.BytesIO(b"x" * 100), 100, None)
    library.faults.add(Fault("write", "retryable"))
    with pytest.raises(Retryable):
        store.put("other", io.BytesIO(b"x" * 100), 100, None)
    report = library.report(drive)
    assert report.cartridge is not None
    assert (report.cartridge.barcode, report.cartridge.loads) == (ONE.barcode, 1)
    assert report.write_errors == ErrorCounters(0, 1, 100)
    library.mount(ONE, drive)
    library.clean(drive)
    report = library.report(drive)
    assert (report.loaded, report.life) == (False, DriveLife(loads=1, cleanings=1))
    assert "cleaning cartridge CLN001L1" in [each.note for each in library.inventory().elements]


def test_the_simulated_library_without_a_cleaning_cartridge_says_what_to_put_in(tmp_path: Path) -> None:
    library = SimulatedLibrary(tmp_path, cartridges=(ONE.barcode,))
    with pytest.raises(OperatorNeeded, match="CLN"):
        library.clean(library.inventory().drives()[0].address)
