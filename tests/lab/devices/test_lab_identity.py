"""Who is who: serial numbers, drives matched to changer elements, TapeAlert and counters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from instruments import (
    DRIVES,
    OPERATION_MOVE,
    OPERATION_WRITE,
    ask,
    changer_device,
    fail,
    generic_devices,
    generic_of,
    mtx,
    opened,
    run,
)

SERIALS = {"nst0": "90WT000001", "nst1": "90WT000002"}
READ_ELEMENT_STATUS_OF_DRIVES = tuple("b8140000ffff010040000000"[at : at + 2] for at in range(0, 24, 2))
"""With barcodes, element type 4, and DVCID: who each drive is (SMC-3, 6.11)."""


def vital_page(device: str) -> str:
    """The unit serial number as sysfs gives it: no command goes to the drive."""
    page = Path(f"/sys/class/scsi_generic/{Path(device).name}/device/vpd_pg80").read_bytes()
    return page[4:].decode().strip()


def elements_by_serial(tmp_path: Path) -> dict[str, int]:
    """Serial number -> the drive's element address, as the changer itself tells."""
    answer = tmp_path / "elements"
    done = run("sg_raw", "-o", answer, "-r", 16384, changer_device(), *READ_ELEMENT_STATUS_OF_DRIVES)
    assert done.returncode == 0, done.stderr
    data = answer.read_bytes()
    page = data[8:]
    length, found = int.from_bytes(page[2:4], "big"), {}
    for at in range(8, 8 + int.from_bytes(page[5:8], "big"), length):
        element = page[at : at + length]
        identifier = element[12 + 36 :]
        assert identifier[0] & 15 == 2, "ASCII"
        found[identifier[4 + 24 : 4 + identifier[3]].decode().strip()] = int.from_bytes(element[:2], "big")
    return found


def test_every_device_has_its_serial_number_in_sysfs_and_by_inquiry() -> None:
    kinds = generic_devices()
    assert sorted(kinds.values()) == [1, 1, 8]
    for tape, serial in SERIALS.items():
        device = generic_of(tape)
        assert vital_page(device) == serial
        assert f"Unit serial number: {serial}" in run("sg_inq", "-p", "0x80", device).stdout
    assert vital_page(changer_device()) == "00X4U78L0001"


def test_the_changer_says_which_drive_stands_at_which_element(tmp_path: Path) -> None:
    found = elements_by_serial(tmp_path)
    assert found == {"90WT000001": DRIVES, "90WT000002": DRIVES + 1}


def test_what_the_changer_loads_appears_in_the_drive_with_that_serial_number(tmp_path: Path) -> None:
    """Matched by serial number: element -> /dev/nst, and a cartridge proves it."""
    elements = elements_by_serial(tmp_path)
    for tape, serial in SERIALS.items():
        number = elements[vital_page(generic_of(tape))] - DRIVES
        assert mtx("load", 1, number).returncode == 0
        assert "ONLINE" in run("mt", "-f", f"/dev/{tape}", "status").stdout, serial
        assert mtx("unload", 1, number).returncode == 0


def alerts(device: str) -> set[str]:
    """The TapeAlert flags that ``sg_logs`` names."""
    answer = run("sg_logs", "-p", "0x2e", device)
    assert answer.returncode == 0, answer.stderr
    return set(re.findall(r"^  (.+): 1$", answer.stdout, re.M))


def test_tape_alerts_are_named_and_cleared_by_the_look() -> None:
    device = generic_of("nst0")
    assert alerts(device) == set()
    ask("alert", drive=0, flags=[3, 20, 21])
    assert alerts(device) == {"Hard error", "Cleaning required", "Cleaning requested"}
    assert alerts(device) == set()


def test_alerts_belong_to_one_drive() -> None:
    ask("alert", drive=1, flags=[20])
    assert alerts(generic_of("nst0")) == set()
    assert alerts(generic_of("nst1")) == {"Cleaning required"}


def test_a_failed_write_is_counted_and_alerted() -> None:
    assert mtx("load", 1, 0).returncode == 0
    fail(OPERATION_WRITE, (3, 0x0C, 0), alerts=[3, 6])
    with opened(0) as tape, pytest.raises(OSError):
        tape.write(b"x" * 1024)
    device = generic_of("nst0")
    assert "Total uncorrected errors = 1" in run("sg_logs", "-p", "0x02", device).stdout
    assert "Total uncorrected errors = 0" in run("sg_logs", "-p", "0x03", device).stdout
    assert "Total unrecovered write errors: 1" in run("sg_logs", "-p", "0x17", device).stdout
    assert alerts(device) == {"Hard error", "Write failure"}


def test_the_changers_alerts_come_as_bytes_only() -> None:
    """``sg_logs`` decodes TapeAlert for tapes only; a changer's page must be read raw (SMC-3, 7.2.3)."""
    fail(OPERATION_MOVE, (4, 0x15, 1), device="changer", alerts=[1])
    mtx("load", 1, 0)
    answer = run("sg_logs", "-p", "0x2e", "-H", changer_device())
    assert answer.returncode == 0
    data = bytes.fromhex("".join(re.findall(r"^ [0-9a-f]+ ((?: +[0-9a-f]{2})+)", answer.stdout, re.M)))
    raised = [int.from_bytes(data[at : at + 2], "big") for at in range(4, 4 + 64 * 5, 5) if data[at + 4] & 1]
    assert raised == [1]
