"""The rows of a package's instances, as its manifest describes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from hsm.catalog import ingest, portions, words
from hsm.catalog.ingest import Keys, Place
from hsm.catalog.tables import Instance, Series, Study
from hsm.errors import Refused
from hsm.model import Header
from hsm.package import Member, PackagePlan, SeriesIdentity


@dataclass(frozen=True, slots=True)
class There:
    """A version of an instance that the catalog has."""

    pk: int
    size: int
    digest: bytes
    sealed: bool
    place: Place


def there(session: Session, uids: Sequence[str]) -> dict[str, dict[int, There]]:
    """What the catalog has of these SOP Instance UIDs, by UID and version."""
    found: dict[str, dict[int, There]] = {}
    for some in portions.chunks(dict.fromkeys(uids)):
        rows = session.execute(
            select(
                *(Instance.uid, Instance.version, Instance.pk, Instance.size, Instance.digest),
                *(Instance.package_pk, Study.uid, Series.uid),
            )
            .join(Series, Series.pk == Instance.series_pk)
            .join(Study, Study.pk == Series.study_pk)
            .where(Instance.uid.in_(some))
        )
        for uid, version, pk, size, digest, package_pk, study_uid, series_uid in rows:
            place = (study_uid, series_uid)
            found.setdefault(uid, {})[version] = There(pk, size, digest, package_pk is not None, place)
    return found


def refuse_others(plan: PackagePlan, known: Mapping[str, Mapping[int, There]]) -> None:
    """:raises Refused: an instance is in another package, or the catalog has other bytes of it."""
    identity = plan.identity
    for member in plan.members:
        have = known.get(member.sop_instance_uid, {}).get(member.version)
        if have is None:
            continue
        what = f"{identity.key}: instance {member.sop_instance_uid}"
        what += f", version {member.version}," if member.version else ""
        if (have.size, have.digest) != (member.size, member.digest):
            raise Refused(f"{what} is in the catalog with other bytes")
        if have.sealed or have.place != (identity.study_uid, member.series_uid):
            raise Refused(f"{what} is in the catalog already")


@dataclass(slots=True)
class _Made:
    """What registering a package's instances has come to so far."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    series: dict[str, int] = field(default_factory=dict)
    """Series Instance UID -> key."""
    counted: Counter[str] = field(default_factory=Counter)
    """By series: instances that are one more to a query."""
    places: dict[str, set[Place]] = field(default_factory=dict)
    """SOP Instance UID -> where versions of it are."""
    new_series: int = 0
    sealed: int = 0
    """Instances that had rows already."""
    size: int = 0


def register(
    session: Session,
    plan: PackagePlan,
    study: Study,
    package_pk: int,
    known: Mapping[str, Mapping[int, There]],
    sealed_at: datetime,
) -> None:
    """A package's instances: new rows, places in the package for those that have rows, and the counters."""
    described = {each.uid: each for each in plan.identity.series}
    made = _Made(places={uid: {each.place for each in some.values()} for uid, some in known.items()})
    names = _names(session, plan.members)
    for member, offset in zip(plan.members, plan.offsets, strict=True):
        came = received(plan, described[member.series_uid], member, sealed_at)
        if member.series_uid not in made.series:
            made.series[member.series_uid], new = ingest.series_of(session, study.pk, came.header)
            made.new_series += new
        place = {"package_pk": package_pk, "offset": offset}
        have = known.get(member.sop_instance_uid, {}).get(member.version)
        if have is not None:
            session.execute(update(Instance).where(Instance.pk == have.pk).values(**place))
            made.sealed += 1
            continue
        keys = Keys(
            study.pk,
            made.series[member.series_uid],
            names[member.sop_class_uid],
            names[member.transfer_syntax_uid],
        )
        _add(made, came, ingest.instance_values(came, keys) | place)
    if made.rows:
        session.execute(insert(Instance), made.rows)
    _count(session, study, made, {described[uid].modality for uid in made.series}, sealed_at)


def _names(session: Session, members: Iterable[Member]) -> dict[str, int]:
    """Keys of the SOP classes and transfer syntaxes."""
    uids = dict.fromkeys(uid for each in members for uid in (each.sop_class_uid, each.transfer_syntax_uid))
    return {uid: ingest.name_pk(session, uid) for uid in uids}


def _add(made: _Made, came: ingest.Received, row: dict[str, Any]) -> None:
    made.rows.append(row)
    made.size += came.size
    known = made.places.setdefault(came.header.sop_instance_uid, set())
    if came.place not in known:
        made.counted[came.header.series_uid] += 1
        known.add(came.place)


def _count(session: Session, study: Study, made: _Made, modalities: set[str], sealed_at: datetime) -> None:
    for uid, count in made.counted.items():
        session.execute(
            update(Series).where(Series.pk == made.series[uid]).values(n_instances=Series.n_instances + count)
        )
    session.execute(
        update(Study)
        .where(Study.pk == study.pk)
        .values(
            n_instances=Study.n_instances + made.counted.total(),
            n_series=Study.n_series + made.new_series,
            n_bytes=Study.n_bytes + made.size,
            unsealed=Study.unsealed - made.sealed,
            packages=Study.packages + 1,
            modalities=ingest.join_modalities({*study.modalities.split("\\"), *modalities}),
            first_received=min(study.first_received, sealed_at),
            last_received=max(study.last_received, sealed_at),
            last_accessed=max(study.last_accessed, sealed_at),
            **words.said_by(session, study.pk),
        )
    )


def received(
    plan: PackagePlan, series: SeriesIdentity, member: Member, sealed_at: datetime
) -> ingest.Received:
    """A member as if it had just come."""
    return ingest.Received(
        header=_header(plan, series, member),
        transfer_syntax_uid=member.transfer_syntax_uid,
        version=member.version,
        size=member.size,
        digest=member.digest,
        source_ae=plan.identity.source_ae,
        at=sealed_at,
    )


def _header(plan: PackagePlan, series: SeriesIdentity, member: Member) -> Header:
    identity = plan.identity
    return Header(
        patient_id=identity.patient_id,
        patient_issuer=identity.issuer,
        patient_name=identity.patient_name,
        patient_birth_date=identity.birth_date,
        patient_sex=identity.sex,
        study_uid=identity.study_uid,
        study_date=identity.study_date,
        study_time=identity.study_time,
        study_id=identity.study_id,
        study_description=identity.study_description,
        accession=identity.accession,
        referring_physician=identity.referring_physician,
        series_uid=series.uid,
        series_number=series.number,
        series_description=series.description,
        series_date=series.date,
        series_time=series.time,
        modality=series.modality,
        body_part=series.body_part,
        institution=identity.institution,
        station=series.station,
        sop_instance_uid=member.sop_instance_uid,
        sop_class_uid=member.sop_class_uid,
        instance_number=member.number,
        charset=identity.charset,
    )
