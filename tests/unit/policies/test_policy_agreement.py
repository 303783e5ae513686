"""SQL and Python must read a policy alike: what is selected is what is explained."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policy_agreement import NOWS, assert_agreement, expressions, fills, metadata, studies
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool


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
    some = [data.draw(studies(now, str(number))) for number in range(data.draw(st.integers(1, 5)))]
    assert_agreement(engine, data.draw(expressions()), some, now, data.draw(fills()))


slow_is_fine = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@settings(slow_is_fine, max_examples=300)
@given(st.data())
def test_sqlite_selects_what_python_finds_true(sqlite: Engine, data: st.DataObject) -> None:
    _agree(sqlite, data)


@settings(slow_is_fine, max_examples=200)
@given(st.data())
def test_postgresql_selects_what_python_finds_true(postgresql_engine: Engine, data: st.DataObject) -> None:
    _agree(postgresql_engine, data)
