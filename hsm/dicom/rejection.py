"""Rejection notes: Key Object Selection documents that take instances out of use (IHE RAD TF-2, RAD-66; the
titles are of PS3.16 CID 7011)."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import Final

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from hsm.catalog.rejections import TITLES, Note, Reference
from hsm.dicom.elements import DEFLATED
from hsm.errors import BadInput
from hsm.log import get_logger

log = get_logger(__name__)

KEY_OBJECT_SELECTION: Final = "1.2.840.10008.5.1.4.1.1.88.59"
BYTES_MAX: Final = 32 << 20
"""A larger document is no rejection note."""
REFERENCES_MAX: Final = 100_000


def read_note(encoded: memoryview, transfer_syntax_uid: str) -> Note | None:
    """The rejection note that a Key Object Selection document is; None where it is another one.

    :raises BadInput: its title says that it is one, and what it names cannot be read.
    """
    if len(encoded) > BYTES_MAX:
        return None
    try:
        dataset = _read(bytes(encoded), transfer_syntax_uid)
        (title,) = dataset.ConceptNameCodeSequence
        scheme, code = str(title.CodingSchemeDesignator).strip(), str(title.CodeValue).strip()
    except Exception as error:  # noqa: BLE001  pydicom raises all sorts; it is kept like any other object
        log.warning("a Key Object Selection document whose title cannot be read is no rejection: %s", error)
        return None
    if scheme != "DCM" or code not in TITLES:
        return None
    try:
        references = tuple(dict.fromkeys(_references(dataset)))
        uid = str(dataset.SOPInstanceUID)
    except Exception as error:
        raise BadInput(f"a rejection note whose references cannot be read: {error}") from error
    if not 1 <= len(references) <= REFERENCES_MAX:
        raise BadInput(
            f"a rejection note with {len(references)} references in Current Requested Procedure Evidence "
            f"Sequence (0040,A375); expected 1 to {REFERENCES_MAX}"
        )
    return Note(uid, code, references)


def _read(encoded: bytes, transfer_syntax_uid: str) -> Dataset:
    syntax = UID(transfer_syntax_uid)
    if transfer_syntax_uid in DEFLATED:
        inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        encoded = inflater.decompress(encoded, BYTES_MAX)
    return read_dataset(io.BytesIO(encoded), syntax.is_implicit_VR, syntax.is_little_endian)


def _references(dataset: Dataset) -> Iterator[Reference]:
    for study in dataset.CurrentRequestedProcedureEvidenceSequence:
        for series in study.ReferencedSeriesSequence:
            for each in series.ReferencedSOPSequence:
                yield Reference(
                    str(study.StudyInstanceUID),
                    str(series.SeriesInstanceUID),
                    str(each.ReferencedSOPInstanceUID),
                )
