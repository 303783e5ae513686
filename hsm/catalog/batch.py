"""Registering many received instances in one transaction, in few statements.

An instance of a study and series that were seen before costs a share of three statements. What was
seen is remembered by its keys, and never trusted: each statement asks again for the identity behind
the key (another process may have changed the row, or a rollback undone it), and where it is not there
the instance goes the long way, :func:`hsm.catalog.ingest.register`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Text, bindparam, exists, func, insert, or_, select, text, update
from sqlalchemy.orm import Session

from hsm.catalog import ingest, journal
from hsm.catalog.ingest import Keys, Known, Received
from hsm.catalog.tables import Base, Instance, Patient, Series, Study
from hsm.errors import HsmError

REMEMBERED_MAX = 4096
_INSTANCE, _SERIES, _STUDY, _PATIENT = (
    Base.metadata.tables[table.__tablename__] for table in (Instance, Series, Study, Patient)
)

_KNOWN = (
    select(_INSTANCE.c.uid, _INSTANCE.c.version, _INSTANCE.c.digest)
    .where(_INSTANCE.c.uid.in_(bindparam("uids", expanding=True)))
    .order_by(_INSTANCE.c.uid, _INSTANCE.c.version)
)
_COUNT_SERIES = (
    update(_SERIES)
    .where(
        _SERIES.c.pk == bindparam("the_pk"),
        _SERIES.c.study_pk == bindparam("the_study"),
        _SERIES.c.uid == bindparam("the_uid"),
    )
    .values(n_instances=_SERIES.c.n_instances + bindparam("firsts"))
)
_INSERT = insert(_INSTANCE)
# In the order of their keys, so that two processes with the same UIDs never wait for each other.
_LOCK_UIDS = text(
    "SELECT pg_advisory_xact_lock(uid)"
    " FROM (SELECT unnest(CAST(:uids AS bigint[])) AS uid ORDER BY 1) AS uids"
)


@dataclass(frozen=True, slots=True)
class Note:
    """A record for the journal about a study."""

    received: Received
    verb: str
    detail: Mapping[str, Any]


class Stale(HsmError):
    """A remembered key's row is gone. Nothing is remembered any more; do the whole batch again."""


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
    """Writes batches. Not thread-safe: one batch at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(hsm_write=True)
        self._postgresql = engine.dialect.name == "postgresql"
        self._count_study = _count_study(func.strpos if self._postgresql else func.instr)
        self._remembered: dict[_Group, Keys] = {}
        self._new: dict[_Group, Keys] = {}

    @contextmanager
    def transaction(self, uids: Sequence[str]) -> Iterator[Connection]:
        """A write transaction in which nobody else, in whatever process, decides about these SOP
        Instance UIDs; committed at the end or rolled back whole."""
        self._new.clear()
        try:
            with self._engine.connect() as connection, connection.begin():
                if self._postgresql:
                    connection.execute(_LOCK_UIDS, {"uids": [_lock_key(uid) for uid in uids]})
                yield connection
        except BaseException:
            self._remembered.clear()
            raise
        if len(self._remembered) + len(self._new) > REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered.update(self._new)

    def known(self, connection: Connection, uids: Sequence[str]) -> dict[str, list[Known]]:
        """The versions that are catalogued under each of the UIDs, oldest first."""
        found: dict[str, list[Known]] = {}
        for uid, version, digest in connection.execute(_KNOWN, {"uids": list(uids)}):
            found.setdefault(uid, []).append(Known(version, digest))
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
        news = list(notes)
        rows: list[dict[str, Any]] = []
        for group in sorted(groups, key=lambda group: (group.study_uid, group.series_uid)):
            members = groups[group]
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
        if rows:
            connection.execute(_INSERT, rows)
        if news:
            _journal(connection, news)

    def _count(self, connection: Connection, group: _Group, keys: Keys, members: Sequence[Received]) -> bool:
        """Count the members in study and series; False, with nothing done, if the study's row differs."""
        firsts = sum(each.version == 0 for each in members)
        counted = connection.execute(
            self._count_study,
            {
                "the_pk": keys.study_pk,
                "the_uid": group.study_uid,
                "the_modality": f"\\{group.modality}\\" if group.modality else "",
                "the_patient": group.patient_key,
                "firsts": firsts,
                "members": len(members),
                "bytes": sum(each.size for each in members),
                "at": max(each.at for each in members),
            },
        )
        if counted.rowcount != 1:
            return False
        counted = connection.execute(
            _COUNT_SERIES,
            {
                "the_pk": keys.series_pk,
                "the_study": keys.study_pk,
                "the_uid": group.series_uid,
                "firsts": firsts,
            },
        )
        if counted.rowcount != 1:
            raise Stale(f"series {group.series_uid} is not in row {keys.series_pk} any more")
        return True

    def _register_first(self, connection: Connection, received: Received) -> tuple[Keys, ingest.News]:
        with Session(connection, join_transaction_mode="rollback_only") as session:
            keys, news = ingest.register(session, received)
            session.commit()  # of the session's own accounts; the transaction is the connection's
        return keys, news


def _count_study(position: Any) -> Any:
    modality: Any = bindparam("the_modality", type_=Text)
    return (
        update(_STUDY)
        .where(
            _STUDY.c.pk == bindparam("the_pk"),
            _STUDY.c.uid == bindparam("the_uid"),
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
