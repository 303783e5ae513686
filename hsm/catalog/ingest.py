"""Registering one received instance and whatever is above it, counters kept as they come.

:mod:`hsm.catalog.batch` does the same for many at once where all above them is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, exists, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hsm.catalog.tables import Base, Copy, Deletion, Instance, Name, Patient, Series, Study
from hsm.errors import Refused
from hsm.model import Header
from hsm.states import CopyState, DeletionKind, DeletionState
from hsm.text import normalise_groups

T = TypeVar("T", bound=Base)


_ATTRIBUTES = (
    *("patient_pk", "date", "time", "study_id", "accession", "description", "institution", "charset"),
    *("referring_physician", "referring_alphabetic", "referring_ideographic", "referring_phonetic"),
)
"""What a study says of itself."""

Place = tuple[str, str]
"""Study and Series Instance UID."""


@dataclass(frozen=True, slots=True)
class Received:
    """One instance whose bytes are durable and wait for their row."""

    header: Header
    transfer_syntax_uid: str
    version: int
    size: int
    digest: bytes
    source_ae: str
    at: datetime
    counts: bool = True
    """Whether it is one more instance to a query; a further version in the same series is not, nor is one
    that a rejection note has named before it came."""
    rejected: bool = False
    """Whether a rejection note has named it before it came."""

    @property
    def place(self) -> Place:
        return self.header.study_uid, self.header.series_uid

    def after(self, known: Sequence[Known], version: int) -> Received:
        """The same under this version, where these are there already."""
        return replace(
            self, version=version, counts=all(each.concealed or each.place != self.place for each in known)
        )


@dataclass(frozen=True, slots=True)
class Known:
    """A version of an instance that the catalog has already."""

    version: int
    digest: bytes
    place: Place
    concealed: int = 0
    """Flags of :class:`hsm.catalog.hiding.Concealment`."""


def expects_file(connection: Connection, sop_instance_uid: str, version: int, volume_pk: int) -> bool:
    """Whether this version's own file must be on the volume of received instances: it is in no package
    yet, so that there are no other bytes, or the volume has a verified copy of its package."""
    copied = exists().where(
        Copy.package_pk == Instance.package_pk,
        Copy.volume_pk == volume_pk,
        Copy.state == CopyState.VERIFIED,
    )
    found = connection.execute(
        select(Instance.pk).where(
            Instance.uid == sop_instance_uid,
            Instance.version == version,
            Instance.package_pk.is_(None) | copied,
        )
    )
    return found.first() is not None


@dataclass(frozen=True, slots=True)
class Keys:
    """The rows that an instance hangs on."""

    study_pk: int
    series_pk: int
    class_pk: int
    syntax_pk: int


News = list[tuple[str, dict[str, Any]]]
"""Verbs and details that the journal should have of a study."""


def register(session: Session, received: Received) -> tuple[Keys, News]:
    """Insert the instance and what is above it, and count it.

    Rows are always touched in the same order, study (with its patient), series, instance, so that
    associations that store into one study wait for each other and never deadlock. The news are for
    the caller to append, last in its transaction: that locks the journal's head until the commit.
    """
    header = received.header
    study, news = study_of(session, received)
    series_pk, new_series = series_of(session, study.pk, header, anew=received.counts)
    # Counters are of what queries show: one instance a UID in each series, however many versions are kept.
    first = int(received.counts)
    session.execute(
        update(Series).where(Series.pk == series_pk).values(n_instances=Series.n_instances + first)
    )
    keys = Keys(
        study.pk,
        series_pk,
        name_pk(session, header.sop_class_uid),
        name_pk(session, received.transfer_syntax_uid),
    )
    session.add(Instance(**instance_values(received, keys)))
    values: dict[str, Any] = {
        "n_instances": Study.n_instances + first,
        "n_series": Study.n_series + new_series,
        "n_bytes": Study.n_bytes + received.size,
        "unsealed": Study.unsealed + 1,
        "last_received": received.at,
        "last_accessed": received.at,
    }
    modality = f"\\{header.modality}\\"
    if received.counts and header.modality and modality not in study.modalities:
        values["modalities"] = join_modalities({*study.modalities.split("\\"), header.modality})
    session.execute(update(Study).where(Study.pk == study.pk).values(**values))
    session.flush()
    return keys, news


def instance_values(received: Received, keys: Keys) -> dict[str, Any]:
    """The columns of a new instance's row."""
    header = received.header
    return {
        "series_pk": keys.series_pk,
        "uid": header.sop_instance_uid,
        "version": received.version,
        "class_pk": keys.class_pk,
        "syntax_pk": keys.syntax_pk,
        "number": header.instance_number,
        "size": received.size,
        "digest": received.digest,
        "package_pk": None,
        "offset": None,
    }


def join_modalities(modalities: set[str]) -> str:
    r"""``{"CT", "SR"}`` as ``\CT\SR\``: one LIKE finds a member and never part of one."""
    names = sorted(name for name in modalities if name)
    return "\\" + "\\".join(names) + "\\" if names else ""


def name_pk(session: Session, uid: str) -> int:
    """The key of a shared UID, made on first sight."""
    return _get_or_insert(session, Name, Name.uid == uid, "uid", uid=uid)[0].pk


def patient_key(header: Header) -> str:
    """Patient ID and issuer in one value."""
    # Without a Patient ID nothing says that two studies are one person's: keep them apart.
    return f"{header.patient_id}\\{header.patient_issuer}" if header.patient_id else f"\\{header.study_uid}"


def _patient(session: Session, header: Header) -> int:
    key = patient_key(header)
    alphabetic, ideographic, phonetic = normalise_groups(header.patient_name)
    patient, _ = _get_or_insert(
        session,
        Patient,
        Patient.key == key,
        "key",
        key=key,
        patient_id=header.patient_id,
        issuer=header.patient_issuer,
        name=header.patient_name,
        name_alphabetic=alphabetic,
        name_ideographic=ideographic or None,
        name_phonetic=phonetic or None,
        birth_date=header.patient_birth_date,
        sex=header.patient_sex,
    )
    return patient.pk


def study_of(session: Session, received: Received, *, is_deleted: bool = False) -> tuple[Study, News]:
    """The study's row, locked, and what the journal should know of it.

    :param is_deleted: it is no arrival, but part of what was deleted.
    :raises Refused: the study was deleted, and nothing of it is to come again.
    """
    header = received.header
    known = _lock_study(session, header.study_uid)
    if known is None:
        made = _insert_study(session, _patient(session, header), received)
        if made is not None:
            return made, [("received", {"patient_id": header.patient_id, "accession": header.accession})]
        known = _lock_study(session, header.study_uid)
        assert known is not None  # somebody else has just committed it
    if known.n_instances == 0 and not is_deleted:
        told = _deleted_before(session, known)
        if told:
            return _begun_anew(session, known, received), [("received after its deletion", told)]
    key = session.execute(select(Patient.key).where(Patient.pk == known.patient_pk)).scalar_one()
    if key == patient_key(header):
        return known, []
    # A study stays with the patient it came with first; who sent what is for a person to sort out.
    detail = {"sop_instance_uid": header.sop_instance_uid, "patient_id": header.patient_id}
    return known, [("patient-mismatch", detail)]


def _deleted_before(session: Session, study: Study) -> dict[str, Any]:
    """Why nothing of the study is to be seen, where it was deleted.

    :raises Refused: its deletion says that nothing of it is to come again.
    """
    last = session.scalars(
        select(Deletion)
        .where(
            Deletion.study_pk == study.pk,
            Deletion.kind == DeletionKind.TRASH,
            Deletion.state != DeletionState.UNDONE,
        )
        .order_by(Deletion.pk.desc())
        .limit(1)
    ).one_or_none()
    if last is None:
        return {}
    if last.refuses:
        raise Refused(f"study {study.uid} was deleted on {last.made_at:%Y-%m-%d}, and takes nothing more")
    return {"deleted_at": last.made_at.isoformat(timespec="seconds"), "deleted_by": last.made_by}


def _begun_anew(session: Session, study: Study, received: Received) -> Study:
    """The row of a deleted study, with the attributes of what is sent anew: another patient's, maybe."""
    values = _study_values(_patient(session, received.header), received)
    was = study.patient_pk
    for name in ("first_received", "source_ae", *_ATTRIBUTES):
        setattr(study, name, values[name])
    session.flush()
    drop_patient(session, was)
    return study


def drop_patient(session: Session, pk: int) -> None:
    """Delete a patient's row if no study is left that is theirs."""
    session.execute(delete(Patient).where(Patient.pk == pk, ~exists().where(Study.patient_pk == pk)))


def _lock_study(session: Session, uid: str) -> Study | None:
    """Locked, because the counters and the modalities are read and then written."""
    return session.scalars(select(Study).where(Study.uid == uid).with_for_update()).one_or_none()


def _insert_study(session: Session, patient_pk: int, received: Received) -> Study | None:
    header = received.header
    study, new = _get_or_insert(
        session,
        Study,
        Study.uid == header.study_uid,
        "uid",
        **_study_values(patient_pk, received),
    )
    return study if new else None


def _study_values(patient_pk: int, received: Received) -> dict[str, Any]:
    """The columns of a new study."""
    header = received.header
    alphabetic, ideographic, phonetic = normalise_groups(header.referring_physician)
    return {
        "patient_pk": patient_pk,
        "uid": header.study_uid,
        "date": header.study_date,
        "time": header.study_time,
        "study_id": header.study_id,
        "accession": header.accession,
        "description": header.study_description,
        "referring_physician": header.referring_physician,
        "referring_alphabetic": alphabetic,
        "referring_ideographic": ideographic or None,
        "referring_phonetic": phonetic or None,
        "institution": header.institution,
        "charset": header.charset,
        "modalities": "",
        "n_series": 0,
        "n_instances": 0,
        "n_bytes": 0,
        "source_ae": received.source_ae,
        "first_received": received.at,
        "last_received": received.at,
        "last_accessed": received.at,
        "unsealed": 0,
        "packages": 0,
    }


def series_of(session: Session, study_pk: int, header: Header, *, anew: bool = True) -> tuple[int, int]:
    """The key of the series' row, made on first sight, and whether it is one more to see: nothing was to be
    seen of it, and what comes now will be (``anew``)."""
    series, new = _get_or_insert(
        session,
        Series,
        (Series.study_pk == study_pk) & (Series.uid == header.series_uid),
        "study_pk, uid",
        study_pk=study_pk,
        uid=header.series_uid,
        modality=header.modality,
        number=header.series_number,
        description=header.series_description,
        body_part=header.body_part,
        date=header.series_date,
        time=header.series_time,
        station=header.station,
        n_instances=0,
    )
    return series.pk, int(anew and (new or series.n_instances == 0))


def _get_or_insert(
    session: Session, table: type[T], where: Any, unique: str, **values: Any
) -> tuple[T, bool]:
    """The row, and whether this call made it. Another session may make it first; both then see one."""
    found = session.scalars(select(table).where(where)).one_or_none()
    if found is not None:
        return found, False
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = (
        insert(table)
        .values(**values)
        .on_conflict_do_nothing(index_elements=[column.strip() for column in unique.split(",")])
    )
    result = session.execute(statement.returning(table))
    row = result.scalars().one_or_none()
    if row is not None:
        return row, True
    return session.scalars(select(table).where(where)).one(), False
