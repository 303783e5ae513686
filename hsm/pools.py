"""Pools, the volumes that need no drive, and libraries, as everything else sees them.

:mod:`hsm.opening` makes them from the configuration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from drivers.base import Capacity, Library, Store
from hsm.catalog import storage
from hsm.catalog.engine import Catalog
from hsm.errors import DriverError
from hsm.fixity import Scrub
from hsm.log import get_logger
from hsm.model import Layout, ReadBack, Tier
from hsm.service import Service, State
from policies import PoolInfo

log = get_logger(__name__)

ACTOR = "hsm"


@dataclass(frozen=True, slots=True)
class DiskPool:
    """A volume that needs no drive, and the pool that it is (or is one of several) of."""

    name: str
    """The pool's."""
    tier: Tier
    layout: Layout
    root: Path
    """The folder below which keys are files; empty where they are not."""
    store: Store
    volume_pk: int
    site: str = ""
    volume: str = ""
    """The volume's own name; the pool's where that has one volume."""
    kind: str = "disk"
    service: Service | None = None
    """Whether it can be used now; None: always."""
    scrub: Scrub | None = None
    """How its copies are read back by age; None: only as policies say."""

    @property
    def label(self) -> str:
        """Its name, for messages."""
        return self.volume or self.name

    @property
    def there(self) -> bool:
        """Whether what lies on it can be read now."""
        return self.service is None or self.service.there()

    @property
    def writable(self) -> bool:
        """Whether it takes writes, as far as is known."""
        return self.service is None or (self.service.there() and self.service.writable)

    @property
    def local(self) -> bool:
        """Whether a read error is the medium's: nothing but this machine lies between."""
        return self.service is None or self.service.local

    @property
    def cold(self) -> bool:
        """Whether what lies on it must be asked for before it can be read."""
        return self.service is not None and self.service.traits.cold

    def room(self) -> Capacity | None:
        """Asked now where that is cheap; else as of the last probe. None: not known.

        :raises DriverError: it is away.
        """
        return self.store.capacity() if self.local else self.service.room if self.service else None


@dataclass(frozen=True, slots=True)
class LibraryPool:
    """A pool of volumes that a library mounts."""

    name: str
    tier: Tier
    library: str
    site: str = ""
    kind: str = "tape"
    scratch: tuple[str, ...] = ("*",)
    """Patterns of the barcodes that may become its volumes."""
    scratch_low: int = 0
    """A warning when fewer blank volumes than this are left for it."""
    read_back: ReadBack = field(default_factory=ReadBack)
    scrub: Scrub | None = None
    """As :attr:`DiskPool.scrub`."""


@dataclass(frozen=True, slots=True)
class Pools:
    """Every pool and library, open or on its way."""

    disks: Mapping[str, DiskPool]
    """The volumes that need no drive, by their names."""
    tapes: Mapping[str, LibraryPool]
    libraries: Mapping[str, Library]

    @property
    def tiers(self) -> dict[str, Tier]:
        disks = {pool.name: pool.tier for pool in self.disks.values()}
        return disks | {name: pool.tier for name, pool in self.tapes.items()}

    @property
    def infos(self) -> tuple[PoolInfo, ...]:
        """The pools as policies know them."""
        every: list[DiskPool | LibraryPool] = [*self.disks.values(), *self.tapes.values()]
        volumes = Counter(pool.name for pool in every)
        found = {
            pool.name: PoolInfo(pool.name, pool.kind, pool.tier.value, pool.site, volumes[pool.name])
            for pool in every
        }
        return tuple(found.values())

    @property
    def disk_names(self) -> frozenset[str]:
        """The pools whose volumes need no drive."""
        return frozenset(pool.name for pool in self.disks.values())

    @property
    def names(self) -> frozenset[str]:
        return frozenset({*self.disk_names, *self.tapes})

    @property
    def scrubs(self) -> dict[str, Scrub]:
        """How copies are read back by age, of the pools where they are."""
        every: list[DiskPool | LibraryPool] = [*self.disks.values(), *self.tapes.values()]
        return {pool.name: pool.scrub for pool in every if pool.scrub is not None}

    @property
    def ingest(self) -> DiskPool:
        """Where received instances go: the first online pool in the ``files`` layout."""
        return next(
            pool for pool in self.disks.values() if pool.tier is Tier.ONLINE and pool.layout is Layout.FILES
        )

    def disk_by_volume(self, volume_pk: int) -> DiskPool | None:
        return next((pool for pool in self.disks.values() if pool.volume_pk == volume_pk), None)

    def volumes_of(self, pool: str) -> tuple[DiskPool, ...]:
        """The pool's volumes that need no drive; none for a library's or an unknown one."""
        return tuple(each for each in self.disks.values() if each.name == pool)

    def there(self) -> list[str]:
        """Disk pools of which something can be read now."""
        return sorted({pool.name for pool in self.disks.values() if pool.there})

    def writable(self) -> list[str]:
        """Disk pools with a volume that takes writes."""
        return sorted({pool.name for pool in self.disks.values() if pool.writable})

    def room(self, pool: str) -> Capacity | None:
        """Of all volumes of a disk pool that tell; None when none does."""
        rooms = []
        for each in self.volumes_of(pool):
            try:
                rooms.append(each.room())
            except DriverError as error:
                log.debug("%s does not tell its room: %s", each.label, error)
                rooms.append(each.service.room if each.service else None)
        known = [room for room in rooms if room is not None]
        if not known:
            return None
        return Capacity(sum(room.total for room in known), sum(room.free for room in known))

    def problems(self) -> list[str]:
        """What is out of service or takes no writes, in an admin's words."""
        found = []
        for pool in self.disks.values():
            if pool.service is None or not pool.service.condition.reason:
                continue
            condition = pool.service.condition
            volume = f", volume {pool.label}," if pool.label != pool.name else ""
            since = f"since {condition.since:%Y-%m-%d %H:%M} UTC"
            found.append(f"pool {pool.name}{volume} {condition.state.said} {since}: {condition.reason}")
        return found

    def tell(self, catalog: Catalog) -> int:
        """Write down which volumes went out of service or came back since the last call; how many."""
        told = 0
        for pool in self.disks.values():
            if pool.service is None or (news := pool.service.take_news()) is None:
                continue
            away = news.reason if news.state is State.AWAY else None
            try:
                with catalog.write() as session:
                    storage.note_service(session, pool.volume_pk, away, catalog.clock.now(), ACTOR)
            except BaseException:
                pool.service.bring_news_again()
                raise
            told += 1
        return told
