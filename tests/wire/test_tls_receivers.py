"""TLS with a real daemon: several receiving processes, reload, and what `hsm status` tells."""

from __future__ import annotations

import contextlib
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)
from wire_tls import Authority

from tests.story.archive import KEEP, Archive, bundled, free_port, until

RECEIVERS = 2


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module", params=[1, RECEIVERS], ids=["one process", "receivers"])
def archive(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Archive]:
    authority.issue("archive")
    home = tmp_path_factory.mktemp("secure") / "home"
    made = Archive(home, f"sqlite:///{home / 'catalog.db'}", KEEP)
    made.tls_port = free_port()  # type: ignore[attr-defined]
    settings = authority.settings(port=made.tls_port, client_certificate="optional")  # type: ignore[attr-defined]
    lines = [f"    {key}: {value}" for key, value in settings.items()]
    text = made.config.read_text()
    tls = "\n".join(["dicom:", f"  receivers: {request.param}", "  tls:", *lines, ""])
    made.config.write_text(text.replace("dicom:\n", tls, 1))
    try:
        made.start()
        yield made
    finally:
        made.kill()


def status(archive: Archive) -> dict[str, Any]:
    found: dict[str, Any] = archive.ask(lambda client: client.status())["daemon"]
    return found


@contextlib.contextmanager
def associated(
    archive: Archive, context: ssl.SSLContext, *abstract: str, **more: Any
) -> Iterator[Association]:
    ae = AE("TESTER")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
    port = archive.tls_port  # type: ignore[attr-defined]
    contexts = [build_context(uid) for uid in abstract]
    assoc = ae.associate("127.0.0.1", port, contexts, ae_title="HSM", tls_args=(context, "localhost"), **more)
    try:
        yield assoc
    finally:
        if assoc.is_established:
            assoc.release()


def ct(number: int, study: str = "1.2.3") -> pydicom.Dataset:
    dataset = pydicom.dcmread(bundled("CT_small.dcm")[0])
    dataset.StudyInstanceUID = study
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{study}.{number}"
    return dataset


def identifier(study: str) -> pydicom.Dataset:
    made = pydicom.Dataset()
    made.QueryRetrieveLevel, made.StudyInstanceUID, made.PatientID = "STUDY", study, ""
    return made


def test_instances_are_stored_over_tls_and_found_and_got_again(
    archive: Archive, authority: Authority
) -> None:
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(associated(archive, authority.client(), CTImageStorage, Verification))
            for _ in range(4)
        ]
        for number, assoc in enumerate(made):
            assert assoc.send_c_echo().Status == 0
            assert assoc.send_c_store(ct(number)).Status == 0
        shares = [each["associations"] for each in status(archive)["receivers"]]
        assert shares in ([], [2, 2]), "each receiver has its share"
        assert status(archive)["associations"] == 4
    until(lambda: status(archive)["associations"] == 0, "released associations do not count")
    with associated(archive, authority.client(), StudyRootQueryRetrieveInformationModelFind) as assoc:
        answers = list(assoc.send_c_find(identifier("1.2.3"), StudyRootQueryRetrieveInformationModelFind))
    assert [each.Status for each, _ in answers] == [0xFF00, 0]
    assert sorted(gotten(archive, authority, "1.2.3")) == [f"1.2.3.{number}" for number in range(4)]


def gotten(archive: Archive, authority: Authority, study: str) -> dict[str, bytes]:
    """What a C-GET brings."""
    got: dict[str, bytes] = {}

    def keep(event: Any) -> int:
        got[str(event.request.AffectedSOPInstanceUID)] = event.request.DataSet.getvalue()
        return 0

    with associated(
        archive,
        authority.client(),
        StudyRootQueryRetrieveInformationModelGet,
        CTImageStorage,
        ext_neg=[build_role(CTImageStorage, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, keep)],
    ) as assoc:
        answers = list(assoc.send_c_get(identifier(study), StudyRootQueryRetrieveInformationModelGet))
    assert answers[-1][0].Status == 0
    return got


def test_large_instances_come_back_whole_and_several_at_once(archive: Archive, authority: Authority) -> None:
    """Through the relay, where there are receivers: more than it holds, in both directions at once."""
    study = "1.2.4"
    sent = ct(1, study)
    sent.Rows = sent.Columns = 1500
    sent.PixelData = bytes(range(256)) * (1500 * 1500 * 2 // 256)
    with associated(
        archive, authority.client(), CTImageStorage, StudyRootQueryRetrieveInformationModelFind
    ) as assoc:
        for number in range(3):
            sent.SOPInstanceUID = sent.file_meta.MediaStorageSOPInstanceUID = f"{study}.{number}"
            assert assoc.send_c_store(sent).Status == 0
    found: list[dict[str, bytes]] = []
    threads = [
        threading.Thread(target=lambda: found.append(gotten(archive, authority, study))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [sorted(each) for each in found] == [[f"{study}.{number}" for number in range(3)]] * 3
    for each in found:
        assert all(sent.PixelData in data for data in each.values())


def test_a_caller_that_is_cut_off_leaves_no_association(archive: Archive, authority: Authority) -> None:
    with associated(archive, authority.client(), StudyRootQueryRetrieveInformationModelFind) as assoc:
        until(lambda: status(archive)["associations"] == 1, "it is counted")
        assoc.abort()
    until(lambda: status(archive)["associations"] == 0, "it is gone")


@pytest.mark.skipif(shutil.which("storescu") is None, reason="DCMTK is not installed")
def test_dcmtk_stores_and_finds_with_and_without_a_certificate(
    archive: Archive, authority: Authority
) -> None:
    own = ["+tls", str(authority.key("peer")), str(authority.certificate("peer"))]
    to = ["-aec", "HSM", "127.0.0.1", str(archive.tls_port)]  # type: ignore[attr-defined]
    query = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID"]
    for identity in (own, ["+tla"]):
        for tool, words in (("storescu", list(map(str, bundled("MR_small.dcm")))), ("findscu", query)):
            command = [tool, *identity, "+cf", str(authority.ca), *to, *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr


def test_both_ports_are_named_and_a_certificate_that_ends_is_a_problem(
    archive: Archive, authority: Authority
) -> None:
    found = status(archive)
    assert found["listen"]["dicom_tls"] == f"127.0.0.1:{archive.tls_port}"  # type: ignore[attr-defined]
    assert found["listen"]["dicom"] == f"127.0.0.1:{archive.port}"
    assert found["problems"] == []
    certificate, _ = authority.issue("archive", days=5.5)
    shown = archive.command("status")
    assert f"127.0.0.1:{archive.tls_port} (TLS)" in shown.stdout  # type: ignore[attr-defined]
    assert f"{certificate} expires in 5 days" in " ".join(shown.stdout.split())
    assert shown.returncode == 1
    authority.issue("archive")


def serial(archive: Archive, authority: Authority) -> bytes:
    import socket

    with socket.create_connection(("127.0.0.1", archive.tls_port)) as sock:  # type: ignore[attr-defined]
        with authority.client().wrap_socket(sock, server_hostname="localhost") as tls:
            return tls.getpeercert(binary_form=True) or b""


def test_a_reload_brings_the_new_certificate_to_every_process(archive: Archive, authority: Authority) -> None:
    authority.issue("archive")
    old = serial(archive, authority)
    assert archive.ask(lambda client: client.reload())["needs_restart"] == []
    new = ssl.PEM_cert_to_DER_cert(authority.certificate("archive").read_text())
    assert new != old
    until(lambda: {serial(archive, authority) for _ in range(6)} == {new}, "all have it")


def test_a_reload_with_a_key_that_does_not_fit_is_refused_whole(
    archive: Archive, authority: Authority
) -> None:
    old = serial(archive, authority)
    key = authority.key("archive")
    kept = key.read_bytes()
    key.write_bytes(authority.key("peer").read_bytes())
    try:
        done = archive.command("reload")
        assert done.returncode != 0
        assert "is not the private key of" in " ".join((done.stdout + done.stderr).split())
        assert serial(archive, authority) == old
    finally:
        key.write_bytes(kept)


def test_a_stop_ends_associations_that_are_carried_to_the_daemon(
    archive: Archive, authority: Authority
) -> None:
    """The last of those that share the archive."""
    with associated(archive, authority.client(), StudyRootQueryRetrieveInformationModelFind) as assoc:
        assert assoc.is_established
        archive.stop()
        until(lambda: not assoc.is_established, "it is aborted")


def test_a_start_with_a_missing_key_says_so_and_fails(tmp_path: Path, authority: Authority) -> None:
    home = tmp_path / "home"
    made = Archive(home, f"sqlite:///{home / 'catalog.db'}", KEEP)
    settings = authority.settings(key=str(tmp_path / "none.key"))
    lines = "".join(f"    {key}: {value}\n" for key, value in settings.items())
    made.config.write_text(made.config.read_text().replace("dicom:\n", f"dicom:\n  tls:\n{lines}", 1))
    done = made.command("config", "check", str(made.config))
    assert done.returncode != 0
    told = " ".join((done.stdout + done.stderr).split())
    assert f"dicom.tls.key: {tmp_path / 'none.key'}: No such file or directory" in told
