"""From configuration and drivers to open pools and libraries.

A file system pool is one volume, known by the UUID in its sentinel file and never by its path alone:
a mountpoint with nothing mounted on it is the root disk, and filling that is how studies are lost.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from drivers import registry
from drivers.base import Library, Store
from drivers.folder import INCOMING, FolderStore, read_sentinel, write_sentinel
from drivers.walk import FOLDER_FLAGS, sync_folder
from hsm.catalog import media
from hsm.catalog.engine import Catalog
from hsm.config import Config, PoolConfig
from hsm.errors import ConfigError, DriverError
from hsm.model import Layout, Place, Tier
from hsm.states import VolumeState
from policies import PoolInfo

ACTOR = "hsm"
INTERRUPTED = "interrupted"
"""Below ``.incoming``: what was being received when the daemon died."""
IGNORED_NAMES = frozenset({"lost+found"})


@dataclass(frozen=True, slots=True)
class DiskPool:
    """A pool that is one file system: its Store is always there."""

    name: str
    tier: Tier
    layout: Layout
    root: Path
    store: Store
    volume_pk: int
    site: str = ""


@dataclass(frozen=True, slots=True)
class LibraryPool:
    """A pool of volumes that a library mounts."""

    name: str
    tier: Tier
    library: str
    site: str = ""


@dataclass(frozen=True, slots=True)
class Pools:
    """Every pool and library, open."""

    disks: Mapping[str, DiskPool]
    tapes: Mapping[str, LibraryPool]
    libraries: Mapping[str, Library]

    @property
    def tiers(self) -> dict[str, Tier]:
        disks = {name: pool.tier for name, pool in self.disks.items()}
        return disks | {name: pool.tier for name, pool in self.tapes.items()}

    @property
    def infos(self) -> tuple[PoolInfo, ...]:
        """The pools as policies know them."""
        disks = (PoolInfo(name, "disk", pool.tier.value, pool.site) for name, pool in self.disks.items())
        tapes = (PoolInfo(name, "tape", pool.tier.value, pool.site) for name, pool in self.tapes.items())
        return (*disks, *tapes)

    @property
    def names(self) -> frozenset[str]:
        return frozenset({*self.disks, *self.tapes})

    @property
    def ingest(self) -> DiskPool:
        """Where received instances go: the first online pool in the ``files`` layout."""
        return next(
            pool for pool in self.disks.values() if pool.tier is Tier.ONLINE and pool.layout is Layout.FILES
        )

    def disk_by_volume(self, volume_pk: int) -> DiskPool | None:
        return next((pool for pool in self.disks.values() if pool.volume_pk == volume_pk), None)


def configured(config: Config) -> tuple[PoolInfo, ...]:
    """The configured pools as policies know them; nothing is opened."""
    return tuple(
        PoolInfo(pool.name, "disk" if pool.library is None else "tape", pool.tier.value, pool.site)
        for pool in config.pools
    )


def open_pools(config: Config, catalog: Catalog) -> Pools:
    """Open everything that the configuration names.

    :raises ConfigError: one report of every pool or library that cannot be opened.
    """
    disks: dict[str, DiskPool] = {}
    tapes: dict[str, LibraryPool] = {}
    libraries: dict[str, Library] = {}
    problems: list[str] = []
    for pool in config.pools:
        try:
            if pool.library is not None:
                tapes[pool.name] = LibraryPool(pool.name, Tier(pool.tier), pool.library, pool.site)
            else:
                disks[pool.name] = _open_disk(pool, config.home, catalog)
        except (ConfigError, DriverError) as error:
            problems.append(f"pool {pool.name}: {error}")
    for library in config.libraries:
        try:
            libraries[library.name] = registry.open_library(library.driver, library.options)
        except DriverError as error:
            problems.append(f"library {library.name}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return Pools(disks, tapes, libraries)


def open_ingest(config: Config, catalog: Catalog) -> DiskPool:
    """Open only the pool where received instances go, for a process that does nothing but receive: what
    others are writing there, and what dead ones left, is the daemon's business.

    :raises ConfigError, DriverError: it cannot be opened.
    """
    places = ((pool.library, Tier(pool.tier), Layout(pool.layout)) for pool in config.pools)
    number = list(places).index((None, Tier.ONLINE, Layout.FILES))
    return _open_disk(config.pools[number], config.home, catalog, joins=True)


def _open_disk(pool: PoolConfig, home: Path, catalog: Catalog, joins: bool = False) -> DiskPool:
    root = Path(pool.options["path"])
    with catalog.read() as session:
        known = media.find_volume(session, pool.name)
    identity = known.uuid if known else _adopt(pool.name, root, home)
    if pool.layout is Layout.FILES and not joins:
        keep_interrupted(root)
    store = FolderStore(root, reserve_bytes=pool.reserve_bytes, expect_uuid=identity, clean=not joins)
    capacity = store.capacity().total
    with catalog.write() as session:
        if known:
            media.set_room(session, known.pk, capacity)
            volume_pk = known.pk
        else:
            volume_pk = media.add_volume(
                session,
                media.VolumeRef(
                    0,
                    pool.name,
                    identity,
                    pool.name,
                    VolumeState.ACTIVE,
                    False,
                    capacity,
                    0,
                    None,
                    Place.MOUNTED,
                    None,
                    "",
                ),
                catalog.clock.now(),
                ACTOR,
            )
    return DiskPool(pool.name, Tier(pool.tier), Layout(pool.layout), root, store, volume_pk, pool.site)


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


def _adopt(name: str, root: Path, home: Path) -> str:
    """The identity of a folder that the catalog does not know yet; makes the sentinel.

    The folder is created only inside the daemon's own home. Anywhere else it must be there: it is
    probably a mountpoint, and creating it would send the archive to the root disk.

    :raises ConfigError: the folder is missing, belongs to another pool, or holds strange files.
    """
    if not root.is_dir():
        if not root.is_relative_to(home):
            raise ConfigError(
                f"folder {root} does not exist; mount its file system or create it, then start again"
            )
        root.mkdir(parents=True)
    sentinel = read_sentinel(root)
    if sentinel is not None:
        owner, identity = sentinel
        if owner != name:
            raise ConfigError(f"folder {root} belongs to pool {owner!r}, as its sentinel file says")
        return identity
    strange = sorted({entry.name for entry in root.iterdir()} - IGNORED_NAMES)
    if strange:
        raise ConfigError(
            f"folder {root} holds {strange[0]!r} and more but no sentinel file; give an empty folder"
        )
    identity = str(uuid.uuid4())
    write_sentinel(root, name, identity)
    return identity
