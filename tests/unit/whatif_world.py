"""Small archives for tests of the simulator: hardware with round numbers, and a history by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from policies.load import load_texts
from policies.policy import PolicySet
from policies.pools import PoolInfo
from policies.whatif.history import Access, Arrival, Event
from policies.whatif.prices import PriceList
from policies.whatif.report import Report
from policies.whatif.simulate import Simulation
from policies.whatif.site import Kind, Library, Operator, Pool, Site
from policies.whatif.span import Span
from policies.whatif.tape import LTO8

GB = 10**9
TB = 10**12
BEGIN = datetime(2025, 3, 3, tzinfo=UTC)
"""A Monday."""
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

ONLINE = Pool(
    "online",
    capacity=10 * TB,
    read_bytes_per_second=500e6,
    write_bytes_per_second=250e6,
    latency_seconds=0.01,
)
NEARLINE = Pool(
    "nearline",
    tier="nearline",
    capacity=50 * TB,
    read_bytes_per_second=200e6,
    write_bytes_per_second=100e6,
    latency_seconds=0.1,
)
TAPE = Pool("tape", Kind.TAPE, "offline", library="library")
LIBRARY = Library("library", LTO8, drives=1, slots=10)
SITE = Site((ONLINE, NEARLINE, TAPE), (LIBRARY,), Operator(), staging_bytes=TB, quiet_seconds=600)

TO_TAPE = """
policy: p
priority: 1
copies: {tape: 1}
rules:
  - {name: to tape, copy to: tape, when: received > 1 day}
  - {name: free, release from: online, when: received > 2 days}
schedule: every 60 seconds
"""
"""Stock lies on tape alone."""


def site(
    *,
    online: Pool = ONLINE,
    nearline: Pool = NEARLINE,
    library: Library = LIBRARY,
    operator: Operator | None = None,
    more: Sequence[Pool] = (),
    staging: int = TB,
) -> Site:
    return replace(
        SITE,
        pools=(online, nearline, TAPE, *more),
        libraries=(library,),
        operator=operator or Operator(),
        staging_bytes=staging,
    )


def policies(text: str, hardware: Site = SITE) -> PolicySet:
    infos = [PoolInfo(pool.name, pool.kind.value, pool.tier, pool.site) for pool in hardware.pools]
    return load_texts({"test.yaml": text}, infos)


def arrival(study: str, at: datetime, size: int = GB, **facts: object) -> Arrival:
    known: dict[str, object] = {"modalities": "\\CT\\", "study_date": f"{at:%Y%m%d}", "patient_id": study}
    return Arrival(at, study, size, {**known, **facts})  # type: ignore[dict-item]


def access(study: str, at: datetime) -> Access:
    return Access(at, study)


def in_order(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=lambda event: (event.at, isinstance(event, Access)))


def play(
    text: str,
    events: Iterable[Event],
    days: float = 7,
    hardware: Site = SITE,
    prices: PriceList | None = None,
) -> tuple[Report, Simulation]:
    """Simulate from :data:`BEGIN`; what is earlier is stock."""
    span = Span(BEGIN, BEGIN + timedelta(days=days))
    simulation = Simulation(policies(text, hardware), hardware, span)
    return simulation.run("test", in_order(events), prices or PriceList()), simulation
