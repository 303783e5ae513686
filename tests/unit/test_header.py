"""Reading the catalog's attributes from datasets, good and bad."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from part10_files import dataset_of
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from hsm.dicom.elements import NESTING_MAX, elements
from hsm.dicom.header import IDENTITY_CHARS_MAX, VALUE_CHARS_MAX, read_header
from hsm.errors import BadInput

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
PRIVATE = "1.3.6.1.4.1.99999.7"
UIDS = {
    0x00080016: b"1.2.840.10008.5.1.4.1.1.7\0",
    0x00080018: b"1.2.3.3",
    0x0020000D: b"1.2.3.1",
    0x0020000E: b"1.2.3.2",
}
VRS = {0x00100010: "PN", 0x00100030: "DA", 0x00080020: "DA", 0x00080030: "TM", 0x00080060: "CS"}
UNDEFINED = 0xFFFFFFFF


def encoded(values: dict[int, bytes], order: str = "<") -> bytes:
    """Explicit VR elements; UI where no other VR is known."""
    parts = []
    for tag, value in sorted({**UIDS, **values}.items()):
        value += b"\0" * (len(value) % 2)
        vr = VRS.get(tag, "UI" if tag in UIDS else "LO").encode()
        parts.append(struct.pack(order + "HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value)
    return b"".join(parts)


def item(tag: int, length: int) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length)


def sequence_head(tag: int, vr: bytes = b"SQ") -> bytes:
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, UNDEFINED)


def rewritten(name: str, *, implicit: bool, little: bool) -> tuple[Dataset, bytes]:
    dataset = pydicom.dcmread(get_testdata_file(name, download=False))
    del dataset[0x7FE00010]
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, little
    write_dataset(buffer, dataset)
    return dataset, buffer.getvalue()


TEST_FILES = [
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_bigendian.dcm",
    "image_dfl.dcm",
    "rtplan.dcm",
    "JPEG2000.dcm",
    "JPEG-lossy.dcm",
    "SC_rgb_rle_2frame.dcm",
    "test-SR.dcm",
    "waveform_ecg.dcm",
    "ExplVR_BigEnd.dcm",
    "nested_priv_SQ.dcm",
]


@pytest.mark.parametrize("name", TEST_FILES)
def test_real_files_of_every_encoding_are_read_as_pydicom_reads_them(name: str) -> None:
    path = Path(str(get_testdata_file(name, download=False)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = pydicom.dcmread(path)
        expected = {
            "study_uid": str(wanted.get("StudyInstanceUID", "")),
            "patient_id": str(wanted.get("PatientID", "")),
            "patient_name": str(wanted.get("PatientName", "")),
            "modality": str(wanted.get("Modality", "")),
            "study_date": str(wanted.get("StudyDate", "")).replace(".", ""),
        }
    dataset, syntax = dataset_of(path)
    if not expected["study_uid"]:
        with pytest.raises(BadInput, match=r"\(0020,000D\) is empty"):
            read_header(dataset, syntax)
        return
    header = read_header(dataset, syntax)
    assert {key: getattr(header, key) for key in expected} == expected
    assert header.series_number == wanted.get("SeriesNumber")


@pytest.mark.parametrize(
    ("syntax", "implicit", "little"),
    [(IMPLICIT, True, True), (EXPLICIT, False, True), (BIG, False, False), (PRIVATE, False, True)],
)
def test_one_dataset_gives_one_header_in_every_encoding(syntax: str, implicit: bool, little: bool) -> None:
    _, reference = rewritten("CT_small.dcm", implicit=False, little=True)
    _, data = rewritten("CT_small.dcm", implicit=implicit, little=little)
    assert read_header(data, syntax) == read_header(reference, EXPLICIT)


def test_a_deflated_dataset_is_inflated_and_one_cut_short_is_refused() -> None:
    _, plain = rewritten("CT_small.dcm", implicit=False, little=True)
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = deflater.compress(plain) + deflater.flush()
    assert read_header(data, DEFLATED) == read_header(plain, EXPLICIT)
    assert read_header(data + b"\0", DEFLATED) == read_header(plain, EXPLICIT)
    with pytest.raises(BadInput, match="ends too early"):
        read_header(data[:-20], DEFLATED)
    with pytest.raises(BadInput, match="cannot be inflated"):
        read_header(b"\xff" * 100, DEFLATED)


def test_a_long_deflated_dataset_is_read_from_its_head_and_a_bomb_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 4 << 20) + b"\0" * (4 << 20)
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = deflater.compress(encoded({}) + pixels) + deflater.flush()
    monkeypatch.setattr("hsm.dicom.elements.INFLATED_HEAD_BYTES_MAX", 1 << 20)
    assert read_header(data, DEFLATED).study_uid == "1.2.3.1"
    monkeypatch.setattr("hsm.dicom.elements.INFLATED_BYTES_MAX", 2 << 20)
    with pytest.raises(BadInput, match="inflates to more than"):
        read_header(data, DEFLATED)


def test_a_sender_that_names_the_wrong_vr_encoding_is_understood() -> None:
    _, implicit = rewritten("CT_small.dcm", implicit=True, little=True)
    _, explicit = rewritten("CT_small.dcm", implicit=False, little=True)
    assert read_header(implicit, EXPLICIT) == read_header(explicit, EXPLICIT)
    assert read_header(explicit, IMPLICIT) == read_header(explicit, EXPLICIT)


def test_a_dataset_cut_anywhere_but_between_elements_is_refused() -> None:
    tail = encoded({0x00204000: b"comment "})
    pixels = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 6) + b"pixels"
    data = tail + pixels
    boundaries = {0, len(tail), len(data)}
    at = 0
    for element in elements(tail, EXPLICIT):
        at += 8 + len(element.value)
        boundaries.add(at)
    assert at == len(tail)
    for cut in range(len(data)):
        if cut in boundaries:
            continue
        with pytest.raises(BadInput):
            list(elements(data[:cut], EXPLICIT))
    assert read_header(data, EXPLICIT).study_uid == "1.2.3.1"


def test_what_is_cut_is_named_by_its_tag() -> None:
    data = encoded({}) + struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 1000) + b"\0" * 999
    with pytest.raises(BadInput, match=r"inside \(7FE0,0010\): its 1000 bytes .* 999 are there"):
        read_header(data, EXPLICIT)


def test_encapsulated_pixels_without_their_end_are_refused() -> None:
    head = encoded({}) + sequence_head(0x7FE00010, b"OB") + item(0xFFFEE000, 0)
    fragment = item(0xFFFEE000, 4) + b"jpeg"
    assert read_header(head + fragment + item(0xFFFEE0DD, 0), PRIVATE).series_uid == "1.2.3.2"
    for broken in (head + fragment, head + fragment[:-1], head + fragment + item(0xFFFEE0DD, 0)[:5]):
        with pytest.raises(BadInput, match=r"\(7FE0,0010\)"):
            read_header(broken, PRIVATE)


@pytest.mark.parametrize("missing", sorted(UIDS))
def test_a_dataset_without_an_identifying_uid_is_refused_by_its_tag(missing: int) -> None:
    with pytest.raises(BadInput, match=f"{missing >> 16:04X},{missing & 0xFFFF:04X}"):
        read_header(encoded({missing: b""}), EXPLICIT)


@pytest.mark.parametrize("bad", [b"../../etc/passwd", b"1.2/3", b"1..2", b"1.2.\xff", b"/1.2", b"1" * 65])
@pytest.mark.parametrize("tag", sorted(UIDS))
def test_a_uid_that_could_leave_its_folder_is_refused(tag: int, bad: bytes) -> None:
    with pytest.raises(BadInput, match="is not a UID"):
        read_header(encoded({tag: bad}), EXPLICIT)


def test_odd_values_neither_raise_nor_warn() -> None:
    header = read_header(
        encoded(
            {
                0x00200011: b"1.5",
                0x00200013: b"99999999999",
                0x00080020: b"yesterday",
                0x00080021: b"2020.01.31",
                0x00100030: b"2020-01-31",
                0x00080030: b"10:30:15",
                0x00080031: b"\xff\xfe",
                0x00080060: b"CT\\MR",
                0x00080005: b"ISO_IR 999",
                0x00100010: b"M\xfcller^\xde\x9b  ",
            }
        ),
        EXPLICIT,
    )
    assert (header.series_number, header.instance_number) == (None, None)
    assert (header.study_date, header.series_date, header.patient_birth_date) == ("", "20200131", "20200131")
    assert header.study_time == "103015"
    assert header.modality == "CT"
    assert header.charset == "ISO_IR 999"
    assert header.patient_name == "Müller^Þ"


def test_numbers_and_padding_are_read_as_people_mean_them() -> None:
    header = read_header(
        encoded({0x00200011: b" 007 ", 0x00200013: b"-3\\4", 0x00080050: b" A1 \\B \0"}), EXPLICIT
    )
    assert (header.series_number, header.instance_number) == (7, -3)
    assert header.accession == "A1\\B"


def test_an_absurd_patient_id_is_refused_and_an_absurd_description_is_cut() -> None:
    long = b"x" * (IDENTITY_CHARS_MAX + 2)
    with pytest.raises(BadInput, match=r"\(0010,0020\) has 258 characters"):
        read_header(encoded({0x00100020: long}), EXPLICIT)
    assert read_header(encoded({0x00100020: long[:-2]}), EXPLICIT).patient_id == "x" * IDENTITY_CHARS_MAX
    assert len(read_header(encoded({0x00081030: long * 4}), EXPLICIT).study_description) == VALUE_CHARS_MAX


def test_attributes_inside_sequences_are_not_the_instances_own() -> None:
    inside = struct.pack("<HH2sH", 0x0008, 0x0018, b"UI", 6) + b"9.9.9\0"
    nested = (
        sequence_head(0x00081140)
        + (item(0xFFFEE000, UNDEFINED) + inside + item(0xFFFEE00D, 0)) * 2
        + item(0xFFFEE0DD, 0)
    )
    at = encoded({})
    split = at.index(struct.pack("<HH", 0x0020, 0x000D))
    assert read_header(at[:split] + nested + at[split:], EXPLICIT).sop_instance_uid == "1.2.3.3"


def test_a_sequence_of_unknown_vr_is_implicit_inside() -> None:
    inside = struct.pack("<HHL", 0x0009, 0x1002, 4) + b"ABCD"
    unknown = sequence_head(0x00091001, b"UN") + item(0xFFFEE000, UNDEFINED) + inside
    unknown += item(0xFFFEE00D, 0) + item(0xFFFEE0DD, 0)
    tags = [element.tag for element in elements(unknown + encoded({}), EXPLICIT)]
    assert tags == [0x00091001, *sorted(UIDS)]


def test_nesting_without_end_is_refused_not_followed() -> None:
    level = sequence_head(0x00081140) + item(0xFFFEE000, UNDEFINED)
    with pytest.raises(BadInput, match="nested more than"):
        list(elements(level * (NESTING_MAX + 1000), EXPLICIT))


def test_a_vr_of_a_later_standard_has_a_long_length() -> None:
    newer = struct.pack("<HH2sHL", 0x0008, 0x0001, b"ZZ", 0, 4) + b"ABCD"
    assert read_header(newer + encoded({}), EXPLICIT).study_uid == "1.2.3.1"


@given(st.binary(max_size=400), st.sampled_from([IMPLICIT, EXPLICIT, BIG, DEFLATED, PRIVATE]))
def test_garbage_is_refused_and_nothing_else_happens(data: bytes, syntax: str) -> None:
    with pytest.raises(BadInput):
        read_header(data, syntax)


@given(st.data())
def test_a_damaged_dataset_is_read_or_refused_but_never_fails_otherwise(data: st.DataObject) -> None:
    good = bytearray(encoded({0x00100010: b"Doe^John", 0x00080060: b"CT"}))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_header(bytes(good), EXPLICIT)
    except BadInput as error:
        assert str(error)


def test_any_buffer_will_do() -> None:
    data = encoded({})
    assert read_header(memoryview(bytearray(data)), EXPLICIT) == read_header(data, EXPLICIT)
    assert io.BytesIO(data).getbuffer().nbytes == len(data)
    assert read_header(io.BytesIO(data).getbuffer(), EXPLICIT) == read_header(data, EXPLICIT)
