"""Where a person can put a cartridge into each library, looked at no more often than every few seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable

from drivers.base import Element, ElementKind, Inventory, Library
from hsm.claims import Drives
from hsm.clock import Clock
from hsm.errors import DriverError
from hsm.log import get_logger
from hsm.operators.picklist import Doors
from hsm.pools import Pools

log = get_logger(__name__)

LOOK_SECONDS = 5.0
"""Several consoles look every other second; a changer is asked no more often than this."""


class LibraryDoors:
    """Mail slots, and drives where there is no robot."""

    def __init__(self, pools: Pools, drives: Drives, clock: Clock) -> None:
        self._pools = pools
        self._drives = drives
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[float, Doors]] = {}

    def look(self) -> list[Doors]:
        """One for each library; one that does not answer has none that is free."""
        found = []
        for name, library in self._pools.libraries.items():
            with self._lock:
                at, doors = self._seen.get(name, (0.0, None))
            if doors is None or self._clock.monotonic() - at >= LOOK_SECONDS:
                doors = self._ask(name, library)
                with self._lock:
                    self._seen[name] = (self._clock.monotonic(), doors)
            found.append(doors)
        return found

    def forget(self) -> None:
        """Somebody has put something in."""
        with self._lock:
            self._seen.clear()

    def _ask(self, name: str, library: Library) -> Doors:
        try:
            seen = library.inventory()
        except DriverError as error:
            log.warning("library %s: %s", name, error)
            return Doors(name, (), 1)
        return doors_of(name, seen, lambda drive: self._drives.busy(name, drive))


def doors_of(name: str, seen: Inventory, busy: Callable[[int], bool]) -> Doors:
    """A library's doors: its mail slots, or, where it has none, its drives. Pure."""
    mail = [each for each in seen.elements if each.kind is ElementKind.MAIL]
    if mail:
        free = [each for each in mail if _is_empty(each)]
        return Doors(name, tuple(f"mail slot {each.address}" for each in free), len(mail))
    drives = seen.drives()
    free = [each for each in drives if _is_empty(each) and not busy(each.address)]
    return Doors(name, tuple(f"drive {each.address}" for each in free), max(1, len(drives)))


def _is_empty(element: Element) -> bool:
    return element.barcode is None and not element.note
