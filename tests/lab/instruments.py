"""What tests use inside the machine: the panel, mtx, mt, and the tape device itself."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PANEL = Path("/run/tapelib.panel")
CHANGER_TYPE, TAPE_TYPE = 8, 1
TAPELIB_MODEL = "3573-TL"
TOOL_SECONDS = 60
BLOCK = 256 * 1024

MTIOCTOP, MTIOCGET, MTIOCPOS = 0x40086D01, 0x80306D02, 0x80086D03
FSF, BSF, FSR, WEOF, REWIND, OFFLINE, EOM, SETBLK, SEEK = 1, 2, 3, 5, 6, 7, 12, 20, 22
_OPERATION, _GET = struct.Struct("hxxi"), struct.Struct("lllllii")

OPERATION_READ, OPERATION_WRITE, OPERATION_MOVE = 0x08, 0x0A, 0xA5
DRIVES, MAIL, SLOTS = 0x100, 0x10, 0x1000
"""The first element address of each type, as tapelib gives them."""


class PanelError(Exception):
    """The panel refused."""


def ask(op: str, **values: Any) -> dict[str, Any]:
    """Ask the library's panel; tapelib/panel.py says what it knows.

    :raises PanelError: it cannot do that.
    """
    with socket.socket(socket.AF_UNIX) as panel:
        panel.connect(str(PANEL))
        with panel.makefile("rw") as line:
            line.write(json.dumps({"op": op, **values}) + "\n")
            line.flush()
            answer: dict[str, Any] = json.loads(line.readline())
    if "error" in answer:
        raise PanelError(f"{op} {values}: {answer['error']}")
    return answer


def fail(operation: int, sense: tuple[int, int, int], *, device: int | str = 0, **how: Any) -> None:
    """Make the next command of this operation code fail on drive ``device`` or the ``"changer"``."""
    where = {"device": device} if isinstance(device, str) else {"drive": device}
    ask("fault", **where, fault={"op": operation, "sense": list(sense), **how})


def run(*command: str | int | Path, seconds: float = TOOL_SECONDS) -> subprocess.CompletedProcess[str]:
    """Run a tool; its status is the caller's to look at."""
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)


def generic_devices() -> Mapping[str, int]:
    """SCSI generic device -> peripheral device type. Numbers differ from boot to boot."""
    found = {}
    for entry in sorted(Path("/sys/class/scsi_generic").iterdir()):
        found[f"/dev/{entry.name}"] = int((entry / "device/type").read_text())
    return found


def changer_device(model: str = "") -> str:
    """The one changer, or the one of that model where a set-up has several."""
    changers = [name for name, kind in generic_devices().items() if kind == CHANGER_TYPE]
    if len(changers) > 1:
        changers = [name for name in changers if model_of(name) == (model or TAPELIB_MODEL)]
    (device,) = changers
    return device


def model_of(generic: str) -> str:
    """The product that a device says it is."""
    return (Path("/sys/class/scsi_generic") / Path(generic).name / "device/model").read_text().strip()


def generic_of(tape: str) -> str:
    """The SCSI generic device of ``nst0``."""
    (entry,) = Path(f"/sys/class/scsi_tape/{tape}/device/scsi_generic").iterdir()
    return f"/dev/{entry.name}"


def mtx(*words: str | int) -> subprocess.CompletedProcess[str]:
    return run("mtx", "-f", changer_device(), *words)


def mt(drive: int, *words: str | int) -> subprocess.CompletedProcess[str]:
    return run("mt", "-f", f"/dev/nst{drive}", *words)


class Tape:
    """An open ``/dev/nst`` device."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def operate(self, operation: int, count: int = 1) -> None:
        """MTIOCTOP."""
        fcntl.ioctl(self.descriptor, MTIOCTOP, _OPERATION.pack(operation, count))

    def position(self) -> int:
        """The block that comes next, by the drive's own count (MTIOCPOS)."""
        answer = fcntl.ioctl(self.descriptor, MTIOCPOS, bytes(8))
        return int(struct.unpack("l", answer)[0])

    def file_number(self) -> int:
        """The tape file, by the kernel's count; -1 when it does not know."""
        return int(_GET.unpack(fcntl.ioctl(self.descriptor, MTIOCGET, bytes(_GET.size)))[5])

    def write(self, data: bytes) -> int:
        return os.write(self.descriptor, data)

    def read(self, size: int = BLOCK) -> bytes:
        return os.read(self.descriptor, size)


@contextmanager
def opened(drive: int, flags: int = os.O_RDWR) -> Iterator[Tape]:
    """``/dev/nst<drive>``, closed at the end (closing writes a filemark after a write, and may fail)."""
    descriptor = os.open(f"/dev/nst{drive}", flags)
    try:
        yield Tape(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
