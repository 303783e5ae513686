"""Several receiving processes on one port: they share the load, the limit and the fate of the daemon."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import CTImageStorage, StudyRootQueryRetrieveInformationModelFind, Verification

from hsm.clock import SystemClock
from hsm.config import load
from hsm.errors import ConfigError
from hsm.receivers import Receivers
from tests.story.archive import KEEP, Archive, bundled, digests, needs_dcmtk, storescp, until

RECEIVERS = 2


def with_receivers(home: Path) -> Archive:
    archive = Archive(home, f"sqlite:///{home / 'catalog.db'}", KEEP)
    text = archive.config.read_text()
    lines = f"dicom:\n  receivers: {RECEIVERS}\n  max_associations: 40\n"
    archive.config.write_text(text.replace("dicom:\n", lines, 1))
    return archive


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    made = with_receivers(tmp_path_factory.mktemp("receivers") / "home")
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture
def archive(shared: Archive) -> Archive:
    """A running one, which the tests share: what one stores is there for the next."""
    if shared.process is None:
        shared.start()
    until(lambda: total(shared) == 0, "nobody is associated")
    return shared


@contextlib.contextmanager
def changed(archive: Archive, old: str, new: str) -> Iterator[list[str]]:
    """Another configuration for a while; gives what needs a restart."""
    text = archive.config.read_text()
    assert old in text
    try:
        archive.config.write_text(text.replace(old, new))
        yield archive.ask(lambda client: client.reload())["needs_restart"]
    finally:
        archive.config.write_text(text)
        archive.ask(lambda client: client.reload())


def status(archive: Archive) -> dict[str, Any]:
    found: dict[str, Any] = archive.ask(lambda client: client.status())["daemon"]
    return found


def receivers(archive: Archive) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = status(archive)["receivers"]
    return found


def pids(archive: Archive) -> set[int]:
    """The receivers that serve."""
    return {each["pid"] for each in receivers(archive) if each["ready"]}


def total(archive: Archive) -> int:
    return int(status(archive)["associations"])


def is_alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def listeners(port: int) -> int:
    """How many sockets listen at the port."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = (line.split() for line in lines)
    return sum(int(each[1].split(":")[1], 16) == port and each[3] == "0A" for each in fields)


@contextlib.contextmanager
def associations(archive: Archive, count: int, *abstract: str) -> Iterator[list[Association]]:
    """That many at once; those that were rejected too."""
    ae = AE("TESTER")
    made = []
    try:
        for _ in range(count):
            contexts = [build_context(uid) for uid in abstract]
            made.append(ae.associate("127.0.0.1", archive.port, contexts, ae_title="HSM"))
        yield made
    finally:
        for assoc in made:
            if assoc.is_established:
                assoc.release()


def ct(number: int) -> pydicom.Dataset:
    dataset = pydicom.dcmread(bundled("CT_small.dcm")[0])
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
    return dataset


def stored(archive: Archive) -> int:
    """Instances of study 1."""
    [study] = archive.ask(lambda client: client.find_studies(uid="1.2.3"))
    return int(study["instances"])


def echoes(archive: Archive) -> bool:
    with associations(archive, 1, Verification) as [assoc]:
        return bool(assoc.is_established and assoc.send_c_echo().Status == 0)


def test_every_receiver_listens_and_gets_its_share_of_the_associations(archive: Archive) -> None:
    assert listeners(archive.port) == RECEIVERS
    with associations(archive, 6, Verification, CTImageStorage) as made:
        for number, assoc in enumerate(made):
            assert assoc.send_c_echo().Status == 0
            assert assoc.send_c_store(ct(number)).Status == 0
        assert [each["associations"] for each in receivers(archive)] == [3, 3]
        assert total(archive) == 6
        assert "hsm_associations 6" in archive.ask(lambda client: client.metrics())
    until(lambda: total(archive) == 0, "released associations do not count")
    assert stored(archive) == 6


@pytest.mark.skipif(needs_dcmtk() is not None, reason=str(needs_dcmtk()))
def test_queries_and_retrieves_are_answered_whoever_accepts_them(archive: Archive, tmp_path: Path) -> None:
    paths = bundled("CT_small.dcm", "MR_small.dcm")
    for path in paths:
        assert archive.dcmtk("storescu", str(path)).returncode == 0
    study = str(pydicom.dcmread(paths[0]).StudyInstanceUID)
    for _ in range(4):  # the kernel chooses who accepts
        assert "Patient" in archive.findscu(study, "PatientName")
    get = archive.retrieve("getscu", study)
    out, _ = get.communicate(timeout=30)
    assert get.returncode == 0, out
    got = digests(list(archive.received.iterdir()))
    (tmp_path / "moved").mkdir()
    with storescp(tmp_path / "moved", archive.destination_port):
        move = archive.dcmtk(
            "movescu", "-S", "-aet", "DEST", "-aem", "DEST",
            "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}",
        )  # fmt: skip
        assert move.returncode == 0, move.stderr
    assert digests(list((tmp_path / "moved").iterdir())) == got
    assert len(got) == 1


def test_a_mixed_association_stores_and_queries(archive: Archive) -> None:
    query = pydicom.Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = ct(1).StudyInstanceUID
    wanted = (CTImageStorage, StudyRootQueryRetrieveInformationModelFind)
    with associations(archive, 1, *wanted) as [assoc]:
        assert assoc.send_c_store(ct(1)).Status == 0
        found = [status.Status for status, _ in assoc.send_c_find(query, wanted[1])]
        assert found == [0xFF00, 0x0000]
        assert [each["associations"] for each in receivers(archive)] == [0, 0]
        assert total(archive) == 1


@pytest.mark.campaign
def test_the_limit_is_the_archives_not_each_receivers(archive: Archive) -> None:
    with changed(archive, "max_associations: 40", "max_associations: 3"):
        with associations(archive, 5, Verification) as made:
            assert [assoc.is_established for assoc in made] == [True, True, True, False, False]
            assert [assoc.is_rejected for assoc in made] == [False, False, False, True, True]
        until(lambda: total(archive) == 0, "released associations do not count")
        # What a dead receiver had does not count any more.
        with associations(archive, 3, Verification):
            before = pids(archive)
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            until(lambda: len(pids(archive) - before) == RECEIVERS, "they are started again")
            assert echoes(archive)


def test_nonsense_and_silence_at_the_door_disturb_nobody(archive: Archive) -> None:
    with contextlib.ExitStack() as stack:
        for opening in (
            b"",
            b"\x01\x00",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x01\x00\xff\xff\xff\xff",
            b"\x01\x00\0\0\0\x03abc",
        ):
            for _ in range(4):
                peer = stack.enter_context(socket.create_connection(("127.0.0.1", archive.port)))
                peer.sendall(opening)
        assert echoes(archive)
        assert len(pids(archive)) == RECEIVERS


def test_a_killed_receiver_disturbs_nobody_elses_associations_and_comes_back(archive: Archive) -> None:
    before = pids(archive)
    with associations(archive, 4, Verification) as made:
        victim, other = receivers(archive)
        os.kill(victim["pid"], signal.SIGKILL)
        until(lambda: victim["pid"] not in pids(archive), "its end is seen")
        assert echoes(archive), "the port answers at once"
        alive = [assoc for assoc in made if assoc.is_established and assoc.send_c_echo().get("Status") == 0]
        assert len(alive) == other["associations"] == 2
    until(lambda: len(pids(archive)) == RECEIVERS, "it is started again")
    assert len(pids(archive) & before) == RECEIVERS - 1
    assert listeners(archive.port) == RECEIVERS
    assert echoes(archive)


def test_a_reload_reaches_every_receiver_and_their_number_stays(archive: Archive) -> None:
    with changed(archive, "unknown_aes: [echo, store", "unknown_aes: [store"):
        with associations(archive, 4, Verification) as made:
            until(lambda: all(assoc.send_c_echo().Status == 0x0124 for assoc in made), "no right to echo", 10)
    with changed(archive, f"receivers: {RECEIVERS}", "receivers: 5") as later:
        assert later == ["dicom.receivers: 2 -> 5"]
        assert len(pids(archive)) == RECEIVERS


@pytest.mark.campaign
def test_receivers_end_with_a_daemon_that_is_killed_and_the_next_one_starts(archive: Archive) -> None:
    before = pids(archive)
    with associations(archive, 2, Verification, CTImageStorage) as made:
        assert made[0].send_c_store(ct(999)).Status == 0
        had = stored(archive)
        archive.kill()
        archive.start()
        until(lambda: not any(map(is_alive, before)), "the old receivers end by themselves", 5)
    assert echoes(archive)
    assert not pids(archive) & before
    assert stored(archive) == had


def test_sigterm_ends_all_and_leaves_no_orphan(archive: Archive) -> None:
    before = pids(archive)
    with associations(archive, 2, Verification):
        assert archive.stop() == 0
    assert not any(map(is_alive, before))
    assert listeners(archive.port) == 0


def test_a_port_where_somebody_listens_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsm.receivers.crew.PORT_SECONDS", 0.0)
    archive = with_receivers(tmp_path / "home")
    config = load(archive.config, {"HSM_HOME": str(archive.home)})
    never_started: Any = None
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as another archive has it
        other.bind(("127.0.0.1", archive.port))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            Receivers(config, never_started, {}, SystemClock()).start()


class NoServer:
    """In the place of the daemon's own DICOM server, where nothing comes to it."""

    associations = 0

    def start(self, *_: object) -> None:
        """Nothing listens."""

    def tell(self) -> None:
        """Nobody is served."""

    def stop(self, _grace_seconds: float) -> None:
        """Nothing is under way."""


def test_receivers_that_cannot_start_are_said_so_and_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def note(line: list[str], **settings: Any) -> subprocess.Popen[bytes]:
        started.append(popen(["false"], **settings))
        return started[-1]

    monkeypatch.setattr("hsm.receivers.crew.subprocess.Popen", note)
    archive = with_receivers(tmp_path / "home")
    config = load(archive.config, {"HSM_HOME": str(archive.home)})
    server: Any = NoServer()
    crew = Receivers(config, server, dict(os.environ), SystemClock())
    with pytest.raises(ConfigError, match=r"receiver 1 does not start"):
        crew.start()
    crew.stop(0.0)
    assert len(started) >= RECEIVERS
    assert [process.poll() for process in started] == [1] * len(started)
