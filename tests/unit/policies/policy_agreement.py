"""Random expressions, random studies, and one table to ask both readers of the language the same thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from random import Random
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    insert,
    select,
)

from hsm.catalog.columns import UtcDateTime
from policies import Expression, Order, StudyFacts, evaluate
from policies.check import check_expression
from policies.compile import ColumnFactory, compile_expression, compile_order
from policies.expr import Not

POOLS = ("online", "nearline", "tape-a")
NOWS = (
    datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC),
    datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=8))),
)
INSTANT = timedelta(microseconds=1)

metadata = MetaData()
STUDY = Table(
    "agreement_study",
    metadata,
    Column("study", Text, primary_key=True),
    Column("modalities", Text),
    Column("study_date", Text),
    Column("received_at", UtcDateTime, nullable=False),
    Column("accessed_at", UtcDateTime, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("instances", Integer, nullable=False),
    Column("institution", Text),
    Column("source_ae", Text),
    Column("accession", Text),
    Column("description", Text),
    Column("patient_id", Text),
)
COPIES = Table(
    "agreement_copies",
    metadata,
    Column("study", Text, primary_key=True),
    Column("pool", Text, primary_key=True),
    Column("verified", Integer, nullable=False),
)


def columns() -> dict[str, ColumnFactory]:
    def copies(pool: str) -> Any:
        found = select(COPIES.c.verified).where(COPIES.c.study == STUDY.c.study, COPIES.c.pool == pool)
        return func.coalesce(found.scalar_subquery(), 0)

    return {column.name: column for column in STUDY.c if column.name != "study"} | {"copies": copies}


# studies

TEXTS = (
    "",
    None,
    "CT",
    "ct",
    "CT Thorax",
    "A*b",
    "A?b",
    "50%_done",
    "50%-done",
    "!bang!",
    "O'Neil",
    "Ärzte",
    "[x]",
    "x\\y",
    "日本",
)
LENGTHS = tuple(
    timedelta(**{unit: number})  # type: ignore[arg-type]
    for unit, number in (
        ("seconds", 0),
        ("minutes", 10),
        ("hours", 36),
        ("days", 1),
        ("days", 30),
        ("days", 365),
    )
)
WRITTEN_LENGTHS = (
    "0s",
    "10 minutes",
    "36h",
    "1.5 days",
    "1d",
    "30 days",
    "1 month",
    "1 year",
    "12 months",
    "2 weeks",
)
SIZES = (0, 1, 999, 1000, 1024, 500_000_000, 3 * 2**39)
WRITTEN_SIZES = ("0", "1 B", "999 B", "1 kB", "1KiB", "500 MB", "1.5 TiB")
DATES = ("20240131", "20231231", "19991231", "18950101", "18941231", "20260301")
WRITTEN_DATES = ("2024-01-31", "2023-12-31", "1999-12-31", "1895-01-01", "2026-03-01")


def _moment(random: Random, now: datetime) -> datetime:
    """A time whose distance from now is about one that expressions name, the edges among them."""
    nudge = random.choice((-INSTANT, timedelta(0), INSTANT, timedelta(hours=-1)))
    return (now - random.choice(LENGTHS) + nudge).astimezone(UTC)


def _date(random: Random, now: datetime) -> str | None:
    days = random.choice((0, 1, 2, 14, 29, 30, 31, 364, 365, 366, -1, -40))
    near = (now.date() - timedelta(days=days)).strftime("%Y%m%d")
    return random.choice((near, near, near, "", None, *DATES))


def _study(random: Random, now: datetime, uid: str) -> StudyFacts:
    codes = random.sample(("CT", "SR", "MR", "PT", "C"), random.randint(0, 3))
    values: dict[str, Any] = {
        "modalities": "\\" + "\\".join(sorted(codes)) + "\\"
        if codes
        else random.choice(("", None, "\\", "\\\\")),
        "study_date": _date(random, now),
        "received_at": _moment(random, now),
        "accessed_at": _moment(random, now),
        "size": random.choice(SIZES),
        "instances": random.randint(0, 4),
    }
    for name in ("institution", "source_ae", "accession", "description", "patient_id"):
        values[name] = random.choice(TEXTS)
    pools = random.sample(POOLS, random.randint(0, len(POOLS)))
    return StudyFacts(uid, values, {pool: random.randint(0, 3) for pool in pools})


def studies(now: datetime, count: int) -> st.SearchStrategy[list[StudyFacts]]:
    """Studies from a seed: many of them cost no more than one draw."""

    def make(seed: int) -> list[StudyFacts]:
        random = Random(seed)
        return [_study(random, now, str(number)) for number in range(count)]

    return st.integers(0, 2**32).map(make)


@cache
def fills() -> st.SearchStrategy[dict[str, float]]:
    return st.dictionaries(st.sampled_from(POOLS), st.sampled_from((0.0, 0.25, 0.5, 0.85, 1.0)))


# expressions, as text: parse and check are proved with them

ORDERED = ("<", "<=", ">", ">=")
EQUALS = ("=", "!=")


def _ordered(fact: str, values: Sequence[str], operators: Sequence[str]) -> st.SearchStrategy[str]:
    value = st.sampled_from(values)
    compared = st.builds(lambda op, v: f"{fact} {op} {v}", st.sampled_from(operators), value)
    turned = st.builds(lambda op, v: f"{v} {op} {fact}", st.sampled_from(operators), value)
    pairs = [(low, high) for i, low in enumerate(values) for high in values[i:]]
    between = st.builds(
        lambda no, pair: f"{fact} {no}between {pair[0]} and {pair[1]}",
        st.sampled_from(("", "not ")),
        st.sampled_from(pairs),
    )
    return compared | turned | between


def _among(fact: str, values: Sequence[str]) -> st.SearchStrategy[str]:
    chosen = st.lists(st.sampled_from(values), min_size=1, max_size=3).map(", ".join)
    return st.builds(lambda no, some: f"{fact} {no}in ({some})", st.sampled_from(("", "not ")), chosen)


def _null(fact: str) -> st.SearchStrategy[str]:
    return st.sampled_from((f"{fact} is null", f"{fact} is not null"))


def _quoted(text: str) -> str:
    return "'" + "".join(f"\\{char}" if char in "\\'*?" else char for char in text) + "'"


QUOTED = [_quoted(text) for text in TEXTS if text]
PATTERNS = (
    "'*'",
    "'?'",
    "'CT*'",
    "'ct*'",
    "'*x*'",
    "'A?b'",
    r"'A\*b'",
    r"'A\?b'",
    "'*%*'",
    "'*_done'",
    "'!*'",
)
PATTERNS = (*PATTERNS, "'[x]'", "'*[*'", r"'x\\?'", "'Ä*'", "'??'", "'*!'", "'*\\'*'", "CT")


def _text(fact: str) -> st.SearchStrategy[str]:
    compared = st.builds(lambda op, v: f"{fact} {op} {v}", st.sampled_from(EQUALS), st.sampled_from(QUOTED))
    like = st.builds(
        lambda no, pattern: f"{fact} {no}like {pattern}",
        st.sampled_from(("", "not ")),
        st.sampled_from(PATTERNS),
    )
    return compared | like | _among(fact, QUOTED) | _null(fact)


def _sorted_lengths() -> list[str]:
    return ["0s", "10 min", "1d", "36h", "2 weeks", "30 days", "1 year"]


def _tests() -> st.SearchStrategy[str]:
    codes = ("CT", "SR", "C", "PT")
    numbers = ("0", "1", "2", "3")
    percentages = ("0%", "25%", "50.0%", "85%", "100%")
    return st.one_of(
        _ordered("age", _sorted_lengths(), ORDERED) | _null("age"),
        _ordered("idle", _sorted_lengths(), ORDERED),
        _ordered("received", _sorted_lengths(), ORDERED),
        st.builds(
            lambda fact, v: f"{fact} > {v}",
            st.sampled_from(("age", "idle")),
            st.sampled_from(WRITTEN_LENGTHS),
        ),
        _ordered("size", WRITTEN_SIZES, (*ORDERED, *EQUALS)) | _among("size", WRITTEN_SIZES),
        _ordered("instances", numbers, (*ORDERED, *EQUALS)) | _among("instances", numbers),
        _ordered("study_date", sorted(WRITTEN_DATES), (*ORDERED, *EQUALS)) | _null("study_date"),
        _among("study_date", WRITTEN_DATES),
        _among("modality", codes) | _null("modality"),
        st.builds(lambda op, code: f"modality {op} {code}", st.sampled_from(EQUALS), st.sampled_from(codes)),
        *(_text(fact) for fact in ("institution", "source_ae", "accession", "description", "patient_id")),
        *(_ordered(f"copies({pool})", numbers, (*ORDERED, *EQUALS)) for pool in POOLS),
        *(_ordered(f"fill({pool})", percentages, ORDERED) for pool in POOLS),
        st.sampled_from(("always", "never")),
    )


@cache
def expressions() -> st.SearchStrategy[str]:
    return st.recursive(
        _tests(),
        lambda inner: st.one_of(
            st.lists(inner, min_size=2, max_size=4).map(lambda parts: f"({' and '.join(parts)})"),
            st.lists(inner, min_size=2, max_size=4).map(lambda parts: f"({' or '.join(parts)})"),
            inner.map(lambda part: f"not ({part})"),
        ),
        max_leaves=8,
    )


def checked(text: str) -> Expression:
    """The expression, which must be without error."""
    result = check_expression(text, POOLS)
    assert result.expression is not None, (text, result.faults)
    return result.expression


@contextmanager
def _filled(engine: Engine, some: Sequence[StudyFacts]) -> Iterator[Connection]:
    """A connection that sees the tables filled with ``some``, for as long as it is open."""
    rows = [{"study": study.study, **study.values} for study in some]
    copies = [
        {"study": study.study, "pool": pool, "verified": count}
        for study in some
        for pool, count in study.copies.items()
    ]
    with engine.connect() as connection:
        connection.execute(insert(STUDY), rows)
        if copies:
            connection.execute(insert(COPIES), copies)
        yield connection
        connection.rollback()


def rows_where(engine: Engine, condition: ColumnElement[bool], some: Sequence[StudyFacts]) -> set[str]:
    """The studies that a compiled condition finds."""
    with _filled(engine, some) as connection:
        return set(connection.execute(select(STUDY.c.study).where(condition)).scalars())


def rows_in_order(engine: Engine, order: tuple[Order, ...], some: Sequence[StudyFacts]) -> list[str]:
    with _filled(engine, some) as connection:
        return list(
            connection.execute(select(STUDY.c.study).order_by(*compile_order(order, columns()))).scalars()
        )


def studies_with(now: datetime, each: Sequence[tuple[str, str | None, int]]) -> list[StudyFacts]:
    """Studies that differ in study date and days of idleness."""
    base = _study(Random(0), now, "").values
    return [
        StudyFacts(uid, {**base, "study_date": day, "accessed_at": now - timedelta(days=idle)})
        for uid, day, idle in each
    ]


def selected(
    engine: Engine,
    expression: Expression,
    some: Sequence[StudyFacts],
    now: datetime,
    fill: Mapping[str, float],
) -> set[str]:
    """The studies that the compiled expression finds."""
    return rows_where(engine, compile_expression(expression, columns(), now, fill), some)


def assert_agreement(
    engine: Engine, text: str, some: Sequence[StudyFacts], now: datetime, fill: Mapping[str, float]
) -> None:
    """Compiled and evaluated, the expression and its negation are true for the same studies.

    What is true neither way is null: so all three values are proved to be the same.
    """
    expression = checked(text)
    opposite = Expression(f"not ({text})", Not(0, 0, expression.root))
    values = {study.study: evaluate(expression, study, now, fill) for study in some}
    assert selected(engine, expression, some, now, fill) == {
        uid for uid, value in values.items() if value is True
    }
    assert selected(engine, opposite, some, now, fill) == {
        uid for uid, value in values.items() if value is False
    }
