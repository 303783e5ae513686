"""C-STORE as SCP, PS3.4 annex B: a dataset's bytes, exactly as they came, go to ingest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

from hsm.catalog.rejections import Note
from hsm.dicom.boundeddimse import CappedBuffer
from hsm.dicom.call import NOT_AUTHORIZED, Call
from hsm.dicom.header import read_header
from hsm.dicom.rejection import KEY_OBJECT_SELECTION, read_note, read_title
from hsm.dicom.rights import REJECT
from hsm.dicom.scan import Scan
from hsm.errors import (
    BadInput,
    CatalogAway,
    Conflict,
    DriverError,
    HsmError,
    NoSpace,
    OperatorNeeded,
    Refused,
)
from hsm.ingest import StoreOutcome
from hsm.log import get_logger
from hsm.model import Header
from hsm.service import OutOfService

log = get_logger(__name__)

# PS3.4 table B.2-1 and PS3.7 annex C.
SUCCESS: Final = 0x0000
PROCESSING_FAILURE: Final = 0x0110
DUPLICATE_INSTANCE: Final = 0x0111
OUT_OF_RESOURCES: Final = 0xA700
NOT_OF_ITS_CLASS: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000
PIECE_BYTES: Final = 1 << 20


class Arrival(Protocol):
    """One instance whose bytes come in; :class:`hsm.ingest.Arrival` is one."""

    def write(self, parts: Sequence[memoryview]) -> None: ...

    def dataset(self) -> AbstractContextManager[memoryview]: ...

    def keep(self, header: Header, source_ae: str) -> StoreOutcome: ...

    def close(self) -> None: ...


class Ingest(Protocol):
    """Where received instances become durable; :class:`hsm.ingest.Ingest` is one."""

    def begin(self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> Arrival: ...

    def require_rejectable(self, note: Note) -> None: ...

    def reject(self, note: Note, by: str) -> int: ...


class Mismatch(HsmError):
    """The request names another instance or class than its dataset does."""


def _tell_nobody(what: str, why: str) -> None:
    """Where refusals are noted nowhere."""


class Reception:
    """One C-STORE under way: takes the dataset as it comes, and has an answer when it is complete.

    Nothing that it is given makes it raise: what goes wrong is in the answer, and the rest of the
    dataset is let pass.
    """

    def __init__(
        self,
        ingest: Ingest,
        calling: str,
        transfer_syntax: str,
        sop_class_uid: str,
        sop_instance_uid: str,
        bytes_max: int,
        refusal: tuple[int, str] | None,
        may_reject: bool = False,
        on_refused: Callable[[str, str], None] = _tell_nobody,
    ) -> None:
        self._ingest = ingest
        self._calling = calling
        self._syntax = transfer_syntax
        self._class, self._uid = sop_class_uid, sop_instance_uid
        self._bytes_max = bytes_max
        self._refusal = refusal
        self._may_reject, self._on_refused = may_reject, on_refused
        self._scan = Scan(transfer_syntax)
        self._arrival: Arrival | None = None
        self._failure: Exception | None = None
        self.size = 0
        """Bytes of the dataset so far."""

    def feed(self, pieces: Sequence[memoryview]) -> None:
        """The next bytes of the dataset; they are not used after the call returns."""
        self.size += sum(map(len, pieces))
        if self._refusal is not None or self._failure is not None:
            return
        try:
            if self.size > self._bytes_max:
                raise NoSpace("dataset is larger than max_dataset_bytes allows")
            if self._arrival is None:
                self._arrival = self._ingest.begin(self._class, self._uid, self._syntax)
            for piece in pieces:
                self._scan.feed(piece)
            self._arrival.write(pieces)
        except Exception as error:  # noqa: BLE001  finish() tells it
            self._failure = error
            self._let_go()

    def finish(self) -> tuple[int, str]:
        """Keep the instance, whose dataset is complete; status and comment of the response.

        Success is said only after ingest says that it is durable.
        """
        if self._refusal is not None:
            return self._refusal
        try:
            outcome = self._keep()
        except (HsmError, DriverError) as error:
            status = status_of(error)
            log.warning("C-STORE of %s from %s refused (%04X): %s", self._uid, self._calling, status, error)
            return status, str(error)
        except Exception:
            log.exception("C-STORE of %s from %s failed", self._uid, self._calling)
            return PROCESSING_FAILURE, "internal error, see the archive's log"
        finally:
            self._let_go()
        log.debug("C-STORE of %s from %s: %s", self._uid, self._calling, outcome.value)
        return SUCCESS, ""

    def close(self) -> None:
        """The peer is gone: nothing is kept."""
        self._let_go()

    def _keep(self) -> StoreOutcome:
        if self._failure is not None:
            raise self._failure
        if self._arrival is None:
            raise BadInput("C-STORE without a dataset")
        header = self._scan.header()
        if header is None:
            with self._arrival.dataset() as dataset:
                header = read_header(dataset, self._syntax)
        check_identity(header, self._class, self._uid)
        note = self._note() if self._class == KEY_OBJECT_SELECTION else None
        outcome = self._arrival.keep(header, self._calling)
        if note is not None:
            hidden = self._ingest.reject(note, f"ae:{self._calling}")
            log.info("%s from %s rejects %d instances (%s)", self._uid, self._calling, hidden, note.code)
        return outcome

    def _note(self) -> Note | None:
        """The rejection note that this is, which can come into force.

        :raises Refused: who sends it may not reject, or what it names is held.
        :raises BadInput: what it names cannot be read.
        :raises NoSpace: it names too many instances that are not here.
        """
        assert self._arrival is not None
        with self._arrival.dataset() as dataset:
            title = read_title(dataset, self._syntax)
            if not title:
                return None
            if not self._may_reject:
                why = f"{self._calling} may not reject instances"
                self._on_refused(REJECT, why)
                raise Refused(why)
            note = read_note(dataset, self._syntax, title, self._uid)
        self._ingest.require_rejectable(note)
        return note

    def _let_go(self) -> None:
        arrival, self._arrival = self._arrival, None
        if arrival is not None:
            arrival.close()


class Storage:
    """Answers C-STORE requests."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def receive(
        self,
        calling: str,
        rights: frozenset[str],
        transfer_syntax: str,
        sop_class_uid: str,
        sop_instance_uid: str,
        bytes_max: int,
        on_refused: Callable[[str, str], None],
    ) -> Reception:
        """A C-STORE in a storage context begins.

        :param on_refused: told what was wanted and why it was refused.
        """
        refusal = None
        if "store" not in rights:
            refusal = (NOT_AUTHORIZED, f"{calling} may not store")
            on_refused("store", refusal[1])
        return Reception(
            self._ingest,
            calling,
            transfer_syntax,
            sop_class_uid,
            sop_instance_uid,
            bytes_max,
            refusal,
            REJECT in rights,
            on_refused,
        )

    def serve(self, call: Call, rights: frozenset[str]) -> None:
        """Store one instance that pynetdicom gathered, and answer."""
        request = call.request
        buffer = request.DataSet
        sop_class, sop_instance = (
            str(uid).strip(" \0") for uid in (request.AffectedSOPClassUID, request.AffectedSOPInstanceUID)
        )
        too_large = isinstance(buffer, CappedBuffer) and buffer.overflowed
        reception = self.receive(
            call.calling,
            rights,
            call.transfer_syntax,
            sop_class,
            sop_instance,
            -1 if too_large else sys.maxsize,
            call.on_refused,
        )
        dataset = memoryview(buffer.getvalue()) if buffer is not None else memoryview(b"")
        if dataset or too_large:
            reception.feed(
                [dataset[start : start + PIECE_BYTES] for start in range(0, len(dataset), PIECE_BYTES)]
            )
        call.reply(*reception.finish())


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
        case Refused():
            return NOT_AUTHORIZED
        case Conflict():
            return DUPLICATE_INSTANCE
        case NoSpace() | OutOfService() | OperatorNeeded() | CatalogAway():
            # Come again, when somebody has seen to it.
            return OUT_OF_RESOURCES
        case _:
            return PROCESSING_FAILURE
