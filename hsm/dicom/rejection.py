"""Rejection notes: Key Object Selection documents that take instances out of use (IHE RAD TF-2, RAD-66; the
titles are of PS3.16 CID 7011)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydicom.sequence import Sequence

from hsm.catalog.rejections import TITLES, Note, Reference
from hsm.dicom.sequences import find_elements, read_items
from hsm.errors import BadInput
from hsm.log import get_logger

log = get_logger(__name__)

KEY_OBJECT_SELECTION: Final = "1.2.840.10008.5.1.4.1.1.88.59"
REFERENCES_MAX: Final = 100_000
TITLE_BYTES_MAX, TITLE_ITEMS_MAX = 64 << 10, 100
"""A title is one code; a longer one is none that we know."""
_ITEMS_MAX: Final = 3 * REFERENCES_MAX
_TITLE: Final = 0x0040A043
_EVIDENCE: Final = 0x0040A375


def read_title(encoded: memoryview, transfer_syntax_uid: str) -> str:
    """The Code Value of the title by which a Key Object Selection document is a rejection note; empty where
    it is another one. Costs no more memory than the document has bytes."""
    try:
        element = find_elements(encoded, transfer_syntax_uid, _TITLE)[_TITLE]
        (title,) = read_items(element, transfer_syntax_uid, TITLE_ITEMS_MAX, TITLE_BYTES_MAX)
        scheme, code = str(title.CodingSchemeDesignator).strip(), str(title.CodeValue).strip()
    except Exception as error:  # noqa: BLE001  pydicom raises all sorts; it is kept like any other object
        log.warning("a Key Object Selection document whose title cannot be read is no rejection: %s", error)
        return ""
    return code if scheme == "DCM" and code in TITLES else ""


def read_note(encoded: memoryview, transfer_syntax_uid: str, code: str, sop_instance_uid: str) -> Note:
    """The rejection note with this title.

    :raises BadInput: what it names cannot be read.
    """
    try:
        element = find_elements(encoded, transfer_syntax_uid, _EVIDENCE).get(_EVIDENCE)
        if element is None:
            raise BadInput("Current Requested Procedure Evidence Sequence (0040,A375) is missing")
        references = tuple(dict.fromkeys(_references(read_items(element, transfer_syntax_uid, _ITEMS_MAX))))
    except Exception as error:
        raise BadInput(f"a rejection note whose references cannot be read: {error}") from error
    if not 1 <= len(references) <= REFERENCES_MAX:
        raise BadInput(
            f"a rejection note with {len(references)} references in Current Requested Procedure Evidence "
            f"Sequence (0040,A375); expected 1 to {REFERENCES_MAX}"
        )
    return Note(sop_instance_uid, code, references)


def _references(evidence: Sequence) -> Iterator[Reference]:
    for study in evidence:
        for series in study.ReferencedSeriesSequence:
            for each in series.ReferencedSOPSequence:
                yield Reference(
                    str(study.StudyInstanceUID),
                    str(series.SeriesInstanceUID),
                    str(each.ReferencedSOPInstanceUID),
                )
