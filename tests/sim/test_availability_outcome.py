"""What a query tells and what a retrieve then does, of archives in random states: the two agree."""

from __future__ import annotations

import contextlib
import io
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode
from sqlalchemy import text

from hsm.availability import by_disks, route
from hsm.catalog import placement
from hsm.catalog.tables import Copy, Package, Volume
from hsm.clock import ManualClock
from hsm.dicom.answer import uuid_uid
from hsm.dicom.find import handle_find
from hsm.model import Availability
from tests.sim import cloud
from tests.sim.world import LONG, Got, Shape, Wait, World, header, study_uid

EVERYWHERE = """\
policy: everywhere
priority: 1
copies: {nearline: 1, s3: 1, tape: 2}
rules:
  - {name: n, copy to: nearline}
  - {name: c, copy to: cloud}
  - {name: t, copy to: tape}
"""
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
IMPLICIT = "1.2.840.10008.1.2"
STUDIES = {1: 3, 2: 2, 3: 3, 4: 2, 5: 1}
"""Instances of each: two packages; one; one and something that is not sealed; one that is larger than the
staging area and one that is not; nothing sealed."""
AREA = 1 << 20
CARTRIDGES = ("HSM001L8", "HSM002L8")
REASONS = ("out of service", "no copy that can be read", "raise staging.size_max_bytes")
PATIENCE = 12
"""Rounds of an hour that a machine may take: cold storage needs some."""


def shape(home: Path) -> Shape:
    bucket = home / "bucket"
    bucket.mkdir(parents=True, exist_ok=True)
    pool = {"name": "cloud", "driver": "cloud", "tier": "nearline", "options": {"bucket": str(bucket)}}
    return Shape(cartridges=3, pools=(pool,), staging_bytes=AREA, capacity_bytes=16 << 20)


@dataclass(repr=False)
class Template:
    """An archive in which everything has a copy everywhere, to be copied for each case."""

    home: Path
    database: Path
    frozen: set[str]
    """What went cold in its bucket."""
    clock: ManualClock
    acknowledged: dict[str, bytes]

    def __repr__(self) -> str:
        return "the template"


@pytest.fixture(scope="module")
def template(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    with pytest.MonkeyPatch.context() as patch:
        cloud.install(patch)
        for name in ("fsync", "fdatasync"):
            patch.setattr(f"os.{name}", lambda _: None)
        folder = tmp_path_factory.mktemp("template")
        home, database = folder / "home", folder / "sim.db"
        shutil.copyfile(sqlite_template, database)
        bucket = cloud.switch(home / "bucket")
        world = World(home, f"sqlite:///{database}", policies=EVERYWHERE, shape=shape(home))
        bucket.now, bucket.cold = world.now, True
        for study in (1, 2, 3):
            world.store(study, 2, size=4000)
        world.store(4, 1, size=AREA + 1)
        world.store(4, 1, first=2, size=4000)
        world.seal_all()
        world.store(1, 1, first=3, size=4000)
        world.follow()
        world.store(3, 1, first=3, size=4000)
        world.store(5, 1, size=4000)
        assert set(world.copies(1).values()) == {"verified"}
        assert len(world.copies(1)) == 2 * 5
        with world.catalog.write() as session:
            # The states are made by hand: what may follow what is not the question here.
            names = session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all()
            for name in names:
                session.execute(text(f'DROP TRIGGER "{name}"'))
        world.close()
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        yield Template(home, database, bucket.frozen, world.clock, world.acknowledged)


POOLS = ("online", "nearline", "cloud", *CARTRIDGES)
A_COPY = st.sampled_from(("verified", "verified", "written", "suspect", "released", "released", "released"))
A_PACKAGE = st.fixed_dictionaries(dict.fromkeys(POOLS, A_COPY))
A_CASE = st.fixed_dictionaries(
    {
        "packages": st.fixed_dictionaries(
            dict.fromkeys(("1.p0001", "1.p0002", "2.p0001", "3.p0001", "4.p0001"), A_PACKAGE)
        ),
        "cartridges": st.fixed_dictionaries(
            {
                name: st.sampled_from(("slot", "slot", "shelf", "shelf", "unknown", "lost"))
                for name in CARTRIDGES
            }
        ),
        "away": st.sets(st.sampled_from(("online", "nearline", "cloud")), max_size=2),
        "warm": st.booleans(),
        "staged": st.sets(st.sampled_from(("1.p0001", "2.p0001", "3.p0001")), max_size=1),
        "damaged": st.booleans(),
        "study": st.sampled_from((1, 1, 2, 3, 4, 4, 5)),
    }
)


class Case:
    """One archive in a drawn state."""

    def __init__(self, template: Template, folder: Path, drawn: dict[str, Any]) -> None:
        self.drawn = drawn
        self._doubted = False
        home, database = folder / "home", folder / "sim.db"
        shutil.copytree(template.home, home, symlinks=True)
        shutil.copyfile(template.database, database)
        clock = ManualClock(template.clock.now())
        frozen = set() if drawn["warm"] else set(template.frozen)
        self.bucket = cloud.switch(home / "bucket")
        self.bucket.now, self.bucket.cold, self.bucket.frozen = clock.now, not drawn["warm"], frozen
        self.world = World(
            home,
            f"sqlite:///{database}",
            clock,
            policies=EVERYWHERE,
            shape=shape(home),
            acknowledged=template.acknowledged,
        )
        self._stage()
        self._copies()
        self._cartridges()
        self._away()

    def _stage(self) -> None:
        world = self.world
        with world.catalog.read() as session:
            packages = {ref.key: ref for ref in placement.packages_of_studies(session, [1, 2, 3])}
        for name in self.drawn["staged"]:
            (ref,) = (each for key, each in packages.items() if key.endswith(f".{name}.tar"))
            writer = world.staging.admit(ref.key, ref.size)
            (tar,) = (world.home / "nearline").rglob(ref.key)
            writer.write(tar.read_bytes())
            writer.commit(ref.digest)

    def _copies(self) -> None:
        lost = {name for name, place in self.drawn["cartridges"].items() if place == "lost"}
        with self.world.catalog.write() as session:
            rows = session.query(Copy, Package.key, Volume.name)
            rows = rows.join(Package, Package.pk == Copy.package_pk).join(Volume, Volume.pk == Copy.volume_pk)
            for copy, key, volume in rows.all():
                state = self.drawn["packages"][".".join(key.split(".")[-3:-1])][volume]
                copy.state = "lost" if volume in lost else state
                if state == "suspect" and self.drawn["damaged"]:
                    self._damage(key, volume)

    def _damage(self, key: str, volume: str) -> None:
        if volume == "nearline":
            (tar,) = (self.world.home / volume).rglob(key)
            tar.chmod(0o644)
            tar.write_bytes(b"x" * tar.stat().st_size)
        elif volume == "online":
            study = int(key.split(".")[-3])
            for number in range(1, 3):
                file = self.world.online_file(study, number)
                file.chmod(0o644)
                file.write_bytes(b"x" * file.stat().st_size)

    def _cartridges(self) -> None:
        world = self.world
        for name, place in self.drawn["cartridges"].items():
            if place != "slot":
                world.custody.export(name, "B3", "test")
            if place in ("unknown", "lost"):
                with world.catalog.write() as session:
                    row = session.query(Volume).filter(Volume.name == name).one()
                    row.place = "unknown"
                    if place == "lost":
                        row.state = "lost"

    def _away(self) -> None:
        for pool in sorted(self.drawn["away"]):
            if pool == "cloud":
                self.bucket.down = True
            else:
                (self.world.home / pool).rename(self.world.home / f"{pool} is away")
                (self.world.home / pool).mkdir()
        self.world.clock.advance(2)  # longer than a presence is believed
        for disk in self.world.pools.disks.values():
            assert disk.service is not None
            disk.service.probe()

    @property
    def in_doubt(self) -> bool:
        """What is told of damaged copies is told in good faith: only reading shows it.

        What was so stays so: what was read and found damaged is told otherwise then."""
        self._doubted = self._doubted or self._is_in_doubt()
        return self._doubted

    def _is_in_doubt(self) -> bool:
        world = self.world
        with world.catalog.read() as session:
            refs = placement.packages_of_studies(session, [self.drawn["study"]])
            copies = placement.copies(session, [ref.pk for ref in refs])
        reach = world.reader.reach()
        ways = [route(copies[ref.pk], reach, staged=ref.key in reach.staged) for ref in refs]
        ways += [by_disks(copies[ref.pk], reach) for ref in refs if ref.size > AREA]
        return bool(self.drawn["damaged"]) and any(way.doubtful for way in ways)


def asked(world: World, level: str, study: int, model: str = STUDY_FIND) -> list[Dataset]:
    """C-FIND with the unique keys of a study."""
    keys = Dataset()
    keys.QueryRetrieveLevel = level
    if level == "PATIENT":
        keys.PatientID = header(study, 1).patient_id
    else:
        keys.StudyInstanceUID = study_uid(study)
    if level in ("SERIES", "IMAGE"):
        keys.SeriesInstanceUID = "" if level == "SERIES" else header(study, 1).series_uid
    if level == "IMAGE":
        keys.SOPInstanceUID = ""
    event = SimpleNamespace(
        assoc=SimpleNamespace(requestor=SimpleNamespace(ae_title="WS1")),
        request=SimpleNamespace(
            AffectedSOPClassUID=model, Identifier=io.BytesIO(encode(keys, True, True) or b"")
        ),
        context=SimpleNamespace(transfer_syntax=IMPLICIT, abstract_syntax=model),
        is_cancelled=False,
    )
    answers = list(handle_find(event, world.catalog, "HSM", world.reader.reach))
    assert all(status == 0xFF00 for status, _ in answers)
    return [found for _, found in answers if found is not None]


def told(world: World, study: int) -> tuple[Availability, str, set[str]]:
    """Availability and medium, which every level of a query tells alike, and what of it cannot be had."""
    (at_study,) = asked(world, "STUDY", study)
    availability = Availability(at_study.InstanceAvailability)
    medium = str(at_study.get("StorageMediaFileSetID", ""))
    images = {
        str(each.SOPInstanceUID): Availability(each.InstanceAvailability)
        for each in asked(world, "IMAGE", study)
    }
    assert len(images) == STUDIES[study]
    assert max(images.values(), key=lambda each: each.rank) is availability
    for level, model in (("SERIES", STUDY_FIND), ("PATIENT", PATIENT_FIND)):
        (at_level,) = asked(world, level, study, model)
        assert at_level.InstanceAvailability == availability.value
        assert str(at_level.get("StorageMediaFileSetID", "")) == medium
    assert bool(at_study.RetrieveAETitle) is (availability is not Availability.UNAVAILABLE)
    if medium:
        assert at_study.StorageMediaFileSetUID == uuid_uid(world.volume(medium).uuid)
    return availability, medium, {uid for uid, each in images.items() if each is Availability.UNAVAILABLE}


def unattended(world: World, wait: Wait) -> Got:
    """Hours go by and nobody comes."""
    got = wait.look()
    for _ in range(PATIENCE):
        world.settle()
        got = wait.look()
        if not got.waiting:
            break
        world.clock.advance(3600)
    return got


def answer_prompts(world: World) -> None:
    for barcode in world.prompts():
        world.custody.operator_done(barcode, "Ann")


def attended(world: World, wait: Wait) -> Got:
    """Somebody brings what is asked for."""
    got = wait.look()
    for _ in range(4):
        answer_prompts(world)
        got = unattended(world, wait)
        if not got.waiting:
            break
    return got


def agrees(case: Case) -> None:
    """The query, and then the retrieve."""
    world, study = case.world, case.drawn["study"]
    availability, medium, lost = told(world, study)
    note(f"told {availability} {medium}{' in doubt' if case.in_doubt else ''}")
    everything = STUDIES[study]
    wait = world.retrieve(study)
    try:
        if availability is Availability.ONLINE:
            got = wait.look()
            assert case.in_doubt or (len(got.files), got.waiting) == (everything, 0)
        elif availability is Availability.NEARLINE:
            got = unattended(world, wait)
            assert case.in_doubt or (len(got.files), got.waiting) == (everything, 0)
        elif availability is Availability.OFFLINE:
            got = unattended(world, wait)
            assert got.waiting, "it would have come by itself"
            assert medium in world.prompts()
            assert any(barcode in wait.retrieval.waiting_for() for barcode in world.prompts())
            got = attended(world, wait)
            assert case.in_doubt or (len(got.files), got.waiting) == (everything, 0)
        else:
            got = unattended(world, wait)
            got = attended(world, wait)
            assert lost and not lost & set(got.files)
            assert case.in_doubt or len(got.files) == everything - len(lost)
            reasons = [*got.lost.values(), *([wait.retrieval.waiting_for()] if got.waiting else [])]
            assert reasons
            assert all(any(known in why for known in REASONS) for why in reasons), reasons
            if got.lost:
                assert "out of service" not in " ".join(got.lost.values()), "it comes back: it is waited for"
    finally:
        wait.close()


@settings(
    max_examples=300 if LONG else 15,
    deadline=None,
    report_multiple_bugs=False,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, *([Phase.shrink] if LONG else [])),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(drawn=A_CASE)
def test_what_a_query_tells_is_what_a_retrieve_then_does(
    template: Template, monkeypatch: pytest.MonkeyPatch, drawn: dict[str, Any]
) -> None:
    cloud.install(monkeypatch)
    with tempfile.TemporaryDirectory() as folder:
        case = Case(template, Path(folder), drawn)
        try:
            agrees(case)
        finally:
            case.world.close()
