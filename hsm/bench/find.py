"""``hsm bench find``: does a query cost what its answer is, or what the archive is?

Each query runs on made-up archives of several sizes, in turn, every time for another patient, study
or day. What is timed is what C-FIND does in the catalog: a connection, the query, the matches with
their availability; not DICOM's encoding of them. Half of the queries have answers of one size
whatever the archive's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from hsm import terms
from hsm.availability import Reach
from hsm.bench import archive
from hsm.bench.archive import FIRST_DAY, Shape
from hsm.bench.databases import Database, catalogs
from hsm.bench.fill import fill, settle
from hsm.bench.frame import Cell, Report, Spread, Table, interleaved, machine
from hsm.catalog import find
from hsm.catalog.engine import Catalog
from hsm.model import Tier
from hsm.terms import AnyOf, Exact, Field, Level, Range, Term, Wildcard

REACH = Reach({"online": Tier.ONLINE, "nearline": Tier.NEARLINE, "vault": Tier.OFFLINE})
UIDS_IN_LIST = 100
_STRIDE = 7_368_787

Wanted = Mapping[Field, Term]


@dataclass(frozen=True, slots=True)
class Query:
    """A kind of query; ``wanted`` makes one of it for a study of the archive."""

    name: str
    level: Level
    wanted: Callable[[Shape, int], Wanted]


@dataclass(frozen=True, slots=True)
class Run:
    """One query, answered."""

    matches: int
    first: float
    """Seconds to the first match."""
    total: float
    """Seconds to the last."""


def _name(shape: Shape, study: int, group: int, wanted: Callable[[str], str]) -> Wanted:
    """By the name of the study's patient, or of the next one who has the group."""
    patient = archive.patient_of(shape, study)
    while (text := archive.patient_name(shape, patient)[group]) is None:
        patient = (patient + 1) % shape.patients
    term = terms.name_term(wanted(text))
    assert term is not None
    return {Field.PATIENT_NAME: term}


def _prefix(text: str) -> str:
    return text.partition("^")[0][:-1] + "*"


def _some_studies(shape: Shape, study: int) -> Term:
    numbers = range(study, study + UIDS_IN_LIST * 37, 37)
    return AnyOf(tuple(Exact(archive.study_uid(number % shape.studies)) for number in numbers))


def _day_and_modality(shape: Shape, study: int) -> Wanted:
    day = archive.day_of(shape, study)
    return {Field.STUDY_DATE: Range(day, day), Field.MODALITIES: Exact(archive.modality_of(study))}


def _weeks_and_modality(shape: Shape, study: int) -> Wanted:
    day = study // shape.studies_per_day
    low, high = (f"{FIRST_DAY + timedelta(days=each):%Y%m%d}" for each in (day - 27, day))
    return {Field.STUDY_DATE: Range(low, high), Field.MODALITIES: Exact("CT")}


QUERIES: Sequence[Query] = (
    Query(
        "study by patient ID",
        Level.STUDY,
        lambda shape, study: {Field.PATIENT_ID: Exact(f"P{archive.patient_of(shape, study):08}")},
    ),
    Query(
        "study by accession number",
        Level.STUDY,
        lambda shape, study: {Field.ACCESSION: Exact(archive.accession(study))},
    ),
    Query("study by name, prefix*", Level.STUDY, lambda shape, study: _name(shape, study, 0, _prefix)),
    Query("study by kanji name, prefix*", Level.STUDY, lambda shape, study: _name(shape, study, 1, _prefix)),
    Query("patient by name, prefix*", Level.PATIENT, lambda shape, study: _name(shape, study, 0, _prefix)),
    Query("study by day and modality", Level.STUDY, _day_and_modality),
    Query(
        f"study by list of {UIDS_IN_LIST} UIDs",
        Level.STUDY,
        lambda shape, study: {Field.STUDY_UID: _some_studies(shape, study)},
    ),
    Query(
        "series by study UID",
        Level.SERIES,
        lambda shape, study: {Field.STUDY_UID: Exact(archive.study_uid(study))},
    ),
    Query(
        "image by series UID",
        Level.IMAGE,
        lambda shape, study: {Field.SERIES_UID: Exact(archive.series_uid(study, 0))},
    ),
    Query(
        "image by SOP Instance UID",
        Level.IMAGE,
        lambda shape, study: {Field.SOP_INSTANCE_UID: Exact(next(archive.instance_uids(shape, study, 0)))},
    ),
    Query("study by 4 weeks and CT", Level.STUDY, _weeks_and_modality),
    Query("study by 1st letter*", Level.STUDY, lambda shape, study: _name(shape, study, 0, _first_letter)),
    Query("study, no key", Level.STUDY, lambda _shape, _study: {}),
    Query("study by name, *middle*", Level.STUDY, lambda shape, study: _name(shape, study, 0, _middle)),
    Query(
        "study by description, text*",
        Level.STUDY,
        lambda _shape, _study: {Field.STUDY_DESCRIPTION: Wildcard("Abdomen*")},
    ),
)


def _first_letter(text: str) -> str:
    return f"{text[0]}*"


def _middle(text: str) -> str:
    return f"*{text[1:7]}*"


def answer(catalog: Catalog, query: Query, wanted: Wanted, limit: int) -> Run:
    """Ask, and read the matches up to ``limit`` as C-FIND would."""
    start = time.perf_counter()
    first, count = 0.0, 0
    with catalog.read() as session:
        for _ in find.find(session, query.level, wanted, REACH):
            count += 1
            if count == 1:
                first = time.perf_counter() - start
            if count == limit:
                break
    total = time.perf_counter() - start
    return Run(count, first or total, total)


def run(
    database: Database,
    sizes: Sequence[int],
    folder: Path,
    *,
    rounds: int,
    limit: int,
    queries: Sequence[Query] = QUERIES,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Fill a catalog for each size, then measure.

    :param sizes: studies of each archive.
    :param folder: empty; what is made in it stays there.
    :param rounds: how often each query is asked of each archive.
    :param limit: matches after which a query is broken off, as a peer does with C-CANCEL.
    :param say: told what is going on.
    :raises ConfigError: the database is not to be had here.
    """
    shapes = {f"{size:,}": Shape(size) for size in sizes}
    with catalogs(database, folder) as make:
        filled = {}
        for name, shape in shapes.items():
            say(f"{database.value}: filling {name} studies")
            filled[name] = make()
            fill(filled[name], archive.batches(shape))
            settle(filled[name])
        results: dict[str, dict[str, list[Run]]] = {}
        for query in queries:
            say(f"{database.value}: {query.name}")
            trials = {name: _trial(filled[name], shape, query, limit) for name, shape in shapes.items()}
            interleaved(trials, 1)  # plans are compiled and pages are warm
            results[query.name] = interleaved(trials, rounds)
    settings: dict[str, Cell] = {"database": database.value, "rounds": rounds, "limit": limit}
    return Report(
        "find",
        machine(),
        settings,
        (_table(database, results),),
        tuple(_measurements(database, results)),
    )


def _trial(catalog: Catalog, shape: Shape, query: Query, limit: int) -> Callable[[int], Run]:
    def ask(number: int) -> Run:
        study = (number + 1) * _STRIDE % shape.studies
        return answer(catalog, query, query.wanted(shape, study), limit)

    return ask


def _table(database: Database, results: Mapping[str, Mapping[str, Sequence[Run]]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, by_size in results.items():
        least = next(iter(by_size.values()))
        for size, runs in by_size.items():
            matches = statistics.median(each.matches for each in runs)
            first = Spread.of(each.first * 1000 for each in runs)
            total = Spread.of(each.total * 1000 for each in runs)
            growth = Spread.ratio(_firsts(runs), _firsts(least))
            times = (round(first.median, 1), round(first.max, 1), round(total.median, 1))
            rows.append((name, size, round(matches), *times, growth.text(1)))
    columns = ("query", ">studies", ">matches", ">first", ">at worst", ">all", ">first, to smallest")
    title = f"find on {database.value}: milliseconds to the first match and to the last, median"
    return Table(title, columns, tuple(rows))


def _firsts(runs: Sequence[Run]) -> list[float]:
    return [each.first for each in runs]


def _measurements(
    database: Database, results: Mapping[str, Mapping[str, Sequence[Run]]]
) -> Iterator[dict[str, Any]]:
    for name, by_size in results.items():
        least = next(iter(by_size.values()))
        for size, runs in by_size.items():
            yield {
                "database": database.value,
                "query": name,
                "studies": int(size.replace(",", "")),
                "matches": statistics.median(each.matches for each in runs),
                "first_seconds": Spread.of(_firsts(runs)).record(),
                "total_seconds": Spread.of(each.total for each in runs).record(),
                "first_ratio_to_smallest": Spread.ratio(_firsts(runs), _firsts(least)).record(),
            }
