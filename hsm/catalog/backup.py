"""The whole catalog in one file, taken while it is in use, and put back into an empty one.

A ZIP with one member a table (``TABLE.jsonl``: an array of values a line) and, last, ``backup.json``: format,
schema revision, when, the columns, rows and SHA-256 of each member, and the journal's head. One snapshot sees
all of it. The values are the same on both databases: a backup of one can be put back into the other.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Column, Connection, LargeBinary, Table, case, func, insert, select, text, update
from sqlalchemy.orm import Session

from hsm.catalog import chainread, journal, pastdeletions, restored, upgrade
from hsm.catalog.columns import UtcDateTime
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Base, Copy, JournalHead
from hsm.errors import ConfigError, Refused

FORMAT = 1
MEMBER = "backup.json"
BATCH = 2000
"""Rows that are read or written at a time."""
COMPRESSION = 3
"""Of zlib: higher ones cost much time for a few per cent."""
LINE_BYTES_MAX = 64 << 20
Row = dict[str, Any]
_COPY = Base.metadata.tables[Copy.__tablename__]
_LAST = (*pastdeletions.TABLES, _COPY.name)
"""Tables whose rows the database takes only once everything else is there."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a backup holds."""

    at: datetime
    revision: str
    rows: int
    journal_seq: int
    journal_digest: str

    def record(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write a backup into, which has its name only when it is whole and durable.

    :raises FileExistsError: something has that name.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".hsm-backup-") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
        os.link(file.name, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write(catalog: Catalog, session: Session, to: IO[bytes]) -> Summary:
    """Write a backup of what a snapshot sees into a file that can be sought in.

    :param session: one in which everything is seen as of one moment.
    """
    now, tables = catalog.clock.now(), {}
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION) as file:
        for table in Base.metadata.sorted_tables:
            tables[table.name] = _dump(session, table, file)
        seq, digest = chainread.head(session)
        summary = Summary(
            now, upgrade.head_revision(), sum(each["rows"] for each in tables.values()), seq, digest.hex()
        )
        about = summary.record() | {"format": FORMAT, "at": now.isoformat(), "tables": tables}
        file.writestr(MEMBER, json.dumps(about, indent=1))
    return summary


def _dump(session: Session, table: Table, file: zipfile.ZipFile) -> dict[str, Any]:
    columns = list(table.columns)
    query = select(*columns).order_by(*_order(table)).execution_options(yield_per=BATCH)
    to_json = [_to_json(column) for column in columns]
    digest, count = hashlib.sha256(), 0
    with file.open(f"{table.name}.jsonl", "w", force_zip64=True) as member:
        for rows in session.execute(query).partitions(BATCH):
            lines = "".join(_line(row, to_json) for row in rows).encode()
            digest.update(lines)
            count += len(rows)
            member.write(lines)
    return {"columns": [column.name for column in columns], "rows": count, "sha256": digest.hexdigest()}


def _order(table: Table) -> list[Any]:
    keys = list(table.primary_key.columns)
    if table.name == Copy.__tablename__:
        # The database takes a copy on its way out only where another verified one is there.
        return [case((table.c.state == "releasing", 1), else_=0), *keys]
    return keys


def _line(row: Sequence[Any], to_json: Sequence[Callable[[Any], Any]]) -> str:
    values = [None if value is None else change(value) for change, value in zip(to_json, row, strict=True)]
    return json.dumps(values, ensure_ascii=True, separators=(",", ":")) + "\n"


def _to_json(column: Column[Any]) -> Callable[[Any], Any]:
    if isinstance(column.type, LargeBinary):
        return lambda value: bytes(value).hex()
    if isinstance(column.type, UtcDateTime):
        return lambda value: value.astimezone(UTC).isoformat()
    return lambda value: value


def _from_json(column: Column[Any]) -> Callable[[Any], Any]:
    if isinstance(column.type, LargeBinary):
        return bytes.fromhex
    if isinstance(column.type, UtcDateTime):
        return datetime.fromisoformat
    return lambda value: value


def read_summary(file: zipfile.ZipFile) -> tuple[Summary, Mapping[str, Any]]:
    """What a backup says of itself, and of each table.

    :raises ConfigError: it is no backup, or one that this software cannot read.
    """
    try:
        about = json.loads(file.read(MEMBER))
        if about["format"] != FORMAT:
            raise ConfigError(f"the backup has format {about['format']}; this software reads {FORMAT}")
        at = datetime.fromisoformat(about["at"])
        names = ("revision", "rows", "journal_seq", "journal_digest")
        return Summary(at, *(about[name] for name in names)), about["tables"]
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"this is no backup of a catalog: {MEMBER}: {error!r}") from error


def restore(catalog: Catalog, source: IO[bytes], actor: str) -> Summary:
    """Put a backup back, whole or not at all, into a catalog that was just made. The journal goes on from the
    backup's last record with one that says so.

    :raises ConfigError: it is no backup, it is damaged, or of another revision.
    :raises Refused: the catalog holds something.
    """
    try:
        with zipfile.ZipFile(source) as file:
            summary, tables = read_summary(file)
            if summary.revision != upgrade.head_revision():
                raise ConfigError(
                    f"the backup is of a catalog at revision {summary.revision}, this software's is "
                    f"{upgrade.head_revision()}: restore it with the version that made it, then upgrade"
                )
            with catalog.write() as session:
                _require_empty(session)

                def rows(table: Table) -> Iterator[list[Row]]:
                    return _rows(table, file, tables[table.name])

                for table in Base.metadata.sorted_tables:
                    if table.name not in _LAST:
                        for some in rows(table):
                            _put(session, table, some)
                pastdeletions.put(session, rows)
                for some in rows(_COPY):  # one on its way out once its deletion is due
                    _put(session, _COPY, some)
                _set_sequences(session.connection())
                now = catalog.clock.now()
                detail = {"backup": summary.at.isoformat(), "records": summary.journal_seq}
                journal.append(
                    session, now, actor, restored.RESTORED, restored.CATALOG, restored.CATALOG, detail
                )
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise ConfigError(f"the backup is damaged: {error}") from error
    return summary


def _require_empty(session: Session) -> None:
    for table in Base.metadata.sorted_tables:
        if table.name == JournalHead.__tablename__:
            continue
        if session.scalar(select(func.count()).select_from(table)):
            raise Refused(f"the catalog is not empty: {table.name} has rows; restore into a new one")


def _rows(table: Table, file: zipfile.ZipFile, about: Mapping[str, Any]) -> Iterator[list[Row]]:
    """A table's rows as they were, some at a time.

    :raises ConfigError: at their end: they are not what was written.
    """
    columns = [table.columns[name] for name in about["columns"]]
    from_json = [_from_json(column) for column in columns]
    digest, count = hashlib.sha256(), 0
    with file.open(f"{table.name}.jsonl") as member:
        for lines in _batches(member):
            rows = []
            for line in lines:
                digest.update(line)
                values = [
                    None if value is None else change(value)
                    for change, value in zip(from_json, json.loads(line), strict=True)
                ]
                rows.append({column.name: value for column, value in zip(columns, values, strict=True)})
            count += len(rows)
            yield rows
    if (count, digest.hexdigest()) != (about["rows"], about["sha256"]):
        raise ConfigError(f"the backup is damaged: {table.name}.jsonl is not what was written")


def _batches(member: IO[bytes]) -> Iterator[list[bytes]]:
    while found := list(islice(iter(lambda: member.readline(LINE_BYTES_MAX), b""), BATCH)):
        yield found


def _put(session: Session, table: Table, rows: list[Row]) -> None:
    if table.name == JournalHead.__tablename__:
        for row in rows:  # the one row is there from the beginning
            session.execute(update(table).where(table.c.pk == row.pop("pk")).values(**row))
    elif rows:
        session.execute(insert(table), rows)


def _set_sequences(connection: Connection) -> None:
    """PostgreSQL: the next keys follow those that are there."""
    if connection.dialect.name != "postgresql":
        return
    for table in Base.metadata.sorted_tables:
        key = table.autoincrement_column
        if key is None:
            continue
        sequence = connection.scalar(
            text("SELECT pg_get_serial_sequence(:table, :key)"), {"table": table.name, "key": key.name}
        )
        if sequence is not None:
            last = connection.scalar(select(func.max(key)))
            if last is not None:
                connection.execute(text("SELECT setval(:name, :last)"), {"name": sequence, "last": last})
