"""Several policies on one history, side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from hsm import config
from hsm.config import Config
from hsm.whatif.hardware import site_of
from hsm.whatif.source import Recorded, Source, Synthetic, WhatIfError, in_force, recorded, span_of
from policies import PolicyError, PolicyErrors, PolicySet, PoolInfo, Schedule, load_folder, load_texts
from policies.whatif.history import HistoryError
from policies.whatif.historyfile import write_history
from policies.whatif.prices import PriceList
from policies.whatif.report import Report
from policies.whatif.simulate import simulate as simulate_one
from policies.whatif.site import Site
from policies.whatif.sitefile import read_prices, read_site
from policies.whatif.span import Span
from policies.whatif.stock import SimulationError
from policies.whatif.synthetic import Hospital

CURRENT = "current"
Progress = Callable[[str, float], None]
"""Called with the name of a policy and the part of its simulation that is done."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the simulator."""

    policies: tuple[Path, ...]
    """Files or folders; each is one column of the comparison."""
    begin: datetime | None = None
    end: datetime | None = None
    scale: float = 1.0
    seed: int = 1
    history: Path | None = None
    """A file; else the generator if ``hospital`` is given; else what the catalog has recorded."""
    hospital: Hospital | None = None
    site: Path | None = None
    """Without it, the hardware is what the configuration says."""
    prices: Path | None = None
    """Without it, the examples that come with the software."""
    current: bool = True
    """Also simulate the policies in force (without a catalog those in the configured folder), first."""
    save_history: Path | None = None
    config: Path | None = None


@dataclass(frozen=True, slots=True)
class Simulated:
    """What came of it."""

    reports: tuple[Report, ...]
    """In the order asked, the current policies first."""
    warnings: tuple[str, ...]
    """Of the policies' check, each with its place."""
    history: str
    """Where it came from, in words."""


@dataclass(frozen=True, slots=True)
class _Task:
    """One simulation, as another process can take it."""

    name: str
    texts: Mapping[str, str]
    default: Schedule
    """Of policies that give none."""
    source: Source
    site: Site
    span: Span
    prices: PriceList


def simulate(question: Question, environ: Mapping[str, str], progress: Progress | None = None) -> Simulated:
    """Simulate every policy on the same history, several at a time where there are processors.

    :raises WhatIfError: the policies, the site, the prices or the history have errors (every one of them),
        or something is not there; says what to mend or give.
    :raises ConfigError: the configuration cannot be read.
    """
    try:
        return _simulate(question, environ, progress)
    except PolicyErrors as error:
        raise WhatIfError(*(each.render() for each in error.errors)) from error
    except (HistoryError, SimulationError) as error:
        raise WhatIfError(str(error)) from error


def _simulate(question: Question, environ: Mapping[str, str], progress: Progress | None) -> Simulated:
    found = config.load(question.config, environ)
    site = read_site(question.site) if question.site is not None else site_of(found)
    prices = read_prices(question.prices or config.packaged_etc() / "simulate" / "prices.yaml")
    default = Schedule(every_seconds=found.schedule.policies_seconds)
    chosen = _policies(question, found, site, default)
    warnings = tuple(each.render() for _, policies in chosen for each in policies.warnings)
    with _source(question, found) as (source, span):
        if question.save_history is not None:
            _save(question.save_history, source)
        tasks = [
            _Task(name, policies.texts, default, source, site, span, prices) for name, policies in chosen
        ]
        return Simulated(tuple(_all(tasks, progress)), warnings, str(source))


def _load(path: Path, site: Site, default: Schedule) -> PolicySet:
    """A file or a folder, checked against the pools of the site.

    :raises PolicyErrors: with every error; also if it cannot be read.
    """
    if path.is_dir():
        return load_folder(path, infos(site), default)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyErrors([PolicyError(str(path), 0, 0, f"cannot be read: {error}")]) from error
    return load_texts({str(path): text}, infos(site), default)


def _load_current(found: Config, site: Site, default: Schedule) -> PolicySet:
    """What is in force by the catalog; without one, what stands in the folder."""
    texts = in_force(found)
    return _load(found.policies, site, default) if texts is None else load_texts(texts, infos(site), default)


def infos(site: Site) -> list[PoolInfo]:
    """The pools as policies know them."""
    return [PoolInfo(pool.name, pool.kind.value, pool.tier, pool.site) for pool in site.pools]


def _policies(
    question: Question, found: Config, site: Site, default: Schedule
) -> list[tuple[str, PolicySet]]:
    """Each with a name of its own, the current ones first."""
    loads: dict[str, Callable[[], PolicySet]] = {}
    if question.current:
        loads[CURRENT] = lambda: _load_current(found, site, default)
    for path in question.policies:
        name = path.stem if path.is_file() else path.name or str(path)
        while name in loads:
            name += "+"
        loads[name] = partial(_load, path, site, default)
    if not loads:
        raise WhatIfError("there is nothing to simulate: give --policy FILE")
    loaded: list[tuple[str, PolicySet]] = []
    errors: list[PolicyError] = []
    for name, load in loads.items():
        try:
            loaded.append((name, load()))
        except PolicyErrors as error:
            errors += error.errors
    if errors:
        raise PolicyErrors(errors)
    return loaded


@contextmanager
def _source(question: Question, found: Config) -> Iterator[tuple[Source, Span]]:
    if question.hospital is not None:
        end = question.end or _midnight(datetime.now().astimezone())
        begin = question.begin or end - timedelta(days=365)
        try:
            span = Span(begin, end)
        except ValueError as error:
            raise WhatIfError(str(error)) from error
        hospital = replace(question.hospital, seed=question.seed)
        yield Source(Synthetic(hospital, span), question.scale, question.seed), span
    elif question.history is not None:
        file = Recorded(question.history, str(question.history))
        yield Source(file, question.scale, question.seed), span_of(file, question.begin, question.end)
    else:
        with recorded(found, question.end) as origin:
            span = span_of(origin, question.begin, question.end)
            yield Source(origin, question.scale, question.seed), span


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _save(path: Path, source: Source) -> None:
    try:
        write_history(path, source.events())
    except OSError as error:
        raise WhatIfError(f"{path} cannot be written: {error}") from error


def _all(tasks: list[_Task], progress: Progress | None) -> list[Report]:
    workers = min(len(tasks), os.cpu_count() or 1)
    if workers == 1:
        return [_one(task, progress) for task in tasks]
    done: dict[int, Report] = {}
    # Spawned: a fork of a process that has threads may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_one, task): number for number, task in enumerate(tasks)}
        for future in as_completed(futures):
            number = futures[future]
            done[number] = future.result()
            if progress is not None:
                progress(tasks[number].name, 1.0)
    return [done[number] for number in range(len(tasks))]


def _one(task: _Task, progress: Progress | None = None) -> Report:
    """Runs in a process of its own."""
    policies = load_texts(task.texts, infos(task.site), task.default)
    tell = None if progress is None else lambda part: progress(task.name, part)
    return simulate_one(task.name, policies, task.source.events(), task.site, task.span, task.prices, tell)
