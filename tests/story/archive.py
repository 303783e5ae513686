"""A real daemon in a process of its own, and real DCMTK clients around it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, TypeVar

import pydicom
import pytest

from hsm.client import Client, Unreachable
from tests.nursery import Process, nursery

HSM = Path(sys.executable).parent / "hsm"
START_SECONDS = 90.0
WAIT_SECONDS = 60.0
T = TypeVar("T")

_AROUND = """\
archive: {{ae_title: HSM}}
catalog: {{url: "{catalog}"}}
dicom:
  port: {port}
  same_uid: {same_uid}
  unknown_aes: [echo, store, find, get, move]
  aes:
    - {{ae_title: DEST, host: 127.0.0.1, port: {destination}}}
  retrieve: {{pending_seconds: $pending, hold_seconds_max: {hold}}}
pools:
  - {{name: online, tier: online, layout: files, driver: folder, options: {{path: "{home}/online"}},
     reserve_bytes: {reserve}}}
${beyond}seal: {{quiet_seconds: {quiet}}}
staging: {{path: "{home}/staging", size_max_bytes: 256 MiB}}
policies: {home}/policies
schedule: {{seal_seconds: $round, policies_seconds: $round, inventory_seconds: $inventory}}
log: {{level: info, format: json}}
"""


def configured(beyond: str, *, pending: float = 0.2, round_: float = 0.2, inventory: float = 1) -> str:
    """A template of a configuration, for :class:`Archive`.

    :param beyond: the pools beyond the online one, and what comes after them up to ``seal``.
    :param pending: seconds between two Pending responses.
    :param round_: seconds between two rounds of sealing, and of policies.
    :param inventory: seconds between two looks into the libraries.
    """
    values = {"beyond": beyond, "pending": pending, "round": round_, "inventory": inventory}
    return Template(_AROUND).substitute(values)


CONFIG = configured("""\
  - {{name: nearline, tier: nearline, driver: folder, options: {{path: "{home}/nearline"}}}}
  - {{name: tape, tier: offline, library: library}}
libraries:
  - name: library
    driver: simulated
    options: {{folder: "{home}/library", slots: 6, mail_slots: 2, drives: 2, cartridges: 6,
               capacity_bytes: 64 MiB, time_factor: 0}}
""")

ROAD = """\
policy: road
priority: 1
copies: {tape: 1}
rules:
  - {name: to nearline, copy to: nearline, when: copies(tape) = 0}
  - {name: to tape, copy to: tape, when: copies(nearline) >= 1}
  - {name: free online, release from: online, when: copies(tape) >= 1}
  - {name: free nearline, release from: nearline, when: copies(tape) >= 1}
schedule: every 1 second
"""
"""Everything goes on tape and off the disks, as fast as it can."""

BOTH_DATABASES = pytest.mark.parametrize(
    "_make_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.campaign)], indirect=True
)
"""A long road on both: on SQLite whenever tests run, on PostgreSQL among the campaigns."""

KEEP = """\
policy: keep
priority: 1
rules: [{name: never, copy to: nearline, when: age > 200 years}]
"""
"""Nothing is copied and nothing released."""


def free_port() -> int:
    """A port that was free a moment ago, and that nobody gets who asks for any: those are higher."""
    while True:
        port = random.SystemRandom().randrange(12_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def until(found: Callable[[], T], what: str, seconds: float = WAIT_SECONDS) -> T:
    """Ask again until the answer is true; fail with ``what`` when it never is."""
    deadline = time.monotonic() + seconds
    while True:
        answer = found()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


class Archive:
    """A home folder, its configuration, and the daemon that runs on it."""

    def __init__(
        self, home: Path, catalog_url: str, policy: str = ROAD, template: str = CONFIG, **settings: Any
    ) -> None:
        """A home folder that is there already is gone on with; only its configuration is written anew."""
        self.home = home
        home.mkdir(exist_ok=True)
        (home / "policies").mkdir(exist_ok=True)
        self.write_policy(policy)
        self.port, self.destination_port = free_port(), free_port()
        values = {"hold": 120, "reserve": 0, "quiet": 0.3, "same_uid": "keep both"} | settings
        text = template.format(
            home=home, catalog=catalog_url, port=self.port, destination=self.destination_port, **values
        )
        self.config = home / "hsm.yaml"
        self.config.write_text(text)
        self.process: Process | subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self.received = home / "received"
        self.received.mkdir(exist_ok=True)

    def write_policy(self, text: str) -> None:
        (self.home / "policies" / "road.yaml").write_text(text)

    def command(self, *words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run ``hsm`` as an operator would."""
        return nursery().run(words, self._environment(), seconds)

    def start(self, *, from_nothing: bool = False) -> None:
        """The daemon, until it answers.

        :param from_nothing: as a service manager starts it; else it is forked (tests/nursery.py).
        """
        words = ["serve", "--config", str(self.config)]
        with open(self.home / "daemon.log", "ab") as log:
            if from_nothing:
                line = [str(HSM), *words]
                self.process = subprocess.Popen(line, env=self._environment(), stdout=log, stderr=log)
            else:
                self.process = nursery().start(words, self._environment(), log, log)
        self._pid = self.process.pid

        def answers() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended: {self.log()}")
            with contextlib.suppress(Unreachable), self.client() as client:
                client.health()
                return True
            return False

        until(answers, "the daemon answers", START_SECONDS)

    @property
    def pid(self) -> int:
        assert self._pid is not None
        return self._pid

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: what a crash does."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(number)
        status = self.process.wait(60)
        self.process = None
        return status

    def log(self) -> str:
        return (self.home / "daemon.log").read_text(errors="replace")[-4000:]

    def client(self) -> Client:
        return Client(self.home / "hsm.sock", by="tester")

    def ask(self, question: Callable[[Client], T]) -> T:
        with self.client() as client:
            return question(client)

    def _environment(self) -> dict[str, str]:
        keep = {key: os.environ[key] for key in ("PATH", "LANG", "PYTHONPATH") if key in os.environ}
        return keep | {"HSM_HOME": str(self.home)}

    # What the archive holds where.

    def copies(self) -> list[Mapping[str, Any]]:
        """Every copy of every study, from `hsm study locate`."""
        studies = self.ask(lambda client: client.find_studies(limit=500))
        with self.client() as client:
            return [copy for study in studies for copy in client.locate(study["uid"])["copies"]]

    def all_on_tape(self, studies: int) -> bool:
        """Each study is sealed, and its only live copies are verified on tape."""
        found = self.ask(lambda client: client.find_studies(limit=500))
        if len(found) < studies or any(study["unsealed"] for study in found):
            return False
        live = [copy for copy in self.copies() if copy["state"] != "released"]
        return bool(live) and all(copy["pool"] == "tape" and copy["state"] == "verified" for copy in live)

    def shelve_everything(self, shelf: str = "B3") -> list[str]:
        """Export every cartridge that holds a copy; their barcodes."""
        barcodes = sorted({copy["volume"] for copy in self.copies() if copy["pool"] == "tape"})
        for barcode in barcodes:
            done = self.command("library", "export", barcode, "--shelf", shelf)
            assert done.returncode == 0, done.stderr
        return barcodes

    # DCMTK.

    def dcmtk(self, tool: str, *words: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
        """Run a DCMTK client against the archive; ``words`` follow its address."""
        line = [tool, "-aec", "HSM", "127.0.0.1", str(self.port), *words]
        return subprocess.run(
            line, capture_output=True, text=True, errors="replace", timeout=timeout, check=False
        )

    def findscu(self, study_uid: str, *keys: str) -> str:
        """What findscu prints for one study."""
        words = [word for key in (f"StudyInstanceUID={study_uid}", *keys) for word in ("-k", key)]
        found = self.dcmtk("findscu", "-v", "-S", "-k", "QueryRetrieveLevel=STUDY", *words)
        assert found.returncode == 0, found.stderr
        return found.stdout + found.stderr

    def retrieve(self, tool: str, study_uid: str) -> subprocess.Popen[bytes]:
        """Start movescu or getscu as a workstation that asks for a study and receives it itself.

        With +B, which keeps the datasets' bytes, they write into the current folder.
        """
        move = ["-aem", "DEST", "+P", str(self.destination_port)] if tool == "movescu" else []
        line = [tool, "-v", "-S", "-aet", "DEST", "-aec", "HSM", *move, "+B"]
        line += ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study_uid}"]
        return subprocess.Popen(
            [*line, "127.0.0.1", str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.received,
        )


def needs_dcmtk() -> str | None:
    """Why these tests cannot run here, if they cannot."""
    missing = [
        tool for tool in ("echoscu", "storescu", "findscu", "movescu", "getscu") if shutil.which(tool) is None
    ]
    return (
        f"DCMTK is not installed ({', '.join(missing)} missing): apt-get install dcmtk" if missing else None
    )


def dataset_digest(part10: bytes) -> str:
    """SHA-256 of the dataset alone, File Meta Information left out."""
    stream = io.BytesIO(part10)
    stream.seek(128 + 4)
    head = pydicom.filereader.read_partial(io.BytesIO(part10), stop_when=lambda *_: True)
    length = head.file_meta.FileMetaInformationGroupLength
    return hashlib.sha256(part10[132 + 12 + length :]).hexdigest()


def digests(paths: Sequence[Path]) -> dict[str, str]:
    """SOP Instance UID -> digest of the dataset, of Part 10 files."""
    found = {}
    for path in paths:
        data = path.read_bytes()
        meta = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, force=True)
        found[str(meta.SOPInstanceUID)] = dataset_digest(data)
    return found


DATA = Path(pydicom.__file__).parent / "data"


def bundled(*names: str) -> list[Path]:
    """Test files that pydicom's wheel brings along (others it would download)."""
    return [DATA / "test_files" / name for name in names]


def charset_files() -> list[Path]:
    """pydicom's datasets in many character sets."""
    return sorted((DATA / "charset_files").glob("*.dcm"))


@contextlib.contextmanager
def storescp(folder: Path, port: int) -> Iterator[None]:
    """DCMTK's receiver; with +B it keeps datasets byte for byte."""
    line = ["storescp", "-aet", "DEST", "-od", str(folder), "+B", "+xa", str(port)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: _listens(port), "storescp listens")
            yield
        finally:
            process.kill()


def as_sent_by_storescu(paths: Sequence[Path], folder: Path) -> list[Path]:
    """The datasets as storescu puts them on the wire: it writes them anew (lengths, padding)."""
    folder.mkdir()
    port = free_port()
    with storescp(folder, port):
        sent = subprocess.run(["storescu", "127.0.0.1", str(port), *map(str, paths)], check=False, timeout=60)
        assert sent.returncode == 0
    return sorted(folder.iterdir())


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running(archive: Archive, *, from_nothing: bool = False) -> Iterator[Archive]:
    archive.start(from_nothing=from_nothing)
    try:
        yield archive
    finally:
        archive.kill()
