"""The demo's modality and workstation: it stores, queries, moves, and receives what is moved to it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import encode

# PS3.4 section C.6.2.2: the Study Root information models.
FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
MOVE = UID("1.2.840.10008.5.1.4.1.2.2.2")
TITLE = "DEMO"
MOVE_SECONDS_MAX = 120.0
PENDING = (0xFF00, 0xFF01)


class PeerError(Exception):
    """The archive did not answer as the demo expects."""


@dataclass
class Moved:
    """How a C-MOVE goes."""

    pending: int = 0
    status: int | None = None
    failed: str = ""
    ended: threading.Event = field(default_factory=threading.Event)


def dataset_bytes(image: Dataset) -> bytes:
    """The dataset as it goes over the wire in Explicit VR Little Endian."""
    found: bytes | None = encode(image, False, True)
    if found is None:
        raise PeerError(f"instance {image.SOPInstanceUID} cannot be encoded")
    return found


class Peer:
    """An AE on this machine. :meth:`listen` first; ``port`` is where it receives."""

    def __init__(self) -> None:
        self.port = 0
        self.received: dict[str, bytes] = {}
        """SOP Instance UID -> bytes of the dataset as received."""
        self._server: Any = None

    def listen(self) -> None:
        ae = AE(TITLE)
        for sop_class in (CTImageStorage, MRImageStorage):
            ae.add_supported_context(sop_class, ExplicitVRLittleEndian)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._receive)]
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self._server.server_address[1]

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()

    def _receive(self, event: evt.Event) -> int:
        request: Any = event.request
        self.received[request.AffectedSOPInstanceUID] = request.DataSet.getvalue()
        return 0x0000

    def store(self, port: int, images: Iterable[Dataset], called: str) -> int:
        """C-STORE every image; returns how many were acknowledged."""
        association = self._associate(port, called, (CTImageStorage, MRImageStorage))
        try:
            done = 0
            for image in images:
                status = association.send_c_store(image)
                if getattr(status, "Status", None) != 0x0000:
                    raise PeerError(f"C-STORE was answered with {_shown(status)}")
                done += 1
            return done
        finally:
            association.release()

    def find(self, port: int, uid: str, called: str) -> Dataset:
        """C-FIND at study level (PS3.4 section C.4.1) with the attributes that tell of tiers."""
        query = Dataset()
        query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", uid
        query.InstanceAvailability = query.StorageMediaFileSetID = ""
        association = self._associate(port, called, (FIND,))
        try:
            for status, answer in association.send_c_find(query, FIND):
                if getattr(status, "Status", None) in PENDING and answer is not None:
                    return answer
        finally:
            association.release()
        raise PeerError(f"C-FIND does not know study {uid}")

    def move(self, port: int, uid: str, called: str) -> Moved:
        """Begin a C-MOVE of a study to this AE; it goes on in a thread."""
        moved = Moved()
        association = self._associate(port, called, (MOVE,))
        query = Dataset()
        query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", uid
        threading.Thread(target=_follow, args=(association, query, moved), daemon=True).start()
        return moved

    def _associate(self, port: int, called: str, classes: Iterable[str]) -> Association:
        ae = AE(TITLE)
        for sop_class in classes:
            ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
        ae.acse_timeout = 10
        ae.dimse_timeout = MOVE_SECONDS_MAX
        association = ae.associate("127.0.0.1", port, ae_title=called)
        if not association.is_established:
            raise PeerError(f"{called} on port {port} did not accept the association")
        return association


def _follow(association: Association, query: Dataset, moved: Moved) -> None:
    try:
        for status, _ in association.send_c_move(query, TITLE, MOVE):
            code = getattr(status, "Status", None)
            if code in PENDING:
                moved.pending += 1
            else:
                moved.status = code
    except (RuntimeError, ValueError) as error:
        moved.failed = str(error)
    finally:
        association.release()
        moved.ended.set()


def _shown(status: Dataset) -> str:
    return f"status 0x{status.Status:04X}" if "Status" in status else "nothing"
