"""Modalities whose instances can be computed again from their numbers, and a peer that gets them."""

from __future__ import annotations

import functools
import hashlib
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet

from hsm.bench.ingest_sender import CT, EXPLICIT, Sender, command, header
from hsm.part10 import file_head

ROOT = "1.2.826.0.1.3680043.8.498.79"
STUDY_INSTANCES = 12
"""After so many the next study begins, so that the one before is sealed, copied and released."""
HALF_MEBIBYTE = 1 << 19


@dataclass(frozen=True)
class Stored:
    """What was sent: everything that can be asked about it is computed from its numbers."""

    study: int
    number: int

    @property
    def study_uid(self) -> str:
        return f"{ROOT}.{self.study}"

    @property
    def uid(self) -> str:
        return f"{self.study_uid}.1.{self.number}"

    def dataset(self) -> bytes:
        noise = hashlib.sha256(self.uid.encode()).digest()
        # Every eighth comes in several pieces, so that a kill can cut it in two.
        pixels = noise * (HALF_MEBIBYTE // 32 if self.number % 8 == 7 else 300)
        return header(self.study_uid, self.uid, len(pixels)) + pixels

    @functools.cache  # noqa: B019  they live as long as the campaign
    def digests(self) -> tuple[bytes, str]:
        """Of the file, as the catalog has it, and of the dataset."""
        dataset = self.dataset()
        return hashlib.sha256(file_head(CT, self.uid, EXPLICIT) + dataset).digest(), _digest(dataset)


class Line(Sender):
    """One association."""

    def __init__(self, port: int) -> None:
        """:raises OSError, ConnectionError: the archive is gone."""
        try:
            super().__init__(port, ROOT)
        except BaseException:
            if hasattr(self, "_sock"):
                self._sock.close()
            raise

    def store(self, stored: Stored) -> int:
        """The status of the response.

        :raises OSError, ConnectionError: the archive is gone.
        """
        self._uid = stored.uid
        request = self._pdus(3, command(stored.uid)) + self._pdus(2, stored.dataset())
        self._sock.sendall(request)
        kind, body = self._read()
        at = body.find(struct.pack("<HHL", 0, 0x0900, 2))
        if kind != 4 or at < 0:
            raise ConnectionError(f"PDU type {kind}")
        return int.from_bytes(body[at + 8 : at + 10], "little")

    def _pdus(self, last: int, data: bytes) -> bytes:
        pieces = []
        for start in range(0, len(data), self._fragment):
            piece = data[start : start + self._fragment]
            control = last if start + self._fragment >= len(data) else last & 1
            pdv = struct.pack(">LBB", len(piece) + 2, 1, control) + piece
            pieces.append(struct.pack(">BBL", 4, 0, len(pdv)) + pdv)
        return b"".join(pieces)

    def drop(self) -> None:
        self._sock.close()


class Modality(threading.Thread):
    """Stores one instance after the other; one that got no success is sent again, by its next life too."""

    def __init__(
        self, port: int, study: int, owed: list[Stored], connect: Callable[[int], Line] = Line
    ) -> None:
        super().__init__(daemon=True)
        self._port, self._study, self._connect = port, study, connect
        self.owed = owed
        self.acknowledged: list[Stored] = []
        self.refused = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.stopping.is_set():
            try:
                line = self._connect(self._port)
            except (OSError, ConnectionError):
                time.sleep(0.02)
                continue
            try:
                while not self.stopping.is_set():
                    if not self.owed:
                        number += 1
                        study = self._study + (number - 1) // STUDY_INSTANCES
                        self.owed.append(Stored(study, number))
                    status = line.store(self.owed[0])
                    if status == 0:
                        self.acknowledged.append(self.owed.pop(0))
                    else:
                        self.refused += 1
                        self.owed.append(self.owed.pop(0))
            except (OSError, ConnectionError):
                continue
            finally:
                line.drop()


def retrieve(port: int, study_uid: str) -> dict[str, str]:
    """What a C-GET of the study brings: SOP Instance UID -> digest of the dataset's bytes."""
    got: dict[str, str] = {}

    def receive(event: evt.Event) -> int:
        data = event.request.DataSet.getvalue()
        got[str(event.request.AffectedSOPInstanceUID)] = _digest(data)
        return 0

    ae = AE("DEST")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet, ExplicitVRLittleEndian)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate(
        "127.0.0.1",
        port,
        ae_title="HSM",
        ext_neg=[build_role(CTImageStorage, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, receive)],
    )
    assert association.is_established
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = study_uid
    answers = association.send_c_get(identifier, StudyRootQueryRetrieveInformationModelGet)
    last = [status for status, _ in answers][-1]
    association.release()
    assert last.get("Status") == 0, last
    return got


def stored_as(uid: str) -> Stored:
    study, _, number = uid.removeprefix(ROOT + ".").split(".")
    return Stored(int(study), int(number))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
