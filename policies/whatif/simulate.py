"""The simulation: a history replayed through policies on a site's hardware. Deterministic."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from policies.policy import PolicySet
from policies.whatif.agenda import Agenda
from policies.whatif.desk import Desk
from policies.whatif.gates import Gate
from policies.whatif.history import Access, AccessKind, Arrival, Event, History, until
from policies.whatif.library import Robot
from policies.whatif.moments import DAY, Micros, Timeline, micros, seconds
from policies.whatif.prices import PriceList
from policies.whatif.protection import Protection
from policies.whatif.report import Report, make_report
from policies.whatif.runner import Runner
from policies.whatif.settle import Settling
from policies.whatif.site import Site
from policies.whatif.span import Span
from policies.whatif.stock import Stock, Study
from policies.whatif.tally import Tally
from policies.whatif.transfers import Lane
from policies.whatif.turns import timed_pools
from policies.whatif.walker import Walker
from policies.whatif.works import Works


def simulate(
    name: str,
    policies: PolicySet,
    history: History,
    site: Site,
    span: Span,
    prices: PriceList,
    progress: Callable[[float], None] | None = None,
) -> Report:
    """Replay ``history`` and report.

    :param name: how the report calls these policies.
    :param progress: called once a simulated day with the part that is done, 0 to 1.
    :raises HistoryError: the history is not in order of time.
    :raises SimulationError: a study is given twice, or the archive would have broken a promise.
    """
    return Simulation(policies, site, span, progress).run(name, history, prices)


class Simulation:
    """Wires the parts together and feeds them with events."""

    def __init__(
        self, policies: PolicySet, site: Site, span: Span, progress: Callable[[float], None] | None = None
    ) -> None:
        begin, end = micros(span.begin), micros(span.end)
        self.span = span
        self._progress = progress
        self.stock = stock = Stock(site, timed_pools(policies))
        self.timeline = timeline = Timeline(begin)
        self.tally = tally = Tally(begin, end)
        self.walker = Walker(site.operator, timeline, tally)
        gates = {policy.name: Gate(policy) for policy in policies.policies}
        self.robots = {
            library.name: Robot(library, stock, timeline, tally, self.walker, gates, self._rate)
            for library in site.libraries
        }
        self.lanes = {
            name: Lane(room, stock, timeline, tally, gates, self._rate)
            for name, room in stock.rooms.items()
            if not room.pool.kind.removable
        }
        self.protection = Protection(timeline, tally)
        self.runner = Runner(stock, timeline, tally, span.begin, self._act)
        self.agenda = Agenda(policies, stock, timeline, end, self.protection.look, self.runner.wanted)
        self.runner.attend(self.agenda)
        self.desk = Desk(stock, timeline, tally, self.robots, self.agenda.touch, self.agenda.longest_window)
        self.works = Works(
            stock, timeline, tally, self.desk, self.lanes, self.robots, self.walker, self._changed
        )
        self._act_now = self.works.do
        self._settling = Settling(policies, stock, self.robots, begin)
        self._begin, self._end = begin, end
        self._begun: dict[str, tuple[int, int]] = {}

    def run(self, name: str, history: History, prices: PriceList) -> Report:
        """Replay, and report."""
        events = until(history, self.span.end)
        first = self._absorb(events)
        self._settling.settle()
        self._open()
        if first is not None:
            self._happen(first)
        for event in events:
            self._happen(event)
        self._advance(self._end)
        short = self.protection.finish(self._end)
        self.tally.refused = self.runner.refusals()
        for room in self.stock.rooms.values():
            room.settle(self._end)
        return make_report(name, self.stock, self.robots, self.tally, self.span, prices, short, self._begun)

    def _absorb(self, events: Iterator[Event]) -> Event | None:
        """Take in what was before the time of interest; returns the first event of it."""
        for event in events:
            at = micros(event.at)
            if at >= self._begin:
                return event
            if isinstance(event, Arrival):
                self.stock.arrive(event).sealed = True
            elif event.kind is AccessKind.RETRIEVE and event.study in self.stock.by_uid:
                self.desk.note(self.stock.by_uid[event.study], at)
        return None

    def _open(self) -> None:
        self._begun = {name: (room.used, len(room.volumes)) for name, room in self.stock.rooms.items()}
        for room in self.stock.rooms.values():
            room.begin(self._begin)
        for study in self.stock.studies:
            self.agenda.touch(study)
        self.timeline.at(self._begin + DAY, self._midnight)

    def _midnight(self) -> None:
        """End of a day of the simulation."""
        self._sample(self.timeline.now - 1)
        if self._progress is not None:
            self._progress((self.timeline.now - self._begin) / (self._end - self._begin))
        self.timeline.at(self.timeline.now + DAY, self._midnight)

    def _sample(self, at: Micros) -> None:
        self.tally.day(at).used = {name: room.used for name, room in self.stock.rooms.items()}

    def _advance(self, to: Micros) -> None:
        self.timeline.run_before(to)
        if to == self._end:
            self._sample(self._end - 1)

    def _happen(self, event: Event) -> None:
        self.timeline.run_before(micros(event.at))
        if isinstance(event, Arrival):
            self._arrive(event)
        else:
            self._access(event)

    def _arrive(self, arrival: Arrival) -> None:
        now, tally = self.timeline.now, self.tally
        room = self.stock.rooms[self.stock.site.arrival_pool.name]
        if arrival.size > room.free:
            tally.overflow_bytes += arrival.size
            tally.overflow_at = tally.overflow_at or now
        study = self.stock.arrive(arrival)
        day = tally.day(now)
        day.arrivals += 1
        day.arrived_bytes += study.size
        self.timeline.at(now + seconds(self.stock.site.quiet_seconds), self._seal, study)
        self.runner.pool_changed(room.pool.name)

    def _seal(self, study: Study) -> None:
        study.sealed = True
        study.copies[0].verified = self.timeline.now
        self.agenda.touch(study)

    def _access(self, access: Access) -> None:
        study = self.stock.by_uid.get(access.study)
        if access.kind is AccessKind.QUERY:
            self.tally.day(self.timeline.now).queries += 1
        elif study is None:
            self.tally.unknown_retrieves += 1
        else:
            self.desk.retrieve(study)

    def _act(self, *decided: object) -> None:
        self._act_now(*decided)  # type: ignore[arg-type]

    def _rate(self, study: Study) -> float | None:
        return self.desk.source_rate(study)

    def _changed(self, study: Study, pools: tuple[str, ...]) -> None:
        self.agenda.touch(study)
        for pool in pools:
            self.runner.pool_changed(pool)
