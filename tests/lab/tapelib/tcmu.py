"""One device on the kernel's TCMU ring (Documentation/target/tcmu-design.rst)."""

from __future__ import annotations

import mmap
import os
import struct
import time
import traceback
from pathlib import Path

from tapelib.device import Device
from tapelib.sense import HARDWARE_ERROR, CheckCondition, ReservationConflict

CORE = Path("/sys/kernel/config/target/core/user_7")
PORT = Path("/sys/kernel/config/target/loopback/naa.5001405aa0000001/tpgt_1")
NEXUS = "naa.5001405aa0000002"

COMMAND_ENTRY, UNKNOWN_ENTRY, VALID_LENGTH = 1, 1, 2
TO_DEVICE = frozenset({0x04, 0x0A, 0x15, 0x1D, 0x4C, 0x55, 0x5F, 0x8D})
"""Operation codes whose data goes to the device."""
GOOD, CHECK_CONDITION, RESERVATION_CONFLICT = 0x00, 0x02, 0x18
TAIL = 64
"""Where the ring's tail is kept: a cache line of its own."""
UIO_WAIT_SECONDS = 5.0


class Ring:
    """A device's ring of commands, and the file descriptor that says when there are some."""

    def __init__(self, name: str, device: Device) -> None:
        self._name, self._device = name, device
        core = CORE / name
        core.mkdir(parents=True)
        (core / "control").write_text(
            f"dev_config=tapelab/{name},dev_size=1048576,hw_block_size=512,nl_reply_supported=-1"
        )
        (core / "enable").write_text("1")
        (core / "attrib/pgr_support").write_text("0")  # persistent reservations are ours, not the kernel's
        uio = self._uio(f"tcm-user/7/{name}/tapelab/{name}")
        size = int(Path(f"/sys/class/uio/{uio}/maps/map0/size").read_text(), 16)
        self._wait_for(Path(f"/dev/{uio}"))
        self.descriptor = os.open(f"/dev/{uio}", os.O_RDWR)
        self._map = mmap.mmap(self.descriptor, size)
        self._offset, self._size = struct.unpack_from("<II", self._map, 4)

    def _uio(self, wanted: str) -> str:
        for entry in Path("/sys/class/uio").iterdir():
            if (entry / "name").read_text().strip() == wanted:
                return entry.name
        raise SystemExit(f"tapelib: the kernel made no uio device for {self._name}")

    def _wait_for(self, path: Path) -> None:
        deadline = time.monotonic() + UIO_WAIT_SECONDS
        while not path.exists():
            if time.monotonic() > deadline:
                raise SystemExit(f"tapelib: {path} did not appear within {UIO_WAIT_SECONDS:g} s")
            time.sleep(0.02)

    def plug(self, at: int) -> None:
        """Make the device appear as a logical unit of the loopback port; blocks until it was probed."""
        unit = PORT / f"lun/lun_{at}"
        unit.mkdir(parents=True)
        (unit / "p").symlink_to(CORE / self._name)

    def serve(self) -> None:
        """Do all that the ring holds."""
        os.read(self.descriptor, 4)
        ring = self._map
        while True:
            (head,) = struct.unpack_from("<I", ring, 12)
            (tail,) = struct.unpack_from("<I", ring, TAIL)
            if head == tail:
                break
            entry = self._offset + tail
            (length_and_kind,) = struct.unpack_from("<I", ring, entry)
            kind, length = length_and_kind & 7, length_and_kind & ~7
            if kind == COMMAND_ENTRY:
                self._command(entry)
            elif kind not in (0, 2):  # padding, and notices of task management
                ring[entry + 7] = UNKNOWN_ENTRY
            struct.pack_into("<I", ring, TAIL, (tail + length) % self._size)
        os.write(self.descriptor, b"\0\0\0\0")

    def _command(self, entry: int) -> None:
        ring = self._map
        count, _bidirectional, _dif, cdb_at = struct.unpack_from("<IIIxxxxQ", ring, entry + 8)
        vectors = [struct.unpack_from("<QQ", ring, entry + 48 + 16 * at) for at in range(count)]
        cdb = bytes(ring[cdb_at : cdb_at + 16])
        to_device = cdb[0] in TO_DEVICE
        data = b"".join(ring[at : at + length] for at, length in vectors) if to_device else b""
        answer, status, sense = self._ask(cdb, data)
        ring[entry + 8 : entry + 16 + 96] = bytes(104)
        if answer is not None and not to_device and vectors:
            self._answer(entry, vectors, answer, is_short_fine=not sense)
        ring[entry + 8] = status
        ring[entry + 16 : entry + 16 + len(sense)] = sense

    def _ask(self, cdb: bytes, data: bytes) -> tuple[bytes | None, int, bytes]:
        """Data for the initiator, status, sense data."""
        try:
            return self._device.handle(cdb, data), GOOD, b""
        except CheckCondition as error:
            return error.data, CHECK_CONDITION, error.sense
        except ReservationConflict:
            return None, RESERVATION_CONFLICT, b""
        except Exception:  # noqa: BLE001 -- a fault of ours must not hang the kernel; the log tells it
            traceback.print_exc()
            return None, CHECK_CONDITION, CheckCondition(HARDWARE_ERROR, 0x44).sense

    def _answer(
        self, entry: int, vectors: list[tuple[int, int]], answer: bytes, *, is_short_fine: bool
    ) -> None:
        ring, done = self._map, 0
        for at, length in vectors:
            part = answer[done : done + length]
            ring[at : at + len(part)] = part
            done += length
        given = min(len(answer), done)
        if given or is_short_fine:
            struct.pack_into("<I", ring, entry + 12, given)
            ring[entry + 7] = VALID_LENGTH if given else 0
