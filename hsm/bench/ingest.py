"""``hsm bench ingest``: how many instances a second does an archive take?

Every receiver is a process of its own in a folder of its own; senders (:mod:`hsm.bench.ingest_sender`)
are processes too, one for each association, each with a study of its own. Receivers take turns. Ours
acknowledges what is flushed and catalogued; what the others do is in docs/BENCHMARKS.md.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hsm.bench.frame import Cell, Report, Spread, Table, interleaved, machine
from hsm.bench.retrieve_archives import free_port, require, running
from hsm.errors import ConfigError

SAMPLE_SECONDS = 0.05
SECONDS_MAX = 900.0
KIB = 1024

OURS = """\
archive: {{ae_title: HSM}}
catalog: {{url: "{catalog}"}}
dicom: {{port: {port}, unknown_aes: [echo, store]{receivers}}}
pools:
  - {{name: online, tier: online, layout: files, driver: folder, options: {{path: "{folder}/online"}}}}
seal: {{quiet_seconds: 86400}}
staging: {{path: "{folder}/staging", size_max_bytes: 1 GiB}}
policies: {folder}/policies
log: {{level: warning, format: human}}
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent in one run."""

    kib: int
    """Of an instance."""
    associations: int
    instances: int
    """Of all associations together."""

    @property
    def name(self) -> str:
        size = f"{self.kib} KiB" if self.kib < 2048 else f"{self.kib // 1024} MiB"
        return f"{size}, {self.associations} assoc."


@dataclass(frozen=True, slots=True)
class Receiver:
    """One that runs and answers as ``HSM``."""

    name: str
    port: int


@dataclass(slots=True)
class Run:
    """What one run gave."""

    rate: float
    """Instances a second."""
    resident: int
    """Bytes that the receiver's processes held at most."""


@dataclass(slots=True)
class Settings:
    """How our own archive is run."""

    catalog: str = ""
    """A URL; the embedded one when empty."""
    receivers: int = 1


@contextlib.contextmanager
def ours(folder: Path, settings: Settings) -> Iterator[Receiver]:
    """This software. :raises ConfigError: it does not start."""
    port = free_port()
    (folder / "policies").mkdir(parents=True)
    config = folder / "hsm.yaml"
    receivers = f", receivers: {settings.receivers}" if settings.receivers > 1 else ""
    catalog = settings.catalog or f"sqlite:///{folder}/catalog.db"
    config.write_text(OURS.format(folder=folder, port=port, catalog=catalog, receivers=receivers))
    command = [sys.executable, "-c", "from cli.main import main; main()", "serve", "--config", str(config)]
    with running(command, port, folder, {"HSM_HOME": str(folder)}):
        yield Receiver("hsm", port)


@contextlib.contextmanager
def orthanc(folder: Path, _: Settings) -> Iterator[Receiver]:
    """Orthanc, SQLite. :raises ConfigError: it is not installed or does not start."""
    require("Orthanc")
    port, http = free_port(), free_port()
    folder.mkdir(parents=True)
    config = folder / "orthanc.json"
    settings = {
        "StorageDirectory": str(folder / "data"),
        "IndexDirectory": str(folder / "data"),
        "DicomAet": "HSM",
        "DicomPort": port,
        "HttpPort": http,
        "RemoteAccessAllowed": True,
        "AuthenticationEnabled": False,
        "DicomThreadsCount": 16,
        "MaximumPduLength": 131072,
        "Plugins": [],
    }
    config.write_text(json.dumps(settings))
    with running(["Orthanc", str(config)], port, folder, {}):
        yield Receiver("orthanc", port)


@contextlib.contextmanager
def storescp(folder: Path, _: Settings) -> Iterator[Receiver]:
    """DCMTK's receiver. :raises ConfigError: it is not installed or does not start."""
    require("storescp")
    port = free_port()
    (folder / "data").mkdir(parents=True)
    command = ["storescp", "--fork", "-aet", "HSM", "-pdu", "131072", "-od", str(folder / "data"), str(port)]
    with running(command, port, folder, {}):
        yield Receiver("storescp", port)


@contextlib.contextmanager
def plain(folder: Path, _: Settings) -> Iterator[Receiver]:
    """pynetdicom's stock path. :raises ConfigError: it does not start."""
    port = free_port()
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "hsm.bench.ingest_plain", str(port), str(folder / "data")]
    root = str(Path(__file__).parents[2])
    with running(command, port, folder, {"PYTHONPATH": root}):
        yield Receiver("pynetdicom", port)


Start = Callable[[Path, Settings], contextlib.AbstractContextManager[Receiver]]
RECEIVERS: Mapping[str, Start] = {"hsm": ours, "orthanc": orthanc, "storescp": storescp, "pynetdicom": plain}


def run(
    loads: Sequence[Load],
    folder: Path,
    *,
    against: Sequence[str],
    rounds: int,
    settings: Settings,
    say: Callable[[str], None],
) -> Report:
    """Send each load ``rounds`` times to each receiver, in turn.

    :param against: of :data:`RECEIVERS`; this software comes first anyway.
    :raises ConfigError: something is not installed, does not start, or refuses an instance.
    """
    names = ["hsm", *(name for name in against if name != "hsm")]
    studies = (f"1.2.826.{os.getpid()}.{number:08}" for number in itertools.count(10_000_000))
    results: dict[Load, dict[str, list[Run]]] = {}
    with contextlib.ExitStack() as stack:
        receivers = []
        for name in names:
            before = _processes()
            receivers.append(stack.enter_context(RECEIVERS[name](folder / name, settings)))
            roots = {
                pid for pid, parent in _processes().items() if parent == os.getpid() and pid not in before
            }
            stack.enter_context(_watched(name, roots))
        warm_up = Load(loads[0].kib, 1, 10)
        interleaved({each.name: partial(_send, each, warm_up, studies) for each in receivers}, 1)
        for load in loads:
            say(f"{load.name}: {rounds} rounds of {load.instances} instances")
            trials = {each.name: partial(_send, each, load, studies) for each in receivers}
            results[load] = interleaved(trials, rounds)
    return _report(names, results, rounds, settings)


_ROOTS: dict[str, set[int]] = {}
"""The processes of each receiver that runs now."""


@contextlib.contextmanager
def _watched(name: str, roots: set[int]) -> Iterator[None]:
    _ROOTS[name] = roots
    try:
        yield
    finally:
        del _ROOTS[name]


def _send(receiver: Receiver, load: Load, studies: Iterator[str], _round: int) -> Run:
    each = max(1, load.instances // load.associations)
    senders = []
    with contextlib.ExitStack() as stack:
        for _ in range(load.associations):
            command = [sys.executable, str(Path(__file__).with_name("ingest_sender.py"))]
            command += [str(receiver.port), str(each), str(load.kib * KIB), next(studies)]
            pipe = subprocess.PIPE
            sender = stack.enter_context(
                subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
            )
            stack.callback(sender.kill)
            senders.append(sender)
        for sender in senders:
            _said(sender, receiver.name)
        peak = stack.enter_context(_memory(_ROOTS[receiver.name]))
        started = time.perf_counter()
        for sender in senders:
            assert sender.stdin is not None
            sender.stdin.write("go\n")
            sender.stdin.flush()
        for sender in senders:
            _said(sender, receiver.name)
        seconds = time.perf_counter() - started
        for sender in senders:
            sender.wait(SECONDS_MAX)
    return Run(each * load.associations / seconds, peak[0])


def _said(sender: subprocess.Popen[str], name: str) -> str:
    """:raises ConfigError: the sender ended instead of saying something."""
    assert sender.stdout is not None and sender.stderr is not None
    line = sender.stdout.readline()
    if not line:
        raise ConfigError(f"sending to {name} failed: {sender.stderr.read().strip()[-500:]}")
    return line


@contextlib.contextmanager
def _memory(roots: set[int]) -> Iterator[list[int]]:
    """The most that the processes and their children hold meanwhile, sampled; bytes."""
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while True:
            parents = _processes()
            family = {pid for pid in parents if pid in roots or parents[pid] in roots}
            peak[0] = max(peak[0], sum(_resident(pid) for pid in family))
            if ended.wait(SAMPLE_SECONDS):
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def _processes() -> dict[int, int]:
    """pid -> parent's pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


def _report(
    names: Sequence[str], results: Mapping[Load, Mapping[str, Sequence[Run]]], rounds: int, settings: Settings
) -> Report:
    columns = ["load", *(f">{name}, /s" for name in names), *(f">hsm / {name}" for name in names[1:])]
    columns.append(">hsm resident, MiB")
    rows: list[tuple[Cell, ...]] = []
    measurements: list[dict[str, Any]] = []
    for load, runs in results.items():
        rates = {name: [each.rate for each in runs[name]] for name in names}
        ratios = {name: Spread.ratio(rates["hsm"], rates[name]) for name in names[1:]}
        resident = max(each.resident for each in runs["hsm"])
        rows.append(
            (
                load.name,
                *(Spread.of(rates[name]).text(0) for name in names),
                *(ratio.text() for ratio in ratios.values()),
                resident >> 20,
            )
        )
        measurements.append(
            {
                "kib": load.kib,
                "associations": load.associations,
                "instances": load.instances,
                "per_second": {name: Spread.of(rates[name]).record() for name in names},
                "ratio": {name: ratio.record() for name, ratio in ratios.items()},
                "resident_bytes": {name: max(each.resident for each in runs[name]) for name in names},
            }
        )
    catalog = "postgresql" if settings.catalog.startswith("postgresql") else "sqlite"
    return Report(
        "ingest",
        machine(),
        {"rounds": rounds, "catalog": catalog, "receivers": settings.receivers},
        (Table("Instances a second: median (least to greatest)", tuple(columns), tuple(rows)),),
        tuple(measurements),
    )
