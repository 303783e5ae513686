"""The views on both databases: the same answers, in values that JSON can say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, timedelta, timezone
from typing import Any

import pytest
from api_world import LONG_UID, NEW_UID, POOLS, TAPE_UID, fill
from sqlalchemy import delete, event
from sqlalchemy.orm import Session

from hsm.api.wire import jsonable
from hsm.availability import Reach
from hsm.catalog import views
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Waiter
from hsm.catalog.views import Page, StudyFilter
from hsm.errors import BadInput

REACH = Reach({pool.name: pool.tier for pool in POOLS})


@pytest.fixture
def session(catalog: Catalog) -> Iterator[Session]:
    with catalog.write() as writing:
        fill(writing, catalog)
    with catalog.read() as reading:
        yield reading


def test_every_view_answers_in_values_that_json_can_say(session: Session, catalog: Catalog) -> None:
    page = Page()
    shown = [
        views.overview(session, POOLS),
        views.find_studies(session, StudyFilter(), page, REACH),
        views.study(session, LONG_UID, REACH),
        views.locate(session, TAPE_UID, REACH),
        views.history(session, LONG_UID, page),
        views.queue(session, page),
        views.request(session, 2),
        views.volumes(session, page),
        views.volume(session, "T00001", page),
        views.mounts(session, catalog.clock.now()),
        views.mounts(session, catalog.clock.now(), every=True),
        views.runs(session, page),
        views.decisions(session, page),
    ]
    for each in shown:
        assert each
        assert json.loads(json.dumps(jsonable(each))) == jsonable(each)
    assert all(isinstance(sample.value, int) for sample in views.samples(shown[0]))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (StudyFilter(name="döe*"), [LONG_UID]),
        (StudyFilter(name="山田"), [LONG_UID]),
        (StudyFilter(text="RICHARD"), [NEW_UID, TAPE_UID]),
        (StudyFilter(text="doe_"), []),
        (StudyFilter(patient_id="P*", modality="MR"), [TAPE_UID]),
        (StudyFilter(uid="1.2.3.4.?"), [NEW_UID, TAPE_UID]),
        (StudyFilter(date="-20240101"), [TAPE_UID]),
    ],
)
def test_finding_is_the_same_on_both_databases(
    session: Session, wanted: StudyFilter, found: list[str]
) -> None:
    assert [study["uid"] for study in views.find_studies(session, wanted, Page(), REACH)] == found


def test_a_page_of_studies_costs_the_same_few_queries_however_many_there_are(
    session: Session, catalog: Catalog
) -> None:
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(catalog.engine, "before_cursor_execute", note)
    views.find_studies(session, StudyFilter(uid=LONG_UID), Page(), REACH)  # begins the transaction
    asked.clear()
    views.find_studies(session, StudyFilter(uid=LONG_UID), Page(), REACH)
    one, asked[:] = len(asked), []
    views.find_studies(session, StudyFilter(), Page(), REACH)
    assert len(asked) == one


def test_a_pool_that_is_configured_no_more_is_still_shown(session: Session) -> None:
    shown = views.overview(session, POOLS[:1])["pools"]
    assert (shown[0]["name"], shown[0]["tier"]) == ("online", "online")
    assert {(pool["name"], pool["tier"]) for pool in shown} == {
        ("online", "online"),
        ("nearline", ""),
        ("tape", ""),
    }


@pytest.mark.parametrize("bad", [{"limit": 0}, {"limit": 1001}, {"offset": -1}])
def test_a_page_has_bounds(bad: dict[str, int]) -> None:
    with pytest.raises(BadInput):
        Page(**bad)


@pytest.mark.parametrize(
    "date", ["2024", "2024011", "2024-01-10", "20240110-20240111-", "２０２４０１１０", "a-b"]
)
def test_a_date_range_is_dicom_s(date: str) -> None:
    with pytest.raises(BadInput):
        StudyFilter(date=date)


def test_times_are_said_in_utc_whatever_zone_they_come_in(catalog: Catalog) -> None:
    moment = catalog.clock.now()
    assert jsonable(moment.astimezone(timezone(timedelta(hours=9)))) == jsonable(moment.astimezone(UTC))
    with pytest.raises(TypeError):
        jsonable(object())


def test_a_mount_nobody_waits_for_says_the_reason_it_is_wanted(catalog: Catalog) -> None:
    with catalog.write() as writing:
        fill(writing, catalog)
        writing.execute(delete(Waiter))
    with catalog.read() as session:
        [mount] = views.mounts(session, catalog.clock.now())
    assert mount["waiters"] == [{"who": "policy keep", "since": catalog.clock.now()}]
