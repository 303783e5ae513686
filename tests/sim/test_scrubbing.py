"""Scrubbing: what was stored long ago is read back, what is damaged is made anew, and nobody waits for it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from drivers.simulated.medium import flip_byte
from hsm.audit.copies import Asked, CopiesAudit
from hsm.catalog import placement
from hsm.model import Priority
from hsm.repair import News
from hsm.scrub import BESIDE
from hsm.states import CopyState
from tests.sim.conftest import MakeWorld
from tests.sim.world import NEARLINE, NOTHING, ROAD, TWO_TAPES, Shape, Wait, World, study_uid

DAY = 86400.0
EVERY = {"every": "30 days"}
BOTH = """\
policy: both
priority: 1
copies: {nearline: 1, tape: 1}
rules:
  - {name: to nearline, copy to: nearline}
  - {name: to tape, copy to: tape}
"""


def scrubbed(make_world: MakeWorld, policies: str = BOTH, studies: int = 1, **tape: Any) -> World:
    """An archive that looks at everything every 30 days, with some studies where the policies want them."""
    shape = Shape(tape={"scrub": EVERY | tape}, disk={"scrub": EVERY})
    world = make_world(policies=policies, shape=shape)
    for study in range(1, studies + 1):
        world.store(study, 2)
    world.follow()
    world.use_policies(NOTHING)
    return world


def scrub(world: World, days: float = 31) -> None:
    """Days pass; then the daemon looks, reads back, and makes anew what is damaged."""
    world.clock.advance(days * DAY)
    for _ in range(6):
        busy = world.scrubs.round() + world.repairs.round()
        world.later()
        if not busy and "suspect" not in world.copies().values():
            return


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def nearline(world: World, study: int) -> Path:
    return world.home / "nearline" / world.tar_of(study)


def test_every_copy_is_read_back_when_its_time_has_come_and_not_before(make_world: MakeWorld) -> None:
    world = scrubbed(make_world)
    assert world.scrubs.round() == 0
    scrub(world, 29)
    assert world.requests(kind="verify") == []
    scrub(world, 2)
    done = world.requests(kind="verify")
    assert sorted(each.pool or "" for each in done) == ["nearline", "online", "tape"]
    assert {(each.state, each.priority) for each in done} == {("done", Priority.SCRUB)}
    scrub(world, 29)
    assert len(world.requests(kind="verify")) == 3, "it was verified again just now"
    world.check()


@pytest.mark.parametrize("pool", ["online", pytest.param("nearline", marks=pytest.mark.campaign)])
def test_a_copy_on_disk_that_has_changed_is_found_and_made_anew_in_its_place(
    make_world: MakeWorld, pool: str
) -> None:
    world = scrubbed(make_world)
    told: list[News] = []
    world.repairs.tell = told.append
    spoil(world.online_file(1, 2) if pool == "online" else nearline(world, 1))
    scrub(world)
    assert world.copies(1) == {("1.p0001", name): "verified" for name in ("online", "nearline", "HSM001L8")}
    verbs = [verb for verb, detail in world.history(study_uid(1)) if detail.get("volume") == pool]
    steps = ["suspect", "releasing", "released", "writing", "written", "verified"]
    assert [verb for verb in verbs if verb.startswith("copy")][-6:] == [f"copy {step}" for step in steps]
    assert [len(news.damaged) for news in told if news.damaged] == [1]
    assert [len(news.mended) for news in told if news.mended] == [1]
    assert not any(news.hopeless for news in told)
    assert world.repairs.problems() == []
    assert [each.state for each in world.requests(kind="verify", pool=pool)] == ["cancelled"]
    world.assert_readable(1)
    world.check()


@pytest.mark.campaign
def test_two_damaged_copies_of_a_study_are_both_made_anew_from_the_third(make_world: MakeWorld) -> None:
    world = scrubbed(make_world)
    world.use_policies(BOTH)  # each pool is demanded, and neither may block the other
    spoil(world.online_file(1, 1))
    spoil(nearline(world, 1))
    scrub(world)
    assert set(world.copies(1).values()) == {"verified"}
    world.assert_readable(1)
    world.check()


@pytest.mark.campaign
def test_without_a_good_copy_nothing_is_touched_and_everybody_hears_of_it(make_world: MakeWorld) -> None:
    world = scrubbed(make_world, NEARLINE)
    told: list[News] = []
    world.repairs.tell = told.append
    spoil(world.online_file(1, 2))
    spoil(nearline(world, 1))
    bytes_before = nearline(world, 1).read_bytes()
    scrub(world)
    assert world.copies(1) == {("1.p0001", "online"): "suspect", ("1.p0001", "nearline"): "suspect"}
    assert nearline(world, 1).read_bytes() == bytes_before
    (problem,) = world.repairs.problems()
    assert problem.startswith("NO GOOD COPY IS LEFT of 1 package")
    assert sum(len(news.hopeless) for news in told) == 1, "said once, though two copies are suspect"
    audit = CopiesAudit(world.catalog, world.pools, lambda _: world.policies.set).report(Asked())
    assert (audit["no_good_copy"], audit["good"]) == (1, False), "whatever time its goals have"
    assert [uid for each in audit["policies"] for uid in each["no_good_copy"]["named"]] == [study_uid(1)]
    wait = world.retrieve(1)
    world.settle()
    got = wait.look()
    wait.close()
    assert len(got.files) + len(got.lost) == 2, "what is whole of it is given, and nothing else"
    world.check()


@pytest.mark.campaign
def test_damage_that_was_on_the_way_and_not_on_the_medium_rewrites_nothing(make_world: MakeWorld) -> None:
    world = scrubbed(make_world)
    written = nearline(world, 1).stat().st_ino
    with world.catalog.read() as session:
        (package,) = placement.packages_of_studies(session, [1])
        (copy,) = (c for c in placement.copies(session, [package.pk])[package.pk] if c.pool == "nearline")
    world.migrate.proofs.judge(copy.copy_pk, CopyState.SUSPECT, "other bytes came over the network")
    world.repairs.round()
    world.later()
    assert world.copies(1)["1.p0001", "nearline"] == "verified"
    assert nearline(world, 1).stat().st_ino == written
    world.check()


def test_what_two_drives_read_wrong_is_made_anew_on_another_cartridge(make_world: MakeWorld) -> None:
    world = scrubbed(make_world, TWO_TAPES)
    flip_byte(world.library.medium_folder("HSM001L8"), world.tar_of(1), 700)
    world.use_policies(TWO_TAPES)
    scrub(world)
    assert world.copies(1)["1.p0001", "HSM001L8"] == "released"
    assert world.on_tape(1) == ["HSM002L8", "HSM003L8"]
    pairs: Any = world.use.report("library")
    wrong = [each for each in pairs["uses"] if each["volume"] == "HSM001L8" and each["failing"]]
    assert len(wrong) == 2, "each drive that read it wrong"
    assert {each["blame"] for each in wrong} == {"medium"}
    assert world.repairs.problems() == []
    world.assert_readable(1)
    world.check()


@pytest.mark.campaign
def test_what_one_drive_reads_wrong_and_another_right_is_the_drives_fault(make_world: MakeWorld) -> None:
    world = scrubbed(make_world, TWO_TAPES)
    world.fault("get", "corrupt", nth=1)
    scrub(world)
    assert world.on_tape(1) == ["HSM001L8", "HSM002L8"]
    assert not [each for each in world.requests(kind="copy") if each.key.startswith("mend:")]
    assert "copy suspect" in [verb for verb, _ in world.history(study_uid(1))]
    world.check()


@pytest.mark.campaign
def test_a_cartridge_that_is_mounted_for_a_recall_is_read_on_and_gives_way(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = Shape(tape={"scrub": EVERY}, drives=1)
    world = make_world(policies=ROAD, shape=shape)
    for study in (1, 2, 3, 4):
        world.store(study, 1)
    world.follow()
    world.use_policies(NOTHING)
    world.custody.unmount_all()
    world.clock.advance(27 * DAY)  # due in three days
    assert world.scrubs.round() == 0
    mounts: list[str] = []
    world.tapped.on_mount = mounts.append
    waits: list[Wait] = []
    prove = world.migrate.proofs.prove

    def proved(*arguments: Any) -> None:
        prove(*arguments)
        if len(waits) == 1:
            waits.append(world.retrieve(2))

    monkeypatch.setattr(world.migrate.proofs, "prove", proved)
    waits.append(world.retrieve(1))
    world.workers.drive_step()
    assert [each.state for each in world.requests(kind="verify")] == ["done"], (
        "one package, then it gives way"
    )
    world.settle()
    done = world.requests(kind="verify")
    assert {(each.state, each.reason) for each in done} == {("done", BESIDE)}
    assert len(done) == 4
    assert mounts == ["HSM001L8", "HSM001L8"], "one for each of the recalls, none for the scrub"
    for wait in waits:
        assert wait.look().waiting == 0
        wait.close()
    world.check()


@pytest.mark.campaign
def test_a_cartridge_on_the_shelf_is_reported_and_no_operator_is_asked(make_world: MakeWorld) -> None:
    world = scrubbed(make_world, TWO_TAPES)
    world.custody.unmount_all()
    for barcode in ("HSM001L8", "HSM002L8"):
        world.custody.export(barcode, "vault 1", "anna")
    scrub(world)
    assert world.requests(kind="verify", pool="tape") == []
    assert world.prompts() == []
    (problem,) = world.scrubs.problems()
    assert "2 copies on 2 cartridges on the shelf are due" in problem
    world.check()


@pytest.mark.campaign
def test_where_that_is_wanted_an_operator_is_asked_for_one_cartridge_at_a_time(make_world: MakeWorld) -> None:
    world = scrubbed(make_world, TWO_TAPES, shelf="ask")
    world.custody.unmount_all()
    for barcode in ("HSM001L8", "HSM002L8"):
        world.custody.export(barcode, "vault 1", "anna")
    scrub(world)
    assert world.prompts() == ["HSM001L8"]
    assert world.scrubs.problems() == []
    world.check()


@pytest.mark.campaign
def test_a_limit_of_bytes_a_second_slows_the_scrub_and_nothing_else(make_world: MakeWorld) -> None:
    disk = {"scrub": EVERY | {"bytes_per_second": "10 kB"}}
    world = make_world(policies=NEARLINE, shape=Shape(disk=disk))
    world.store(1, 2)
    world.follow()
    world.use_policies(NOTHING)
    world.clock.advance(31 * DAY)
    world.scrubs.round()
    before = world.now()
    world.settle()
    assert world.now() - before > timedelta(seconds=2), "40 kB in each of two pools, less a first burst"
    assert {each.state for each in world.requests(kind="verify")} == {"done"}
