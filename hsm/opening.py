"""From configuration and drivers to open pools and libraries.

A volume that needs no drive (a file system, a share, a bucket) is known by the UUID that its storage
carries and never by its path or address alone: a mountpoint with nothing mounted on it is the root disk, and
filling that is how studies are lost. One that cannot be opened is out of service (:mod:`hsm.service`), and
everything else goes on.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from drivers import registry
from drivers.base import Family, Labelled, Library, Store, StoreLabel
from drivers.errors import OperatorNeeded, Permanent, WrongVolume
from drivers.oserrors import translated
from drivers.wrappers import PassingStore
from hsm.catalog import storage
from hsm.catalog.engine import Catalog
from hsm.clock import unhurried
from hsm.config import Config, PoolConfig
from hsm.errors import ConfigError, DriverError
from hsm.interrupted import keep_interrupted
from hsm.log import get_logger
from hsm.model import Layout, Tier
from hsm.pools import ACTOR, DiskPool, LibraryPool, Pools
from hsm.service import LIMIT_SECONDS, Service, close_store
from hsm.servicedstore import ServicedStore
from hsm.states import VolumeState
from policies import PoolInfo

log = get_logger(__name__)

IGNORED_NAMES = frozenset({"lost+found"})
"""What a new file system may hold."""


def configured(config: Config) -> tuple[PoolInfo, ...]:
    """The configured pools as policies know them; nothing is opened."""
    return tuple(
        PoolInfo(pool.name, _kind(config, pool), pool.tier.value, pool.site, len(pool.volumes) or 1)
        for pool in config.pools
    )


def _kind(config: Config, pool: PoolConfig) -> str:
    """What policies call its volumes; what cannot be loaded says so when it is opened."""
    driver = pool.driver if pool.library is None else config.library(pool.library).driver
    usual = "disk" if pool.library is None else "tape"
    try:
        kind = registry.family(driver).kind
    except DriverError:
        return usual
    return usual if kind == "disk" else kind


def open_pools(config: Config, catalog: Catalog, limit_seconds: float = LIMIT_SECONDS) -> Pools:
    """Open everything that the configuration names. What cannot be opened within the limit is out of
    service for now.

    :raises ConfigError: one report of what forbids a start: a library that cannot be opened, contradictions
        with the catalog, and an ingest pool that was never opened and cannot be.
    """
    disks: dict[str, DiskPool] = {}
    tapes: dict[str, LibraryPool] = {}
    libraries: dict[str, Library] = {}
    problems: list[str] = []
    for pool in config.pools:
        if pool.library is not None:
            kind = _kind(config, pool)
            tapes[pool.name] = LibraryPool(
                pool.name,
                Tier(pool.tier),
                pool.library,
                pool.site,
                kind,
                pool.scratch,
                pool.scratch_low,
                pool.verify,
                pool.scrub.value() if pool.scrub is not None else None,
            )
            continue
        try:
            disks.update({each.label: each for each in _disks(config, pool, catalog)})
        except (ConfigError, DriverError) as error:
            problems.append(f"pool {pool.name}: {error}")
    _open_all(list(disks.values()), limit_seconds)
    for library in config.libraries:
        try:
            libraries[library.name] = registry.open_library(library.driver, library.options)
        except DriverError as error:
            problems.append(f"library {library.name}: {error}")
    pools = Pools(disks, tapes, libraries)
    if not problems:
        problems += _unusable(pools.ingest, catalog)
        pools.tell(catalog)
    if problems:
        raise ConfigError("\n".join(problems))
    return pools


def _unusable(ingest: DiskPool, catalog: Catalog) -> list[str]:
    """Why an archive cannot begin its life; one that has begun waits for its ingest pool."""
    with catalog.read() as session:
        known = storage.identity(
            storage.known(session, ingest.label, ingest.name, catalog.clock.now(), ACTOR)
        )
    if known is not None or ingest.service is None or not ingest.service.away:
        return []
    return [f"pool {ingest.name}: {ingest.service.condition.reason}"]


def _open_all(pools: Sequence[DiskPool], limit_seconds: float) -> None:
    """Probe all at the same time, and wait for none longer than the limit."""
    remote = [pool.service for pool in pools if pool.service is not None and not pool.service.local]
    threads = [threading.Thread(target=each.probe, name=f"open {each.name}", daemon=True) for each in remote]
    for thread in threads:
        thread.start()
    for pool in pools:
        if pool.service is not None and pool.service.local:
            pool.service.probe()
    for thread, service in zip(threads, remote, strict=True):
        thread.join(limit_seconds)
        service.overdue(limit_seconds)


@dataclass(frozen=True, slots=True)
class Trial:
    """One configured volume that can be tried without being taken into use."""

    pool: str
    volume: str
    driver: str
    options: Mapping[str, Any]

    def open(self, identity: str | None) -> Store:
        """Nothing is marked, created or cleaned.

        :raises DriverError: it cannot be opened, or is not the storage that carries ``identity``.
        """
        family = registry.family(self.driver)
        ours: dict[str, Any] = {"clean": False}
        if identity is not None:
            ours["expect_uuid"] = identity
        known = {key: value for key, value in ours.items() if key in family.options}
        return registry.open_store(self.driver, {**self.options, **known})


def trials(config: Config, pool: str) -> list[Trial]:
    """The volumes of a configured pool that can be tried; none of a library's.

    :raises KeyError: no such pool.
    """
    found = config.pool(pool)
    if found.library is not None:
        return []
    return [Trial(pool, name, found.driver, options) for name, options in found.option_sets()]


def open_ingest(config: Config, catalog: Catalog) -> DiskPool:
    """Open only the pool where received instances go, for a process that does nothing but receive: what
    others are writing there, and what dead ones left, is the daemon's business.

    :raises ConfigError, DriverError: it cannot be.
    """
    places = ((pool.library, Tier(pool.tier), Layout(pool.layout)) for pool in config.pools)
    number = list(places).index((None, Tier.ONLINE, Layout.FILES))
    (pool,) = _disks(config, config.pools[number], catalog, joins=True)
    assert pool.service is not None  # every configured one has one
    pool.service.probe()
    return pool


def _disks(config: Config, pool: PoolConfig, catalog: Catalog, joins: bool = False) -> list[DiskPool]:
    """The pool's volumes, not opened yet."""
    family = registry.family(pool.driver)
    tier, layout = Tier(pool.tier), Layout(pool.layout)
    if layout is Layout.FILES and family.path_option is None:
        raise ConfigError(
            f"layout: files needs a driver whose objects are files of a folder; {pool.driver} takes "
            "layout: packages"
        )
    found = []
    for name, options in pool.option_sets():
        registry.check_options(family, options)
        with catalog.write() as session:
            row = storage.known(session, name, pool.name, catalog.clock.now(), ACTOR)
        if row.state is VolumeState.RETIRED:
            log.warning("volume %s is retired: take it out of the configuration", name)
            continue
        volume_pk = row.pk
        root = Path(options[family.path_option]) if family.path_option else Path()
        one = _Volume(pool, name, options, family, config.home, catalog, volume_pk, joins)
        local = family.path_option is not None
        service = Service(f"pool {name}", unhurried(catalog.clock), one.open, local=local, alone=joins)
        found.append(
            DiskPool(
                pool.name,
                tier,
                layout,
                root,
                ServicedStore(service),
                volume_pk,
                pool.site,
                name,
                _kind(config, pool),
                service,
                pool.scrub.value() if pool.scrub is not None else None,
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class _Volume:
    """How one volume is opened."""

    pool: PoolConfig
    name: str
    options: Mapping[str, Any]
    family: Family
    home: Path
    catalog: Catalog
    pk: int
    joins: bool

    def open(self) -> Store:
        """:raises DriverError, ConfigError: it cannot be opened, or is not what it was."""
        try:
            with self.catalog.read() as session:
                now = self.catalog.clock.now()
                identity = storage.identity(storage.known(session, self.name, self.pool.name, now, ACTOR))
        except SQLAlchemyError as error:
            raise OperatorNeeded(f"catalog: {getattr(error, 'orig', error)}") from error
        root = self._root()
        if identity is None:
            if root is not None:
                _require_folder(root, self.home)
            unknown = self._open(None)
            try:
                identity = _adopt(unknown, self.pool.name, self.family.name, root)
            finally:
                close_store(unknown)
        if root is not None and self.pool.layout is Layout.FILES and not self.joins:
            with translated(f"keep what was interrupted in {root}"):
                keep_interrupted(root)
        store = self._open(identity)
        try:
            return self._known(store, identity)
        except BaseException:
            close_store(store)
            raise

    def _known(self, store: Store, identity: str) -> Store:
        """The Store, once it has shown that it is the right one."""
        present = _labelled(store, self.family.name).read_label()
        if present is None or present.uuid != identity:
            carries = f"carries {present.uuid}, of pool {present.pool}" if present else "carries no label"
            raise OperatorNeeded(f"{self.name} {carries}; expected {identity}: it is another storage")
        capacity = store.capacity().total
        try:
            with self.catalog.write() as session:
                storage.identify(session, self.pk, identity, capacity, self.catalog.clock.now(), ACTOR)
        except SQLAlchemyError as error:
            raise OperatorNeeded(f"catalog: {getattr(error, 'orig', error)}") from error
        return store

    def _root(self) -> Path | None:
        return Path(self.options[self.family.path_option]) if self.family.path_option else None

    def _open(self, identity: str | None) -> Store:
        ours: dict[str, Any] = {"clean": not self.joins and identity is not None}
        if identity is not None:
            ours["expect_uuid"] = identity
        if self.pool.reserve_bytes:
            ours["reserve_bytes"] = self.pool.reserve_bytes
        known = {key: value for key, value in ours.items() if key in self.family.options}
        return registry.open_store(self.family.name, {**self.options, **known})


def _labelled(store: Store, driver: str) -> Labelled:
    """:raises Permanent: it keeps no label, so nobody could tell it from another storage."""
    inner = store
    while not isinstance(inner, Labelled):
        if not isinstance(inner, PassingStore):
            raise Permanent(f"driver {driver!r} keeps no label on its storage: it cannot be a pool")
        inner = inner.inner
    return inner


def _require_folder(root: Path, home: Path) -> None:
    """The folder of a volume that is seen for the first time. It is created only inside the daemon's own
    home. Anywhere else it must be there: it is probably a mountpoint, and creating it would send the archive
    to the root disk.

    :raises ConfigError: it is missing.
    """
    if not root.is_dir():
        if not root.is_relative_to(home):
            raise ConfigError(f"folder {root} does not exist; mount its file system or create it")
        root.mkdir(parents=True)


def _adopt(store: Store, pool: str, driver: str, root: Path | None) -> str:
    """The identity of a storage that the catalog does not know yet; marks it where it is empty.

    :raises WrongVolume: it belongs to another pool, or holds strange things.
    """
    labelled = _labelled(store, driver)
    present = labelled.read_label()
    if present is not None:
        if present.pool != pool:
            raise WrongVolume(f"the storage belongs to pool {present.pool!r}, as its label says")
        return present.uuid
    strange = _strange(store, root)
    if strange:
        where = f"folder {root}" if root is not None else "the storage"
        raise WrongVolume(f"{where} holds {strange!r} and perhaps more but no label; give an empty one")
    identity = str(uuid.uuid4())
    labelled.write_label(StoreLabel(pool, identity))
    return identity


def _strange(store: Store, root: Path | None) -> str:
    """Something that lies there already; empty where nothing does."""
    if root is not None:
        return min({entry.name for entry in root.iterdir()} - IGNORED_NAMES, default="")
    first = next(iter(store.list()), None)
    return first.key if first else ""
