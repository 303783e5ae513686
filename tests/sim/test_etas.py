"""Recalls say where they are and why; what drives took is measured and kept."""

from __future__ import annotations

import threading

import pytest

from hsm.catalog import timings
from hsm.clock import ManualClock
from hsm.eta import Etas
from hsm.recalldesk import RecallDesk
from hsm.retrieval import Readable
from hsm.states import RequestState
from tests.sim.conftest import MakeWorld
from tests.sim.test_recalling import on_tape
from tests.sim.world import World, study_uid


def etas(world: World) -> Etas:
    return Etas(world.catalog, world.workers.planning)


def recalls(world: World) -> list[int]:
    return [each.pk for each in world.requests(kind="recall")]


def test_ten_waiters_are_one_mount_and_one_read_and_each_has_its_progress(make_world: MakeWorld) -> None:
    world = on_tape(make_world)
    world.custody.unmount_all()
    mounts, reads = [], []
    world.tapped.on_mount = lambda _: mounts.append(1)
    fetch = world.recall.fetch
    world.recall.fetch = lambda *a, **k: (reads.append(1), fetch(*a, **k))[1]  # type: ignore[method-assign, func-returns-value]
    kinds = ("C-MOVE from WS{0} to WS{0}", "C-GET from WS{0}", "delivery to WS{0} for WS{0}")
    waits = [world.retrieve(1, kinds[number % 3].format(number)) for number in range(9)]
    asked = world.recall.request_study(study_uid(1), 10, "recall by alice")  # type: ignore[arg-type]
    (pk,) = recalls(world)
    assert asked["requests"] == [pk]
    (told,) = world.recall.progress([pk])
    waiters = {each["who"]: each for each in told["waiters"]}  # type: ignore[attr-defined]
    assert len(waiters) == 10
    assert waiters["C-GET from WS1"] == {"who": "C-GET from WS1", "instances": 2, "instances_done": 0}
    world.settle()
    assert (len(mounts), len(reads)) == (1, 1)
    one = waits[1].retrieval.next(0)
    assert isinstance(one, Readable)
    one.content.close()
    (told,) = world.recall.progress([pk])
    done = {each["who"]: each["instances_done"] for each in told["waiters"]}  # type: ignore[attr-defined]
    assert (done["C-GET from WS1"], done["C-MOVE from WS0 to WS0"]) == (1, 0)
    assert "recall by alice" not in done, "its recall has ended: it waits no more"
    for wait in waits:
        assert wait.look().waiting == 0
        wait.close()
    world.check()


def test_a_queued_recall_names_its_drive_and_its_place_and_a_time(make_world: MakeWorld) -> None:
    world = on_tape(make_world, studies=3)
    world.workers.planning.plan(world.workers.planning.look(), {})
    waits = [world.retrieve(study) for study in (1, 2, 3)]
    found = etas(world).of(recalls(world))
    assert sorted(each.reason.split(", ")[1] for each in found.values()) == [
        "next in queue",
        "second in queue",
        "third in queue",
    ]
    assert all(each.seconds is not None and each.seconds > 0 for each in found.values())
    desk = RecallDesk(world.catalog, world.recall, etas(world))
    (first, *_) = desk.progress([])
    assert {"id", "state", "bytes", "bytes_done", "waiters", "eta", "eta_seconds", "eta_at"} <= first.keys()
    assert desk.request_study(study_uid(2), 10, "alice")["eta"] == found[recalls(world)[1]].reason  # type: ignore[arg-type]
    world.settle()
    assert {each.reason for each in etas(world).of(recalls(world)).values()} == {"here"}
    for wait in waits:
        wait.close()


def test_what_lies_on_the_shelf_says_which_and_learns_how_long_operators_take(make_world: MakeWorld) -> None:
    world = on_tape(make_world)
    world.custody.export("HSM001L8", "B3", "alice")
    wait = world.retrieve(1)
    world.settle()
    (pk,) = recalls(world)
    eta = etas(world).of([pk])[pk]
    since = world.now().astimezone()
    assert (eta.seconds, eta.reason) == (None, f"shelf B3, waiting for an operator since {since:%H:%M}")
    world.clock.advance(600)
    world.custody.operator_done("HSM001L8", "bob")
    world.settle()
    assert len(wait.look().files) == 2
    wait.close()
    world.staging.remove(f"{study_uid(1)}.p0001.tar")
    world.custody.export("HSM001L8", "B3", "alice")
    again = world.retrieve(1)
    world.settle()
    pk = next(each.pk for each in world.requests(kind="recall") if each.state == RequestState.WAITING)
    world.clock.advance(120)
    eta = etas(world).of([pk])[pk]
    assert eta.seconds is not None
    assert 480 < eta.seconds < 480 + 200, "ten minutes as last time, less two, and the mount"
    again.close()


class Taking(ManualClock):
    """Each look at the time takes a moment: what is measured is more than nothing."""

    def monotonic(self) -> float:
        self.advance(0.5)
        return super().monotonic()


@pytest.mark.parametrize("slow", [False, True])
def test_what_mounts_and_locates_took_is_kept_and_only_the_last(make_world: MakeWorld, slow: bool) -> None:
    world = on_tape(make_world, studies=2, clock=Taking() if slow else ManualClock())
    world.custody.unmount_all()
    world.custody.inventory()
    wait = world.retrieve(2)
    world.settle()
    with world.catalog.read() as session:
        kept = timings.recent(session)
    assert {kind for _, kind in kept} >= {"mount", "locate"}
    assert all(each.expected > 0 for took in kept.values() for each in took)
    assert all((each.seconds > 0) is slow for each in kept["library", "mount"])
    with world.catalog.write() as session:
        many = [timings.Took("mount", number, 25.0) for number in range(150)]
        timings.note(session, "library", 256, many, world.now())
        last = timings.recent(session)["library", "mount"]
    assert len(last) == timings.KEPT
    assert last[-1].seconds == 149
    wait.close()


def test_a_stopwatch_that_cannot_write_spoils_no_session(make_world: MakeWorld) -> None:
    world = on_tape(make_world)
    watch, stop = world.session.stopwatch, threading.Event()
    assert watch.now == {}
    with pytest.raises(RuntimeError), watch.session("library", 256):
        for _ in watch.read(
            "library",
            256,
            "V",
            iter([b"ab", b"c"]),
            request_pk=1,
            size=3,
            locate_seconds=1.0,
            read_seconds=1.0,
        ):
            assert watch.now["library", 256].phase == "read"
            stop.set()
            raise RuntimeError
    assert watch.now == {}
