"""Who uses which drive of this process's libraries."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from hsm.errors import Refused


class Drives:
    """Which drives of this process's libraries are in use, so that nobody moves a volume under a reader."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: dict[tuple[str, int], str] = {}
        self._leaving: set[str] = set()

    def claim(self, library: str, address: int, barcode: str = "") -> bool:
        """Take a drive (for a volume); False when somebody has it, or the volume is on its way out."""
        with self._lock:
            if (library, address) in self._busy or barcode in self._leaving:
                return False
            self._busy[library, address] = barcode
            return True

    def free(self, library: str, address: int) -> None:
        with self._lock:
            self._busy.pop((library, address), None)

    @contextlib.contextmanager
    def leaving(self, barcode: str) -> Iterator[None]:
        """Nobody begins a session with this volume meanwhile.

        :raises Refused: a session has it.
        """
        with self._lock:
            for (library, address), held in self._busy.items():
                if held == barcode:
                    raise Refused(
                        f"{barcode} is in use in drive {address} of {library}; try again when it has finished"
                    )
            self._leaving.add(barcode)
        try:
            yield
        finally:
            with self._lock:
                self._leaving.discard(barcode)

    def busy(self, library: str, address: int) -> bool:
        with self._lock:
            return (library, address) in self._busy

    @contextlib.contextmanager
    def claimed(self, library: str, address: int) -> Iterator[None]:
        """:raises Refused: the drive is in use."""
        if not self.claim(library, address):
            raise Refused(f"drive {address} of {library} is in use; try again when it has finished")
        try:
            yield
        finally:
            self.free(library, address)
