"""How full each pool is, as policies see it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hsm.catalog import media, rulework
from hsm.pools import Pools
from policies import PoolFill


def pool_fills(session: Session, pools: Pools) -> dict[str, PoolFill]:
    """A file system says it itself, a tape pool is the sum of its volumes. What live requests will free
    counts as free: a second run does not free it again."""
    leaving = rulework.bytes_leaving(session)
    fills = {}
    for name, (used, capacity) in media.pool_bytes(session).items():
        if name in pools.disks:
            room = pools.disks[name].store.capacity()
            used, capacity = room.total - room.free, room.total
        fills[name] = PoolFill(used, capacity, min(leaving.get(name, 0), used))
    return fills
