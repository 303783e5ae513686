"""What an administrator must know of media: blank cartridges that run out, libraries that are full, drives
out of service."""

from __future__ import annotations

from drivers.base import ElementKind
from hsm.barcodes import belongs
from hsm.catalog import media, usage
from hsm.catalog.engine import Catalog
from hsm.errors import DriverError
from hsm.log import get_logger
from hsm.pools import Pools

log = get_logger(__name__)

IDLE_SHOWN_MAX = 5
"""So many cartridges are proposed to be taken out of a full library."""


class MediaWatch:
    """Looks at blank cartridges and drives; says what is news in the log once."""

    def __init__(self, catalog: Catalog, pools: Pools) -> None:
        self._catalog = catalog
        self._pools = pools
        self._said: frozenset[str] = frozenset()

    def problems(self) -> list[str]:
        """What is wrong now, each with what to do."""
        if not self._pools.libraries:
            return []
        with self._catalog.read() as session:
            blank = media.blank_barcodes(session)
            off = usage.out_of_service(session)
        found = self._full()
        for pool in self._pools.tapes.values():
            left = sum(belongs(barcode, pool.scratch) for barcode in blank.get(pool.library, ()))
            if left < pool.scratch_low:
                found.append(
                    f"pool {pool.name}: {left} blank cartridges are left in {pool.library}, fewer than "
                    f"scratch_low: {pool.scratch_low}; put some in ({', '.join(pool.scratch)})"
                )
        found += [
            f"drive {address} of {library} is out of service: {reason}; when it is mended: "
            f"hsm library drive {library} {address} on"
            for (library, address), reason in sorted(off.items())
            if library in self._pools.libraries
        ]
        return found

    def _full(self) -> list[str]:
        """Libraries with fewer free slots than loaded drives: none of these can take another cartridge."""
        found = []
        for name, library in self._pools.libraries.items():
            try:
                seen = library.inventory()
            except DriverError as error:
                log.debug("library %s does not tell what is in it: %s", name, error)
                continue
            slots = [each for each in seen.elements if each.kind is ElementKind.SLOT]
            free = sum(each.barcode is None and not each.note for each in slots)
            loaded = sum(drive.barcode is not None for drive in seen.drives())
            if not slots or free >= loaded:
                continue
            with self._catalog.read() as session:
                idle = usage.idle_in_slots(session, name, IDLE_SHOWN_MAX)
            which = f" ({', '.join(idle)}: nothing waits for them)" if idle else ""
            found.append(
                f"library {name} is full: {free} free slots for {loaded} loaded drives, which cannot "
                f"all be unloaded; take cartridges out{which}: hsm library export BARCODE --shelf SHELF"
            )
        return found

    def look(self) -> None:
        """Log what has become a problem since the last look, and what is none any more."""
        now = frozenset(self.problems())
        for each in sorted(now - self._said):
            log.warning("operator: %s", each)
        for each in sorted(self._said - now):
            log.info("no longer so: %s", each)
        self._said = now
