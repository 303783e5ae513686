"""What tools and devices say, read: captured from mtx 1.3.12, sg3-utils and several vendors' libraries."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from drivers.base import VolumeLabel
from drivers.errors import OperatorNeeded, Permanent, Retryable, StaleMap
from drivers.reports import ErrorCounters
from drivers.tape import elements, logpages
from drivers.tape.devices import by_serial, find_devices
from drivers.tape.index import Entry, Index, decode, encode, is_index
from drivers.tape.label import Content, PlainLabel, describe, is_our_header, label_records, parse_label
from drivers.tape.mtxstatus import Place, is_cleaning, parse_status
from drivers.tape.sense import changer_error, is_attention, parse_sense

CAPTURED = Path(__file__).parents[1] / "data" / "tape"

QUANTUM_I40 = """\
  Storage Changer /dev/sg3:3 Drives, 24 Slots ( 4 Import/Export )
Data Transfer Element 0:Full (Storage Element 1 Loaded):VolumeTag = TEST55                          \n\
Data Transfer Element 1:Empty
Data Transfer Element 2:Full (Unknown Storage Element Loaded)
""" + "".join(
    f"      Storage Element {n}{' IMPORT/EXPORT' if n > 20 else ''}:"
    + (f"Full :VolumeTag=TEST{n:02}S                         " if n < 4 and n > 1 else "Empty")
    + "\n"
    for n in range(1, 25)
)
TL2000_WITHOUT_COUNTS = """\
  Storage Changer /dev/tape/by-id/scsi-1DELL_TL2000
Data Transfer Element 0:Full (Storage Element 2 Loaded):VolumeTag = 385182L5
      Storage Element 1:Empty
      Storage Element 2:Empty
      Storage Element 3:Full :VolumeTag = 430550L5
      Storage Element 46 IMPORT/EXPORT:Full :VolumeTag = JUNK01L4
"""
TWO_SIDED = """\
  Storage Changer /dev/changer:1 Drives, 2 Slots ( 0 Import/Export )
Data Transfer Element 0:Full (Storage Element 1 Loaded):VolumeTag = MO0001A :AlternateVolumeTag = MO0001B
      Storage Element 1:Empty
      Storage Element 2:Full :AlternateVolumeTag=MO0002B
"""
IBM_3584_BY_ID = """\
 Storage Changer /dev/tape/by-id/scsi-1IBM_03584L32_0000079313020400:1 Drives, 2 Slots ( 1 Import/Export )
\tData Transfer Element 0:Empty
\t      Storage Element 1:Full :VolumeTag=UA001
\t      Storage Element 2 IMPORT/EXPORT:Empty
"""


def captured(name: str) -> tuple[str, str]:
    """Standard output and standard error of a case."""
    text = (CAPTURED / f"{name}.txt").read_text()
    out, _, err = text.partition("--- stdout\n")[2].partition("--- stderr\n")
    return out, err


def test_a_quantum_library_is_read() -> None:
    status = parse_status(QUANTUM_I40)
    assert status.drive(0) == Place(0, True, "TEST55", home=1)
    assert status.drive(1) == Place(1, False)
    assert status.drive(2) == Place(2, True)
    assert [place.number for place in status.slots if place.mail] == [21, 22, 23, 24]
    assert status.slot_with("TEST02S") == Place(2, True, "TEST02S")


def test_a_dell_library_whose_header_has_no_counts_is_read() -> None:
    status = parse_status(TL2000_WITHOUT_COUNTS)
    assert status.drive_with("385182L5") == Place(0, True, "385182L5", home=2)
    assert status.slot_with("JUNK01L4") == Place(46, True, "JUNK01L4", mail=True)
    assert status.slot(4) is None


def test_the_other_side_of_a_disc_is_not_its_barcode() -> None:
    status = parse_status(TWO_SIDED)
    assert status.drive(0) == Place(0, True, "MO0001A", home=1, other_side="MO0001B")
    assert status.slot(2) == Place(2, True, None, other_side="MO0002B")


def test_a_device_path_with_colons_and_numbers_confuses_nothing() -> None:
    status = parse_status(IBM_3584_BY_ID)
    assert (len(status.drives), len(status.slots)) == (1, 2)
    assert status.slot_with("UA001") == Place(1, True, "UA001")


def test_what_the_laboratory_printed_is_read() -> None:
    status = parse_status(captured("mtx-status-busy")[0])
    assert status.drive_with("PAC001L6") == Place(0, True, "PAC001L6", home=1)
    assert status.slot(6) == Place(6, True, None), "a smudged label is a cartridge without a barcode"
    assert status.slot(8) == Place(8, False)
    assert status.slot_with("PAC002L6") == Place(10, True, "PAC002L6", mail=True)


@pytest.mark.parametrize("lines", [1, 2, 5, 12])
def test_a_map_that_is_cut_short_is_not_believed(lines: int) -> None:
    text = "\n".join(QUANTUM_I40.splitlines()[:lines])
    with pytest.raises(Retryable):
        parse_status(text)


def test_nothing_is_read_into_an_empty_or_foreign_answer() -> None:
    for text in ("", "mtx: command not understood\n", "Storage Changer"):
        with pytest.raises(Retryable, match="no elements"):
            parse_status(text)


def test_a_barcode_in_two_places_is_not_believed() -> None:
    with pytest.raises(Retryable, match="TEST02S in two places"):
        parse_status(QUANTUM_I40.replace("TEST03S", "TEST02S"))


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_answer_is_read_or_refused_and_nothing_else(seed: int) -> None:
    rng = random.Random(seed)
    text = list(captured("mtx-status-busy")[0])
    for _ in range(rng.randrange(1, 30)):
        text[rng.randrange(len(text))] = chr(rng.randrange(1, 500))
    try:
        status = parse_status("".join(text))
    except Retryable:
        return
    assert all(place.full or place.barcode is None for place in (*status.drives, *status.slots))


def test_cleaning_cartridges_are_known_by_their_labels() -> None:
    assert [is_cleaning(b) for b in ("CLN001CU", "CLN670L1", "ABC001CU", "PAC001L6", "CU0001L6")] == [
        True, True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "kind", "words"),
    [
        ("mtx-load-door-open", StaleMap, "door is open"),
        ("mtx-load-jammed", OperatorNeeded, "jammed"),
        ("mtx-load-empty-slot", StaleMap, "moved by hand"),
        ("mtx-load-drive-is-full", StaleMap, "moved by hand"),
        ("mtx-transfer-to-full-slot", StaleMap, "moved by hand"),
        ("mtx-unload-empty-drive", StaleMap, "moved by hand"),
        ("mtx-no-device", OperatorNeeded, "attached"),
        ("mtx-not-a-changer", Permanent, "refuses"),
    ],
)
def test_each_complaint_of_a_changer_tells_what_to_do(case: str, kind: type[Exception], words: str) -> None:
    error = changer_error("move PAC001L6", captured(case)[1])
    assert type(error) is kind
    assert words in str(error)
    assert "move PAC001L6" in str(error)


@pytest.mark.parametrize(
    ("key", "code", "qualifier", "kind"),
    [
        ("Illegal Request", "3B", "0E", StaleMap),
        ("Illegal Request", "3B", "0D", StaleMap),
        ("Illegal Request", "3B", "12", StaleMap),
        ("Not Ready", "04", "01", Retryable),
        ("Not Ready", "04", "03", OperatorNeeded),
        ("Unit Attention", "28", "01", StaleMap),
        ("Unit Attention", "29", "00", StaleMap),
        ("Illegal Request", "53", "02", Retryable),
        ("Hardware Error", "44", "00", OperatorNeeded),
        ("Aborted Command", "47", "00", Retryable),
        ("Aborted Command", "44", "00", Retryable),
    ],
)
def test_sense_data_becomes_an_error_class(
    key: str, code: str, qualifier: str, kind: type[Exception]
) -> None:
    said = (
        f"mtx: Request Sense: Sense Key={key}\nmtx: Request Sense: Additional Sense Code = {code}\n"
        f"mtx: Request Sense: Additional Sense Qualifier = {qualifier}\n"
    )
    assert type(changer_error("move", said)) is kind
    assert is_attention(parse_sense(said)) == (key == "Unit Attention")
    assert str(parse_sense(said)).startswith("B/") == (key == "Aborted Command")


RES = bytes.fromhex(
    "010000020000006c04000032000000640100090000000000008110000201002249424d2020202020554c54333538302d5444"
    "362020202020393057543030303030310101080000000000000000000201002249424d2020202020554c54333538302d5444"
    "36202020202039305754303030303032"
)


def test_drives_are_matched_to_elements_by_serial_number_in_whatever_order_they_were_found() -> None:
    identities = elements.drive_identities(RES)
    assert [identity.split()[-1] for identity in identities] == ["90WT000001", "90WT000002"]
    assert elements.match(identities, ("90WT000002", "90WT000001", "OTHER")) == {
        0: "90WT000001",
        1: "90WT000002",
    }


def test_a_serial_number_that_ends_another_one_takes_nobodys_place() -> None:
    assert elements.match(("HP Ultrium 190WT000001",), ("0WT000001", "190WT000001")) == {0: "190WT000001"}


def test_one_drive_in_two_elements_is_refused() -> None:
    with pytest.raises(Permanent, match="two of its elements"):
        elements.match(("X1", "X1"), ("X1",))


@pytest.mark.parametrize("length", [0, 7, 20, 60, len(RES) - 1])
def test_an_element_status_that_is_cut_short_is_not_believed(length: int) -> None:
    with pytest.raises(Retryable):
        elements.drive_identities(RES[:length])


def test_a_changer_that_does_not_name_its_drives_gives_empty_names() -> None:
    answer = bytes.fromhex("0100000200000028040000100000002001000800" + "00" * 12 + "01010800" + "00" * 12)
    assert elements.drive_identities(answer) == ("", "")
    assert elements.match(("", ""), ("S1", "")) == {}


ALERTS = bytes.fromhex("2e000014") + b"".join(
    code.to_bytes(2, "big") + bytes((0x40, 1, raised))
    for code, raised in ((3, 1), (0x14, 1), (7, 0), (0x27, 1))
)


def test_tape_alerts_have_names_and_say_whom_they_blame() -> None:
    found = logpages.alerts(ALERTS)
    assert found.flags == {3, 0x14, 0x27}
    assert found.cleaning_asked
    assert found.blames_drive
    assert not found.blames_cartridge
    assert str(found) == "hard error (0x03), clean now (0x14), diagnostics required (0x27)"
    assert str(logpages.Alerts()) == "none"


def test_capacity_is_read_in_mebibytes() -> None:
    page = bytes.fromhex("310000200001400400000100000240040000000000034004000001000004400400000000")
    assert logpages.capacity(page) == (256 << 20, 256 << 20)


def test_error_counters_are_read() -> None:
    page = bytes.fromhex("0300001800034004000000050005400400001000000640040000002a")
    assert logpages.error_counters(page, logpages.READ_ERRORS) == ErrorCounters(5, 42, 4096)


@pytest.mark.parametrize("page", [b"", b"\x2e", ALERTS[:10], b"\x02" + ALERTS[1:]])
def test_a_log_page_that_is_another_or_cut_short_is_refused(page: bytes) -> None:
    with pytest.raises(Retryable):
        logpages.alerts(page)


LABEL = PlainLabel(VolumeLabel("HSM001L8", "5f0c0a3e", "tape-a"), 256 << 10)


def test_a_label_is_read_back_and_looks_like_an_ansi_label_to_others() -> None:
    header, record = label_records(LABEL)
    assert len(header) == 80
    assert header[:10] == b"VOL1HSM001"
    assert is_our_header(header)
    found = parse_label(header, record)
    assert (found.content, found.label) == (Content.OURS, LABEL)


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b'{"format": "x"}', b'{"format": "hsm-plain-tape"}'])
def test_our_header_with_a_damaged_label_is_neither_blank_nor_ours(record: bytes) -> None:
    assert parse_label(label_records(LABEL)[0], record).content is Content.BROKEN


def test_a_later_version_of_the_label_is_left_alone() -> None:
    header, record = label_records(LABEL)
    found = parse_label(header, record.replace(b'"version": 1', b'"version": 2'))
    assert found.content is Content.BROKEN
    assert "version 2" in found.words


def ansi(serial: str, implementation: str = "", owner: str = "") -> bytes:
    return f"VOL1{serial:6} {'':13}{implementation:13}{owner:14}{'':28}4".encode()


def tar_header(name: bytes) -> bytes:
    block = bytearray(512)
    block[: len(name)] = name
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (ansi("ABC123", "LTFS"), "an LTFS volume (ABC123)"),
        (ansi("V01001", "", "CASTOR 2.1.13"), "ANSI label 'V01001' (owner 'CASTOR 2.1.13')"),
        ("VOL1V01001".encode("cp037").ljust(80, b"\x40"), "IBM standard label 'V01001'"),
        (
            b"etc/hostname".ljust(257, b"\0") + b"ustar  \0" + bytes(247),
            "tar archive (its first file is 'etc",
        ),
        (tar_header(b"old/file"), "tar archive of the old kind (its first file is 'old/file')"),
        (
            bytes(12) + b"BB02" + bytes(8) + b"\0\0Bacula 1.0 immortal\n\0\0\0Vol-0001\0",
            "Bareos volume (Vol-0001)",
        ),
        (b"AMANDA: TAPESTART DATE 20260101 TAPE DAILY01\n" + bytes(100), "Amanda tape (AMANDA: TAPESTART"),
        (b"TAPE" + bytes(1020), "Microsoft Tape Format"),
        (b"070701" + bytes(506), "cpio"),
        (bytes(24) + (60012).to_bytes(4, "little") + bytes(996), "dump"),
        (b"\x01\x02\x03" * 100, "unknown kind (its first record has 300 bytes: 01 02 03"),
        (bytes(512), "unknown kind"),
        (b"x", "unknown kind"),
    ],
)
def test_foreign_tapes_are_called_by_their_names(record: bytes, words: str) -> None:
    found = describe(record)
    assert found.content is Content.FOREIGN
    assert words in found.words


def test_whatever_a_foreign_tape_holds_is_described_without_a_fault() -> None:
    rng = random.Random(5)
    for _ in range(300):
        record = rng.randbytes(rng.choice((0, 1, 79, 80, 81, 512, 1024)))
        assert describe(record).content is Content.FOREIGN


ENTRIES = {
    entry.key: entry
    for entry in (Entry("ab/1.2.tar", 3_000_001, "0a" * 32, 3, 1), Entry("cd/1.3.tar", 0, "0b" * 32, 16, 2))
}


def test_an_index_is_read_back() -> None:
    index = Index("uuid", 7, 18, 3, ENTRIES)
    data = encode(index)
    assert is_index(data)
    assert decode(data, "uuid", 18) == index


def test_an_index_of_another_volume_or_place_is_refused() -> None:
    data = encode(Index("uuid", 7, 18, 3, ENTRIES))
    for uuid, block in (("other", 18), ("uuid", 19)):
        with pytest.raises(ValueError, match="belongs to block 18 of volume uuid"):
            decode(data, uuid, block)


def test_no_flipped_bit_and_no_lost_byte_of_an_index_goes_unnoticed() -> None:
    index = Index("uuid", 7, 18, 3, ENTRIES)
    data = encode(index)
    for at in range(len(data)):
        for damaged in (data[:at], data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]):
            try:
                found = decode(damaged, "uuid", 18)
            except ValueError:
                continue
            assert found.entries == index.entries, f"byte {at}"


def scsi_device(sysfs: Path, name: str, kind: str, serial: bytes, tape: str | None = None) -> None:
    device = sysfs / "class" / "scsi_generic" / name / "device"
    device.mkdir(parents=True)
    (device / "type").write_text(f"{kind}\n")
    (device / "vendor").write_text("IBM     \n")
    (device / "model").write_text("ULT3580-TD8     \n")
    if serial:
        (device / "vpd_pg80").write_bytes(bytes((int(kind), 0x80)) + len(serial).to_bytes(2, "big") + serial)
    if tape is not None:
        for other in ("st0", tape, f"{tape}a", f"{tape}l", f"{tape}m"):
            (device / "scsi_tape" / other).mkdir(parents=True, exist_ok=True)


def test_devices_are_found_with_their_serial_numbers_and_the_device_that_does_not_rewind(
    tmp_path: Path,
) -> None:
    sysfs, dev = tmp_path / "sys", tmp_path / "dev"
    scsi_device(sysfs, "sg0", "0", b"DISK")
    scsi_device(sysfs, "sg1", "1", b"90WT000002  ", "nst5")
    scsi_device(sysfs, "sg2", "8", b"CHANGER1")
    scsi_device(sysfs, "sg3", "1", b"", "nst1")
    (dev / "tape" / "by-id").mkdir(parents=True)
    (dev / "sg3").touch()
    os.symlink("../../sg3", dev / "tape" / "by-id" / "scsi-1QUANTUM_SDLT320_1AE1800003")
    found = find_devices(sysfs, dev)
    assert [(d.kind, d.serial, d.tape, d.generic) for d in found] == [
        ("tape", "90WT000002", str(dev / "nst5"), str(dev / "sg1")),
        ("changer", "CHANGER1", None, str(dev / "sg2")),
        ("tape", "1AE1800003", str(dev / "nst1"), str(dev / "sg3")),
    ]
    assert by_serial(found, "changer", "CHANGER1").generic == str(dev / "sg2")
    with pytest.raises(OperatorNeeded, match=r"no tape with the serial number X.*90WT000002"):
        by_serial(found, "tape", "X")


def test_a_machine_without_tapes_has_none(tmp_path: Path) -> None:
    assert find_devices(tmp_path / "sys", tmp_path / "dev") == ()
