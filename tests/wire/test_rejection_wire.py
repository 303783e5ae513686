"""Rejection notes (IHE IOCM) over real associations: who may, what is hidden from whom, and the counts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as Items
from pynetdicom import evt
from sqlalchemy import select
from wire_fakes import CT, EXPLICIT, IMPLICIT, FakeCommitments, FakeDeliveries, quick_config, small_dataset
from wire_peers import STUDY_FIND, STUDY_GET, associated, send_raw

from drivers.folder import FolderStore
from hsm.catalog import deletions, media, rejections
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Instance
from hsm.clock import SystemClock
from hsm.dicom.find import handle_find
from hsm.dicom.lookup import CatalogSelect
from hsm.dicom.rejection import KEY_OBJECT_SELECTION
from hsm.dicom.server import DicomServer
from hsm.ingest import Ingest
from hsm.model import Layout, Place, Tier
from hsm.pools import DiskPool, Pools
from hsm.reader import Reader
from hsm.recall import Recall
from hsm.retrieval import Retrievals
from hsm.staging import Staging
from hsm.states import VolumeState
from hsm.wake import Bell

STUDY, SERIES = "1.2.3", "1.2.3.1"
IMAGES = ("1.2.3.1.1", "1.2.3.1.2", "1.2.3.1.3")


@pytest.fixture
def port(sqlite_catalog: Catalog, tmp_path: Path) -> Iterator[int]:
    """An archive with one study of three images."""
    catalog, root = sqlite_catalog, tmp_path / "online"
    root.mkdir()
    with catalog.write() as session:
        volume = media.VolumeRef(
            0, "online", "u-1", "online", VolumeState.ACTIVE, False, 2**40, 0, None, Place.MOUNTED, None, ""
        )
        pk = media.add_volume(session, volume, catalog.clock.now(), "test")
    pool = DiskPool("online", Tier.ONLINE, Layout.FILES, root, FolderStore(root), pk)
    pools = Pools({"online": pool}, {}, {})
    bell, staging = Bell(), Staging(tmp_path / "staging", 2**30)
    reader, ingest = Reader(catalog, pools, staging), Ingest(catalog, pool, "keep both")
    every = ["echo", "store", "find", "get", "move"]
    peer = {"host": "127.0.0.1", "port": 4}
    server = DicomServer(
        quick_config(
            aes=[
                {"ae_title": "EDITOR", "may": [*every, "reject"], **peer},
                {"ae_title": "QA", "may": [*every, "see rejected"], **peer},
            ]
        ),
        "HSM",
        ingest,
        CatalogSelect(catalog),
        partial(handle_find, catalog=catalog, ae_title="HSM", reach=reader.reach),
        Retrievals(catalog, reader, Recall(catalog, staging, reader, bell), staging, bell),
        FakeDeliveries(),
        FakeCommitments(),
        SystemClock(),
    )
    server.start()
    with associated(server.port, [(CT, [EXPLICIT])]) as assoc:
        for uid in IMAGES:
            assert send_raw(assoc, CT, uid, small_dataset(uid, STUDY, SERIES), EXPLICIT).Status == 0
    yield server.port
    server.stop(0.0)
    ingest.close()


def note(code: str, uids: Sequence[str] = IMAGES[:1], uid: str = "1.2.3.9.1") -> bytes:
    """A rejection note of the study, as a dataset."""
    dataset, title, study, series = Dataset(), Dataset(), Dataset(), Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = code, "DCM", "a title"
    series.SeriesInstanceUID, series.ReferencedSOPSequence = SERIES, Items()
    for each in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, each
        series.ReferencedSOPSequence.append(item)
    study.StudyInstanceUID, study.ReferencedSeriesSequence = STUDY, Items([series])
    dataset.SOPClassUID, dataset.SOPInstanceUID = KEY_OBJECT_SELECTION, uid
    dataset.PatientID, dataset.StudyInstanceUID = "4711", STUDY
    dataset.SeriesInstanceUID, dataset.Modality = "1.2.3.9", "KO"
    dataset.ConceptNameCodeSequence = Items([title])
    dataset.CurrentRequestedProcedureEvidenceSequence = Items([study])
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, False
    write_dataset(file, dataset)
    return file.getvalue()


def reject(port: int, dataset: bytes, calling: str = "EDITOR", uid: str = "1.2.3.9.1") -> Any:
    with associated(port, [(KEY_OBJECT_SELECTION, [EXPLICIT])], calling=calling) as assoc:
        return send_raw(assoc, KEY_OBJECT_SELECTION, uid, dataset, EXPLICIT)


def query(port: int, level: str, calling: str = "WS1") -> list[Dataset]:
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = level, STUDY
    identifier.NumberOfStudyRelatedInstances = identifier.NumberOfStudyRelatedSeries = None
    identifier.ModalitiesInStudy = None
    if level != "STUDY":
        identifier.SeriesInstanceUID = SERIES
        identifier.NumberOfSeriesRelatedInstances = None
    if level == "IMAGE":
        identifier.SOPInstanceUID = None
    with associated(port, [(STUDY_FIND, [IMPLICIT])], calling=calling) as assoc:
        return [each for _, each in assoc.send_c_find(identifier, STUDY_FIND) if each is not None]


def images(port: int, calling: str = "WS1") -> list[str]:
    return sorted(str(each.SOPInstanceUID) for each in query(port, "IMAGE", calling))


def got(port: int, calling: str = "WS1") -> list[str]:
    """What a C-GET of the study brings."""
    uids: list[str] = []

    def keep(event: Any) -> int:
        uids.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", STUDY
    kinds = [(STUDY_GET, [IMPLICIT]), (CT, [EXPLICIT]), (KEY_OBJECT_SELECTION, [EXPLICIT])]
    with associated(
        port, kinds, calling=calling, scp_roles=[CT, KEY_OBJECT_SELECTION], handlers=[(evt.EVT_C_STORE, keep)]
    ) as assoc:
        list(assoc.send_c_get(identifier, STUDY_GET))
    return sorted(uids)


def test_who_has_no_right_to_it_rejects_nothing_and_nothing_is_kept(port: int) -> None:
    answer = reject(port, note("113001"), "CT1")
    assert answer.Status == 0x0124 and "may not reject" in answer.ErrorComment
    assert images(port) == list(IMAGES)
    assert got(port) == list(IMAGES), "nor is the note"


def test_what_is_rejected_for_quality_is_seen_by_who_may(port: int) -> None:
    assert reject(port, note("113001")).Status == 0
    assert images(port) == list(IMAGES[1:])
    assert images(port, "QA") == list(IMAGES)
    assert [each.NumberOfStudyRelatedInstances for each in query(port, "STUDY")] == [3], "the note is one"
    assert [each.NumberOfStudyRelatedInstances for each in query(port, "STUDY", "QA")] == [4]
    assert [each.NumberOfSeriesRelatedInstances for each in query(port, "SERIES")] == [2]
    assert [each.NumberOfSeriesRelatedInstances for each in query(port, "SERIES", "QA")] == [3]
    assert got(port) == [*IMAGES[1:], "1.2.3.9.1"]
    assert got(port, "QA") == [*IMAGES, "1.2.3.9.1"]


@pytest.mark.parametrize("code", ["113037", "113038"])
def test_what_is_rejected_for_safety_or_a_wrong_worklist_is_seen_by_nobody(port: int, code: str) -> None:
    assert reject(port, note(code, IMAGES)).Status == 0
    for calling in ("WS1", "QA"):
        assert images(port, calling) == []
        assert query(port, "SERIES", calling) == []
        assert [each.NumberOfStudyRelatedSeries for each in query(port, "STUDY", calling)] == [1]
        assert [each.ModalitiesInStudy for each in query(port, "STUDY", calling)] == ["KO"]
        assert got(port, calling) == ["1.2.3.9.1"], "the note itself is kept and can be had"


def test_a_study_whose_retention_has_expired_goes_into_the_trash_with_the_last_of_it(
    port: int, sqlite_catalog: Catalog
) -> None:
    assert reject(port, note("113039", IMAGES[:2])).Status == 0
    assert images(port) == [IMAGES[2]]
    assert reject(port, note("113039", IMAGES[2:], "1.2.3.9.2"), uid="1.2.3.9.2").Status == 0
    assert query(port, "STUDY") == [] and query(port, "STUDY", "QA") == []
    with sqlite_catalog.write() as session:
        (found,) = deletions.trash(session, 10)
        assert (found.study_uid, found.code, found.made_by) == (STUDY, "113039", "ae:EDITOR")
        now = sqlite_catalog.clock.now()
        deletions.undelete(session, STUDY, "kept after all", now, "anna")
    assert images(port) == list(IMAGES), "nothing of it stays rejected"


def test_the_same_note_again_changes_nothing_and_a_revocation_shows_everything(
    port: int, sqlite_catalog: Catalog
) -> None:
    assert [reject(port, note("113037")).Status for _ in range(2)] == [0, 0]
    assert images(port) == list(IMAGES[1:])
    with sqlite_catalog.write() as session:
        assert len(rejections.listing(session, 10)) == 1
        rejections.revoke(session, STUDY, "a mistake", sqlite_catalog.clock.now(), "anna")
    assert images(port) == list(IMAGES)


def test_what_is_sent_again_stays_rejected_and_other_bytes_are_refused(port: int) -> None:
    assert reject(port, note("113001")).Status == 0
    with associated(port, [(CT, [EXPLICIT])]) as assoc:
        same = small_dataset(IMAGES[0], STUDY, SERIES)
        assert send_raw(assoc, CT, IMAGES[0], same, EXPLICIT).Status == 0
        other = small_dataset(IMAGES[0], STUDY, SERIES, pixels=32)
        answer = send_raw(assoc, CT, IMAGES[0], other, EXPLICIT)
    assert answer.Status == 0x0124 and "rejected" in answer.ErrorComment
    assert images(port) == list(IMAGES[1:])


def test_what_comes_after_the_note_that_names_it_is_stored_and_hidden_for_its_reason(
    port: int, sqlite_catalog: Catalog
) -> None:
    late = ("1.2.3.1.4", "1.2.3.1.5")
    assert reject(port, note("113001", [*IMAGES[:1], late[0]])).Status == 0
    assert reject(port, note("113037", late[1:], "1.2.3.9.2"), uid="1.2.3.9.2").Status == 0
    with associated(port, [(CT, [EXPLICIT])]) as assoc:
        for uid in late:
            dataset = small_dataset(uid, STUDY, SERIES)
            answers = [send_raw(assoc, CT, uid, dataset, EXPLICIT).Status for _ in range(2)]
            assert answers == [0, 0]
            other = small_dataset(uid, STUDY, SERIES, pixels=32)
            assert send_raw(assoc, CT, uid, other, EXPLICIT).Status == 0x0124
    assert images(port) == list(IMAGES[1:])
    assert images(port, "QA") == [*IMAGES, late[0]], "rejected for quality, and that only"
    notes = ["1.2.3.9.1", "1.2.3.9.2"]
    assert got(port) == [*IMAGES[1:], *notes]
    assert [each.NumberOfStudyRelatedInstances for each in query(port, "STUDY")] == [4]
    with sqlite_catalog.read() as session:
        assert [(each.instances, each.awaited) for each in rejections.listing(session, 9)] == [(1, 0), (2, 0)]


def test_other_key_object_documents_are_plain_objects(port: int, sqlite_catalog: Catalog) -> None:
    assert reject(port, note("113000"), "CT1").Status == 0, "Of Interest rejects nothing"
    assert images(port) == list(IMAGES)
    with sqlite_catalog.read() as session:
        assert len(session.scalars(select(Instance.pk)).all()) == 4


@pytest.mark.skipif(shutil.which("findscu") is None, reason="DCMTK's findscu is not installed")
def test_dcmtk_finds_what_is_left_and_no_more(port: int) -> None:
    assert reject(port, note("113037")).Status == 0
    wanted = ("QueryRetrieveLevel=IMAGE", f"StudyInstanceUID={STUDY}", f"SeriesInstanceUID={SERIES}")
    keys = [part for each in (*wanted, "SOPInstanceUID") for part in ("-k", each)]
    done = subprocess.run(
        ["findscu", "-S", "-aet", "WS1", "-aec", "HSM", *keys, "127.0.0.1", str(port)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = done.stdout + done.stderr
    assert IMAGES[0] not in said and IMAGES[1] in said and IMAGES[2] in said
