"""The clock of the machine that the archive runs on: pushed, and put forwards or back by somebody."""

from __future__ import annotations

from datetime import datetime, timedelta

from hsm.clock import ManualClock


class SteppedClock(ManualClock):
    """Wall time may jump; monotonic time never does."""

    def __init__(self) -> None:
        super().__init__()
        self._offset = timedelta()
        self._latest = super().now()

    def now(self) -> datetime:
        found = super().now() + self._offset
        self._latest = max(found, self._latest)
        return found

    def latest(self) -> datetime:
        """The latest time that it has ever shown."""
        self.now()
        return self._latest

    def step(self, seconds: float) -> None:
        """Somebody sets the wall clock, or its server does."""
        self._offset += timedelta(seconds=seconds)

    @property
    def offset_seconds(self) -> float:
        return self._offset.total_seconds()
