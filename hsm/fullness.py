"""Whether a pool has no room left for something."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hsm.barcodes import belongs
from hsm.catalog import media
from hsm.errors import DriverError
from hsm.pools import DiskPool, LibraryPool, Pools
from hsm.states import BLANK_VOLUMES


def is_full(pools: Pools, session: Session, pool: str, size: int) -> bool:
    """Whether none of its volumes has ``size`` bytes free, and it can have no further one by itself.

    A volume that is away is not full: what it has room for is not known.
    """
    tapes = pools.tapes.get(pool)
    if tapes is not None:
        return not any(_takes(volume, tapes, size) for volume in media.volumes(session))
    volumes = pools.volumes_of(pool)
    return bool(volumes) and all(_is_full(volume, size) for volume in volumes)


def _is_full(volume: DiskPool, size: int) -> bool:
    try:
        room = volume.room() if volume.there else None
    except DriverError:
        return False
    return room is not None and room.free < size


def _takes(volume: media.VolumeRef, pool: LibraryPool, size: int) -> bool:
    if volume.pool == pool.name:
        return volume.takes_writes and (not volume.capacity or volume.capacity - volume.used >= size)
    blank = volume.state in BLANK_VOLUMES and volume.library == pool.library
    return blank and belongs(volume.name, pool.scratch)
