"""A catalog from a backup is older than its media: it believes less than they hold, and sometimes more."""

from __future__ import annotations

import shutil

import pytest
from sqlalchemy import select

from drivers.simulated.medium import flip_byte
from hsm.catalog.tables import Study
from hsm.errors import Refused, Retryable
from hsm.rebuild import Report
from tests.sim.aftermath import TO_TAPE_ONLY, Restore, backup_of, check_media, in_lives, owed, store_loose
from tests.sim.conftest import MakeWorld
from tests.sim.test_deletion import delete, rounds
from tests.sim.world import NOTHING, World, study_uid

TO_BOTH = """\
policy: both
priority: 1
copies: {tape: 1}
rules:
  - {name: to nearline, copy to: nearline}
  - {name: to tape, copy to: tape}
"""


@pytest.mark.campaign
def test_what_was_sealed_and_received_after_the_backup_is_taken_in_again(
    make_world: MakeWorld, restore: Restore
) -> None:
    world = make_world(policies=TO_TAPE_ONLY)
    world.store(1, 2)
    world.follow()
    world.store(2, 2)  # received before the backup, sealed and gone to tape after it
    file = backup_of(world)
    world.follow()
    world.store(3, 2)
    world.follow()
    store_loose(world, 4, 1, b"received last" * 300)
    old = restore(world, file)
    assert old.instances(3) == []
    assert owed(old)
    report = check_media(old)
    assert report.lifted and not owed(old)
    for study in (1, 2, 3, 4):
        old.assert_readable(study)
    old.follow()
    assert all(len(old.on_tape(study)) == 1 for study in (1, 2, 3, 4))
    old.check()


def test_nothing_is_released_sealed_copied_or_overwritten_before_the_comparison(
    make_world: MakeWorld, restore: Restore
) -> None:
    world = make_world(policies=NOTHING)
    world.store(1, 2)
    world.seal_all()
    world.use_policies(TO_TAPE_ONLY)
    world.store(2, 1)
    old = restore(world, backup_of(world))
    old.follow()
    assert set(old.copies().values()) == {"verified"}
    assert [volume for _, volume in old.copies()] == ["online"]
    with pytest.raises(Retryable, match="check --media"), old.catalog.read() as session:
        old.seal.seal(session.scalars(select(Study.pk).where(Study.uid == study_uid(2))).one())
    for act in (
        lambda: old.volumes.label("HSM003L8", "tape", "alice"),
        lambda: old.volumes.label("HSM003L8", "tape", "alice", "HSM003L8"),
        lambda: old.volumes.recycle("HSM001L8", "alice"),
        lambda: old.volumes.retire("HSM001L8", "alice"),
    ):
        with pytest.raises(Refused, match="check --media"):
            act()
    old.assert_readable(1)
    old.store(3, 1)
    old.assert_readable(3)
    assert check_media(old).lifted
    old.later(4000)
    old.follow()
    assert all(len(old.on_tape(study)) == 1 for study in (1, 2, 3))
    old.check()


@pytest.mark.campaign
def test_a_cartridge_that_the_old_catalog_believes_blank_or_shorter_is_appended_to_where_its_data_ends(
    make_world: MakeWorld, restore: Restore
) -> None:
    world = make_world(policies=TO_BOTH)
    world.store(1, 2)
    world.follow()
    file = backup_of(world)
    for study in (2, 3, 4):
        world.store(study, 4, size=400_000)  # HSM001L8 grows, and HSM002L8 is labelled
        world.follow()
    filled = {volume for _, volume in world.copies()}
    assert {"HSM001L8", "HSM002L8"} < filled
    was = world.copies()
    old = restore(world, file)
    assert old.volume("HSM002L8").state == "scratch"
    assert check_media(old).lifted
    assert old.volume("HSM002L8").state == "active"
    old.store(5, 2)
    old.follow()
    assert was.keys() <= old.copies().keys()
    for _, volume in was:
        if volume.startswith("HSM"):
            old.volumes.verify(volume, "alice")
    old.later()
    assert set(old.copies().values()) == {"verified"}, "every byte of every life is there"
    for study in range(1, 6):
        old.assert_readable(study)
    old.check()


@pytest.mark.campaign
def test_what_the_catalog_believes_and_the_medium_has_not_is_suspect(
    make_world: MakeWorld, restore: Restore
) -> None:
    world = make_world(policies=TO_BOTH)
    world.store(1, 2)
    world.follow()
    file = backup_of(world)
    world.use_policies(
        "policy: both\npriority: 1\ncopies: {tape: 1}\n"
        "rules: [{name: free, release from: nearline, when: copies(tape) >= 1}]\n"
    )
    world.follow()
    assert world.copies(1)["1.p0001", "nearline"] == "released"
    old = restore(world, file)
    assert old.copies(1)["1.p0001", "nearline"] == "verified"
    report = check_media(old)
    assert report.lifted
    assert {each.volume: each.missing for each in report.volumes if each.missing} == {
        "nearline": [f"{study_uid(1)}.p0001.tar"]
    }
    assert old.copies(1)["1.p0001", "nearline"] == "suspect"
    old.assert_readable(1)
    old.check()


@pytest.mark.campaign
def test_a_cartridge_that_nobody_can_bring_counts_for_nothing_until_it_is_scanned(
    make_world: MakeWorld, restore: Restore
) -> None:
    world = make_world(policies=TO_TAPE_ONLY)
    world.store(1, 2)
    world.follow()
    world.custody.export("HSM001L8", "A1", "alice")
    old = restore(world, backup_of(world))
    report = check_media(old)
    assert (report.left, report.lifted) == (["HSM001L8"], False)
    assert owed(old)
    again = check_media(old, "HSM001L8")
    assert again.lifted
    assert next(each for each in again.volumes if each.volume == "online").skipped, "it goes on"
    assert old.volume("HSM001L8").state == "suspect"
    old.library.hand_insert("HSM001L8")
    old.custody.import_("HSM001L8", "alice")
    old.scan.scan("HSM001L8", "alice", adopt=True)
    assert old.volume("HSM001L8").state == "active"
    old.assert_readable(1)
    old.check()


@pytest.mark.campaign
def test_a_cartridge_that_was_labelled_anew_since_the_backup_holds_what_its_label_says(
    make_world: MakeWorld, restore: Restore
) -> None:
    world = make_world(policies=TO_BOTH)
    world.store(1, 2)
    world.follow()
    file = backup_of(world)
    world.volumes.lost("HSM001L8", "alice", "so that it holds nothing")
    folder = world.library.medium_folder("HSM001L8")
    world.custody.unmount_all()
    shutil.rmtree(folder / "objects", ignore_errors=True)
    (folder / "label.json").write_text(
        (folder / "label.json").read_text().replace(world.volume("HSM001L8").uuid, "a-new-identity")
    )
    old = restore(world, file)
    report = check_media(old)
    assert report.lifted
    assert old.volume("HSM001L8").uuid == "a-new-identity"
    old.assert_readable(1)
    old.check()


@pytest.mark.campaign
def test_what_was_deleted_for_good_does_not_come_back_from_what_is_left_of_it(
    make_world: MakeWorld, restore: Restore
) -> None:
    world = make_world(policies=TO_BOTH)
    world.store(1, 2)
    world.store(2, 2)
    world.follow()
    tar = world.home / "nearline" / world.tar_of(1)
    kept = tar.read_bytes()
    delete(world)
    world.clock.advance(31 * 86400)
    rounds(world)
    assert set(world.copies(1).values()) == {"released"} and not tar.exists()
    tar.parent.mkdir(exist_ok=True)
    tar.write_bytes(kept)  # a snapshot of the NAS was put back
    old = restore(world, backup_of(world))
    assert check_media(old).lifted
    assert set(old.copies(1).values()) == {"released"}
    assert old.instances(1) == []
    assert tar.exists(), "nothing is deleted by a comparison"
    old.assert_readable(2)
    old.check()


@pytest.mark.campaign
def test_a_comparison_that_is_killed_at_any_moment_goes_on_and_finds_every_bad_byte(
    make_world: MakeWorld, restore: Restore
) -> None:
    world = make_world(policies=TO_BOTH)
    world.store(1, 2)
    world.store(2, 2)
    world.follow()
    file = backup_of(world)
    world.store(3, 2)
    world.follow()
    flip_byte(world.library.medium_folder("HSM001L8"), world.tar_of(2), 20_000)
    with (world.home / "nearline" / world.tar_of(1)).open("r+b") as tar:
        tar.seek(20_000)
        tar.write(b"\0\0\0\0")

    def checked(old: World) -> Report:
        assert owed(old)
        return check_media(old, verify=True)

    old, report = in_lives(restore(world, file), 3, checked)
    assert report.lifted
    bad = {where for where, state in old.copies().items() if state != "verified"}
    assert bad == {("1.p0001", "nearline"), ("2.p0001", "HSM001L8")}
    for study in (1, 2, 3):
        old.assert_readable(study)
    old.check()
    old.close()
