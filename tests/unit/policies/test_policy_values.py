"""Quantities, schedules, patterns, ages, warnings, order and the SQL that comes out."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from apscheduler.triggers.cron import CronTrigger
from hypothesis import given
from hypothesis import strategies as st
from policy_agreement import STUDY, columns
from policy_samples import NOW, POOLS, policies, policy, study
from sqlalchemy.dialects import postgresql, sqlite

from policies import Action, PolicySet, PoolInfo, load_folder, load_texts, units
from policies.check import check_expression
from policies.compile import compile_expression
from policies.dates import day_ranges
from policies.expr import Compare, Op, Pattern, Ref
from policies.facts import FACTS
from policies.policy import Rule
from policies.schedule import Schedule, ScheduleError, read_schedule

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("number", "unit", "days"),
    [
        ("1", "month", 30),
        ("18", "months", 540),
        ("1", "year", 365),
        ("2", "w", 14),
        ("1.5", "days", 1.5),
        ("90", "D", 90),
    ],
)
def test_durations_are_calendar_free(number: str, unit: str, days: float) -> None:
    assert units.duration(Decimal(number), unit) == timedelta(days=days)


@pytest.mark.parametrize(
    ("number", "unit", "size"),
    [("1.5", "TiB", 3 * 2**39), ("1", "TB", 10**12), ("2", "kb", 2000), ("1", "KiB", 1024), ("0.5", "B", 0)],
)
def test_sizes_are_decimal_or_binary_as_written(number: str, unit: str, size: int) -> None:
    assert units.size(Decimal(number), unit) == size


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (timedelta(days=61, hours=5), "61 d"),
        (timedelta(days=3, hours=5), "3 d 5 h"),
        (timedelta(minutes=90), "1 h 30 min"),
        (timedelta(0), "0 s"),
        (timedelta(days=-2), "-2 d"),
    ],
)
def test_durations_are_said_in_their_largest_units(value: timedelta, said: str) -> None:
    assert units.say_duration(value) == said


def test_sizes_and_fractions_are_said_as_people_write_them() -> None:
    assert [units.say_size(n) for n in (17, 1536, 3 * 2**39, 312 * 2**20, 2**70)] == [
        "17 B",
        "1.5 KiB",
        "1.5 TiB",
        "312 MiB",
        "1048576 PiB",
    ]
    assert [units.say_fraction(n) for n in (0.85, 0.8543, 1.0, 0.0)] == ["85%", "85.4%", "100%", "0%"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("every 60 seconds", 60), ("every 10 min", 600), ("Every hour", 3600), ("every 1.5h", 5400)],
)
def test_intervals_are_read(text: str, seconds: float) -> None:
    assert read_schedule(text) == Schedule(every_seconds=seconds)


@pytest.mark.parametrize(
    ("text", "cron"),
    [
        ("cron 0 2 * * *", "0 2 * * *"),
        ("cron: */15 8-17 1,15 JAN-jun *", "*/15 8-17 1,15 jan-jun *"),
        ("cron 0 2 * * 0", "0 2 * * sun"),
        ("cron 0 2 * * 7", "0 2 * * sun"),
        ("cron 0 2 * * 1-5", "0 2 * * mon,tue,wed,thu,fri"),
        ("cron 0 2 * * fri-mon", "0 2 * * fri,sat,sun,mon"),
        ("cron 0 2 29 2 *", "0 2 29 2 *"),
    ],
)
def test_cron_days_are_names_so_that_every_scheduler_reads_them_alike(text: str, cron: str) -> None:
    assert read_schedule(text) == Schedule(cron=cron)
    CronTrigger.from_crontab(cron, timezone=UTC)


def test_sunday_is_day_0_as_in_cron() -> None:
    schedule = read_schedule("cron 0 2 * * 0")
    assert schedule.cron is not None
    fires = CronTrigger.from_crontab(schedule.cron, timezone=UTC).get_next_fire_time(None, NOW)
    assert fires is not None
    assert fires.strftime("%A") == "Sunday"


@pytest.mark.parametrize(
    "text", ["", "cron", "every", "every -5 s", "cron 61 * * * *", "cron a b c d e", "cron 5-1 * * * *"]
)
def test_a_bad_schedule_is_refused(text: str) -> None:
    with pytest.raises(ScheduleError):
        read_schedule(text)


def test_a_schedule_may_be_a_mapping_and_may_be_left_to_the_configuration() -> None:
    text = "policy: p\npriority: 1\nrules: [{name: a, copy to: tape}]\n"
    given = load_texts({"p": text + "schedule:\n  cron: 0 2 * * *\n"}, POOLS).policies[0]
    assert given.schedule == Schedule(cron="0 2 * * *")
    left = load_texts({"p": text}, POOLS, Schedule(every_seconds=5)).policies[0]
    assert left.schedule == Schedule(every_seconds=5)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("CT*", ("CT", "CT Thorax"), ("ct", "xCT")),
        ("?T", ("CT", "PT"), ("T", "CCT")),
        (r"50\*", ("50*",), ("50", "500")),
        ("a.c", ("a.c",), ("abc",)),
        ("*\n*", ("a\nb",), ("ab",)),
    ],
)
def test_wildcards_match_whole_texts(pattern: str, yes: tuple[str, ...], no: tuple[str, ...]) -> None:
    regex = Pattern.read(pattern).regex()
    assert all(regex.fullmatch(text) for text in yes)
    assert not any(regex.fullmatch(text) for text in no)


@given(
    st.dates(date(1900, 1, 1), date(2200, 1, 1)),
    st.dates(date(1900, 1, 1), date(2200, 1, 1)),
    st.sampled_from((Op.LT, Op.LE, Op.GT, Op.GE)),
    st.integers(0, 40000),
    st.sampled_from((timedelta(0), timedelta(hours=12), timedelta(microseconds=1))),
)
def test_an_age_counts_whole_days_as_plain_arithmetic_does(
    day: date, today: date, op: Op, days: int, extra: timedelta
) -> None:
    length = timedelta(days=days) + extra
    leaf = Compare(0, 0, Ref(FACTS["age"]), op, length)
    now = datetime(today.year, today.month, today.day, 23, 59, tzinfo=UTC)
    (found,) = day_ranges(leaf, negate=False, now=now)
    age = today - day
    truth = {Op.LT: age < length, Op.LE: age <= length, Op.GT: age > length, Op.GE: age >= length}[op]
    assert (day.strftime("%Y%m%d") in found) is truth


def test_a_time_test_compares_a_bare_column_so_that_an_index_serves() -> None:
    expression = check_expression("not (idle <= 30d or age < 1 year)", POOLS).expression
    assert expression is not None
    condition = compile_expression(expression, columns(), NOW, {})
    sql = str(condition.compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
    assert "agreement_study.accessed_at < " in sql
    assert "agreement_study.study_date <= " in sql
    assert "NOT" not in sql


def test_a_missing_column_is_named() -> None:
    expression = check_expression("copies(tape) > 0 and idle > 1d", POOLS).expression
    assert expression is not None
    with pytest.raises(LookupError, match="no column for 'accessed_at'"):
        compile_expression(expression, {"copies": columns()["copies"]}, NOW, {})
    with pytest.raises(LookupError, match="no column for 'copies'"):
        compile_expression(expression, {"accessed_at": STUDY.c.accessed_at}, NOW, {})


def test_the_same_expression_is_rendered_once_for_all_studies_and_times() -> None:
    expression = check_expression("description like 'CT*'", POOLS).expression
    assert expression is not None
    first, second = (compile_expression(expression, columns(), NOW, {}) for _ in range(2))
    assert first._generate_cache_key() is not None
    assert str(first.compile(dialect=sqlite.dialect())) == str(second.compile(dialect=sqlite.dialect()))  # type: ignore[no-untyped-call]


def test_policies_differ_by_their_texts_and_not_by_the_names_of_their_files() -> None:
    text = "policy: p\npriority: 1\nrules: [{name: a, copy to: tape}]\n"
    one = load_texts({"a.yaml": text}, POOLS)
    same = load_texts({"z.yaml": text}, POOLS)
    other = load_texts({"a.yaml": text + "# more\n"}, POOLS)
    assert one.digest == same.digest != other.digest
    assert len(one.digest) == len(one.policies[0].digest) == 32


def test_rules_and_policy_sets_refuse_to_be_wrong() -> None:
    with pytest.raises(ValueError, match="go together"):
        Rule("r", Action.RELEASE, "online", start_above=0.8)
    with pytest.raises(ValueError, match="only a release"):
        Rule("r", Action.COPY, "online", start_above=0.8, stop_below=0.5)
    with pytest.raises(ValueError, match="less than"):
        Rule("r", Action.RELEASE, "online", start_above=0.5, stop_below=0.8)
    with pytest.raises(ValueError, match="order of priority"):
        PolicySet((policy("name: a\ncopy to: tape"), policy("name: a\ncopy to: tape")))
    with pytest.raises(LookupError, match="no policy 'x'"):
        PolicySet().policy("x")
    with pytest.raises(LookupError, match="no rule 'x'"):
        policy("name: a\ncopy to: tape").rule("x")


RELEASE = "name: r\nrelease from: online\nwhen: idle > 1d"
COPIES = ("name: n\ncopy to: nearline", "name: t\ncopy to: tape")


@pytest.mark.parametrize(
    ("rules", "head", "line", "says"),
    [
        ((RELEASE,), "limits: {}", 5, "what no copy goal protects"),
        ((RELEASE, *COPIES), "copies: {online: 1, tape: 1}", 5, "it will always be refused"),
        ((RELEASE, COPIES[0]), "copies: {nearline: 1, tape: 1}", 1, "add a rule with copy to: tape"),
        (("name: t\ncopy to: tape\nwhen: idle > 90d and idle < 30d",), "limits: {}", 5, "can never match"),
        (("name: t\ncopy to: tape\nwhen: idle > 30d and idle <= 30d",), "limits: {}", 5, "can never match"),
        (("name: t\ncopy to: tape\nwhen: age > 90d",), "scope: age < 1 month", 5, "no value of age meets"),
        (("name: t\ncopy to: tape\nwhen: never",), "limits: {}", 5, "its condition is never true"),
        (
            ("name: t\ncopy to: tape\nwhen: institution = A and institution = B",),
            "limits: {}",
            5,
            "of institution",
        ),
        (("name: t\ncopy to: tape\nwhen: modality = MRI",), "limits: {}", 7, "Did you mean 'MR'?"),
        (("name: t\ncopy to: tape\nwhen: modality = ct",), "limits: {}", 7, "Did you mean 'CT'?"),
        (
            ("name: t\ncopy to: tape\nwhen: description like 'CT%'",),
            "limits: {}",
            7,
            "any characters are written *",
        ),
    ],
)
def test_what_is_hardly_meant_is_warned_about(
    rules: tuple[str, ...], head: str, line: int, says: str
) -> None:
    (warning,) = policies(*rules, head=head).warnings
    assert warning.warning
    assert (warning.line, says in warning.message) == (line, True), warning.render()


@pytest.mark.parametrize(
    "when",
    [
        "idle > 30d and idle < 90d",
        "idle >= 30d and idle <= 30d",
        "idle > 9d or idle < 3d",
        "modality = CT and modality = SR",
    ],
)
def test_what_can_match_is_not_warned_about(when: str) -> None:
    assert policies(f"name: t\ncopy to: tape\nwhen: {when}", head="limits: {}").warnings == ()


def test_a_policy_behind_one_that_owns_every_study_is_warned_about() -> None:
    rules = "rules: [{name: a, copy to: tape}]\n"
    loaded = load_texts(
        {
            "a.yaml": f"policy: late\npriority: 20\nscope: modality = CT\n{rules}",
            "b.yaml": f"policy: all\npriority: 10\n{rules}",
        },
        POOLS,
    )
    (warning,) = loaded.warnings
    assert (warning.file, warning.line) == ("a.yaml", 1)
    assert "'late' never owns a study: 'all' goes before it" in warning.message


def test_the_embedded_default_is_good_and_without_warnings() -> None:
    loaded = load_folder(ROOT / "etc/policies", {"online", "nearline", "tape"})
    (default,) = loaded.policies
    assert loaded.warnings == ()
    assert default.goals == {"nearline": 1, "tape": 1}
    assert {rule.pool for rule in default.rules if rule.action is Action.RELEASE} == {"online"}


def test_the_sample_policies_are_good_alone_and_together() -> None:
    pools = (
        PoolInfo("online", "disk", "online", "main"),
        PoolInfo("nearline", "disk", "nearline", "main"),
        PoolInfo("tape", "tape", "nearline", "main"),
        PoolInfo("tape-offsite", "tape", "nearline", "other"),
    )
    folder = ROOT / "etc/policies/samples"
    samples = sorted(folder.glob("*.yaml"))
    assert len(samples) >= 3
    for sample in samples:
        alone = load_texts({sample.name: sample.read_text()}, pools)
        assert alone.warnings == (), [warning.render() for warning in alone.warnings]
    together = load_folder(folder, pools)
    (behind,) = together.warnings  # two of them are for all that is left: one goes before the other
    assert "'university hospital' never owns a study: 'acute hospital' goes before it" in str(behind)
    assert [each.priority for each in together.policies] == [50, 60, 70, 100, 200]


def test_a_study_of_the_default_policy_goes_out_of_online_only_after_a_year() -> None:
    from policies import PoolFill, explain

    loaded = load_folder(ROOT / "etc/policies", {"online", "nearline", "tape"})
    safe = {"online": 1, "nearline": 1, "tape": 1}
    calm = {"online": PoolFill(50, 100)}
    young = explain(loaded, study(idle_days=364, copies=safe), NOW, calm)
    old = explain(loaded, study(idle_days=366, copies=safe), NOW, calm)
    full = explain(loaded, study(idle_days=8, copies=safe), NOW, {"online": PoolFill(90, 100)})
    assert [rule.applies for rule in young.rules] == [False] * 4
    assert [rule.applies for rule in old.rules] == [False, False, True, False]
    assert [rule.applies for rule in full.rules] == [False, False, False, True]
