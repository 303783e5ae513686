"""``hsm bench rebuild``: how fast manifests become a catalog, and copies that are known already.

The packages are made up while they are looked at, as if a medium that costs nothing held them: what is
measured is everything of a rebuild but the media. A medium adds its mounts, locates and bytes.
"""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hsm import layout
from hsm.bench.databases import Database, catalogs
from hsm.bench.frame import Report, Table, machine
from hsm.catalog import media
from hsm.catalog.engine import Catalog
from hsm.catalog.media import VolumeRef
from hsm.model import Place
from hsm.package import Member, PackageIdentity, PackagePlan, SeriesIdentity, member_name, plan_package
from hsm.rebuild.sources import Lying, Seen
from hsm.rebuild.take import Pace, Taking
from hsm.rebuild.values import VolumeReport
from hsm.states import VolumeState

ROOT = "1.2.826.0.1.3680043.10.1600"
CT_IMAGE, EXPLICIT_LITTLE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
SIZE = 526_336
"""Of an instance: a CT slice."""
SERIES = 2


class MadeUp:
    """A medium that holds so many packages, each of a study of its own, and has noted their digests."""

    def __init__(self, packages: int, instances: int) -> None:
        self._packages = packages
        self._instances = instances

    def every(self) -> Iterator[Lying]:
        for number in range(self._packages):
            key = layout.package_key(f"{ROOT}.{number}", 1)
            yield Lying(layout.package_locator(key), self._plan(number).size, number, key)

    def noted(self, lying: Lying) -> bytes | None:
        return hashlib.sha256(lying.package.encode()).digest()

    def compare(self, lying: Lying, size: int) -> None:
        pass

    def look(self, lying: Lying) -> Seen:
        plan = self._plan(lying.position or 0)
        return Seen(plan, self.noted(lying), len(plan.manifest))

    def read(self, lying: Lying) -> Seen:
        return self.look(lying)

    def _plan(self, number: int) -> PackagePlan:
        study = f"{ROOT}.{number}"
        series = [f"{study}.{one}" for one in range(1, SERIES + 1)]
        return plan_package(identity(study, str(number), series), self._members(study))

    def _members(self, study: str) -> Iterator[Member]:
        for number in range(self._instances):
            series = f"{study}.{1 + number % SERIES}"
            uid = f"{series}.{number}"
            yield Member(
                name=member_name(series, uid, 0),
                series_uid=series,
                sop_instance_uid=uid,
                sop_class_uid=CT_IMAGE,
                transfer_syntax_uid=EXPLICIT_LITTLE,
                version=0,
                number=number,
                size=SIZE,
                digest=hashlib.sha256(uid.encode()).digest(),
            )


def identity(study: str, number: str, series: Sequence[str]) -> PackageIdentity:
    """Of a made-up study's only package."""
    described = [
        SeriesIdentity(uid, "CT", one, "Thorax", "CHEST", "20260102", "101112", "CT01")
        for one, uid in enumerate(series, 1)
    ]
    return PackageIdentity(
        key=layout.package_key(study, 1),
        study_uid=study,
        number=1,
        patient_id=f"P{number}",
        issuer="HOSPITAL",
        patient_name=f"Family^Given{number}",
        birth_date="19700101",
        sex="O",
        study_date="20260102",
        study_time="101112",
        study_id=f"S{number}"[:16],
        study_description="Thorax",
        accession=f"A{number}"[:16],
        referring_physician="Referrer^Some",
        institution="Hospital",
        charset="ISO_IR 100",
        series=tuple(described),
        sealed_at=datetime(2026, 1, 2, 12, tzinfo=UTC).isoformat(timespec="seconds"),
    )


def run(database: Database, packages: int, instances: int, folder: Path) -> Report:
    """Take a made-up medium in, and then a second one with the same packages."""
    measured: list[dict[str, Any]] = []
    with catalogs(database, folder) as make:
        catalog: Catalog = make()
        for name, words in (("T00001L9", "new, by their manifests"), ("T00002L9", "known, by the index")):
            seconds = _take(catalog, name, MadeUp(packages, instances))
            measured.append(
                {
                    "packages_are": words,
                    "packages_per_second": packages / seconds,
                    "instances_per_second": packages * instances / seconds,
                    "peak_bytes": _memory(),
                }
            )
    rows = tuple(
        (
            str(each["packages_are"]),
            f"{each['packages_per_second']:,.0f}",
            f"{each['instances_per_second']:,.0f}",
            f"{each['peak_bytes'] / 2**20:,.0f} MiB",
        )
        for each in measured
    )
    columns = ("packages", ">packages/s", ">instances/s", ">memory")
    return Report(
        "rebuild",
        machine(),
        {"database": database.value, "packages": packages, "instances": instances},
        (Table(f"A medium into the catalog ({database.value})", columns, rows),),
        tuple(measured),
        ("the medium itself costs nothing here: its mounts, locates and bytes come on top",),
    )


def _take(catalog: Catalog, name: str, source: MadeUp) -> float:
    now = catalog.clock.now()
    state, place = VolumeState.ACTIVE, Place.SLOT
    new = VolumeRef(0, name, f"uuid-{name}", "tape", state, True, 0, 0, "library", place, None, "")
    with catalog.write() as session:
        pk = media.add_volume(session, new, now, "bench")
    began = time.monotonic()
    taking = Taking(catalog, "bench", verify=False, tell=lambda _: None, monotonic=time.monotonic)
    taking.packages(pk, VolumeReport(name), source, Pace(name, 1, 1, None, began))
    return time.monotonic() - began


def _memory() -> int:
    """The most that this process has ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
