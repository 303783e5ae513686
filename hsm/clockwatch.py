"""The machine's clock is watched: after it was put back, what waits for a time does not wait so much longer.

A request that failed is tried again after a pause, which stands in the catalog as a time of day. Where the
clock is put back by an hour, that time comes an hour later than was meant; so it is put back as well.
"""

from __future__ import annotations

from datetime import timedelta

from hsm.catalog import postponed
from hsm.catalog.engine import Catalog
from hsm.log import get_logger

log = get_logger(__name__)

STEP_SECONDS_MIN = 60.0
"""Less is not looked at: nothing waits much longer for it, and the clocks of several nodes differ too."""


class ClockWatch:
    """One for each daemon, made when it starts: the journal's last record tells of a step meanwhile."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog, self._clock = catalog, catalog.clock
        last = postponed.last_record_at(catalog)
        self._wall, self._monotonic = self._clock.now(), self._clock.monotonic()
        self._owed = timedelta(0) if last is None else max(last - self._wall, timedelta(0))

    def round(self) -> int:
        """How many requests were waiting for a time that has moved."""
        wall, monotonic = self._clock.now(), self._clock.monotonic()
        passed = timedelta(seconds=monotonic - self._monotonic)
        back = self._wall + passed - wall
        self._wall, self._monotonic = wall, monotonic
        if back >= timedelta(seconds=STEP_SECONDS_MIN):
            self._owed += back
        if self._owed < timedelta(seconds=STEP_SECONDS_MIN):
            return 0
        back = self._owed  # and stays so until it is done: the catalog may be away
        moved = postponed.bring_forward(self._catalog, wall, back)
        self._owed = timedelta(0)
        log.warning("the clock was put back by %s; %d requests wait no longer for that", back, moved)
        return moved
