"""The tables, typed. Names are the project's nouns.

Rows are lean: copies hang on packages, not on instances, and UIDs that repeat (SOP classes,
transfer syntaxes) are kept once in ``name``. Every state column has a CHECK made from the
transition tables of :mod:`hsm.states`. Times are UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import Mapped, mapped_column

from hsm import states
from hsm.catalog.announcetables import Announced as Announced
from hsm.catalog.announcetables import Followed as Followed
from hsm.catalog.approvaltables import Approval as Approval
from hsm.catalog.base import Base as Base
from hsm.catalog.base import one_of, values, where, where_known
from hsm.catalog.columns import Key, PackedUid, SmallKey
from hsm.catalog.deletiontables import AwaitedRejection as AwaitedRejection
from hsm.catalog.deletiontables import DeletedPackage as DeletedPackage
from hsm.catalog.deletiontables import Deletion as Deletion
from hsm.catalog.deletiontables import HiddenInstance as HiddenInstance
from hsm.catalog.operatortables import MountRequest as MountRequest
from hsm.catalog.operatortables import Movement as Movement
from hsm.catalog.operatortables import Notice as Notice
from hsm.catalog.policytables import Access as Access
from hsm.catalog.policytables import Activation as Activation
from hsm.catalog.policytables import Decision as Decision
from hsm.catalog.policytables import Hold as Hold
from hsm.catalog.policytables import Placement as Placement
from hsm.catalog.policytables import PlacementPool as PlacementPool
from hsm.catalog.policytables import Run as Run
from hsm.catalog.policytables import Word as Word
from hsm.catalog.policytables import WordSet as WordSet
from hsm.catalog.recalltables import Prefetch as Prefetch
from hsm.catalog.recalltables import Timing as Timing
from hsm.catalog.usetables import Drive as Drive
from hsm.catalog.usetables import DriveUse as DriveUse
from hsm.model import Place

DRAIN_TO = ("", "recycled", "retired")


class Name(Base):
    """UIDs that many instances share: SOP classes and transfer syntaxes."""

    __tablename__ = "name"

    pk: Mapped[int] = mapped_column(SmallKey, primary_key=True)
    uid: Mapped[str] = mapped_column(unique=True)


class Patient(Base):
    __tablename__ = "patient"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    """Patient ID and issuer; the Study Instance UID where there is no Patient ID."""
    patient_id: Mapped[str] = mapped_column(index=True)
    issuer: Mapped[str]
    name: Mapped[str]
    """Decoded, as sent: up to three component groups joined by ``=``."""
    name_alphabetic: Mapped[str] = mapped_column(index=True)
    """First component group, normalised for matching (hsm.text)."""
    name_ideographic: Mapped[str | None]
    name_phonetic: Mapped[str | None]
    """The other two groups likewise; None where there is none."""
    birth_date: Mapped[str] = mapped_column(index=True)
    sex: Mapped[str]

    __table_args__ = (where_known("patient", "name_ideographic"), where_known("patient", "name_phonetic"))


class Study(Base):
    __tablename__ = "study"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    patient_pk: Mapped[int] = mapped_column(ForeignKey("patient.pk"), index=True)
    uid: Mapped[str] = mapped_column(unique=True)
    date: Mapped[str] = mapped_column(index=True)
    time: Mapped[str]
    study_id: Mapped[str]
    accession: Mapped[str] = mapped_column(index=True)
    description: Mapped[str]
    referring_physician: Mapped[str]
    referring_alphabetic: Mapped[str] = mapped_column(index=True)
    referring_ideographic: Mapped[str | None]
    referring_phonetic: Mapped[str | None]
    """The referring physician's name by group, normalised, as the patient's."""
    institution: Mapped[str]
    charset: Mapped[str]
    modalities: Mapped[str]
    """Distinct modalities, sorted, joined and enclosed by backslashes: ``\\CT\\SR\\``."""
    n_series: Mapped[int]
    n_instances: Mapped[int]
    n_bytes: Mapped[int] = mapped_column(BigInteger)
    source_ae: Mapped[str]
    first_received: Mapped[datetime]
    last_received: Mapped[datetime] = mapped_column(index=True)
    last_accessed: Mapped[datetime]
    """Last retrieve, or reception where there was none."""
    unsealed: Mapped[int]
    """Instances that are in no package yet."""
    packages: Mapped[int]
    body_parts: Mapped[int | None] = mapped_column(ForeignKey("word_set.pk"))
    """What its series say, as of its last sealing, like the next two; None where they say nothing."""
    stations: Mapped[int | None] = mapped_column(ForeignKey("word_set.pk"))
    sop_classes: Mapped[int | None] = mapped_column(ForeignKey("word_set.pk"))
    tags: Mapped[int | None] = mapped_column(ForeignKey("word_set.pk"))
    """What people call it; who did is in the journal."""
    retain_until: Mapped[str] = mapped_column(server_default="")
    """``YYYYMMDD``: up to this day the study is kept, whatever a policy says; empty for none."""
    recalls: Mapped[int] = mapped_column(server_default="0")
    """How often it had to be recalled from a mounted volume."""
    placement_pk: Mapped[int | None] = mapped_column(ForeignKey("placement.pk"))
    """In which pools its packages lie; None while it has none."""

    __table_args__ = (
        where_known("study", "referring_ideographic"),
        where_known("study", "referring_phonetic"),
        where("ix_study_unsealed", "unsealed > 0", "last_received"),
        # A run reads the studies of one placement in order; those not sealed yet cost it nothing.
        where("ix_study_placed", "placement_pk IS NOT NULL", "placement_pk", "last_accessed", "pk"),
        where_known("study", "tags"),
        Index("ix_study_arrival", "first_received", "pk"),
    )


class Series(Base):
    """Its key, like a package's, is of 32 bits: each of their instances repeats it."""

    __tablename__ = "series"

    pk: Mapped[int] = mapped_column(Integer, primary_key=True)
    study_pk: Mapped[int] = mapped_column(ForeignKey("study.pk"))
    uid: Mapped[str] = mapped_column(index=True)
    modality: Mapped[str]
    number: Mapped[int | None]
    description: Mapped[str]
    body_part: Mapped[str]
    date: Mapped[str]
    time: Mapped[str]
    station: Mapped[str]
    n_instances: Mapped[int]

    __table_args__ = (UniqueConstraint("study_pk", "uid"),)


class Instance(Base):
    """One version of a SOP instance. Columns from wide to narrow: alignment would pad them otherwise."""

    __tablename__ = "instance"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    offset: Mapped[int | None] = mapped_column(BigInteger)
    series_pk: Mapped[int] = mapped_column(ForeignKey("series.pk"), index=True)
    package_pk: Mapped[int | None] = mapped_column(ForeignKey("package.pk"))
    """Without an index: a package's instances are found through its study."""
    number: Mapped[int | None]
    version: Mapped[int] = mapped_column(SmallInteger)
    """0 for the first; greater where other bytes came under the same UID and both are kept."""
    class_pk: Mapped[int] = mapped_column(ForeignKey("name.pk"))
    syntax_pk: Mapped[int] = mapped_column(ForeignKey("name.pk"))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    uid: Mapped[str] = mapped_column(PackedUid)

    __table_args__ = (
        UniqueConstraint("uid", "version"),
        CheckConstraint('(package_pk IS NULL) = ("offset" IS NULL)', name="sealed"),
        # Sealing writes each row a second time: autovacuum's usual fifth of dead rows is too much room.
        {"postgresql_with": {"autovacuum_vacuum_scale_factor": 0.02}},
    )


class Package(Base):
    __tablename__ = "package"

    pk: Mapped[int] = mapped_column(Integer, primary_key=True)
    study_pk: Mapped[int] = mapped_column(ForeignKey("study.pk"))
    number: Mapped[int]
    key: Mapped[str] = mapped_column(unique=True)
    """The package's name on every medium: ``<Study Instance UID>.p<number, four digits>.tar``."""
    size: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    n_instances: Mapped[int]
    sealed_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("study_pk", "number"),)


class Volume(Base):
    __tablename__ = "volume"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    """The barcode of removable media; the pool's name for a file system."""
    uuid: Mapped[str] = mapped_column(unique=True)
    pool: Mapped[str | None] = mapped_column(index=True)
    """None for scratch media."""
    state: Mapped[str]
    removable: Mapped[bool]
    capacity: Mapped[int] = mapped_column(BigInteger)
    used: Mapped[int] = mapped_column(BigInteger)
    library: Mapped[str | None]
    place: Mapped[str]
    element: Mapped[int | None]
    """Element address in the library."""
    shelf: Mapped[str]
    """Where on the shelf, in the operator's words."""
    error: Mapped[str]
    created_at: Mapped[datetime]
    worm: Mapped[bool] = mapped_column(server_default=false())
    """A write-once cartridge: never recycled."""
    drain_to: Mapped[str] = mapped_column(server_default="")
    """While it is repacked, and takes no writes: what it becomes when nothing counts on it any more."""
    content: Mapped[str] = mapped_column(server_default="")
    """What it said it is when it was last looked at; empty when nobody has looked."""
    looked_at: Mapped[datetime | None]
    site: Mapped[str] = mapped_column(server_default="")
    """The building that its shelf is in; empty for the library's own."""
    home: Mapped[str] = mapped_column(server_default="")
    """The shelf where it stands when no library has it, in the operator's words; empty when it never did."""

    __table_args__ = (
        one_of("state", states.VOLUME.names()),
        one_of("place", values(Place)),
        one_of("drain_to", DRAIN_TO),
    )


class Copy(Base):
    __tablename__ = "copy"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    package_pk: Mapped[int] = mapped_column(ForeignKey("package.pk"))
    volume_pk: Mapped[int] = mapped_column(ForeignKey("volume.pk"), index=True)
    state: Mapped[str]
    locator: Mapped[str]
    position: Mapped[int | None] = mapped_column(BigInteger)
    written_at: Mapped[datetime | None]
    verified_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("package_pk", "volume_pk"),
        one_of("state", states.COPY.names()),
        CheckConstraint("state <> 'verified' OR verified_at IS NOT NULL", name="verified_at"),
        # What is to be read back next is found without reading every copy; so are the few that are damaged.
        where("ix_copy_verified", "state = 'verified'", "volume_pk", "verified_at"),
        where("ix_copy_suspect", "state = 'suspect'", "pk"),
    )


class Request(Base):
    __tablename__ = "request"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    kind: Mapped[str]
    key: Mapped[str]
    """What it is about; at most one live request has it."""
    state: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger)
    study_pk: Mapped[int | None] = mapped_column(ForeignKey("study.pk"), index=True)
    package_pk: Mapped[int | None] = mapped_column(ForeignKey("package.pk"), index=True)
    volume_pk: Mapped[int | None] = mapped_column(ForeignKey("volume.pk"))
    """The volume it reads from or writes to, once that is decided."""
    pool: Mapped[str | None]
    reason: Mapped[str]
    detail: Mapped[dict[str, Any]]
    attempts: Mapped[int] = mapped_column(SmallInteger)
    error: Mapped[str]
    worker: Mapped[str]
    not_before: Mapped[datetime]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        one_of("state", states.REQUEST.names()),
        one_of("kind", values(states.RequestKind)),
        where("uq_request_live_key", "state IN ('queued', 'active', 'waiting')", "key", unique=True),
        Index("ix_request_queue", "state", "priority", "pk"),
        CheckConstraint(
            "(state IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL)", name="finished"
        ),
    )


class Waiter(Base):
    """Someone who waits for a recall: a C-MOVE, a C-GET, a command, a delivery."""

    __tablename__ = "waiter"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    request_pk: Mapped[int] = mapped_column(ForeignKey("request.pk", ondelete="CASCADE"), index=True)
    who: Mapped[str]
    """In words for the operator: ``C-MOVE from WS1 to WS1``."""
    since: Mapped[datetime]


MARKS = (
    "deleted",
    "undeleted",
    "deletion due",
    "purged",
    "rejected",
    "rejected on arrival",
    "rejection revoked",
    "hold placed",
    "hold lifted",
    "tagged",
    "untagged",
    "retention ended",
    "marks found",
)
"""Verbs of records of what people say of a study; and all that begin with ``retained until``."""
MARKED = (
    "verb IN (" + ", ".join(f"'{each}'" for each in MARKS) + ") "
    "OR verb >= 'retained until' AND verb < 'retained untim'"
)
"""Records of what people say of a study, as an SQL condition: the database knows it word by word."""
ABOUT_COPIES = "verb >= 'copy ' AND verb < 'copy!'"
"""Records of what became of a copy, in the same way."""


class Journal(Base):
    """The append-only, hash-chained record of every state change (promise 7)."""

    __tablename__ = "journal"

    seq: Mapped[int] = mapped_column(Key, primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    verb: Mapped[str]
    kind: Mapped[str]
    subject: Mapped[str] = mapped_column(index=True)
    detail: Mapped[str]
    """Canonical JSON."""
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    """SHA-256 over the previous record's digest and this record's fields."""

    __table_args__ = (
        where("ix_journal_marked", MARKED, "seq"),
        # What happened since a time is few of them: an audit of that time asks.
        where("ix_journal_copies", ABOUT_COPIES, "at"),
    )


class JournalHead(Base):
    """One row: the last record. Locked by each append, so that the chain has no forks."""

    __tablename__ = "journal_head"

    pk: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))

    __table_args__ = (CheckConstraint("pk = 1", name="single"),)
