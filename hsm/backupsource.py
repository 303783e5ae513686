"""Backups of the catalog that lie in pools, found without a catalog."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from drivers import registry
from drivers.base import Library, Store
from hsm.config import Config
from hsm.errors import DriverError, NotFound
from hsm.log import get_logger
from hsm.opening import trials
from hsm.poolbackup import fetch, newest

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BackupAt:
    """Where a backup is looked for."""

    pool: str
    volume: str = ""
    """One volume of the pool; empty for all of them."""
    key: str = ""
    """One backup; empty for the youngest."""


def fetch_from_pool(
    found: Config, source: BackupAt, to: IO[bytes], tell: Callable[[str], None]
) -> tuple[str, str]:
    """Copy a backup into a file; where it lay, and its SHA-256. Nothing is written to the pool.

    :raises NotFound: there is no such pool, or no backup in what was looked at.
    :raises Corrupt: it is not what was written.
    """
    known = {pool.name: pool for pool in found.pools}
    if source.pool not in known:
        raise NotFound(f"there is no pool {source.pool!r}; configured: {', '.join(known)}")
    name = known[source.pool].library
    if name is None:
        return _from_disks(found, source, to, tell)
    described = found.library(name)
    return _from_library(registry.open_library(described.driver, described.options), source, to, tell)


def _from_disks(
    found: Config, source: BackupAt, to: IO[bytes], tell: Callable[[str], None]
) -> tuple[str, str]:
    best: tuple[str, str, Store] | None = None
    trouble = ""
    for trial in trials(found, source.pool):
        if source.volume not in ("", trial.volume):
            continue
        tell(f"{trial.volume}: looking for backups")
        try:
            store = trial.open(None)
            key = source.key or newest(store)
        except DriverError as error:
            log.warning("%s cannot be looked at: %s", trial.volume, error)
            trouble = f"; {trial.volume}: {error}"
            continue
        if key and (best is None or key > best[0]):
            best = (key, trial.volume, store)
    if best is None:
        raise NotFound(f"there is no backup of a catalog in pool {source.pool}{trouble}")
    key, volume, store = best
    return f"{key} on {volume}", fetch(store, key, to)


def _from_library(
    library: Library, source: BackupAt, to: IO[bytes], tell: Callable[[str], None]
) -> tuple[str, str]:
    """Each cartridge in turn; the one with the youngest backup is mounted once more."""
    seen = library.inventory()
    drives = [each.address for each in seen.drives()]
    barcodes = sorted({each.barcode for each in seen.elements if each.barcode})
    wanted = [each for each in barcodes if source.volume in ("", each)]
    if not drives or not wanted:
        raise NotFound(f"{source.volume or 'no cartridge'} is in library {library.name}; bring it in")
    drive, best = drives[0], ("", "")
    try:
        for barcode in wanted:
            tell(f"{barcode}: looking for backups")
            try:
                held = seen.find(barcode)
                label = library.read_label(
                    barcode, held.address if held and held.address in drives else drive
                )
                if label is None or label.pool != source.pool:
                    continue
                at = held.address if held and held.address in drives else drive
                key = source.key or newest(library.mount(label, at))
            except DriverError as error:
                log.warning("%s cannot be looked at: %s", barcode, error)
                continue
            best = max(best, (key, barcode))
        if not best[0]:
            raise NotFound(f"there is no backup of a catalog on the cartridges of pool {source.pool}")
        key, barcode = best
        held = library.inventory().find(barcode)
        at = held.address if held and held.address in drives else drive
        label = library.read_label(barcode, at)
        if label is None:
            raise NotFound(f"{barcode} is blank now")
        return f"{key} on {barcode}", fetch(library.mount(label, at), key, to)
    finally:
        for address in drives:
            library.unmount(address)
