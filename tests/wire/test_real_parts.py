"""The server joined to the real ingest, catalog and retrieval, on SQLite and on PostgreSQL."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pynetdicom import evt
from pynetdicom.dsutils import encode
from wire_fakes import (
    CHARSET_FILES,
    CT,
    EXPLICIT,
    FILES,
    IMPLICIT,
    FakeCommitments,
    FakeDeliveries,
    kinds_of,
    part10_parts,
    quick_config,
    small_dataset,
)
from wire_peers import (
    PATIENT_MOVE,
    STUDY_FIND,
    STUDY_GET,
    STUDY_MOVE,
    Raw,
    associate_rq,
    associated,
    counts,
    pdata,
    send_raw,
    store_command,
    study_identifier,
)
from wire_world import Receiver, eventually

from drivers.folder import FolderStore
from hsm.catalog import media
from hsm.catalog.engine import Catalog
from hsm.clock import SystemClock
from hsm.dicom.find import handle_find
from hsm.dicom.header import read_header
from hsm.dicom.lookup import CatalogSelect
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

MOVE = [(STUDY_MOVE, [IMPLICIT]), (PATIENT_MOVE, [IMPLICIT])]
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"


@dataclass
class Real:
    """An archive of one online pool."""

    server: DicomServer
    pool: DiskPool
    ingest: Ingest

    @property
    def port(self) -> int:
        return self.server.port

    def files(self) -> list[Path]:
        return [path for path in self.pool.root.rglob("*") if path.is_file() and path.suffix == ".dcm"]

    def leftovers(self) -> list[Path]:
        """Files that are neither settled nor made ahead."""
        self.ingest.settle()
        return [path for path in (self.pool.root / ".incoming").iterdir() if path.stat().st_size]


@pytest.fixture
def real(catalog: Catalog, tmp_path: Path, receiver: Receiver) -> Iterator[Real]:
    root = tmp_path / "online"
    root.mkdir()
    with catalog.write() as session:
        volume = media.VolumeRef(
            0, "online", "u-1", "online", VolumeState.ACTIVE, False, 2**40, 0, None, Place.MOUNTED, None, ""
        )
        volume_pk = media.add_volume(session, volume, catalog.clock.now(), "test")
    pool = DiskPool("online", Tier.ONLINE, Layout.FILES, root, FolderStore(root), volume_pk)
    pools = Pools({"online": pool}, {}, {})
    bell, staging = Bell(), Staging(tmp_path / "staging", 2**30)
    reader = Reader(catalog, pools, staging)
    ingest = Ingest(catalog, pool, "keep both")
    port = receiver.start([(CT, [EXPLICIT])])
    server = DicomServer(
        quick_config(aes=[{"ae_title": "DEST", "host": "127.0.0.1", "port": port, "deliver_later": False}]),
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
    yield Real(server, pool, ingest)
    server.stop(0.0)
    ingest.close()


def store(port: int, dataset: bytes, syntax: str = EXPLICIT, calling: str = "CT1") -> int:
    header = read_header(dataset, syntax)
    with associated(port, [(header.sop_class_uid, [syntax])], calling=calling) as assoc:
        answer = send_raw(assoc, header.sop_class_uid, header.sop_instance_uid, dataset, syntax)
    return int(answer.Status)


def move(port: int, identifier: Dataset, model: str = STUDY_MOVE) -> Dataset:
    with associated(port, MOVE) as assoc:
        *_, (status, _) = assoc.send_c_move(identifier, "DEST", model)
    return status


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_every_bundled_file_comes_back_from_the_archive_byte_for_byte(real: Real) -> None:
    sent: dict[str, tuple[str, bytes]] = {}
    with associated(real.port, kinds_of(FILES)) as assoc:
        for path in FILES:
            syntax, dataset = part10_parts(path)
            header = read_header(dataset, syntax)
            if header.sop_instance_uid in sent:
                continue  # another version of the same UID has its own test
            sent[header.sop_instance_uid] = (syntax, dataset)
            answer = send_raw(assoc, header.sop_class_uid, header.sop_instance_uid, dataset, syntax)
            assert answer.Status == 0, path.name
    got: dict[str, tuple[str, bytes]] = {}

    def keep(event: Any) -> int:
        request = event.request
        got[str(request.AffectedSOPInstanceUID)] = (
            str(event.context.transfer_syntax),
            request.DataSet.getvalue(),
        )
        return 0

    headers = {uid: read_header(dataset, syntax) for uid, (syntax, dataset) in sent.items()}
    kinds = kinds_of(FILES)
    with associated(
        real.port,
        [(STUDY_GET, [IMPLICIT]), *kinds],
        scp_roles=sorted({sop_class for sop_class, _ in kinds}),
        handlers=[(evt.EVT_C_STORE, keep)],
    ) as assoc:
        for study in sorted({header.study_uid for header in headers.values()}):
            *_, (status, _) = assoc.send_c_get(study_identifier(study), STUDY_GET)
            assert status.Status == 0, (study, status)
    assert got == sent


@pytest.fixture
def two_studies(real: Real) -> Real:
    """Two series of two instances in 1.2.3, one instance in 1.2.4; both of patient 4711."""
    for study, series, uid in (
        ("1.2.3", "1.2.3.1", "1.2.3.1.1"),
        ("1.2.3", "1.2.3.1", "1.2.3.1.2"),
        ("1.2.3", "1.2.3.2", "1.2.3.2.1"),
        ("1.2.3", "1.2.3.2", "1.2.3.2.2"),
        ("1.2.4", "1.2.4.1", "1.2.4.1.1"),
    ):
        assert store(real.port, small_dataset(uid, study, series)) == 0
    return real


@pytest.mark.parametrize(
    ("model", "keys", "number"),
    [
        (STUDY_MOVE, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.3"}, 4),
        (STUDY_MOVE, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ["1.2.3", "1.2.4"]}, 5),
        (STUDY_MOVE, {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": "1.2.3",
                      "SeriesInstanceUID": "1.2.3.2"}, 2),
        (STUDY_MOVE, {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": "1.2.3",
                      "SeriesInstanceUID": "1.2.3.1",
                      "SOPInstanceUID": ["1.2.3.1.2", "1.2.3.1.1"]}, 2),
        (STUDY_MOVE, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.404"}, 0),
        (PATIENT_MOVE, {"QueryRetrieveLevel": "PATIENT", "PatientID": "4711"}, 5),
        (PATIENT_MOVE, {"QueryRetrieveLevel": "STUDY", "PatientID": "4711",
                        "StudyInstanceUID": "1.2.4"}, 1),
        (PATIENT_MOVE, {"QueryRetrieveLevel": "STUDY", "PatientID": "NOBODY",
                        "StudyInstanceUID": "1.2.4"}, 0),
    ],
)  # fmt: skip
def test_a_move_takes_what_its_level_names(
    two_studies: Real, receiver: Receiver, model: str, keys: dict[str, Any], number: int
) -> None:
    identifier = Dataset()
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    status = move(two_studies.port, identifier, model)
    assert (status.Status, counts(status)) == (0x0000, (None, number, 0, 0))
    assert len(receiver.received) == number


@pytest.mark.parametrize(
    "keys",
    [
        {"QueryRetrieveLevel": "STUDY"},
        {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""},
        {"QueryRetrieveLevel": "PATIENT", "PatientID": "4711"},
        {"QueryRetrieveLevel": "NONSENSE", "StudyInstanceUID": "1.2.3"},
        {"StudyInstanceUID": "1.2.3"},
        {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": "1.2.3"},
    ],
)
def test_an_identifier_that_does_not_fit_its_model_is_refused(
    two_studies: Real, receiver: Receiver, keys: dict[str, str]
) -> None:
    identifier = Dataset()
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    status = move(two_studies.port, identifier)
    assert status.Status == 0xA900
    assert status.ErrorComment
    assert receiver.received == []


def find(port: int, identifier: Dataset, syntax: str = IMPLICIT) -> tuple[list[Dataset], Dataset]:
    with associated(port, [(STUDY_FIND, [syntax])]) as assoc:
        *matches, (final, _) = assoc.send_c_find(identifier, STUDY_FIND)
    return [found for _, found in matches if found is not None], final


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_a_find_is_answered_in_each_transfer_syntax(two_studies: Real, syntax: str) -> None:
    identifier = study_identifier("", NumberOfStudyRelatedInstances="", PatientName="doe^*")
    matches, final = find(two_studies.port, identifier, syntax)
    assert final.Status == 0x0000
    found = {each.StudyInstanceUID: int(each.NumberOfStudyRelatedInstances) for each in matches}
    assert found == {"1.2.3": 4, "1.2.4": 1}
    assert {each.InstanceAvailability for each in matches} == {"ONLINE"}
    assert {each.RetrieveAETitle for each in matches} == {"HSM"}


def test_a_find_that_does_not_fit_its_model_is_refused_with_the_tag(two_studies: Real) -> None:
    matches, final = find(two_studies.port, study_identifier("", level="PATIENT"))
    assert (matches, final.Status) == ([], 0xA900)
    assert "(0008,0052)" in final.ErrorComment


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(
    "name", ["chrH31.dcm", "chrX1.dcm", "chrX2.dcm", "chrFren.dcm", "chrKoreanMulti.dcm"]
)
def test_a_name_in_its_own_script_comes_back_from_find_as_it_is_in_the_file(real: Real, name: str) -> None:
    syntax, dataset = part10_parts(CHARSET_FILES / name)
    written = str(dcmread(CHARSET_FILES / name).PatientName)
    assert store(real.port, dataset, syntax) == 0
    (match,), _ = find(real.port, study_identifier("", PatientName=""))
    assert str(match.PatientName) == written


def test_the_same_instance_again_is_a_success_and_one_file(real: Real) -> None:
    dataset = small_dataset("1.2.9")
    assert [store(real.port, dataset), store(real.port, dataset, calling="CT2")] == [0, 0]
    assert len(real.files()) == 1


@pytest.mark.parametrize(
    ("rule", "status", "files"), [("reject", 0x0111, 1), ("keep first", 0, 1), ("keep both", 0, 2)]
)
def test_other_bytes_under_the_same_uid_follow_the_rule(
    real: Real, receiver: Receiver, rule: Any, status: int, files: int
) -> None:
    real.ingest.same_uid = rule
    first, second = small_dataset("1.2.9", pixels=64), small_dataset("1.2.9", pixels=66)
    assert store(real.port, first) == 0
    assert store(real.port, second) == status
    assert len(real.files()) == files
    assert move(real.port, study_identifier("1.2.3")).Status == 0
    ((_, _, sent),) = receiver.received
    assert sent == (second if rule == "keep both" else first)


def test_one_instance_from_many_peers_at_once_is_stored_once(real: Real) -> None:
    dataset = small_dataset("1.2.9", pixels=200_000)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: statuses.append(store(real.port, dataset, calling=f"CT{n}")))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert statuses == [0] * 6
    assert len(real.files()) == 1
    assert real.leftovers() == []


def test_success_means_that_the_bytes_are_on_disk_and_in_the_catalog(real: Real, catalog: Catalog) -> None:
    dataset = small_dataset("1.2.9")
    assert store(real.port, dataset) == 0
    (path,) = real.files()
    part10 = path.read_bytes()
    assert part10.endswith(dataset)
    select = CatalogSelect(catalog)
    identifier = encode(study_identifier("1.2.3"), True, True)
    assert identifier is not None
    (instance,) = select(identifier, IMPLICIT, STUDY_MOVE)
    assert instance.digest == hashlib.sha256(part10).digest()


def test_a_file_that_was_damaged_on_disk_never_reaches_a_peer(real: Real, receiver: Receiver) -> None:
    assert store(real.port, small_dataset("1.2.9")) == 0
    (path,) = real.files()
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.chmod(0o640)
    path.write_bytes(damaged)
    status = move(real.port, study_identifier("1.2.3"))
    assert status.Status == 0xA702
    assert receiver.received == []


def test_a_lost_connection_in_mid_store_leaves_no_file(real: Real) -> None:
    dataset = small_dataset("1.2.9", pixels=100_000)
    with Raw(real.port) as peer:
        peer.send(associate_rq([(CT, [EXPLICIT])]))
        assert peer.read_pdu()[0] == 2
        peer.send(pdata(1, 3, store_command(CT, "1.2.9")) + pdata(1, 0, dataset[:50_000]))
    eventually(lambda: real.server.associations == 0)
    assert real.files() == real.leftovers() == []


@pytest.mark.parametrize("syntax", [EXPLICIT, DEFLATED])
@pytest.mark.parametrize("pixels", [200, 300_000])
def test_a_dataset_that_is_cut_short_or_is_none_is_not_understood_whatever_its_size(
    real: Real, syntax: str, pixels: int
) -> None:
    whole = small_dataset("1.2.9", pixels=pixels)
    with associated(real.port, [(CT, [syntax])]) as assoc:
        for number, dataset in enumerate([whole[:-10], whole[:100], b"\xff" * pixels], 1):
            answer = send_raw(assoc, CT, "1.2.9", dataset, syntax, number)
            assert (answer.Status, bool(answer.ErrorComment)) == (0xC000, True), number
    assert (real.files(), real.leftovers()) == ([], [])
