"""Moves, recalls, verifications and exports: what each asks for, step by step, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from policy_samples import NOW, study

from policies import Action, Decision, Outcome, PoolFill, PoolInfo, Run, StudyFacts, load_texts

POOLS = (
    PoolInfo("online", "disk", "online", "main"),
    PoolInfo("nearline", "disk", "nearline", "main"),
    PoolInfo("tape-a", "tape", "nearline", "main"),
    PoolInfo("tape-b", "tape", "nearline", "main"),
    PoolInfo("vault", "tape", "offline", "cellar"),
)
MOVE = "{name: m, move to: nearline, from: online, when: idle > 30d}"
FREE = "{name: r, release from: online, when: idle > 30d}"


def decide(
    rule: str, *studies: StudyFacts, head: str = "copies: {tape-a: 1}", **pools: PoolFill
) -> list[Decision]:
    text = f"policy: p\npriority: 1\n{head}\nrules:\n  - {rule}\n"
    policy = load_texts({"p": text}, POOLS).policies[0]
    run = Run(policy, pools, NOW)
    return list(run.decide(policy.rules[0], studies))


def one(rule: str, copies: dict[str, int], head: str = "copies: {tape-a: 1}", **more: object) -> Decision:
    facts = study(idle_days=61, copies=copies, **more)
    (decision,) = decide(rule, facts, head=head)
    return decision


def test_a_move_copies_first_and_releases_only_what_is_verified_there() -> None:
    first = one(MOVE, {"online": 1, "tape-a": 1})
    assert (first.action, first.pool, first.outcome) == (Action.COPY, "nearline", Outcome.REQUEST)
    second = one(MOVE, {"online": 1, "nearline": 1, "tape-a": 1})
    assert (second.action, second.pool, second.outcome) == (Action.RELEASE, "online", Outcome.REQUEST)
    assert second.reason == "idle > 30d: idle is 61 d; verified copies kept: nearline 1, tape-a 1"


def test_the_release_of_a_move_is_refused_as_any_release_is() -> None:
    decision = one(MOVE, {"online": 1, "nearline": 1})
    assert (decision.action, decision.outcome) == (Action.RELEASE, Outcome.REFUSED)
    assert decision.reason == "copy goals are not met: tape-a has 0 of 1 verified copy"


@pytest.mark.parametrize(
    ("head", "copies", "lacks"),
    [
        ("copies: {tape: 2}", {"tape-a": 1}, "tape has 1 of 2 verified copies"),
        ("copies: {tape: 2}", {"tape-a": 1, "vault": 1}, None),
        ("copies: {offline: 1}", {"tape-a": 2}, "offline has 0 of 1 verified copy"),
        ("copies: {cellar: 1}", {"vault": 1}, None),
        ("copies: {sites: 2}", {"tape-a": 1, "nearline": 1}, "1 of 2 different sites"),
        ("copies: {sites: 2}", {"tape-a": 1, "vault": 1}, None),
        ("copies: {disk: 1}", {"tape-a": 1}, "disk has 0 outside it of 1 verified copy"),
        ("copies: {disk: 1}", {"nearline": 1}, None),
    ],
)
def test_goals_of_kinds_tiers_and_sites_hold_a_release_back(
    head: str, copies: dict[str, int], lacks: str | None
) -> None:
    decision = one(FREE, {"online": 1, **copies}, head)
    assert (decision.outcome is Outcome.REFUSED) == (lacks is not None)
    if lacks is not None:
        assert lacks in decision.reason


def test_a_goal_of_two_tapes_is_not_met_by_packages_that_lie_apart() -> None:
    each = ({"online": 1, "tape-a": 1, "vault": 1}, {"online": 1, "tape-a": 1})
    facts = StudyFacts("1.2", study(idle_days=61).values, {"online": 1, "tape-a": 1}, frozenset(), each)
    (decision,) = decide(FREE, facts, head="copies: {tape: 2}")
    assert decision.reason == "copy goals are not met: tape has 1 of 2 verified copies"


@pytest.mark.parametrize("rule", [FREE, MOVE])
def test_hold_and_retention_beat_goals_and_rules(rule: str) -> None:
    safe = {"online": 1, "nearline": 1, "tape-a": 1}
    assert "legal hold" in one(rule, safe, legal_hold=True).reason
    assert "retained until 2026-06-01" in one(rule, safe, retain_until="20260601").reason
    for decision in (one(rule, safe, legal_hold=True), one(rule, safe, retain_until="20300101")):
        assert (decision.action, decision.outcome) == (Action.RELEASE, Outcome.REFUSED)
    assert one(rule, safe, retain_until="20260531", legal_hold=False).outcome is Outcome.REQUEST


def test_what_is_held_is_still_copied() -> None:
    rule = "{name: c, copy to: tape-a}"
    assert one(rule, {"online": 1}, legal_hold=True, retain_until="20300101").outcome is Outcome.REQUEST


def test_a_study_that_came_back_stays_as_long_as_the_rule_says() -> None:
    rule = FREE.replace("}", ", stay at least: 14d}")
    base = study(idle_days=61, copies={"online": 1, "tape-a": 1})
    young, old, unknown = (
        decide(rule, replace(base, resident=since))[0]
        for since in ({"online": NOW - timedelta(days=3)}, {"online": NOW - timedelta(days=14)}, {})
    )
    assert young.reason == "online has held it for 3 d: it stays at least 14 d"
    assert old.outcome is Outcome.REQUEST
    assert "not known since when" in unknown.reason


def test_a_recall_is_asked_for_what_is_not_there_and_refused_for_what_is() -> None:
    rule = "{name: b, recall to: online, when: idle > 1d}"
    far = one(rule, {"tape-a": 1}, availability="NEARLINE")
    assert (far.action, far.pool, far.outcome) == (Action.RECALL, "online", Outcome.REQUEST)
    assert one(rule, {"online": 1, "tape-a": 1}, availability="NEARLINE").outcome is Outcome.REFUSED
    assert one(rule, {"nearline": 1}, availability="ONLINE").reason == "it is online: nothing to recall"


def test_a_verification_wants_a_copy_and_an_export_a_verified_one() -> None:
    verify, export = "{name: v, verify: tape-a, when: idle > 1d}", "{name: e, export from: vault}"
    assert one(verify, {"tape-a": 1}).outcome is Outcome.REQUEST
    assert one(verify, {"online": 1}).reason == "tape-a holds no copy: nothing to read back"
    assert one(export, {"vault": 1}).outcome is Outcome.REQUEST
    assert "no verified copy" in one(export, {"tape-a": 1}).reason


def test_a_move_with_watermarks_stops_when_what_it_copies_will_free_enough() -> None:
    rule = MOVE.replace("}", ", start above: 85%, stop below: 70%}")
    some = [study(f"1.{n}", idle_days=61, copies={"online": 1, "tape-a": 1}, size=10) for n in range(9)]
    found = decide(rule, *some, online=PoolFill(90, 100))
    assert [decision.action for decision in found] == [Action.COPY] * 3  # 90, 80, 70, and 60 is below 70
    assert decide(rule, *some, online=PoolFill(85, 100)) == []


def test_premigration_copies_ahead_and_releases_nothing() -> None:
    rule = "{name: p, copy to: tape-b, from: online, start above: 60%, stop below: 50%}"
    some = [study(f"1.{n}", copies={"online": 1}, size=10) for n in range(9)]
    found = decide(rule, *some, online=PoolFill(65, 100))
    assert {decision.action for decision in found} == {Action.COPY}
    assert len(found) == 2
    elsewhere = study("2.1", copies={"nearline": 1}, size=10)
    assert decide(rule, elsewhere, online=PoolFill(65, 100))[0].outcome is Outcome.REFUSED


def test_packages_that_lie_apart_are_safe_if_each_has_another_copy() -> None:
    apart = ({"online": 1, "tape-a": 1}, {"online": 1, "tape-b": 1})
    bare = ({"online": 1, "tape-a": 1}, {"online": 1})
    for packages, outcome in ((apart, Outcome.REQUEST), (bare, Outcome.REFUSED)):
        facts = StudyFacts("1.2", study(idle_days=61).values, {"online": 1}, frozenset(), packages)
        (decision,) = decide(FREE, facts, head="limits: {}")
        assert decision.outcome is outcome, decision.reason
