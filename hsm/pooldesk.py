"""What an admin asks of pools: what they are, whether they can be used, a trial, and emptying a volume."""

from __future__ import annotations

import random
import time
from typing import Any

from hsm.catalog import media, storage
from hsm.catalog.engine import Catalog
from hsm.config import Config, PoolConfig
from hsm.drain import Drains
from hsm.errors import NotFound, Refused
from hsm.model import Layout, Tier
from hsm.opening import Trial, configured, trials
from hsm.pools import DiskPool, Pools
from hsm.pooltest import Tester
from hsm.service import State


class PoolDesk:
    """Answers for the pools of a configuration."""

    def __init__(self, config: Config, catalog: Catalog, pools: Pools, drains: Drains) -> None:
        self._config = config
        self._catalog = catalog
        self._pools = pools
        self._drains = drains
        self._kinds = {info.name: info.kind for info in configured(config)}

    def listing(self) -> list[dict[str, Any]]:
        """One record a pool, in the order of the configuration."""
        with self._catalog.read() as session:
            rows = {row.name: row for row in media.volumes(session)}
            draining = storage.draining(session)
        return [self._pool(pool, rows, draining) for pool in self._config.pools]

    def show(self, name: str) -> dict[str, Any]:
        """:raises NotFound: no such pool."""
        found = next((pool for pool in self.listing() if pool["name"] == name), None)
        if found is None:
            raise NotFound(f"the configuration has no pool {name!r}; `hsm pool ls` lists them")
        return found

    def _pool(self, pool: PoolConfig, rows: dict[str, media.VolumeRef], draining: set[int]) -> dict[str, Any]:
        volumes = [
            _volume(each, rows.get(each.label), each.volume_pk in draining)
            for each in self._pools.volumes_of(pool.name)
        ]
        bad = [each for each in volumes if each["state"] != State.SERVING.value]
        state = State.SERVING.value
        if volumes and len(bad) == len(volumes):
            state = bad[0]["state"]
        elif bad:
            state = f"{len(volumes) - len(bad)} of {len(volumes)} volumes in service"
        return {
            "name": pool.name,
            "tier": Tier(pool.tier).value,
            "kind": self._kinds[pool.name],
            "driver": pool.driver if pool.library is None else "",
            "library": pool.library,
            "layout": Layout(pool.layout).value,
            "site": pool.site,
            "state": state,
            "reason": bad[0]["reason"] if bad else "",
            "volumes": volumes,
        }

    def test(self, name: str, volume: str) -> list[dict[str, Any]]:
        """Try each volume, or the one named.

        :raises NotFound: no such pool or volume.
        :raises Refused: the pool is a library's.
        """
        wanted = chosen(self._config, name, volume)
        with self._catalog.read() as session:
            rows = {row.name: row for row in media.volumes(session)}
        identities = [storage.identity(rows[each.volume]) if each.volume in rows else None for each in wanted]
        return [attempt(each, identity) for each, identity in zip(wanted, identities, strict=True)]

    def drain(self, volume: str, by: str) -> dict[str, object]:
        """See :meth:`hsm.drain.Drains.drain`."""
        return self._drains.drain(volume, by)

    def stop_drain(self, volume: str, by: str) -> dict[str, object]:
        """See :meth:`hsm.drain.Drains.stop`."""
        return self._drains.stop(volume, by)


def _volume(pool: DiskPool, row: media.VolumeRef | None, draining: bool) -> dict[str, Any]:
    condition = pool.service.condition if pool.service is not None else None
    room = pool.service.room if pool.service is not None else None
    return {
        "name": pool.label,
        "uuid": storage.identity(row) if row is not None else None,
        "volume_state": row.state.value if row is not None else "",
        "state": condition.state.value if condition else State.SERVING.value,
        "reason": condition.reason if condition else "",
        "since": condition.since if condition else None,
        "total": room.total if room else None,
        "free": room.free if room else None,
        "used": row.used if row is not None else 0,
        "cold": pool.cold,
        "draining": draining,
        "notices": [
            {"severity": each.severity.value, "subject": each.subject, "message": each.message}
            for each in (pool.service.notices if pool.service is not None else ())
        ],
        "figures": [
            {"name": each.name, "value": each.value, "labels": dict(each.labels)}
            for each in (pool.service.figures() if pool.service is not None else ())
        ],
    }


def chosen(config: Config, name: str, volume: str) -> list[Trial]:
    """The volumes to try.

    :raises NotFound: no such pool or volume.
    :raises Refused: the pool is a library's.
    """
    try:
        every = trials(config, name)
    except KeyError:
        raise NotFound(f"the configuration has no pool {name!r}; `hsm pool ls` lists them") from None
    if not every:
        raise Refused(f"pool {name} is on volumes of a library; try that with `hsm library`")
    wanted = [each for each in every if volume in ("", each.volume)]
    if not wanted:
        raise NotFound(f"pool {name} has no volume {volume!r}: {', '.join(each.volume for each in every)}")
    return wanted


def attempt(trial: Trial, identity: str | None) -> dict[str, Any]:
    """Try one volume now; its record."""
    tester = Tester(time.monotonic, random.Random())
    return tester.test(trial.pool, trial.volume, lambda: trial.open(identity), identity).record()
