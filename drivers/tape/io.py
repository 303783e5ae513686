"""The way to tape devices and changers: the one place that touches the operating system.

:class:`Io` is what the rest of this package needs of it; :class:`LinuxIo` is Linux with its st, sg and
ch drivers, and :class:`drivers.tape.fake.FakeIo` a test double. Everything here raises ``OSError`` as
the system does; translating is the callers' business.

Operation codes and status bits are those of ``<linux/mtio.h>``.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import fcntl
import os
import signal
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

_MTIOCTOP = 0x40086D01
_MTIOCGET = 0x80306D02
_MTIOCPOS = 0x80086D03
_MTOP = struct.Struct("hxxi")
_MTGET = struct.Struct("qqqqqii")
_OUTPUT_BYTES_MAX = 4 << 20


class Op(enum.IntEnum):
    """What ``MTIOCTOP`` can do (those that are used)."""

    FSF = 1
    """Forward over filemarks, to behind the last of them."""
    BSF = 2
    """Backward over filemarks, to before the last of them."""
    FSR = 3
    """Forward over records; fails behind a filemark that is in the way."""
    WEOF = 5
    """Write filemarks, and return when all before them is on the medium. A count of 0 only flushes."""
    REWIND = 6
    EOM = 12
    """To the end of data."""
    SETBLK = 20
    """Block size in bytes; 0 for records of any size."""
    SEEK = 22
    """Locate a logical block."""
    LOAD = 30
    """Thread the cartridge that lies in the drive."""
    COMPRESSION = 32
    WEOFI = 35
    """Write filemarks, and return at once."""


@dataclass(frozen=True, slots=True)
class DriveStatus:
    """What ``MTIOCGET`` answers."""

    flags: int
    file_number: int = -1
    """-1 when the driver does not know it, as after a locate."""
    block_number: int = -1
    block_bytes: int = 0
    density: int = 0

    @property
    def end_of_data(self) -> bool:
        return bool(self.flags & 0x0800_0000)

    @property
    def write_protected(self) -> bool:
        return bool(self.flags & 0x0400_0000)

    @property
    def online(self) -> bool:
        """A medium is loaded and ready."""
        return bool(self.flags & 0x0100_0000)

    @property
    def empty(self) -> bool:
        return bool(self.flags & 0x0004_0000)

    @property
    def cleaning_asked(self) -> bool:
        return bool(self.flags & 0x0000_8000)


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that has ended."""

    status: int
    out: bytes
    err: str


@dataclass(frozen=True, slots=True)
class ScsiDevice:
    """A tape drive or changer that the kernel knows."""

    kind: str
    """``tape`` or ``changer``."""
    serial: str
    """Unit serial number (SPC, vital product data page 80h); empty when it has none."""
    tape: str | None
    """The tape device that does not rewind when it is closed."""
    generic: str | None
    """The SCSI generic device."""
    name: str = ""
    """Vendor and product."""


class Handle(Protocol):
    """An open tape device. Not thread-safe. Methods raise ``OSError``."""

    def read(self, size: int) -> bytes:
        """The next record; ``b""`` at a filemark and once at the end of data.

        :raises OSError: ENOMEM for a record of more than ``size`` bytes; EIO at the end of data.
        """
        ...

    def write(self, data: bytes | memoryview) -> int:
        """Write one record. ENOSPC: it was not written, early warning; the next write is let through."""
        ...

    def op(self, operation: Op, count: int = 1) -> None: ...

    def tell(self) -> int:
        """Logical block number of the next record or filemark."""
        ...

    def status(self) -> DriveStatus: ...

    def close(self) -> None:
        """Let go of the drive; never raises."""
        ...


class Io(Protocol):
    """What a driver of tape libraries needs of its machine."""

    def open(self, path: str, *, write: bool) -> Handle:
        """Open a tape device without waiting for a medium.

        :raises OSError: EBUSY when somebody has it open, EROFS when the medium is write-protected.
        """
        ...

    def run(self, argv: Sequence[str], timeout: float) -> Completed:
        """Run a command to its end.

        :raises TimeoutError: it took longer; it and its children have been killed.
        :raises FileNotFoundError: there is no such command.
        """
        ...

    def devices(self) -> tuple[ScsiDevice, ...]:
        """The tape drives and changers of this machine."""
        ...

    def sleep(self, seconds: float) -> None: ...

    def monotonic(self) -> float: ...


class LinuxHandle:
    """An open ``/dev/nst*``."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, size: int) -> bytes:
        return os.read(self._fd, size)

    def write(self, data: bytes | memoryview) -> int:
        return os.write(self._fd, data)

    def op(self, operation: Op, count: int = 1) -> None:
        fcntl.ioctl(self._fd, _MTIOCTOP, _MTOP.pack(operation, count))

    def tell(self) -> int:
        answer: bytes = fcntl.ioctl(self._fd, _MTIOCPOS, bytes(8))
        return int.from_bytes(answer, "little")

    def status(self) -> DriveStatus:
        answer: bytes = fcntl.ioctl(self._fd, _MTIOCGET, bytes(_MTGET.size))
        _, _, settings, flags, _, file_number, block_number = _MTGET.unpack(answer)
        return DriveStatus(
            flags & 0xFFFF_FFFF, file_number, block_number, settings & 0xFF_FFFF, settings >> 24 & 0xFF
        )

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        # It fails when the driver's own closing filemark does, after a failed write. The descriptor is free
        # all the same, and nothing counts that was not followed by a filemark of ours before.
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


class Restoring:
    """A handle on a drive that somebody else uses with fixed blocks: their size is set again at the end."""

    def __init__(self, handle: Handle, block_bytes: int) -> None:
        self._handle = handle
        self._block_bytes = block_bytes
        self.read, self.write = handle.read, handle.write
        self.op, self.tell, self.status = handle.op, handle.tell, handle.status

    def close(self) -> None:
        """Let go of the drive; never raises."""
        with contextlib.suppress(OSError):  # an empty or failed drive has other worries
            self._handle.op(Op.SETBLK, self._block_bytes)
        self._handle.close()


class LinuxIo:
    """This machine."""

    def open(self, path: str, *, write: bool) -> Handle:
        # O_NONBLOCK: opening an empty drive would otherwise wait for minutes.
        flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(path, flags)
        try:
            _require_no_rewind(path, os.fstat(fd).st_rdev)
        except OSError:
            os.close(fd)
            raise
        return LinuxHandle(fd)

    def run(self, argv: Sequence[str], timeout: float) -> Completed:
        environment = os.environ | {"LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
        with subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except BaseException as error:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    said = f"{' '.join(argv)} took more than {timeout:g} s"
                    raise TimeoutError(errno.ETIMEDOUT, said) from error
                raise
        text = err[:_OUTPUT_BYTES_MAX].decode("utf-8", "replace")
        return Completed(process.returncode, out[:_OUTPUT_BYTES_MAX], text)

    def devices(self) -> tuple[ScsiDevice, ...]:
        from drivers.tape.devices import find_devices

        return find_devices()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def monotonic(self) -> float:
        return time.monotonic()


def _require_no_rewind(path: str, device: int) -> None:
    """Bit 7 of the minor number tells the device that stays where it is from the one that rewinds."""
    if os.major(device) == 9 and not os.minor(device) & 0x80:
        raise OSError(
            errno.EINVAL, f"{path} rewinds when it is closed; name the /dev/nst device of the drive"
        )
