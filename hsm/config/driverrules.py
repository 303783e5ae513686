"""What a driver says of its options without being opened; one that is not installed says so here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from drivers import registry
from drivers.base import Family
from drivers.errors import DriverError
from hsm.config.document import Place

Finding = tuple[Place, str]


def store_errors(
    place: Place,
    pool: Mapping[str, Any],
    option_sets: Sequence[tuple[Place, Mapping[str, Any]]],
    path_options: Mapping[str, str],
) -> Iterator[Finding]:
    """Of a pool that needs no drive.

    :param option_sets: each volume's place and whole options.
    :param path_options: the option of a driver that is a path, and is complained of elsewhere.
    """
    driver, layout = pool.get("driver", "folder"), pool.get("layout", "packages")
    if not isinstance(driver, str):
        return
    try:
        family = registry.family(driver)
    except DriverError as error:
        yield (*place, "driver"), str(error)
        return
    if family.open_store is None:
        yield (
            (*place, "driver"),
            f"driver {driver!r} gives libraries, not stores; configure it under `libraries`",
        )
        return
    if layout == "files" and family.path_option is None:
        yield (
            (*place, "layout"),
            f"layout: files needs a driver whose objects are files of a folder; {driver} takes "
            "layout: packages",
        )
    if layout == "files" and pool.get("volumes"):
        yield (*place, "volumes"), "a pool with layout: files is one volume; expected no volumes"
    reserve = pool.get("reserve_bytes")
    if reserve and "reserve_bytes" not in family.options:
        yield (*place, "reserve_bytes"), f"driver {driver!r} cannot keep room free; leave reserve_bytes out"
        reserve = None
    ours = {"reserve_bytes": reserve} if reserve else {}
    for at, options in option_sets:
        yield from _option_errors(at, family, {**options, **ours}, path_options)


def library_errors(
    place: Place, library: Mapping[str, Any], path_options: Mapping[str, str]
) -> Iterator[Finding]:
    """Of a library."""
    driver, options = library.get("driver"), library.get("options", {})
    if not isinstance(driver, str) or not isinstance(options, Mapping):
        return
    try:
        family = registry.family(driver)
    except DriverError as error:
        yield (*place, "driver"), str(error)
        return
    if family.open_library is None:
        yield (
            (*place, "driver"),
            f"driver {driver!r} gives stores, not libraries; configure it under `pools`",
        )
        return
    yield from _option_errors(place, family, options, path_options)


def _option_errors(
    place: Place, family: Family, options: Mapping[str, Any], path_options: Mapping[str, str]
) -> Iterator[Finding]:
    needed = path_options.get(family.name)
    try:
        registry.check_options(family, {**({needed: "/"} if needed else {}), **options})
    except DriverError as error:
        yield (*place, "options"), str(error)
