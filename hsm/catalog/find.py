"""Finding patients, studies, series and instances, and saying how available they are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Executable, Row, Select, and_, case, exists, func, select, text
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from hsm.availability import Reach, Standing, standing, unsealed, worst
from hsm.catalog import hiding, instances, matching, placement, placements
from hsm.catalog.matching import Column
from hsm.catalog.tables import Deletion, Instance, Name, Package, Patient, Series, Study, Volume
from hsm.model import Availability, InstanceRef, Selection
from hsm.terms import LEVEL_OF, Exact, Field, Level, NameMatch, Term

ROWS_AT_FIRST = 20
ROWS_AT_ONCE = 200
"""Matches read and judged together: one query for their values, one for their packages and one for
the copies."""

KEYS_AT_ONCE = 5000
"""Keys in one IN list; SQLite allows 32,766 parameters in a statement."""

Value = str | int | None | tuple[str, ...]

_Class, _Syntax, _Newer = aliased(Name), aliased(Name), aliased(Instance)
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


def availability_of(session: Session, level: Level, pks: Sequence[int], reach: Reach) -> dict[int, Standing]:
    """How available each of these patients, studies, series or instances is.

    What counts is what a retrieve would send: the newest versions in each series, and the packages that these
    are in.
    """
    owned = _owned(session, _packages_of(level, pks), pks)
    packages = {each for some in owned.values() for each in some if each is not None}
    known: dict[int | None, Standing] = {None: unsealed(reach)}
    known |= dict(standings(session, packages, reach).items())
    # Where all is alike, an old version makes no difference: only then it is looked who is old.
    mixed = [pk for pk, some in owned.items() if len({known[each] for each in some}) > 1]
    if mixed and level is not Level.IMAGE:
        owned |= _owned(session, _packages_of_newest(level, mixed), mixed)
    found = {pk: worst(known[package] for package in some) for pk, some in owned.items()}
    recalled = [pk for pk in packages if known[pk].recalled]
    return found | dict.fromkeys(_too_large(session, level, pks, recalled, reach), standing((), reach))


def _too_large(
    session: Session, level: Level, pks: Sequence[int], recalled: Sequence[int], reach: Reach
) -> set[int]:
    """Those of these entities of which an instance is too large for the staging area, through which it would
    have to come."""
    if reach.room is None:
        return set()
    large = select(Package.pk, Package.study_pk).where(Package.size > reach.room.package)
    packages: dict[int, int] = {}
    for some in _chunks(recalled):
        rows = session.execute(large.where(Package.pk.in_(some)))
        packages |= {row.pk: row.study_pk for row in rows}
    if not packages:
        return set()
    owner = Study.patient_pk if level is Level.PATIENT else _KEYS[level]
    query = select(owner).select_from(Instance).join(Series, Series.pk == Instance.series_pk)
    query = query.join(Study, Study.pk == Series.study_pk)
    # Through their study: no index leads from packages to instances.
    query = query.where(Study.pk.in_(set(packages.values())), Instance.package_pk.in_(packages))
    query = query.where(Instance.size > reach.room.instance, _newest(), ~hiding.hidden())
    return set(session.scalars(query)) & set(pks)


def _owned(session: Session, query: Executable, pks: Sequence[int]) -> dict[int, set[int | None]]:
    found: dict[int, set[int | None]] = {pk: set() for pk in pks}
    for pk, package_pk, *unsealed_too in session.execute(query):
        if package_pk is not None or not unsealed_too:
            found[pk].add(package_pk)
        if any(unsealed_too):
            found[pk].add(None)
    return found


def standings(session: Session, package_pks: Iterable[int], reach: Reach) -> dict[int, Standing]:
    """How available each of these packages is."""
    found: dict[int, Standing] = {}
    for chunk in _chunks(sorted(package_pks)):
        copies = placement.copies(session, chunk)
        staged = placement.named(session, chunk, reach.staged)
        found |= {pk: standing(copies[pk], reach, staged=pk in staged) for pk in chunk}
    return found


def select_instances(
    session: Session, selection: Selection, *, sees_rejected: bool = False
) -> list[InstanceRef]:
    """The instances that a retrieve asks for, in each series the newest versions only, in viewing order,
    and nothing of what is hidden.

    Study by study; in each by series number and instance number, those without a number last, then
    by UID.
    """
    keys: list[tuple[InstrumentedAttribute[str], tuple[str, ...]]] = [
        (Patient.patient_id, selection.patient_ids),
        (Study.uid, selection.study_uids),
        (Series.uid, selection.series_uids),
        (Instance.uid, selection.sop_instance_uids),
    ]
    narrowing = [[column.in_(chunk) for chunk in _chunks(values)] for column, values in keys if values]
    query = (
        instances.instance_columns()
        .add_columns(Study.pk, Series.number, Instance.number)
        .join(Patient, Patient.pk == Study.patient_pk)
        .where(_newest(), ~hiding.hidden(sees_rejected=sees_rejected))
    )
    found: dict[int, tuple[tuple[Any, ...], InstanceRef]] = {}
    for conditions in itertools.product(*narrowing):
        for *columns, study_pk, series_number, number in session.execute(query.where(*conditions)):
            instance = InstanceRef(*columns)
            order = (
                study_pk,
                *(series_number is None, series_number or 0, instance.series_uid),
                *(number is None, number or 0, instance.sop_instance_uid),
            )
            found[instance.pk] = (order, instance)
    return [instance for _, instance in sorted(found.values(), key=lambda each: each[0])]


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
        query = query.join(Series, Series.pk == Instance.series_pk).where(_newest())
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


def _newest() -> ColumnElement[bool]:
    """The newest version in its series: one that came into another study is that study's.

    By UID, of which there are few versions: added to, the series' key cannot be looked up by instead.
    """
    return ~exists().where(
        _Newer.uid == Instance.uid,
        _Newer.version > Instance.version,
        _Newer.series_pk + 0 == Instance.series_pk,
    )


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


def _packages_of(level: Level, pks: Sequence[int]) -> Executable:
    """Each entity with the packages it lies in, None standing for what is not sealed; of patients and studies
    also how much is not."""
    if level is Level.IMAGE:
        return select(Instance.pk, Instance.package_pk).where(Instance.pk.in_(pks))
    if level is Level.SERIES:
        return select(Instance.series_pk, Instance.package_pk).where(Instance.series_pk.in_(pks)).distinct()
    owner = Study.pk if level is Level.STUDY else Study.patient_pk
    query = select(owner, Package.pk, Study.unsealed).select_from(Study)
    mine = and_(Package.study_pk == Study.pk, ~placements.deleted())
    return query.join(Package, mine, isouter=True).where(owner.in_(pks))


def _packages_of_newest(level: Level, pks: Sequence[int]) -> Executable:
    """As :func:`_packages_of`, old versions left out: what a retrieve sends."""
    owner = {Level.SERIES: Series.pk, Level.STUDY: Series.study_pk}.get(level, Study.patient_pk)
    query = select(owner, Instance.package_pk).select_from(Instance)
    query = query.join(Series, Series.pk == Instance.series_pk)
    if level is Level.PATIENT:
        query = query.join(Study, Study.pk == Series.study_pk)
    return query.where(owner.in_(pks), _newest(), ~hiding.hidden()).distinct()


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
    known = availability_of(session, level, [row.pk for row in rows], reach)
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


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), KEYS_AT_ONCE):
        yield values[start : start + KEYS_AT_ONCE]
