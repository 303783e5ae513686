"""C-STORE as SCP, PS3.4 annex B: a dataset's bytes, exactly as they came, go to ingest."""

from __future__ import annotations

from typing import Final, Protocol

from hsm.dicom.call import Call
from hsm.dicom.contexts import is_storage_class
from hsm.dicom.header import read_header
from hsm.dicom.rights import NOT_AUTHORIZED
from hsm.dicom.upperlayer import CappedBuffer
from hsm.errors import BadInput, Conflict, DriverError, HsmError, NoSpace
from hsm.ingest import StoreOutcome
from hsm.log import get_logger
from hsm.model import Header

log = get_logger(__name__)

# PS3.4 table B.2-1 and PS3.7 annex C.
SUCCESS: Final = 0x0000
PROCESSING_FAILURE: Final = 0x0110
DUPLICATE_INSTANCE: Final = 0x0111
CLASS_NOT_SUPPORTED: Final = 0x0122
OUT_OF_RESOURCES: Final = 0xA700
NOT_OF_ITS_CLASS: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000


class Ingest(Protocol):
    """Where received instances become durable; :class:`hsm.ingest.Ingest` is one."""

    def store(
        self, header: Header, transfer_syntax_uid: str, dataset: bytes | memoryview, source_ae: str
    ) -> StoreOutcome: ...


class Mismatch(HsmError):
    """The request names another instance or class than its dataset does."""


class Storage:
    """Answers C-STORE requests."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def serve(self, call: Call, rights: frozenset[str]) -> None:
        """Store one instance and answer; success is sent only after ingest says it is durable."""
        request = call.request
        if "store" not in rights:
            call.reply(NOT_AUTHORIZED, f"{call.calling} may not store")
            return
        if not is_storage_class(call.abstract_syntax):
            call.reply(CLASS_NOT_SUPPORTED)
            return
        uid = str(request.AffectedSOPInstanceUID)
        try:
            outcome = self._store(call)
        except (HsmError, DriverError) as error:
            status = status_of(error)
            log.warning("C-STORE of %s from %s refused (%04X): %s", uid, call.calling, status, error)
            call.reply(status, str(error))
        except Exception:
            log.exception("C-STORE of %s from %s failed", uid, call.calling)
            call.reply(PROCESSING_FAILURE, "internal error, see the archive's log")
        else:
            log.debug("C-STORE of %s from %s: %s", uid, call.calling, outcome.value)
            call.reply(SUCCESS)

    def _store(self, call: Call) -> StoreOutcome:
        buffer = call.request.DataSet
        if isinstance(buffer, CappedBuffer) and buffer.overflowed:
            raise NoSpace("dataset is larger than max_dataset_bytes allows")
        dataset = buffer.getvalue()
        if not dataset:
            raise BadInput("C-STORE without a dataset")
        header = read_header(dataset, call.transfer_syntax)
        named = (call.request.AffectedSOPClassUID, call.request.AffectedSOPInstanceUID)
        check_identity(header, *(str(uid).strip(" \0") for uid in named))
        return self._ingest.store(header, call.transfer_syntax, dataset, call.calling)


def check_identity(header: Header, sop_class_uid: str, sop_instance_uid: str) -> None:
    """:raises Mismatch: the command's Affected SOP Class or Instance UID is not the dataset's."""
    if sop_class_uid != header.sop_class_uid:
        raise Mismatch(f"SOP Class UID {header.sop_class_uid} in the dataset of a {sop_class_uid}")
    if sop_instance_uid != header.sop_instance_uid:
        raise Mismatch(f"SOP Instance UID {header.sop_instance_uid} in the dataset of {sop_instance_uid}")


def status_of(error: Exception) -> int:
    """The C-STORE status that tells a peer what went wrong and whether to come again."""
    match error:
        case Mismatch():
            return NOT_OF_ITS_CLASS
        case BadInput():
            return CANNOT_UNDERSTAND
        case Conflict():
            return DUPLICATE_INSTANCE
        case NoSpace():
            return OUT_OF_RESOURCES
        case _:
            return PROCESSING_FAILURE
