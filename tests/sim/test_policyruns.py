"""Runs of policies: cut short anywhere, by two at once, suspended, in windows; and what they ask for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from hsm.catalog import activations, media, placement, queue, rulework, runs, selecting
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Study
from hsm.errors import ConfigError, NotFound, Refused
from hsm.policyrun import Policies, execute
from hsm.policyrun.frozen import frozen
from hsm.states import CopyState, RequestState, RunState, VolumeState
from tests.sim.conftest import MakeWorld
from tests.sim.taps import Crash
from tests.sim.test_crashes import MakeScene, attack
from tests.sim.test_crashes import make_scene as make_scene
from tests.sim.world import NEARLINE, NOTHING, World, study_uid

STUDIES = 7
RELEASE = """\
policy: near
priority: 1
copies: {nearline: 1}
rules:
  - {name: to nearline, copy to: nearline}
  - {name: free online, release from: online, when: copies(nearline) >= 1}
"""


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few studies are many pages."""
    monkeypatch.setattr(selecting, "PAGE", 2)
    monkeypatch.setattr(selecting.pages, "__defaults__", ((), None, 2))


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], dict[str, Any]]) -> list[dict[str, Any]]:
    """Do something, once, while a run is between its first page and its second; what came of it, once it
    was done."""
    found: list[dict[str, Any]] = []
    real_pages = execute.select.pages
    done = False

    def pages(*given: Any) -> Any:
        nonlocal done
        for number, page in enumerate(real_pages(*given)):
            if number == 1 and not done:
                done = True
                found.append(act())
            yield page

    monkeypatch.setattr(execute.select, "pages", pages)
    return found


def stored(world: World, studies: int = STUDIES) -> None:
    for study in range(1, studies + 1):
        world.store(study, 1, size=2000)
    world.seal_all()


def another_node(world: World) -> Policies:
    """A second node on the same catalog."""
    return Policies(
        world.catalog, world.pools, world.bell, world.home / "policies", world.policies.set, worker="node 2"
    )


def requests(report: dict[str, Any]) -> int:
    return sum(run["requests"] for run in report["runs"])


@pytest.mark.campaign
@pytest.mark.usefixtures("small_pages")
def test_a_crash_at_any_point_of_a_run_of_many_pages_asks_for_each_study_once(make_scene: MakeScene) -> None:
    scene = make_scene(NEARLINE, stored)

    def run(world: World) -> None:
        world.policies.run(None, dry_run=False, by="test")

    def arrived(world: World) -> None:
        world.later()
        copies = world.requests(kind="copy")
        assert len({request.key for request in copies}) == STUDIES
        assert len(copies) == STUDIES, "a copy was asked for twice"
        with world.catalog.read() as session:
            assert runs.unfinished(session) == []
        for study in range(1, STUDIES + 1):
            assert world.copies(study)[f"{study}.p0001", "nearline"] == "verified"

    assert attack(scene, run, arrived) >= 8


@pytest.mark.campaign
@pytest.mark.usefixtures("small_pages")
def test_a_crash_at_any_point_of_releases_and_copies_never_takes_the_last_copy(make_scene: MakeScene) -> None:
    def prepare(world: World) -> None:
        stored(world, 3)
        world.run_policies()

    scene = make_scene(RELEASE, prepare)

    def arrived(world: World) -> None:
        for study in (1, 2, 3):
            key = f"{study}.p0001"
            assert world.copies(study) == {(key, "online"): "released", (key, "nearline"): "verified"}
            world.assert_readable(study)

    assert attack(scene, lambda world: world.run_policies() and None, arrived, every=3) > 10


@pytest.mark.usefixtures("small_pages")
def test_a_run_that_was_cut_short_goes_on_behind_its_last_page_within_its_limits(
    make_world: MakeWorld,
) -> None:
    world = make_world(policies=NEARLINE + "limits: {studies per run: 5}\n")
    stored(world)
    world.fuse.count, world.fuse.blows_at = 0, 4  # after the second page's commit
    with pytest.raises(Crash):
        world.policies.run(None, dry_run=False, by="test")
    again = world.rebuild()
    with again.catalog.read() as session:
        (left,) = runs.unfinished(session)
        assert left.position["progress"]["studies"] == 4
        asked = {request.study_pk for request in again.requests(kind="copy")}
    report = again.policies.run(None, dry_run=False, by="test")
    assert requests(report) == 1, "five in all: the limit is of the run, not of the process"
    assert len(again.requests(kind="copy")) == 5
    assert len({request.study_pk for request in again.requests(kind="copy")} - asked) == 1
    with again.catalog.read() as session:
        assert runs.get(session, left.pk).state is RunState.FINISHED
        assert runs.get(session, left.pk).requested == 5
    assert requests(again.policies.run(None, dry_run=False, by="test")) == 2
    again.close()


@pytest.mark.usefixtures("small_pages")
def test_a_policy_that_changed_while_its_run_was_cut_short_begins_anew(make_world: MakeWorld) -> None:
    world = make_world(policies=NEARLINE)
    stored(world)
    world.fuse.count, world.fuse.blows_at = 0, 4
    with pytest.raises(Crash):
        world.policies.run(None, dry_run=False, by="test")
    again = world.rebuild(
        policies=NEARLINE.replace("rules: [", "rules: [{name: no, copy to: tape, when: never}, ")
    )
    assert requests(again.policies.run(None, dry_run=False, by="test")) == STUDIES - 4
    with again.catalog.read() as session:
        states = session.execute(text("SELECT state FROM run ORDER BY pk")).scalars().all()
    assert states == ["abandoned", "finished"]
    again.close()


@pytest.mark.usefixtures("small_pages")
def test_two_nodes_that_run_one_policy_at_once_ask_for_each_study_once(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(policies=NEARLINE)
    stored(world)
    other = another_node(world)
    found = meanwhile(monkeypatch, lambda: other.run(None, dry_run=False, by="test"))
    mine = world.policies.run(None, dry_run=False, by="test")
    assert found[0]["runs"][0]["state"] == "busy", "the run that is under way is left to its worker"
    assert requests(mine) == STUDIES
    assert len(world.requests(kind="copy")) == STUDIES


@pytest.mark.usefixtures("small_pages")
def test_a_node_that_lost_its_run_to_another_stops_and_asks_for_nothing_more(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(policies=NEARLINE)
    stored(world)
    other = another_node(world)

    def hang() -> dict[str, Any]:
        world.clock.advance(execute.LOST_AFTER.total_seconds() + 1)
        return other.run(None, dry_run=False, by="test")

    found = meanwhile(monkeypatch, hang)
    mine = world.policies.run(None, dry_run=False, by="test")
    assert mine["runs"][0]["state"] == "busy"
    assert requests(mine) + requests(found[0]) == STUDIES
    assert len(world.requests(kind="copy")) == STUDIES, "nothing twice"


def test_a_copy_that_was_made_while_a_run_looked_is_not_asked_for_again(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(policies=NEARLINE)
    stored(world, 2)

    real_pages = execute.select.pages
    done: list[int] = []

    def pages(*given: Any) -> Any:
        for page in real_pages(*given):
            if not done:  # the page is read, and now another node does the same work to its end
                done.append(1)
                another_node(world).run(None, dry_run=False, by="test")
                world.settle()
            yield page

    monkeypatch.setattr(execute.select, "pages", pages)
    world.policies.run(None, dry_run=False, by="test")
    world.settle()
    assert len(world.requests(kind="copy")) == 2


def test_a_dry_run_and_a_plan_cannot_write(make_world: MakeWorld, catalog: Catalog) -> None:
    with pytest.raises(DBAPIError):
        with frozen(catalog) as session:
            session.execute(text("UPDATE journal_head SET seq = 99"))
    with catalog.write() as session:  # the connection it had is as it was
        session.execute(text("UPDATE journal_head SET seq = seq"))


def failing(world: World, count: int) -> None:
    """That many requests of the policy have failed."""
    with world.catalog.write() as session:
        for request in world.requests(kind="copy", state="queued")[:count]:
            queue.take(session, request.pk, "test", world.now())
            queue.fail(session, request.pk, world.now(), "test", "the drive is dirty")


SUSPENDING = NEARLINE + "limits: {suspend after errors: 2}\n"


def test_a_policy_whose_requests_fail_is_suspended_says_so_and_goes_on_when_resumed(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(policies=SUSPENDING)
    stored(world)
    world.policies.run(None, dry_run=False, by="test")
    failing(world, 1)
    world.policies.watch()
    assert world.policies.listing()[0]["state"] == "in force", "one failure is none too many"
    failing(world, 3)
    world.policies.watch()
    (listed,) = world.policies.listing()
    assert listed["state"] == "suspended"
    assert "hsm policy resume near" in listed["message"]
    assert any("near" in problem and "suspended" in problem for problem in world.policies.problems())
    assert any("suspended after" in record.getMessage() for record in caplog.records)
    states = {request.state for request in world.requests(kind="copy")}
    assert states == {"failed", "cancelled"}, "what nobody has begun is withdrawn"
    world.clock.advance(7200)
    report = world.policies.run(None, dry_run=False, by="test")
    assert (report["runs"][0]["state"], requests(report)) == ("suspended", 0)
    again = world.rebuild()
    assert again.policies.listing()[0]["state"] == "suspended", "also after a restart"
    with pytest.raises(NotFound):
        again.policies.resume("nobody", "alice")
    again.policies.resume("near", "alice")
    with pytest.raises(Refused):
        again.policies.resume("near", "alice")
    assert again.policies.listing()[0]["state"] == "in force"
    assert requests(again.policies.run(None, dry_run=False, by="test")) == STUDIES
    again.policies.watch()
    assert again.policies.listing()[0]["state"] == "in force", "failures from before do not count"
    again.close()


NIGHTLY = (
    NEARLINE
    + """\
schedule: {every: 60 seconds, between: 20:00 and 06:00, time zone: Europe/Berlin}
"""
)


def test_what_a_policy_asked_for_at_night_is_not_begun_by_day(make_world: MakeWorld) -> None:
    world = make_world(policies=NIGHTLY)  # the clock begins on 2026-01-01 00:00 UTC: 01:00 in Berlin
    stored(world, 3)
    report = world.policies.run(None, dry_run=False, by="schedule")
    assert requests(report) == 3
    world.clock.advance(6 * 3600)  # 07:00 in Berlin
    world.policies.watch()
    assert "opens 2026-01-01 20:00 (Europe/Berlin)" in world.policies.listing()[0]["message"]
    world.settle()
    assert {request.state for request in world.requests(kind="copy")} == {"queued"}
    world.clock.advance(13 * 3600)
    world.policies.watch()
    world.settle()
    assert {request.state for request in world.requests(kind="copy")} == {"done"}


@pytest.mark.usefixtures("small_pages")
def test_a_run_whose_window_closes_waits_and_goes_on_in_the_next(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(policies=NIGHTLY)
    stored(world)

    real_pages = execute.select.pages

    def pages(*given: Any) -> Any:
        for number, page in enumerate(real_pages(*given)):
            if number == 1:
                world.clock.advance(6 * 3600)
            yield page

    with monkeypatch.context() as patch:
        patch.setattr(execute.select, "pages", pages)
        report = world.policies.run(None, dry_run=False, by="schedule")
    assert report["runs"][0]["state"] == "waiting"
    assert requests(report) == 4
    world.clock.advance(13 * 3600)
    assert requests(world.policies.run(None, dry_run=False, by="schedule")) == STUDIES - 4
    with world.catalog.read() as session:
        assert len(session.execute(text("SELECT pk FROM run")).all()) == 1, "one run"


MOVE = """\
policy: move
priority: 1
copies: {nearline: 1}
rules:
  - {name: down, move to: nearline, from: online, when: always}
"""


def test_a_move_copies_first_and_releases_when_the_copy_is_verified(make_world: MakeWorld) -> None:
    world = make_world(policies=MOVE)
    stored(world, 1)
    world.policies.run(None, dry_run=False, by="test")
    assert [request.kind for request in world.requests()] == ["seal", "copy"]
    again = world.policies.run(None, dry_run=False, by="test")
    assert requests(again) == 0, "nothing is released before the copy is there"
    world.settle()
    world.run_policies()
    assert world.copies(1) == {("1.p0001", "online"): "released", ("1.p0001", "nearline"): "verified"}
    assert requests(world.run_policies()) == 0
    world.assert_readable(1)


def test_a_move_does_not_release_while_its_copy_is_suspect(make_world: MakeWorld) -> None:
    world = make_world(policies=MOVE)
    stored(world, 1)
    world.run_policies()
    with world.catalog.read() as session:
        (package,) = placement.packages_of_studies(session, [1])
        copy = next(c for c in placement.copies(session, [package.pk])[package.pk] if c.pool == "nearline")
    world.migrate.proofs.judge(copy.copy_pk, CopyState.SUSPECT, "a flipped byte")
    report = world.policies.run(None, dry_run=False, by="test")
    assert [(each["action"], each["pool"]) for each in report["runs"][0]["decisions"]] == [
        ("copy", "nearline")
    ]
    world.settle()
    world.run_policies()
    assert world.copies(1) == {("1.p0001", "online"): "released", ("1.p0001", "nearline"): "verified"}
    world.assert_readable(1)


def test_verifications_are_asked_for_copies_that_were_not_read_for_long(make_world: MakeWorld) -> None:
    world = make_world(policies=NEARLINE)
    stored(world, 1)
    world.run_policies()
    world.use_policies(
        "policy: scrub\npriority: 1\n"
        "rules: [{name: read, verify: nearline, when: verified(nearline) > 30d}]\n"
    )
    assert requests(world.run_policies()) == 0
    world.clock.advance(31 * 86400)
    assert requests(world.run_policies()) == 1
    assert [request.state for request in world.requests(kind="verify")] == ["done"]
    assert requests(world.run_policies()) == 0


PREFETCH = """\
policy: priors
priority: 1
rules:
  - name: fetch
    recall to: staging
    when: received < 1 day
    priors: {same: [patient], at most: 1}
"""


def test_the_newest_prior_of_a_study_that_has_just_arrived_is_recalled_once(make_world: MakeWorld) -> None:
    from dataclasses import replace

    from tests.sim.world import ROAD, dataset, header

    world = make_world(policies=ROAD)
    dates = {1: "20200101", 2: "20230101", 3: "20220101"}
    for study, date in dates.items():
        head = replace(header(study, 1), patient_id="P", study_date=date)
        world.store_one(head, dataset(2000, study))
    world.follow()
    assert all(world.on_tape(study) for study in dates)
    world.clock.advance(90 * 86400)
    world.store_one(replace(header(4, 1), patient_id="P", study_date="20260101"), dataset(2000, 4))
    world.store_one(replace(header(5, 1), patient_id="Q", study_date="20260101"), dataset(2000, 5))
    world.seal_all()
    world.use_policies(PREFETCH)
    for _ in range(3):
        world.run_policies()
    (recalled,) = world.requests(kind="recall")
    with world.catalog.read() as session:
        uid = session.execute(select(Study.uid).where(Study.pk == recalled.study_pk)).scalar_one()
    assert uid == study_uid(2)
    assert recalled.state == "done"


EXPORT = """\
policy: out
priority: 1
rules:
  - {name: shelf, export from: tape, when: idle > 10d}
"""


def test_a_full_volume_goes_to_the_shelf_when_all_on_it_may_go(make_world: MakeWorld) -> None:
    from tests.sim.world import ROAD

    world = make_world(policies=ROAD)
    stored(world, 2)
    world.follow()
    assert world.on_tape(1) == world.on_tape(2) == ["HSM001L8"]
    world.use_policies(EXPORT)
    world.clock.advance(11 * 86400)
    assert requests(world.run_policies()) == 0, "it still takes more"
    with world.catalog.write() as session:
        pk = media.volume(session, "HSM001L8").pk
        media.move_volume(session, pk, VolumeState.FULL, world.now(), "test", "")
        session.execute(
            text("UPDATE study SET last_accessed = :at WHERE uid = :uid"),
            {"at": world.now().replace(tzinfo=None), "uid": study_uid(2)},
        )
    assert requests(world.run_policies()) == 0, "study 2 was just read"
    world.clock.advance(11 * 86400)
    assert requests(world.run_policies()) == 1
    assert world.volume("HSM001L8").place == "shelf"
    assert [request.state for request in world.requests(kind="export")] == ["done"]
    assert requests(world.run_policies()) == 0


def test_goals_of_a_tier_and_of_sites_keep_a_copy_through_the_guard(make_world: MakeWorld) -> None:
    world = make_world(policies=RELEASE)
    stored(world, 1)
    world.run_policies()
    world.policies.run(None, dry_run=False, by="test")
    assert [request.state for request in world.requests(kind="release")] == ["queued"]
    world.use_policies(
        "policy: near\npriority: 1\ncopies: {disk: 2}\nrules: [{name: n, copy to: nearline, when: never}]\n"
    )
    world.settle()
    (release,) = world.requests(kind="release")
    assert release.state == "failed"
    assert "policy demands 2 verified in disk" in release.error
    assert world.online_file(1, 1).exists()


def test_a_version_comes_into_force_whole_and_goes_back(make_world: MakeWorld) -> None:
    world = make_world(policies=NOTHING)
    folder = world.home / "policies"
    folder.mkdir(exist_ok=True)
    (folder / "a.yaml").write_text(NEARLINE)
    first = world.policies.activate("alice", "begin")
    assert (first["activation"], first["changed"], world.policies.activation) == (1, True, 1)
    assert world.policies.activate("alice", "again")["changed"] is False
    (folder / "a.yaml").write_text(MOVE)
    assert "not active" in world.policies.problems()[0]
    assert [policy.name for policy in world.policies.set.policies] == ["near"]
    (folder / "b.yaml").write_text("policy: [\n")
    with pytest.raises(ConfigError):
        world.policies.activate("alice", "broken")
    assert world.policies.activation == 1
    (folder / "b.yaml").unlink()
    assert world.policies.activate("bob", "move now")["activation"] == 2
    assert world.policies.problems() == []
    assert world.policies.activate("carol", "too early", version=1)["activation"] == 3
    assert [policy.name for policy in world.policies.set.policies] == ["near"]
    with pytest.raises(NotFound):
        world.policies.activate("carol", version=9)
    history = world.policies.history()
    assert [(each["activation"], each["by"], each["restores"]) for each in history] == [
        (3, "carol", 1),
        (2, "bob", None),
        (1, "alice", None),
    ]
    assert history[0]["texts"] == {"a.yaml": NEARLINE}
    other = another_node(world)
    other.follow()
    assert other.activation == 3, "another node takes it over"


def test_an_activation_gives_up_the_runs_of_policies_that_are_gone(make_world: MakeWorld) -> None:
    world = make_world(policies=SUSPENDING)
    stored(world, 3)
    world.policies.run(None, dry_run=False, by="test")
    failing(world, 3)
    world.policies.watch()
    folder = world.home / "policies"
    folder.mkdir(exist_ok=True)
    (folder / "a.yaml").write_text(MOVE)
    world.policies.activate("alice", "another")
    with world.catalog.read() as session:
        assert runs.unfinished(session) == []
    assert world.policies.problems() == []


def test_a_plan_counts_what_the_runs_then_ask_for(make_world: MakeWorld) -> None:
    policy = "policy: t\npriority: 1\ncopies: {tape: 2}\nrules: [{name: t, copy to: tape}]\n"
    world = make_world(policies=policy)
    stored(world, 3)
    with world.catalog.read() as session:
        before = session.execute(text("SELECT seq FROM journal_head")).scalar_one()
    plan = world.policies.plan(24)
    with world.catalog.read() as session:
        assert session.execute(text("SELECT seq FROM journal_head")).scalar_one() == before
    (rule,) = plan["policies"][0]["rules"]
    assert (rule["studies"], rule["refused"]) == (3, 0)
    (tape,) = plan["tapes"]
    assert (tape["cartridges"], tape["scratch_left"], tape["mounts"]) == (2, 2, 2)
    assert tape["missing"] == 0
    assert sum(tape["volumes"].values()) == rule["bytes"] == tape["bytes"]
    world.run_policies()
    assert len(world.requests(kind="copy")) == 6
    assert world.policies.plan(24)["policies"][0]["rules"][0]["studies"] == 0


def test_a_plan_says_which_cartridges_are_missing_and_which_studies_are_late(make_world: MakeWorld) -> None:
    policy = "policy: t\npriority: 1\ncopies: {tape: 6 within 24h}\nrules: [{name: t, copy to: tape}]\n"
    world = make_world(policies=policy)
    stored(world, 2)
    plan = world.policies.plan(24)
    assert any("2 blank cartridges are missing in library" in warning for warning in plan["warnings"])
    assert plan["policies"][0]["late"][0]["studies"] == 0
    world.clock.advance(25 * 3600)
    plan = world.policies.plan(24)
    assert plan["policies"][0]["late"][0]["studies"] == 2
    assert any("2 studies are late" in warning for warning in plan["warnings"])
    assert world.policies.listing()[0]["late"][0]["studies"] == 2
    assert any("2 studies lack 6 verified copies in tape" in each for each in world.policies.problems())


def test_a_diff_says_for_which_studies_something_changes(make_world: MakeWorld) -> None:
    world = make_world(policies=NEARLINE)
    stored(world, 3)
    new = NEARLINE.replace("copy to: nearline}", "copy to: nearline, when: size > 1 GB}") + (
        "---\npolicy: rest\npriority: 2\nrules: [{name: t, copy to: tape}]\n"
    )
    found = world.policies.diff(None, {"a.yaml": new})
    assert [(each["policy"], each["change"]) for each in found["policies"]] == [
        ("near", "changed"),
        ("rest", "added"),
    ]
    assert any("size > 1 GB" in line for line in found["policies"][0]["lines"])
    (deed,) = found["studies"]
    assert (deed["action"], deed["pool"]) == ("copy", "nearline")
    assert [deed[side]["studies"] for side in ("only_old", "only_new", "both")] == [3, 0, 0]
    assert found["owners"] == []
    moved = NEARLINE.replace("policy: near", "policy: far")
    owners = world.policies.diff(None, {"a.yaml": moved})["owners"]
    assert [(each["from"], each["to"], each["studies"]) for each in owners] == [("near", "far", 3)]
    same = world.policies.diff(None, {"a.yaml": NEARLINE})
    assert [each["change"] for each in same["policies"]] == ["same"]
    assert same["studies"][0]["both"]["studies"] == 3


def test_a_diff_counts_no_release_from_tape_since_a_run_would_refuse_it(make_world: MakeWorld) -> None:
    tape = "policy: t\npriority: 1\ncopies: {nearline: 1}\nrules:\n- {name: n, copy to: nearline}\n"
    world = make_world(policies=f"{tape}- {{name: t, copy to: tape}}\n")
    stored(world, 2)
    world.follow()
    assert world.on_tape(1) and world.copies(1)["1.p0001", "nearline"] == "verified"
    world.use_policies(f"{tape}- {{name: free, release from: tape, when: copies(tape) > 0}}\n")
    (run,) = world.policies.run(None, dry_run=True, by="test")["runs"]
    assert run["refused"] == 2
    assert world.policies.diff(None, {"a.yaml": tape})["studies"] == []


def test_a_limit_of_drives_keeps_the_other_drive_free(make_world: MakeWorld) -> None:
    from hsm import sight

    policy = (
        "policy: t\npriority: 1\ncopies: {tape: 2}\nrules: [{name: t, copy to: tape}]\nlimits: {drives: 1}\n"
    )
    world = make_world(policies=policy)
    stored(world, 2)
    world.policies.run(None, dry_run=False, by="test")
    with world.catalog.read() as session:
        picture = sight.look(session, world.pools, world.staging, world.reader, world.now())
    assert set(picture.limits.values()) == {("t", 1)}
    assert sight.within_drives(picture, {"t": 1}) == []
    assert len(sight.within_drives(picture, {"other": 1})) == len(picture.work) > 0
    world.later()
    world.later()
    assert world.on_tape(1) == ["HSM001L8", "HSM002L8"]


def test_a_limit_of_bandwidth_makes_transfers_take_their_time(make_world: MakeWorld) -> None:
    world = make_world(policies=NEARLINE + "limits: {bandwidth: 1 kB/s}\n")
    world.store(1, 1, size=5000)
    world.seal_all()
    began = world.now()
    world.run_policies()
    assert world.copies(1)["1.p0001", "nearline"] == "verified"
    assert world.now() - began > timedelta(seconds=4), "a second's worth passes at once"


def test_refused_releases_are_shown_by_a_person_s_run_and_passed_over_by_the_schedule(
    make_world: MakeWorld,
) -> None:
    greedy = "policy: g\npriority: 1\nrules: [{name: free, release from: online, when: idle >= 0 s}]\n"
    world = make_world(policies=greedy)
    stored(world, 2)
    for by in ("alice", "schedule"):
        (report,) = world.policies.run(None, dry_run=False, by=by)["runs"]
        assert (report["refused"], report["requests"]) == (2, 0)
        assert "last copy" in report["decisions"][0]["reason"]
    assert len(world.requests(kind="release")) == 0


def test_failed_requests_are_counted_by_policy(make_world: MakeWorld) -> None:
    world = make_world(policies=NEARLINE)
    stored(world, 3)
    world.policies.run(None, dry_run=False, by="test")
    failing(world, 2)
    with world.catalog.read() as session:
        since = world.now() - timedelta(days=1)
        assert rulework.failed_since(session, "near", since, 10) == 2
        assert rulework.failed_since(session, "near", since, 1) == 1
        assert rulework.failed_since(session, "other", since, 10) == 0
        assert len(rulework.untaken_of(session, "near")) == 1
    assert {request.state for request in world.requests(kind="copy")} == {RequestState.FAILED, "queued"}


def test_studies_of_a_month_share_a_cartridge_and_other_months_have_another(make_world: MakeWorld) -> None:
    from dataclasses import replace

    from tests.sim.world import dataset, header

    policy = "policy: t\npriority: 1\nrules: [{name: t, copy to: tape}]\ncolocate: [month]\n"
    world = make_world(policies=policy)
    dates = {1: "20260105", 2: "20260210", 3: "20260111", 4: "20260228"}
    for some in ((1, 2), (3, 4)):
        for study in some:
            head = replace(header(study, 1), study_date=dates[study])
            world.store_one(head, dataset(2000, study))
        world.seal_all()
        world.run_policies()
        world.later()
    assert world.on_tape(1) == world.on_tape(3)
    assert world.on_tape(2) == world.on_tape(4)
    assert world.on_tape(1) != world.on_tape(2)


def test_studies_of_a_patient_lie_on_the_cartridge_that_has_the_patient_already(
    make_world: MakeWorld,
) -> None:
    from dataclasses import replace

    from tests.sim.world import dataset, header

    policy = "policy: t\npriority: 1\nrules: [{name: t, copy to: tape}]\ncolocate: [patient, modality]\n"
    world = make_world(policies=policy)
    for study, patient, modality in ((1, "P", "CT"), (2, "Q", "MR")):
        head = replace(header(study, 1), patient_id=patient, modality=modality)
        world.store_one(head, dataset(2000, study))
    world.seal_all()
    world.run_policies()
    world.later()
    assert world.on_tape(1) != world.on_tape(2), "modalities are kept apart"
    for study, patient, modality in ((3, "Q", "CT"), (4, "R", "CT")):
        head = replace(header(study, 1), patient_id=patient, modality=modality)
        world.store_one(head, dataset(2000, study))
    world.seal_all()
    world.run_policies()
    world.later()
    assert world.on_tape(3) == world.on_tape(2), "the patient counts more than the modality"
    assert world.on_tape(4) == world.on_tape(1)


def test_a_premigration_copies_until_enough_can_be_made_free_and_then_rests(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hsm.policyrun import fills
    from policies import PoolFill

    policy = (
        "policy: p\npriority: 1\nrules:\n"
        "  - {name: ahead, copy to: nearline, from: online, start above: 70%, stop below: 50%}\n"
    )
    world = make_world(policies=policy)
    stored(world, 10)
    with world.catalog.read() as session:
        size = session.execute(text("SELECT n_bytes FROM study WHERE pk = 1")).scalar_one()
    real = fills.pool_fills

    def full(*given: Any) -> Any:
        return real(*given) | {"online": PoolFill(10 * size, 12 * size)}  # 83 %

    monkeypatch.setattr(execute, "pool_fills", full)
    asked = []
    for _ in range(3):
        asked.append(requests(world.policies.run(None, dry_run=False, by="test")))
        world.settle()
    assert asked == [5, 0, 0], "5 of 12 that are not copied yet is below a half"
    world.store(11, 1, size=2000)
    world.seal_all()
    assert requests(world.policies.run(None, dry_run=False, by="test")) == 0


def test_a_version_that_fits_the_pools_no_more_is_not_in_force_and_says_so(make_world: MakeWorld) -> None:
    world = make_world(policies=NOTHING)
    with world.catalog.write() as session:
        text_ = NEARLINE.replace("nearline", "attic")
        activations.activate(session, world.now(), "alice", b"\1" * 32, {"a.yaml": text_})
    number, loaded = world.policies.versions.begin("hsm")
    assert (number, loaded.policies) == (1, ())
    world.policies.replace(world.home / "policies", loaded, number)
    assert "activation 1 does not fit the configuration" in world.policies.problems()[0]
    other = another_node(world)
    other.replace(world.home / "policies", other.set, None)
    other.follow()
    assert (other.activation, other.set.policies) == (1, ())
    folder = world.home / "policies"
    folder.mkdir(exist_ok=True)
    (folder / "a.yaml").write_text(NEARLINE)
    assert world.policies.activate("alice")["activation"] == 2
    assert world.policies.problems() == []


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("{name: r, copy to: nearline}", "nearline is one volume"),
        ("{name: r, recall to: tape, when: always}", "a study is recalled to a disk"),
        ("{name: r, export from: nearline, when: always}", "has no volumes to take to the shelf"),
    ],
)
def test_what_no_pool_can_do_is_never_activated(make_world: MakeWorld, rule: str, why: str) -> None:
    world = make_world(policies=NOTHING)
    folder = world.home / "policies"
    folder.mkdir(exist_ok=True)
    copies = "copies: {nearline: 2}\n" if "copy" in rule else ""
    (folder / "a.yaml").write_text(f"policy: p\npriority: 1\n{copies}rules: [{rule}]\n")
    with pytest.raises(ConfigError, match=why):
        world.policies.activate("alice")
    checked = world.policies.check()
    assert not checked["ok"]
    assert why in str(checked["errors"])
