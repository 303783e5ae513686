"""Explanations: what decided, with the actual values, and when it changes."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_agreement import NOWS, checked, expressions, fills, studies
from policy_samples import NOW, policies, study

from policies import Circumstances, PolicySet, PoolFill, StudyFacts, evaluate, explain
from policies.explain import RuleExplanation
from policies.trace import deciding, next_change

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
        "  matches in 29 d, at 2026-06-30 12:00:00+00:00",
    ]


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


@settings(max_examples=200, deadline=None)
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


@settings(max_examples=150, deadline=None)
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
