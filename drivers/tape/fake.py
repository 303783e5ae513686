"""A tape drive without the device: behaves as Linux's st driver does, as far as this package can see.

What it follows (st(4), Documentation/scsi/st.rst, and what was seen on a virtual SCSI library):

- Records of any size and filemarks, numbered together as logical blocks. A write cuts off what follows.
- A read gives a record, ``b""`` at a filemark (and is behind it then); at the end of data ``b""`` once
  when a filemark was before it, EIO with the end-of-data status otherwise. A record that is larger than
  the buffer is ENOMEM, and passed over.
- Early warning: the write that crosses it succeeds, the next one is ENOSPC and not written, the one after
  it is let through again, and so on, until the physical end.
- A locate or rewind right behind a write writes a filemark first; reading and spacing do not.
- What was written since the last synchronous filemark may be lost in a power cut, the later records
  first, and the end-of-data mark with it.
- One opener at a time (EBUSY); opening an empty drive without blocking works and says that it is empty.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from drivers.tape.io import DriveStatus, Op

_BOT, _EOD, _PROTECTED, _ONLINE, _EMPTY = 0x4000_0000, 0x0800_0000, 0x0400_0000, 0x0100_0000, 0x0004_0000
_FILEMARK = None
Record = bytes | None
"""A record's bytes; None is a filemark."""


class Sealed(bytes):
    """A record that the drive has encrypted."""

    key: bytes


@dataclass(slots=True)
class Tape:
    """A cartridge: what is on it."""

    capacity: int = 1 << 40
    early_warning: int = 1 << 20
    """Bytes before the physical end."""
    records: list[Record] = field(default_factory=list)
    synced: int = 0
    """So many records and filemarks are on the medium for certain."""
    end_lost: bool = False
    protected: bool = False
    worm: bool = False
    used: int = 0
    bad: set[int] = field(default_factory=set)
    """Logical blocks that cannot be read."""
    memory: dict[int, bytes] = field(default_factory=dict)
    """Attributes of the cartridge's memory, under their identifiers."""

    def cut(self, at: int) -> None:
        """Forget what lies at and behind ``at``."""
        self.used -= sum(len(record) for record in self.records[at:] if record is not None)
        del self.records[at:]
        self.synced = min(self.synced, at)
        self.end_lost = False

    def power_cut(self, survivors: int | None = None) -> None:
        """Lose what was not synced, but for the first ``survivors`` records of it."""
        keep = self.synced + (0 if survivors is None else survivors)
        unsynced = self.synced < len(self.records)
        self.cut(min(keep, len(self.records)))
        self.synced = len(self.records)
        self.end_lost = unsynced


Fault = Callable[[str, int], OSError | None]
"""Asked before each operation (its name, the block the head is at): the error it is to fail with."""


class FakeDrive:
    """A drive; ``tape`` is what is loaded in it."""

    def __init__(self) -> None:
        self.tape: Tape | None = None
        self.lying: Tape | None = None
        """What was unloaded and has not been taken out."""
        self.opener: FakeHandle | None = None
        self.fault: Fault | None = None
        self.polls_until_ready = 0
        self.lock = threading.RLock()
        self.position = 0
        self.block_bytes = 0
        """As it was set last; 0 for records of any size."""
        self.key: bytes | None = None
        """What it encrypts with; gone when the cartridge is."""
        self.log: list[str] = []
        """Every motion, for tests that count them."""

    def load(self, tape: Tape, polls_until_ready: int = 0) -> None:
        self.tape, self.position, self.polls_until_ready = tape, 0, polls_until_ready
        self.lying = None

    def unload(self) -> Tape | None:
        if self.opener is not None:
            self.opener.close()
        tape, self.tape, self.key = self.tape, None, None
        return tape

    def sealed(self, data: bytes | memoryview) -> bytes:
        """A record as it comes to be on the tape."""
        if self.key is None:
            return bytes(data)
        record = Sealed(data)
        record.key = self.key
        return record

    def power_cut(self, survivors: int | None = None) -> None:
        """The machine and the drive lose power; nothing is closed."""
        with self.lock:
            self.opener, self.position = None, 0
            if self.tape is not None:
                self.tape.power_cut(survivors)

    def open(self, *, write: bool) -> FakeHandle:
        with self.lock:
            if self.opener is not None:
                raise OSError(errno.EBUSY, "Device or resource busy")
            ready = self.tape is not None and self.polls_until_ready <= 0
            self.polls_until_ready -= 1
            self.opener = FakeHandle(self, ready=ready, write=write)
            return self.opener


class FakeHandle:
    """See :class:`drivers.tape.io.Handle`."""

    def __init__(self, drive: FakeDrive, *, ready: bool, write: bool) -> None:
        self._drive = drive
        self._ready = ready
        self._write = write
        self._wrote = False
        self._warned = False
        """Whether the next write past early warning is refused."""
        self._behind_mark = False
        self._ended = False

    def read(self, size: int) -> bytes:
        tape, at = self._begin("read")
        self._wrote = False  # st changes from writing to reading without a filemark
        tape.synced = len(tape.records)
        if at >= len(tape.records):
            if self._behind_mark:
                self._behind_mark = False
                self._ended = True
                return b""
            raise OSError(errno.EIO, "Input/output error")
        record = tape.records[at]
        if at in tape.bad or (isinstance(record, Sealed) and record.key != self._drive.key):
            raise OSError(errno.EIO, "Input/output error")
        self._drive.position = at + 1
        self._behind_mark = record is _FILEMARK
        if record is _FILEMARK:
            return b""
        if len(record) > size:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return record

    def write(self, data: bytes | memoryview) -> int:
        tape, at = self._begin("write")
        self._require_writable(tape, at)
        tape.cut(at)
        past = tape.used >= tape.capacity - tape.early_warning
        if past and not self._warned:
            self._warned = True
            raise OSError(errno.ENOSPC, "No space left on device")
        if tape.used + len(data) > tape.capacity:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._warned = False
        tape.records.append(self._drive.sealed(data))
        tape.used += len(data)
        self._drive.position = at + 1
        self._wrote, self._behind_mark = True, False
        return len(data)

    def op(self, operation: Op, count: int = 1) -> None:
        if operation is Op.LOAD and self._drive.tape is None and self._drive.lying is not None:
            self._drive.log.append("LOAD")
            self._drive.load(self._drive.lying)
            return
        tape, at = self._begin(operation.name.lower())
        self._drive.log.append(f"{operation.name} {count}")
        if operation in (Op.WEOF, Op.WEOFI):
            self._filemarks(tape, at, count, sync=operation is Op.WEOF)
            return
        if operation in (Op.SETBLK, Op.COMPRESSION):
            self._drive.block_bytes = count if operation is Op.SETBLK else self._drive.block_bytes
            return
        self._settle(tape, mark=operation in (Op.REWIND, Op.SEEK))
        self._behind_mark = self._ended = self._warned = False
        at = self._drive.position
        if operation is Op.REWIND:
            self._drive.position = 0
        elif operation is Op.EOM:
            self._drive.position = len(tape.records)
            self._ended = True
        elif operation is Op.SEEK:
            self._drive.position = min(count, len(tape.records))
            if count > len(tape.records):
                raise OSError(errno.EIO, "Input/output error")
        elif operation is Op.FSR:
            self._space_records(tape, at, count)
        else:
            self._space(tape, at, count if operation is Op.FSF else -count)

    def tell(self) -> int:
        return self._begin("tell")[1]

    def status(self) -> DriveStatus:
        with self._drive.lock:
            tape = self._drive.tape
            if not self._ready or tape is None:
                return DriveStatus(_EMPTY if tape is None else 0)
            flags = _ONLINE | (_PROTECTED if tape.protected else 0) | (_EOD if self._ended else 0)
            return DriveStatus(
                flags | (0 if self._drive.position else _BOT), block_bytes=self._drive.block_bytes
            )

    def close(self) -> None:
        with self._drive.lock:
            if self._drive.opener is not self:
                return
            tape = self._drive.tape
            self._drive.opener = None
            if tape is not None:
                # st writes the filemark that ends what was written last.
                if self._wrote:
                    tape.records.append(_FILEMARK)
                    self._drive.position += 1
                tape.synced = len(tape.records)

    def _begin(self, operation: str) -> tuple[Tape, int]:
        with self._drive.lock:
            if self._drive.opener is not self:
                raise OSError(errno.EBADF, "Bad file descriptor")
            tape = self._drive.tape
            if tape is None or not self._ready:
                raise OSError(errno.ENOMEDIUM, "No medium found")
            fault = None if self._drive.fault is None else self._drive.fault(operation, self._drive.position)
            if fault is not None:
                raise fault
            return tape, self._drive.position

    def _require_writable(self, tape: Tape, at: int) -> None:
        if not self._write:
            raise OSError(errno.EBADF, "Bad file descriptor")
        if tape.protected:
            raise OSError(errno.EACCES, "Permission denied")
        if tape.worm and at < len(tape.records):
            raise OSError(errno.EIO, "Input/output error")

    def _settle(self, tape: Tape, *, mark: bool) -> None:
        """What the drive does between writing and moving."""
        if self._wrote and mark:
            tape.records.append(_FILEMARK)
            self._drive.position += 1
        self._wrote = False
        tape.synced = len(tape.records)

    def _filemarks(self, tape: Tape, at: int, count: int, *, sync: bool) -> None:
        if count:
            self._require_writable(tape, at)
            tape.cut(at)
            tape.records.extend([_FILEMARK] * count)
            self._drive.position = at + count
            self._behind_mark = False
            self._wrote = False
        if sync:
            tape.synced = len(tape.records)

    def _space_records(self, tape: Tape, at: int, count: int) -> None:
        for _ in range(count):
            self._ended = at >= len(tape.records)
            crossed = None if self._ended else tape.records[at]
            at += not self._ended
            self._drive.position = at
            if crossed is _FILEMARK:
                raise OSError(errno.EIO, "Input/output error")

    def _space(self, tape: Tape, at: int, count: int) -> None:
        left, step = abs(count), 1 if count > 0 else -1
        while left:
            if step > 0 and at >= len(tape.records):
                self._drive.position, self._ended = at, True
                raise OSError(errno.EIO, "Input/output error")
            if step < 0 and at == 0:
                self._drive.position = 0
                raise OSError(errno.EIO, "Input/output error")
            crossed = tape.records[at] if step > 0 else tape.records[at - 1]
            at += step
            left -= crossed is _FILEMARK
        self._drive.position = at
        self._behind_mark = step > 0
