"""Conversion between transfer syntaxes, on pydicom's files and on hand-made datasets."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode
from wire_fakes import TEST_FILES, element, part10_parts, small_dataset

from hsm.dicom.contexts import UNCOMPRESSED
from hsm.dicom.transcode import CannotTranscode, targets, transcode

# Some of pydicom's files hold values that pydicom itself complains about.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

EXPLICIT, IMPLICIT, DEFLATED, BIG = UNCOMPRESSED
COMPRESSED = [
    "693_J2KI.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "JPGExtended.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_rle_16bit.dcm",
]
NATIVE = [
    "CT_small.dcm",
    "ExplVR_BigEnd.dcm",
    "MR_small.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "image_dfl.dcm",
    "priv_SQ.dcm",
    "reportsi.dcm",
    "liver_expb_1frame.dcm",
    "rtdose_1frame.dcm",
    "rtplan.dcm",
    "test-SR.dcm",
    "waveform_ecg.dcm",
]


def read(encoded: bytes, syntax: str) -> Dataset:
    uid = UID(syntax)
    dataset = decode(io.BytesIO(encoded), uid.is_implicit_VR, uid.is_little_endian, uid.is_deflated)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid
    return dataset


def pixels(dataset: Dataset) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dataset.pixel_array


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("target", UNCOMPRESSED)
def test_native_files_mean_the_same_in_every_uncompressed_syntax(name: str, target: str) -> None:
    stored, dataset = part10_parts(TEST_FILES / name)
    if target == stored:
        assert target not in targets(stored)
        return
    if target == BIG and "rtdose" in name:
        return  # 32-bit pixels, see below
    before, after = read(dataset, stored), read(transcode(dataset, stored, target), target)
    assert [e.tag for e in after] == [e.tag for e in before if e.tag.element]
    for each in before:
        if not each.tag.element:
            continue
        other = after[each.tag]
        if each.VR in ("OW", "OB", "UN") or other.VR in ("UN", "OW"):
            continue  # bytes in another order; the pixels are compared below
        assert (other.VR, str(other.value)) == (each.VR, str(each.value))
    if "PixelData" in before:
        assert np.array_equal(pixels(after), pixels(before))


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("by_way_of", UNCOMPRESSED)
def test_a_conversion_there_and_back_changes_no_value(name: str, by_way_of: str) -> None:
    """Byte for byte: Explicit VR Little Endian is the anchor, since it alone loses nothing."""
    stored, dataset = part10_parts(TEST_FILES / name)
    anchor = dataset if stored == EXPLICIT else transcode(dataset, stored, EXPLICIT)
    if by_way_of == EXPLICIT or (by_way_of == BIG and "rtdose" in name):
        return
    once = transcode(transcode(anchor, EXPLICIT, by_way_of), by_way_of, EXPLICIT)
    before, after = read(anchor, EXPLICIT), read(once, EXPLICIT)
    for each in before:
        if each.tag.element and each.VR != "UN" and after[each.tag].VR == each.VR:
            assert after[each.tag].value == each.value


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("target", [EXPLICIT, IMPLICIT, BIG])
def test_compressed_files_come_out_with_the_pixels_that_pydicom_decodes(name: str, target: str) -> None:
    stored, dataset = part10_parts(TEST_FILES / name)
    reference = dcmread(TEST_FILES / name)
    after = read(transcode(dataset, stored, target), target)
    assert after.SOPInstanceUID == reference.SOPInstanceUID
    got, expected = pixels(after), pixels(reference)
    assert got.shape == expected.shape
    assert np.array_equal(got, expected)
    assert len(after.PixelData) == got.nbytes + got.nbytes % 2


def test_text_passes_through_untouched_even_where_it_is_broken() -> None:
    broken = b"\xff\xfe no character set \x1b$B"
    dataset = (
        element(0x0008, 0x0005, "CS", b"ISO_IR 999")
        + element(0x0008, 0x0018, "UI", b"1.2")
        + element(0x0010, 0x0010, "PN", broken)
        + element(0x0010, 0x0020, "LO", b"\\".join([b"a", b"", b"c "]))
    )
    assert transcode(transcode(dataset, EXPLICIT, IMPLICIT), IMPLICIT, EXPLICIT) == dataset
    assert transcode(transcode(dataset, EXPLICIT, BIG), BIG, EXPLICIT) == dataset
    assert transcode(transcode(dataset, EXPLICIT, DEFLATED), DEFLATED, EXPLICIT) == dataset


def test_private_elements_get_their_vr_from_their_creator_or_become_un() -> None:
    def implicit(group: int, number: int, value: bytes) -> bytes:
        return struct.pack("<HHL", group, number, len(value)) + value

    dataset = (
        implicit(0x0019, 0x0010, b"SIEMENS MR HEADER ")
        + implicit(0x0019, 0x100C, b"1000")
        + implicit(0x0029, 0x0010, b"NOBODY KNOWS")
        + implicit(0x0029, 0x1001, b"\1\2\3\4")
    )
    assert transcode(dataset, IMPLICIT, EXPLICIT) == (
        element(0x0019, 0x0010, "LO", b"SIEMENS MR HEADER ")
        + element(0x0019, 0x100C, "IS", b"1000")
        + element(0x0029, 0x0010, "LO", b"NOBODY KNOWS")
        + element(0x0029, 0x1001, "UN", b"\1\2\3\4")
    )


def test_a_value_too_long_for_its_vr_becomes_un() -> None:
    value = b"1\\" * 40_000
    dataset = struct.pack("<HHL", 0x0018, 0x1149, len(value)) + value
    assert transcode(dataset, IMPLICIT, EXPLICIT) == element(0x0018, 0x1149, "UN", value)


def test_signed_pixels_make_their_ambiguous_attributes_signed() -> None:
    def implicit(group: int, number: int, value: bytes) -> bytes:
        return struct.pack("<HHL", group, number, len(value)) + value

    smallest = implicit(0x0028, 0x0106, b"\xff\xff")
    signed = transcode(implicit(0x0028, 0x0103, b"\1\0") + smallest, IMPLICIT, EXPLICIT)
    unsigned = transcode(implicit(0x0028, 0x0103, b"\0\0") + smallest, IMPLICIT, EXPLICIT)
    assert signed.endswith(element(0x0028, 0x0106, "SS", b"\xff\xff"))
    assert unsigned.endswith(element(0x0028, 0x0106, "US", b"\xff\xff"))


def test_a_private_transfer_syntax_is_converted_to_nothing() -> None:
    assert targets("1.2.840.113619.5.2") == ()
    assert targets("9.9.9") == ()
    with pytest.raises(CannotTranscode, match="is not converted"):
        transcode(small_dataset("1.2"), "9.9.9", EXPLICIT)


@pytest.mark.parametrize("cut", [1, 7, 20, 70, 200])
def test_a_dataset_that_is_cut_short_is_refused_with_a_reason(cut: int) -> None:
    whole = small_dataset("1.2.3.4.5")
    with pytest.raises(CannotTranscode):
        out = transcode(whole[: len(whole) - 1 - cut], EXPLICIT, IMPLICIT)
        # What ends between two elements is a dataset; anything else must not be passed on.
        assert len(whole) - 1 - cut in _ends(whole), f"{len(out)} bytes came of a broken dataset"
        raise CannotTranscode("ended between elements")


def _ends(dataset: bytes) -> set[int]:
    from hsm.dicom.elements import elements

    ends, position = set(), 0
    for each in elements(dataset, EXPLICIT):
        position += (12 if each.vr == "OW" else 8) + len(each.value)
        ends.add(position)
    return ends


def test_damaged_pixel_data_is_refused_with_a_reason() -> None:
    stored, dataset = part10_parts(TEST_FILES / "SC_rgb_jpeg_gdcm.dcm")
    start = dataset.index(b"\xff\xd8")
    damaged = dataset[:start] + b"\0" * 400 + dataset[start + 400 :]
    with pytest.raises(CannotTranscode, match="JPEG Lossless"):
        transcode(damaged, stored, EXPLICIT)


@pytest.mark.parametrize(
    ("name", "target"), [("rtdose_expb_1frame.dcm", EXPLICIT), ("rtdose_1frame.dcm", BIG)]
)
def test_32_bit_pixels_do_not_change_their_byte_order(name: str, target: str) -> None:
    """Writers of big endian disagree on them; a guess would be a silent change of a dose."""
    stored, dataset = part10_parts(TEST_FILES / name)
    with pytest.raises(CannotTranscode, match="32 bits"):
        transcode(dataset, stored, target)


def test_a_value_of_odd_length_is_padded() -> None:
    odd = struct.pack("<HH2sH", 0x0010, 0x0020, b"LO", 3) + b"abc"
    assert transcode(odd, EXPLICIT, IMPLICIT) == struct.pack("<HHL", 0x0010, 0x0020, 4) + b"abc "


def test_sequences_nested_without_end_are_refused() -> None:
    inner = b""
    for _ in range(100):
        item = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
        inner = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, len(item)) + item
    with pytest.raises(CannotTranscode, match="nested"):
        transcode(inner, EXPLICIT, IMPLICIT)


def test_every_bundled_file_named_here_is_there() -> None:
    missing = [name for name in NATIVE + COMPRESSED if not Path(TEST_FILES / name).exists()]
    assert missing == []
