"""De-identification of one instance by the Basic Application Level Confidentiality Profile (PS3.15, E.2).

The table is ``basic_profile.txt``. Where it leaves a choice to the information object (``X/Z/D``), the
action that keeps the object valid is taken. Private elements, curves and overlays go; of the pixels
nothing is changed, so text that is burnt into them stays: see :func:`burned_in`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

from pydicom import dcmread, dcmwrite
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID

from drivers.optical.dicomdir import UNREADABLE
from hsm.errors import Permanent
from hsm.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

METHOD = ("PS3.15 Basic Application Confidentiality Profile", "Pixel data not cleaned")
_STANDARD_UIDS = "1.2.840.10008."
_DUMMIES: dict[str, object] = {
    "AE": "ANON", "AS": "000Y", "CS": "ANON", "DA": "19000101", "DS": "0", "DT": "19000101000000",
    "FD": 0.0, "FL": 0.0, "IS": "0", "LO": "ANONYMISED", "LT": "ANONYMISED", "OB": b"\0\0", "OW": b"\0\0",
    "PN": "ANONYMISED", "SH": "ANONYMISED", "SL": 0, "SS": 0, "ST": "ANONYMISED", "TM": "000000",
    "UC": "ANONYMISED", "UI": "", "UL": 0, "UN": b"", "UR": "urn:anonymised", "US": 0, "UT": "ANONYMISED",
}  # fmt: skip


@cache
def profile() -> dict[int, str]:
    """The action of table E.1-1 for each tag: ``D``, ``Z``, ``X`` or ``U``."""
    found: dict[int, str] = {}
    for line in Path(__file__).with_name("basic_profile.txt").read_text("ascii").splitlines():
        if line.startswith("#") or not line:
            continue
        action, *tags = line.split()
        for tag in tags:
            found[int(tag, 16)] = _settled(action)
    return found


def _settled(action: str) -> str:
    if "U*" in action:
        return "U"
    return next(letter for letter in "DZXU" if letter in action.split("/"))


class Anonymiser:
    """Replaces identities; the same UID becomes the same new one within one export, and no other.

    :param salt: random bytes, kept nowhere: without them nobody finds the old UIDs from the new.
    """

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._patients: dict[tuple[str, str], str] = {}

    def uid(self, old: str) -> str:
        """The new UID; those of the standard (classes, syntaxes) stay."""
        if not old or old.startswith(_STANDARD_UIDS):
            return old
        number = int.from_bytes(
            hashlib.sha256(self._salt + old.encode("utf-8", "replace")).digest()[:16], "big"
        )
        return f"2.25.{number}"

    def apply(self, part10: bytes) -> tuple[bytes, bool]:
        """The instance without its identities, and whether text may be burnt into its pixels.

        :raises Permanent: it cannot be read as DICOM, so nobody can say what is in it.
        """
        try:
            found = dcmread(io.BytesIO(part10))
            return self._applied(found)
        except UNREADABLE as error:
            raise Permanent(f"cannot be anonymised: {type(error).__name__}: {error}") from error

    def _applied(self, found: Dataset) -> tuple[bytes, bool]:
        suspicious = burned_in(found)
        patient = self._patient(found)
        self._clean(found)
        found.PatientID, found.PatientName = patient, patient
        found.PatientIdentityRemoved = "YES"
        found.DeidentificationMethod = list(METHOD)
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator = "113100", "DCM"
        code.CodeMeaning = "Basic Application Confidentiality Profile"
        found.DeidentificationMethodCodeSequence = Sequence([code])
        found.LongitudinalTemporalInformationModified = "REMOVED"
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = found.file_meta.MediaStorageSOPClassUID
        meta.MediaStorageSOPInstanceUID = UID(self.uid(found.file_meta.MediaStorageSOPInstanceUID))
        meta.TransferSyntaxUID = found.file_meta.TransferSyntaxUID
        meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
        meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
        found.file_meta = meta
        found.preamble = b"\0" * 128
        target = io.BytesIO()
        dcmwrite(target, found, enforce_file_format=True)
        return target.getvalue(), suspicious

    def _patient(self, found: Dataset) -> str:
        key = (str(found.get("PatientID", "")), str(found.get("PatientName", "")))
        return self._patients.setdefault(key, f"ANON{len(self._patients) + 1:04d}")

    def _clean(self, dataset: Dataset) -> None:
        for tag in list(dataset.keys()):
            action = _action(tag)
            if action == "X":
                del dataset[tag]
                continue
            element = dataset[tag]
            if element.VR == "SQ":
                self._clean_sequence(dataset, element, action)
            elif action == "Z":
                element.value = _empty(element)
            elif action == "D":
                element.value = _DUMMIES.get(element.VR, "")
            elif element.VR == "UI":
                element.value = self._uids(element.value)
            elif element.VR == "PN":  # a name that the table does not know of
                element.value = ""

    def _clean_sequence(self, dataset: Dataset, element: DataElement, action: str) -> None:
        if action == "Z":
            dataset[element.tag].value = Sequence([])
            return
        for item in element.value or ():
            self._clean(item)

    def _uids(self, value: object) -> object:
        if isinstance(value, str):
            return self.uid(value)
        return [self.uid(str(each)) for each in value] if value else value  # type: ignore[attr-defined]


def _action(tag: BaseTag) -> str:
    if tag.is_private or 0x5000 <= tag.group <= 0x50FF:
        return "X"
    if 0x6000 <= tag.group <= 0x60FF and tag.element in (0x3000, 0x4000):
        return "X"
    return profile().get(int(tag), "")


def _empty(element: DataElement) -> object:
    return b"" if element.VR in ("OB", "OW", "UN") else None


def burned_in(dataset: Dataset) -> bool:
    """Whether Burned In Annotation (0028,0301) leaves it open that the pixels show who the patient is, in an
    object that has pixels or a document at all."""
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "EncapsulatedDocument")):
        return False
    return str(dataset.get("BurnedInAnnotation", "")).upper() != "NO"


Apply = Callable[[bytes], tuple[bytes, bool]]
