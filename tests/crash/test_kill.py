"""A daemon is killed with -9 at random moments while modalities store and policies move everything.

Whatever was acknowledged comes back afterwards, byte for byte. The seed is in every failure; another one
is chosen with HSM_CRASH_SEED. `make crash` is the long form: HSM_CRASH_KILLS says how many kills.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet

from hsm.catalog import chaincheck, check
from hsm.catalog.engine import Catalog, open_engine
from hsm.clock import SystemClock
from tests.story.archive import Archive, running, until

KILLS = int(os.environ.get("HSM_CRASH_KILLS", "3"))
MODALITIES = 3
ROOT = "1.2.826.0.1.3680043.8.498.77"
SEED = int(os.environ.get("HSM_CRASH_SEED", "20260101"))


def instance(study: int, number: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.StudyInstanceUID = f"{ROOT}.{study}"
    dataset.SeriesInstanceUID = f"{ROOT}.{study}.1"
    dataset.SOPInstanceUID = f"{ROOT}.{study}.1.{number}"
    dataset.PatientID = f"P{study}"
    dataset.PatientName = f"Kill^{study}"
    dataset.Modality = "CT"
    dataset.InstanceNumber = number
    dataset.PixelData = hashlib.sha256(f"{study} {number}".encode()).digest() * 400
    dataset["PixelData"].VR = "OW"
    return dataset


def digest(dataset: Dataset) -> str:
    encoded = encode(dataset, False, True)
    assert encoded is not None
    return hashlib.sha256(encoded).hexdigest()


class Modality(threading.Thread):
    """Stores one instance after the other for as long as the archive answers."""

    def __init__(self, port: int, study: int, first: int) -> None:
        super().__init__(daemon=True)
        self.port, self.study, self.number = port, study, first
        self.acknowledged: dict[str, str] = {}

    def run(self) -> None:
        ae = AE(f"CT{self.study}")
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 5
        association = ae.associate("127.0.0.1", self.port, ae_title="HSM")
        connection = association.dul.socket
        try:
            self._send(association)
        finally:
            association.kill()
            if connection is not None and connection.socket is not None:
                connection.socket.close()

    def _send(self, association: Association) -> None:
        while association.is_established:
            dataset = instance(self.study, self.number)
            self.number += 1
            try:
                status = association.send_c_store(dataset)
            except (RuntimeError, ValueError):
                return  # cut off in mid-sending
            if status and status.Status == 0:
                self.acknowledged[str(dataset.SOPInstanceUID)] = digest(dataset)


def retrieved(archive: Archive, study: int) -> dict[str, str]:
    """What a C-GET of the study brings: SOP Instance UID -> digest of the dataset's bytes."""
    got: dict[str, str] = {}

    def receive(event: evt.Event) -> int:
        got[str(event.request.AffectedSOPInstanceUID)] = hashlib.sha256(
            event.request.DataSet.getvalue()
        ).hexdigest()
        return 0

    ae = AE("DEST")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet, ExplicitVRLittleEndian)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    roles = [build_role(CTImageStorage, scp_role=True)]
    association = ae.associate(
        "127.0.0.1", archive.port, ae_title="HSM", ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, receive)]
    )
    assert association.is_established
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = f"{ROOT}.{study}"
    last = None
    for status, _ in association.send_c_get(identifier, StudyRootQueryRetrieveInformationModelGet):
        last = status
    association.release()
    assert last is not None
    assert last.get("Status") == 0, last
    return got


@pytest.mark.campaign
@pytest.mark.timeout(180 + 30 * KILLS)
def test_whatever_was_acknowledged_survives_kills_at_random_moments(sqlite_url: str, tmp_path: Path) -> None:
    dice = random.Random(SEED)
    archive = Archive(tmp_path / "home", sqlite_url)
    wanted: dict[int, dict[str, str]] = {study: {} for study in range(1, MODALITIES + 1)}
    first = 1
    for _ in range(KILLS):
        with running(archive):
            modalities = [Modality(archive.port, study, first) for study in wanted]
            for modality in modalities:
                modality.start()
            until(lambda all_=modalities: any(m.acknowledged for m in all_), "the first acknowledgement")  # type: ignore[misc]
            time.sleep(dice.uniform(0.2, 1.2))
            archive.kill()
            for modality in modalities:
                modality.join(20)
                wanted[modality.study] |= modality.acknowledged
            first = max(modality.number for modality in modalities) + 1
    assert sum(map(len, wanted.values())) > KILLS, f"seed {SEED}"
    with running(archive):
        for study, digests in wanted.items():
            if digests:
                got = retrieved(archive, study)
                lost = {uid for uid, value in digests.items() if got.get(uid) != value}
                assert not lost, f"seed {SEED}: acknowledged and gone: {sorted(lost)}"
        assert archive.stop() == 0
    print(f"{KILLS} kills, {sum(map(len, wanted.values()))} instances acknowledged, none lost (seed {SEED})")
    engine = open_engine(sqlite_url)
    try:
        with Catalog(engine, SystemClock()).read() as session:
            assert list(chaincheck.verify(session)) == []
            assert check.check(session) == []
    finally:
        engine.dispose()
