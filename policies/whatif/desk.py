"""Retrieves: from where each is served, how long it takes, and what is fetched for it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from policies.whatif.library import Robot
from policies.whatif.moments import Micros, Timeline, seconds
from policies.whatif.stock import Copy, Stock, Study
from policies.whatif.tally import Tally
from policies.whatif.work import RETRIEVE, Read

STAGING_READ_BYTES_PER_SECOND = 500e6

Then = Callable[[], None]


class Desk:
    """Serves retrieves, and fetches packages from where they cannot be read at once."""

    def __init__(
        self,
        stock: Stock,
        timeline: Timeline,
        tally: Tally,
        robots: Mapping[str, Robot],
        touch: Callable[[Study], None],
        window: Micros,
    ) -> None:
        """:param window: how far back retrieves are remembered for ``accesses(...)``."""
        self._stock = stock
        self._timeline = timeline
        self._tally = tally
        self._robots = robots
        self._touch = touch
        self._window = window
        self._staged: OrderedDict[int, int] = OrderedDict()
        self._staged_bytes = 0
        self._fetching: dict[int, _Fetch] = {}

    def retrieve(self, study: Study) -> None:
        """Somebody wants the study."""
        now = self._timeline.now
        place = self._serve(study)
        self._tally.day(now).retrieves += 1
        self._tally.hit(place, now)
        self.note(study, now)
        self._touch(study)

    def note(self, study: Study, now: Micros) -> None:
        """Remember a retrieve, as policies see it."""
        study.accessed = max(study.accessed, now)
        if self._window:
            study.accesses = [at for at in study.accesses if at >= now - self._window]
            study.accesses.append(now)

    def source_rate(self, study: Study) -> float | None:
        """Bytes a second at which it can be read from disk; None: it is on none."""
        for copy in self._stock.disk_copies(study):
            return self._stock.rooms[copy.pool].pool.read_bytes_per_second
        return STAGING_READ_BYTES_PER_SECOND if study.number in self._staged else None

    def fetch(self, study: Study, priority: int, then: Then) -> str:
        """Bring the study to the staging area, where it is not on disk; joined if under way already.

        Returns where it comes from, as :data:`policies.whatif.tally.PLACES` says.
        """
        fetch = self._fetching.get(study.number)
        if fetch is not None:
            fetch.then.append(then)
            if fetch.read is not None:
                fetch.read.priority = min(fetch.read.priority, priority)
            return fetch.place
        fetch = self._fetching[study.number] = _Fetch(then)
        cold = next((copy for copy in study.copies if copy.volume is None), None)
        best = self._best_volume_copy(study)
        if best is not None and best.volume is not None and (best.volume.in_library or cold is None):
            fetch.place = "library" if best.volume.in_library else "shelf"
            study.recalls += 1
            fetch.read = Read(study, best, best.volume, priority, self._timeline.now)
            fetch.read.then.append(lambda: self._fetched(study))
            self._robots[best.volume.library].read(fetch.read)
        elif cold is not None:
            fetch.place = "cold"
            study.recalls += 1
            pool = self._stock.rooms[cold.pool].pool
            took = pool.latency_seconds + study.size / pool.read_bytes_per_second
            self._tally.count_read(pool.name, study.size)
            self._timeline.at(self._timeline.now + seconds(took), self._thawed, study)
        else:
            raise AssertionError(f"{study.uid} has no copy")  # Stock refuses that
        return fetch.place

    def _serve(self, study: Study) -> str:
        now, tally = self._timeline.now, self._tally
        for copy in self._stock.disk_copies(study):
            pool = self._stock.rooms[copy.pool].pool
            place = "online" if pool.tier == "online" else "nearline"
            tally.latency[place].append(pool.latency_seconds + study.size / pool.read_bytes_per_second)
            if pool.kind.value == "s3":
                tally.count_read(pool.name, study.size)
            return place
        if study.number in self._staged:
            self._staged.move_to_end(study.number)
            tally.latency["staging"].append(study.size / STAGING_READ_BYTES_PER_SECOND)
            return "staging"
        place = ""

        def served() -> None:
            tally.latency[place].append((self._timeline.now - now) / 1e6)

        place = self.fetch(study, RETRIEVE, served)
        return place

    def _best_volume_copy(self, study: Study) -> Copy | None:
        copies = [copy for copy in study.copies if copy.volume is not None]
        return min(
            copies,
            key=lambda copy: (
                not (copy.volume and copy.volume.in_library),
                not (copy.volume and copy.volume.drive is not None),
                copy.volume.number if copy.volume else 0,
            ),
            default=None,
        )

    def _thawed(self, study: Study) -> None:
        self._tally.day(self._timeline.now).recalls += 1
        self._fetched(study)

    def _fetched(self, study: Study) -> None:
        self._stage(study)
        for then in self._fetching.pop(study.number).then:
            then()

    def _stage(self, study: Study) -> None:
        limit = self._stock.site.staging_bytes
        if study.size > limit or study.number in self._staged:
            return
        self._staged[study.number] = study.size
        self._staged_bytes += study.size
        while self._staged_bytes > limit:
            self._staged_bytes -= self._staged.popitem(last=False)[1]


class _Fetch:
    """One package on its way."""

    __slots__ = ("place", "read", "then")

    def __init__(self, then: Then) -> None:
        self.place = ""
        self.read: Read | None = None
        self.then: list[Then] = [then]
