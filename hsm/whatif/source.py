"""Where a history comes from, as values that another process can open again."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from hsm.catalog import activations, history
from hsm.catalog.engine import Catalog, open_engine
from hsm.clock import SystemClock
from hsm.config import Config
from hsm.errors import HsmError
from policies.whatif.history import Access, AccessKind, Arrival, Event, scaled
from policies.whatif.historyfile import read_history, write_history
from policies.whatif.span import Span
from policies.whatif.synthetic import Hospital, synthetic

DEFAULT_LENGTH = timedelta(days=365)


class WhatIfError(HsmError):
    """The simulation cannot be made from what is there; the message says what to give."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Synthetic:
    """A generated history."""

    hospital: Hospital
    span: Span

    def events(self) -> Iterator[Event]:
        return synthetic(self.hospital, self.span.begin, self.span.end)

    def __str__(self) -> str:
        return (
            f"a made-up hospital with {self.hospital.studies_a_day:g} studies a day and "
            f"{self.hospital.stock_years:g} years of stock (seed {self.hospital.seed})"
        )


@dataclass(frozen=True, slots=True)
class Recorded:
    """A history in a file."""

    path: Path
    name: str

    def events(self) -> Iterator[Event]:
        return read_history(self.path)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Source:
    """A history and how much of it: what :func:`policies.whatif.simulate.simulate` replays."""

    origin: Synthetic | Recorded
    scale: float = 1.0
    seed: int = 0

    def events(self) -> Iterator[Event]:
        return scaled(self.origin.events(), self.scale, self.seed)

    def __str__(self) -> str:
        return f"{self.origin}, {self.scale:g} times as large" if self.scale != 1 else str(self.origin)


def span_of(source: Recorded, begin: datetime | None, end: datetime | None) -> Span:
    """The time that is asked for; without an end up to the last event, without a beginning a year of it,
    or all of a shorter history.

    :raises WhatIfError: the history is empty, or has nothing then.
    """
    first: datetime | None = None
    last: datetime | None = None
    if begin is None or end is None:
        for event in source.events():
            first, last = first or event.at, event.at
        if first is None or last is None:
            raise WhatIfError(
                f"{source} is empty: nothing has been recorded yet; try --synthetic 100 for a made-up one"
            )
        end = end or last + timedelta(seconds=1)
        begin = begin or max(first, end - DEFAULT_LENGTH)
    try:
        return Span(begin, end)
    except ValueError as error:
        raise WhatIfError(str(error)) from error


@contextmanager
def recorded(config: Config, end: datetime | None) -> Iterator[Recorded]:
    """What the catalog has recorded, copied once into a file that is deleted afterwards: the database is
    read for seconds and not for as long as the simulation takes.

    :raises WhatIfError: the catalog is not there or cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="hsm-whatif-") as folder:
        path = Path(folder) / "history.jsonl.gz"
        _copy(config, path, end)
        yield Recorded(path, f"what {config.catalog.url.partition('://')[0]} has recorded")


def in_force(config: Config) -> Mapping[str, str] | None:
    """The texts of the policies in force by file; None where there is no catalog yet, or nothing was ever
    put into force: then it is what stands in the folder.

    :raises WhatIfError: the catalog cannot be read.
    """
    if _missing_file(config) is not None:
        return None
    with _catalog(config) as catalog, catalog.read() as session:
        found = activations.active(session)
        return None if found is None else dict(found.texts)


def _copy(config: Config, path: Path, end: datetime | None) -> None:
    missing = _missing_file(config)
    if missing is not None:
        raise WhatIfError(
            f"{missing} is not there: no archive has recorded anything here; "
            "try --synthetic 100, or --history FILE"
        )
    with _catalog(config) as catalog, catalog.read() as session:
        found = history.span(session)
        if found is None:
            write_history(path, ())
            return
        begin, last = found[0], found[1] + timedelta(seconds=1)
        write_history(path, _events(history.events(session, begin, min(end or last, last))))


@contextmanager
def _catalog(config: Config) -> Iterator[Catalog]:
    engine = open_engine(config.catalog.url)
    try:
        yield Catalog(engine, SystemClock())
    except SQLAlchemyError as error:
        raise WhatIfError(f"the catalog cannot be read: {error}; see hsm catalog check") from error
    finally:
        engine.dispose()


def _missing_file(config: Config) -> str | None:
    """The file of a SQLite catalog that is not there: opening it would make an empty one."""
    prefix = "sqlite:///"
    file = config.catalog.url.removeprefix(prefix)
    return file if file != config.catalog.url and not Path(file).is_file() else None


def _events(recorded: Iterable[history.Arrived | history.Accessed]) -> Iterator[Event]:
    """Of a day of long ago only the number of retrieves is known: they are taken to have been at its end,
    when what arrived on that day was there."""
    waiting: list[tuple[datetime, int, Access]] = []
    number = 0
    for event in recorded:
        while waiting and waiting[0][0] <= event.at:
            yield heapq.heappop(waiting)[2]
        if isinstance(event, history.Arrived):
            yield Arrival(event.at, event.study_uid, event.size, dict(event.values))
            continue
        query = event.kind == history.QUERY
        at = event.at + history.DAY - timedelta(seconds=1) if event.daily else event.at
        for _ in range(1 if query else event.times):
            number += 1
            access = Access(at, event.study_uid, AccessKind.QUERY if query else AccessKind.RETRIEVE)
            heapq.heappush(waiting, (at, number, access))
    while waiting:
        yield heapq.heappop(waiting)[2]
