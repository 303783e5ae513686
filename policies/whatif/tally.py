"""What the simulation counts while it runs."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from policies.whatif.moments import DAY, Micros

PLACES = ("online", "nearline", "staging", "cold", "library", "shelf")
"""Where the images of a retrieve came from, quickest first: a disk pool of tier online; another disk or
warm object pool; recalled before and still in the staging area; a cold object; a volume in the library; a
volume on the shelf."""
RECALLED = ("cold", "library", "shelf")
"""Of these, somebody waited for a recall."""


@dataclass(slots=True)
class Day:
    """One day's counts; bytes where the name says so."""

    arrivals: int = 0
    arrived_bytes: int = 0
    retrieves: int = 0
    queries: int = 0
    hits: dict[str, int] = field(default_factory=dict)
    recalls: int = 0
    """Packages brought back from volumes and cold objects, for whatever reason."""
    mounts: int = 0
    trips: int = 0
    copied_bytes: dict[str, int] = field(default_factory=dict)
    released_bytes: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    """Bytes in each pool at its end."""


class Tally:
    """Counters of one simulation; days are counted from the beginning."""

    def __init__(self, begin: Micros, end: Micros) -> None:
        self.begin = begin
        self.days = [Day() for _ in range(-(-(end - begin) // DAY))]
        self.latency: dict[str, array[float]] = {place: array("d") for place in PLACES}
        """Seconds from a retrieve to its study's last byte on disk (or to its being sent from there)."""
        self.lags = array("d")
        """Seconds for which a study had fewer copies than its goals."""
        self.late = 0
        """Studies that had not what a goal demands when its deadline came."""
        self.studies_copied: dict[str, int] = {}
        self.studies_released: dict[str, int] = {}
        self.refused: dict[str, int] = {}
        """Studies at the end that a rule would take out of a pool and must not, by rule and reason."""
        self.unknown_retrieves = 0
        self.overflow_bytes = 0
        """That arrived when the arrival pool had no room for them."""
        self.overflow_at: Micros | None = None
        self.full_waits: dict[str, Micros] = {}
        """Pool -> when a copy first had to wait for room in it."""
        self.problems: dict[str, None] = {}
        self.operator_seconds = 0.0
        self.verified = 0
        self.exported = 0
        self.decisions = 0
        self.runs = 0
        self.read_bytes: dict[str, int] = {}
        """Bytes read back from each pool that is charged for reading."""
        self.reads: dict[str, int] = {}
        """How often that was."""

    def day(self, now: Micros) -> Day:
        return self.days[min(len(self.days) - 1, max(0, (now - self.begin) // DAY))]

    def hit(self, place: str, now: Micros) -> None:
        hits = self.day(now).hits
        hits[place] = hits.get(place, 0) + 1

    def copied(self, pool: str, size: int, now: Micros) -> None:
        copied = self.day(now).copied_bytes
        copied[pool] = copied.get(pool, 0) + size
        self.studies_copied[pool] = self.studies_copied.get(pool, 0) + 1

    def count_read(self, pool: str, size: int) -> None:
        self.read_bytes[pool] = self.read_bytes.get(pool, 0) + size
        self.reads[pool] = self.reads.get(pool, 0) + 1

    def released(self, pool: str, size: int, now: Micros) -> None:
        released = self.day(now).released_bytes
        released[pool] = released.get(pool, 0) + size
        self.studies_released[pool] = self.studies_released.get(pool, 0) + 1

    def problem(self, text: str) -> None:
        """Say it once."""
        self.problems[text] = None
