"""A migration online -> NAS -> S3 -> online while each server is killed, stopped, filled and slowed.

16 studies and one trouble a step; `make story` is 500 studies and every trouble. Nobody lends a hand:
after each trouble the server is well again, and that is all.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import fuseserver
import pydicom
import pytest
from fuseserver import FuseServer
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from s3servers import BUCKET, admin
from tcpproxy import SlowProxy

from hsm.bench.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed
from tests.story.archive import CONFIG, Archive, bundled, running, until

LONG = os.environ.get("HSM_STORY") == "long"
STUDIES = 500 if LONG else 16
SECONDS = 900.0 if STUDIES > 100 else 100.0
SLOW_BYTES = 8000
"""A second, on a slow line: a fifth of a study."""

POOLS = CONFIG.replace(
    "  - {{name: tape, tier",
    """  - {{name: nas, tier: nearline, driver: nas,
     options: {{path: "{nas}", timeout_seconds: 2, probe_seconds: 1}}}}
  - {{name: cloud, tier: nearline, driver: s3,
     options: {{bucket: "{bucket}", prefix: story, endpoint_url: "{url}", addressing: path, attempts: 2,
                credentials_file: "{credentials}", connect_timeout_seconds: 2, read_timeout_seconds: 3}}}}
  - {{name: tape, tier""",
)

STEP = """\
policy: road
priority: 1
copies: {{{to}: 1}}
rules:
  - {{name: there, copy to: {to}}}
  - {{name: free, release from: {left}, when: copies({to}) >= 1}}
schedule: every 1 second
"""


@pytest.fixture
def nas(tmp_path: Path) -> Iterator[FuseServer]:
    """Served from a file system of its own, so that it can be filled."""
    if reason := fuseserver.missing():
        pytest.skip(reason)
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    with small_file_system(tmp_path / "nas") as folder:
        server = FuseServer(folder)
        try:
            yield server
        finally:
            server.close()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Seaweed]:
    """What it holds lies on a file system of its own, so that it can be filled."""
    with small_file_system(tmp_path / "objects") as data:
        server = Seaweed(tmp_path / "weed", data=data)
        admin(server.url).create_bucket(Bucket=BUCKET)
        try:
            yield server
        finally:
            _signal(server, signal.SIGCONT)
            server.kill()


@contextlib.contextmanager
def small_file_system(folder: Path) -> Iterator[Path]:
    """One with room for the studies, and not for much more."""
    folder.mkdir()
    size = max(64, STUDIES // 4)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def filling(folder: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    """Fill the file system of ``folder`` to the last byte; make room again."""
    ballast = folder / ".ballast"

    def fill() -> None:
        subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=1M"], check=False, capture_output=True)

    return fill, ballast.unlink


def slowing(proxy: SlowProxy) -> tuple[Callable[[], object], Callable[[], object]]:
    """A line on which a study takes some seconds; the old one."""
    return lambda: proxy.slow(SLOW_BYTES), lambda: proxy.slow(0)


def _signal(server: Seaweed, number: signal.Signals) -> None:
    process = server._process
    if process is not None:
        os.killpg(process.pid, number)


def send(archive: Archive, studies: int) -> None:
    dataset = pydicom.dcmread(bundled("CT_small.dcm")[0])
    ae = AE("SENDER")
    ae.add_requested_context(dataset.file_meta.MediaStorageSOPClassUID, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", archive.port, ae_title="HSM")
    assert association.is_established
    try:
        for number in range(1, studies + 1):
            one = copy.deepcopy(dataset)
            one.StudyInstanceUID = f"1.2.826.0.1.3680043.8.498.77.{number}"
            one.SeriesInstanceUID = f"{one.StudyInstanceUID}.1"
            one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"{one.StudyInstanceUID}.1.1"
            assert association.send_c_store(one).Status == 0
    finally:
        association.release()


def online_files(archive: Archive) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (archive.home / "online" / "studies").rglob("*.dcm")
    }


def verified_in(archive: Archive, pool: str) -> int:
    shown = archive.ask(lambda client: client.status())["pools"]
    return int(next(row for row in shown if row["name"] == pool)["copies"].get("verified", 0))


def only_in(archive: Archive, pool: str) -> bool:
    """Whether every study has its one copy there, and nothing is under way. What has failed for good would
    need a hand."""
    failed = archive.ask(lambda client: client.queue(state="failed", limit=5))
    assert not failed, failed
    shown = archive.ask(lambda client: client.status())
    copies = {row["name"]: row["copies"] for row in shown["pools"] if row["copies"]}
    return copies == {pool: {"verified": STUDIES}} and not shown["queue"]


class Road:
    """One step after the other; a trouble comes in the middle of each."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive

    def step(self, to: str, left: str, *troubles: tuple[Callable[[], object], Callable[[], object]]) -> None:
        archive = self.archive
        archive.write_policy(STEP.format(to=to, left=left))
        archive.ask(lambda client: client.activate_policies(f"to {to}"))
        troubles = troubles if LONG else troubles[:1]
        for number, (trouble, mend) in enumerate(troubles, start=1):
            enough = number * STUDIES // (len(troubles) + 2)
            self._until_in(to, enough)
            before = verified_in(archive, to)
            trouble()
            try:
                # Long enough to be noticed; what lies elsewhere goes on.
                self._until_noticed(to, before + 3)
            finally:
                mend()
        try:
            until(lambda: only_in(archive, to), f"all in {to} and nowhere else", SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}: {archive.ask(lambda client: client.status())}") from error

    def _until_in(self, pool: str, enough: int) -> None:
        until(lambda: verified_in(self.archive, pool) >= enough, f"{enough} in {pool}", SECONDS)

    def _until_noticed(self, pool: str, enough: int) -> None:
        until(lambda: self._noticed() or verified_in(self.archive, pool) > enough, "it is noticed", 30)

    def _noticed(self) -> bool:
        return bool(self.archive.ask(lambda client: client.status())["daemon"]["problems"])


@pytest.mark.campaign
@pytest.mark.timeout(int(SECONDS) * 5)
def test_studies_go_over_nas_and_s3_and_come_back_whole_whatever_happens_to_the_servers(
    sqlite_url: str, tmp_path: Path, nas: FuseServer, cloud: Seaweed
) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text(f"[default]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\n")
    credentials.chmod(0o600)
    line = SlowProxy(urlsplit(cloud.url).port or 0)
    url = f"http://127.0.0.1:{line.port}"
    where = {"nas": nas.point, "url": url, "bucket": BUCKET, "credentials": credentials}
    archive = Archive(tmp_path / "home", sqlite_url, STEP.format(to="online", left="nas"), POOLS, **where)

    def remount() -> None:
        nas.unmount()
        nas.start()

    with running(archive):
        send(archive, STUDIES)
        sent = online_files(archive)
        assert len(sent) == STUDIES
        road = Road(archive)
        road.step(
            "nas",
            "online",
            (nas.stop, nas.go_on),
            filling(nas.served),
            (lambda: nas.slow(0.05), lambda: nas.slow(0)),
            (nas.kill, remount),
        )
        assert online_files(archive) == {}
        road.step(
            "cloud",
            "nas",
            (cloud.kill, cloud.start),
            filling(tmp_path / "objects"),
            (nas.kill, remount),
            (lambda: _signal(cloud, signal.SIGSTOP), lambda: _signal(cloud, signal.SIGCONT)),
            slowing(line),
        )
        assert [path.name for path in nas.served.rglob("*") if path.is_file()] == [".hsm-pool"]
        road.step("online", "cloud", (cloud.kill, cloud.start), slowing(line))
        assert online_files(archive) == sent, "the same bytes"
        studies = archive.ask(lambda client: client.find_studies(limit=1000))
        with archive.client() as client:
            live = Counter(
                copy["pool"]
                for study in studies
                for copy in client.locate(study["uid"])["copies"]
                if copy["state"] != "released"
            )
        assert live == {"online": STUDIES}, "no copy lost, none twice"
        done = archive.command("catalog", "check")
        assert done.returncode == 0, done.stdout + done.stderr
    line.close()
    left = admin(cloud.url).list_objects_v2(Bucket=BUCKET, Prefix="story/").get("Contents", [])
    assert all(not each["Key"].endswith(".tar") for each in left), left
