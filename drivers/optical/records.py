"""What a DICOMDIR says of each object: its record type and the keys of that record. Pure.

Record types and keys are those of PS3.3 section F.5; which SOP class has which type follows from the
names of the classes in PS3.6, which are regular.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID

PRIVATE = "PRIVATE"

_EXACT = {
    "1.2.840.10008.5.1.4.1.1.66": "RAW DATA",
    "1.2.840.10008.5.1.4.1.1.66.1": "REGISTRATION",
    "1.2.840.10008.5.1.4.1.1.66.2": "FIDUCIAL",
    "1.2.840.10008.5.1.4.1.1.66.3": "REGISTRATION",
    "1.2.840.10008.5.1.4.1.1.66.5": "SURFACE",
    "1.2.840.10008.5.1.4.1.1.67": "VALUE MAP",
    "1.2.840.10008.5.1.4.1.1.4.2": "SPECTROSCOPY",
    "1.2.840.10008.5.1.4.1.1.88.59": "KEY OBJECT DOC",
    "1.2.840.10008.5.1.4.1.1.481.2": "RT DOSE",
    "1.2.840.10008.5.1.4.1.1.481.3": "RT STRUCTURE SET",
    "1.2.840.10008.5.1.4.1.1.481.5": "RT PLAN",
    "1.2.840.10008.5.1.4.1.1.481.8": "RT PLAN",
}
_BY_NAME = (
    (re.compile(r"RT .*Treatment Record Storage"), "RT TREAT RECORD"),
    (re.compile(r"Encapsulated .*Storage"), "ENCAP DOC"),
    (re.compile(r"Presentation State"), "PRESENTATION"),
    (re.compile(r"(Waveform|ECG|Audio.*) Storage|Waveform"), "WAVEFORM"),
    (
        re.compile(r"( SR |Procedure Log|Report Storage|SR Storage|Acquisition Context|Dose SR)"),
        "SR DOCUMENT",
    ),
    (re.compile(r"Parametric Map Storage|Segmentation Storage|Image Storage|Tomography.* Storage"), "IMAGE"),
)

# The keys under each record, with what is written where a type 1 key has no value in the object.
_KEYS: dict[str, dict[str, str | None]] = {
    "PATIENT": {"PatientName": None, "PatientID": "UNKNOWN"},
    "STUDY": {
        "StudyDate": "19000101",
        "StudyTime": "000000",
        "AccessionNumber": None,
        "StudyDescription": None,
        "StudyInstanceUID": None,
        "StudyID": "UNKNOWN",
    },
    "SERIES": {"Modality": "OT", "SeriesInstanceUID": None, "SeriesNumber": "0"},
    "IMAGE": {"InstanceNumber": "0"},
    "PRESENTATION": {
        "InstanceNumber": "0",
        "ContentLabel": "UNKNOWN",
        "ContentDescription": None,
        "PresentationCreationDate": "19000101",
        "PresentationCreationTime": "000000",
        "ContentCreatorName": None,
        "ReferencedSeriesSequence": None,
        "BlendingSequence": None,
    },
    "SR DOCUMENT": {
        "ContentDate": "19000101",
        "ContentTime": "000000",
        "InstanceNumber": "0",
        "VerificationDateTime": None,
        "ConceptNameCodeSequence": None,
        "CompletionFlag": "PARTIAL",
        "VerificationFlag": "UNVERIFIED",
    },
    "KEY OBJECT DOC": {
        "ContentDate": "19000101",
        "ContentTime": "000000",
        "InstanceNumber": "0",
        "ConceptNameCodeSequence": None,
    },
    "RT DOSE": {"InstanceNumber": "0", "DoseSummationType": "PLAN", "DoseComment": None},
    "RT STRUCTURE SET": {
        "InstanceNumber": "0",
        "StructureSetLabel": "UNKNOWN",
        "StructureSetDate": None,
        "StructureSetTime": None,
    },
    "RT PLAN": {"InstanceNumber": "0", "RTPlanLabel": "UNKNOWN", "RTPlanDate": None, "RTPlanTime": None},
    "RT TREAT RECORD": {"InstanceNumber": "0", "TreatmentDate": None, "TreatmentTime": None},
    "WAVEFORM": {"ContentDate": "19000101", "ContentTime": "000000", "InstanceNumber": "0"},
    "RAW DATA": {"ContentDate": "19000101", "ContentTime": "000000", "InstanceNumber": None},
    "SPECTROSCOPY": {
        "ImageType": "ORIGINAL\\PRIMARY",
        "ContentDate": "19000101",
        "ContentTime": "000000",
        "InstanceNumber": "0",
        "NumberOfFrames": "1",
        "ReferencedImageEvidenceSequence": None,
        "Rows": None,
        "Columns": None,
        "DataPointRows": None,
        "DataPointColumns": None,
    },
    "ENCAP DOC": {
        "ContentDate": None,
        "ContentTime": None,
        "InstanceNumber": "0",
        "DocumentTitle": None,
        "HL7InstanceIdentifier": None,
        "ConceptNameCodeSequence": None,
        "MIMETypeOfEncapsulatedDocument": "application/octet-stream",
    },
    "SURFACE": {
        "ContentDate": "19000101",
        "ContentTime": "000000",
        "InstanceNumber": "0",
        "ContentLabel": "UNKNOWN",
        "ContentDescription": None,
        "ContentCreatorName": None,
    },
    PRIVATE: {"InstanceNumber": None},
}
for _kind in ("REGISTRATION", "FIDUCIAL", "VALUE MAP"):
    _KEYS[_kind] = {
        "ContentDate": "19000101",
        "ContentTime": "000000",
        "InstanceNumber": "0",
        "ContentLabel": "UNKNOWN",
        "ContentDescription": None,
        "ContentCreatorName": None,
    }

_EMPTY_IF_ABSENT = frozenset(
    {
        "PatientName", "AccessionNumber", "StudyDescription", "ContentDescription", "ContentCreatorName",
        "StructureSetDate", "StructureSetTime", "RTPlanDate", "RTPlanTime", "TreatmentDate", "TreatmentTime",
        "DocumentTitle", "ContentDate", "ContentTime", "ConceptNameCodeSequence", "InstanceNumber",
    }
)  # fmt: skip
_SPACE_PADDED = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT")
)

CHARACTER_SET = "SpecificCharacterSet"
HEADER_KEYWORDS = tuple(
    sorted(
        {CHARACTER_SET, "SOPClassUID", "SOPInstanceUID"} | {key for keys in _KEYS.values() for key in keys}
    )
)
"""What has to be read of an object for its records."""


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a record: its tag, and either bytes with a VR or a sequence."""

    tag: int
    vr: str
    value: bytes | Dataset


def record_type(sop_class_uid: str) -> str:
    """The directory record type of an instance; PRIVATE where the standard knows none."""
    exact = _EXACT.get(sop_class_uid)
    if exact is not None:
        return exact
    uid = UID(sop_class_uid)
    name = uid.name if not uid.is_private and uid.name != sop_class_uid else ""
    return next((kind for pattern, kind in _BY_NAME if pattern.search(name)), PRIVATE)


def record_elements(kind: str, header: Dataset) -> list[Element]:
    """The keys of a record of type ``kind`` out of an object's header, by ascending tag.

    Text is taken as the bytes that stand in the object, with its Specific Character Set (0008,0005).
    """
    found = [_element(keyword, header, default) for keyword, default in _KEYS[kind].items()]
    charset = _element(CHARACTER_SET, header, None)
    elements = [each for each in (charset, *found) if each is not None]
    return sorted(elements, key=lambda each: each.tag)


def value_of(header: Dataset, keyword: str) -> bytes:
    """The bytes of a plain element as they stand in the object, without padding; empty when absent."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    if tag not in header:
        return b""
    raw = header.get_item(tag)
    value = getattr(raw, "value", None)
    if isinstance(value, bytes):
        return value.rstrip(b" \0")
    found = header[tag].value
    if found is None:
        return b""
    many = found if isinstance(found, list | tuple) or hasattr(found, "append") else [found]
    return "\\".join(str(each) for each in many).encode("utf-8", "replace").rstrip(b" \0")


def _element(keyword: str, header: Dataset, default: str | None) -> Element | None:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    vr = dictionary_VR(tag)
    if vr == "SQ":
        return _sequence(tag, keyword, header)
    if vr == "US":
        numbers = header.get(keyword)
        value = b"" if numbers is None else int(numbers).to_bytes(2, "little")
        return Element(tag, vr, value) if value else None
    value = value_of(header, keyword) or (default or "").encode("ascii")
    if not value and keyword not in _EMPTY_IF_ABSENT:
        return None
    if len(value) % 2:
        value += b" " if vr in _SPACE_PADDED else b"\0"
    return Element(tag, vr, value)


def _sequence(tag: int, keyword: str, header: Dataset) -> Element | None:
    holder = Dataset()
    items = header.get(keyword)
    if items:
        holder.add(header[tag])
    elif keyword not in _EMPTY_IF_ABSENT:
        return None
    else:
        holder.add_new(tag, "SQ", [])
    return Element(tag, "SQ", holder)
