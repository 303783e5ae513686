"""A catalog of the first schema with an archive in it, brought to the second: nothing lost, all filled in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from alembic import command
from sqlalchemy import Engine, text

from hsm.catalog import facts, journal, placements
from hsm.catalog.check import check
from hsm.catalog.engine import Catalog, open_engine
from hsm.catalog.upgrade import _config, current_revision, upgrade
from hsm.clock import ManualClock

AT = "2026-01-01 00:00:00.000000"
CT, SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.11"


@pytest.fixture
def old(catalog_url: str) -> Iterator[Engine]:
    """An empty catalog of the first schema."""
    engine = open_engine(catalog_url)
    with engine.execution_options(hsm_write=True).begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    yield engine
    engine.dispose()


def _insert(engine: Engine, table: str, **values: object) -> None:
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join(f":{name}" for name in values)
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)


def _study(engine: Engine, pk: int, packages: int, **values: object) -> None:
    given: dict[str, object] = dict.fromkeys(
        (
            "date",
            "time",
            "study_id",
            "accession",
            "description",
            "referring_physician",
            "referring_alphabetic",
            "institution",
            "charset",
            "source_ae",
        ),
        "",
    )
    given |= dict.fromkeys(("first_received", "last_received", "last_accessed"), AT)
    given |= {"n_series": 2, "n_instances": 2, "n_bytes": 20, "unsealed": 0, "modalities": "\\CT\\SR\\"}
    _insert(engine, "study", pk=pk, patient_pk=1, uid=f"1.2.{pk}", packages=packages, **{**given, **values})


def _series(engine: Engine, pk: int, study_pk: int, body_part: str, station: str, class_pk: int) -> None:
    _insert(
        engine,
        "series",
        pk=pk,
        study_pk=study_pk,
        uid=f"1.2.{study_pk}.{pk}",
        modality="CT",
        number=pk,
        description="",
        body_part=body_part,
        date="",
        time="",
        station=station,
        n_instances=1,
    )
    _insert(
        engine,
        "instance",
        pk=pk,
        size=10,
        offset=None,
        series_pk=pk,
        package_pk=None,
        number=1,
        version=0,
        class_pk=class_pk,
        syntax_pk=1,
        digest=bytes([pk]) * 32,
        uid=bytes([pk, 1]),
    )


def _package(engine: Engine, pk: int, study_pk: int, number: int, **copies: str) -> None:
    _insert(
        engine,
        "package",
        pk=pk,
        study_pk=study_pk,
        number=number,
        key=f"k{pk}",
        size=10,
        digest=bytes([pk]) * 32,
        n_instances=2,
        sealed_at=AT,
    )
    for name, state in copies.items():
        _insert(
            engine,
            "copy",
            package_pk=pk,
            volume_pk=VOLUMES[name][0],
            state=state,
            locator="a",
            position=None,
            written_at=AT,
            verified_at=AT,
        )


VOLUMES = {
    "online": (1, "online", "active"),
    "t1": (2, "tape-a", "full"),
    "t2": (3, "tape-a", "active"),
    "bad": (4, "tape-a", "suspect"),
}


@pytest.fixture
def filled(old: Engine) -> Engine:
    _insert(
        old,
        "patient",
        pk=1,
        key="P1\\",
        patient_id="P1",
        issuer="",
        name="A",
        name_alphabetic="a",
        birth_date="19800101",
        sex="F",
    )
    for pk, uid in ((1, CT), (2, SR)):
        _insert(old, "name", pk=pk, uid=uid)
    for name, (pk, pool, state) in VOLUMES.items():
        _insert(
            old,
            "volume",
            pk=pk,
            name=name,
            uuid=name,
            pool=pool,
            state=state,
            removable=True,
            capacity=1000,
            used=100,
            library="lib",
            place="slot",
            element=pk,
            shelf="",
            error="",
            created_at=AT,
        )
    _study(old, 1, 1)
    _series(old, 1, 1, "CHEST", "CT1", 1)
    _series(old, 2, 1, "HEAD", "", 2)
    _package(old, 1, 1, 1, online="verified", t1="verified", t2="verified")
    _study(old, 2, 2)
    _series(old, 3, 2, "", "", 1)
    _package(old, 2, 2, 1, online="released", t1="verified", bad="verified")
    _package(old, 3, 2, 2, online="verified")
    _study(old, 3, 0, unsealed=1)
    _series(old, 4, 3, "CHEST", "CT1", 1)
    for pk, finished in ((1, AT), (2, None)):
        _insert(
            old,
            "run",
            pk=pk,
            policy="p",
            policy_digest=bytes(32),
            started_at=AT,
            finished_at=finished,
            matched=7,
            requested=6,
            refused=1,
        )
    for number, at in enumerate((AT, AT, "2026-02-01 00:00:00.000000")):
        _insert(
            old,
            "request",
            kind="recall",
            key=f"r{number}",
            state="done",
            priority=10,
            study_pk=2,
            reason="",
            detail="{}",
            attempts=1,
            error="",
            worker="",
            not_before=at,
            created_at=at,
            finished_at=at,
        )
    _insert(
        old,
        "decision",
        run_pk=1,
        study_pk=1,
        rule="r",
        action="copy",
        pool="tape-a",
        reason="x",
        request_pk=1,
    )
    with old.begin() as connection:
        request = connection.execute(text("SELECT min(pk) FROM request")).scalar_one()
    _insert(old, "waiter", request_pk=request, who="C-MOVE", since=AT)
    return old


TABLES = (
    *("patient", "study", "series", "instance", "package", "copy", "volume", "name"),
    *("run", "decision", "request", "waiter", "journal"),
)


def _dump(engine: Engine, table: str, columns: list[str]) -> list[tuple[object, ...]]:
    listed = ", ".join(f'"{column}"' for column in columns)
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT {listed} FROM {table} ORDER BY 1")).all()
    return [tuple(bytes(part) if isinstance(part, memoryview) else part for part in row) for row in rows]


def _columns(engine: Engine, table: str) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(text(f"SELECT * FROM {table}")).keys())


def test_every_row_is_kept(filled: Engine) -> None:
    names = {table: _columns(filled, table) for table in TABLES}
    names["run"] = [name for name in names["run"] if name != "finished_at"]  # the one that it mends
    before = {table: _dump(filled, table, names[table]) for table in TABLES}
    upgrade(filled)
    assert current_revision(filled) != "0001"
    assert {table: _dump(filled, table, names[table]) for table in TABLES} == before


def test_every_sealed_study_gets_its_placement_and_its_words(filled: Engine, clock: ManualClock) -> None:
    upgrade(filled)
    catalog = Catalog(filled, clock)
    with catalog.read() as session:
        query = text(
            "SELECT study.uid, pattern FROM study"
            " LEFT JOIN placement ON placement.pk = placement_pk ORDER BY 1"
        )
        assert [tuple(row) for row in session.execute(query)] == [
            ("1.2.1", "online=1,tape-a=2"),
            ("1.2.2", "online=1;tape-a=1"),
            ("1.2.3", None),
        ]
        first, second = facts.read(session, [1, 2])
    assert first.values["body_parts"] == ("CHEST", "HEAD")
    assert first.values["stations"] == ("CT1",)
    assert first.values["sop_classes"] == (CT, SR)
    assert second.values["body_parts"] == ()
    assert second.values["sop_classes"] == (CT,)
    assert (first.values["recalls"], second.values["recalls"]) == (0, 2)


def test_what_the_upgrade_fills_in_is_what_the_software_would_have_kept(
    filled: Engine, clock: ManualClock
) -> None:
    upgrade(filled)
    catalog = Catalog(filled, clock)
    kept = _dump(filled, "study", ["pk", "placement_pk", "body_parts", "stations", "sop_classes"])
    with catalog.write() as session:
        placements.refresh(session, [1, 2])
    assert _dump(filled, "study", ["pk", "placement_pk", "body_parts", "stations", "sop_classes"]) == kept
    with catalog.read() as session:
        assert [each for each in check(session) if each.check == "study-placement"] == []


def test_a_run_that_a_crash_left_open_is_closed(filled: Engine) -> None:
    upgrade(filled)
    with filled.connect() as connection:
        rows = connection.execute(text("SELECT pk, state, finished_at IS NULL, matched FROM run ORDER BY pk"))
        assert [tuple(row) for row in rows] == [(1, "finished", False, 7), (2, "abandoned", False, 7)]


def test_an_archive_of_the_first_schema_goes_on_after_the_upgrade(filled: Engine, clock: ManualClock) -> None:
    """Constraints, triggers and the journal of both schemas work on the upgraded tables."""
    upgrade(filled)
    catalog = Catalog(filled, clock)
    with catalog.write() as session:
        session.execute(text("UPDATE request SET kind = 'export' WHERE key = 'r0'"))
        journal.append(session, clock.now(), "test", "upgraded", "catalog", "0002", {})
    with pytest.raises(Exception, match="kind"), catalog.write() as session:
        session.execute(text("UPDATE request SET kind = 'nonsense' WHERE key = 'r0'"))
    with pytest.raises(Exception, match="append-only"), catalog.write() as session:
        session.execute(text("DELETE FROM journal"))
    with catalog.read() as session:
        if filled.dialect.name == "sqlite":
            assert session.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
            assert session.execute(text("PRAGMA foreign_key_check")).all() == []
