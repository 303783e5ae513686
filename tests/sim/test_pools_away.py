"""Storage across a network that is away, full or failing: what needs it waits, and all else goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from hsm.availability import standing
from hsm.catalog import placement
from hsm.catalog.tables import Package
from hsm.config.deletion import DeletionConfig
from hsm.drain import Drains
from hsm.errors import Corrupt, NoSpace, NotFound, OperatorNeeded, Permanent, Refused, Retryable
from hsm.model import Availability
from hsm.pooldesk import PoolDesk
from hsm.pooltest import in_words
from hsm.states import CopyState
from hsm.trash import Trash
from tests.sim import cloud
from tests.sim.conftest import MakeWorld
from tests.sim.world import Shape, World, study_uid

CLOUD = """\
policy: cloud
priority: 1
copies: {cloud: 1}
rules:
  - {name: to cloud, copy to: cloud}
  - {name: free online, release from: online, when: copies(cloud) >= 1}
"""
CLOUD_AND_TAPE = """\
policy: both
priority: 1
copies: {s3: 1, tape: 1}
rules:
  - {name: to cloud, copy to: cloud}
  - {name: to tape, copy to: tape}
  - {name: free online, release from: online, when: copies(s3) >= 1 and copies(tape) >= 1}
"""


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.install(monkeypatch)


def shape_of(tmp_path: Path, *names: str, tier: str = "nearline") -> Shape:
    """A pool `cloud` of one bucket, or of the named ones."""
    for name in names or ("bucket",):
        (tmp_path / name).mkdir(exist_ok=True)
    pool = {"name": "cloud", "driver": "cloud", "tier": tier}
    if not names:
        return Shape(pools=({**pool, "options": {"bucket": str(tmp_path / "bucket")}},))
    volumes = [{"name": name, "options": {"bucket": str(tmp_path / name)}} for name in names]
    return Shape(pools=({**pool, "volumes": volumes},))


def probe(world: World) -> None:
    """What the watch does as time passes."""
    for pool in world.pools.disks.values():
        assert pool.service is not None
        pool.service.probe()
    world.pools.tell(world.catalog)


def availability_of(world: World, study: int) -> Availability:
    with world.catalog.read() as session:
        pks = list(session.scalars(select(Package.pk)))
        (copies,) = placement.copies(session, pks).values()
    return standing(copies, world.reader.reach()).availability


def test_a_pool_of_any_family_takes_copies_and_serves_them(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(policies=CLOUD_AND_TAPE, shape=shape_of(tmp_path))
    world.store(1, 2)
    world.follow()
    assert world.copies(1)["1.p0001", "cloud"] == "verified"
    assert not world.online_file(1, 1).exists()
    world.assert_readable(1)
    assert world.requests(kind="recall") == [], "it is read where it lies"
    world.check()


def test_a_pool_that_is_away_at_the_start_takes_nobody_down_and_comes_back(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    bucket = cloud.switch(tmp_path / "bucket")
    bucket.down = True
    world = make_world(policies=CLOUD, shape=shape_of(tmp_path))
    assert "connection refused" in world.volume("cloud").error
    assert [text for text in world.pools.problems() if "pool cloud is out of service" in text]
    world.store(1, 2)
    world.seal_all()
    world.run_policies()
    for _ in range(12):
        world.later(3600)
        probe(world)
    (copy,) = world.requests(kind="copy")
    assert copy.state == "queued"
    assert copy.attempts == 0, "waiting is not failing"
    bucket.down = False
    probe(world)
    world.settle()
    assert world.copies(1)["1.p0001", "cloud"] == "verified"
    assert world.volume("cloud").error == ""
    verbs = [verb for verb, _ in world.history("cloud")]
    assert verbs == ["added", "active", "in service"]
    world.check()


def test_a_server_that_goes_in_the_middle_of_a_migration_costs_no_attempt(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world(policies=CLOUD, shape=shape_of(tmp_path))
    for study in (1, 2, 3):
        world.store(study, 2)
    world.seal_all()
    bucket = cloud.switch(tmp_path / "bucket")
    bucket.down = True
    world.run_policies()
    for _ in range(30):
        world.later(900)
        probe(world)
    requests = world.requests(kind="copy")
    assert {each.state for each in requests} == {"queued"}
    assert {each.attempts for each in requests} == {0}
    assert all("out of service: " in each.error for each in requests)
    assert world.volume("cloud").place == "unknown"
    bucket.down = False
    probe(world)
    world.settle()
    assert {each.state for each in world.requests(kind="copy")} == {"done"}
    world.follow()
    for study in (1, 2, 3):
        assert world.copies(study) == {
            (f"{study}.p0001", "cloud"): "verified",
            (f"{study}.p0001", "online"): "released",
        }
        world.assert_readable(study)
    verbs = [verb for verb, _ in world.history("cloud")]
    assert verbs[-2:] == ["out of service", "in service"]
    world.check()


def test_a_full_bucket_is_waited_for_and_goes_on_by_itself(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(policies=CLOUD, shape=shape_of(tmp_path))
    world.store(1, 2)
    world.seal_all()
    bucket = cloud.switch(tmp_path / "bucket")
    bucket.full = True
    world.run_policies()
    for _ in range(20):
        world.later(900)
        probe(world)
    (copy,) = world.requests(kind="copy")
    assert (copy.state, copy.attempts) == ("queued", 0)
    bucket.full = False
    probe(world)
    world.later(900)
    assert world.copies(1)["1.p0001", "cloud"] == "verified"


def test_a_retrieve_of_what_is_away_takes_the_tape_and_says_so_in_its_availability(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world(policies=CLOUD_AND_TAPE, shape=shape_of(tmp_path))
    world.store(1, 2)
    world.follow()
    assert availability_of(world, 1) is Availability.NEARLINE
    cloud.switch(tmp_path / "bucket").down = True
    wait = world.retrieve(1)
    wait.look()
    probe(world)
    wait.look()
    world.settle()
    got = wait.look()
    assert (len(got.files), got.lost, got.waiting) == (2, {}, 0)
    wait.close()
    assert world.copies(1)["1.p0001", "cloud"] == "verified", "away is not damaged"
    world.check()


def test_what_lies_only_where_nothing_answers_is_unavailable_and_waited_for(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world(policies=CLOUD, shape=shape_of(tmp_path))
    world.store(1, 2)
    world.follow()
    bucket = cloud.switch(tmp_path / "bucket")
    bucket.down = True
    probe(world)
    assert availability_of(world, 1) is Availability.UNAVAILABLE
    wait = world.retrieve(1)
    for _ in range(4):
        world.later()
        assert wait.look().waiting == 2
    assert wait.got.lost == {}
    bucket.down = False
    probe(world)
    assert availability_of(world, 1) is Availability.NEARLINE
    assert len(wait.look().files) == 2
    wait.close()
    world.check()


def test_a_read_that_fails_across_the_network_condemns_no_copy(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(policies=CLOUD, shape=shape_of(tmp_path))
    world.store(1, 2)
    world.follow()
    cloud.switch(tmp_path / "bucket").failing_reads = 2
    wait = world.retrieve(1)
    for _ in range(4):
        got = wait.look()
        world.clock.advance(6)
    assert (len(got.files), got.lost, got.waiting) == (2, {}, 0)
    wait.close()
    assert world.copies(1)["1.p0001", "cloud"] == "verified"


def test_nothing_is_released_while_the_other_copies_are_away(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(policies=CLOUD.split("  - {name: free")[0], shape=shape_of(tmp_path))
    world.store(1, 2)
    world.follow()
    cloud.switch(tmp_path / "bucket").down = True
    probe(world)
    world.use_policies(CLOUD)
    world.run_policies()
    world.later(3600)
    assert world.online_file(1, 1).exists()
    assert [each.state for each in world.requests(kind="release")] == ["queued"]
    cloud.switch(tmp_path / "bucket").down = False
    probe(world)
    world.settle()
    assert not world.online_file(1, 1).exists()
    world.check()


def test_a_catalog_that_is_lost_while_a_pool_is_opened_is_said_to_be_lost(
    make_world: MakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = cloud.switch(tmp_path / "bucket")
    bucket.down = True
    world = make_world(policies=CLOUD, shape=shape_of(tmp_path))
    bucket.down = False

    def lost() -> None:
        raise OperationalError("SELECT", {}, ConnectionError("connection refused"))

    with monkeypatch.context() as patch:
        patch.setattr(world.catalog, "read", lost)
        service = world.pools.disks["cloud"].service
        assert service is not None
        assert service.probe().reason == "catalog: connection refused"
    assert service.probe().reason == ""


def test_another_storage_under_the_same_address_is_out_of_service(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world(policies=CLOUD, shape=shape_of(tmp_path))
    (tmp_path / "bucket").rename(tmp_path / "away")
    (tmp_path / "bucket").mkdir()
    again = world.rebuild()
    assert "does not carry" in " ".join(again.pools.problems())
    assert list((tmp_path / "bucket").iterdir()) == [], "it is never marked anew"
    again.close()


def test_a_bucket_with_something_in_it_is_not_taken_over(make_world: MakeWorld, tmp_path: Path) -> None:
    shape = shape_of(tmp_path)
    (tmp_path / "bucket" / "payroll").write_text("not ours")
    world = make_world(policies=CLOUD, shape=shape)
    assert "holds 'payroll'" in " ".join(world.pools.problems())


def test_the_layout_of_files_needs_a_folder(make_world: MakeWorld, tmp_path: Path) -> None:
    (pool,) = shape_of(tmp_path).pools
    with pytest.raises(ValidationError, match="layout: files needs a driver"):
        make_world(shape=Shape(pools=({**pool, "layout": "files"},)))


def test_several_volumes_share_the_load_and_a_full_one_is_passed_over(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world(policies=CLOUD, shape=shape_of(tmp_path, "east", "west"))
    cloud.switch(tmp_path / "east").free = 10_000
    probe(world)
    world.store(1, 2)
    world.follow()
    assert world.copies(1)["1.p0001", "west"] == "verified"
    cloud.switch(tmp_path / "east").free = 1 << 40
    probe(world)
    world.store(2, 2)
    world.follow()
    assert world.copies(2)["2.p0001", "east"] == "verified"
    cloud.switch(tmp_path / "east").down = True
    probe(world)
    world.store(3, 2)
    world.follow()
    assert world.copies(3)["3.p0001", "west"] == "verified"
    world.assert_readable(1)
    world.assert_readable(3)
    world.check()


def test_two_copies_in_one_pool_lie_on_two_volumes(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(
        policies=CLOUD.replace("{cloud: 1}", "{cloud: 2}").replace(">= 1", ">= 2"),
        shape=shape_of(tmp_path, "east", "west"),
    )
    world.store(1, 2)
    world.follow()
    assert {volume: state for (_, volume), state in world.copies(1).items() if volume != "online"} == {
        "east": "verified",
        "west": "verified",
    }
    world.check()


def test_a_drained_volume_is_emptied_onto_the_others_and_retired(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world(policies=CLOUD, shape=shape_of(tmp_path, "east", "west"))
    cloud.switch(tmp_path / "west").free = 10_000
    probe(world)
    for study in (1, 2, 3):
        world.store(study, 2)
    world.follow()
    assert {
        volume
        for each in (1, 2, 3)
        for (_, volume), state in world.copies(each).items()
        if state == "verified"
    } == {"east"}
    cloud.switch(tmp_path / "west").free = 1 << 40
    probe(world)
    trash = Trash(world.catalog, world.staging, world.bell, DeletionConfig())
    trash.delete(study_uid(3), "wrong patient", "anna")
    assert drains(world).drain("east", "alice") == {"volume": "east", "left": 3}
    world.store(4, 2)
    world.settle()
    world = world.rebuild()  # it goes on where it was
    for _ in range(4):
        drains(world).round()
        world.settle()
    world.follow()
    trash.undelete(study_uid(3), "it was right", "anna")  # what is in the trash was carried along
    for study in (1, 2, 3, 4):
        assert world.copies(study)[f"{study}.p0001", "west"] == "verified"
        world.assert_readable(study)
    assert world.volume("east").state == "retired"
    assert {path.name for path in (tmp_path / "east").rglob("*") if path.is_file()} == {".hsm-pool"}
    world.check()
    again = world.rebuild()
    assert "east" not in again.pools.disks
    again.close()


def test_a_drain_that_is_given_up_leaves_what_has_moved_where_it_is(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world(policies=CLOUD, shape=shape_of(tmp_path, "east", "west"))
    cloud.switch(tmp_path / "west").free = 10_000
    probe(world)
    for study in (1, 2, 3):
        world.store(study, 2)
    world.follow()
    cloud.switch(tmp_path / "west").free = 1 << 40
    probe(world)
    with pytest.raises(Refused, match="not being drained"):
        drains(world).stop("east", "alice")
    drains(world).drain("east", "alice")
    drains(world).stop("east", "alice")
    world.settle()
    assert not any((f"{each}.p0001", "west") in world.copies(each) for each in (1, 2, 3)), "all withdrawn"
    drains(world).drain("east", "alice")
    world.settle()  # the copies are made
    drains(world).round()  # releases are asked for
    with world.catalog.write() as session:
        (mine,) = (
            fact
            for fact in placement.copy_facts(session, package_pk(session, "2.p0001"))
            if fact.volume_pk == world.pools.disks["east"].volume_pk
        )
        placement.move_copy(session, mine.copy_pk, CopyState.RELEASING, world.clock.now(), "a test")
    assert drains(world).stop("east", "alice") == {"volume": "east", "cancelled": 2}
    world.settle()
    assert world.copies(2)["2.p0001", "east"] == "released", "one that had begun is finished"
    for study in (1, 3):
        assert world.copies(study)[f"{study}.p0001", "east"] == "verified"
    assert all(world.copies(each)[f"{each}.p0001", "west"] == "verified" for each in (1, 2, 3))
    cloud.switch(tmp_path / "west").free = 0
    probe(world)
    world.store(4, 2)
    world.follow()
    assert world.copies(4)["4.p0001", "east"] == "verified", "it takes writes again"
    world.check()


def package_pk(session: Session, key: str) -> int:
    return session.scalars(select(Package.pk).where(Package.key.contains(key))).one()


def test_a_pool_is_not_drained_of_its_only_volume(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(policies=CLOUD, shape=shape_of(tmp_path))
    with pytest.raises(Refused, match="no other volume"):
        drains(world).drain("cloud", "alice")
    with pytest.raises(Refused, match="where received instances go"):
        drains(world).drain("online", "alice")
    with pytest.raises(NotFound):
        drains(world).drain("moon", "alice")


def drains(world: World) -> Drains:
    return Drains(world.catalog, world.pools, world.policies.goals_of, world.bell)


def test_a_trial_says_in_an_admins_words_what_is_wrong(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(policies=CLOUD, shape=shape_of(tmp_path))
    desk = PoolDesk(world.config, world.catalog, world.pools, drains(world))
    (good,) = desk.test("cloud", "")
    assert good["ok"]
    assert [step["step"] for step in good["steps"]] == [
        *("open", "label", "room", "write", "read back", "answer", "delete")
    ]
    assert not list((tmp_path / "bucket").rglob("*.bin")), "the probe is gone"
    bucket = cloud.switch(tmp_path / "bucket")
    bucket.full = True
    assert "it is full" in " ".join(desk.test("cloud", "")[0]["problems"])
    bucket.down = True
    assert "is the server up" in " ".join(desk.test("cloud", "")[0]["problems"])
    with pytest.raises(Refused, match="library"):
        desk.test("tape", "")
    probe(world)
    shown = desk.show("cloud")
    assert (shown["state"], shown["kind"]) == ("out of service", "s3")
    with pytest.raises(NotFound):
        desk.show("moon")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Permanent("AccessDenied: The AWS Access Key Id you provided does not exist"), "wrong credentials"),
        (Permanent("host key SHA256:abc of nas1 is not known"), "host key"),
        (NoSpace("put: 10 bytes, 0 are free"), "full"),
        (Permanent("put: Read-only file system"), "read-only"),
        (OperatorNeeded("/mnt/a does not carry .hsm-pool: probably not mounted"), "not mounted"),
        (Retryable("connect: timed out"), "does not answer"),
        (Permanent("HeadBucket: 403"), "wrong credentials"),
        (OperatorNeeded("/srv/pacs-1403/online is not a folder (No such file or directory)"), "not mounted"),
        (Corrupt("x has other bytes"), "other bytes came back"),
    ],
)
def test_each_kind_of_trouble_has_its_words(error: Exception, words: str) -> None:
    assert words in in_words(error)
    assert str(error) in in_words(error), "and what the driver said"
