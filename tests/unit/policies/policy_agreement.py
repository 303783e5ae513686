"""Random expressions, random studies, and one table to ask both readers of the language the same thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
)

from hsm.catalog.tables import UtcDateTime
from policies import Expression, StudyFacts, evaluate
from policies.check import check_expression
from policies.compile import ColumnFactory, compile_expression
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


@st.composite
def moments(draw: st.DrawFn, now: datetime) -> datetime:
    """Times whose distance from now is about one that expressions name, the edges among them."""
    nudge = draw(st.sampled_from((-INSTANT, timedelta(0), INSTANT, timedelta(hours=-1))))
    return (now - draw(st.sampled_from(LENGTHS)) + nudge).astimezone(UTC)


@st.composite
def dates(draw: st.DrawFn, now: datetime) -> str | None:
    days = draw(st.sampled_from((0, 1, 2, 14, 29, 30, 31, 364, 365, 366, -1, -40)))
    near = (now.date() - timedelta(days=days)).strftime("%Y%m%d")
    return draw(st.sampled_from((near, near, near, "", None, *DATES)))


@st.composite
def studies(draw: st.DrawFn, now: datetime, uid: str = "1") -> StudyFacts:
    codes = draw(st.lists(st.sampled_from(("CT", "SR", "MR", "PT", "C")), unique=True, max_size=3))
    empty = draw(st.sampled_from(("", None, "\\", "\\\\")))
    values = {
        "modalities": "\\" + "\\".join(sorted(codes)) + "\\" if codes else empty,
        "study_date": draw(dates(now)),
        "received_at": draw(moments(now)),
        "accessed_at": draw(moments(now)),
        "size": draw(st.sampled_from(SIZES)),
        "instances": draw(st.integers(0, 4)),
    }
    values |= {name: draw(st.sampled_from(TEXTS)) for name in ("institution", "source_ae", "accession")}
    values |= {name: draw(st.sampled_from(TEXTS)) for name in ("description", "patient_id")}
    copies = draw(st.dictionaries(st.sampled_from(POOLS), st.integers(0, 3)))
    return StudyFacts(uid, values, copies)


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
    pool = st.sampled_from(POOLS)
    numbers = ("0", "1", "2", "3")
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
        st.sampled_from(("institution", "source_ae", "accession", "description", "patient_id")).flatmap(
            _text
        ),
        pool.flatmap(lambda name: _ordered(f"copies({name})", numbers, (*ORDERED, *EQUALS))),
        pool.flatmap(lambda name: _ordered(f"fill({name})", ("0%", "25%", "50.0%", "85%", "100%"), ORDERED)),
        st.sampled_from(("always", "never")),
    )


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


def selected(
    engine: Engine,
    expression: Expression,
    some: Sequence[StudyFacts],
    now: datetime,
    fill: Mapping[str, float],
) -> set[str]:
    """The studies that the compiled expression finds."""
    rows = [{"study": study.study, **study.values} for study in some]
    copies = [
        {"study": study.study, "pool": pool, "verified": count}
        for study in some
        for pool, count in study.copies.items()
    ]
    with engine.connect() as connection:
        connection.execute(delete(STUDY))
        connection.execute(delete(COPIES))
        connection.execute(insert(STUDY), rows)
        if copies:
            connection.execute(insert(COPIES), copies)
        condition = compile_expression(expression, columns(), now, fill)
        found = set(connection.execute(select(STUDY.c.study).where(condition)).scalars())
        connection.rollback()
    return found


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
