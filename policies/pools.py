"""What a policy must know of the configured pools, and what a name in a policy stands for."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolInfo:
    """One configured pool."""

    name: str
    kind: str = ""
    """What its volumes are: disk, nas, sftp, s3, optical, tape; empty if it is not known."""
    tier: str = ""
    """online, nearline or offline; empty if it is not known."""
    site: str = ""
    """Where it stands. Pools without a site stand at one and the same place."""
    volumes: int = 1
    """How many volumes it has, of kinds whose volumes are configured one by one."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a pool has no name")


class By(enum.StrEnum):
    """What a name in ``copies(...)`` or in a copy goal is the name of."""

    POOL = "pool"
    KIND = "kind"
    TIER = "tier"
    SITE = "site"
    SITES = "sites"
    """The word ``sites`` in copy goals: how many different sites."""


@dataclass(frozen=True, slots=True)
class Group:
    """A name and the pools that it stands for."""

    name: str
    by: By
    pools: tuple[PoolInfo, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(pool.name for pool in self.pools)


class PoolTable(Mapping[str, PoolInfo]):
    """The configured pools by name. A plain name makes a pool of which nothing else is known.

    :raises ValueError: two pools of one name.
    """

    def __init__(self, pools: Iterable[PoolInfo | str] = ()) -> None:
        self._pools: dict[str, PoolInfo] = {}
        for each in pools:
            pool = PoolInfo(each) if isinstance(each, str) else each
            if pool.name in self._pools:
                raise ValueError(f"two pools are named {pool.name}")
            self._pools[pool.name] = pool

    def __getitem__(self, name: str) -> PoolInfo:
        return self._pools[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pools)

    def __len__(self) -> int:
        return len(self._pools)

    def group(self, name: str) -> Group | None:
        """The pool of that name, else the pools of that kind, else of that tier, else of that site."""
        if name in self._pools:
            return Group(name, By.POOL, (self._pools[name],))
        for by in (By.KIND, By.TIER, By.SITE):
            found = tuple(pool for pool in self._pools.values() if name and getattr(pool, by.value) == name)
            if found:
                return Group(name, by, found)
        return None

    @property
    def sites(self) -> Group:
        """All pools, told apart by where they stand."""
        return Group("sites", By.SITES, tuple(self._pools.values()))

    @property
    def words(self) -> frozenset[str]:
        """Every name that :meth:`group` knows."""
        words = {word for pool in self._pools.values() for word in (pool.kind, pool.tier, pool.site) if word}
        return frozenset(words | set(self._pools))
