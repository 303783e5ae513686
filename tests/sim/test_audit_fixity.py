"""`hsm audit verify` and `hsm audit media` on an archive: what is read back, and what depends on what."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from drivers.simulated.medium import flip_byte
from hsm.audit.media import MediaAudit
from hsm.audit.verify import AskedFor, VerifyAudit
from hsm.catalog import media
from hsm.errors import BadInput, NotFound
from hsm.model import Priority
from hsm.states import VolumeState
from tests.sim.conftest import MakeWorld
from tests.sim.test_scrubbing import spoil
from tests.sim.world import NOTHING, TWO_TAPES, World, study_uid


def two_tapes(make_world: MakeWorld) -> World:
    """Two studies, each on HSM001L8 and HSM002L8 and nowhere else."""
    world = make_world(policies=TWO_TAPES)
    for study in (1, 2):
        world.store(study, 1)
    world.follow()
    world.use_policies(NOTHING)
    return world


def verify(world: World, **asked: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    audit = VerifyAudit(world.catalog, world.pools, world.bell)
    queued = audit.ask(AskedFor(**asked), "anna")
    for _ in range(3):
        world.later()
    return queued, audit.progress(queued["requests"])


def test_a_study_is_read_back_wherever_it_lies_and_what_does_not_match_is_named(
    make_world: MakeWorld,
) -> None:
    world = two_tapes(make_world)
    flip_byte(world.library.medium_folder("HSM002L8"), world.tar_of(1), 700)
    queued, found = verify(world, study=study_uid(1), urgent=True)
    assert (queued["copies"], queued["waiting_for_a_person"], queued["more"]) == (2, 0, False)
    assert not found["good"]
    assert found["left"] == 0
    assert {(each["volume"], each["result"]) for each in found["copies"]} == {
        ("HSM001L8", "matches"),
        ("HSM002L8", "does not match"),
    }
    assert {each.priority for each in world.requests(kind="verify")} == {Priority.BULK}
    # Made good, it is told all the same: the audit found something.
    world.use_policies(TWO_TAPES)
    for _ in range(4):
        world.repairs.round()
        world.later()
    again = VerifyAudit(world.catalog, world.pools, world.bell).progress(queued["requests"])
    assert not again["good"]
    assert len(world.on_tape(1)) == 2
    _, clean = verify(world, volume="HSM001L8")
    assert clean["good"]
    assert len(clean["copies"]) == 2
    world.check()


def test_media_tell_which_studies_lose_which_copy_with_them(make_world: MakeWorld) -> None:
    world = two_tapes(make_world)
    audit = MediaAudit(world.catalog, world.pools)
    found = audit.report()
    known = {each["name"]: each for each in found["volumes"]}
    for barcode in ("HSM001L8", "HSM002L8"):
        assert known[barcode]["last_copy_of"] == {"studies": 0, "packages": 0}
        assert known[barcode]["second_last_of"] == {"studies": 2, "packages": 2}
        assert known[barcode]["generation"] == "LTO8"
        assert known[barcode]["mounts"] >= 1
    assert found["good"]
    with world.catalog.write() as session:
        pk = media.volume(session, "HSM001L8").pk
        media.move_volume(session, pk, VolumeState.SUSPECT, world.now(), "test", "scratched")
    found = audit.report()
    known = {each["name"]: each for each in found["volumes"]}
    assert known["HSM002L8"]["last_copy_of"]["studies"] == 2
    assert known["HSM001L8"]["advice"] == [
        {"act": True, "what": "suspect: scratched: hsm volume repack HSM001L8"}
    ]
    assert (found["needs_action"], found["good"]) == (1, False)
    one = audit.one("HSM002L8", 1)
    assert one["studies"] == [
        {"study": study_uid(1), "copies_elsewhere": 0, "packages": 1, "bytes": one["studies"][0]["bytes"]}
    ]
    assert one["not_named"] == 1
    with pytest.raises(NotFound, match="NOPE"):
        audit.one("NOPE", 1)


@pytest.mark.campaign
def test_a_sample_takes_another_part_of_the_copies_each_time(make_world: MakeWorld) -> None:
    world = make_world(policies=NOTHING)
    for study in range(1, 41):
        world.store(study, 1, size=200)
    world.seal_all()
    samples = []
    for _ in range(3):
        world.clock.advance(timedelta(days=1).total_seconds())
        _, found = verify(world, percent=25.0, pool="online")
        samples.append({each["study"] for each in found["copies"]})
    assert all(2 <= len(each) <= 22 for each in samples), "about ten of forty"
    assert len(set.union(*samples)) > max(len(each) for each in samples)
    spoil(world.online_file(7, 1))
    _, found = verify(world, percent=100.0)
    assert [each["study"] for each in found["copies"] if each["result"] != "matches"] == [study_uid(7)]


@pytest.mark.parametrize(
    "bad",
    [{}, {"study": "1.2", "volume": "V"}, {"percent": -1.0}, {"percent": 101.0}, {"percent": float("nan")}],
)
def test_what_cannot_be_meant_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        AskedFor(**bad)
