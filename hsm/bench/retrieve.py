"""``hsm bench retrieve``: how fast does a study come out, by C-MOVE and by C-GET?

Both archives hold the same study. DCMTK's clients ask for it, DCMTK's receivers take it and forget
it: ``movescu`` makes the archive send to a ``storescp --ignore``, ``getscu --ignore`` receives itself.
What is timed is the client from its start to its end, association and all; runs take turns.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hsm.bench.frame import Cell, Report, Spread, Table, interleaved, machine
from hsm.bench.retrieve_archives import (
    ARCHIVES as ARCHIVES,
)
from hsm.bench.retrieve_archives import (
    DESTINATION,
    ENVIRONMENT,
    Archive,
    free_port,
    ours,
    require,
    storescp,
)
from hsm.errors import ConfigError
from hsm.part10 import file_head

STUDY_UID = "2.25.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
CLIENT_SECONDS = 600.0
FIRST = "hsm first"
"""Another one of ours, whose files are touched before each run: it digests every one, as after a start.
Later retrieves do not digest an online file that nobody touched."""
SETTLE_SECONDS = 3.0
"""After storing: Orthanc waits until a study is stable before it computes what it caches of it."""


@dataclass(frozen=True, slots=True)
class Study:
    """What is retrieved: CT instances of one series."""

    instances: int = 200
    kib: int = 512
    """Of pixel data, each."""

    @property
    def size(self) -> int:
        return self.instances * self.kib * 1024


@dataclass(frozen=True, slots=True)
class Way:
    """One way of retrieving; ``command`` is the client's, the archive's port at its end."""

    name: str
    command: tuple[str, ...]


def run(
    study: Study,
    folder: Path,
    *,
    against: Sequence[str],
    rounds: int,
    pdu_bytes: int,
    say: Callable[[str], None],
) -> Report:
    """Retrieve the study ``rounds`` times from each archive, in turn, by each way.

    :param against: of :data:`hsm.bench.retrieve_archives.ARCHIVES`; this software comes first anyway.
    :param pdu_bytes: the longest PDU that the receivers announce.
    :raises ConfigError: something is not installed, does not start, or fails.
    """
    require("storescu", "movescu", "getscu", "storescp")
    names = ["hsm", *(name for name in against if name != "hsm")]
    files = folder / "study"
    make_study(study, files)
    destination = free_port()
    with contextlib.ExitStack() as stack:
        stack.enter_context(storescp(destination, folder / "destination", pdu_bytes))
        archives = [stack.enter_context(ARCHIVES[name](folder / name, destination)) for name in names]
        archives.append(replace(stack.enter_context(ours(folder / "first", destination)), name=FIRST))
        for archive in archives:
            say(f"storing {study.instances} instances in {archive.name}")
            store(archive, files)
        time.sleep(SETTLE_SECONDS)
        results = {}
        for way in ways(pdu_bytes):
            say(f"{way.name}: {rounds} rounds")
            trials = {each.name: _trial(way, each) for each in archives[:-1]}
            trials[FIRST] = _trial(way, archives[-1], lambda: touch(folder / "first" / "online"))
            interleaved(trials, 1)  # the first run of each warms its caches and is not counted
            results[way] = interleaved(trials, rounds)
    return _report(study, [*names, FIRST], results, {"rounds": rounds, "receiver's PDU": pdu_bytes})


def ways(pdu_bytes: int) -> tuple[Way, ...]:
    asked = ("-S", "-aec", "HSM", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY_UID}")
    move = ("movescu", "-aet", "CLIENT", "-aem", DESTINATION, "--no-port", *asked)
    get = ("getscu", "-aet", "CLIENT", "--ignore", "-pdu", str(pdu_bytes), *asked)
    return Way("C-MOVE to storescp --ignore", move), Way("C-GET to getscu --ignore", get)


def make_study(study: Study, folder: Path) -> None:
    """Write the study's Part 10 files."""
    folder.mkdir(parents=True)
    pixels = os.urandom(study.kib * 1024)
    for number in range(1, study.instances + 1):
        uid = f"{STUDY_UID}.1.{number}"
        dataset = b"".join(
            (
                _element(0x0008, 0x0016, b"UI", CT),
                _element(0x0008, 0x0018, b"UI", uid),
                _element(0x0008, 0x0020, b"DA", "20260101"),
                _element(0x0008, 0x0060, b"CS", "CT"),
                _element(0x0010, 0x0010, b"PN", "Bench^Retrieve"),
                _element(0x0010, 0x0020, b"LO", "BENCH1"),
                _element(0x0020, 0x000D, b"UI", STUDY_UID),
                _element(0x0020, 0x000E, b"UI", f"{STUDY_UID}.1"),
                _element(0x0020, 0x0011, b"IS", "1"),
                _element(0x0020, 0x0013, b"IS", str(number)),
                _pixels(study.kib, pixels),
            )
        )
        (folder / f"{number:06}.dcm").write_bytes(file_head(CT, uid, EXPLICIT) + dataset)


def _element(group: int, number: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def _pixels(kib: int, value: bytes) -> bytes:
    """An image of 16 bits a pixel, 512 pixels in a row."""
    numbers = (
        (0x0002, 1),
        (0x0010, kib),
        (0x0011, 512),
        (0x0100, 16),
        (0x0101, 16),
        (0x0102, 15),
        (0x0103, 0),
    )
    image = b"".join(struct.pack("<HH2sHH", 0x0028, each, b"US", 2, number) for each, number in numbers)
    photometric = _element(0x0028, 0x0004, b"CS", "MONOCHROME2")
    return (
        image[:10]
        + photometric
        + image[10:]
        + struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, len(value))
        + value
    )


def store(archive: Archive, files: Path) -> None:
    """Send the files with storescu.

    :raises ConfigError: the archive does not take them.
    """
    _client(["storescu", "-aec", "HSM", "+sd", "127.0.0.1", str(archive.port), str(files)], archive)


def touch(folder: Path) -> None:
    """Change the times of our files, so that their digests have to be proved again."""
    for path in folder.rglob("*.dcm"):
        os.utime(path)


def _trial(way: Way, archive: Archive, before: Callable[[], None] = lambda: None) -> Callable[[int], float]:
    def trial(_: int) -> float:
        before()
        begun = time.perf_counter()
        _client([*way.command, "127.0.0.1", str(archive.port)], archive)
        return time.perf_counter() - begun

    return trial


def _client(command: Sequence[str], archive: Archive) -> None:
    done = subprocess.run(
        command,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=CLIENT_SECONDS,
        check=False,
    )
    if done.returncode:
        words = (done.stderr or done.stdout).strip()[-500:]
        log = archive.log.read_text(errors="replace").strip()[-2000:]
        raise ConfigError(f"{command[0]} ended with {done.returncode}: {words}\n{archive.name} says: {log}")


def _report(
    study: Study,
    names: Sequence[str],
    results: dict[Way, dict[str, list[float]]],
    settings: dict[str, Cell],
) -> Report:
    rows: list[tuple[Cell, ...]] = []
    measurements = []
    for way, seconds in results.items():
        for name in names:
            taken = seconds[name]
            rate = Spread.of(study.instances / each for each in taken)
            ratio = None if name == "hsm" else Spread.ratio(taken, seconds["hsm"])
            first = None if name in ("hsm", FIRST) else Spread.ratio(taken, seconds[FIRST])
            rows.append(
                (
                    way.name,
                    name,
                    Spread.of(each * 1000 for each in taken).text(0),
                    f"{rate.median:,.0f}",
                    f"{study.size / 1e6 / Spread.of(taken).median:,.0f}",
                    ratio.text() if ratio else "",
                    first.text() if first else "",
                )
            )
            measurements.append(
                {
                    "way": way.name,
                    "archive": name,
                    "seconds": taken,
                    "hsm is faster by": ratio.record() if ratio else None,
                    "hsm first is faster by": first.record() if first else None,
                }
            )
    title = f"{study.instances} instances of {study.kib} KiB"
    columns = (
        "way",
        "archive",
        ">ms",
        ">instances/s",
        ">MB/s",
        ">hsm is faster by",
        ">hsm first is faster by",
    )
    facts = {**machine(), "storescp": _version("storescp"), "orthanc": _version("Orthanc")}
    return Report(
        name="retrieve",
        machine=facts,
        settings=settings,
        tables=(Table(title, columns, tuple(rows)),),
        measurements=tuple(measurements),
        notes=("Time of the client process from start to end; the archives took turns.",),
    )


def _version(tool: str) -> str:
    """The first line of what it says of itself; empty when it is not there."""
    try:
        require(tool)
    except ConfigError:
        return ""
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, errors="replace", check=False)
    return (done.stdout + done.stderr).strip().splitlines()[0].strip("$ ")
