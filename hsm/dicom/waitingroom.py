"""How many retrieves may wait at the same time: for storage, or for their turn at a destination.

Each holds an association while it waits, for hours where a person has to fetch a cartridge. Without a limit
they would fill the archive, and modalities could not store.
"""

from __future__ import annotations

import threading

from hsm.config import DicomConfig


def places(config: DicomConfig) -> int:
    """For one receiver: its part of ``retrieve.held_max``, or of half of all associations; 1 at least."""
    held = config.retrieve.held_max
    every = config.max_associations // 2 if held is None else held
    return max(1, -(-every // config.receivers))


class WaitingRoom:
    """Counts those that wait. A reload changes :attr:`places`; nobody who is in is sent away."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._inside = 0
        self._lock = threading.Lock()

    def enter(self) -> bool:
        """Take a place; False where none is left."""
        with self._lock:
            if self._inside >= self.places:
                return False
            self._inside += 1
            return True

    def leave(self) -> None:
        """Give back a place that was taken."""
        with self._lock:
            self._inside -= 1
