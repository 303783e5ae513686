"""Which cartridges are read on which drives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hsm.catalog import usage
from hsm.catalog.engine import Catalog
from hsm.catalog.media import VolumeRef
from hsm.custody import Custody
from hsm.errors import DriverError, HsmError
from hsm.log import get_logger
from hsm.rebuild.sidebyside import Lane

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Turn:
    """A cartridge, and which of all volumes it is."""

    number: int
    """From 1."""
    volume: VolumeRef
    volumes: int


def drive_lanes(
    catalog: Catalog, custody: Custody, turns: Sequence[Turn], drives_max: int | None
) -> list[Lane[Turn]]:
    """Each library's cartridges, as many at the same time as it has drives in service; all of them one after
    the other where only one drive is wanted."""
    if drives_max == 1:
        return [Lane(turns, 1)] if turns else []
    with catalog.read() as session:
        off = usage.out_of_service(session)
    by_library: dict[str, list[Turn]] = {}
    for turn in turns:
        by_library.setdefault(turn.volume.library or "", []).append(turn)
    lanes = []
    for library, mine in by_library.items():
        width = min(len(mine), max(1, _drives(custody, library, off)))
        if width > 1:
            _put_back(custody, library, mine, width)
        lanes.append(Lane(mine, width))
    return lanes


def _drives(custody: Custody, library: str, off: dict[tuple[str, int], str]) -> int:
    try:
        drives = custody.library(library).inventory().drives()
    except (DriverError, HsmError) as error:
        log.error("%s: %s", library, error)
        return 1  # and each of its cartridges says so
    return sum((library, drive.address) not in off for drive in drives)


def _put_back(custody: Custody, library: str, turns: Sequence[Turn], width: int) -> None:
    """Cartridges that are not read first do not lie in the drives then: a drive that is taken for another
    one would have to be taken from there for them."""
    names = {turn.volume.name for turn in turns[width:]}
    for drive in custody.library(library).inventory().drives():
        if drive.barcode in names:
            try:
                custody.unload(library, drive.address, "rebuild")
            except (DriverError, HsmError) as error:
                log.error("drive %d of %s keeps %s: %s", drive.address, library, drive.barcode, error)
