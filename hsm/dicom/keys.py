"""The attributes that queries and answers are made of: tags, catalog fields and VRs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydicom.datadict import dictionary_VR

from hsm.terms import Field, Level

CHARSET: Final = 0x00080005
LEVEL: Final = 0x00080052
VIEW: Final = 0x00080053
RETRIEVE_AE: Final = 0x00080054
AVAILABILITY: Final = 0x00080056
FILE_SET_ID: Final = 0x00880130
FILE_SET_UID: Final = 0x00880140

ABOUT_THE_QUERY: Final = frozenset({CHARSET, LEVEL, VIEW})
"""Keys that say how to read the identifier; never answered as such."""

KEYS: Final[Mapping[int, tuple[Field, str]]] = {
    0x00080016: (Field.SOP_CLASS_UID, "UI"),
    0x00080018: (Field.SOP_INSTANCE_UID, "UI"),
    0x00080020: (Field.STUDY_DATE, "DA"),
    0x00080021: (Field.SERIES_DATE, "DA"),
    0x00080030: (Field.STUDY_TIME, "TM"),
    0x00080031: (Field.SERIES_TIME, "TM"),
    0x00080050: (Field.ACCESSION, "SH"),
    0x00080060: (Field.MODALITY, "CS"),
    0x00080061: (Field.MODALITIES, "CS"),
    0x00080062: (Field.SOP_CLASSES, "UI"),
    0x00080080: (Field.INSTITUTION, "LO"),
    0x00080090: (Field.REFERRING_PHYSICIAN, "PN"),
    0x00081010: (Field.STATION, "SH"),
    0x00081030: (Field.STUDY_DESCRIPTION, "LO"),
    0x0008103E: (Field.SERIES_DESCRIPTION, "LO"),
    0x00083002: (Field.TRANSFER_SYNTAX_UID, "UI"),
    0x00100010: (Field.PATIENT_NAME, "PN"),
    0x00100020: (Field.PATIENT_ID, "LO"),
    0x00100021: (Field.PATIENT_ISSUER, "LO"),
    0x00100030: (Field.PATIENT_BIRTH_DATE, "DA"),
    0x00100040: (Field.PATIENT_SEX, "CS"),
    0x00180015: (Field.BODY_PART, "CS"),
    0x0020000D: (Field.STUDY_UID, "UI"),
    0x0020000E: (Field.SERIES_UID, "UI"),
    0x00200010: (Field.STUDY_ID, "SH"),
    0x00200011: (Field.SERIES_NUMBER, "IS"),
    0x00200013: (Field.INSTANCE_NUMBER, "IS"),
    0x00201200: (Field.PATIENT_STUDIES, "IS"),
    0x00201202: (Field.PATIENT_SERIES, "IS"),
    0x00201204: (Field.PATIENT_INSTANCES, "IS"),
    0x00201206: (Field.STUDY_SERIES, "IS"),
    0x00201208: (Field.STUDY_INSTANCES, "IS"),
    0x00201209: (Field.SERIES_INSTANCES, "IS"),
}
NEVER_MATCHED: Final = frozenset(
    {
        Field.PATIENT_STUDIES,
        Field.PATIENT_SERIES,
        Field.PATIENT_INSTANCES,
        Field.STUDY_SERIES,
        Field.STUDY_INSTANCES,
        Field.SERIES_INSTANCES,
    }
)
UNIQUE: Final[Mapping[Level, int]] = {
    Level.PATIENT: 0x00100020,
    Level.STUDY: 0x0020000D,
    Level.SERIES: 0x0020000E,
    Level.IMAGE: 0x00080018,
}


def vr_of(tag: int) -> str:
    """A key's VR, empty for what no public dictionary knows and for group lengths."""
    if tag in KEYS:
        return KEYS[tag][1]
    if tag & 0xFFFF == 0 or tag >> 16 & 1:
        return ""
    try:
        return dictionary_VR(tag).split(" ")[0]
    except KeyError:
        return ""
