"""Random expressions, random studies, and one table to ask both readers of the language the same thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from random import Random
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    case,
    distinct,
    exists,
    func,
    insert,
    select,
)

from hsm.catalog.columns import UtcDateTime
from policies import Expression, Order, PoolInfo, StudyFacts, evaluate
from policies.check import check_expression
from policies.compile import ColumnFactory, compile_expression, compile_order
from policies.expr import Named, Not
from policies.facts import AVAILABILITIES

POOLS = (
    PoolInfo("online", "disk", "online", "main"),
    PoolInfo("nearline", "disk", "nearline", "main"),
    PoolInfo("tape-a", "tape", "nearline", "main"),
    PoolInfo("tape-b", "tape", "offline", "vault"),
)
NAMES = tuple(pool.name for pool in POOLS)
GROUPS = ("online", "nearline", "tape-a", "tape", "disk", "offline", "vault", "main")
"""Pools, a kind or two, a tier that is no pool, and sites."""
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
    Column("referring_physician", Text),
    Column("birth_date", Text),
    Column("legal_hold", Boolean, nullable=False),
    Column("retain_until", Text),
    Column("availability", Text, nullable=False),
    Column("recalls", Integer, nullable=False),
)
WORDS = Table(
    "agreement_words",
    metadata,
    Column("study", Text),
    Column("source", Text),
    Column("word", Text),
)
COPIES = Table(
    "agreement_copies",
    metadata,
    Column("study", Text),
    Column("package", Integer),
    Column("pool", Text),
    Column("site", Text),
    Column("verified", Integer),
)
"""Every package has a row for every pool."""
PLACES = Table(
    "agreement_places",
    metadata,
    Column("study", Text),
    Column("pool", Text),
    Column("since", UtcDateTime),
    Column("verified", UtcDateTime),
)
ACCESSES = Table("agreement_accesses", metadata, Column("study", Text), Column("at", UtcDateTime))
SETS = ("body_parts", "sop_classes", "series_descriptions", "stations", "tags")


def _copies(*pools: str) -> Any:
    each = (
        select(func.sum(case((COPIES.c.pool.in_(pools), COPIES.c.verified), else_=0)).label("n"))
        .where(COPIES.c.study == STUDY.c.study)
        .group_by(COPIES.c.package)
        .correlate(STUDY)
        .order_by("n")
        .limit(1)
    )
    return func.coalesce(each.scalar_subquery(), 0)


def _sites(site_by_pool: Mapping[str, str]) -> Any:
    assert site_by_pool == {pool.name: pool.site for pool in POOLS}
    good = case((COPIES.c.verified > 0, COPIES.c.site))
    each = (
        select(func.count(distinct(good)).label("n"))
        .where(COPIES.c.study == STUDY.c.study)
        .group_by(COPIES.c.package)
        .correlate(STUDY)
        .order_by("n")
        .limit(1)
    )
    return func.coalesce(each.scalar_subquery(), 0)


def _held(*pools: str) -> Any:
    return exists().where(PLACES.c.study == STUDY.c.study, PLACES.c.pool.in_(pools))


def _place(column: Column[Any]) -> Any:
    def of(pool: str) -> Any:
        found = select(column).where(PLACES.c.study == STUDY.c.study, PLACES.c.pool == pool)
        return found.scalar_subquery()

    return of


def _accesses(since: datetime) -> Any:
    found = select(func.count()).where(ACCESSES.c.study == STUDY.c.study, ACCESSES.c.at >= since)
    return found.correlate(STUDY).scalar_subquery()


def _having(source: str) -> Any:
    def having(test: Callable[[Any], Any]) -> Any:
        return exists().where(WORDS.c.study == STUDY.c.study, WORDS.c.source == source, test(WORDS.c.word))

    return having


def columns() -> dict[str, ColumnFactory]:
    return {
        **{column.name: column for column in STUDY.c if column.name != "study"},
        **{source: _having(source) for source in SETS},
        "copies": _copies,
        "sites": _sites,
        "held": _held,
        "resident_since": _place(PLACES.c.since),
        "verified_at": _place(PLACES.c.verified),
        "accesses": _accesses,
    }


# studies

TEXT_FACTS = (
    "institution",
    "source_ae",
    "accession",
    "description",
    "patient_id",
    "referring_physician",
)
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
    for name in TEXT_FACTS:
        values[name] = random.choice(TEXTS)
    values["birth_date"] = _date(random, now)
    values["retain_until"] = _date(random, now)
    values["legal_hold"] = random.random() < 0.5
    values["availability"] = random.choice(AVAILABILITIES)
    values["recalls"] = random.randint(0, 3)
    for name in SETS:
        some = random.sample(TEXTS, random.choice((0, 0, 1, 2, 3)))
        values[name] = tuple(text or "" for text in some)
    packages = tuple(
        {pool: random.choice((0, 0, 1, 2)) for pool in random.sample(NAMES, random.randint(0, len(NAMES)))}
        for _ in range(random.randint(1, 3))
    )
    copies = {pool: min(package.get(pool, 0) for package in packages) for pool in NAMES}
    held = {pool for pool in NAMES if copies[pool] or random.random() < 0.3}
    return StudyFacts(
        uid,
        values,
        copies,
        frozenset(held),
        packages,
        tuple(_moment(random, now) for _ in range(random.randint(0, 3))),
        {pool: _moment(random, now) for pool in held if random.random() < 0.8},
        {pool: _moment(random, now) for pool in held if random.random() < 0.8},
    )


def studies(now: datetime, count: int) -> st.SearchStrategy[list[StudyFacts]]:
    """Studies from a seed: many of them cost no more than one draw."""

    def make(seed: int) -> list[StudyFacts]:
        random = Random(seed)
        return [_study(random, now, str(number)) for number in range(count)]

    return st.integers(0, 2**32).map(make)


@cache
def fills() -> st.SearchStrategy[dict[str, float]]:
    return st.dictionaries(st.sampled_from(NAMES), st.sampled_from((0.0, 0.25, 0.5, 0.85, 1.0)))


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


PLACE_FACTS = ("resident", "verified")
FLAGS = ("legal_hold", "legal_hold = no", "legal_hold != no", "held(tape)", "held(online)", "not held(main)")


def _tags() -> list[st.SearchStrategy[str]]:
    """A set that is known even if it is empty: everything but is null may be asked."""
    quoted = st.sampled_from(QUOTED)
    return [
        st.builds(lambda op, v: f"tags {op} {v}", st.sampled_from(EQUALS), quoted),
        st.builds(
            lambda no, pattern: f"tags {no}like {pattern}",
            st.sampled_from(("", "not ")),
            st.sampled_from(PATTERNS),
        ),
        _among("tags", QUOTED),
    ]


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
        *(_text(fact) for fact in TEXT_FACTS),
        *(_ordered(f"copies({group})", numbers, (*ORDERED, *EQUALS)) for group in GROUPS),
        *(_ordered(f"fill({pool})", percentages, ORDERED) for pool in NAMES),
        *(_text(fact) for fact in ("body_part", "series_description", "station")),
        *_tags(),
        _null("sop_class"),
        _ordered("patient_age", _sorted_lengths(), ORDERED) | _null("patient_age"),
        _ordered("retention", _sorted_lengths(), ORDERED) | _null("retention"),
        _ordered("sites", numbers, (*ORDERED, *EQUALS)) | _among("sites", numbers),
        _ordered("recalls", numbers, (*ORDERED, *EQUALS)),
        *(_ordered(f"accesses({w})", numbers, (*ORDERED, *EQUALS)) for w in ("10 min", "1d", "30 days")),
        *(_ordered(f"{fact}({pool})", _sorted_lengths(), ORDERED) for fact in PLACE_FACTS for pool in NAMES),
        *(_null(f"{fact}({pool})") for fact in PLACE_FACTS for pool in ("online", "tape-b")),
        st.sampled_from(FLAGS),
        st.builds(
            lambda op, word: f"availability {op} {word}",
            st.sampled_from(EQUALS),
            st.sampled_from(AVAILABILITIES),
        ),
        _among("availability", AVAILABILITIES),
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
    sites = {pool.name: pool.site for pool in POOLS}
    rows: dict[Table, list[dict[str, Any]]] = {
        STUDY: [
            {"study": study.study, **{k: v for k, v in study.values.items() if k not in SETS}}
            for study in some
        ],
        WORDS: [
            {"study": study.study, "source": source, "word": word}
            for study in some
            for source in SETS
            for word in study.values[source]  # type: ignore[union-attr]
        ],
        COPIES: [
            {
                "study": study.study,
                "package": number,
                "pool": pool,
                "site": sites[pool],
                "verified": package.get(pool, 0),
            }
            for study in some
            for number, package in enumerate(study.packages)
            for pool in NAMES
        ],
        PLACES: [
            {
                "study": study.study,
                "pool": pool,
                "since": study.resident.get(pool),
                "verified": study.verified.get(pool),
            }
            for study in some
            for pool in study.held
        ],
        ACCESSES: [{"study": study.study, "at": at} for study in some for at in study.accesses],
    }
    with engine.connect() as connection:
        for table, each in rows.items():
            if each:
                connection.execute(insert(table), each)
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
    opposite = Expression(f"not ({text})", Not(0, 0, Named(0, 0, "it", expression)))
    values = {study.study: evaluate(expression, study, now, fill) for study in some}
    assert selected(engine, expression, some, now, fill) == {
        uid for uid, value in values.items() if value is True
    }
    assert selected(engine, opposite, some, now, fill) == {
        uid for uid, value in values.items() if value is False
    }
