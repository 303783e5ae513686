"""What peers send as sequences is read within bounds: it is counted before pydicom makes objects of it."""

from __future__ import annotations

import io
import struct
import zlib
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from hsm.dicom import commit, rejection, sequences
from hsm.errors import BadInput

EXPLICIT, IMPLICIT, BIG, DEFLATED = (f"1.2.840.10008.1.2{end}" for end in (".1", "", ".2", ".1.99"))
REFERENCES = 0x00081199


def encoded(syntax: str, count: int = 3, undefined: bool = False) -> memoryview:
    """A request for commitment of so many instances."""
    items = [Dataset() for _ in range(count)]
    for number, item in enumerate(items):
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2", f"1.2.3.{number}"
        item.is_undefined_length_sequence_item = undefined
    dataset, file = Dataset(), DicomBytesIO()
    dataset.TransactionUID, dataset.ReferencedSOPSequence = "2.25.1", Sequence(items)
    dataset["ReferencedSOPSequence"].is_undefined_length = undefined
    file.is_little_endian, file.is_implicit_VR = syntax != BIG, syntax == IMPLICIT
    write_dataset(file, dataset)
    data = file.getvalue()
    if syntax == DEFLATED:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = packer.compress(data) + packer.flush()
    return memoryview(data)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
def test_a_sequence_is_read_in_every_encoding(syntax: str, undefined: bool) -> None:
    element = sequences.find_elements(encoded(syntax, 3, undefined), syntax, REFERENCES)[REFERENCES]
    found = sequences.read_items(element, syntax, 3)
    assert [each.ReferencedSOPInstanceUID for each in found] == ["1.2.3.0", "1.2.3.1", "1.2.3.2"]
    with pytest.raises(BadInput, match=r"\(0008,1199\) has 3 items; at most 2"):
        sequences.read_items(element, syntax, 2)
    with pytest.raises(BadInput, match="at most 9 are read"):
        sequences.read_items(element, syntax, 3, 9)


def asked(data: bytes, syntax: str) -> Any:
    request = SimpleNamespace(ActionInformation=io.BytesIO(data))
    return commit._read(cast(Any, SimpleNamespace(request=request, transfer_syntax=syntax)))


def test_a_million_empty_items_or_a_bomb_are_refused_before_they_are_made_objects_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transaction, items = asked(bytes(encoded(DEFLATED)), DEFLATED)
    assert (transaction, len(items)) == ("2.25.1", 3)
    monkeypatch.setattr(sequences, "read_sequence", lambda *_: pytest.fail("it is read"))
    empty = b"\xfe\xff\x00\xe0\0\0\0\0" * 150_000
    head = struct.pack("<HH2sHL", 0x0008, 0x1199, b"SQ", 0, len(empty))
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    for data, syntax in (
        (head + empty, EXPLICIT),
        (packer.compress(head + empty) + packer.flush(), DEFLATED),
    ):
        with pytest.raises(ValueError, match="150000 items"):
            asked(data, syntax)
    title = struct.pack("<HH2sHL", 0x0040, 0xA043, b"SQ", 0, len(empty)) + empty
    assert rejection.read_title(memoryview(title), EXPLICIT) == ""
    evidence = struct.pack("<HH2sHL", 0x0040, 0xA375, b"SQ", 0, 3 * len(empty)) + 3 * empty
    with pytest.raises(BadInput, match="450000 items"):
        rejection.read_note(memoryview(evidence), EXPLICIT, "113001", "1.2")
