"""What the catalog keeps of a dataset, read from its encoded bytes."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from hsm.dicom.elements import Buffer, elements, tag_text
from hsm.errors import BadInput
from hsm.model import Header
from hsm.text import decode

IDENTITY_CHARS_MAX = 256
"""Longest Patient ID and issuer that can be told apart; a longer one is refused (LO allows 64)."""

VALUE_CHARS_MAX = 512
"""Longer descriptive text is cut in the catalog; the dataset keeps it."""

_CHARSET = 0x00080005
_NAMES = {0x00100010: "patient_name", 0x00080090: "referring_physician"}
_IDENTITIES = {0x00100020: "patient_id", 0x00100021: "patient_issuer"}
_TEXTS = {
    0x00081030: "study_description",
    0x0008103E: "series_description",
    0x00200010: "study_id",
    0x00080050: "accession",
    0x00080080: "institution",
    0x00081010: "station",
}
# One value counts of these: what is joined by backslashes would be no code that anybody asks for.
_CODES = {0x00080060: "modality", 0x00180015: "body_part", 0x00100040: "patient_sex"}
_DATES = {0x00100030: "patient_birth_date", 0x00080020: "study_date", 0x00080021: "series_date"}
_TIMES = {0x00080030: "study_time", 0x00080031: "series_time"}
_UIDS = {
    0x0020000D: "study_uid",
    0x0020000E: "series_uid",
    0x00080018: "sop_instance_uid",
    0x00080016: "sop_class_uid",
}
_NUMBERS = {0x00200011: "series_number", 0x00200013: "instance_number"}
WANTED = frozenset({
    _CHARSET, *_NAMES, *_IDENTITIES, *_TEXTS, *_CODES, *_DATES, *_TIMES, *_UIDS, *_NUMBERS,
})  # fmt: skip
"""Tags of the attributes that the catalog keeps."""

_OWN = (0x00080018, 0x00200013)
"""What differs between instances of a series; the rest is mostly the same and decoded once."""
_SHARED = tuple(sorted(WANTED.difference(_OWN)))
_REMEMBERED_MAX = 256

# PS3.5 table 6.2-1; the forms with separators are ACR-NEMA's and what some devices send.
_DATE = re.compile(r"(\d{4})([.-]?)(\d{2})\2(\d{2})")
_NUMBER = re.compile(r"[+-]?\d{1,10}")
_INT32_MAX = 2**31 - 1


def read_header(dataset: Buffer, transfer_syntax_uid: str) -> Header:
    """Read the catalog's attributes; every other value may be as odd as it likes.

    The whole dataset is walked, pixel data included, so that one that was cut short is found
    whatever was cut. Dates that are none become empty, and numbers that are none become None.

    :raises BadInput: the dataset is malformed or ends too early, a UID that identifies the instance
        is missing or unusable as a file name, or a Patient ID is absurdly long. The message names
        the tag.
    """
    return header_of(
        {
            element.tag: bytes(element.value)
            for element in elements(dataset, transfer_syntax_uid, only=WANTED)
            if not element.undefined_length
        }
    )


def header_of(raw: Mapping[int, bytes]) -> Header:
    """The header that these encoded values of :data:`WANTED` elements make.

    :raises BadInput: see :func:`read_header`.
    """
    return Header(
        **_shared(tuple(map(raw.get, _SHARED))),
        sop_instance_uid=decode(raw.get(0x00080018, b"")).strip(),
        instance_number=_number(_first(raw.get(0x00200013, b""))),
    )


@functools.lru_cache(_REMEMBERED_MAX)
def _shared(values: tuple[bytes | None, ...]) -> Mapping[str, Any]:
    raw = {tag: value for tag, value in zip(_SHARED, values, strict=True) if value is not None}
    charset = _join(decode(raw.get(_CHARSET, b"")))[:VALUE_CHARS_MAX]
    fields: dict[str, Any] = {"charset": charset}
    for tag, name in _NAMES.items():
        fields[name] = _join(decode(raw.get(tag, b""), charset, name=True))[:VALUE_CHARS_MAX]
    for tag, name in _TEXTS.items():
        fields[name] = _join(decode(raw.get(tag, b""), charset))[:VALUE_CHARS_MAX]
    for tag, name in _IDENTITIES.items():
        fields[name] = _join(decode(raw.get(tag, b""), charset))
        if len(fields[name]) > IDENTITY_CHARS_MAX:
            raise BadInput(f"{tag_text(tag)} has {len(fields[name])} characters; LO allows 64")
    for tag, name in _CODES.items():
        fields[name] = _first(raw.get(tag, b""))[:VALUE_CHARS_MAX]
    for tag, name in _DATES.items():
        fields[name] = _date(_first(raw.get(tag, b"")))
    for tag, name in _TIMES.items():
        fields[name] = _first(raw.get(tag, b"")).replace(":", "")[:VALUE_CHARS_MAX]
    for tag, name in _UIDS.items():
        if tag not in _OWN:
            fields[name] = decode(raw.get(tag, b"")).strip()
    fields["series_number"] = _number(_first(raw.get(0x00200011, b"")))
    return MappingProxyType(fields)


def _join(text: str) -> str:
    """All values, each without its padding; trailing empty ones dropped."""
    return "\\".join(value.strip() for value in text.split("\\")).rstrip("\\")


def _first(raw: bytes) -> str:
    return decode(raw).split("\\")[0].strip()


def _date(text: str) -> str:
    found = _DATE.fullmatch(text)
    return found[1] + found[3] + found[4] if found else ""


def _number(text: str) -> int | None:
    if not _NUMBER.fullmatch(text):
        return None
    number = int(text)
    return number if abs(number) <= _INT32_MAX else None
