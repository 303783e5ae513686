"""Explanations: what decided, with the actual values, and when it changes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_agreement import NOWS, checked, expressions, fills, studies
from policy_agreement import POOLS as AGREED
from policy_samples import NOW, POOLS, policies, study

from policies import (
    Circumstances,
    Outcome,
    PolicySet,
    PoolFill,
    StudyFacts,
    evaluate,
    explain,
    judge,
    load_texts,
)
from policies.explain import RuleExplanation
from policies.trace import deciding, next_change
from tests.examples import examples

SAFE = {"online": 1, "nearline": 1, "tape": 1}
RELEASE = "name: r\nrelease from: online\nwhen: idle > 90d and (copies(tape) >= 1 or size < 1 kB)"


def of_rule(loaded: PolicySet, facts: StudyFacts, **pools: PoolFill) -> RuleExplanation:
    (rule,) = explain(loaded, facts, NOW, pools).rules
    return rule


def test_a_rule_that_does_not_match_names_the_test_that_failed_and_when_it_turns() -> None:
    rule = of_rule(policies(RELEASE), study(idle_days=61, copies=SAFE))
    assert (rule.applies, rule.matches) == (False, False)
    assert rule.deciding == ("idle > 90d: idle is 61 d",)
    assert rule.changes_at is not None
    assert timedelta(0) <= rule.changes_at - (NOW + timedelta(days=29)) < timedelta(seconds=1)


def test_the_lines_for_people_say_it_in_one_reading() -> None:
    lines = explain(policies(RELEASE), study(idle_days=61, copies=SAFE), NOW, {}).lines()
    assert lines == [
        "policy p (priority 10) owns the study: always",
        "rule r (release from online): does not apply: idle > 90d: idle is 61 d",
        "  released from online in 29 d, at 2026-06-30 12:00:00+00:00",
    ]


LATER = "name: r\nrelease from: online\nwhen: idle > 90d"


def outlook(loaded: PolicySet, facts: StudyFacts, **pools: PoolFill) -> str:
    return of_rule(loaded, facts, **pools).outlook


def test_the_outlook_says_what_will_happen_and_when() -> None:
    assert outlook(policies(LATER), study(idle_days=61, copies=SAFE)) == "released from online in 29 d"
    copy = "name: c\ncopy to: tape\nwhen: received > 101d"
    assert outlook(policies(copy), study()) == "copied to tape in 1 d"


def test_the_outlook_does_not_promise_what_the_goals_will_refuse() -> None:
    found = outlook(policies(LATER), study(idle_days=61, copies={"online": 1, "tape": 1}))
    assert found == (
        "matches in 29 d, but is then refused unless this changes: "
        "copy goals are not met: nearline has 0 of 1 verified copy"
    )


def test_a_rule_that_applies_says_when_it_stops() -> None:
    copy = "name: c\ncopy to: tape\nwhen: received < 101d"
    assert outlook(policies(copy), study()) == "stops matching in 1 d"


def test_a_rule_with_watermarks_promises_nothing_by_time_alone() -> None:
    loaded = policies(LATER + "\nstart above: 85%\nstop below: 70%")
    facts = study(idle_days=61, copies=SAFE)
    assert outlook(loaded, facts, online=PoolFill(60, 100)) == (
        "released from online in 29 d at the earliest, once online is above 85%"
    )


def kept(**more: Any) -> StudyFacts:
    base = study(idle_days=100, copies=SAFE)
    return replace(base, **{"values": base.values, **more})


def test_a_minimum_residency_holds_a_study_until_it_is_over() -> None:
    loaded = policies(LATER + "\nstay at least: 14d")
    facts = kept(resident={"online": NOW - timedelta(days=4)})
    rule = of_rule(loaded, facts)
    assert (rule.matches, rule.applies) == (True, False)
    assert rule.reason == "refused: online has held it for 4 d: it stays at least 14 d"
    assert (rule.acts_at, rule.outlook) == (NOW + timedelta(days=10), "released from online in 10 d")
    assert of_rule(loaded, kept(resident={"online": NOW - timedelta(days=14)})).applies


def test_retention_beats_every_rule_until_the_day_after_it_ends() -> None:
    facts = kept(values={**study(idle_days=100).values, "retain_until": "20260603"})
    rule = of_rule(policies(LATER), facts)
    assert rule.reason == "refused: it is retained until 2026-06-03: nothing of it is released"
    assert rule.acts_at == datetime(2026, 6, 4, tzinfo=UTC)


def test_a_legal_hold_beats_every_rule_and_time_does_not_end_it() -> None:
    facts = kept(values={**study(idle_days=100).values, "legal_hold": True})
    rule = of_rule(policies(LATER), facts)
    assert rule.reason == "refused: it is under legal hold: nothing of it is released"
    assert (rule.acts_at, rule.outlook) == (None, "")


def test_a_move_is_explained_by_its_next_step() -> None:
    loaded = policies("name: m\nmove to: nearline\nfrom: online\nwhen: idle > 90d", head="copies: {tape: 1}")
    first = of_rule(loaded, study(idle_days=61, copies={"online": 1, "tape": 1}))
    assert (first.does, first.source) == ("move from online to nearline", "online")
    assert first.outlook == "copied to nearline in 29 d"
    assert outlook(loaded, study(idle_days=61, copies=SAFE)) == "released from online in 29 d"


def test_what_decided_within_a_class_is_quoted_from_the_class() -> None:
    loaded = policies(
        "name: r\ncopy to: tape\nwhen: class(big) and idle > 1d", head="classes: {big: size > 1 GB}"
    )
    assert of_rule(loaded, study(idle_days=3)).deciding == ("size > 1 GB: size is 100 B",)


def test_accesses_turn_when_the_first_leaves_the_window() -> None:
    loaded = policies("name: r\ncopy to: tape\nwhen: accesses(30d) < 2")
    facts = kept(accesses=(NOW - timedelta(days=20), NOW - timedelta(days=1)), copies={"online": 1})
    rule = of_rule(loaded, facts)
    assert rule.deciding == ("accesses(30d) < 2: accesses(30d) is 2",)
    assert rule.outlook == "copied to tape in 10 d"


def test_a_study_that_another_policy_will_own_is_said_so() -> None:
    rule = "rules: [{name: r, copy to: tape, when: received > 101d}]"
    texts = {
        "a": f"policy: first\npriority: 1\nscope: received > 100d 1h\n{rule}".replace("100d 1h", "2401h"),
        "b": f"policy: second\npriority: 2\n{rule}",
    }
    (found,) = explain(load_texts(texts, POOLS), study(), NOW, {}).rules
    assert found.outlook == "matches in 1 d, when another policy owns the study"


def test_a_schedule_that_is_closed_says_when_it_opens() -> None:
    loaded = policies(
        LATER, head="schedule: {every: 5 min, between: 20:00 and 06:00, time zone: Europe/Berlin}"
    )
    found = explain(loaded, study(idle_days=61), NOW, {})
    assert found.opens_at == datetime(2026, 6, 1, 18, tzinfo=UTC)
    assert "its schedule lets nothing run now: opens in 6 h, at 2026-06-01 18:00:00+00:00" in found.lines()


def test_of_an_or_only_the_part_that_holds_is_named() -> None:
    rule = of_rule(policies(RELEASE), study(idle_days=100, copies=SAFE, size=5000))
    assert rule.applies
    assert rule.deciding == ("idle > 90d: idle is 100 d", "copies(tape) >= 1: copies(tape) is 1")
    assert rule.changes_at is None


def test_a_rule_that_the_goals_refuse_matches_but_does_not_apply() -> None:
    rule = of_rule(policies(RELEASE), study(idle_days=100, copies={"online": 1, "tape": 1}))
    assert (rule.applies, rule.matches) == (False, True)
    assert rule.reason == "refused: copy goals are not met: nearline has 0 of 1 verified copy"


def test_an_unknown_fact_is_said_to_be_the_reason() -> None:
    rule = of_rule(policies("name: r\nrelease from: online\nwhen: age > 1d"), study(study_date=""))
    assert rule.matches is None
    assert rule.reason == "not known: age > 1d: age is not known"


def test_a_rule_waiting_for_its_watermark_says_how_full_the_pool_is() -> None:
    loaded = policies("name: w\nrelease from: online\nstart above: 85%\nstop below: 70%")
    facts = study(copies=SAFE)
    waiting = of_rule(loaded, facts, online=PoolFill(60, 100))
    assert (waiting.applies, waiting.matches) == (False, True)
    assert "waits: online is 60% full, starts above 85%" in waiting.reason
    assert "not known how full" in of_rule(loaded, facts).reason
    assert of_rule(loaded, facts, online=PoolFill(90, 100)).applies


def test_a_study_that_no_policy_owns_is_said_to_be_so() -> None:
    found = explain(policies(RELEASE, head="scope: modality = MR"), study(), NOW, {})
    assert (found.policy, found.rules) == (None, ())
    assert found.lines() == [
        "policy p (priority 10) does not own it: modality = MR: modality is CT",
        "no policy owns the study: nothing is copied or released",
    ]


def test_an_age_turns_at_midnight_of_the_time_zone_of_now() -> None:
    zone = timezone(timedelta(hours=8))
    at = Circumstances(datetime(2026, 6, 1, 12, tzinfo=zone), {})
    facts = study(study_date="20260520")
    assert next_change(checked("age > 30d"), facts, at) == datetime(2026, 6, 20, tzinfo=zone)
    assert next_change(checked("age >= 30d"), facts, at) == datetime(2026, 6, 19, tzinfo=zone)
    assert next_change(checked("age > 30d"), study(study_date="20261399"), at) is None


@settings(max_examples=examples(80), deadline=None)
@given(st.data())
def test_nothing_changes_before_the_change_that_is_announced(data: st.DataObject) -> None:
    now = data.draw(st.sampled_from(NOWS))
    (facts,) = data.draw(studies(now, 1))
    fill, expression = data.draw(fills()), checked(data.draw(expressions()))
    at = Circumstances(now, fill)
    value = evaluate(expression, facts, now, fill) is True
    change = next_change(expression, facts, at)
    horizon = change if change is not None else now + timedelta(days=800)
    step = (horizon - now) / 25
    for count in range(25):
        assert (evaluate(expression, facts, now + step * count, fill) is True) is value
    if change is not None:
        assert change > now
        assert (evaluate(expression, facts, change - timedelta(microseconds=1), fill) is True) is value
        assert (evaluate(expression, facts, change, fill) is True) is not value


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_there_is_always_something_that_decided(data: st.DataObject) -> None:
    now = data.draw(st.sampled_from(NOWS))
    (facts,) = data.draw(studies(now, 1))
    found = deciding(checked(data.draw(expressions())), facts, Circumstances(now, data.draw(fills())))
    assert found
    assert all(found)


def test_circumstances_without_a_time_zone_are_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Circumstances(datetime(2026, 1, 1), {})


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_a_rule_asks_for_its_work_at_the_moment_that_is_announced_and_not_before(data: st.DataObject) -> None:
    now = data.draw(st.sampled_from(NOWS))
    (facts,) = data.draw(studies(now, 1))
    when = json.dumps(data.draw(expressions()))
    deed = data.draw(st.sampled_from(("release from: online", "copy to: tape-a", "verify: tape-b")))
    stay = ", stay at least: 20d" if deed.startswith("release") else ""
    text = f"policy: p\npriority: 1\nrules: [{{name: r, {deed}, when: {when}{stay}}}]\n"
    loaded = load_texts({"p": text}, AGREED)
    policy = loaded.policies[0]

    def asks(moment: datetime) -> bool:
        decision = judge(policy, policy.rules[0], facts, Circumstances(moment, {}))
        return decision is not None and decision.outcome is Outcome.REQUEST

    (rule,) = explain(loaded, facts, now, {}).rules
    assert rule.applies is asks(now)
    if rule.applies:
        assert rule.acts_at is None
        return
    horizon = rule.acts_at or now + timedelta(days=800)
    between = (now + (horizon - now) * part / 25 for part in range(25))
    assert not any(asks(moment) for moment in between if moment < horizon)
    if rule.acts_at is not None:
        assert asks(rule.acts_at)
        assert rule.outlook
