"""Studies: finding them, what is in one, and where every copy of it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from hsm.availability import Reach, Standing
from hsm.catalog import available, deletions, evidence, hiding, journal, marks, words
from hsm.catalog.tables import (
    Copy,
    Decision,
    Hold,
    Package,
    Patient,
    Request,
    Run,
    Series,
    Study,
    Volume,
)
from hsm.catalog.views.common import Page, Record, place_of
from hsm.errors import BadInput, NotFound
from hsm.model import check_uid
from hsm.states import LIVE_REQUESTS
from hsm.terms import Level
from hsm.text import normalise

ESCAPE = "/"
DECISIONS_SHOWN = 20
GONE = ("released",)
"""Copy states that hold no bytes and are not shown."""


@dataclass(frozen=True, slots=True)
class StudyFilter:
    """What to find. Every non-empty field narrows; ``*`` and ``?`` are wildcards as in C-FIND.

    ``date`` is ``YYYYMMDD``, ``YYYYMMDD-``, ``-YYYYMMDD`` or a range. ``text`` is found anywhere in
    patient name, patient ID, accession number, description or UID.
    """

    text: str = ""
    patient_id: str = ""
    name: str = ""
    accession: str = ""
    date: str = ""
    uid: str = ""
    modality: str = ""
    tag: str = ""
    hold: str = ""
    """``true`` for studies under legal hold."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if len(getattr(self, field.name)) > 256:
                raise BadInput(f"{field.name} is longer than 256 characters")
        if self.hold not in ("", "true"):
            raise BadInput(f"hold {self.hold!r}: expected true, or nothing")
        parse_dates(self.date)


def parse_dates(text: str) -> tuple[str, str]:
    """First and last day of a DICOM date range (PS3.4 section C.2.2.2.5); empty where open.

    :raises BadInput: not ``YYYYMMDD`` or two of them joined by ``-``.
    """
    first, dash, last = text.partition("-")
    if not dash:
        last = first
    for day in (first, last):
        if day and not (len(day) == 8 and day.isascii() and day.isdigit()):
            raise BadInput(f"date {text!r}: expected YYYYMMDD, YYYYMMDD-, -YYYYMMDD or YYYYMMDD-YYYYMMDD")
    return first, last


def like_pattern(value: str, *, anywhere: bool = False) -> str:
    """``value`` with its wildcards as a LIKE pattern with ``/`` as the escape character."""
    for character in (ESCAPE, "%", "_"):
        value = value.replace(character, ESCAPE + character)
    value = value.replace("*", "%").replace("?", "_")
    return f"%{value}%" if anywhere else value


def _like(column: InstrumentedAttribute[str], value: str, *, anywhere: bool = False) -> ColumnElement[bool]:
    return column.ilike(like_pattern(value, anywhere=anywhere), escape=ESCAPE)


def _conditions(wanted: StudyFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    exact: tuple[tuple[InstrumentedAttribute[str], str], ...] = (
        (Patient.patient_id, wanted.patient_id),
        (Study.accession, wanted.accession),
        (Study.uid, wanted.uid),
    )
    for column, value in exact:
        if value:
            wild = "*" in value or "?" in value
            found.append(column.like(like_pattern(value), escape=ESCAPE) if wild else column == value)
    if wanted.name:
        found.append(_name_like(wanted.name))
    if wanted.modality:
        found.append(Study.modalities.contains(f"\\{wanted.modality}\\", autoescape=True))
    if wanted.tag:
        found.append(words.having(Study.tags)(lambda text: text == wanted.tag))
    if wanted.hold:
        found.append(exists().where(Hold.study_pk == Study.pk, Hold.lifted_at.is_(None)))
    first, last = parse_dates(wanted.date)
    if first:
        found.append(Study.date >= first)
    if last:
        found.append(Study.date.between("0", last))  # a study without a date is before no day
    if wanted.text:
        columns = (Patient.patient_id, Study.accession, Study.description, Study.uid)
        anywhere = [_like(column, wanted.text, anywhere=True) for column in columns]
        found.append(or_(_name_like(f"*{wanted.text}*"), *anywhere))
    return found


def _name_like(value: str) -> ColumnElement[bool]:
    """Any component group; without wildcards the beginning of it, as people type names."""
    value = normalise(value).replace(" ", "*")  # "doe jane" finds DOE^JANE
    pattern = like_pattern(value if "*" in value or "?" in value else f"{value}*")
    return or_(
        Patient.name_alphabetic.like(pattern, escape=ESCAPE),
        Patient.name_ideographic.like(pattern, escape=ESCAPE),
        Patient.name_phonetic.like(pattern, escape=ESCAPE),
    )


def find_studies(session: Session, wanted: StudyFilter, page: Page, reach: Reach) -> list[Record]:
    """Studies that match, the last received first, without those that were deleted; see
    :func:`_study_record` for the keys."""
    query = (
        select(Study, Patient)
        .join(Patient, Patient.pk == Study.patient_pk)
        .where(*_conditions(wanted), (Study.n_instances > 0) | ~hiding.was_deleted())
        .order_by(Study.last_received.desc(), Study.pk.desc())
        .limit(page.limit)
        .offset(page.offset)
    )
    rows = session.execute(query).all()
    known = _standings(session, [row[0] for row in rows], reach)
    return [_study_record(study, patient, known[study.pk]) for study, patient in rows]


def study(session: Session, uid: str, reach: Reach) -> Record:
    """One study: its record, ``series`` and ``packages`` with their ``copies``, live ``requests``; what
    people say of it (``hold``, ``tags``, ``retain_until``), ``deletion`` (None but in the trash),
    ``rejected_instances``, and the last ``decisions`` of policies about it.

    :raises BadInput: not a UID.
    :raises NotFound: no such study.
    """
    found, patient = _one(session, uid)
    record = _study_record(found, patient, _standings(session, [found], reach)[found.pk])
    record["series"] = [
        {
            "uid": series.uid,
            "number": series.number,
            "modality": series.modality,
            "description": series.description,
            "body_part": series.body_part,
            "instances": series.n_instances,
        }
        for series in session.scalars(
            select(Series).where(Series.study_pk == found.pk).order_by(Series.number, Series.pk)
        )
    ]
    hold = marks.hold_of(session, found.pk)
    record["hold"] = asdict(hold) if hold is not None else None
    record["tags"] = list(marks.tags_of(session, found.tags))
    record["retain_until"] = found.retain_until
    trash = deletions.standing_of(session, found.pk)
    record["deletion"] = trash and {
        "deleted_at": trash.made_at,
        "deleted_by": trash.made_by,
        "reason": trash.reason,
        "due_at": trash.due_at,
    }
    record["rejected_instances"] = hiding.rejected(session, found.pk)
    record["recalls"] = found.recalls
    record["decisions"] = _decisions(session, found.pk)
    record["packages"] = _packages(session, found.pk)
    record["requests"] = [
        {"id": entry.pk, "kind": entry.kind, "state": entry.state, "pool": entry.pool, "error": entry.error}
        for entry in session.scalars(
            select(Request)
            .where(Request.study_pk == found.pk, Request.state.in_(LIVE_REQUESTS))
            .order_by(Request.pk)
        )
    ]
    return record


def _decisions(session: Session, study_pk: int) -> list[Record]:
    """What policies have decided about a study, the last first, and what became of it."""
    query = (
        select(Decision, Run.policy, Run.started_at, Request.state, Request.error, Request.finished_at)
        .join(Run, Run.pk == Decision.run_pk)
        .outerjoin(Request, Request.pk == Decision.request_pk)
        .where(Decision.study_pk == study_pk)
        .order_by(Decision.pk.desc())
        .limit(DECISIONS_SHOWN)
    )
    return [
        {
            "at": finished or started,
            "policy": policy,
            "rule": decision.rule,
            "action": decision.action,
            "pool": decision.pool,
            "outcome": decision.outcome,
            "reason": decision.reason,
            "request": decision.request_pk,
            "state": state or "",
            "error": error or "",
        }
        for decision, policy, started, state, error, finished in session.execute(query)
    ]


def locate(session: Session, uid: str, reach: Reach) -> Record:
    """Where every copy of the study is: ``study``, ``availability``, ``media``,
    ``unsealed``, ``copies``."""
    found, _ = _one(session, uid)
    known = _standings(session, [found], reach)[found.pk]
    copies = [
        {"package": package["package"], "bytes": package["bytes"], **copy}
        for package in _packages(session, found.pk)
        for copy in package["copies"]
    ]
    return {
        "study": found.uid,
        "availability": known.availability.value,
        "media": list(known.media),
        "unsealed": found.unsealed,
        "copies": copies,
    }


def history(session: Session, uid: str, page: Page) -> list[Record]:
    """The journal's records about the study, its copies and its requests, oldest first.

    Keys: seq, at, actor, verb, kind, subject, detail.
    """
    found, _ = _one(session, uid)
    about = [evidence.about(found.uid)]
    entries = journal.read(session, about, limit=page.limit, offset=page.offset)
    return [entry.record() for entry in entries]


def _one(session: Session, uid: str) -> tuple[Study, Patient]:
    check_uid(uid, "Study Instance UID")
    query = select(Study, Patient).join(Patient, Patient.pk == Study.patient_pk).where(Study.uid == uid)
    row = session.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"study {uid} is not in the catalog; `hsm study find` searches by name, ID or date")
    return row[0], row[1]


def _study_record(study: Study, patient: Patient, known: Standing) -> Record:
    return {
        "uid": study.uid,
        "availability": known.availability.value,
        "media": list(known.media),
        "patient_id": patient.patient_id,
        "issuer": patient.issuer,
        "patient_name": patient.name,
        "birth_date": patient.birth_date,
        "sex": patient.sex,
        "date": study.date,
        "time": study.time,
        "accession": study.accession,
        "description": study.description,
        "referring_physician": study.referring_physician,
        "modalities": [name for name in study.modalities.split("\\") if name],
        "series_count": study.n_series,
        "instances": study.n_instances,
        "bytes": study.n_bytes,
        "unsealed": study.unsealed,
        "package_count": study.packages,
        "source_ae": study.source_ae,
        "first_received": study.first_received,
        "last_received": study.last_received,
        "last_accessed": study.last_accessed,
    }


def _packages(session: Session, study_pk: int) -> list[Record]:
    found: dict[int, Record] = {}
    packages = select(Package).where(Package.study_pk == study_pk).order_by(Package.number)
    for package in session.scalars(packages):
        found[package.pk] = {
            "package": package.key,
            "bytes": package.size,
            "instances": package.n_instances,
            "digest": package.digest.hex(),
            "sealed_at": package.sealed_at,
            "copies": [],
        }
    copies = (
        select(Copy, Volume)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .join(Package, Package.pk == Copy.package_pk)
        .where(Package.study_pk == study_pk, Copy.state.not_in(GONE))
        .order_by(Copy.package_pk, Copy.pk)
    )
    for copy, volume in session.execute(copies):
        found[copy.package_pk]["copies"].append(_copy_record(copy, volume))
    return list(found.values())


def _copy_record(copy: Copy, volume: Volume) -> Record:
    return {
        "state": copy.state,
        "pool": volume.pool,
        "volume": volume.name,
        "volume_state": volume.state,
        "place": volume.place,
        "where": place_of(volume),
        "locator": copy.locator,
        "written_at": copy.written_at,
        "verified_at": copy.verified_at,
    }


def _standings(session: Session, studies: Sequence[Study], reach: Reach) -> dict[int, Standing]:
    """How available each study is, and the removable media that a retrieve of it would read."""
    return available.availability_of(session, Level.STUDY, [study.pk for study in studies], reach)
