"""Rebuilding: the catalog is gone, and what the media say of themselves makes another one."""

from __future__ import annotations

import json

import pytest

from drivers.simulated.medium import flip_byte
from hsm.catalog import rebuilding
from hsm.errors import NotFound, Refused
from hsm.layout import instance_path
from tests.sim.aftermath import (
    EVERYWHERE,
    TO_TAPE_ONLY,
    LoseCatalog,
    facts,
    in_lives,
    rebuild,
    store_loose,
)
from tests.sim.conftest import MakeWorld
from tests.sim.test_deletion import delete, undelete
from tests.sim.world import study_uid


def test_an_archive_is_rebuilt_from_its_media_alone(make_world: MakeWorld, lose_catalog: LoseCatalog) -> None:
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
    make_world: MakeWorld, lose_catalog: LoseCatalog
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
    make_world: MakeWorld, lose_catalog: LoseCatalog
) -> None:
    world = make_world(policies=EVERYWHERE)
    world.store(1, 2)
    world.store(2, 2)
    world.follow()
    store_loose(world, 3, 1, b"not sealed yet" * 500)
    delete(world, 2)
    world.anchoring.round()
    before = facts(world)
    anew, report = in_lives(lose_catalog(world), 2, rebuild)
    assert report.complete
    assert facts(anew) == before, "the study in the trash among them"
    assert anew.instances(2) == [] and len(report.deleted) == 1
    undelete(anew, 2)
    anew.assert_readable(2)
    anew.check()


@pytest.mark.campaign
def test_a_killed_rebuild_does_not_read_again_what_it_has_read(
    make_world: MakeWorld, lose_catalog: LoseCatalog
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
    make_world: MakeWorld, lose_catalog: LoseCatalog
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
    make_world: MakeWorld, lose_catalog: LoseCatalog
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
def test_one_cartridge_and_then_the_next(make_world: MakeWorld, lose_catalog: LoseCatalog) -> None:
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
