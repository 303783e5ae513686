"""A rebuild that is tried: a few volumes, read into a catalog that is thrown away, and compared with the real
one.

It uses the daemon's own drives and pools, as everybody else in it does: a drive is claimed while it is read,
and no session is disturbed. Of the archive nothing is changed; that there was a drill is a journal record.
"""

from __future__ import annotations

import itertools
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivers.base import Store
from hsm.catalog import drills, media, upgrade
from hsm.catalog.drills import Weight
from hsm.catalog.engine import Catalog, open_engine
from hsm.catalog.media import VolumeRef
from hsm.custody import Custody
from hsm.errors import DriverError, HsmError, NotFound, Refused
from hsm.guard import GOOD_VOLUMES
from hsm.log import get_logger
from hsm.model import Layout, Place
from hsm.pools import DiskPool, Pools
from hsm.rebuild.loose import ReadHeader
from hsm.rebuild.sources import Files, Lying, Seen, Source, Tars
from hsm.rebuild.take import Pace, Taking
from hsm.rebuild.values import NAMED_MAX, VolumeReport

log = get_logger(__name__)

ACTOR = "drill"
PACKAGES_MAX = 200
"""Of one volume; more only repeat what these say of the pace."""


@dataclass
class Tried:
    """One volume of a drill."""

    volume: str
    pool: str
    expected: int
    """Packages that the catalog counts on it."""
    mount_seconds: float = 0.0
    seconds: float = 0.0
    """Reading and cataloguing, the mount not counted."""
    packages: int = 0
    bytes_read: int = 0
    whole: bool = False
    """Whether all of it was read, and not only its first packages."""
    missing: list[str] = field(default_factory=list)
    """What the catalog counts on it and a rebuild would not have found there."""
    differs: list[str] = field(default_factory=list)
    failed: str = ""

    def record(self) -> dict[str, Any]:
        said = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return said | {"missing": self.missing[:NAMED_MAX], "differs": self.differs[:NAMED_MAX]}


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long all volumes would take, one after the other."""

    seconds: float
    mounts: int
    packages: int
    guessed: tuple[str, ...]
    """Pools of which no volume was tried: the pace of the others was taken."""


def estimate(tried: Sequence[Tried], weights: Sequence[Weight]) -> Estimate | None:
    """By mounts and packages, from what was measured. Pure; None where nothing could be read."""
    good = [each for each in tried if not each.failed and each.packages]
    if not good:
        return None

    def pace(some: Sequence[Tried]) -> tuple[float, float]:
        mount = sum(each.mount_seconds for each in some) / len(some)
        return mount, sum(each.seconds for each in some) / sum(each.packages for each in some)

    overall, seconds, guessed = pace(good), 0.0, []
    for weight in weights:
        mine = [each for each in good if each.pool == weight.pool]
        mount, package = pace(mine) if mine else overall
        guessed += [] if mine else [weight.pool]
        seconds += weight.volumes * mount + weight.packages * package
    return Estimate(
        seconds,
        sum(weight.volumes for weight in weights),
        sum(weight.packages for weight in weights),
        tuple(guessed),
    )


class Drills:
    """Tries rebuilds."""

    def __init__(
        self,
        catalog: Catalog,
        pools: Pools,
        custody: Custody,
        read_header: ReadHeader,
        scratch: Path,
        *,
        rng: random.Random | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        :param scratch: a folder with room for the catalog that is thrown away.
        """
        self._catalog = catalog
        self._pools = pools
        self._custody = custody
        self._read_header = read_header
        self._scratch = scratch
        self._rng = rng or random.Random()
        self._monotonic = monotonic

    def drill(self, sample: int, pool: str, by: str) -> dict[str, Any]:
        """Rebuild so many volumes, of one pool or of all, into a catalog that is thrown away.

        :raises NotFound: there is no such pool.
        :raises Refused: it has no volume that can be read now.
        """
        chosen = self._choose(sample, pool)
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix=".hsm-drill-") as folder:
            engine = open_engine(f"sqlite:///{folder}/catalog.db")
            try:
                upgrade.upgrade(engine)
                scratch = Catalog(engine, self._catalog.clock)
                tried = [self._try(scratch, volume) for volume in chosen]
            finally:
                engine.dispose()
        with self._catalog.read() as session:
            weights = drills.weights(session)
            absent = drills.only_in_the_database(session)
        whole = estimate(tried, weights)
        found: dict[str, Any] = {
            "sample": [each.record() for each in tried],
            "good": not any(each.failed or each.missing or each.differs for each in tried),
            "seconds": sum(each.seconds + each.mount_seconds for each in tried),
            "whole": None,
            "only_in_the_database": absent,
        }
        if whole is not None:
            found["whole"] = {
                "seconds": whole.seconds,
                "mounts": whole.mounts,
                "packages": whole.packages,
                "guessed": list(whole.guessed),
            }
        with self._catalog.write() as session:
            names = [each.volume for each in tried]
            drills.note(session, self._catalog.clock.now(), by, names, good=found["good"])
        return found

    def _choose(self, sample: int, pool: str) -> list[VolumeRef]:
        if pool and pool not in self._pools.names:
            raise NotFound(f"there is no pool {pool!r}; there are: {', '.join(sorted(self._pools.names))}")
        with self._catalog.read() as session:
            every = [
                each
                for each in media.volumes(session)
                if (not pool or each.pool == pool) and drills.count_on(session, each.pk)
            ]
        usable = [each for each in every if each.state in GOOD_VOLUMES and self._is_here(each)]
        if not usable:
            raise Refused(f"no volume of {pool or 'any pool'} that holds packages can be read now")
        self._rng.shuffle(usable)
        # One of each pool before a second of any: they differ more than volumes do.
        rank: dict[str, int] = {}
        order = []
        for volume in usable:
            rank[volume.pool or ""] = rank.get(volume.pool or "", 0) + 1
            order.append((rank[volume.pool or ""], volume))
        order.sort(key=lambda each: each[0])
        return [volume for _, volume in order[:sample]]

    def _is_here(self, volume: VolumeRef) -> bool:
        disk = self._pools.disk_by_volume(volume.pk)
        if disk is not None:
            return disk.there and not disk.cold
        return volume.library in self._pools.libraries and volume.place in (Place.SLOT, Place.DRIVE)

    def _try(self, scratch: Catalog, volume: VolumeRef) -> Tried:
        with self._catalog.read() as session:
            tried = Tried(volume.name, volume.pool or "", drills.count_on(session, volume.pk))
        now = self._catalog.clock.now()
        with scratch.write() as session:
            pk = media.add_volume(session, volume, now, ACTOR)
        found = VolumeReport(volume.name)
        try:
            disk = self._pools.disk_by_volume(volume.pk)
            if disk is not None:
                self._read(scratch, pk, tried, found, _disk_source(disk))
            else:
                self._mounted(scratch, pk, volume, tried, found)
        except (DriverError, HsmError) as error:
            tried.failed = str(error)
            return tried
        tried.differs = [f"{key}: {why}" for key, why in found.quarantined]
        self._compare(scratch, pk, volume, tried)
        return tried

    def _mounted(
        self, scratch: Catalog, pk: int, volume: VolumeRef, tried: Tried, found: VolumeReport
    ) -> None:
        library = volume.library or ""
        began = self._monotonic()
        try:
            with self._custody.free_drive(library, volume.name) as drive:
                self._custody.vacate(volume, drive)
                changer = self._custody.library(library)
                label = changer.read_label(volume.name, drive)
                if label is None or label.uuid != volume.uuid:
                    raise Refused(f"{volume.name} does not say that it is {volume.uuid}")
                store: Store = changer.mount(label, drive)
                tried.mount_seconds = self._monotonic() - began
                self._read(scratch, pk, tried, found, Tars(store))
        finally:
            self._custody.inventory(library)

    def _read(self, scratch: Catalog, pk: int, tried: Tried, found: VolumeReport, source: Source) -> None:
        first = _First(source, PACKAGES_MAX)
        began = self._monotonic()
        taking = Taking(scratch, ACTOR, verify=False, tell=lambda _: None, monotonic=self._monotonic)
        taking.packages(pk, found, first, Pace(tried.volume, 1, 1, None, began))
        tried.seconds = self._monotonic() - began
        tried.packages = found.packages + found.copies
        tried.bytes_read = found.bytes_read
        tried.whole = first.ended

    def _compare(self, scratch: Catalog, pk: int, volume: VolumeRef, tried: Tried) -> None:
        """What was rebuilt against what is believed."""
        with scratch.read() as session:
            anew = drills.packages_on(session, pk)
        with self._catalog.read() as session:
            real = drills.packages_on(session, volume.pk)
        for key, said in anew.items():
            if key in real and real[key] != said:
                tried.differs.append(f"{key}: {drills.difference(real[key], said)}")
        if tried.whole:
            tried.missing = sorted(real.keys() - anew.keys())


def _disk_source(disk: DiskPool) -> Source:
    return Files(disk) if disk.layout is Layout.FILES else Tars(disk.store)


class _First:
    """The first packages of a source."""

    def __init__(self, source: Source, limit: int) -> None:
        self._source = source
        self._limit = limit
        self.ended = False

    def every(self) -> Iterator[Lying]:
        packages = (each for each in self._source.every() if each.package)
        yield from itertools.islice(packages, self._limit)
        self.ended = next(packages, None) is None

    def noted(self, lying: Lying) -> bytes | None:
        return self._source.noted(lying)

    def compare(self, lying: Lying, size: int) -> None:
        self._source.compare(lying, size)

    def look(self, lying: Lying) -> Seen:
        return self._source.look(lying)

    def read(self, lying: Lying) -> Seen:
        return self._source.read(lying)
