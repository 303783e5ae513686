"""Rebuilding: the catalog is gone, and what the media say of themselves makes another one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from drivers.simulated.medium import flip_byte
from hsm.catalog import rebuilding
from hsm.catalog.tables import Copy, Instance, Package, Patient, Series, Study, Volume
from hsm.errors import BadInput, NotFound, Refused
from hsm.layout import instance_path
from hsm.model import Header
from hsm.rebuild import Rebuild, Report
from tests.sim.conftest import MakeWorld
from tests.sim.taps import Crash
from tests.sim.world import World, header, study_uid

EVERYWHERE = """\
policy: everywhere
priority: 1
copies: {tape: 1}
rules:
  - {name: to nearline, copy to: nearline}
  - {name: to tape, copy to: tape}
"""

TO_TAPE_ONLY = """\
policy: tape
priority: 1
copies: {tape: 1}
rules:
  - {name: to tape, copy to: tape}
  - {name: free online, release from: online, when: copies(tape) >= 1}
"""


def some_header(_dataset: memoryview, _syntax: str) -> Header:
    """The worlds' datasets are no DICOM: this one knows what the tests leave unsealed."""
    known = {hashlib.sha256(_dataset).digest(): head for head, data in LOOSE for data in [data]}
    try:
        return known[hashlib.sha256(_dataset).digest()]
    except KeyError:
        raise BadInput("no instance that this test has stored") from None


LOOSE: list[tuple[Header, bytes]] = []


@pytest.fixture(autouse=True)
def _no_loose() -> Iterator[None]:
    LOOSE.clear()
    yield
    LOOSE.clear()


def store_loose(world: World, study: int, number: int, data: bytes) -> Header:
    head = header(study, number)
    LOOSE.append((head, data))
    world.store_one(head, data)
    return head


@pytest.fixture
def lose_catalog(sqlite_template: Path, tmp_path: Path) -> Callable[[World], World]:
    """The same folders and cartridges with a catalog that is new."""
    made: list[World] = []

    def lose(world: World, name: str = "again.db") -> World:
        world.custody.unmount_all()
        world.close()
        path = tmp_path / name
        if not path.exists():
            shutil.copyfile(sqlite_template, path)
        made.append(
            World(
                world.home,
                f"sqlite:///{path}",
                world.clock,
                policies=world.policy_text,
                shape=world.shape,
                acknowledged=world.acknowledged,
            )
        )
        return made[-1]

    yield lose  # type: ignore[misc]
    for each in made:
        each.close()


def rebuild(world: World, *wanted: str, **options: Any) -> Report:
    world.custody.unmount_all()
    return Rebuild(world.catalog, world.pools, world.custody, some_header, **options).run(wanted)


def facts(world: World) -> dict[str, Any]:
    """What a rebuild must bring back, as far as media know it, without keys and times."""
    with world.catalog.read() as session:
        copies = session.execute(
            select(Package.key, Volume.name, Volume.uuid, Volume.pool, Copy.locator, Copy.position)
            .select_from(Copy)
            .join(Package, Package.pk == Copy.package_pk)
            .join(Volume, Volume.pk == Copy.volume_pk)
            .where(Copy.state.in_(("written", "verified")))
        )
        studies = session.execute(
            select(
                *(Study.uid, Patient.key, Patient.name, Study.modalities, Study.n_series, Study.n_instances),
                *(Study.n_bytes, Study.unsealed, Study.packages, Study.description, Study.accession),
            ).join(Patient, Patient.pk == Study.patient_pk)
        )
        series = session.execute(select(Series.uid, Series.modality, Series.number, Series.n_instances))
        packages = session.execute(select(Package.key, Package.size, Package.digest, Package.n_instances))
        instances = session.execute(
            select(Instance.uid, Instance.version, Instance.size, Instance.digest, Instance.offset)
        )
        tables = {"copies": copies, "studies": studies, "series": series}
        tables |= {"packages": packages, "instances": instances}
        return {name: sorted(map(tuple, rows), key=repr) for name, rows in tables.items()}


def test_an_archive_is_rebuilt_from_its_media_alone(
    make_world: MakeWorld, lose_catalog: Callable[[World], World]
) -> None:
    world = make_world(policies=EVERYWHERE)
    world.store(1, 3)
    world.store(1, 1, series=2)
    world.store(2, 2)
    world.follow()
    world.store(1, 1, first=9)
    world.follow()
    store_loose(world, 3, 1, b"not sealed yet" * 500)
    world.custody.unmount_all()
    before = facts(world)
    anew = lose_catalog(world)
    assert facts(anew)["copies"] == []
    report = rebuild(anew)
    assert report.complete and report.quarantined == 0
    assert facts(anew) == before
    assert report.totals["packages"] == 3
    anew.check()
    for study in (1, 2, 3):
        anew.assert_readable(study)
    anew.follow()
    assert set(anew.copies().values()) == {"verified"}, "whatever follows is an archive like any other"
    anew.check()


@pytest.mark.campaign
def test_what_was_only_believed_is_written_and_what_was_read_is_verified(
    make_world: MakeWorld, lose_catalog: Callable[[World], World]
) -> None:
    world = make_world(policies=EVERYWHERE)
    world.store(1, 2)
    world.follow()
    anew = lose_catalog(world)
    rebuild(anew)
    # Nobody has noted the digest of the package, so that the first copy was read to its end.
    assert anew.copies(1) == {
        ("1.p0001", "online"): "verified",
        ("1.p0001", "nearline"): "written",
        ("1.p0001", "HSM001L8"): "written",
    }
    report = rebuild(anew, verify=True)
    assert set(anew.copies(1).values()) == {"verified"}
    assert sum(each.verified for each in report.volumes) == 2
    anew.check()


@pytest.mark.campaign
def test_a_rebuild_that_is_killed_at_any_moment_goes_on_and_ends_with_the_same_catalog(
    make_world: MakeWorld, lose_catalog: Callable[[World], World]
) -> None:
    world = make_world(policies=EVERYWHERE)
    world.store(1, 2)
    world.store(2, 2)
    world.follow()
    store_loose(world, 3, 1, b"not sealed yet" * 500)
    before = facts(world)
    anew = lose_catalog(world)
    lives = 0
    for life in range(100):
        anew.fuse.blown, anew.fuse.blows_at = False, anew.fuse.count + 3 + 2 * life
        with contextlib.suppress(Crash):
            report = rebuild(anew)
            break
        lives += 1
        anew = anew.rebuild()
    anew.fuse.blows_at = None
    assert lives >= 5 and report.complete
    assert facts(anew) == before
    anew.check()


@pytest.mark.campaign
def test_a_killed_rebuild_does_not_read_again_what_it_has_read(
    make_world: MakeWorld, lose_catalog: Callable[[World], World]
) -> None:
    world = make_world(policies=EVERYWHERE)
    world.store(1, 2)
    world.follow()
    anew = lose_catalog(world)
    assert not any(each.skipped for each in rebuild(anew).volumes)
    again = rebuild(anew)
    assert {each.volume: each.skipped for each in again.volumes if each.copies or each.packages} == {}
    assert next(each for each in again.volumes if each.volume == "HSM001L8").skipped
    with pytest.raises(NotFound, match="HSM999"):
        rebuild(anew, "HSM999")


@pytest.mark.campaign
def test_other_bytes_under_a_known_name_are_left_where_they_lie_and_named(
    make_world: MakeWorld, lose_catalog: Callable[[World], World]
) -> None:
    world = make_world(policies=EVERYWHERE)
    world.store(1, 2)
    world.store(2, 1)
    world.follow()
    tar = world.tar_of(1)
    with (world.home / "nearline" / tar).open("r+b") as file:
        file.write(b"this is no package")
    key = instance_path(study_uid(7), study_uid(7) + ".1", study_uid(7) + ".1.1", 0)
    stranger = world.home / "online" / key
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"no DICOM at all")
    anew = lose_catalog(world)
    report = rebuild(anew)
    assert report.complete, "it was all read"
    named = {volume.volume: [key for key, _ in volume.quarantined] for volume in report.volumes}
    assert named["nearline"] == [tar]
    assert named["online"] == [key]
    assert any("not a package" in each for each in report.differs)
    assert ("1.p0001", "nearline") not in anew.copies(1)
    assert stranger.read_bytes() == b"no DICOM at all"
    anew.seal_all()
    anew.run_policies()
    assert any("quarantined" in each.error for each in anew.requests(pool="nearline")), (
        "asked for, and refused"
    )
    assert (anew.home / "nearline" / tar).read_bytes().startswith(b"this is no package")
    anew.assert_readable(1)
    anew.check()


@pytest.mark.campaign
def test_a_package_that_two_media_have_with_other_bytes_is_taken_once(
    make_world: MakeWorld, lose_catalog: Callable[[World], World]
) -> None:
    world = make_world(policies=EVERYWHERE)
    world.store(1, 2)
    world.follow()
    flip_byte(world.library.medium_folder("HSM001L8"), world.tar_of(1), 20_000)
    anew = lose_catalog(world)
    report = rebuild(anew, verify=True)
    tape = next(each for each in report.volumes if each.volume == "HSM001L8")
    assert len(tape.quarantined) == 1
    assert ("1.p0001", "HSM001L8") not in anew.copies(1)
    anew.assert_readable(1)
    anew.check()


def test_only_an_empty_catalog_is_rebuilt(make_world: MakeWorld) -> None:
    world = make_world(policies=EVERYWHERE)
    world.store(1, 1)
    with world.catalog.read() as session, pytest.raises(Refused, match="not empty"):
        rebuilding.require_empty(session)


@pytest.mark.campaign
def test_one_cartridge_and_then_the_next(
    make_world: MakeWorld, lose_catalog: Callable[[World], World]
) -> None:
    """The media come as somebody finds them."""
    world = make_world(policies=TO_TAPE_ONLY)
    world.store(1, 2)
    world.follow()
    world.store(2, 2)
    world.follow()
    anew = lose_catalog(world)
    report = rebuild(anew, "HSM001L8")
    assert [each.volume for each in report.volumes] == ["HSM001L8"]
    assert anew.volume("HSM001L8").state == "active"
    assert anew.volume("HSM002L8").state == "scratch"
    with anew.catalog.read() as session:
        assert json.dumps(report.record())
        assert rebuilding.totals(session).studies == 2
    anew.assert_readable(2)
    anew.check()
