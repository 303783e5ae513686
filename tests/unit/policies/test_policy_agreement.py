"""SQL and Python must read a policy alike: what is selected is what is explained."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policy_agreement import (
    NOWS,
    assert_agreement,
    checked,
    columns,
    expressions,
    fills,
    metadata,
    rows_in_order,
    rows_where,
    studies,
    studies_with,
)
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool

from policies import FACTS, Order, Policy, PolicySet, Schedule, owner
from policies.compile import compile_ownership
from tests.examples import examples


@pytest.fixture(scope="module")
def sqlite() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def postgresql_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    server = request.getfixturevalue("postgresql")
    url = server.create(migrated=False)
    engine = create_engine(url)
    metadata.create_all(engine)
    yield engine
    engine.dispose()
    server.drop(url)


def _agree(engine: Engine, data: st.DataObject) -> None:
    now = data.draw(st.sampled_from(NOWS))
    assert_agreement(engine, data.draw(expressions()), data.draw(studies(now, 50)), now, data.draw(fills()))


slow_is_fine = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@settings(slow_is_fine, max_examples=examples(80))
@given(st.data())
def test_sqlite_selects_what_python_finds_true(sqlite: Engine, data: st.DataObject) -> None:
    _agree(sqlite, data)


@settings(slow_is_fine, max_examples=examples(50))
@given(st.data())
def test_postgresql_selects_what_python_finds_true(postgresql_engine: Engine, data: st.DataObject) -> None:
    _agree(postgresql_engine, data)


@settings(slow_is_fine, max_examples=examples(25))
@given(st.data())
def test_sql_and_python_give_each_study_to_the_same_policy(sqlite: Engine, data: st.DataObject) -> None:
    now, fill = data.draw(st.sampled_from(NOWS)), data.draw(fills())
    some = data.draw(studies(now, 50))
    scopes = [checked(data.draw(expressions())) for _ in range(3)]
    found = PolicySet(
        tuple(Policy(str(n), n, scope, (), (), Schedule(every_seconds=60)) for n, scope in enumerate(scopes))
    )
    owners: dict[str, set[str]] = {policy.name: set() for policy in found.policies}
    for study in some:
        owning = owner(found, study, now, fill)
        if owning is not None:
            owners[owning.name].add(study.study)
    for policy in found.policies:
        condition = compile_ownership(found, policy, columns(), now, fill)
        assert rows_where(sqlite, condition, some) == owners[policy.name]


@pytest.mark.parametrize("database", ["sqlite", "postgresql_engine"])
@pytest.mark.parametrize("descending", [True, False])
def test_order_by_age_or_idle_goes_by_the_length_of_time_and_unknown_dates_come_last(
    database: str, descending: bool, request: pytest.FixtureRequest
) -> None:
    engine: Engine = request.getfixturevalue(database)
    now = NOWS[0]
    some = studies_with(now, [("a", "20250101", 3), ("b", "", 1), ("c", "20240101", 2), ("d", None, 4)])
    ordered = {
        name: rows_in_order(engine, (Order(FACTS[name], descending),), some)
        for name in ("age", "study_date", "idle")
    }
    assert ordered["age"][:2] == (["c", "a"] if descending else ["a", "c"])
    assert ordered["study_date"][:2] == (["a", "c"] if descending else ["c", "a"])
    assert ordered["idle"] == (["d", "a", "c", "b"] if descending else ["b", "c", "a", "d"])
