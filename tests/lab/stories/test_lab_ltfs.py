"""A real LTFS on the laboratory's SCSI drives. Where ``mkltfs`` is not on the path and HSM_LTFS_BIN does not
name its folder there is nothing to test with, and these tests are skipped."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from halls import BARCODES, open_library, stock
from instruments import ask, fail

from drivers.base import Store, VolumeLabel
from drivers.errors import Corrupt, OperatorNeeded, Retryable, WrongVolume
from drivers.tape.library import DRIVE_ADDRESS, TapeLibrary
from drivers.tape.ltfs import bay, coherency
from drivers.tape.ltfs.mounting import is_mounted

BIN = os.environ.get("HSM_LTFS_BIN", "")
FOUND = shutil.which("mkltfs", path=BIN or None)
pytestmark = pytest.mark.skipif(FOUND is None, reason="no real LTFS: mkltfs is not on the path")

MEDIA = Path(os.environ.get("LAB_MEDIA", "/var/lib/tapelib"))
CAPACITY_MB = 400
"""LTFS keeps a tenth and more of so small a cartridge for itself."""
LABELS = tuple(VolumeLabel(barcode, f"uuid-of-{barcode}", "tape-a") for barcode in BARCODES)


def ltfs_library(mountpoints: Path, **options: Any) -> TapeLibrary:
    """Robot and drives of the laboratory; new volumes are LTFS."""
    path = Path(FOUND or "").parent
    commands = {
        "mkltfs": f"{path}/mkltfs -d {{device}} -s {{serial}} -n {{name}}",
        "wipe": f"{path}/mkltfs -w -d {{device}}",
        "mount": f"{path}/ltfs -f -o devname={{device}},sync_type=unmount {{mountpoint}}",
        "check": f"{path}/ltfsck {{device}}",
        "full_check": f"{path}/ltfsck -f {{device}}",
        "deep_check": f"{path}/ltfsck -z {{device}}",
        "mountpoints": str(mountpoints),
    }
    return open_library(format="ltfs", ltfs=commands, **options)


@pytest.fixture
def mountpoints(tmp_path: Path) -> Iterator[Path]:
    subprocess.run(["modprobe", "fuse"], check=True)
    stock(*BARCODES, capacity_mb=CAPACITY_MB)
    yield tmp_path / "ltfs"
    kill_ltfs(tmp_path / "ltfs")


def kill_ltfs(mountpoints: Path) -> None:
    for file in mountpoints.glob("*.pid"):
        os.kill(int(file.read_text().split()[0]), signal.SIGKILL)
    for mountpoint in mountpoints.glob("drive-*"):
        if is_mounted(mountpoint):
            subprocess.run(["umount", "-l", mountpoint], check=True)


def put(store: Store, key: str, data: bytes) -> None:
    store.put(key, io.BytesIO(data), len(data), hashlib.sha256(data).digest())


def read(store: Store, key: str) -> bytes:
    store.drop_caches()
    return b"".join(store.get(key))


def data_of(number: int) -> bytes:
    return random.Random(number).randbytes(50_000 + 1000 * number)


def test_the_whole_road_of_an_ltfs_cartridge_in_a_scsi_drive(mountpoints: Path) -> None:
    library = ltfs_library(mountpoints)
    first, second = (element.address for element in library.inventory().drives())
    library.label(LABELS[0], first)
    store = library.mount(LABELS[0], first)
    packages = {f"p/{number}.tar": data_of(number) for number in range(20)}
    for key, data in packages.items():
        put(store, key, data)
    store.flush()
    assert {key: read(store, key) for key in packages} == packages
    library.unmount(first)
    store = ltfs_library(mountpoints).mount(LABELS[0], second)
    assert {stat.key for stat in store.list()} == set(packages)
    assert {key: read(store, key) for key in packages} == packages


def test_an_ltfs_that_dies_loses_only_what_was_not_flushed(mountpoints: Path) -> None:
    library = ltfs_library(mountpoints)
    drive = library.inventory().drives()[0].address
    library.label(LABELS[0], drive)
    store = library.mount(LABELS[0], drive)
    put(store, "flushed", data_of(1))
    store.flush()
    put(store, "late", data_of(500))
    kill_ltfs(mountpoints)
    store = ltfs_library(mountpoints).mount(LABELS[0], drive)
    assert [stat.key for stat in store.list()] == ["flushed"]
    assert read(store, "flushed") == data_of(1)
    put(store, "late", data_of(500))
    store.flush()
    assert read(store, "late") == data_of(500)


def test_plain_and_ltfs_cartridges_are_told_apart_in_one_robot(mountpoints: Path) -> None:
    library = ltfs_library(mountpoints, pool_formats={"plain": "plain"})
    drive = library.inventory().drives()[0].address
    plain = VolumeLabel(BARCODES[1], "uuid-plain", "plain")
    for label in (LABELS[0], plain):
        library.label(label, drive)
        put(library.mount(label, drive), "k", data_of(3))
    for label in (LABELS[0], plain):
        assert read(library.mount(label, drive), "k") == data_of(3)
    library.unmount(drive)
    only_plain = open_library()
    with pytest.raises(WrongVolume, match=r"an LTFS volume \(HSM001\)"):
        only_plain.label(VolumeLabel(BARCODES[0], "new", "plain"), drive)
    with pytest.raises(OperatorNeeded, match="NOSUCHL6"):
        only_plain.read_label("NOSUCHL6", drive)
    library = ltfs_library(mountpoints, pool_formats={"plain": "plain"})
    new = VolumeLabel(BARCODES[0], "new", "plain")
    assert "uuid-of-HSM001L6" in library.overwrite(new, drive, BARCODES[0])
    put(library.mount(new, drive), "k", data_of(4))
    library.unmount(drive)
    assert read(open_library().mount(new, drive), "k") == data_of(4)


READ_ATTRIBUTE, WRITE_ATTRIBUTE, NO_SUCH_COMMAND = 0x8C, 0x8D, (5, 0x20, 0)


def written(mountpoints: Path) -> int:
    """A package on the first cartridge, which lies in a slot again; the address of the drive."""
    library = ltfs_library(mountpoints)
    drive = library.inventory().drives()[0].address
    library.label(LABELS[0], drive)
    put(library.mount(LABELS[0], drive), "k", data_of(1))
    library.unmount(drive)
    return drive


def spoil(library: TapeLibrary, drive: int, *, byte: int) -> None:
    """What a power cut may leave: the end of data is lost, and the byte of LTFS's information in the memory
    that it leaves uninitialised is ``byte``."""
    library.read_label(BARCODES[0], drive)
    tape = library._bays()[drive - DRIVE_ADDRESS].drive
    for partition in coherency.PARTITIONS:
        value = tape.attribute(coherency.ATTRIBUTE, partition)
        assert value is not None
        at = value.index(b"LTFS") + 4
        spoilt = value[:at] + bytes((byte,)) + value[at + 1 :]
        assert tape.set_attribute(coherency.ATTRIBUTE, partition, spoilt)
        assert tape.attribute(coherency.ATTRIBUTE, partition) == spoilt
    library.unmount(drive)
    (MEDIA / BARCODES[0] / "p1.open").touch()


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The checks that are made, by their flag."""
    made: list[str] = []
    run = bay.run

    def watched(argv: Any, seconds: float, what: str) -> tuple[int, str]:
        if what.endswith("ltfsck"):
            made.append(next((word for word in argv if word in ("-f", "-z")), "plain"))
        return run(argv, seconds, what)

    monkeypatch.setattr(bay, "run", watched)
    return made


def test_the_byte_of_the_cartridges_memory_is_mended_by_write_attribute_and_the_deep_check_goes_through(
    mountpoints: Path, checks: list[str]
) -> None:
    drive = written(mountpoints)
    library = ltfs_library(mountpoints)
    spoil(library, drive, byte=0x20)
    assert read(library.mount(LABELS[0], drive), "k") == data_of(1)
    assert checks == ["-z", "-z"]
    library.unmount(drive)


def test_without_cartridge_memory_ltfs_formats_nothing_which_is_said_and_plain_volumes_work(
    mountpoints: Path,
) -> None:
    """Sense 5/20/00 for READ and WRITE ATTRIBUTE, as of a drive that knows neither."""
    for operation in (READ_ATTRIBUTE, WRITE_ATTRIBUTE):
        fail(operation, NO_SUCH_COMMAND, times=100_000)
    library = ltfs_library(mountpoints, pool_formats={"plain": "plain"})
    drive = library.inventory().drives()[0].address
    tape = library._bays()[drive - DRIVE_ADDRESS].drive
    plain = VolumeLabel(BARCODES[1], "uuid-plain", "plain")
    library.label(plain, drive)
    store = library.mount(plain, drive)
    put(store, "k", data_of(3))
    store.flush()
    assert read(store, "k") == data_of(3)
    assert tape.attribute(coherency.ATTRIBUTE, 0) is None
    assert not tape.set_attribute(coherency.ATTRIBUTE, 0, b"x")
    assert not tape.is_worm()
    with pytest.raises(Retryable, match=r"mkltfs ended with status 8: .*LTFS11342E"):
        library.label(LABELS[0], drive)
    ask("clear", drive=0)
    library.overwrite(LABELS[0], drive, BARCODES[0])
    put(library.mount(LABELS[0], drive), "k", data_of(4))
    library.unmount(drive)
    assert read(library.mount(LABELS[0], drive), "k") == data_of(4)
    library.unmount(drive)


@pytest.mark.parametrize(("partition", "piece"), [(0, b"LTFS  "), (1, b"<volumeuuid>")])
def test_a_bit_that_flips_in_the_label_of_a_partition_is_named_and_the_other_label_is_read(
    mountpoints: Path, checks: list[str], partition: int, piece: bytes
) -> None:
    drive = written(mountpoints)
    file = MEDIA / BARCODES[0] / f"p{partition}.dat"
    with file.open("r+b") as tape:
        at = tape.read(4096).index(piece)
        tape.seek(at)
        tape.write(bytes((piece[0] ^ 1,)))
    names = ("index partition (0)", "data partition (1)")
    words = re.escape(names[partition]) + r" is damaged.*" + re.escape(names[1 - partition]) + " is whole"
    library = ltfs_library(mountpoints)
    with pytest.raises(Corrupt, match=f"HSM001L6.*{words}: serial number HSM001"):
        library.mount(LABELS[0], drive)
    with pytest.raises(WrongVolume, match=words):
        library.read_label(BARCODES[0], drive)
    assert checks == []
    with file.open("r+b") as tape:
        tape.seek(at)
        tape.write(piece[:1])
    assert read(library.mount(LABELS[0], drive), "k") == data_of(1)
    library.unmount(drive)
