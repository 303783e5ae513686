"""Archives to retrieve from: ours and others, each a process of its own in a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hsm.errors import ConfigError

START_SECONDS = 30.0
DESTINATION = "DEST"
LOG = "log.txt"
ENVIRONMENT = {"TCP_NODELAY": "1"}
"""For DCMTK, which leaves Nagle's algorithm on otherwise."""

OURS = """\
archive: {{ae_title: HSM}}
catalog: {{url: "sqlite:///{folder}/catalog.db"}}
dicom:
  port: {port}
  unknown_aes: [echo, store, find, get, move]
  aes: [{{ae_title: DEST, host: 127.0.0.1, port: {destination}}}]
pools:
  - {{name: online, tier: online, layout: files, driver: folder, options: {{path: "{folder}/online"}}}}
seal: {{quiet_seconds: 86400}}
staging: {{path: "{folder}/staging", size_max_bytes: 1 GiB}}
policies: {folder}/policies
log: {{level: warning, format: human}}
"""

DCMQRSCP = """\
NetworkTCPPort = {port}
MaxPDUSize = 131072
MaxAssociations = 16
HostTable BEGIN
dest = (DEST, 127.0.0.1, {destination})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
HSM {folder}/data RW (200, 1024mb) ANY
AETable END
"""


@dataclass(frozen=True, slots=True)
class Archive:
    """One that runs, and answers as ``HSM``."""

    name: str
    port: int
    log: Path


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require(*tools: str) -> None:
    """:raises ConfigError: one of these programs is not installed."""
    missing = [tool for tool in tools if shutil.which(tool, path=PATH) is None]
    if missing:
        raise ConfigError(f"{', '.join(missing)} not installed; `apt-get install dcmtk orthanc` has them")


PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))
"""Orthanc's package puts it where only root looks."""


@contextlib.contextmanager
def ours(folder: Path, destination: int) -> Iterator[Archive]:
    """This software, with its embedded database and one online pool.

    :raises ConfigError: it does not start.
    """
    port = free_port()
    (folder / "policies").mkdir(parents=True)
    config = folder / "hsm.yaml"
    config.write_text(OURS.format(folder=folder, port=port, destination=destination))
    command = [sys.executable, "-c", "from cli.main import main; main()", "serve", "--config", str(config)]
    with running(command, port, folder, {"HSM_HOME": str(folder)}):
        yield Archive("hsm", port, folder / LOG)


@contextlib.contextmanager
def orthanc(folder: Path, destination: int) -> Iterator[Archive]:
    """Orthanc with SQLite and its storage cache large enough for the whole study.

    :raises ConfigError: it is not installed or does not start.
    """
    require("Orthanc")
    port, http = free_port(), free_port()
    folder.mkdir(parents=True)
    config = folder / "orthanc.json"
    settings = {
        "Name": "bench",
        "StorageDirectory": str(folder / "data"),
        "IndexDirectory": str(folder / "data"),
        "DicomAet": "HSM",
        "DicomPort": port,
        "HttpPort": http,
        "DicomServerEnabled": True,
        "StorageCompression": False,
        "MaximumStorageCacheSize": 1024,
        "MaximumPduLength": 131072,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomAlwaysAllowFind": True,
        "SynchronousCMove": True,
        "StableAge": 1,
        "DicomModalities": {"dest": [DESTINATION, "127.0.0.1", destination]},
    }
    config.write_text(json.dumps(settings))
    with running(["Orthanc", str(config)], port, folder, {}):
        yield Archive("orthanc", port, folder / LOG)


@contextlib.contextmanager
def dcmqrscp(folder: Path, destination: int) -> Iterator[Archive]:
    """DCMTK's archive, a process for each association.

    :raises ConfigError: it is not installed or does not start.
    """
    require("dcmqrscp")
    port = free_port()
    (folder / "data").mkdir(parents=True)
    config = folder / "dcmqrscp.cfg"
    config.write_text(DCMQRSCP.format(port=port, destination=destination, folder=folder))
    with running(["dcmqrscp", "-c", str(config)], port, folder, {}):
        yield Archive("dcmqrscp", port, folder / LOG)


Start = Callable[[Path, int], contextlib.AbstractContextManager[Archive]]

ARCHIVES: Mapping[str, Start] = {"hsm": ours, "orthanc": orthanc, "dcmqrscp": dcmqrscp}


@contextlib.contextmanager
def storescp(port: int, folder: Path, pdu_bytes: int) -> Iterator[None]:
    """DCMTK's receiver, which forgets what it gets.

    :raises ConfigError: it is not installed or does not start.
    """
    require("storescp")
    folder.mkdir(parents=True, exist_ok=True)
    command = ["storescp", "--ignore", "-aet", DESTINATION, "-pdu", str(pdu_bytes), str(port)]
    with running(command, port, folder, {}):
        yield


@contextlib.contextmanager
def running(command: Sequence[str], port: int, folder: Path, extra: Mapping[str, str]) -> Iterator[None]:
    """A server process while the block runs; it has begun when its port answers.

    :raises ConfigError: it ends, or does not answer in time; with the end of its log.
    """
    log = folder / LOG
    environment = {**os.environ, **ENVIRONMENT, "PATH": PATH, **extra}
    with open(log, "ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=folder, env=environment)
    try:
        _until_it_answers(process, command[0], port, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_it_answers(process: subprocess.Popen[bytes], name: str, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            words = log.read_text(errors="replace")[-1000:].strip()
            raise ConfigError(f"{name} does not answer on port {port}: {words or 'it says nothing'}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
