"""How much sooner a library is read with several drives: a rebuild of cartridges of the simulated library,
which takes the time of LTO-8 (:mod:`drivers.simulated.model`), sped up.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.base import Store, VolumeLabel
from drivers.simulated.library import SimulatedLibrary
from drivers.wrappers import PassingStore
from hsm import layout
from hsm.bench.databases import Database, catalogs
from hsm.bench.frame import Report, Table, machine
from hsm.bench.rebuild import ROOT, identity
from hsm.catalog.engine import Catalog, OneWriter
from hsm.claims import Drives
from hsm.custody import Custody
from hsm.model import Header, Tier
from hsm.package import Member, PackageReader, member_name, plan_package
from hsm.pools import LibraryPool, Pools
from hsm.rebuild import Rebuild
from hsm.wake import Bell

INSTANCE_BYTES = 512 << 10
FULL = 0.9
"""How much of a cartridge is used: packages lie all over it."""


@dataclass(frozen=True, slots=True)
class Site:
    """What burnt down."""

    cartridges: int = 8
    packages: int = 8
    """On each cartridge."""
    copies: int = 2
    """Cartridges that hold the same."""
    speed: float = 20.0
    """Seconds of the library in one of ours."""


def run(drives: Sequence[int], site: Site, folder: Path) -> Report:
    """Rebuild the same cartridges with so many drives each time."""
    made = folder / "library"
    digests = _fill(made, site)
    measured: list[dict[str, Any]] = []
    with catalogs(Database.SQLITE, folder) as make:
        measured += [_rebuilt(make(), made, count, digests, site) for count in drives]
    first = measured[0]["seconds"]
    rows = tuple(
        (
            str(each["drives"]),
            f"{each['seconds'] / 60:.0f} min",
            f"{each['drive_seconds'] / 60:.0f} min",
            f"{first / each['seconds']:.2f}",
        )
        for each in measured
    )
    return Report(
        "rebuild drives",
        machine(),
        {
            "cartridges": site.cartridges,
            "packages": site.packages,
            "copies": site.copies,
            "speed": site.speed,
        },
        (
            Table(
                "Cartridges of the simulated library into a catalog",
                (">drives", ">takes", ">drives and robot", ">times as fast"),
                rows,
            ),
        ),
        tuple(measured),
        ("minutes of the library; what the processor takes is in them, as many times over as it is sped up",),
    )


class _Noting(PassingStore):
    """A cartridge whose index has noted digests, as every real one of ours."""

    def __init__(self, inner: Store, digests: Mapping[str, bytes]) -> None:
        super().__init__(inner)
        self._digests = digests

    def recorded_digest(self, key: str) -> bytes | None:
        """See :class:`drivers.store.Digested`."""
        return self._digests.get(key)


class _NotingLibrary(SimulatedLibrary):
    digests: Mapping[str, bytes]

    def mount(self, label: VolumeLabel, drive: int) -> Store:
        return _Noting(super().mount(label, drive), self.digests)


def _rebuilt(
    catalog: Catalog, folder: Path, drives: int, digests: Mapping[str, bytes], site: Site
) -> dict[str, Any]:
    library = _NotingLibrary(folder, drives=drives, time_factor=1 / site.speed)
    library.digests = digests
    pools = Pools({}, {"tape": LibraryPool("tape", Tier.OFFLINE, "library")}, {"library": library})
    catalog = OneWriter(catalog.engine, catalog.clock)
    custody = Custody(catalog, pools, Drives(), Bell())
    began = time.monotonic()
    report = Rebuild(catalog, pools, custody, _no_header).run(())
    custody.unmount_all()
    seconds = time.monotonic() - began
    assert report.complete and not report.quarantined
    return {
        "drives": drives,
        "seconds": seconds * site.speed,
        "drive_seconds": library.time.seconds,
        "packages": report.totals["packages"],
        "copies": report.totals["copies"],
    }


def _no_header(_dataset: memoryview, _syntax: str) -> Header:
    raise AssertionError("there is no single instance on a tape")


def _fill(folder: Path, site: Site) -> dict[str, bytes]:
    """The cartridges; the digests of what is on them, by key."""
    digests: dict[str, bytes] = {}
    names = [f"HSM{number:03d}L8" for number in range(1, site.cartridges + 1)]
    package = len(_package("1")[1])
    library = SimulatedLibrary(
        folder,
        slots=site.cartridges + 1,
        cartridges=tuple(names),
        drives=1,
        capacity_bytes=int(site.packages * package / FULL / 0.95),
    )
    drive = library.inventory().drives()[0].address
    for at, name in enumerate(names):
        label = VolumeLabel(name, f"uuid-{name}", "tape")
        library.label(label, drive)
        store = library.mount(label, drive)
        for number in range(site.packages):
            key, data = _package(f"{at // site.copies}.{number}")
            locator = layout.package_locator(key)
            digests[locator] = hashlib.sha256(data).digest()
            store.put(locator, io.BytesIO(data), len(data), digests[locator])
        store.flush()
        library.unmount(drive)
    return digests


def _package(number: str) -> tuple[str, bytes]:
    """A package of one small instance: its name and its bytes."""
    study = f"{ROOT}.{number}"
    content = hashlib.sha256(study.encode()).digest() * (INSTANCE_BYTES // 32)
    series = f"{study}.1"
    member = Member(
        name=member_name(series, f"{series}.1", 0),
        series_uid=series,
        sop_instance_uid=f"{series}.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        version=0,
        number=1,
        size=len(content),
        digest=hashlib.sha256(content).digest(),
    )
    plan = plan_package(identity(study, number, (series,)), [member])
    with PackageReader(plan, lambda _: io.BytesIO(content)) as reader:
        return plan.identity.key, b"".join(_pieces(reader))


def _pieces(reader: PackageReader) -> Iterator[bytes]:
    while piece := reader.read(1 << 20):
        yield bytes(piece)
