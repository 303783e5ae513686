"""DCMTK's clients against the server: what a hospital's devices are likely to be built on."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from wire_fakes import CHARSET_FILES, CT, TEST_FILES, Stored, part10_parts, small_dataset, stored
from wire_world import Running, StartServer, eventually

from hsm.dicom.elements import elements
from hsm.dicom.header import read_header
from hsm.errors import NoSpace
from tests.story.archive import free_port

TOOLS = ("storescp", "echoscu", "storescu", "findscu", "movescu", "getscu")
FILES = [
    TEST_FILES / name
    for name in (
        "CT_small.dcm",
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "JPEG2000.dcm",
        "test-SR.dcm",
        "waveform_ecg.dcm",
    )
] + [CHARSET_FILES / name for name in ("chrH31.dcm", "chrX1.dcm", "chrX2.dcm")]


@pytest.fixture(scope="module", autouse=True)
def _dcmtk() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"DCMTK is not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"DCMTK is not installed: {', '.join(missing)}")


def run(
    tool: str, port: int, *args: str | Path, called: str = "HSM", folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [tool, "-v", "-aet", "DCMTK", "-aec", called, "127.0.0.1", str(port), *map(str, args)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        encoding="latin-1",
    )


def test_echoscu_is_answered(archive: Running) -> None:
    done = run("echoscu", archive.port)
    assert done.returncode == 0, done.stderr


def test_echoscu_with_another_called_title_is_rejected(archive: Running) -> None:
    done = run("echoscu", archive.port, called="PACS")
    assert done.returncode != 0
    assert "Called AE Title Not Recognized" in done.stderr + done.stdout


def test_echoscu_proposing_every_context_is_answered(start_server: StartServer) -> None:
    archive = start_server(acse_timeout_seconds=30.0)  # 128 contexts take a busy machine a while to parse
    done = run("echoscu", archive.port, "-pts", "38", "-ppc", "128")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_storescu_stores_a_file_in_its_own_transfer_syntax(archive: Running, path: Path) -> None:
    """DCMTK encodes anew what it sends (padding, sequence lengths), so values are compared here."""
    done = run("storescu", archive.port, "-R", *_syntax(path), path)
    assert done.returncode == 0, done.stderr + done.stdout
    (kept,) = archive.ingest.stored.values()
    syntax, dataset = part10_parts(path)
    assert (kept.source, kept.transfer_syntax) == ("DCMTK", syntax)
    assert kept.header == read_header(dataset, syntax)
    assert _pixels(kept) == _pixels(stored(dataset, syntax))


def _syntax(path: Path) -> list[str]:
    """storescu's option that proposes the file's compressed transfer syntax."""
    options = {
        "1.2.840.10008.1.2.5": ["-xr"],
        "1.2.840.10008.1.2.4.70": ["-xs"],
        "1.2.840.10008.1.2.4.91": ["-xw"],
        "1.2.840.10008.1.2.4.90": ["-xv"],
        "1.2.840.10008.1.2": ["-xi"],
    }
    return options.get(part10_parts(path)[0], [])


def _pixels(instance: Stored) -> list[bytes]:
    return [
        bytes(each.value)
        for each in elements(instance.dataset, instance.transfer_syntax)
        if each.tag == 0x7FE00010
    ]


def test_storescu_is_told_of_a_full_pool_and_goes_on(archive: Running) -> None:
    def full(header: object) -> None:
        raise NoSpace("pool online has 0 bytes to give")

    archive.ingest.before = full
    done = run("storescu", archive.port, TEST_FILES / "CT_small.dcm")
    assert "0xa700" in (done.stdout + done.stderr).lower() or "OutOfResources" in done.stdout + done.stderr
    assert archive.ingest.stored == {}


def test_findscu_shows_each_match(archive: Running) -> None:
    for n in range(3):
        archive.ingest.stored[f"1.2.{n}"] = stored(small_dataset(f"1.2.{n}", study=f"1.9.{n}"))
    done = run("findscu", archive.port, "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID")
    assert done.returncode == 0, done.stderr
    assert [f"1.9.{n}" in done.stdout + done.stderr for n in range(3)] == [True] * 3


def test_findscu_cancels_after_the_first_match(archive: Running) -> None:
    for n in range(2000):
        archive.ingest.stored[f"1.2.{n}"] = stored(small_dataset(f"1.2.{n}", study=f"1.9.{n}"))
    done = run(
        "findscu",
        archive.port,
        "-S",
        "--cancel",
        "1",
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-k",
        "StudyInstanceUID",
    )
    assert done.returncode == 0, done.stderr
    assert "Cancel" in done.stdout + done.stderr


@pytest.fixture
def movable(start_server: StartServer, tmp_path: Path) -> Iterator[tuple[Running, list[str], Path]]:
    """An archive that knows movescu's own port, the arguments for it, and where it receives."""
    port = free_port()
    archive = start_server(aes=[{"ae_title": "DCMTK", "host": "127.0.0.1", "port": port}])
    arguments = ["-S", "-aem", "DCMTK", "--port", str(port), "-od", str(tmp_path), "+xa", "-k"]
    yield archive, [*arguments, "QueryRetrieveLevel=STUDY"], tmp_path


def arrived(folder: Path) -> dict[str, Path]:
    return {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): path for path in folder.iterdir()}


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_movescu_receives_the_bytes_that_are_stored(movable: tuple[Running, list[str], Path]) -> None:
    archive, arguments, folder = movable
    for path in FILES:
        syntax, dataset = part10_parts(path)
        each = stored(dataset, syntax)
        archive.ingest.stored[each.header.sop_instance_uid] = each
    kept = archive.ingest.stored
    studies = "\\".join(sorted({each.header.study_uid for each in kept.values()}))
    # +B writes what came, bit by bit (and into the working directory, whatever -od says).
    done = run("movescu", archive.port, *arguments, "-k", f"StudyInstanceUID={studies}", "+B", folder=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    got = {uid: part10_parts(path) for uid, path in arrived(folder).items()}
    assert got == {uid: (each.transfer_syntax, each.dataset) for uid, each in kept.items()}


def test_movescu_waits_with_pending_until_the_cartridge_is_there(
    movable: tuple[Running, list[str], Path],
) -> None:
    archive, arguments, folder = movable
    for n in range(3):
        archive.ingest.stored[f"1.2.{n}"] = stored(small_dataset(f"1.2.{n}"))
    archive.retrievals.held = {"1.2.1", "1.2.2"}
    done: list[subprocess.CompletedProcess[str]] = []
    thread = threading.Thread(
        target=lambda: done.append(run("movescu", archive.port, *arguments, "-k", "StudyInstanceUID=1.2.3"))
    )
    thread.start()
    archive.retrievals.until_waiting()
    eventually(lambda: len(list(folder.iterdir())) == 1)
    archive.retrievals.let_go()
    thread.join(30)
    assert done[0].returncode == 0, done[0].stderr
    assert len(list(folder.iterdir())) == 3
    assert "Success" in done[0].stdout + done[0].stderr


@pytest.fixture
def receivers(tmp_path: Path) -> Iterator[dict[str, tuple[int, Path]]]:
    """Two storescp: one aborts after each instance that it has received, one is as it should be."""
    found: dict[str, tuple[int, Path]] = {}
    running = []
    for title, options in (("BAD", ["--abort-after"]), ("GOOD", [])):
        folder, port = tmp_path / title, free_port()
        folder.mkdir()
        command = ["storescp", *options, "-od", str(folder), str(port)]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        found[title] = (port, folder)
    for port, _ in found.values():
        eventually(lambda port=port: listens(port))
    yield found
    for each in running:
        each.kill()
        each.wait(10)


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_a_storescp_that_aborts_after_each_store_is_given_up_and_another_one_gets_everything(
    start_server: StartServer, receivers: dict[str, tuple[int, Path]]
) -> None:
    aes = [
        {"ae_title": title, "host": "127.0.0.1", "port": port, "send": {"associations_max": 1}}
        for title, (port, _) in receivers.items()
    ]
    archive = start_server(aes=aes)
    for n in range(8):
        archive.ingest.stored[f"1.2.{n}"] = stored(small_dataset(f"1.2.{n}"))
    keys = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3", "-aem"]
    bad = run("movescu", archive.port, *keys, "BAD")
    assert "Refused: OutOfResourcesSubOperations" in bad.stdout + bad.stderr
    assert len(archive.deliveries.answers) == 0
    good = run("movescu", archive.port, *keys, "GOOD")
    assert good.returncode == 0, good.stderr
    assert set(arrived(receivers["GOOD"][1])) == set(archive.ingest.stored)
    assert len(archive.deliveries.answers) == 8


def test_movescu_cancels_a_move(movable: tuple[Running, list[str], Path]) -> None:
    archive, arguments, _ = movable
    for n in range(3):
        archive.ingest.stored[f"1.2.{n}"] = stored(small_dataset(f"1.2.{n}"))
    archive.retrievals.held = {"1.2.1", "1.2.2"}
    done = run("movescu", archive.port, *arguments, "-k", "StudyInstanceUID=1.2.3", "--cancel", "1")
    assert "Cancel" in done.stdout + done.stderr
    assert archive.deliveries.cancelled == [1]


def test_movescu_to_an_unknown_destination_is_told_so(archive: Running) -> None:
    done = run(
        "movescu",
        archive.port,
        "-S",
        "-aem",
        "NOWHERE",
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-k",
        "StudyInstanceUID=1",
    )
    assert "MoveDestinationUnknown" in done.stdout + done.stderr


def test_getscu_receives_the_bytes_that_are_stored(archive: Running, tmp_path: Path) -> None:
    dataset = small_dataset("1.2.9", sop_class=CT)
    archive.ingest.stored["1.2.9"] = stored(dataset)
    done = run(
        "getscu", archive.port, "-S", "-od", tmp_path, "+B",
        "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    (received,) = tmp_path.iterdir()
    assert part10_parts(received) == ("1.2.840.10008.1.2.1", dataset)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_getscu_without_jpeg_gets_it_decoded(archive: Running, tmp_path: Path) -> None:
    syntax, dataset = part10_parts(TEST_FILES / "SC_rgb_jpeg_gdcm.dcm")
    each = stored(dataset, syntax)
    archive.ingest.stored[each.header.sop_instance_uid] = each
    done = run(
        "getscu", archive.port, "-S", "-od", tmp_path,
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={each.header.study_uid}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    (received,) = tmp_path.iterdir()
    assert dcmread(received).pixel_array.shape == (100, 100, 3)
