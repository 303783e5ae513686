"""What must hold whatever the policy, the history and the hardware."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from whatif_world import BEGIN, DAY, GB, HOUR, LIBRARY, NEARLINE, ONLINE, TO_TAPE, access, arrival, play, site

from policies.decide import Outcome, fills_of, judge, owner
from policies.evaluate import Circumstances
from policies.policy import PolicySet
from policies.whatif.agenda import is_open
from policies.whatif.history import Event
from policies.whatif.moments import micros, moment
from policies.whatif.simulate import Simulation
from policies.whatif.site import Operator, Site
from policies.whatif.stock import SimulationError
from policies.whatif.tape import DriveModel

COPIES = ("{nearline: 1}", "{tape: 1}", "{tape: 2}", "{nearline: 1, tape: 1}", "{disk: 2}", "")
CONDITIONS = (
    "always",
    "idle > 1 day",
    "received > 6 hours",
    "age > 3 days",
    "size > 2 GB",
    "idle < 2 days or received > 5 days",
    "copies(tape) >= 1",
    "copies(nearline) >= 1 and idle > 12 h",
    "resident(online) > 2 days",
    "accesses(2 days) < 1",
    "fill(online) > 30%",
    "availability = NEARLINE",
    "recalls > 0",
)
DEEDS = (
    "copy to: nearline",
    "copy to: tape",
    "release from: online",
    "release from: nearline",
    "release from: tape",
    "move to: nearline, from: online",
    "move to: tape, from: nearline",
    "recall to: online",
    "recall to: nearline",
    "verify: tape",
    "export from: tape",
    "release from: online, start above: 60%, stop below: 30%",
    "release from: nearline, stay at least: 2 days",
    "recall to: online, priors: {same: [patient], at most: 2}",
)
SCHEDULES = ("every 60 s", "every 7 h", "cron 30 22 * * mon-fri", "{every: 1 h, between: 20:00 and 06:00}")
LIMITS = ("{}", "{studies per run: 1}", "{bytes per run: 3 GB}", "{bandwidth: 1 MB/s}", "{drives: 1}")


@st.composite
def policies_texts(draw: st.DrawFn) -> str:
    rules = []
    for number in range(draw(st.integers(1, 5))):
        deed, when = draw(st.sampled_from(DEEDS)), draw(st.sampled_from(CONDITIONS))
        rules.append(f"  - {{name: r{number}, {deed}, when: {when}}}")
    return "\n".join(
        [
            "policy: p",
            "priority: 1",
            f"copies: {copies}" if (copies := draw(st.sampled_from(COPIES))) else "",
            "rules:",
            *rules,
            f"schedule: {draw(st.sampled_from(SCHEDULES))}",
            f"limits: {draw(st.sampled_from(LIMITS))}",
        ]
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    random = Random(draw(st.integers(0, 2**32)))
    events: list[Event] = []
    for number in range(draw(st.integers(1, 12))):
        at = BEGIN + timedelta(minutes=random.randrange(-20 * 1440, 8 * 1440))
        size = random.randrange(1, 5 * GB)
        events.append(arrival(str(number), at, size, patient_id=f"P{random.randrange(3)}"))
        later = [timedelta(minutes=random.randrange(1, 14_400)) for _ in range(random.randrange(4))]
        events += [access(str(number), at + wait) for wait in later]
    return events


@st.composite
def sites(draw: st.DrawFn) -> Site:
    library = replace(
        LIBRARY,
        drives=draw(st.integers(1, 2)),
        slots=draw(st.sampled_from((2, 3, 10))),
        drive=DriveModel(volume_bytes=draw(st.sampled_from((6 * GB, 12_000 * GB)))),
        cartridges=draw(st.sampled_from((None, 3))),
    )
    return site(
        online=replace(ONLINE, capacity=draw(st.sampled_from((12 * GB, 10_000 * GB)))),
        nearline=replace(NEARLINE, capacity=draw(st.sampled_from((8 * GB, 10_000 * GB)))),
        library=library,
        staging=draw(st.sampled_from((0, 6 * GB, 1000 * GB))),
        operator=draw(st.sampled_from((Operator(), Operator(cartridges_a_trip=1)))),
    )


def check_whole(done: Simulation) -> None:
    """Every byte that came is somewhere, once where it can be once, and every pool's sum is right."""
    used = dict.fromkeys(done.stock.rooms, 0)
    for study in done.stock.studies:
        assert study.copies, f"{study.uid} has no copy"
        volumes = [copy.volume for copy in study.copies if copy.volume is not None]
        assert len(volumes) == len(set(volumes))
        for copy in study.copies:
            if copy.volume is None:
                used[copy.pool] += study.size
        disks = [copy.pool for copy in study.copies if copy.volume is None]
        assert len(disks) == len(set(disks))
    for name, room in done.stock.rooms.items():
        if room.pool.kind.removable:
            used[name] = sum(volume.written for volume in room.volumes)
            for volume in room.volumes:
                held = [
                    (c.position, s.size) for s in done.stock.studies for c in s.copies if c.volume is volume
                ]
                assert sum(size for _, size in held) == volume.written
                end = 0
                for position, size in sorted(held):
                    assert position == end
                    end = position + size
        assert room.used == used[name]
    for robot in done.robots.values():
        assert 0 <= robot.slots_taken <= robot.library.slots
        loaded = [drive.holds for drive in robot.drives if drive.holds is not None]
        assert len(loaded) == len(set(loaded))
        assert all(volume.in_library for volume in loaded)


@given(policies_texts(), histories(), sites())
@settings(max_examples=120, deadline=None)
@pytest.mark.campaign
def test_no_byte_is_lost_and_no_study_is_ever_without_a_copy(
    text: str, events: list[Event], hardware: Site
) -> None:
    report, done = play(text, events, days=8, hardware=hardware)
    check_whole(done)
    came = sum(1 for event in events if hasattr(event, "size") and event.at < BEGIN + 8 * DAY)
    assert report.studies == came
    assert sum(report.hits.values()) == report.retrieves
    assert sum(day.retrieves for day in report.days) == report.retrieves
    assert all(value >= 0 for values in done.tally.latency.values() for value in values)


@given(policies_texts(), histories(), sites())
@settings(max_examples=60, deadline=None)
def test_every_study_that_a_rule_would_decide_on_is_in_its_queue(
    text: str, events: list[Event], hardware: Site
) -> None:
    """The archive would look at all studies in every run; the agenda must leave none of them out."""
    for days in (0.7, 3.3, 8):
        _, done = play(text, events, days=days, hardware=hardware)
        # What would be looked at when the simulation is over is not looked at any more.
        at = Circumstances(moment(done.timeline.now - 1), fills_of(done.stock.fills()))
        policy_set = PolicySet(done.agenda.policies)
        for study in done.stock.studies:
            facts = done.stock.facts(study)
            owning = owner(policy_set, facts, at.now, at.fills) if study.sealed else None
            for queue in done.agenda.queues[owning.name] if owning is not None else ():
                decision = judge(queue.policy, queue.rule, facts, at)
                if decision is None or decision.outcome is Outcome.REFUSED or not is_open(queue, study):
                    continue
                assert study.number in queue.fresh or study.number in queue.parked, (study.uid, queue.rule)


@given(policies_texts(), histories(), sites())
@settings(max_examples=25, deadline=None)
def test_the_same_question_gets_the_same_answer(text: str, events: list[Event], hardware: Site) -> None:
    first, _ = play(text, events, days=8, hardware=hardware)
    second, _ = play(text, events, days=8, hardware=hardware)
    assert first == second


DANGEROUS = """
policy: dangerous
priority: 1
rules: [{name: clean up, release from: online, when: received > 1 day}]
"""


def test_releasing_everything_older_than_a_day_without_copies_releases_nothing() -> None:
    events: list[Event] = [arrival(str(n), BEGIN + (n - 20) * HOUR, GB) for n in range(60)]
    report, done = play(DANGEROUS, events, days=30)
    assert all(study.is_in("online") for study in done.stock.studies)
    assert report.refused == {"clean up: online holds the last copy": 60}
    assert [pool.studies_released for pool in report.pools] == [0, 0, 0]
    assert report.days[-1].used["online"] == 60 * GB


def test_releasing_from_everywhere_keeps_one_copy() -> None:
    text = """
policy: reckless
priority: 1
rules:
  - {name: copy, copy to: nearline}
  - {name: a, release from: online, when: always}
  - {name: b, release from: nearline, when: always}
schedule: every 1 min
"""
    events: list[Event] = [arrival(str(n), BEGIN + n * HOUR, GB) for n in range(20)]
    _, done = play(text, events)
    check_whole(done)
    assert all(len(study.copies) == 1 for study in done.stock.studies)


def test_the_stock_itself_refuses_to_lose_the_last_copy() -> None:
    _, done = play(DANGEROUS, [arrival("1", BEGIN)])
    with pytest.raises(SimulationError, match="would lose its last verified copy"):
        done.stock.release(done.stock.studies[0], "online", micros(BEGIN))


def test_a_study_that_arrives_twice_is_refused_by_name() -> None:
    with pytest.raises(SimulationError, match=r"study 7 arrives twice"):
        play(DANGEROUS, [arrival("7", BEGIN), arrival("7", BEGIN + HOUR)])


@pytest.mark.parametrize("seed", range(12))
def test_a_further_drive_never_makes_the_longest_recall_longer(seed: int) -> None:
    random = Random(seed)
    small = DriveModel(volume_bytes=20 * GB)
    events: list[Event] = [
        arrival(str(n), BEGIN - (40 - n) * DAY, random.randrange(1, 8 * GB)) for n in range(40)
    ]
    for _ in range(60):
        at = BEGIN + timedelta(seconds=random.randrange(6 * 3600))
        events.append(access(str(random.randrange(38)), at))
    longest = []
    for drives in (1, 2, 4):
        library = replace(LIBRARY, drive=small, drives=drives, slots=30)
        report, _ = play(TO_TAPE, events, days=2, hardware=site(library=library, staging=0))
        longest.append(report.recall_latency.longest)
    assert longest[0] >= longest[1] >= longest[2] > 0


def test_more_bytes_cost_more_and_fewer_goals_cost_less() -> None:
    events: list[Event] = [arrival(str(n), BEGIN + n * HOUR, GB) for n in range(20)]
    text = "{policy: p, priority: 1, copies: {tape: %d}, rules: [{name: c, copy to: tape}]}"
    used = [play(text % copies, events)[0].pools[2].end for copies in (1, 2, 3)]
    assert used == [20 * GB, 40 * GB, 60 * GB]
