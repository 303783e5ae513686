"""The real catalog's columns against the real catalog's values: what a run selects is what it decides on.

``test_policy_agreement`` proves the language on a table of its own; here the mapping from facts to the
catalog's tables is attacked, on an archive of studies in every state that they can be in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policy_agreement import DATES, LENGTHS, NOWS, POOLS, SIZES, TEXTS, checked, expressions, fills
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from hsm.catalog import facts, history, marks, placements, selecting, words
from hsm.catalog.engine import Catalog, open_engine
from hsm.catalog.tables import (
    Access,
    Copy,
    Instance,
    Name,
    Package,
    Patient,
    Series,
    Study,
    Volume,
)
from hsm.catalog.upgrade import upgrade
from hsm.clock import ManualClock
from policies import Expression, evaluate
from policies.compile import compile_expression, compile_order
from policies.expr import Not
from policies.facts import FACTS, Argument
from policies.policy import Order
from tests.examples import examples

NOW = NOWS[0]
STUDIES = 150
CODES = ("CT", "SR", "MR", "PT", "C")
COPY_STATES = ("writing", "written", "verified", "verified", "verified", "suspect", "released", "lost")
VOLUME_STATES = ("labelled", "active", "full", "suspect", "lost", "active")
PLACES = ("mounted", "slot", "drive", "shelf", "unknown")


def _moment(random: Random) -> datetime:
    nudge = random.choice((-1, 0, 1))
    return (NOW - random.choice(LENGTHS) + timedelta(microseconds=nudge)).astimezone(UTC)


def _day(random: Random) -> str:
    days = random.choice((0, 1, 2, 14, 29, 30, 31, 364, 365, 366, -1, -40))
    near = (NOW.date() - timedelta(days=days)).strftime("%Y%m%d")
    return random.choice((near, near, near, "", *DATES))


def _text(random: Random) -> str:
    return random.choice(TEXTS) or ""


def _volumes(session: Session, random: Random) -> list[int]:
    found = []
    for pool in (*POOLS, None):
        for number in range(6):
            place = random.choice(PLACES)
            if pool is not None and pool.tier == "online" and number != 3:
                place = "mounted"  # a disk's; what is carried about is never online
            row = Volume(
                name=f"{pool.name if pool else 'scratch'}{number}",
                uuid=f"{pool}{number}",
                pool=pool.name if pool else None,
                state=VOLUME_STATES[number],
                removable=True,
                capacity=1,
                used=0,
                library="lib",
                place=place,
                element=None,
                shelf="",
                error="",
                created_at=NOW,
            )
            session.add(row)
            session.flush()
            found.append(row.pk)
    return found


def _copies(session: Session, random: Random, package_pk: int, volumes: list[int]) -> None:
    for volume_pk in random.sample(volumes, random.choice((0, 1, 2, 3, 6, 12))):
        state = random.choice(COPY_STATES)
        session.add(
            Copy(
                package_pk=package_pk,
                volume_pk=volume_pk,
                state=state,
                locator="a",
                position=None,
                written_at=_moment(random) if random.random() < 0.8 else None,
                verified_at=_moment(random) if state == "verified" or random.random() < 0.5 else None,
            )
        )


def _study(session: Session, random: Random, number: int, names: list[int], volumes: list[int]) -> None:
    patient = Patient(
        key=f"P{number}\\",
        patient_id=_text(random),
        issuer="",
        name="",
        name_alphabetic="",
        birth_date=_day(random),
        sex="",
    )
    session.add(patient)
    session.flush()
    codes = sorted(random.sample(CODES, random.randint(0, 3)))
    texts = ("institution", "source_ae", "accession", "description", "referring_physician")
    empty = dict.fromkeys(("time", "study_id", "referring_alphabetic", "charset"), "")
    counted = {"n_series": 0, "n_instances": random.randint(0, 4), "n_bytes": random.choice(SIZES)}
    packages = random.choice((0, 1, 1, 1, 2, 3))
    study = Study(
        patient_pk=patient.pk,
        uid=f"1.2.{number}",
        date=_day(random),
        modalities="\\" + "\\".join(codes) + "\\" if codes else "",
        first_received=_moment(random),
        last_received=_moment(random),
        last_accessed=_moment(random),
        unsealed=0,
        packages=packages,
        retain_until=_day(random),
        recalls=random.randint(0, 3),
        tags=words.set_of(session, random.sample([text or "" for text in TEXTS], random.randint(0, 3))),
        **{name: _text(random) for name in texts},
        **counted,
        **empty,
    )
    session.add(study)
    session.flush()
    for each in range(random.randint(0, 3)):
        _series(session, random, study, each, names)
    for package in range(packages):
        row = Package(
            study_pk=study.pk,
            number=package + 1,
            key=f"{number}.{package}",
            size=7,
            digest=bytes(32),
            n_instances=0,
            sealed_at=NOW,
        )
        session.add(row)
        session.flush()
        _copies(session, random, row.pk, volumes)
    for _ in range(random.randint(0, 3)):
        kind = random.choice((history.RETRIEVE, history.RETRIEVE, history.QUERY))
        daily = kind == history.QUERY
        at = history.day_of(_moment(random)) if daily else _moment(random)
        known = select(Access.pk).where(Access.study_pk == study.pk, Access.at == at, Access.kind == kind)
        if session.scalar(known) is None:
            times = random.randint(1, 3)
            session.add(Access(**history._row(study.pk, at, kind, times=times, daily=daily)))
            session.flush()
    if random.random() < 0.3:
        marks.place_hold(session, study.uid, "court", NOW, "test")
        if random.random() < 0.5:
            marks.lift_hold(session, study.uid, "settled", NOW, "test")


def _series(session: Session, random: Random, study: Study, number: int, names: list[int]) -> None:
    row = Series(
        study_pk=study.pk,
        uid=f"{study.uid}.{number}",
        modality="CT",
        number=number,
        description=_text(random),
        body_part=_text(random),
        date="",
        time="",
        station=_text(random),
        n_instances=1,
    )
    session.add(row)
    session.flush()
    for each in range(random.randint(1, 2)):
        uid = f"{row.uid}.{each}"
        session.add(
            Instance(
                series_pk=row.pk,
                uid=uid,
                version=0,
                class_pk=random.choice(names),
                syntax_pk=names[0],
                number=1,
                size=1,
                digest=hashlib.sha256(uid.encode()).digest(),
                package_pk=None,
                offset=None,
            )
        )


def _archive(engine: Engine) -> Catalog:
    """Studies in every state, from a fixed seed."""
    upgrade(engine)
    catalog = Catalog(engine, ManualClock())
    random = Random(20260301)
    with catalog.write() as session:
        names = []
        for uid in ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.11"):
            name = Name(uid=uid)
            session.add(name)
            session.flush()
            names.append(name.pk)
        volumes = _volumes(session, random)
        for number in range(STUDIES):
            _study(session, random, number, names, volumes)
        session.flush()
        pks = session.scalars(select(Study.pk)).all()
        placements.refresh(session, pks)
        for pk in pks:
            session.execute(update(Study).where(Study.pk == pk).values(**words.said_by(session, pk)))
    return catalog


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    catalog = _archive(open_engine(f"sqlite:///{tmp_path_factory.mktemp('facts')}/catalog.db"))
    yield catalog
    catalog.close()


@pytest.fixture(scope="module")
def on_postgresql(request: pytest.FixtureRequest) -> Iterator[Catalog]:
    server = request.getfixturevalue("postgresql")
    url = server.create(migrated=False)
    catalog = _archive(open_engine(url))
    yield catalog
    catalog.close()
    server.drop(url)


def _candidates(session: Session) -> list[facts.Candidate]:
    pks = session.scalars(select(Study.pk).where(Study.packages > 0).order_by(Study.pk)).all()
    return list(facts.read(session, pks, POOLS))


def _selected(session: Session, expression: Expression, fill: dict[str, float]) -> set[int]:
    """By the way that a run goes: narrowed to placements, a page at a time."""
    where = [compile_expression(expression, facts.columns(POOLS), NOW, fill)]
    return {key for page in selecting.pages(session, where, size=40) for key in page.keys}


def _agree(catalog: Catalog, data: st.DataObject) -> None:
    text, fill = data.draw(expressions()), data.draw(fills())
    expression = checked(text)
    opposite = Expression(f"not ({text})", Not(0, 0, expression.root))
    with catalog.read() as session:
        values = {
            each.study_pk: evaluate(expression, each.facts(), NOW, fill) for each in _candidates(session)
        }
        assert len(values) > STUDIES / 2
        for asked, wanted in ((expression, True), (opposite, False)):
            assert _selected(session, asked, fill) == {pk for pk, value in values.items() if value is wanted}


slow_is_fine = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@settings(slow_is_fine, max_examples=examples(40))
@given(st.data())
def test_sqlite_selects_the_studies_that_their_values_match(sqlite: Catalog, data: st.DataObject) -> None:
    _agree(sqlite, data)


@settings(slow_is_fine, max_examples=examples(25))
@given(st.data())
def test_postgresql_selects_the_studies_that_their_values_match(
    on_postgresql: Catalog, data: st.DataObject
) -> None:
    _agree(on_postgresql, data)


@pytest.mark.parametrize("database", ["sqlite", "on_postgresql"])
def test_every_fact_of_the_language_has_a_column_and_a_value(
    database: str, request: pytest.FixtureRequest
) -> None:
    catalog: Catalog = request.getfixturevalue(database)
    columns = facts.columns(POOLS)
    assert {fact.source for fact in FACTS.values()} - set(columns) == {"fill"}
    with catalog.read() as session:
        (first, *_) = _candidates(session)
    plain = {fact.source for fact in FACTS.values() if fact.argument is Argument.NONE}
    assert plain - set(first.values) == set()


@pytest.mark.parametrize("database", ["sqlite", "on_postgresql"])
def test_the_archive_has_every_answer_in_it(database: str, request: pytest.FixtureRequest) -> None:
    """Else the tests above would prove little."""
    catalog: Catalog = request.getfixturevalue(database)
    with catalog.read() as session:
        found = _candidates(session)
        patterns = session.scalars(select(Study.placement_pk).distinct()).all()
    assert {each.values["availability"] for each in found} == {"ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE"}
    assert {each.values["legal_hold"] for each in found} == {True, False}
    assert {len(each.packages) for each in found} == {1, 2, 3}
    assert {count for each in found for count in each.copies.values()} >= {1, 2}
    assert any(each.held - set(each.copies) for each in found)
    assert len(patterns) > 30


@pytest.mark.parametrize("database", ["sqlite", "on_postgresql"])
@pytest.mark.parametrize("fact", [fact.name for fact in FACTS.values() if fact.orderable])
@pytest.mark.parametrize("descending", [True, False])
def test_a_run_that_is_cut_short_goes_on_in_order_without_gap_or_repetition(
    database: str, fact: str, descending: bool, request: pytest.FixtureRequest
) -> None:
    catalog: Catalog = request.getfixturevalue(database)
    columns: dict[str, Any] = facts.columns(POOLS)
    order = compile_order((Order(FACTS[fact], descending),), columns)
    with catalog.read() as session:
        whole = [key for page in selecting.pages(session, [], order, size=1000) for key in page.keys]
        pieces: list[int] = []
        after = None
        while True:
            page = next(selecting.pages(session, [], order, after, size=17), None)
            if page is None:
                break
            pieces += page.keys
            after = page.end
    assert pieces == whole
    assert len(set(whole)) == len(whole) > STUDIES / 2
