"""Registering many received instances in one transaction, in few statements.

An instance of a study and series that were seen before costs a share of three statements. What was
seen is remembered by its keys, and never trusted: each statement asks again for the identity behind
the key (another process may have changed the row, or a rollback undone it), and where it is not there
the instance goes the long way, :func:`hsm.catalog.ingest.register`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Text,
    bindparam,
    event,
    exists,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from hsm.catalog import awaiting, hiding, ingest, journal
from hsm.catalog.columns import pack_uid
from hsm.catalog.ingest import Keys, Known, Place, Received
from hsm.catalog.prepared import Prepared
from hsm.catalog.tables import AwaitedRejection, Base, Instance, Patient, Series, Study
from hsm.errors import CatalogAway, HsmError, Permanent, Retryable

REMEMBERED_MAX = 4096
ROWS_MAX = 16
"""Inserted in one statement: there is a compiled one for each number."""
_INSTANCE, _SERIES, _STUDY, _PATIENT, _AWAITED = (
    Base.metadata.tables[table.__tablename__]
    for table in (Instance, Series, Study, Patient, AwaitedRejection)
)

_COUNT_SERIES = (
    update(_SERIES)
    .where(
        _SERIES.c.pk == bindparam("the_pk"),
        _SERIES.c.study_pk == bindparam("the_study"),
        _SERIES.c.uid == bindparam("the_uid"),
        _SERIES.c.n_instances > 0,  # one with nothing to see is one more when it has
    )
    .values(n_instances=_SERIES.c.n_instances + bindparam("firsts"))
)
# In the order of their keys, so that two processes with the same UIDs never wait for each other.
_LOCK_UIDS = text(
    f"{hiding.SHARED_LOCK};"
    " SELECT pg_advisory_xact_lock(uid)"
    " FROM (SELECT unnest(CAST(:uids AS bigint[])) AS uid ORDER BY 1) AS uids"
)


@dataclass(frozen=True, slots=True)
class Found:
    """What the catalog knows of some SOP Instance UIDs."""

    versions: dict[str, list[Known]]
    """Those that are catalogued under each UID, oldest first."""
    rejected: set[tuple[str, Place]]
    """UID and place of those that have not come and that a rejection note names."""


@dataclass(frozen=True, slots=True)
class Note:
    """A record for the journal about a study."""

    received: Received
    verb: str
    detail: Mapping[str, Any]


class Stale(HsmError):
    """A remembered key's row is gone. Nothing is remembered any more; do the whole batch again."""


class InDoubt(CatalogAway):
    """The commit failed, and may have happened all the same."""


@dataclass(frozen=True, slots=True)
class _Group:
    """What instances have in common when one set of keys serves them."""

    study_uid: str
    series_uid: str
    modality: str
    patient_key: str
    class_uid: str
    syntax_uid: str

    @classmethod
    def of(cls, received: Received) -> _Group:
        header = received.header
        return cls(
            header.study_uid,
            header.series_uid,
            header.modality,
            ingest.patient_key(header),
            header.sop_class_uid,
            received.transfer_syntax_uid,
        )


class Registrar:
    """Writes batches, on a connection of its own. Not thread-safe: one batch at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(hsm_write=True)
        self._dialect = engine.dialect
        self._postgresql = engine.dialect.name == "postgresql"
        self._connection: Connection | None = None
        self._count_study = Prepared(
            _count_study(func.strpos if self._postgresql else func.instr), self._dialect
        )
        self._count_series = Prepared(_COUNT_SERIES, self._dialect)
        self._known: dict[int, Prepared] = {}
        self._insert: dict[int, Prepared] = {}
        self._remembered: dict[_Group, Keys] = {}
        self._new: dict[_Group, Keys] = {}
        event.listen(engine, "engine_disposed", lambda _: self._disconnect())

    @contextmanager
    def transaction(self, uids: Sequence[str]) -> Iterator[Connection]:
        """A write transaction in which nobody else, in whatever process, decides about these SOP
        Instance UIDs; committed at the end or rolled back whole.

        :raises InDoubt: the commit failed.
        :raises CatalogAway: the database failed before.
        :raises Permanent: it refuses what is written.
        """
        self._new.clear()
        driver: Any = self._dialect.loaded_dbapi
        committing = False
        try:
            connection = self._connection
            if connection is None:
                connection = self._connection = self._engine.connect()
            with connection.begin() as transaction:
                if self._postgresql:
                    connection.execute(_LOCK_UIDS, {"uids": [_lock_key(uid) for uid in uids]})
                yield connection
                committing = True
                transaction.commit()
        except BaseException as error:
            self._remembered.clear()
            # A commit that failed leaves the driver in the middle of a transaction, and the pool
            # would lend it to the next as it is.
            self._disconnect(broken=True)
            if isinstance(error, DBAPIError | driver.Error):
                orig = getattr(error, "orig", error)
                if committing:
                    raise InDoubt(f"catalog: {orig}") from error
                if isinstance(orig, driver.IntegrityError):
                    raise Permanent(f"catalog refuses it: {orig}") from error
                if isinstance(orig, driver.DataError | driver.ProgrammingError):
                    raise Retryable(f"catalog: {orig}") from error
                raise CatalogAway(f"catalog: {orig}") from error
            raise
        if len(self._remembered) + len(self._new) > REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered.update(self._new)

    def _disconnect(self, broken: bool = False) -> None:
        """Give the connection back, or throw it away; what it was doing is rolled back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            if broken:
                connection.invalidate()
            connection.close()

    def known(self, connection: Connection, uids: Sequence[str]) -> Found:
        """What is catalogued under each of the UIDs, and what is to be hidden when it comes."""
        statement = self._known.get(len(uids))
        if statement is None:
            statement = self._known[len(uids)] = Prepared(_known(len(uids)), self._dialect)
        named = {pack_uid(uid): uid for uid in uids}
        found = Found({}, set())
        with closing(_cursor(connection)) as cursor:
            rows = statement.run(cursor, {f"uid_{place}": uid for place, uid in enumerate(uids)})
            for packed, version, digest, study_uid, series_uid, concealed in rows:
                uid, place = named[bytes(packed)], (study_uid, series_uid)
                if version == AWAITED:
                    found.rejected.add((uid, place))
                else:
                    known = Known(version, bytes(digest), place, concealed or 0)
                    found.versions.setdefault(uid, []).append(known)
        return found

    def register(
        self, connection: Connection, received: Sequence[Received], notes: Sequence[Note] = ()
    ) -> None:
        """Insert rows for all, count them, and journal what is new.

        Studies are locked in the order of their UIDs, so that two processes never wait for each other.

        :raises Stale: see there.
        """
        groups: dict[_Group, list[Received]] = {}
        for each in received:
            groups.setdefault(_Group.of(each), []).append(each)
        news: list[Note] = []
        rows: list[dict[str, Any]] = []
        for group in sorted(groups, key=lambda group: (group.study_uid, group.series_uid)):
            members = [each for each in groups[group] if not each.rejected]
            for each in groups[group]:
                if each.rejected:  # seldom: the long way
                    _, told = self._register_first(connection, each)
                    news += (Note(each, verb, detail) for verb, detail in told)
            if not members:
                continue
            keys = self._new.get(group) or self._remembered.get(group)
            if keys is None or not self._count(connection, group, keys, members):
                first, *members = members
                keys, told = self._register_first(connection, first)
                self._new[group] = keys
                news += (Note(first, verb, detail) for verb, detail in told)
                if members and not self._count(connection, group, keys, members):
                    # Its study is another patient's: each such instance is worth a record.
                    for each in members:
                        _, told = self._register_first(connection, each)
                        news += (Note(each, verb, detail) for verb, detail in told)
                    continue
            rows += (ingest.instance_values(each, keys) for each in members)
        for start in range(0, len(rows), ROWS_MAX):
            self._insert_rows(connection, rows[start : start + ROWS_MAX])
        if news or notes:
            _journal(connection, [*news, *notes])

    def _insert_rows(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        statement = self._insert.get(len(rows))
        if statement is None:
            statement = self._insert[len(rows)] = Prepared(_insert(len(rows), rows[0]), self._dialect)
        values = {f"{name}_{place}": row[name] for place, row in enumerate(rows) for name in row}
        with closing(_cursor(connection)) as cursor:
            statement.run(cursor, values)

    def _count(self, connection: Connection, group: _Group, keys: Keys, members: Sequence[Received]) -> bool:
        """Count the members in study and series; False, with nothing done, if the study's row differs."""
        firsts = sum(each.counts for each in members)
        with closing(_cursor(connection)) as cursor:
            values = {
                "the_pk": keys.study_pk,
                "the_uid": group.study_uid,
                "the_modality": f"\\{group.modality}\\" if group.modality else "",
                "the_patient": group.patient_key,
                "firsts": firsts,
                "members": len(members),
                "bytes": sum(each.size for each in members),
                "at": max(each.at for each in members),
            }
            if self._count_study.run(cursor, values).rowcount != 1:
                return False
            values = {
                "the_pk": keys.series_pk,
                "the_study": keys.study_pk,
                "the_uid": group.series_uid,
                "firsts": firsts,
            }
            if self._count_series.run(cursor, values).rowcount != 1:
                raise Stale(
                    f"series {group.series_uid} is not in row {keys.series_pk} any more, or is hidden"
                )
        return True

    def _register_first(self, connection: Connection, received: Received) -> tuple[Keys, ingest.News]:
        with Session(connection, join_transaction_mode="rollback_only") as session:
            keys, news = ingest.register(session, received)
            if received.rejected:
                header = received.header
                news += awaiting.heed(session, keys.study_pk, header.study_uid, [header.sop_instance_uid])
            session.commit()  # of the session's own accounts; the transaction is the connection's
        return keys, news


def _cursor(connection: Connection) -> Any:
    return connection.connection.cursor()


AWAITED = -1
"""In place of a version: the instance has not come."""


def _known(count: int) -> Any:
    uids = [bindparam(f"uid_{place}", type_=_INSTANCE.c.uid.type) for place in range(count)]
    versions = (
        select(
            *(_INSTANCE.c.uid, _INSTANCE.c.version.label("version"), _INSTANCE.c.digest),
            *(_STUDY.c.uid, _SERIES.c.uid, hiding.concealment(_INSTANCE.c.pk)),
        )
        .join_from(_INSTANCE, _SERIES, _SERIES.c.pk == _INSTANCE.c.series_pk)
        .join(_STUDY, _STUDY.c.pk == _SERIES.c.study_pk)
        .where(_INSTANCE.c.uid.in_(uids))
    )
    columns: tuple[Any, ...] = (
        literal_column(str(AWAITED)),
        null(),
        _AWAITED.c.study_uid,
        _AWAITED.c.series_uid,
        null(),
    )
    awaited = select(_AWAITED.c.uid, *columns).where(_AWAITED.c.uid.in_(uids))
    return union_all(versions, awaited).order_by(text("version"))


def _insert(count: int, row: Mapping[str, Any]) -> Any:
    columns = _INSTANCE.c
    return insert(_INSTANCE).values(
        [
            {name: bindparam(f"{name}_{place}", type_=columns[name].type) for name in row}
            for place in range(count)
        ]
    )


def _count_study(position: Any) -> Any:
    modality: Any = bindparam("the_modality", type_=Text())
    return (
        update(_STUDY)
        .where(
            _STUDY.c.pk == bindparam("the_pk"),
            _STUDY.c.uid == bindparam("the_uid"),
            _STUDY.c.n_instances > 0,  # one with nothing to see may have been deleted
            or_(modality == "", position(_STUDY.c.modalities, modality) > 0),
            exists().where(_PATIENT.c.pk == _STUDY.c.patient_pk, _PATIENT.c.key == bindparam("the_patient")),
        )
        .values(
            n_instances=_STUDY.c.n_instances + bindparam("firsts"),
            n_bytes=_STUDY.c.n_bytes + bindparam("bytes"),
            unsealed=_STUDY.c.unsealed + bindparam("members"),
            last_received=bindparam("at"),
            last_accessed=bindparam("at"),
        )
    )


def _journal(connection: Connection, notes: Sequence[Note]) -> None:
    with Session(connection, join_transaction_mode="rollback_only") as session:
        for note in notes:
            received = note.received
            journal.append(
                session,
                received.at,
                f"ae:{received.source_ae}",
                note.verb,
                "study",
                received.header.study_uid,
                note.detail,
            )
        session.commit()


def _lock_key(uid: str) -> int:
    return int.from_bytes(hashlib.sha256(uid.encode()).digest()[:8], "big", signed=True)
