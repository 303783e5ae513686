"""Finds driver families through the entry-point group ``hsm.drivers``, the built-in ones too.

Only the family that is asked for is imported.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from drivers.base import Family, Library, Store
from drivers.errors import Permanent

GROUP = "hsm.drivers"


def names(points: Iterable[EntryPoint] | None = None) -> tuple[str, ...]:
    """The names of all installed families, sorted, without importing any."""
    return tuple(sorted(_points(points)))


def family(name: str, points: Iterable[EntryPoint] | None = None) -> Family:
    """Import and return the family ``name``.

    :raises Permanent: there is none, two packages give it, or it cannot be imported.
    """
    found = _points(points)
    if name not in found:
        raise Permanent(
            f"unknown driver {name!r}{_suggestion(name, found)}; "
            f"installed: {', '.join(sorted(found)) or 'none'}"
        )
    values = sorted({point.value for point in found[name]})
    if len(values) > 1:
        raise Permanent(f"driver {name!r} is given by {' and by '.join(values)}; uninstall one of them")
    try:
        loaded = found[name][0].load()
    except (ImportError, AttributeError) as error:
        raise Permanent(
            f"driver {name!r} ({values[0]}) cannot be loaded: {error}; "
            f"is its extra installed (pip install 'hsm-archive[{name}]')?"
        ) from error
    if not isinstance(loaded, Family):
        raise Permanent(f"driver {name!r} ({values[0]}) is a {type(loaded).__name__}; expected a Family")
    return loaded


def check_options(given: Family, options: Mapping[str, Any]) -> None:
    """:raises Permanent: options that the family does not know or lacks, all of them in one message; or a
    value of one cannot be meant."""
    problems = [
        f"unknown option {name!r}{_suggestion(name, given.options)}"
        for name in sorted(set(options) - given.options)
    ]
    problems += [f"option {name!r} is missing" for name in sorted(given.required - set(options))]
    if problems:
        raise Permanent(
            f"driver {given.name!r}: {'; '.join(problems)} (options: {', '.join(sorted(given.options))})"
        )
    if given.check is not None:
        given.check(options)


def open_store(name: str, options: Mapping[str, Any]) -> Store:
    """Open a Store of the family ``name``.

    :raises Permanent: unknown driver or options, or a family that gives no Stores.
    """
    found = family(name)
    if found.open_store is None:
        raise Permanent(f"driver {name!r} gives libraries, not stores; configure it under `libraries`")
    check_options(found, options)
    return found.open_store(options)


def open_library(name: str, options: Mapping[str, Any]) -> Library:
    """Open a Library of the family ``name``.

    :raises Permanent: unknown driver or options, or a family that gives no Libraries.
    """
    found = family(name)
    if found.open_library is None:
        raise Permanent(f"driver {name!r} gives stores, not libraries; configure it under `pools`")
    check_options(found, options)
    return found.open_library(options)


def _points(points: Iterable[EntryPoint] | None) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in _installed(entry_points) if points is None else points:
        found.setdefault(point.name, []).append(point)
    return found


@functools.lru_cache(maxsize=4)
def _installed(read: Callable[..., Iterable[EntryPoint]]) -> tuple[EntryPoint, ...]:
    """Read once: it looks through every installed package, and what is installed while this process runs
    cannot be relied on."""
    return tuple(read(group=GROUP))


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
