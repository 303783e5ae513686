"""What a query reads: never a whole table where a key is given that has an index, on both databases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from hsm import terms
from hsm.availability import Reach
from hsm.bench import archive
from hsm.bench.archive import Shape
from hsm.bench.fill import fill, settle
from hsm.catalog import find
from hsm.catalog.engine import Catalog
from hsm.model import Tier
from hsm.terms import AnyOf, Exact, Field, Level, Range, Term, Wildcard

SHAPE = Shape(3000, studies_per_day=20)
REACH = Reach({"online": Tier.ONLINE, "nearline": Tier.NEARLINE, "vault": Tier.OFFLINE})
STUDY = 1234
LARGE = "patient|study|series|instance|package|copy"
# A scan of a table, or of an index from end to end: PostgreSQL names a condition where it has one.
WHOLE = re.compile(
    rf"Seq Scan on ({LARGE})\b|SCAN ({LARGE})\b"
    rf"|Index (Only )?Scan using \w+ on ({LARGE})\b(?!.*\n *Index Cond)"
)

Wanted = dict[Field, Term]
Statement = tuple[str, Any, str | None]


@pytest.fixture
def filled(catalog: Catalog) -> Catalog:
    fill(catalog, archive.batches(SHAPE))
    settle(catalog)
    return catalog


@contextmanager
def noted(catalog: Catalog) -> Iterator[list[Statement]]:
    """Statements with their parameters and the name of the server-side cursor, if there is one."""
    statements: list[Statement] = []

    def note(_: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        statements.append((statement, parameters, getattr(cursor, "name", None)))

    event.listen(catalog.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(catalog.engine, "before_cursor_execute", note)


def plans(session: Session, statements: list[Statement]) -> list[str]:
    connection = session.connection()
    sqlite = connection.dialect.name == "sqlite"
    explain = "EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN "
    if not sqlite:
        # So few rows are read as quickly without an index; the question is whether one can be used.
        for other in ("seqscan", "hashjoin", "mergejoin"):
            connection.exec_driver_sql(f"SET LOCAL enable_{other} = off")
    return [
        "\n".join(str(row[-1]) for row in connection.exec_driver_sql(explain + statement, parameters))
        for statement, parameters, _ in statements
        if statement.startswith("SELECT")
    ]


def whole_tables(catalog: Catalog, level: Level, wanted: Wanted) -> tuple[int, list[str]]:
    """How many match, and the plans of all statements it took that read a large table whole."""
    with catalog.read() as session:
        with noted(catalog) as statements:
            count = len(list(find.find(session, level, wanted, REACH)))
        found = plans(session, statements)
        assert len(found) >= 1 + 3 * bool(count)
        return count, [plan for plan in found if WHOLE.search(plan)]


def name(group: int) -> Term:
    patient = next(each for each in range(SHAPE.patients) if archive.patient_name(SHAPE, each)[group])
    text = archive.patient_name(SHAPE, patient)[group]
    assert text is not None
    term = terms.name_term(text.partition("^")[0][:-1] + "*")
    assert term is not None
    return term


def queries() -> dict[str, tuple[Level, Wanted]]:
    day = archive.day_of(SHAPE, STUDY)
    uids = AnyOf(tuple(Exact(archive.study_uid(number)) for number in range(0, 400, 40)))
    series = AnyOf(tuple(Exact(archive.series_uid(number, 1)) for number in range(0, 400, 40)))
    image = Exact(next(archive.instance_uids(SHAPE, STUDY, 0)))
    study = Exact(archive.study_uid(STUDY))
    physician = terms.name_term(f"{archive.syllables(7, archive.SYLLABLES, 3)}*")
    assert physician is not None
    patient_id = Exact(f"P{archive.patient_of(SHAPE, STUDY):08}")
    return {
        "patient ID": (Level.STUDY, {Field.PATIENT_ID: patient_id}),
        "patient ID, its beginning": (Level.PATIENT, {Field.PATIENT_ID: Wildcard("P0000123*")}),
        "patient ID for series": (Level.SERIES, {Field.PATIENT_ID: patient_id}),
        "accession number": (Level.STUDY, {Field.ACCESSION: Exact(archive.accession(STUDY))}),
        "name prefix": (Level.STUDY, {Field.PATIENT_NAME: name(0)}),
        "ideographic prefix": (Level.STUDY, {Field.PATIENT_NAME: name(1)}),
        "phonetic prefix": (Level.STUDY, {Field.PATIENT_NAME: name(2)}),
        "patients by name": (Level.PATIENT, {Field.PATIENT_NAME: name(0)}),
        "referring physician": (Level.STUDY, {Field.REFERRING_PHYSICIAN: physician}),
        "day": (Level.STUDY, {Field.STUDY_DATE: Exact(day)}),
        "days and modality": (
            Level.STUDY,
            {Field.STUDY_DATE: Range(day, day), Field.MODALITIES: Exact("CT")},
        ),
        "days and modality of series": (
            Level.SERIES,
            {Field.STUDY_DATE: Range(day, day), Field.MODALITY: Exact("CT")},
        ),
        "study UIDs": (Level.STUDY, {Field.STUDY_UID: uids}),
        "series of a study": (Level.SERIES, {Field.STUDY_UID: study}),
        "series UIDs": (Level.SERIES, {Field.SERIES_UID: series}),
        "images of a study": (Level.IMAGE, {Field.STUDY_UID: study}),
        "image UID": (Level.IMAGE, {Field.SOP_INSTANCE_UID: image}),
    }


def test_no_query_with_an_indexed_key_reads_a_whole_table(filled: Catalog) -> None:
    for what, (level, wanted) in queries().items():
        count, whole = whole_tables(filled, level, wanted)
        assert count > 0, what
        assert whole == [], what


def test_the_plans_would_show_a_whole_table_read(filled: Catalog) -> None:
    _, whole = whole_tables(filled, Level.STUDY, {Field.STUDY_DESCRIPTION: Wildcard("Thorax*x")})
    assert len(whole) == 1


def test_the_first_match_waits_for_few_others(filled: Catalog) -> None:
    with filled.read() as session, noted(filled) as statements:
        stream = find.find(session, Level.STUDY, {Field.STUDY_DATE: Range("2010", None)}, REACH)
        assert next(stream).values[Field.STUDY_UID] == archive.study_uid(0)
        selects = [parameters for statement, parameters, _ in statements if statement.startswith("SELECT")]
        assert len(selects) <= 4
        assert max(len(parameters) for parameters in selects) <= 3 * find.ROWS_AT_FIRST
        assert sum(1 for _ in stream) == SHAPE.studies - 1


def test_postgresql_streams_from_a_server_side_cursor_planned_for_the_whole_answer(
    pg_catalog: Catalog,
) -> None:
    with pg_catalog.read() as session, noted(pg_catalog) as statements:
        assert list(find.find(session, Level.STUDY, {}, REACH)) == []
    assert [(statement[:30], bool(cursor)) for statement, _, cursor in statements] == [
        ("SET LOCAL cursor_tuple_fractio", False),
        ("SELECT study.pk \nFROM study \nW", True),
    ]
