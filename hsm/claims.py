"""Who uses which drive of this process's libraries."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from hsm.errors import Refused


class InUse(Refused):
    """A drive or a volume is in use by somebody else of this process; it is free again by itself."""


class Drives:
    """Which drives of this process's libraries are in use, so that nobody moves a volume under a reader."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: dict[tuple[str, int], str] = {}
        self._leaving: set[str] = set()

    def claim(self, library: str, address: int, barcode: str = "") -> bool:
        """Take a drive (for a volume); False when somebody has it, or has the volume in another one, or the
        volume is on its way out."""
        with self._lock:
            if (library, address) in self._busy or barcode in self._leaving or self._holder(barcode):
                return False
            self._busy[library, address] = barcode
            return True

    def free(self, library: str, address: int) -> None:
        with self._lock:
            self._busy.pop((library, address), None)

    @contextlib.contextmanager
    def leaving(self, barcode: str) -> Iterator[None]:
        """Nobody begins a session with this volume meanwhile.

        :raises InUse: a session has it.
        """
        with self._lock:
            self._require_unused(barcode)
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
    def claimed(self, library: str, address: int, barcode: str = "") -> Iterator[None]:
        """:raises InUse: the drive is, or the volume that it is wanted for."""
        self.require_unused(barcode)
        if not self.claim(library, address, barcode):
            raise InUse(f"drive {address} of {library} is in use; try again when it has finished")
        try:
            yield
        finally:
            self.free(library, address)

    def require_unused(self, barcode: str) -> None:
        """:raises InUse: somebody has a drive for this volume."""
        with self._lock:
            self._require_unused(barcode)

    def _require_unused(self, barcode: str) -> None:
        if (place := self._holder(barcode)) is not None:
            library, address = place
            raise InUse(
                f"{barcode} is in use in drive {address} of {library}; try again when it has finished"
            )

    def _holder(self, barcode: str) -> tuple[str, int] | None:
        """The drive that was claimed for a volume."""
        return (
            next((place for place, held in self._busy.items() if held == barcode), None) if barcode else None
        )
