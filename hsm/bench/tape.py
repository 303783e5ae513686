"""``hsm bench tape``: is a drive fed fast enough from instance files?

Packages are composed from the instance files of an online pool, through the ring, by the same ``put`` that
writes real tapes; ``tar | dd`` reads the same files, one tar a package. Both write blocks to the same
sink, in turn: one that forgets them, a file that is flushed, a model of a drive that takes its time. The
files have just been made and are in the page cache: what is measured is this software, not the disk.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.base import Capacity, VolumeLabel
from drivers.folder import FolderStore
from drivers.ring import RING_BYTES, Ring
from drivers.tape.label import FIRST_BLOCK, PlainLabel
from drivers.tape.plain import Recovered
from drivers.tape.store import PlainStore
from hsm import layout
from hsm.bench.frame import Cell, Report, Spread, Table, interleaved, machine
from hsm.bench.tape_sinks import DriveSpeed, FileSink, ModelSink, NullSink, Sink, SinkHandle
from hsm.catalog.placement import PackageRef
from hsm.content import open_package, put_manifest
from hsm.errors import ConfigError
from hsm.model import Layout, Tier
from hsm.package import Member, PackageIdentity, SeriesIdentity, member_name, package_digest, plan_package
from hsm.pools import DiskPool

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BLOCK_BYTES = 256 << 10
SINKS = ("null", "file", "drive")
SERIES_OF = 100
"""Instances of a series."""
LOWEST_STREAMING, NATIVE = 177e6, 400e6
"""LTO-9, bytes a second."""
_NOISE_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Shape:
    """Packages of one kind."""

    instances: int
    kib: int
    """Of an instance."""
    packages: int

    @property
    def name(self) -> str:
        return f"{self.instances} x {self.kib} KiB"


@dataclass(frozen=True, slots=True)
class Made:
    """Packages in a pool, and the files of each for tar."""

    shape: Shape
    pool: DiskPool
    packages: tuple[PackageRef, ...]
    lists: tuple[Path, ...]

    @property
    def size(self) -> int:
        return sum(package.size for package in self.packages)


@dataclass(frozen=True, slots=True)
class Fed:
    """One run."""

    rate: float
    """Bytes a second."""
    stops: int = 0


def run(
    shapes: Sequence[Shape],
    folder: Path,
    *,
    sinks: Sequence[str],
    rounds: int,
    ring_bytes: int = RING_BYTES,
    say: Callable[[str], None],
) -> Report:
    """Feed every shape to every sink ``rounds`` times, ours and ``tar | dd`` in turn.

    :param sinks: of :data:`SINKS`.
    :raises ConfigError: ``tar`` or ``dd`` is not there.
    """
    for tool in ("tar", "dd"):
        if shutil.which(tool) is None:
            raise ConfigError(f"there is no {tool}, which this is compared with")
    rows: list[tuple[Cell, ...]] = []
    found: list[Mapping[str, object]] = []
    ring = Ring(ring_bytes)
    for number, shape in enumerate(shapes):
        say(f"making {shape.packages} packages of {shape.name}")
        place = folder / str(number)
        made = make(shape, place)
        for sink in sinks:
            say(f"{shape.name} to {sink}")
            results = interleaved(
                {
                    "hsm": _Trial(made, sink, folder, ring).ours,
                    "tar | dd": _Trial(made, sink, folder, ring).theirs,
                },
                rounds,
            )
            rows.append(_row(shape, sink, results))
            found.append(_record(shape, sink, results))
        shutil.rmtree(place)
    columns = ("package", "to", ">MB/s", ">tar | dd", ">ratio", ">of 177", ">of 400", ">stops", ">its stops")
    return Report(
        "tape",
        machine(),
        {"block": BLOCK_BYTES, "ring": ring_bytes, "rounds": rounds},
        (Table("Feeding a drive", columns, tuple(rows)),),
        tuple(found),
        (
            "The drive is a model of LTO-9 (400 MB/s, not below 177, 1 GB buffer); stops: it ran dry.",
            "of 177, of 400: what is fed of LTO-9's lowest streaming speed and of its native speed.",
        ),
    )


def make(shape: Shape, folder: Path) -> Made:
    """Packages of noise in a pool of instance files below ``folder``."""
    root = folder / "pool"
    root.mkdir(parents=True)
    pool = DiskPool("online", Tier.ONLINE, Layout.FILES, root, FolderStore(root), 1)
    noise = random.Random(shape.kib).randbytes(_NOISE_BYTES)
    packages, lists = [], []
    for number in range(shape.packages):
        package, names = _make_package(shape, pool, noise, number)
        packages.append(package)
        listed = folder / f"{number}.list"
        listed.write_text("".join(f"{name}\n" for name in names), encoding="ascii")
        lists.append(listed)
    return Made(shape, pool, tuple(packages), tuple(lists))


def _make_package(shape: Shape, pool: DiskPool, noise: bytes, number: int) -> tuple[PackageRef, list[str]]:
    study = f"2.25.{number + 1}"
    series = [f"{study}.{each + 1}" for each in range(-(-shape.instances // SERIES_OF))]
    size = shape.kib << 10
    members = []
    for instance in range(shape.instances):
        uid, sop = series[instance // SERIES_OF], f"{study}.9.{instance + 1}"
        at = (number * 7919 + instance * 104_729) % (_NOISE_BYTES - size)
        data = noise[at : at + size]
        name = member_name(uid, sop, 0)
        path = pool.root / layout.study_dir(study) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        members.append(Member(name, uid, sop, CT, EXPLICIT, 0, instance, size, hashlib.sha256(data).digest()))
    key = layout.package_key(study, 1)
    plan = plan_package(_identity(key, study, series), members)
    put_manifest(pool, plan)
    digest = package_digest(plan, lambda m: (pool.root / layout.study_dir(study) / m.name).open("rb"))
    package = PackageRef(number + 1, key, number + 1, study, plan.size, digest)
    return package, [f"{layout.study_dir(study)}/{member.name}" for member in members]


@dataclass(frozen=True, slots=True)
class _Trial:
    made: Made
    sink: str
    folder: Path
    ring: Ring

    def ours(self, _: int) -> Fed:
        return feed(self.made, self.sink, self.folder, self.ring)

    def theirs(self, _: int) -> Fed:
        return feed_with_tar(self.made, self.sink, self.folder)


def _identity(key: str, study: str, series: Sequence[str]) -> PackageIdentity:
    texts = dict.fromkeys(
        ("patient_id", "issuer", "patient_name", "birth_date", "sex", "study_date", "study_time", "study_id",
         "study_description", "accession", "referring_physician", "institution", "charset"), "",
    )  # fmt: skip
    listed = tuple(SeriesIdentity(uid, "CT", None, "", "", "", "", "") for uid in series)
    return PackageIdentity(
        key=key, study_uid=study, number=1, series=listed, sealed_at="2026-01-01T00:00:00+00:00", **texts
    )


def feed(made: Made, to: str, folder: Path, ring: Ring) -> Fed:
    """Put all packages on a tape that begins at the sink."""
    sink = _sink(to, folder)
    label = PlainLabel(VolumeLabel("BENCH1L9", "bench", "bench"), BLOCK_BYTES)
    room = Capacity(1 << 50, 1 << 50)
    handle = SinkHandle(sink, FIRST_BLOCK)
    store = PlainStore(handle, "/dev/null", label, Recovered(FIRST_BLOCK, 1), room, ring=ring)
    start = time.perf_counter()
    for package in made.packages:
        locator = layout.package_locator(package.key)
        with open_package(made.pool, package, locator, from_medium=False, digests=False) as source:
            store.put(locator, source, package.size, package.digest)
    return _fed(made, sink, start)


def feed_with_tar(made: Made, to: str, folder: Path) -> Fed:
    """The same files by hand: ``tar | dd``, once a package."""
    sink = _sink(to, folder)
    start = time.perf_counter()
    for listed in made.lists:
        tar = ["tar", "-C", str(made.pool.root), "--no-recursion", "-cf", "-", "-T", str(listed)]
        dd = ["dd", f"bs={BLOCK_BYTES}", "iflag=fullblock", "status=none"]
        if to == "null":
            _pipe(tar, [*dd, "of=/dev/null"])
        elif to == "file":
            _pipe(tar, [*dd, f"of={folder / 'tape'}", "oflag=append", "conv=notrunc"])
        else:
            _pipe(tar, dd, sink)
    return _fed(made, sink, start)


def _pipe(tar: Sequence[str], dd: Sequence[str], sink: Sink | None = None) -> None:
    """Run both; what dd writes goes to the sink block by block, if there is one."""
    out = None if sink is None else subprocess.PIPE
    with (
        subprocess.Popen(tar, stdout=subprocess.PIPE) as first,
        subprocess.Popen(dd, stdin=first.stdout, stdout=out, bufsize=0) as second,
    ):
        assert first.stdout is not None  # asked for above
        first.stdout.close()
        if sink is not None and second.stdout is not None:
            _take(second.stdout.fileno(), sink)
    if first.returncode or second.returncode:
        raise ConfigError(f"tar ended with {first.returncode}, dd with {second.returncode}")


def _take(fd: int, sink: Sink) -> None:
    block = bytearray(BLOCK_BYTES)
    with memoryview(block) as view:
        while True:
            at = 0
            while at < BLOCK_BYTES and (got := os.readv(fd, [view[at:]])):
                at += got
            if not at:
                return
            sink.write(view[:at])


def _sink(to: str, folder: Path) -> Sink:
    if to == "null":
        return NullSink()
    return FileSink(folder / "tape") if to == "file" else ModelSink(DriveSpeed())


def _fed(made: Made, sink: Sink, start: float) -> Fed:
    sink.finish()
    seconds = time.perf_counter() - start
    return Fed(made.size / seconds, sink.stops if isinstance(sink, ModelSink) else 0)


def _row(shape: Shape, sink: str, results: Mapping[str, Sequence[Fed]]) -> tuple[Cell, ...]:
    ours, theirs = results["hsm"], results["tar | dd"]
    rate = Spread.of(fed.rate / 1e6 for fed in ours)
    ratio = Spread.ratio([fed.rate for fed in ours], [fed.rate for fed in theirs])
    is_drive = sink == "drive"
    return (
        shape.name,
        sink,
        rate.text(0),
        Spread.of(fed.rate / 1e6 for fed in theirs).text(0),
        ratio.text(),
        f"{rate.median * 1e6 / LOWEST_STREAMING:.1f}",
        f"{rate.median * 1e6 / NATIVE:.1f}",
        max(fed.stops for fed in ours) if is_drive else None,
        max(fed.stops for fed in theirs) if is_drive else None,
    )


def _record(shape: Shape, sink: str, results: Mapping[str, Sequence[Fed]]) -> Mapping[str, object]:
    ours, theirs = results["hsm"], results["tar | dd"]
    return {
        "instances": shape.instances,
        "kib": shape.kib,
        "packages": shape.packages,
        "sink": sink,
        "bytes_per_second": Spread.of(fed.rate for fed in ours).record(),
        "tar_dd_bytes_per_second": Spread.of(fed.rate for fed in theirs).record(),
        "ratio": Spread.ratio([fed.rate for fed in ours], [fed.rate for fed in theirs]).record(),
        "stops": [fed.stops for fed in ours],
        "tar_dd_stops": [fed.stops for fed in theirs],
    }
