"""What a simulation found, as values; as JSON; as rows of a comparison."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from policies.units import say_duration, say_fraction, say_size
from policies.whatif.library import Robot
from policies.whatif.moments import Micros, moment
from policies.whatif.prices import MONTH_SECONDS, TB, Item, PriceList
from policies.whatif.span import Span
from policies.whatif.stock import Room, Stock
from policies.whatif.tally import PLACES, RECALLED, Day, Tally


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds of many: how they are spread. Zero where there are none."""

    count: int
    p50: float
    p95: float
    longest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The p-th percentile is the least value that p percent of all do not exceed."""
        ordered = sorted(values)
        if not ordered:
            return cls(0, 0.0, 0.0, 0.0)

        def rank(percent: int) -> float:
            return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]

        return cls(len(ordered), rank(50), rank(95), ordered[-1])


@dataclass(frozen=True, slots=True)
class PoolReport:
    """Bytes of one pool; of a removable one those written, on ``volumes`` volumes."""

    name: str
    kind: str
    begin: int
    end: int
    peak: int
    capacity: int
    """Of a removable pool that of the volumes begun."""
    volumes: int
    new_volumes: int
    studies_copied: int
    studies_released: int

    @property
    def peak_fraction(self) -> float:
        return self.peak / self.capacity if self.capacity else 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """One policy's year. Times are seconds, sizes bytes, if nothing else is said."""

    name: str
    begin: str
    end: str
    studies: int
    """All in the archive at the end."""
    arrivals: int
    arrived_bytes: int
    retrieves: int
    hits: Mapping[str, int]
    """Retrieves by where their images came from; see :data:`policies.whatif.tally.PLACES`."""
    recall_latency: Spread
    """Of the retrieves that waited for a recall."""
    latency: Mapping[str, Spread]
    """Of all retrieves, by place."""
    recalls: int
    mounts: int
    mounts_longest_day: int
    trips: int
    protection_lag: Spread
    """How long studies had fewer copies than their goals."""
    unprotected: int
    """Studies that had fewer at the end."""
    late: int
    """Studies that missed a goal's deadline."""
    pools: tuple[PoolReport, ...]
    bill: tuple[Item, ...]
    currency: str
    refused: Mapping[str, int]
    """Studies at the end that a rule would take out of a pool and must not, by rule and reason."""
    problems: tuple[str, ...]
    runs: int
    days: tuple[Day, ...]

    @property
    def cost(self) -> float:
        return sum(item.amount for item in self.bill)

    @property
    def many_days(self) -> int:
        return max(1, len(self.days))

    def hit_rate(self, place: str) -> float:
        """The part of all retrieves that were served from there."""
        return self.hits.get(place, 0) / self.retrieves if self.retrieves else 0.0

    def to_json(self) -> dict[str, Any]:
        """For programs: everything, with the days as series."""
        record = asdict(self)
        record["cost"] = self.cost
        record["hit_rate"] = {place: self.hit_rate(place) for place in PLACES}
        record["bill"] = [{**asdict(item), "amount": item.amount} for item in self.bill]
        return record

    def rows(self) -> list[tuple[str, str]]:
        """What a comparison shows, label and value; the same labels for the same site."""
        many = self.many_days
        wait, lag = self.recall_latency, self.protection_lag
        rows = [
            ("retrieves", f"{self.retrieves}"),
            *((f"  from {PLACE_WORDS[place]}", say_rate(self.hit_rate(place))) for place in PLACES),
            ("recalls a day", f"{self.recalls / many:.1f}"),
            ("mounts a day", f"{self.mounts / many:.1f} (at most {self.mounts_longest_day})"),
            ("operator trips", f"{self.trips} ({self.trips / many * 7:.1f} a week)"),
            ("recall takes (p50)", say_seconds(wait.p50)),
            ("recall takes (p95)", say_seconds(wait.p95)),
            ("recall takes (longest)", say_seconds(wait.longest)),
            ("protection lag (p95)", say_seconds(lag.p95)),
            ("protection lag (longest)", say_seconds(lag.longest)),
            ("not protected at the end", f"{self.unprotected}"),
            ("protected too late", f"{self.late}"),
        ]
        for pool in self.pools:
            tapes = f" on {pool.volumes} volumes" if pool.volumes else ""
            rows.append((f"{pool.name} at the end", say_size(pool.end) + tapes))
            rows.append(
                (f"{pool.name} at its fullest", f"{say_size(pool.peak)} ({say_fraction(pool.peak_fraction)})")
            )
        rows.append(("cost", f"{self.cost:,.0f} {self.currency}"))
        return rows


PLACE_WORDS = {
    "online": "online disk",
    "nearline": "nearline disk",
    "staging": "staging area",
    "cold": "cold objects",
    "library": "volumes in the library",
    "shelf": "volumes on the shelf",
}


def say_rate(rate: float) -> str:
    """``97.25%``; what is not nothing is not shown as nothing."""
    return "0" if rate == 0 else "< 0.01%" if rate < 0.0001 else f"{rate * 100:.2f}%"


def say_seconds(value: float) -> str:
    """``52 s``, ``3 min 10 s``, ``2 d 4 h``."""
    return f"{value:.1f} s" if 0 < value < 10 else say_duration(timedelta(seconds=round(value)))


def make_report(
    name: str,
    stock: Stock,
    robots: Mapping[str, Robot],
    tally: Tally,
    span: Span,
    prices: PriceList,
    short: int,
    begun: Mapping[str, tuple[int, int]],
) -> Report:
    """Sum up.

    :param short: studies with fewer copies than their goals at the end.
    :param begun: bytes and volumes of each pool at the beginning.
    """
    days = tally.days
    hits = {place: sum(day.hits.get(place, 0) for day in days) for place in PLACES}
    waits = array("d")
    for place in RECALLED:
        waits.extend(tally.latency[place])
    return Report(
        name=name,
        begin=_iso(span.begin),
        end=_iso(span.end),
        studies=len(stock.studies),
        arrivals=sum(day.arrivals for day in days),
        arrived_bytes=sum(day.arrived_bytes for day in days),
        retrieves=sum(day.retrieves for day in days),
        hits=hits,
        recall_latency=Spread.of(waits),
        latency={place: Spread.of(tally.latency[place]) for place in PLACES},
        recalls=sum(day.recalls for day in days),
        mounts=sum(day.mounts for day in days),
        mounts_longest_day=max((day.mounts for day in days), default=0),
        trips=sum(day.trips for day in days),
        protection_lag=Spread.of(tally.lags),
        unprotected=short,
        late=tally.late,
        pools=tuple(_pool(room, tally, begun[name]) for name, room in stock.rooms.items()),
        bill=tuple(_bill(stock, robots, tally, span, prices, begun)),
        currency=prices.currency,
        refused=dict(tally.refused),
        problems=tuple(_problems(stock, tally)),
        runs=tally.runs,
        days=tuple(days),
    )


def _iso(at: datetime) -> str:
    return at.isoformat()


def _pool(room: Room, tally: Tally, begun: tuple[int, int]) -> PoolReport:
    return PoolReport(
        name=room.pool.name,
        kind=room.pool.kind.value,
        begin=begun[0],
        end=room.used,
        peak=room.peak,
        capacity=room.capacity,
        volumes=len(room.volumes),
        new_volumes=len(room.volumes) - begun[1],
        studies_copied=tally.studies_copied.get(room.pool.name, 0),
        studies_released=tally.studies_released.get(room.pool.name, 0),
    )


def _bill(
    stock: Stock,
    robots: Mapping[str, Robot],
    tally: Tally,
    span: Span,
    prices: PriceList,
    begun: Mapping[str, tuple[int, int]],
) -> list[Item]:
    items: list[Item] = []
    years = (span.end - span.begin) / timedelta(days=365.25)
    for name, room in stock.rooms.items():
        kind = room.pool.kind.value
        price = prices.of_pool(name, kind)
        items.append(
            Item(f"{name}: kept", room.byte_seconds / MONTH_SECONDS / TB, "TB-month", price.tb_month)
        )
        items.append(Item(f"{name}: read", tally.read_bytes.get(name, 0) / TB, "TB", price.tb_read))
        writes, reads = tally.studies_copied.get(name, 0), tally.reads.get(name, 0)
        items.append(Item(f"{name}: written", writes / 1000, "thousand studies", price.thousand_writes))
        items.append(Item(f"{name}: asked for", reads / 1000, "thousand studies", price.thousand_reads))
        if room.pool.kind.removable:
            new = len(room.volumes) - begun[name][1]
            items.append(Item(f"{name}: new volumes", new, "volume", prices.cartridge.get(kind, 0.0)))
    for robot in robots.values():
        kinds = {r.pool.kind.value for r in stock.rooms.values() if r.pool.library == robot.library.name}
        price_of_drive = max((prices.drive_year.get(kind, 0.0) for kind in kinds), default=0.0)
        drive_years = robot.library.drives * years
        items.append(Item(f"{robot.library.name}: drives", drive_years, "drive-year", price_of_drive))
    items.append(Item("mounts", sum(day.mounts for day in tally.days), "mount", prices.mount))
    items.append(Item("operator", tally.operator_seconds / 3600, "hour", prices.operator_hour))
    return [item for item in items if item.quantity and (item.price or "thousand" not in item.unit)]


def _problems(stock: Stock, tally: Tally) -> list[str]:
    """What an admin must know before anything else."""
    found: list[str] = []
    arrival = stock.site.arrival_pool.name
    if tally.overflow_at is not None:
        found.append(
            f"{arrival} was full: {say_size(tally.overflow_bytes)} arrived for which it had no room, "
            f"from {_day(tally.overflow_at)} on"
        )
    for pool, at in tally.full_waits.items():
        found.append(f"{pool} was full: copies had to wait for room, from {_day(at)} on")
    if tally.unknown_retrieves:
        found.append(f"{tally.unknown_retrieves} retrieves in the history are of studies that never arrived")
    return [*found, *tally.problems]


def _day(at: Micros) -> str:
    return moment(at).date().isoformat()
