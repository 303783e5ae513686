"""Finding patients, studies, series and instances, as a query asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, case, exists, func, select, text
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from hsm.availability import Reach
from hsm.catalog import available, hiding, matching
from hsm.catalog.matching import Column
from hsm.catalog.newest import newest
from hsm.catalog.tables import Deletion, Instance, Name, Patient, Series, Study, Volume
from hsm.model import Availability
from hsm.terms import LEVEL_OF, Exact, Field, Level, NameMatch, Term

ROWS_AT_FIRST = 20
ROWS_AT_ONCE = 200
"""Matches read and judged together: one query for their values, one for their packages and one for
the copies."""

Value = str | int | None | tuple[str, ...]

_Class, _Syntax = aliased(Name), aliased(Name)
_Own, _Any, _AnySeries = aliased(Study), aliased(Instance), aliased(Series)


@dataclass(frozen=True, slots=True)
class Medium:
    """A removable volume that a retrieve would read."""

    name: str
    uuid: str


@dataclass(frozen=True, slots=True)
class Match:
    """One entity that matched, with what is known of it and of everything above it."""

    level: Level
    values: Mapping[Field, Value]
    charset: str
    """Specific Character Set in which the study came."""
    availability: Availability
    media: tuple[Medium, ...]


_COLUMNS: Mapping[Field, Column] = {
    Field.PATIENT_ID: Patient.patient_id,
    Field.PATIENT_ISSUER: Patient.issuer,
    Field.PATIENT_NAME: Patient.name,
    Field.PATIENT_BIRTH_DATE: Patient.birth_date,
    Field.PATIENT_SEX: Patient.sex,
    Field.STUDY_UID: Study.uid,
    Field.STUDY_DATE: Study.date,
    Field.STUDY_TIME: Study.time,
    Field.STUDY_ID: Study.study_id,
    Field.ACCESSION: Study.accession,
    Field.STUDY_DESCRIPTION: Study.description,
    Field.REFERRING_PHYSICIAN: Study.referring_physician,
    Field.INSTITUTION: Study.institution,
    Field.MODALITIES: Study.modalities,
    Field.STUDY_SERIES: Study.n_series,
    Field.STUDY_INSTANCES: Study.n_instances,
    Field.SERIES_UID: Series.uid,
    Field.MODALITY: Series.modality,
    Field.SERIES_NUMBER: Series.number,
    Field.SERIES_DESCRIPTION: Series.description,
    Field.BODY_PART: Series.body_part,
    Field.SERIES_DATE: Series.date,
    Field.SERIES_TIME: Series.time,
    Field.STATION: Series.station,
    Field.SERIES_INSTANCES: Series.n_instances,
    Field.SOP_INSTANCE_UID: Instance.uid,
    Field.SOP_CLASS_UID: _Class.uid,
    Field.INSTANCE_NUMBER: Instance.number,
    Field.TRANSFER_SYNTAX_UID: _Syntax.uid,
}
_PATIENT_COUNTS: Mapping[Field, Callable[[], ColumnElement[int]]] = {
    Field.PATIENT_STUDIES: lambda: _of_patient(func.count(), Study.n_instances > 0),
    Field.PATIENT_SERIES: lambda: _of_patient(func.coalesce(func.sum(Study.n_series), 0)),
    Field.PATIENT_INSTANCES: lambda: _of_patient(func.coalesce(func.sum(Study.n_instances), 0)),
}
_KEYS: Mapping[Level, InstrumentedAttribute[int]] = {
    Level.PATIENT: Patient.pk,
    Level.STUDY: Study.pk,
    Level.SERIES: Series.pk,
    Level.IMAGE: Instance.pk,
}
# UIDs kept in the table "name", by the column that refers to it.
_NAMED: Mapping[Field, InstrumentedAttribute[int]] = {
    Field.SOP_CLASS_UID: Instance.class_pk,
    Field.TRANSFER_SYNTAX_UID: Instance.syntax_pk,
}
# What SQL searches in place of a name as sent: its normalised groups.
_NAME_COLUMNS: Mapping[Field, tuple[Column, Column, Column]] = {
    Field.PATIENT_NAME: (Patient.name_alphabetic, Patient.name_ideographic, Patient.name_phonetic),
    Field.REFERRING_PHYSICIAN: (
        Study.referring_alphabetic,
        Study.referring_ideographic,
        Study.referring_phonetic,
    ),
}


def find(
    session: Session,
    level: Level,
    wanted: Mapping[Field, Term],
    reach: Reach,
    fields: frozenset[Field] = frozenset(),
    *,
    sees_rejected: bool = False,
) -> Iterator[Match]:
    """Stream the entities of a level that match every term, in the order they were first received.

    Only the newest version of an instance in its series is shown, and nothing of what is hidden.

    :param wanted: terms for fields of this level and of the levels above it.
    :param reach: what can be reached now, for availability.
    :param fields: of the fields that cost a query of their own (the patient's counts, SOP classes in
        study) those that are wanted; the others are always there.
    :param sees_rejected: whether who asks may see what was rejected for quality reasons.
    :raises ValueError: a term for a field below the level.
    """
    for keys in _pages(session, _matching_keys(session, level, wanted, sees_rejected)):
        details = _details(level, fields, keys, sees_rejected)
        found = {row.pk: row for row in session.execute(details)}
        rows = [found[key] for key in keys if key in found]
        yield from _matches(session, level, rows, reach, fields)


def _pages(session: Session, query: Select[int]) -> Iterator[Sequence[int]]:
    """Stream keys, a few first, so that the first match waits for few others.

    On PostgreSQL from a server-side cursor. It is planned for the whole answer: planned for the
    first tenth, as PostgreSQL does with cursors, it would walk the table from its beginning in the
    answer's order, and what is asked for is mostly at its end.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SET LOCAL cursor_tuple_fraction = 1"))
    options = {"stream_results": True, "max_row_buffer": 1}
    # Of the connection: the session would read all of SQLite's rows before it gave one.
    with session.connection().execute(query, execution_options=options) as result:
        keys = result.scalars()
        size = ROWS_AT_FIRST
        while page := keys.fetchmany(size):
            yield page
            size = ROWS_AT_ONCE


def _matching_keys(
    session: Session, level: Level, wanted: Mapping[Field, Term], sees_rejected: bool
) -> Select[int]:
    """The keys of what matches, in order. Joins no table that no term and no order needs."""
    below = [field for field in wanted if LEVEL_OF[field].rank > level.rank]
    if below:
        raise ValueError(f"{below[0].value} belongs below the {level.value} level")
    top = min([level.rank, *(LEVEL_OF[field].rank for field in wanted)])
    query = select(_KEYS[level])
    order: list[Column] = [_KEYS[level]]
    if level is Level.IMAGE:
        top = min(top, Level.SERIES.rank)
        query = query.join(Series, Series.pk == Instance.series_pk).where(newest())
    query = query.where(_shown(level, sees_rejected))
    if level.rank >= Level.SERIES.rank:
        order = [Series.study_pk, Series.number, Series.uid]
        order += [Instance.number, Instance.uid] if level is Level.IMAGE else []
        if top <= Level.STUDY.rank:
            query = query.join(Study, Study.pk == Series.study_pk)
    if level.rank >= Level.STUDY.rank and top == Level.PATIENT.rank:
        query = query.join(Patient, Patient.pk == Study.patient_pk)
    sqlite = session.get_bind().dialect.name == "sqlite"
    if sqlite and wanted:
        # Added to, a key can serve no order: SQLite would rather read a table from end to end in that
        # order than sort the few rows that an index gives it.
        order[0] = order[0] + 0
    return query.where(*(_condition(field, term, sqlite) for field, term in wanted.items())).order_by(*order)


def _shown(level: Level, sees_rejected: bool) -> ColumnElement[bool]:
    """Something of it is not hidden. Counters say so, but to who sees more than others."""
    if level is Level.IMAGE:
        return ~hiding.hidden(sees_rejected=sees_rejected)
    if level is Level.PATIENT:
        # A value and no EXISTS, for which PostgreSQL may read all studies into a table of hashes.
        most = func.max(case((_has_more(_Own, sees_rejected), 1), else_=0))
        mine = select(most).where(_Own.patient_pk == Patient.pk).correlate(Patient)
        return func.coalesce(mine.scalar_subquery(), 1) > 0
    return _has_more(Study if level is Level.STUDY else Series, sees_rejected)


def _has_more(entity: Any, sees_rejected: bool) -> ColumnElement[bool]:
    shown: ColumnElement[bool] = entity.n_instances > 0
    if not sees_rejected:
        return shown
    of_study = entity.study_pk if entity is Series else entity.pk
    rejected = exists().where(Deletion.study_pk == of_study, Deletion.code == hiding.QUALITY)
    return shown | and_(rejected, _seen(entity) > 0)


def _seen(entity: Any) -> ColumnElement[int]:
    """Instances of a series or study, those rejected for quality reasons among them."""
    counted = select(func.count(_Any.uid.distinct())).where(~hiding.hidden(_Any, sees_rejected=True))
    if entity is Series:
        return counted.where(_Any.series_pk == Series.pk).correlate(Series).scalar_subquery()
    counted = counted.join(_AnySeries, _AnySeries.pk == _Any.series_pk)
    return counted.where(_AnySeries.study_pk == entity.pk).correlate(entity).scalar_subquery()


_SEEN: Mapping[Field, Callable[[], ColumnElement[int]]] = {
    Field.SERIES_INSTANCES: lambda: _seen(Series),
    Field.STUDY_INSTANCES: lambda: _seen(Study),
}


def _details(
    level: Level, fields: frozenset[Field], keys: Sequence[int], sees_rejected: bool = False
) -> Select[Any]:
    """What is shown of these entities, in no order."""
    shown: dict[Field, Any] = {
        field: column for field, column in _COLUMNS.items() if LEVEL_OF[field].rank <= level.rank
    }
    if sees_rejected:
        shown |= {field: make() for field, make in _SEEN.items() if field in shown}
    columns = [column.label(field.value) for field, column in shown.items()]
    columns += [make().label(field.value) for field, make in _PATIENT_COUNTS.items() if field in fields]
    charset = Study.charset if level is not Level.PATIENT else _of_patient(func.max(Study.charset))
    query = select(_KEYS[level].label("pk"), charset.label("charset"), *columns).select_from(Patient)
    if level.rank >= Level.STUDY.rank:
        query = query.join(Study, Study.patient_pk == Patient.pk)
    if level.rank >= Level.SERIES.rank:
        query = query.join(Series, Series.study_pk == Study.pk)
    if level is Level.IMAGE:
        query = query.join(Instance, Instance.series_pk == Series.pk)
        query = query.join(_Class, _Class.pk == Instance.class_pk)
        query = query.join(_Syntax, _Syntax.pk == Instance.syntax_pk)
    return query.where(_KEYS[level].in_(keys))


def _of_patient(what: ColumnElement[Any], *only: ColumnElement[bool]) -> ColumnElement[Any]:
    studies = select(what).select_from(Study).where(Study.patient_pk == Patient.pk, *only)
    return studies.correlate(Patient).scalar_subquery()


def _condition(field: Field, term: Term, sqlite: bool) -> ColumnElement[bool]:
    if isinstance(term, NameMatch):
        return matching.name(_NAME_COLUMNS[field], term, sqlite)
    if field is Field.MODALITIES and isinstance(term, Exact):
        # The study's own column says it: no row of another table is read for it.
        position = func.instr if sqlite else func.strpos
        return position(Study.modalities, f"\\{term.value}\\") > 0
    if field is Field.MODALITIES:
        shown = (Series.study_pk == Study.pk, Series.n_instances > 0)
        return exists().where(*shown, matching.compare(Series.modality, term, sqlite))
    if field in _NAMED:
        return _NAMED[field].in_(select(Name.pk).where(matching.compare(Name.uid, term, sqlite)))
    if field is Field.SOP_CLASSES:
        return exists().where(
            Series.study_pk == Study.pk,
            Instance.series_pk == Series.pk,
            Name.pk == Instance.class_pk,
            matching.compare(Name.uid, term, sqlite),
            ~hiding.hidden(),
        )
    return matching.compare(_COLUMNS[field], term, sqlite)


def _matches(
    session: Session,
    level: Level,
    rows: Sequence[Row[Any]],
    reach: Reach,
    fields: frozenset[Field],
) -> Iterator[Match]:
    if not rows:
        return
    row_keys = list(rows[0]._mapping)
    known = available.availability_of(session, level, [row.pk for row in rows], reach)
    names = {name for each in known.values() for name in each.media}
    media = _media(session, names) if names else {}
    classes = (
        _sop_classes(session, rows) if Field.SOP_CLASSES in fields and level is not Level.PATIENT else {}
    )
    given = [(field, row_keys.index(field.value)) for field in Field if field.value in row_keys]
    for row in rows:
        values: dict[Field, Value] = {field: row[at] for field, at in given}
        if Field.MODALITIES in values:
            values[Field.MODALITIES] = tuple(each for each in row.modalities.split("\\") if each)
        if classes:
            values[Field.SOP_CLASSES] = classes[row.study_uid]
        yield Match(
            level,
            values,
            row.charset or "",
            known[row.pk].availability,
            tuple(media[name] for name in known[row.pk].media),
        )


def _media(session: Session, names: set[str]) -> dict[str, Medium]:
    rows = session.execute(select(Volume.name, Volume.uuid).where(Volume.name.in_(names)))
    return {name: Medium(name, uuid) for name, uuid in rows}


def _sop_classes(session: Session, rows: Sequence[Row[Any]]) -> dict[str, tuple[str, ...]]:
    uids = {row.study_uid for row in rows}
    found: dict[str, list[str]] = {uid: [] for uid in uids}
    query = (
        select(Study.uid, Name.uid)
        .join(Series, Series.study_pk == Study.pk)
        .join(Instance, Instance.series_pk == Series.pk)
        .join(Name, Name.pk == Instance.class_pk)
        .where(Study.uid.in_(uids), ~hiding.hidden())
        .distinct()
        .order_by(Name.uid)
    )
    for study_uid, class_uid in session.execute(query):
        found[study_uid].append(class_uid)
    return {uid: tuple(classes) for uid, classes in found.items()}
