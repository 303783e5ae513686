"""The planner joined to the archive: the next sessions, whether one makes room, and everybody's turn.

What decides is :mod:`hsm.planner`; what is looked at is :mod:`hsm.sight`; what runs is :mod:`hsm.floor`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from hsm import planner, sight
from hsm.blame import to_avoid
from hsm.catalog import media, queuelooks, timings
from hsm.catalog.engine import Catalog
from hsm.claims import Drives
from hsm.errors import DriverError
from hsm.floor import Floor, Place
from hsm.locate import Head, located
from hsm.log import get_logger
from hsm.pools import Pools
from hsm.reader import Reader
from hsm.reckoning import Factors, seconds_left
from hsm.staging import Staging
from hsm.stopwatch import Stopwatch

log = get_logger(__name__)

LOOK_AGAIN_SECONDS = 10.0
"""A session looks again whether its drive is needed though nothing new is queued: drives come and go too."""
FRESH_SECONDS = 2.0
"""An outlook is worked out anew when it is older."""


class Planning:
    """One for each daemon; any thread may ask."""

    def __init__(
        self,
        catalog: Catalog,
        pools: Pools,
        staging: Staging,
        reader: Reader,
        drives: Drives,
        reserved: Mapping[str, int] | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        """
        :param reserved: by library, how many drives are kept free for recalls.
        :param stopwatch: what the drives do now.
        """
        self._catalog = catalog
        self.stopwatch = stopwatch or Stopwatch(catalog)
        self._pools = pools
        self._staging = staging
        self._reader = reader
        self._drives = drives
        self._reserved = reserved or {}
        self._homes = {pool.name: pool.library for pool in pools.tapes.values()}
        self._scratch = {pool.name: pool.scratch for pool in pools.tapes.values()}
        self.floor = Floor()
        self._lock = threading.Lock()
        self._outlook: tuple[float, planner.Outlook] | None = None

    def look(self) -> sight.Picture:
        """What needs a drive now."""
        busy, now = [running.barcode for running in self.floor.running], self._catalog.clock.now()
        with self._catalog.read() as session:
            return sight.look(session, self._pools, self._staging, self._reader, now, busy)

    def plan(self, picture: sight.Picture, using: Mapping[str, int]) -> planner.Plan:
        """The next sessions, the changers asked what is in their drives.

        :param using: drives in use, by policy.
        """
        drives = self._heads(self.floor.saw(sight.drives(self._pools, self._drives, picture.off)))
        work = sight.within_drives(picture, using)
        decide = self._decide(picture, drives)
        return decide(work, picture.volumes, drives, self._catalog.clock.now())

    def makes_room(self, place: Place, using: Callable[[], Mapping[str, int]], left: Sequence[int]) -> str:
        """Whether the session of a drive stops before its next package, the first of ``left``, because the
        drive is needed for something more urgent: why, or empty. It always does one package first.

        It is asked before every package, so it looks closely only when something new is queued, or when the
        last look is old: a drive must not be kept waiting.

        :param using: drives in use, by policy.
        """
        running = self.floor.goes_on(place, left)
        if running is None or not running.left:
            return ""
        now, tick = self._catalog.clock.now(), self._catalog.clock.monotonic()
        try:
            with self._catalog.read() as session:
                least = min(each.priority for each in running.left)
                urgent = queuelooks.more_urgent(session, least, now)
            if not urgent[0] or self.floor.knows(place, urgent, tick, LOOK_AGAIN_SECONDS):
                return ""
            picture = self.look()
        except (SQLAlchemyError, DriverError) as error:
            log.warning("whether drive %d of %s is needed cannot be seen now: %s", place[1], place[0], error)
            return ""
        drives, work = self.floor.drives, sight.within_drives(picture, using())
        decide = partial(self._decide(picture, drives), ordered=False)
        found = planner.yields_to(running, planner.Situation(work, picture.volumes, drives, now), decide)
        return f"makes room: {found.why}" if found is not None else ""

    def outlook(self) -> planner.Outlook:
        """Everybody's turn, if nothing else arrives; at most some seconds old."""
        with self._lock:
            now = self._catalog.clock.monotonic()
            if self._outlook is not None and 0 <= now - self._outlook[0] < FRESH_SECONDS:
                return self._outlook[1]
            found = self._look_ahead()
            self._outlook = (now, found)
            return found

    def turns(self, request_pks: Sequence[int]) -> dict[int, dict[str, object]]:
        """For the API: of these requests those that need a drive, see :func:`turn_record`."""
        outlook = self.outlook()
        found = {pk: outlook.of(pk) for pk in request_pks}
        return {pk: turn_record(each, outlook.now) for pk, each in found.items() if each is not None}

    def seconds_once_there(self, barcode: str, library: str, position: int | None, size: int) -> float:
        """From a volume's coming into the library to the last byte of a package on it, if a drive is free."""
        with self._catalog.read() as session:
            factors = Factors(timings.recent(session))
            volume = media.find_volume(session, barcode)
            locate = Head(session, volume).locate_seconds(position, size) if volume is not None else 0.0
        model = planner.Pace.of(planner.model_of(barcode))
        pace = factors.paces(lambda _: model)(library)
        return pace.change(holds_one=True) + locate * factors.of(library).locate + pace.stream(size)

    def _look_ahead(self) -> planner.Outlook:
        picture, drives, running = self.look(), self._heads(self.floor.drives), self.floor.running
        begun = {each.request_pk for session in running for each in session.left}
        with self._catalog.read() as session:
            factors = Factors(timings.recent(session))
            every = [*picture.work, *(each for run in running for each in run.left)]
            known = [each for each in media.volumes(session) if each.library in self._pools.libraries]
            with_ends, costs = located(session, every, known, least=1)
        places = {volume.barcode: volume.library or "" for volume in picture.volumes}
        ends = {each.request_pk: each for each in with_ends}
        pace = factors.paces(self._pace(picture))
        waiting = [ends[each.request_pk] for each in picture.work if each.request_pk not in begun]
        at = planner.Situation(waiting, picture.volumes, drives, self._catalog.clock.now())
        rules = planner.Rules(self._decide(picture, drives), pace, factors.costs(costs, places))
        return planner.forecast(at, rules, running=[self._so_far(each, factors, pace) for each in running])

    def _heads(self, drives: Sequence[planner.DriveAt]) -> tuple[planner.DriveAt, ...]:
        """The drives, with where their heads are."""
        head = self.stopwatch.head
        return tuple(
            each if each.holds is None else replace(each, head=head(each.library, each.address, each.holds))
            for each in drives
        )

    def _pace(self, picture: sight.Picture) -> planner.PaceOf:
        """By the first cartridge of each library: they are of one generation, or near."""
        models = {
            volume.library: planner.Pace.of(planner.model_of(volume.barcode))
            for volume in sorted(picture.volumes, key=lambda each: each.barcode, reverse=True)
            if volume.library is not None
        }
        return lambda library: models.get(library) or planner.Pace()

    def _so_far(self, running: planner.Running, factors: Factors, pace: planner.PaceOf) -> planner.Running:
        """With what is left of its first request, by what the drive does at this moment."""
        place = (running.drive.library, running.drive.address)
        doing, now = self.stopwatch.now.get(place), self._catalog.clock.monotonic()
        if doing is None or not running.left or doing.barcode != running.barcode:
            return running
        first, own = running.left[0], factors.of(place[0])
        if doing.request_pk not in (None, first.request_pk):
            return running
        takes = seconds_left(doing, now, own, pace(place[0]), first.size)
        return replace(running, first_takes=takes) if takes is not None else running

    def _decide(
        self, picture: sight.Picture, drives: Sequence[planner.DriveAt]
    ) -> Callable[..., planner.Plan]:
        used = [(drive.library, drive.address) for drive in drives if drive.in_service]
        site = planner.Site(
            self._homes, picture.costs, self._scratch, to_avoid(picture.pairs, used), self._reserved
        )
        return partial(planner.plan, site=site)


def turn_record(turn: planner.Forecast, now: datetime) -> dict[str, object]:
    """A request's turn in plain values: ``position`` (0: under way, 1: next on its drive), ``library``,
    ``drive``, ``volume``, ``starts_at`` and ``finishes_at`` (if nothing more urgent arrives), ``why``, and
    ``ahead``: each request whose turn comes first on the drive, and why."""

    def at(seconds: float | None) -> datetime | None:
        return None if seconds is None else now + timedelta(seconds=round(seconds))

    return {
        "position": turn.position,
        "library": turn.library,
        "drive": turn.drive,
        "volume": turn.volume,
        "starts_at": at(turn.starts),
        "finishes_at": at(turn.finishes),
        "why": turn.reason,
        "ahead": [{"request": each.request_pk, "why": each.why} for each in turn.ahead],
        "ahead_total": turn.ahead_total,
    }
