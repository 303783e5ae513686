"""A played robot with drives in which LTFS cartridges lie: folders, for the emulation or for a real LTFS.

The robot, its drives and the tape devices are :class:`drivers.tape.fakelibrary.FakeIo`; the LTFS commands are
processes, and what they mount is mounted. A real LTFS is used through its file backend, when ``mkltfs`` is on
the path or HSM_LTFS_BIN names its folder.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from drivers.tape.fake import FakeDrive, FakeHandle, Tape
from drivers.tape.fakelibrary import CHANGER, FakeIo
from drivers.tape.io import Completed
from drivers.tape.library import DRIVE_ADDRESS
from drivers.tape.ltfs.coherency import ATTRIBUTE as COHERENCY
from drivers.tape.ltfs.mounting import is_mounted

_MFUSEPY = importlib.util.find_spec("mfusepy")
# Without site, which takes longer than the rest of a start.
EMULATOR = (
    sys.executable,
    "-E",
    "-S",
    str(Path(__file__).with_name("emulate.py")),
    str(Path(_MFUSEPY.origin).parent) if _MFUSEPY is not None and _MFUSEPY.origin else "",
)
_ATTRIBUTE_BYTES = 75
_LABEL = "0_0_R"
_GENERATION = re.compile(r"^ +(\d+): \d{4}-.*\n +(.*)$", re.MULTILINE)


def why_not() -> str:
    """Why the emulation cannot run here; empty when it can."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be opened"
    if os.geteuid() != 0:
        return "only root may mount here"
    if not (Path("/lib").is_dir() and ctypes.util.find_library("fuse")):
        return "the library libfuse.so.2 is not installed (Debian package libfuse2)"
    try:
        import mfusepy  # noqa: F401
    except (ImportError, OSError) as error:
        return f"mfusepy is not installed: {error}"
    return ""


def real_ltfs() -> str:
    """The folder of a real LTFS's commands; empty when there is none."""
    named = os.environ.get("HSM_LTFS_BIN")
    found = shutil.which("mkltfs", path=named) if named else shutil.which("mkltfs")
    return str(Path(found).parent) if found else ""


KINDS = (
    pytest.param(
        "emulated", marks=pytest.mark.skipif(bool(why_not()), reason=f"no LTFS emulation: {why_not()}")
    ),
    pytest.param(
        "real",
        marks=pytest.mark.skipif(
            not real_ltfs() or os.geteuid() != 0,
            reason="no real LTFS: mkltfs is not on the path and HSM_LTFS_BIN does not name its folder",
        ),
    ),
)


class LtfsIo(FakeIo):
    """A machine whose cartridges are folders; a loaded one is linked to under its drive's serial number."""

    def __init__(self, folder: Path, barcodes: Sequence[str], *, slots: int = 5, mail_slots: int = 2) -> None:
        places: dict[int, str | None] = dict.fromkeys(range(1, slots + mail_slots + 1))
        places |= dict(enumerate(barcodes, start=1))
        super().__init__(tapes={}, slots=places, mail_slots=mail_slots, drives=[FakeDrive(), FakeDrive()])
        self.folder = folder
        self.mountpoints = Path(tempfile.mkdtemp(prefix="hsm-ltfs-"))
        self._block: dict[int, tuple[int, int]] = {}
        """Where each drive was located to."""
        (folder / "drives").mkdir(parents=True)
        for barcode in barcodes:
            self.add(barcode)

    def add(self, barcode: str) -> None:
        self.tapes[barcode] = Tape()
        self.cartridge(barcode).mkdir(parents=True)

    def cartridge(self, barcode: str) -> Path:
        return self.folder / "cartridges" / barcode

    def traps(self, barcode: str, **traps: Any) -> None:
        """Set switches of the emulation."""
        (self.cartridge(barcode) / "traps.json").write_text(json.dumps(traps))

    def open(self, path: str, *, write: bool) -> FakeHandle:
        number = self._drive_at(path)
        mountpoint = self.mountpoints / f"drive-{DRIVE_ADDRESS + number}"
        assert not is_mounted(mountpoint), f"{path} was opened while an LTFS volume is mounted there"
        if number in self.loaded:
            self._show(self.loaded[number])
        return super().open(path, write=write)

    def run(self, argv: Sequence[str], timeout: float) -> Completed:
        done = super().run(argv, timeout)
        self.link()
        return done

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.01))

    def monotonic(self) -> float:
        return time.monotonic()

    def link(self) -> None:
        """What lies in which drive, for the LTFS commands."""
        for number, drive in enumerate(self.drives):
            link = self.folder / "drives" / self._serial(number)
            loaded = drive.tape is not None and number in self.loaded
            wanted = str(self.cartridge(self.loaded[number])) if loaded else None
            if wanted == (str(link.readlink()) if link.is_symlink() else None):
                continue  # an ltfs of another drive may be using it right now
            with contextlib.suppress(FileNotFoundError):
                link.unlink()
            if wanted is not None:
                link.symlink_to(wanted)

    def _raw(self, argv: list[str]) -> Completed:
        """LOCATE(16) and READ(6) too, of blocks that lie where the real LTFS's file backend has them."""
        at = next(place for place, word in enumerate(argv) if word.startswith("/dev/"))
        words = [int(word, 16) for word in argv[at + 1 :]]
        if words[0] not in (0x92, 0x08):
            return super()._raw(argv)
        drive = self._drive_at(argv[at])
        if words[0] == 0x92:
            self._block[drive] = (words[3], int.from_bytes(bytes(words[4:12]), "big"))
            return Completed(0, b"", "")
        partition, block = self._block[drive]
        record = self.cartridge(self.loaded[drive]) / f"{partition}_{block}_R"
        return Completed(0, record.read_bytes(), "") if record.exists() else Completed(20, b"", "")

    def _memory(self, drive: int, argv: Sequence[str] = ()) -> Completed:
        """The cartridge's memory: LTFS keeps its coherency information of each partition in a file."""
        asked = " ".join(argv).partition(" 8c ")[2].split()
        if [*asked[7:9]] != [f"{COHERENCY >> 8:02x}", f"{COHERENCY & 255:02x}"] or drive not in self.loaded:
            return super()._memory(drive, argv)
        file = self.coherency(self.loaded[drive], int(asked[6], 16))
        body = file.read_bytes() if file.exists() else b""
        return Completed(0, len(body).to_bytes(4, "big") + body, "")

    def _write_memory(self, drive: int, partition: int, body: bytes) -> Completed:
        self.coherency(self.loaded[drive], partition).write_bytes(body)
        return Completed(0, b"", "")

    def coherency(self, barcode: str, partition: int) -> Path:
        return self.cartridge(barcode) / f"attr_{partition}_{COHERENCY:x}"

    def cut_power(self, kind: str, barcode: str, rng: random.Random) -> None:
        """While the volume is mounted: of what was written behind the data partition's last filemark a drive
        may hold some in its buffer, the end of data is lost, and the byte behind the word LTFS in the
        cartridge's memory is what it happens to be. A chip has an attribute whole or not at all: no cut comes
        while the file of one is written."""
        while self._signalled(signal.SIGSTOP) and any(
            file.exists() and file.stat().st_size < _ATTRIBUTE_BYTES
            for file in (self.coherency(barcode, 0), self.coherency(barcode, 1))
        ):
            self._signalled(signal.SIGCONT)
            time.sleep(0.001)
        self.kill_ltfs()
        if kind == "emulated":
            self.traps(barcode, end_lost=True)
        else:
            records = list(self.cartridge(barcode).glob("1_*_*"))
            places = {int(each.name.split("_")[1]): each for each in records}
            safe = max(place for place, each in places.items() if each.name.endswith("F"))
            late = sorted(place for place in places if place > safe)
            for place in late[rng.randrange(len(late) + 1) :]:
                places[place].unlink()
            for each in self.cartridge(barcode).glob("1_*_E"):
                each.unlink()
        for partition in (0, 1):
            file = self.coherency(barcode, partition)
            if not file.exists():
                said = bytes((8, *bytes(24), 0, 43)) + b"LTFS\0" + str(uuid.UUID(int=1)).encode() + b"\0\1"
                file.write_bytes(COHERENCY.to_bytes(2, "big") + b"\0" + len(said).to_bytes(2, "big") + said)
            data = bytearray(file.read_bytes())
            data[36] = rng.choice((0, 0x20, 0x7F))
            file.write_bytes(data)

    def kill_ltfs(self) -> None:
        """Every ltfs dies at once, as in a power cut; its mount is gone."""
        self._signalled(signal.SIGKILL)
        for file in self.mountpoints.glob("*.pid"):
            file.unlink(missing_ok=True)
        for mountpoint in self.mountpoints.glob("drive-*"):
            while is_mounted(mountpoint):
                subprocess.run(["umount", "-l", mountpoint], check=False)
        for drive in self.drives:
            drive.opener = None
            drive.position = 0

    def _signalled(self, number: signal.Signals) -> bool:
        """Send a signal to every ltfs; whether there was one."""
        sent = False
        for file in self.mountpoints.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError, ValueError, OSError):
                os.kill(int(file.read_text().split()[0]), number)
                sent = True
        return sent

    def close(self) -> None:
        self.kill_ltfs()
        shutil.rmtree(self.mountpoints, ignore_errors=True)

    def _show(self, barcode: str) -> None:
        """The beginning of the folder as the tape device reads it."""
        tape, label = self.tapes[barcode], self.cartridge(barcode) / _LABEL
        if label.exists():
            tape.records = [label.read_bytes(), None, b"<ltfslabel/>", None]
            tape.synced = len(tape.records)
        elif tape.records[:1] and (tape.records[0] or b"")[24:28] == b"LTFS":
            tape.records = []  # wiped


def tools(kind: str) -> tuple[list[str], ...]:
    """The commands ``mkltfs``, ``ltfs`` and ``ltfsck`` of the emulation or of the real one."""
    names = ("mkltfs", "ltfs", "ltfsck")
    return tuple([*EMULATOR, name] if kind == "emulated" else [f"{real_ltfs()}/{name}"] for name in names)


def ltfsck(io: LtfsIo, kind: str, barcode: str, *flags: str) -> str:
    """What an administrator does by hand to a cartridge that is in no drive; what is printed."""
    command = [*tools(kind)[2], "-e", "file", *flags, str(io.cartridge(barcode))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def generations(io: LtfsIo, kind: str, barcode: str) -> dict[int, str]:
    """The commit message of each generation of the index that is on the medium."""
    said = ltfsck(io, kind, barcode, "-l")
    return {int(number): message for number, message in _GENERATION.findall(said)}


def ltfs_options(io: LtfsIo, kind: str) -> dict[str, Any]:
    """The option ``ltfs`` for the emulation or the real one."""
    make, mount, check = tools(kind)
    backend = ["-e", "file"]
    return {
        "mkltfs": [*make, *backend, "-d", "{device}", "-s", "{serial}", "-n", "{name}"],
        "wipe": [*make, *backend, "-d", "{device}", "-w"],
        "mount": [*mount, "-f", "-o", "tape_backend=file,devname={device},sync_type=unmount", "{mountpoint}"],
        "check": [*check, *backend, "{device}"],
        "full_check": [*check, *backend, "-f", "{device}"],
        "deep_check": [*check, *backend, "-z", "{device}"],
        "device": f"{io.folder}/drives/{{serial}}",
        "mountpoints": str(io.mountpoints),
        "format_seconds": 30,
        "mount_seconds": 30,
        "unmount_seconds": 30,
        "check_seconds": 30,
    }


def library_options(io: LtfsIo, kind: str, **more: Any) -> dict[str, Any]:
    """Of a library whose volumes are LTFS."""
    return {"changer": CHANGER, "format": "ltfs", "ltfs": ltfs_options(io, kind), **more}
