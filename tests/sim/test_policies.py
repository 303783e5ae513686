"""What policies may do, and what they cannot."""

from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hsm.catalog import placement, runs
from hsm.catalog.engine import Catalog
from hsm.states import CopyState, VolumeState
from tests.sim.conftest import MakeWorld
from tests.sim.world import NEARLINE, NOTHING, ROAD, World, study_uid

GREED = """\
policy: greed
priority: 1
rules:
  - {name: free online, release from: online, when: copies(tape) >= 0}
  - {name: free nearline, release from: nearline, when: copies(tape) >= 0}
  - {name: free tape, release from: tape, when: copies(tape) >= 0}
"""
"""Releases everything and copies nothing."""


def verified(world: World) -> int:
    return sum(state == "verified" for state in world.copies().values())


def test_a_policy_that_releases_everything_and_copies_nothing_does_no_harm(make_world: MakeWorld) -> None:
    world = make_world(policies=GREED)
    world.store(1, 2)
    world.follow()
    assert world.copies(1) == {("1.p0001", "online"): "verified"}
    assert world.requests(kind="release") == []
    world.use_policies(NEARLINE)
    world.follow()
    world.use_policies(GREED)
    world.follow()
    assert verified(world) == 1, "the first may go, the second is the last"
    world.use_policies(ROAD)
    world.follow()
    world.use_policies(GREED)
    world.follow()
    assert world.on_tape(1) == ["HSM001L8"], "nothing is released on tape"
    world.assert_readable(1)
    world.check()


def test_two_runs_of_a_policy_make_one_request(make_world: MakeWorld) -> None:
    world = make_world(policies=NEARLINE)
    world.store(1, 2)
    world.seal_all()
    made = [world.policies.run(None, dry_run=False, by="test")["runs"][0]["requests"] for _ in range(3)]
    assert made == [1, 0, 0]
    assert len(world.requests(kind="copy")) == 1


def test_a_reload_in_the_middle_of_a_listing_does_not_mix_two_sets(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(policies=ROAD)
    names = [policy.name for policy in world.policies.set.policies]
    real = runs.last

    def reload_and_look(session: Session, policy: str) -> datetime | None:
        world.use_policies(ROAD.replace("policy: ", "policy: another-"))
        return real(session, policy)

    monkeypatch.setattr(runs, "last", reload_and_look)
    assert [each["policy"] for each in world.policies.listing()] == names
    assert [each["policy"] for each in world.policies.listing()] == [f"another-{name}" for name in names]


def test_a_dry_run_changes_nothing(make_world: MakeWorld) -> None:
    world = make_world(policies=NEARLINE)
    world.store(1, 2)
    world.seal_all()
    with world.catalog.read() as session:
        before = session.execute(text("SELECT seq FROM journal_head")).scalar_one()
    report = world.policies.run(None, dry_run=True, by="test")
    assert report["runs"][0]["to_do"] == 1
    with world.catalog.read() as session:
        assert session.execute(text("SELECT seq FROM journal_head")).scalar_one() == before
        assert session.execute(text("SELECT count(*) FROM run")).scalar_one() == 0
    assert world.requests(kind="copy") == []


def ready_to_release(make_world: MakeWorld) -> World:
    """A study with good copies online and nearline, and a release of the first queued, not done."""
    world = make_world(policies=NEARLINE)
    world.store(1, 2)
    world.follow()
    world.use_policies(GREED)
    world.policies.run(None, dry_run=False, by="test")
    assert [request.state for request in world.requests(kind="release")] == ["queued"] * 2
    return world


def copy_pk(world: World, pool: str) -> int:
    with world.catalog.read() as session:
        (package,) = placement.packages_of_studies(session, [1])
        return next(c.copy_pk for c in placement.copies(session, [package.pk])[package.pk] if c.pool == pool)


def test_of_two_releases_of_the_last_two_copies_one_is_refused_and_says_why(make_world: MakeWorld) -> None:
    world = ready_to_release(make_world)
    world.settle()
    assert sorted(request.state for request in world.requests(kind="release")) == ["done", "failed"]
    (refused,) = world.requests(kind="release", state="failed")
    assert "no verified copy on another good volume would remain" in refused.error
    (told,) = world.policies.explain(study_uid(1))["failed"]
    assert told["error"] == refused.error, "explain says what the guard refused"
    assert verified(world) == 1
    world.assert_readable(1)
    world.check()


def test_a_release_is_refused_when_the_other_copy_became_suspect_meanwhile(make_world: MakeWorld) -> None:
    world = ready_to_release(make_world)
    world.migrate.proofs.judge(copy_pk(world, "nearline"), CopyState.SUSPECT, "a flipped byte")
    world.settle()
    assert world.copies(1)["1.p0001", "online"] == "verified"
    assert world.online_file(1, 1).exists()
    refusals = {request.key.rpartition(":")[2]: request for request in world.requests(kind="release")}
    assert refusals["online"].state == "failed"
    world.assert_readable(1)
    world.check()


def test_a_release_that_was_refused_is_not_asked_for_at_every_run(make_world: MakeWorld) -> None:
    world = ready_to_release(make_world)
    world.settle()
    for _ in range(4):
        world.run_policies()
    assert len(world.requests(kind="release")) == 2


def test_a_release_that_an_older_policy_asked_for_is_refused_by_a_stricter_one(make_world: MakeWorld) -> None:
    world = ready_to_release(make_world)
    world.use_policies(NEARLINE.replace("{nearline: 1}", "{nearline: 1, tape: 1}"))
    world.settle()
    for request in world.requests(kind="release"):
        assert request.state == "failed"
        assert "policy demands 1 verified in" in request.error
    assert world.copies(1) == {("1.p0001", "online"): "verified", ("1.p0001", "nearline"): "verified"}
    assert world.online_file(1, 1).exists()
    world.check()


def test_a_suspect_copy_is_made_anew_in_its_place_also_while_another_pool_lacks_its_copies(
    make_world: MakeWorld,
) -> None:
    world = make_world(policies=NEARLINE.replace("{nearline: 1}", "{nearline: 1, tape: 1}"))
    world.store(1, 2)
    world.follow()
    file = world.home / "nearline" / world.tar_of(1)
    whole = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(whole[:-1000] + bytes([whole[-1000] ^ 1]) + whole[-999:])
    world.migrate.proofs.judge(copy_pk(world, "nearline"), CopyState.SUSPECT, "a flipped byte")
    world.later(4000)
    world.run_policies()
    assert world.on_tape(1) == []
    assert world.copies(1)["1.p0001", "nearline"] == "verified"
    assert file.read_bytes() == whole
    world.check()


@pytest.mark.parametrize("damage", [b"X", b""], ids=["damaged", "empty"])
def test_a_damaged_manifest_does_not_keep_the_online_copy_from_being_released(
    make_world: MakeWorld, damage: bytes
) -> None:
    world = make_world(policies=NEARLINE)
    world.store(1, 2)
    world.follow()
    (manifest,) = (world.home / "online").rglob("*.manifest.json")
    manifest.write_bytes(damage + manifest.read_bytes()[1:] if damage else b"")
    world.use_policies(
        NEARLINE.replace(
            "rules: [", "rules: [{name: free, release from: online, when: copies(nearline) > 0}, "
        )
    )
    world.follow()
    assert [request.state for request in world.requests(kind="release")] == ["done"]
    assert world.copies(1)["1.p0001", "online"] == "released"
    assert [path for path in (world.home / "online" / "studies").rglob("*") if path.is_file()] == []
    world.assert_readable(1)
    world.check()


def test_a_release_that_was_agreed_is_finished_though_its_request_had_failed(make_world: MakeWorld) -> None:
    world = make_world(policies=NEARLINE)
    world.store(1, 2)
    world.follow()
    with world.catalog.write() as session:
        assert placement.release(session, copy_pk(world, "online"), (), world.now(), "test").allowed
    assert world.copies(1)["1.p0001", "online"] == "releasing"
    world.assert_readable(1)
    world.use_policies(GREED)
    world.run_policies()
    assert world.copies(1)["1.p0001", "online"] == "released"
    assert not world.online_file(1, 1).exists()
    world.check()


def test_a_copy_comes_back_to_a_pool_whose_release_was_agreed_but_not_done(make_world: MakeWorld) -> None:
    world = make_world(policies=ROAD.replace("when: copies(nearline) >= 1", "when: copies(nearline) >= 0"))
    world.store(1, 2)
    world.seal_all()
    world.use_policies(NEARLINE)
    world.run_policies()
    with world.catalog.write() as session:
        assert placement.release(session, copy_pk(world, "nearline"), (), world.now(), "test").allowed
    world.run_policies()
    world.later()
    assert world.copies(1)["1.p0001", "nearline"] == "verified"
    world.check()


@pytest.mark.parametrize("state", ["releasing", "released"])
def test_the_last_copy_cannot_be_released_by_sql(make_world: MakeWorld, catalog: Catalog, state: str) -> None:
    world = make_world(policies=NOTHING)
    url = catalog.engine.url.render_as_string(hide_password=False)
    world = World(world.home.with_name(f"home-{state}"), url, policies=NOTHING)
    world.store(1, 2)
    world.seal_all()
    with pytest.raises(IntegrityError):
        with world.catalog.write() as session:
            session.execute(text(f"UPDATE copy SET state = '{state}'"))
    with pytest.raises(IntegrityError):
        with world.catalog.write() as session:
            session.execute(text("DELETE FROM copy"))
    assert verified(world) == 1
    world.assert_readable(1)
    world.close()


def test_the_last_copy_is_not_released_through_any_verb(make_world: MakeWorld) -> None:
    world = make_world(policies=NOTHING)
    world.store(1, 2)
    world.seal_all()
    with world.catalog.write() as session:
        assert not placement.release(session, copy_pk(world, "online"), (), world.now(), "test").allowed
    with pytest.raises(ValueError, match="not a transition"):
        with world.catalog.write() as session:
            placement.move_copy(session, copy_pk(world, "online"), CopyState.RELEASED, world.now(), "test")
    assert world.online_file(1, 1).exists()


def test_a_verified_copy_on_a_suspect_volume_does_not_let_the_online_copy_go(make_world: MakeWorld) -> None:
    world = make_world(
        policies=ROAD.replace("release from: online, when: copies(tape) >= 1", "copy to: tape")
    )
    world.store(1, 2)
    world.follow()
    world.use_policies(GREED)
    with world.catalog.write() as session:
        from hsm.catalog import media

        for name in ("HSM001L8",):
            pk = media.volume(session, name).pk
            media.move_volume(session, pk, VolumeState.SUSPECT, world.now(), "test", "scratched")
    world.follow()
    good = [
        volume
        for (_, volume), state in world.copies(1).items()
        if state == "verified" and volume != "HSM001L8"
    ]
    assert len(good) >= 1
    world.assert_readable(1)


def test_the_road_runs_the_same_on_both_databases(catalog: Catalog, make_world: MakeWorld) -> None:
    url = catalog.engine.url.render_as_string(hide_password=False)
    home = make_world().home.with_name("both")
    world = World(home, url)
    for study in (1, 2):
        world.store(study, 2)
    world.store(1, 1, first=3)
    world.follow()
    for study in (1, 2):
        assert world.on_tape(study) == ["HSM001L8"]
        world.custody.export("HSM001L8", "B3", "alice") if study == 1 else None
    wait = world.retrieve(1)
    world.settle()
    assert world.prompts() == ["HSM001L8"]
    world.custody.operator_done("HSM001L8", "alice")
    world.settle()
    wait.close()
    for study in (1, 2):
        world.assert_readable(study)
    world.check()
    world.close()
