"""How many associations each process has, in memory that all of them share."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import time
from collections.abc import Iterator, Sequence
from typing import Final

GONE: Final = 2**32 - 1
"""The connections of a process that is not there."""
LOCK_SECONDS: Final = 1.0
LOCK_PAUSE_SECONDS: Final = 0.001
_FIELD_BYTES: Final = 4
_CONNECTIONS, _COMING, _STANDING = 0, 1, 2
"""Fields of a slot; from the third on, one for each door."""


class Tally:
    """One slot a process: its connections (half-open associations included), connections that were
    assigned to it and have not arrived, and its standing associations, by door. Slot 0 is the daemon's own.
    The second is written under the lock, the others by the process."""

    def __init__(self, file: int, slot: int, doors: int = 1) -> None:
        """:param file: of :meth:`create`, with the same number of doors; this object's to close."""
        self._file = file
        self._memory = mmap.mmap(file, 0)
        self._slot = slot
        self._doors = doors
        self._slot_bytes = (_STANDING + doors) * _FIELD_BYTES
        self.slots = len(self._memory) // self._slot_bytes

    @classmethod
    def create(cls, receivers: int, doors: int = 1) -> Tally:
        file = os.memfd_create("hsm-tally", os.MFD_CLOEXEC)
        os.ftruncate(file, (1 + receivers) * (_STANDING + doors) * _FIELD_BYTES)
        tally = cls(file, 0, doors)
        for slot in range(1, tally.slots):
            tally.mark_gone(slot)
        return tally

    @property
    def file(self) -> int:
        return self._file

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone, as long as the others live up to it: who holds it longer than a second is ill, and an
        association more or less is a smaller harm than an archive that stands still."""
        deadline = time.monotonic() + LOCK_SECONDS
        held = False
        while not held:
            try:
                # By process and not by open file, as flock(2) would: that one is shared with the file.
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
            except (BlockingIOError, PermissionError):
                if time.monotonic() > deadline:
                    break
                time.sleep(LOCK_PAUSE_SECONDS)
        try:
            yield
        finally:
            if held:
                fcntl.lockf(self._file, fcntl.LOCK_UN)

    def note(self, standing: Sequence[int], connections: int) -> None:
        """What this process has; associations by door."""
        for door, count in enumerate(standing):
            self._put(self._slot, _STANDING + door, count)
        self._put(self._slot, _CONNECTIONS, connections)

    def mark_gone(self, slot: int) -> None:
        """That process has ended, and all that it had."""
        for door in range(self._doors):
            self._put(slot, _STANDING + door, 0)
        self._put(slot, _CONNECTIONS, GONE)
        self._put(slot, _COMING, 0)

    def elsewhere(self, door: int | None = None) -> int:
        """Associations that stand in the other processes, of all doors or of one."""
        others = (slot for slot in range(self.slots) if slot != self._slot)
        return sum(self.standing_at(slot, door) for slot in others)

    @property
    def standing(self) -> int:
        """Associations that stand in all of them."""
        return sum(self.standing_at(slot) for slot in range(self.slots))

    def standing_at(self, slot: int, door: int | None = None) -> int:
        """Those of one process."""
        doors = range(self._doors) if door is None else (door,)
        return sum(self._get(slot, _STANDING + each) for each in doors)

    def assign(self) -> int:
        """The receiver with the least to do, this one if in doubt; counts one more for it. Call it
        :meth:`locked`."""
        loads = {
            slot: self._get(slot, _CONNECTIONS) + self._get(slot, _COMING) for slot in range(1, self.slots)
        }
        chosen = min(loads, key=lambda slot: (loads[slot], slot != self._slot))
        self._put(chosen, _COMING, self._get(chosen, _COMING) + 1)
        return chosen

    def arrived(self) -> None:
        """One that was assigned to this process is among its connections. Call it :meth:`locked`."""
        self._put(self._slot, _COMING, max(0, self._get(self._slot, _COMING) - 1))

    def close(self) -> None:
        self._memory.close()
        os.close(self._file)

    def _get(self, slot: int, field: int) -> int:
        start = slot * self._slot_bytes + field * _FIELD_BYTES
        return int.from_bytes(self._memory[start : start + _FIELD_BYTES], "little")

    def _put(self, slot: int, field: int, value: int) -> None:
        start = slot * self._slot_bytes + field * _FIELD_BYTES
        self._memory[start : start + _FIELD_BYTES] = value.to_bytes(_FIELD_BYTES, "little")
