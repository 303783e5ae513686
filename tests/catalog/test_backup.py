"""A backup of the catalog: the same rows again, in either database, or nothing at all."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select

from hsm.bench.archive import Shape, batches
from hsm.bench.fill import fill
from hsm.catalog import backup, chaincheck, check, journal, placement
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Base, Copy, JournalHead, Study
from hsm.errors import ConfigError, Refused
from hsm.policyrun.frozen import frozen
from hsm.states import CopyState


def filled(catalog: Catalog) -> Catalog:
    fill(catalog, batches(Shape(30, series=2, instances=3, copies=2)))
    with catalog.write() as session:
        for pk in session.scalars(select(Copy.pk).order_by(Copy.pk).limit(3)).all():
            placement.move_copy(session, pk, CopyState.SUSPECT, catalog.clock.now(), "tést 张", why="a spot")
    return catalog


def taken(catalog: Catalog) -> io.BytesIO:
    file = io.BytesIO()
    with frozen(catalog) as session:
        backup.write(catalog, session, file)
    return file


def rows(catalog: Catalog) -> dict[str, list[tuple[Any, ...]]]:
    with catalog.read() as session:
        return {
            table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
        }


def is_empty(catalog: Catalog) -> bool:
    with catalog.read() as session:
        return not any(
            session.scalar(select(func.count()).select_from(table))
            for table in Base.metadata.sorted_tables
            if table.name != JournalHead.__tablename__
        )


def test_what_is_restored_is_what_was_there_and_the_journal_goes_on(
    catalog: Catalog, pg_catalog: Catalog
) -> None:
    """From SQLite and from PostgreSQL into PostgreSQL."""
    _compare(filled(catalog), pg_catalog)


def test_a_backup_of_postgresql_can_be_restored_into_sqlite(
    pg_catalog: Catalog, sqlite_catalog: Catalog
) -> None:
    _compare(filled(pg_catalog), sqlite_catalog)


def _compare(old: Catalog, new: Catalog) -> None:
    before, file = rows(old), taken(old)
    summary = backup.restore(new, file, "alice")
    after = rows(new)
    (entry,) = after["journal"][len(before["journal"]) :]
    assert "restored" in entry
    after["journal"].pop()
    after["journal_head"] = before["journal_head"]
    assert after == before
    assert summary.rows == sum(len(each) for each in before.values())
    with new.write() as session:
        assert list(chaincheck.verify(session)) == []
        assert [problem for problem in check.check(session) if problem.noun == "journal"] == []
        last = session.scalar(select(func.max(Study.pk)))
        copy = session.scalars(select(Study).limit(1)).one()
        values = {
            column.name: getattr(copy, column.name)
            for column in Study.__table__.columns
            if column.name not in ("pk", "uid")
        }
        added = Study(uid="9.9.9", **values)
        session.add(added)
        session.flush()
        assert last is not None
        assert added.pk > last, "keys go on behind those that were restored"


def test_a_copy_on_its_way_out_is_restored_after_the_one_that_lets_it_go(
    sqlite_catalog: Catalog, pg_catalog: Catalog
) -> None:
    filled(sqlite_catalog)
    with sqlite_catalog.write() as session:
        good = (CopyState.VERIFIED,)
        pair = session.execute(
            select(Copy.package_pk, func.min(Copy.pk))
            .where(Copy.state.in_(good))
            .group_by(Copy.package_pk)
            .having(func.count() == 2)
        ).first()
        assert pair is not None
        placement.move_copy(session, pair[1], CopyState.RELEASING, sqlite_catalog.clock.now(), "test")
    backup.restore(pg_catalog, taken(sqlite_catalog), "alice")
    assert len(rows(pg_catalog)["copy"]) == len(rows(sqlite_catalog)["copy"])


def test_a_backup_sees_one_moment_while_others_write(catalog: Catalog) -> None:
    filled(catalog)
    before = rows(catalog)
    file = io.BytesIO()
    with frozen(catalog) as session:
        session.execute(select(JournalHead.seq)).one()  # the snapshot begins here
        with catalog.write() as other:
            journal.append(other, catalog.clock.now(), "bob", "retired", "volume", "A1", {})
        summary = backup.write(catalog, session, file)
    assert summary.journal_seq == len(before["journal"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[: len(data) // 2], "no backup|damaged"),
        (lambda data: b"", "damaged|no backup"),
        (lambda data: _without(data, "series.jsonl"), "damaged"),
        (
            lambda data: _changed(data, "volume.jsonl", lambda text: text.replace("active", "full")),
            "volume.jsonl is not",
        ),
        (lambda data: _changed(data, "series.jsonl", lambda text: text[text.index("\n") + 1 :]), "series"),
        (
            lambda data: _changed(
                data, backup.MEMBER, lambda text: text.replace('"format": 1', '"format": 9')
            ),
            "9",
        ),
        (lambda data: _about(data, revision="0000"), "at revision 0000"),
    ],
)
def test_a_damaged_or_foreign_backup_restores_nothing(
    sqlite_catalog: Catalog, pg_catalog: Catalog, change: Callable[[bytes], bytes], said: str
) -> None:
    data = taken(filled(sqlite_catalog)).getvalue()
    changed = change(data)
    if changed == data:
        pytest.fail("the change changes nothing")
    with pytest.raises(ConfigError, match=said):
        backup.restore(pg_catalog, io.BytesIO(changed), "alice")
    assert is_empty(pg_catalog)


def test_a_backup_is_not_restored_over_a_catalog_that_holds_something(catalog: Catalog) -> None:
    file = taken(filled(catalog))
    before = rows(catalog)
    with pytest.raises(Refused, match="not empty"):
        backup.restore(catalog, file, "alice")
    assert rows(catalog) == before


def _rewritten(data: bytes, change: Callable[[str, bytes], bytes | None]) -> bytes:
    to = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return to.getvalue()


def _without(data: bytes, member: str) -> bytes:
    return _rewritten(data, lambda name, content: None if name == member else content)


def _changed(data: bytes, member: str, change: Callable[[str], str]) -> bytes:
    return _rewritten(
        data, lambda name, content: change(content.decode()).encode() if name == member else content
    )


def _about(data: bytes, **members: str) -> bytes:
    return _changed(data, backup.MEMBER, lambda text: json.dumps(json.loads(text) | members))
