"""From configuration and drivers to open pools and libraries.

A volume that needs no drive (a file system, a share, a bucket) is known by the UUID that its storage
carries and never by its path or address alone: a mountpoint with nothing mounted on it is the root disk, and
filling that is how studies are lost. One that cannot be opened is out of service (:mod:`hsm.service`), and
everything else goes on.
"""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from drivers import registry
from drivers.base import Capacity, Family, Labelled, Library, Store, StoreLabel
from drivers.errors import OperatorNeeded, Permanent, WrongVolume
from drivers.folder import INCOMING
from drivers.walk import FOLDER_FLAGS, sync_folder
from drivers.wrappers import PassingStore
from hsm.catalog import storage
from hsm.catalog.engine import Catalog
from hsm.config import Config, PoolConfig
from hsm.errors import ConfigError, DriverError
from hsm.log import get_logger
from hsm.model import Layout, ReadBack, Tier
from hsm.service import LIMIT_SECONDS, Service, ServicedStore, State, close_store
from hsm.states import VolumeState
from policies import PoolInfo

log = get_logger(__name__)

ACTOR = "hsm"
INTERRUPTED = "interrupted"
"""Below ``.incoming``: what was being received when the daemon died."""
IGNORED_NAMES = frozenset({"lost+found"})


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
        service = Service(f"pool {name}", catalog.clock, one.open, local=local, alone=joins)
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
        with self.catalog.read() as session:
            now = self.catalog.clock.now()
            identity = storage.identity(storage.known(session, self.name, self.pool.name, now, ACTOR))
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


def keep_interrupted(root: Path) -> int:
    """Move what a dead daemon was receiving out of the way of the Store, which would delete it: some of
    it may be whole. :mod:`hsm.recovery` looks at it; how many files there are.

    A file that a living process still writes is locked by it and left alone. No file is without a durable
    name at any time: these may be the only ones of what was acknowledged.
    """
    folder = root / INCOMING
    kept: list[Path] = []
    for path in sorted(folder.glob("*.part")):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            (folder / INTERRUPTED).mkdir(exist_ok=True)
            _link_again(path, folder / INTERRUPTED / path.name)
            kept.append(path)
        finally:
            os.close(descriptor)
    if kept:
        for each in (folder / INTERRUPTED, folder):
            _sync(each)
        for path in kept:
            path.unlink()
    return len(kept)


def _link_again(path: Path, target: Path) -> None:
    """Give a file a second name, which it may have from a start that did not come to its end."""
    try:
        os.link(path, target, follow_symlinks=False)
    except FileExistsError:
        if not path.samefile(target):
            raise


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, FOLDER_FLAGS)
    try:
        sync_folder(descriptor)
    finally:
        os.close(descriptor)


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
