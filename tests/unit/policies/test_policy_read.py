"""Reading a whole policy: every key becomes the value it means."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_samples import NOW, study

from policies import (
    STAGING,
    Action,
    By,
    Colocate,
    Goal,
    Group,
    Limits,
    Policy,
    PolicyErrors,
    PolicySet,
    PoolInfo,
    Priors,
    Rule,
    Same,
    Schedule,
    StudyFacts,
    Window,
    load_texts,
)
from policies.pools import PoolTable
from policies.units import say_rate

POOLS = (
    PoolInfo("online", "disk", "online", "main"),
    PoolInfo("nearline", "disk", "nearline", "main"),
    PoolInfo("tape-a", "tape", "nearline", "main"),
    PoolInfo("tape-b", "tape", "nearline", "main"),
    PoolInfo("vault", "tape", "offline", "cellar"),
)
TEXT = """\
classes:
  trauma: modality in (CT, DX) and source_ae like 'ER*'
---
policy: general
priority: 100
copies: {nearline: 1, tape: 2 within 24h, cellar: 1, sites: 2 within 1.5 days}
rules:
  - name: premigrate
    copy to: tape-a
    from: online
    start above: 60%
    stop below: 50%
  - name: demote
    move to: nearline
    from: online
    when: not class(trauma) and idle > 14d
    stay at least: 14d
    start above: 85%
    stop below: 70.5%
    order by: size desc, recalls
  - name: priors
    prefetch to: online
    when: received < 1h
    priors: {same: "patient, body part", at most: 2, when: age < 5 years}
  - name: more priors
    recall to: staging
    when: received < 1h
    priors: {}
  - {name: back, recall to: staging, when: availability = nearline}
  - {name: scrub, verify: tape-a, when: verified(tape-a) > 1 year}
  - {name: shelf, export from: vault, when: resident(vault) > 30d}
schedule:
  cron: 30 20 * * *
  between: [20:00 and 06:00, 12:00 and 13:30]
  not on: [sat, Sunday, 2026-12-24 to 2026-12-26, 2027-01-01]
  time zone: Europe/Berlin
limits: {studies per run: 10, bytes per run: 2 TB, bandwidth: 200 MB/s, drives: 2, suspend after errors: 5}
colocate: by patient, month
"""


def load(text: str = TEXT) -> PolicySet:
    return load_texts({"p.yaml": text}, POOLS)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load().policies[0]


def test_goals_have_their_pools_their_number_and_their_deadline(policy: Policy) -> None:
    read = [(goal.target, goal.by, goal.count, goal.within) for goal in policy.copies]
    assert read == [
        ("nearline", By.POOL, 1, None),
        ("tape", By.KIND, 2, timedelta(hours=24)),
        ("cellar", By.SITE, 1, None),
        ("sites", By.SITES, 2, timedelta(hours=36)),
    ]
    assert policy.copies[1].group.names == ("tape-a", "tape-b", "vault")
    assert policy.goals == {"nearline": 1}


def test_each_action_is_read_with_its_pools(policy: Policy) -> None:
    read = {rule.name: (rule.action, rule.pool, rule.source, str(rule)) for rule in policy.rules}
    assert read == {
        "premigrate": (Action.COPY, "tape-a", "online", "copy to tape-a"),
        "demote": (Action.MOVE, "nearline", "online", "move from online to nearline"),
        "priors": (Action.RECALL, "online", "", "recall priors to online"),
        "more priors": (Action.RECALL, STAGING, "", "recall priors to staging"),
        "back": (Action.RECALL, STAGING, "", "recall to staging"),
        "scrub": (Action.VERIFY, "tape-a", "", "verify tape-a"),
        "shelf": (Action.EXPORT, "vault", "", "export from vault"),
    }


def test_watermarks_residency_and_order_are_read(policy: Policy) -> None:
    premigrate, demote = policy.rule("premigrate"), policy.rule("demote")
    assert (premigrate.start_above, premigrate.stop_below, premigrate.order_by) == (0.6, 0.5, ())
    assert (demote.start_above, demote.stop_below) == (0.85, 0.705)
    assert [(term.fact.name, term.descending) for term in demote.order_by] == [
        ("size", True),
        ("recalls", False),
    ]
    assert demote.minimum_residency == timedelta(days=14)
    assert (premigrate.watermark_pool, premigrate.leaves, premigrate.fills) == ("online", "", "tape-a")
    assert (demote.watermark_pool, demote.leaves, demote.fills) == ("online", "online", "nearline")


def test_priors_are_read_and_have_defaults(policy: Policy) -> None:
    priors = policy.rule("priors").priors
    assert priors is not None
    assert (priors.same, priors.at_most, priors.when.text) == (
        (Same.PATIENT, Same.BODY_PART),
        2,
        "age < 5 years",
    )
    assert policy.rule("more priors").priors == Priors((Same.PATIENT,), 3)


def test_schedule_limits_and_colocation_are_read(policy: Policy) -> None:
    assert policy.schedule == Schedule(
        cron="30 20 * * *",
        windows=(Window(time(20), time(6)), Window(time(12), time(13, 30))),
        blackout_dates=frozenset(
            {date(2026, 12, 24), date(2026, 12, 25), date(2026, 12, 26), date(2027, 1, 1)}
        ),
        blackout_weekdays=frozenset({5, 6}),
        time_zone="Europe/Berlin",
    )
    assert policy.limits == Limits(10, 2 * 10**12, 200 * 10**6, 2, 5)
    assert policy.colocate == (Colocate.PATIENT, Colocate.MONTH)
    assert say_rate(200e6) == "200 MB/s"


def test_text_of_a_schedule_may_have_a_window() -> None:
    schedule = "schedule: every 5 min between 20:00 and 6:00\n"
    text = f"policy: p\npriority: 1\nrules: [{{name: a, copy to: tape-a}}]\n{schedule}"
    assert load(text).policies[0].schedule == Schedule(300.0, windows=(Window(time(20), time(6)),))


def test_a_schedule_of_windows_alone_keeps_the_interval_of_the_configuration() -> None:
    text = (
        "policy: p\npriority: 1\nrules: [{name: a, copy to: tape-a}]\nschedule: {between: 20:00 and 24:00}\n"
    )
    loaded = load_texts({"p": text}, POOLS, Schedule(every_seconds=7))
    assert loaded.policies[0].schedule == Schedule(7.0, windows=(Window(time(20), time(0)),))


def test_classes_of_any_file_serve_all_and_those_of_a_policy_it_alone() -> None:
    rule = "rules: [{name: a, copy to: tape-a, when: class(%s)}]\n"
    texts = {
        "a.yaml": "policy: a\npriority: 1\nclasses: {mine: size > 1 GB}\n" + rule % "mine",
        "b.yaml": "policy: b\npriority: 2\n" + rule % "ours",
        "z.yaml": "classes: {ours: class(base) or size < 1 kB, base: age > 1 year}\n",
    }
    loaded = load_texts(texts, POOLS)
    assert [each.rules[0].when.text for each in loaded.policies] == ["class(mine)", "class(ours)"]
    with pytest.raises(PolicyErrors, match="there is no class 'mine'"):
        load_texts(texts | {"c.yaml": "policy: c\npriority: 3\n" + rule % "mine"}, POOLS)


def test_a_policy_is_another_when_a_class_that_it_uses_changes() -> None:
    rule = "policy: a\npriority: 1\nrules: [{name: a, copy to: tape-a, when: class(big)}]\n"
    one, other, unused = (
        load_texts({"a": rule, "b": f"classes: {{big: size > {size}, unused: size > {more}}}\n"}, POOLS)
        for size, more in (("1 GB", "1 B"), ("2 GB", "1 B"), ("1 GB", "2 B"))
    )
    assert one.policies[0].digest == unused.policies[0].digest != other.policies[0].digest


def test_names_stand_for_a_pool_then_a_kind_then_a_tier_then_a_site() -> None:
    table = PoolTable((*POOLS, PoolInfo("tape", "s3", "nearline", "cloud")))
    found = {name: table.group(name) for name in ("tape", "disk", "offline", "cellar", "nowhere", "")}
    assert {name: group and (group.by, group.names) for name, group in found.items()} == {
        "tape": (By.POOL, ("tape",)),
        "disk": (By.KIND, ("online", "nearline")),
        "offline": (By.TIER, ("vault",)),
        "cellar": (By.SITE, ("vault",)),
        "nowhere": None,
        "": None,
    }
    with pytest.raises(ValueError, match="two pools are named x"):
        PoolTable(["x", "x"])


def facts(*packages: dict[str, int]) -> StudyFacts:
    base = study()
    pools = {pool for package in packages for pool in package}
    copies = {pool: min(package.get(pool, 0) for package in packages) for pool in pools}
    return StudyFacts(base.study, base.values, copies, frozenset(), packages)


def test_a_goal_counts_the_least_of_any_package_over_all_its_pools(policy: Policy) -> None:
    tape, sites = policy.copies[1], policy.copies[3]
    apart = facts({"tape-a": 1, "vault": 1}, {"tape-a": 1, "tape-b": 1})
    assert tape.have(apart) == 2
    assert tape.have(apart, without="vault") == 1
    assert sites.have(apart) == 1
    both = facts({"nearline": 1, "vault": 1})
    assert (sites.have(both), sites.have(both, without="vault")) == (2, 1)


def test_a_copy_rule_makes_the_number_of_its_pool_and_one_for_wider_goals(policy: Policy) -> None:
    assert [policy.wanted(pool) for pool in ("nearline", "tape-a", "vault", "online")] == [1, 1, 1, 1]
    text = "policy: p\npriority: 1\ncopies: {tape-a: 3, offline: 2}\nrules: [{name: a, copy to: tape-a}]\n"
    other = load(text).policies[0]
    assert [other.wanted(pool) for pool in ("tape-a", "vault", "tape-b")] == [3, 2, 1]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Goal(Group("tape", By.KIND, POOLS[2:]), 0), "expected at least 1"),
        (lambda: Goal(Group("tape", By.KIND, POOLS[2:]), 1, timedelta(0)), "expected a time above 0"),
        (lambda: Priors((Same.MODALITY,), 1), "same patient"),
        (lambda: Priors((Same.PATIENT,), 0), "at least 1"),
        (lambda: Limits(bandwidth=0), "bandwidth is 0"),
        (lambda: Rule("r", Action.MOVE, "nearline"), "pool to move from"),
        (lambda: Rule("r", Action.RELEASE, "nearline", source="online"), "cannot release from"),
        (lambda: Rule("r", Action.COPY, "tape", priors=Priors((Same.PATIENT,), 1)), "only a recall"),
        (lambda: Rule("r", Action.COPY, "tape", minimum_residency=timedelta(1)), "minimum residency"),
        (lambda: PoolInfo(""), "no name"),
        (lambda: Window(time(1, tzinfo=UTC), time(2)), "local"),
        (lambda: Schedule(1.0, time_zone="Mars/Base"), "no time zone"),
        (lambda: Schedule(1.0, blackout_weekdays=frozenset(range(7))), "not on weekdays"),
    ],
)
def test_values_refuse_to_be_wrong(make: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()  # type: ignore[operator]


# schedules

NIGHT = Schedule(
    60.0,
    windows=(Window(time(20), time(6)),),
    blackout_weekdays=frozenset({6}),
    blackout_dates=frozenset({date(2026, 12, 24)}),
    time_zone="Europe/Berlin",
)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("day", "clock", "is_open"),
    [
        (1, "19:59", False),
        (1, "20:00", True),
        (2, "05:59", True),
        (2, "06:00", False),
        (5, "23:59", True),
        (6, "00:00", False),  # Sunday from midnight on, also within the window
        (6, "23:00", False),
        (7, "00:00", True),
        (24, "21:00", False),
    ],
)
def test_a_window_is_open_by_the_local_clock_and_closed_on_days_left_out(
    day: int, clock: str, is_open: bool
) -> None:
    moment = datetime.combine(date(2026, 12, day), time.fromisoformat(clock), BERLIN)
    assert NIGHT.is_open(moment.astimezone(UTC)) is is_open


@given(st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)))
def test_the_next_change_is_the_first_one(moment: datetime) -> None:
    change = NIGHT.next_change(moment)
    assert change is not None
    assert NIGHT.is_open(change) is not NIGHT.is_open(moment)
    before = change - timedelta(microseconds=1)
    for part in range(8):
        between = moment + (before - moment) * part / 7
        assert NIGHT.is_open(between) is NIGHT.is_open(moment)


def test_a_window_follows_the_change_of_the_clocks() -> None:
    evening = datetime(2026, 3, 28, 20, 0, tzinfo=BERLIN)  # the clocks go forward in this night
    schedule = Schedule(60.0, windows=(Window(time(20), time(6)),), time_zone="Europe/Berlin")
    change = schedule.next_change(evening.astimezone(UTC))
    assert change is not None
    assert change - evening.astimezone(UTC) == timedelta(hours=9)


def test_a_schedule_without_windows_is_always_open() -> None:
    always = Schedule(60.0)
    assert (always.is_open(NOW), always.next_change(NOW)) == (True, None)
    assert always.open_per_day == timedelta(days=1)


def test_windows_that_overlap_count_once() -> None:
    both = Schedule(60.0, windows=(Window(time(20), time(6)), Window(time(5), time(7))))
    assert both.open_per_day == timedelta(hours=11)


@pytest.mark.parametrize(
    ("schedule", "starts", "wait"),
    [
        (Schedule(3600.0), 24, timedelta(hours=1)),
        (Schedule(cron="0 2 * * *"), 1, timedelta(days=1)),
        (Schedule(cron="0 2,14 * * *"), 2, timedelta(hours=12)),
        (Schedule(cron="0 2 * * mon,tue,wed,thu,fri"), 1, timedelta(days=3)),
        (Schedule(cron="0 2 1,15 * *"), 1, timedelta(days=17)),
        (Schedule(3600.0, windows=(Window(time(20), time(6)),)), 10, timedelta(hours=14, minutes=1)),
        (Schedule(cron="0 12 * * *", windows=(Window(time(20), time(6)),)), 0, timedelta(days=366)),
    ],
)
def test_how_often_a_schedule_starts_and_how_long_it_waits(
    schedule: Schedule, starts: float, wait: timedelta
) -> None:
    assert (schedule.starts_a_day, schedule.longest_wait) == (starts, wait)


def test_a_schedule_says_itself_in_one_line() -> None:
    assert str(NIGHT) == "every 1 min between 20:00 and 06:00 not on sun, 2026-12-24 (Europe/Berlin)"
