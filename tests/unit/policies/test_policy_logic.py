"""What can be true together: never a wrong no, and a no where people would see one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_agreement import NOWS, POOLS, checked, expressions, fills, studies

from policies import Circumstances, StudyFacts
from policies.check import check_expression
from policies.evaluate import truth
from policies.expr import Expression
from policies.logic import Must, disjoint, implies, impossible
from tests.examples import examples


def read(text: str) -> Expression:
    found = check_expression(text, POOLS)
    assert found.expression is not None, found.faults
    return found.expression


def plausible(facts: StudyFacts) -> bool:
    """No study was retrieved after its last retrieve."""
    return all(moment <= facts.values["accessed_at"] for moment in facts.accesses)  # type: ignore[operator]


HOLDS = {
    Must.TRUE: lambda value: value is True,
    Must.FALSE: lambda value: value is False,
    Must.NOT_TRUE: lambda value: value is not True,
    Must.NOT_FALSE: lambda value: value is not False,
}


@settings(max_examples=examples(100), deadline=None)
@given(st.data())
def test_what_is_called_impossible_no_study_meets(data: st.DataObject) -> None:
    now = data.draw(st.sampled_from(NOWS))
    at = Circumstances(now, data.draw(fills()))
    terms = [
        (checked(data.draw(expressions())).root, data.draw(st.sampled_from(list(Must)))) for _ in range(2)
    ]
    if not impossible(*terms):
        return
    for facts in filter(plausible, data.draw(studies(now, 60))):
        assert not all(HOLDS[must](truth(node, facts, at)) for node, must in terms)


@settings(max_examples=examples(60), deadline=None)
@given(expressions())
def test_no_condition_is_seen_to_exclude_itself_unless_it_never_holds(text: str) -> None:
    expression = checked(text)
    assert disjoint(expression, expression) == bool(impossible((expression.root, Must.TRUE)))
    if "between" not in text and "(" not in text:
        assert implies(expression, expression)


@pytest.mark.parametrize(
    "text",
    [
        "idle > 90d and idle < 30d",
        "idle > 30d and not idle > 1d",
        "idle > 30d and idle <= 30d",
        "copies(tape) > 1 and copies(tape) < 2",
        "copies(tape) < 0",
        "fill(online) > 100%",
        "size between 1 GB and 2 GB and size > 3 GB",
        "size in (1 GB, 2 GB) and size < 500 MB",
        "age between 10d and 20d and not age between 5d and 30d",
        "institution = 'A' and institution = 'B'",
        "institution in ('A', 'B') and institution not in ('A', 'B', 'C')",
        "institution like 'A*' and institution = 'B'",
        "institution like 'A*' and institution like 'B*'",
        "institution like 'A*' and institution not like 'A*'",
        "institution is null and institution = 'A'",
        "modality = CT and modality != CT",
        "modality in (CT, MR) and modality not in (CT, MR, US)",
        "tags = keep and not tags in (keep, hold)",
        "body_part = 'HEAD' and body_part not like 'H*'",
        "legal_hold and not legal_hold",
        "availability = ONLINE and availability = NEARLINE",
        "availability not in (ONLINE, NEARLINE, OFFLINE, UNAVAILABLE)",
        "accesses(30d) > 2 and idle > 60d",
        "accesses(1d) in (1, 2) and idle between 10d and 20d",
        "(idle > 90d or idle > 60d) and idle < 30d",
        "not (idle > 10d or idle <= 10d)",
        "retention is null and retention > 1 year",
        "never",
        "always and not always",
    ],
)
def test_what_people_see_to_be_impossible_is_seen(text: str) -> None:
    assert impossible((read(text).root, Must.TRUE))


@pytest.mark.parametrize(
    "text",
    [
        "modality = CT and modality = SR",
        "idle >= 30d and idle <= 30d",
        "idle > 90d or idle < 30d",
        "tags = a and tags = b",
        "institution like 'A*' and institution like '*B'",
        "institution like 'A*' and institution like 'AB*'",
        "accesses(30d) > 2 and idle > 20d",
        "accesses(30d) >= 0 and idle > 60d",
        "copies(tape) > 1 and copies(tape-a) < 2",
        "accesses(30d) > 2 and accesses(7d) = 0",
        "institution != 'A' and institution != 'B'",
        "not institution = 'A' and institution is not null",
    ],
)
def test_what_can_be_is_let_be(text: str) -> None:
    assert not impossible((read(text).root, Must.TRUE))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("idle > 90d", "idle > 30d", True),
        ("idle > 30d", "idle > 90d", False),
        ("idle > 90d and size > 1 GB", "idle > 90d", True),
        ("modality = CT", "modality in (CT, MR)", True),
        ("institution = 'A'", "institution is not null", True),
        ("institution != 'A'", "institution = 'B'", False),
        ("age > 1 year", "not age <= 1 year", True),
        ("size > 1 GB", "age > 1d or age <= 1d", False),  # a study without a date meets neither
        ("size > 1 GB", "idle > 1d or idle <= 1d", True),
        ("legal_hold and idle > 1d", "legal_hold", True),
        ("idle > 90d or legal_hold", "idle > 30d or legal_hold", True),
    ],
)
def test_what_says_more_implies_what_says_less(first: str, second: str, expected: bool) -> None:
    assert implies(read(first), read(second)) is expected


def test_too_many_alternatives_are_not_looked_at() -> None:
    text = " and ".join(f"(size > {n} MB or instances > {n})" for n in range(1, 15))
    assert not impossible((read(f"{text} and size > 1 PB and size < 1 B").root, Must.TRUE))
