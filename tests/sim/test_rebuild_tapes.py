"""Rebuilding from plain tape and from LTFS: their indexes have noted the digests, so manifests are enough."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "ltfs_emulator"))
from ltfs_hall import KINDS, LtfsIo, library_options

from drivers.base import VolumeLabel
from drivers.tape.configure import open_mtx
from drivers.tape.fakelibrary import CHANGER, fake_library
from drivers.tape.library import TapeLibrary
from hsm import layout
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Copy, Package, Patient, Study, Volume
from hsm.claims import Drives
from hsm.custody import Custody
from hsm.model import Tier
from hsm.package import PackagePlan, plan_package
from hsm.pools import LibraryPool, Pools
from hsm.rebuild import Rebuild, Report
from hsm.wake import Bell
from tests.unit.test_package import build, compose, identity

BARCODES = ("HSM001L8", "HSM002L8")
STUDIES = ("1.2.840.1.1", "1.2.840.1.2", "1.2.840.1.3")


@dataclass(frozen=True)
class Made:
    """A package and its bytes."""

    plan: PackagePlan
    data: bytes

    @property
    def locator(self) -> str:
        return layout.package_locator(self.plan.identity.key)


def made(study: str, number: int, *contents: bytes) -> Made:
    plan, files = build(*contents)
    members = [replace(each, sop_instance_uid=f"{study}.{at}", name=f"{each.series_uid}/{study}.{at}.dcm")
               for at, each in enumerate(plan.members)]  # fmt: skip
    bytes_of = {new.name: files[old.name] for new, old in zip(members, plan.members, strict=True)}
    who = identity(
        *plan.identity.series, study_uid=study, key=layout.package_key(study, number), number=number
    )
    new = plan_package(who, members)
    return Made(new, compose(new, bytes_of))


LTFS = [
    pytest.param(*each.values, id=f"{each.values[0]} LTFS", marks=[*each.marks, pytest.mark.campaign])
    for each in KINDS
]


@pytest.fixture(params=["plain", *LTFS])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TapeLibrary]:
    if request.param == "plain":
        yield open_mtx({"changer": CHANGER}, fake_library(BARCODES))
        return
    io_ = LtfsIo(tmp_path, list(BARCODES))
    yield open_mtx(library_options(io_, request.param), io_)
    io_.close()


def write(library: TapeLibrary, barcode: str, packages: Mapping[str, bytes]) -> None:
    label = VolumeLabel(barcode, f"uuid-{barcode}", "tape")
    drive = library.inventory().drives()[0].address
    if library.read_label(barcode, drive) is None:
        library.label(label, drive)
    store = library.mount(label, drive)
    for key, data in packages.items():
        store.put(key, io.BytesIO(data), len(data), hashlib.sha256(data).digest())
    store.flush()
    library.unmount(drive)


def rebuilt(library: TapeLibrary, catalog: Catalog, **options: Any) -> Report:
    pool = LibraryPool("tape", Tier.OFFLINE, "library")
    pools = Pools({}, {"tape": pool}, {"library": library})
    custody = Custody(catalog, pools, Drives(), Bell())
    try:
        return Rebuild(catalog, pools, custody, _no_header, **options).run(())
    finally:
        custody.unmount_all()


def _no_header(_dataset: memoryview, _syntax: str) -> Any:
    raise AssertionError("there is no single instance on a tape")


def test_studies_come_back_from_tape_by_their_manifests_and_are_verified_when_they_are_read(
    library: TapeLibrary, catalog: Catalog
) -> None:
    packages = [made(study, 1, b"a" * 3000, study.encode() * 400) for study in STUDIES]
    late = made(STUDIES[0], 2, b"late" * 100)
    other = made(STUDIES[1], 1, b"b" * 3000, b"other bytes" * 90)
    write(library, BARCODES[0], {each.locator: each.data for each in packages})
    write(library, BARCODES[1], {late.locator: late.data, packages[0].locator: packages[0].data})
    write(library, BARCODES[1], {other.locator: other.data})
    report = rebuilt(library, catalog)
    first, second = report.volumes
    assert (first.packages + second.packages, first.copies + second.copies) == (3, 1), "which drive read it"
    assert first.verified == second.verified == 0
    assert first.quarantined == [], "what the first volume says is believed, on however many drives"
    assert sorted(key for key, _ in second.quarantined) == sorted([late.locator, other.locator])
    with catalog.read() as session:
        states = session.scalars(select(Copy.state)).all()
        assert set(session.scalars(select(Volume.state))) == {"active"}
        assert set(states) == {"written"}
        found = session.scalars(select(Package.digest).order_by(Package.key)).all()
        assert found == [hashlib.sha256(each.data).digest() for each in packages]
        who = session.execute(
            select(Patient.name, Study.charset, Study.referring_physician).join(Patient)
        ).first()
        said = packages[0].plan.identity
        assert who == (said.patient_name, said.charset, said.referring_physician)
    again = rebuilt(library, catalog, verify=True)
    assert sum(each.verified for each in again.volumes) == 4
    with catalog.read() as session:
        assert set(session.scalars(select(Copy.state))) == {"verified"}
