"""Decisions: what is asked for, what is refused and why, and where a run stops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from policy_samples import NOW, policy, study

from policies import Action, Outcome, PoolFill, Run, StudyFacts, evaluate, load_texts, owner
from policies.check import check_expression

COPY = "name: c\ncopy to: tape\nwhen: idle > 1d"
RELEASE = "name: r\nrelease from: online\nwhen: idle > 30d"
WATER = "name: w\nrelease from: online\nwhen: idle > 7d\nstart above: 85%\nstop below: 70%"
SAFE = {"online": 1, "nearline": 1, "tape": 1}


def decide(rule: str, *studies: StudyFacts, head: str = "copies: {nearline: 1, tape: 1}", **pools: PoolFill):  # type: ignore[no-untyped-def]
    chosen = policy(rule, head=head)
    run = Run(chosen, pools, NOW)
    return list(run.decide(chosen.rules[0], studies))


def test_a_copy_that_is_missing_is_asked_for_with_the_values_that_decided() -> None:
    (decision,) = decide(COPY, study(idle_days=3))
    assert (decision.outcome, decision.action, decision.pool) == (Outcome.REQUEST, Action.COPY, "tape")
    assert decision.reason == "idle > 1d: idle is 3 d; tape has 0 of 1 verified copy"


def test_a_copy_that_is_there_is_refused_and_not_passed_over_in_silence() -> None:
    (decision,) = decide(COPY, study(idle_days=3, copies={"tape": 1}))
    assert decision.outcome is Outcome.REFUSED
    assert decision.reason == "tape has 1 verified copy, 1 wanted: nothing to copy"


def test_a_goal_of_two_asks_for_the_second_copy() -> None:
    head = "copies: {tape: 2}"
    assert decide(COPY, study(idle_days=3, copies={"tape": 1}), head=head)[0].outcome is Outcome.REQUEST
    assert decide(COPY, study(idle_days=3, copies={"tape": 2}), head=head)[0].outcome is Outcome.REFUSED


def test_a_rule_that_does_not_match_says_nothing() -> None:
    assert decide(COPY, study(idle_days=0.5)) == []


def test_a_release_is_asked_for_only_when_every_goal_is_met() -> None:
    (decision,) = decide(RELEASE, study(idle_days=61, copies=SAFE))
    assert decision.outcome is Outcome.REQUEST
    assert decision.reason == "idle > 30d: idle is 61 d; verified copies kept: nearline 1, tape 1"


@pytest.mark.parametrize(
    ("copies", "says"),
    [
        ({"online": 1}, "nearline has 0 of 1 verified copy; tape has 0 of 1 verified copy"),
        ({"online": 1, "nearline": 3}, "tape has 0 of 1 verified copy"),
        ({"nearline": 1, "tape": 1}, "online holds no copy: nothing to release"),
    ],
)
def test_a_release_that_the_goals_do_not_allow_is_refused_with_what_lacks(
    copies: dict[str, int], says: str
) -> None:
    (decision,) = decide(RELEASE, study(idle_days=61, copies=copies))
    assert decision.outcome is Outcome.REFUSED
    assert says in decision.reason


def test_the_pool_that_is_released_from_counts_for_no_goal() -> None:
    (decision,) = decide(RELEASE, study(idle_days=61, copies={"online": 5}), head="copies: {online: 1}")
    assert decision.outcome is Outcome.REFUSED
    assert "online itself must keep 1 verified copy" in decision.reason


def test_without_any_goal_the_last_verified_copy_is_still_refused() -> None:
    head = "limits: {studies per run: 9}"
    (alone,) = decide(RELEASE, study(idle_days=61, copies={"online": 1, "tape": 0}), head=head)
    (other,) = decide(RELEASE, study(idle_days=61, copies={"online": 1, "tape": 1}), head=head)
    assert (alone.outcome, "last copy" in alone.reason) == (Outcome.REFUSED, True)
    assert other.outcome is Outcome.REQUEST


def test_a_copy_that_is_held_but_not_verified_can_be_released() -> None:
    facts = StudyFacts("1.2", study(idle_days=61).values, {"nearline": 1, "tape": 1}, frozenset({"online"}))
    assert decide(RELEASE, facts)[0].outcome is Outcome.REQUEST


def test_a_study_outside_the_scope_is_not_decided_even_if_it_is_handed_in() -> None:
    assert decide(COPY, study(idle_days=3), head="scope: modality = MR") == []


def many(count: int, size: int = 10) -> Iterator[StudyFacts]:
    for number in range(count):
        yield study(f"1.{number}", idle_days=100, copies=SAFE, size=size)


def test_watermarks_release_until_the_projected_fill_is_below_the_stop() -> None:
    found = decide(WATER, *many(100), online=PoolFill(90, 100))
    assert len(found) == 3  # 90 -> 80 -> 70 -> 60: at 70 it is not yet below 70%
    assert "online was 90% full, goes on until below 70%" in found[0].reason


@pytest.mark.parametrize("used", [0, 50, 84, 85])
def test_at_or_below_the_start_nothing_is_released_nor_looked_for(used: int) -> None:
    chosen = policy(WATER)
    run = Run(chosen, {"online": PoolFill(used, 100)}, NOW)

    def never() -> Iterator[StudyFacts]:
        raise AssertionError("candidates were asked for")
        yield

    assert not run.wants(chosen.rules[0])
    assert list(run.decide(chosen.rules[0], never())) == []


def test_a_pool_of_unknown_fill_starts_no_release() -> None:
    assert decide(WATER, *many(3)) == []


def test_what_live_requests_will_release_is_not_released_again() -> None:
    assert decide(WATER, *many(100), online=PoolFill(90, 100, releasing=10)) == []
    assert len(decide(WATER, *many(100), online=PoolFill(99, 100, releasing=10))) == 2


def test_refused_studies_do_not_count_towards_the_watermark() -> None:
    bad = [study(f"2.{n}", idle_days=100, copies={"online": 1}, size=10) for n in range(5)]
    found = decide(WATER, *bad, *many(100), online=PoolFill(90, 100))
    assert [d.outcome for d in found].count(Outcome.REFUSED) == 5
    assert [d.outcome for d in found].count(Outcome.REQUEST) == 3


def test_two_rules_of_one_run_share_the_projection_and_never_ask_twice() -> None:
    chosen = policy(RELEASE, WATER)
    run = Run(chosen, {"online": PoolFill(90, 100)}, NOW)
    first = list(run.decide(chosen.rules[0], many(1)))
    second = list(run.decide(chosen.rules[1], many(100)))
    # 90 -> 80 by the first rule, which takes the start away from the second.
    assert (len(first), len(second)) == (1, 0)
    run = Run(chosen, {"online": PoolFill(100, 100)}, NOW)
    asked = [d.study for rule in chosen.rules for d in run.decide(rule, many(3 if rule.name == "r" else 9))]
    assert asked == ["1.0", "1.1", "1.2"]  # 70 is below the start of 85
    assert len(asked) == len(set(asked))


def test_the_limit_of_studies_holds_over_all_rules_of_a_run() -> None:
    chosen = policy(COPY, "name: n\ncopy to: nearline", head="limits: {studies per run: 3}")
    run = Run(chosen, {}, NOW)
    candidates = [study(f"1.{n}", idle_days=9) for n in range(2)]
    found = [d for rule in chosen.rules for d in run.decide(rule, candidates)]
    assert [d.pool for d in found] == ["tape", "tape", "nearline"]
    assert not run.wants(chosen.rules[0])


def test_the_limit_of_bytes_lets_a_first_study_through_however_large() -> None:
    head = "limits: {bytes per run: 1 kB}"
    sizes = lambda *each: [study(f"1.{n}", idle_days=9, size=s) for n, s in enumerate(each)]  # noqa: E731
    assert len(decide(COPY, *sizes(5000, 1), head=head)) == 1
    assert len(decide(COPY, *sizes(600, 400, 1), head=head)) == 2


def test_a_release_cut_short_by_a_limit_goes_on_in_the_next_run_below_its_start() -> None:
    chosen = policy(WATER, head="limits: {studies per run: 1}")
    (rule,) = chosen.rules
    first = Run(chosen, {"online": PoolFill(90, 100)}, NOW)
    assert len(list(first.decide(rule, many(9)))) == 1
    assert first.unfinished == {"w"}
    pools = {"online": PoolFill(80, 100)}
    assert list(Run(chosen, pools, NOW).decide(rule, many(9))) == []
    second = Run(chosen, pools, NOW, draining=first.unfinished)
    assert len(list(second.decide(rule, many(9)))) == 1
    last = Run(chosen, {"online": PoolFill(69, 100)}, NOW, draining=second.unfinished)
    assert list(last.decide(rule, many(9))) == []
    assert last.unfinished == set()


def test_a_full_pool_is_one_without_capacity_and_impossible_fills_are_refused() -> None:
    assert PoolFill(0, 0).fraction == 1.0
    assert PoolFill(5, 10, releasing=9).fraction == 0.0
    with pytest.raises(ValueError, match="negative"):
        PoolFill(-1, 10)


def test_the_first_policy_by_priority_owns_a_study_not_the_first_file() -> None:
    rules = "rules:\n  - {name: x, copy to: tape}\n"
    texts = {
        "a.yaml": f"policy: rest\npriority: 900\n{rules}",
        "b.yaml": f"policy: ct\npriority: 20\nscope: modality = CT\n{rules}",
        "c.yaml": f"policy: named\npriority: 10\nscope: institution = 'St. Mary'\n{rules}",
    }
    found = load_texts(texts, {"tape"})
    assert [each.name for each in found.policies] == ["named", "ct", "rest"]
    names = [
        owning.name if (owning := owner(found, facts, NOW, {})) else None
        for facts in (study(), study(institution=""), study(institution="", modalities="\\MR\\"))
    ]
    assert names == ["named", "ct", "rest"]


def test_facts_without_a_value_or_a_time_zone_are_refused() -> None:
    with pytest.raises(ValueError, match="no value for modalities"):
        StudyFacts("1.2", {"size": 1})
    with pytest.raises(ValueError, match="aware datetime"):
        study(accessed_at=NOW.replace(tzinfo=None))


def test_null_is_neither_true_nor_false() -> None:
    def value(text: str, **values: object) -> bool | None:
        expression = check_expression(text, {"tape"}).expression
        assert expression is not None
        return evaluate(expression, study(**values), NOW, {})  # type: ignore[arg-type]

    assert value("institution = 'X'", institution="") is None
    assert value("not institution = 'X'", institution="") is None
    assert value("institution = 'X' or size >= 0", institution="") is True
    assert value("institution = 'X' and size > 1 PB", institution="") is False
    assert value("institution is null", institution="") is True
    assert value("age > 0d", study_date="") is None
    assert value("age > 0d", study_date="19000") is None
    assert value("modality != MR", modalities="") is None
    assert value("modality != MR") is True
    assert value("fill(tape) > 0%") is None
