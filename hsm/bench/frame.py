"""What all benchmarks share: interleaved runs, ratios with their spread, and how results are told."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Spread:
    """Least, median and greatest of several measurements."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """:raises ValueError: of no value."""
        known = list(values)
        if not known:
            raise ValueError("nothing was measured")
        return cls(min(known), statistics.median(known), max(known))

    @classmethod
    def ratio(cls, ours: Sequence[float], theirs: Sequence[float]) -> Spread:
        """Of ours / theirs, run by run: both of a pair met the same weather.

        :raises ValueError: the runs are no pairs, or there are none.
        """
        return cls.of(mine / other for mine, other in zip(ours, theirs, strict=True))

    def text(self, digits: int = 2) -> str:
        """``median (min to max)``."""
        return f"{self.median:.{digits}f} ({self.min:.{digits}f} to {self.max:.{digits}f})"

    def record(self) -> dict[str, float]:
        return {"min": self.min, "median": self.median, "max": self.max}


def interleaved(trials: Mapping[str, Callable[[int], T]], rounds: int) -> dict[str, list[T]]:
    """Run all trials in turn, A B A B, so that what else the machine does falls on all alike.

    :param trials: by name; each is called with the number of the round, from 0.
    :returns: each trial's results, in the order of the rounds.
    """
    results: dict[str, list[T]] = {name: [] for name in trials}
    for number in range(rounds):
        for name, trial in trials.items():
            results[name].append(trial(number))
    return results


@dataclass(frozen=True, slots=True)
class Table:
    """A result for people; a column whose name begins with ``>`` is aligned to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What one benchmark found."""

    name: str
    machine: Mapping[str, str]
    settings: Mapping[str, Cell]
    tables: tuple[Table, ...]
    measurements: tuple[Mapping[str, Any], ...]
    """For programs: the same with every figure, JSON values only."""
    notes: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """The report as one JSON object."""
        return {
            "benchmark": self.name,
            "machine": dict(self.machine),
            "settings": dict(self.settings),
            "measurements": [dict(each) for each in self.measurements],
            "notes": list(self.notes),
        }


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": str(os.cpu_count() or 0),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def _field(path: str, name: str) -> str:
    """A value of one of Linux's ``name : value`` files; empty elsewhere."""
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return ""
