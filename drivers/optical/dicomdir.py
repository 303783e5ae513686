"""DICOMDIR: the directory of a file-set (PS3.10 section 8.6, PS3.3 annex F). Pure, but for reading headers.

Written in Explicit VR Little Endian, as every profile of PS3.11 wants it. The records are placed first
and their links filled in afterwards: every link has four bytes, so placing does not depend on them.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

from drivers.errors import Corrupt
from drivers.optical.records import (
    HEADER_KEYWORDS,
    PRIVATE,
    Element,
    record_elements,
    record_type,
    value_of,
)

NAME = "DICOMDIR"
MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
IMPLEMENTATION_CLASS_UID = "2.25.134185439514785218828120043257712535084"
PRIVATE_RECORD_UID = "2.25.302740418532981450611287734502186311071"
"""Names our PRIVATE records: an instance of a SOP class that has no record type of its own."""

UNREADABLE = (
    InvalidDicomError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    NotImplementedError,
    RecursionError,
    EOFError,
    struct.error,
    UserWarning,
)
"""What pydicom raises (or warns of, where warnings are errors) over bytes that are no DICOM object."""

_FILE_ID = re.compile(r"[A-Z0-9_]{1,8}")
_COMPONENTS_MAX = 8
_LEVELS = ("PATIENT", "STUDY", "SERIES")
_LONG = frozenset({"OB", "SQ", "UC", "UN", "UR", "UT"})


def check_file_id(parts: Sequence[str]) -> tuple[str, ...]:
    """A File ID: one to eight components of one to eight characters of A-Z, 0-9 and _ (PS3.10 8.2 and 8.5).

    :raises ValueError: it is not.
    """
    if not 1 <= len(parts) <= _COMPONENTS_MAX or not all(_FILE_ID.fullmatch(part) for part in parts):
        raise ValueError(f"{'/'.join(parts)} is no File ID of PS3.10")
    return tuple(parts)


def file_set_id(text: str) -> str:
    """``text`` as a File-Set ID, which is also the volume's name (PS3.12 F.1.1): at most 16 characters."""
    return re.sub(r"[^A-Z0-9_]", "_", text.upper())[:16]


@dataclass(frozen=True, slots=True)
class Entry:
    """One Part 10 file of a file-set: where it is and what its header says."""

    file_id: tuple[str, ...]
    header: Dataset
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str

    def __post_init__(self) -> None:
        check_file_id(self.file_id)


def read_entry(path: Path, file_id: Sequence[str]) -> Entry:
    """What a DICOMDIR has to know of a Part 10 file; its pixels are not read.

    :raises Corrupt: it cannot be read as DICOM, or lacks the UIDs of its study, series or instance.
    """
    try:
        found = dcmread(path, stop_before_pixels=True, specific_tags=list(HEADER_KEYWORDS))
        meta = found.file_meta
        texts = (
            str(meta.get("MediaStorageSOPClassUID", "")) or _text(found, "SOPClassUID"),
            str(meta.get("MediaStorageSOPInstanceUID", "")) or _text(found, "SOPInstanceUID"),
            str(meta.get("TransferSyntaxUID", "")),
        )
        for kind in (*_LEVELS, record_type(texts[0])):  # all that a directory needs of it, now and not later
            for element in record_elements(kind, found):
                _encoded(element)
    except UNREADABLE as error:
        raise Corrupt(f"{path}: cannot be read as DICOM: {error}") from error
    if not all(texts) or not _text(found, "StudyInstanceUID") or not _text(found, "SeriesInstanceUID"):
        raise Corrupt(f"{path}: a UID of the instance, its series or its study is missing")
    return Entry(tuple(file_id), found, *texts)


def entries_of(directory: bytes) -> list[Entry]:
    """The entries of a directory that :func:`build` wrote: their records have all that a new one needs.

    :raises Corrupt: it cannot be read.
    """
    found: list[Entry] = []
    above: dict[str, Dataset] = {}
    try:
        records = dcmread(io.BytesIO(directory)).DirectoryRecordSequence
        for record in records:
            kind = str(record.DirectoryRecordType)
            if kind in _LEVELS:
                above[kind] = record
                continue
            header = Dataset()
            for level in (*(above[each] for each in _LEVELS), record):
                header.update({tag: level[tag] for tag in level.keys() if tag.group != 4})  # noqa: SIM118
            texts = (
                str(record.ReferencedSOPClassUIDInFile),
                str(record.ReferencedSOPInstanceUIDInFile),
                str(record.ReferencedTransferSyntaxUIDInFile),
            )
            name = record.ReferencedFileID
            found.append(Entry((name,) if isinstance(name, str) else tuple(name), header, *texts))
    except UNREADABLE as error:
        raise Corrupt(f"{NAME} cannot be read: {error!r}") from error
    return found


@dataclass(slots=True)
class _Record:
    """A directory record and those below it, in the order of the directory."""

    kind: str
    elements: list[Element]
    children: dict[bytes, _Record] = field(default_factory=dict)
    body: bytes = b""
    position: int = 0


def build(entries: Iterable[Entry], set_id: str, set_uid: str, readme: Sequence[str] = ()) -> bytes:
    """The whole file DICOMDIR of a file-set of ``entries``.

    :param set_id: File-Set ID (0004,1130).
    :param set_uid: File-Set UID, which is the SOP Instance UID of the directory: copies of a medium share it.
    :param readme: File ID of a text for people, (0004,1141).

    An instance that is there twice (by its UID) is listed once: the last one counts.
    """
    root = _tree(entries)
    fixed = b"".join(
        (
            _plain(0x00041130, "CS", set_id.encode("ascii")),
            _plain(0x00041141, "CS", "\\".join(readme).encode("ascii")) if readme else b"",
            _plain(0x00041142, "CS", b"ISO_IR 100") if readme else b"",
        )
    )
    meta = _meta(set_uid)
    # Behind the fixed elements: two links of 12 bytes, the flag of 10, the head of the sequence of 12.
    first = len(meta) + len(fixed) + 12 + 12 + 10 + 12
    end = _place(root, first)
    pieces = [meta, fixed]
    tops = list(root.children.values())
    for tag, position in ((0x00041200, _first(tops)), (0x00041202, tops[-1].position if tops else 0)):
        pieces.append(_plain(tag, "UL", struct.pack("<I", position)))
    pieces.append(_plain(0x00041212, "US", b"\0\0"))
    pieces.append(_head(0x00041220, "SQ", end - first))
    _render(root, pieces)
    return b"".join(pieces)


def _tree(entries: Iterable[Entry]) -> _Record:
    root = _Record("", [])
    seen: dict[str, tuple[_Record, bytes]] = {}
    for entry in entries:
        header = entry.header
        known = seen.get(entry.sop_instance_uid)
        if known is not None:
            del known[0].children[known[1]]
        level = root
        for kind, key in (
            ("PATIENT", value_of(header, "PatientID") + b"\\" + value_of(header, "PatientName")),
            ("STUDY", value_of(header, "StudyInstanceUID")),
            ("SERIES", value_of(header, "SeriesInstanceUID")),
        ):
            if key not in level.children:
                level.children[key] = _Record(kind, record_elements(kind, header))
            level = level.children[key]
        kind = record_type(entry.sop_class_uid)
        mine = b"\0" + entry.sop_instance_uid.encode("ascii")
        level.children[mine] = _Record(kind, [*_references(entry, kind), *record_elements(kind, header)])
        seen[entry.sop_instance_uid] = (level, mine)
    _prune(root)
    return root


def _prune(record: _Record) -> None:
    """Drop series, studies and patients that a second version has emptied."""
    for key, child in list(record.children.items()):
        _prune(child)
        if child.kind in ("PATIENT", "STUDY", "SERIES") and not child.children:
            del record.children[key]


def _references(entry: Entry, kind: str) -> list[Element]:
    def uid(tag: int, text: str) -> Element:
        raw = text.encode("ascii")
        return Element(tag, "UI", raw + b"\0" * (len(raw) % 2))

    name = "\\".join(entry.file_id).encode("ascii")
    private = [uid(0x00041432, PRIVATE_RECORD_UID)] if kind == PRIVATE else []
    return [
        *private,
        Element(0x00041500, "CS", name + b" " * (len(name) % 2)),
        uid(0x00041510, entry.sop_class_uid),
        uid(0x00041511, entry.sop_instance_uid),
        uid(0x00041512, entry.transfer_syntax_uid),
    ]


def _place(record: _Record, at: int) -> int:
    """Give every record below ``record`` its position; where the next one would be."""
    for child in record.children.values():
        child.position = at
        child.body = _body(child)
        at = _place(child, at + 8 + 34 + len(child.body))
    return at


def _render(record: _Record, pieces: list[bytes]) -> None:
    children = list(record.children.values())
    for child, following in zip(children, [*children[1:], None], strict=False):
        pieces += (
            struct.pack("<HHI", 0xFFFE, 0xE000, 34 + len(child.body)),
            _plain(0x00041400, "UL", struct.pack("<I", 0 if following is None else following.position)),
            _plain(0x00041410, "US", b"\xff\xff"),
            _plain(0x00041420, "UL", struct.pack("<I", _first(list(child.children.values())))),
            child.body,
        )
        _render(child, pieces)


def _body(record: _Record) -> bytes:
    name = record.kind.encode("ascii")
    kind = Element(0x00041430, "CS", name + b" " * (len(name) % 2))
    elements = sorted((kind, *record.elements), key=lambda each: each.tag)
    return b"".join(_encoded(each) for each in elements)


def _encoded(element: Element) -> bytes:
    if isinstance(element.value, bytes):
        return _plain(element.tag, element.vr, element.value)
    target = DicomBytesIO()
    target.is_little_endian, target.is_implicit_VR = True, False
    write_dataset(target, element.value)
    return bytes(target.getvalue())


def _first(records: Sequence[_Record]) -> int:
    return records[0].position if records else 0


def _plain(tag: int, vr: str, value: bytes) -> bytes:
    if len(value) % 2:
        value += b" " if vr != "UI" else b"\0"
    return _head(tag, vr, len(value)) + value


def _head(tag: int, vr: str, length: int) -> bytes:
    group, element = tag >> 16, tag & 0xFFFF
    if vr in _LONG:
        return struct.pack("<HH2sHI", group, element, vr.encode(), 0, length)
    if length > 0xFFFE:
        raise Corrupt(f"({group:04x},{element:04x}): {length} bytes do not fit a value of VR {vr}")
    return struct.pack("<HH2sH", group, element, vr.encode(), length)


def _meta(file_set_uid: str) -> bytes:
    body = b"".join(
        (
            _plain(0x00020001, "OB", b"\0\1"),
            _plain(0x00020002, "UI", MEDIA_STORAGE_DIRECTORY.encode()),
            _plain(0x00020003, "UI", file_set_uid.encode()),
            _plain(0x00020010, "UI", ExplicitVRLittleEndian.encode()),
            _plain(0x00020012, "UI", IMPLEMENTATION_CLASS_UID.encode()),
        )
    )
    return b"\0" * 128 + b"DICM" + _plain(0x00020000, "UL", struct.pack("<I", len(body))) + body


def _text(header: Dataset, keyword: str) -> str:
    return value_of(header, keyword).decode("ascii", "replace")
