"""What a policy may say about a study: the one table of facts, and one study's values.

A fact is computed from a *source*: a column (or a function that makes one) that the caller hands in
to ``compile``, or a value that the caller has read from that same column for ``evaluate``. Several
facts may share a source. A new fact is a line in :data:`FACTS`.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType


class Kind(enum.Enum):
    """The type of a fact, with the value its source holds. Sources may be null where said."""

    TEXT = "text"
    """Text; null and the empty text both mean that it is not known."""
    CODES = "set of codes"
    """Text of codes, each enclosed by backslashes (``\\CT\\SR\\``); null or empty: not known."""
    TEXTS = "set of texts"
    """For ``evaluate`` a collection of texts, of which empty ones do not count. For ``compile`` a
    function that takes a test of one text (a function from a column to a condition) and gives the
    condition that the study has a text that is not empty and meets it."""
    COUNT = "whole number"
    """An integer, never null."""
    SIZE = "size"
    """Bytes, an integer, never null."""
    ELAPSED = "time since"
    """An aware datetime; the fact is the time from then to now. Null only where the fact is of a pool."""
    DAYS = "days since"
    """``YYYYMMDD`` text, null or empty if not known; the fact is the whole days from then to today."""
    LEFT = "days until"
    """``YYYYMMDD`` text, null or empty if there is no such day; the fact is the whole days from today
    to then, which are negative once it is past."""
    DATE = "date"
    """``YYYYMMDD`` text, null or empty if not known."""
    FLAG = "yes or no"
    """A boolean, for ``compile`` a condition; never null. Stands alone as a test."""
    FRACTION = "percentage"
    """A number from 0 to 1; the one kind that is about a pool and not about a study."""


class Argument(enum.Enum):
    """What stands in the parentheses of a fact."""

    NONE = ""
    POOL = "POOL"
    """A pool, else a kind of pools, else a tier, else a site. Its column is a function of the names
    of one or more pools: ``columns["copies"]("tape-a", "tape-b")``."""
    ONE_POOL = "ONE POOL"
    """A pool and nothing wider."""
    WINDOW = "LENGTH OF TIME"
    """Up to now. Its column is a function of the aware datetime at which the window begins:
    ``columns["accesses"](since)`` counts what happened at ``since`` or later."""
    SITES = "SITES"
    """Nothing is written. Its column is a function of a mapping from each pool's name to its site."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing a policy can ask about."""

    name: str
    kind: Kind
    source: str
    """Key into the columns handed to ``compile`` and into the values of :class:`StudyFacts`."""
    help: str
    argument: Argument = Argument.NONE
    in_scope: bool = True
    """May stand in a policy's scope: it does not change because a policy ran."""
    choices: tuple[str, ...] = ()
    """The only values of a text."""
    empty_is_known: bool = False
    """Of a set: that it is empty is a value too, and not the lack of one."""

    @property
    def of_pool(self) -> bool:
        return self.argument in (Argument.POOL, Argument.ONE_POOL)

    @property
    def nullable(self) -> bool:
        """Whether ``is null`` may be asked."""
        if self.kind in (Kind.CODES, Kind.TEXTS):
            return not self.empty_is_known
        if self.kind is Kind.ELAPSED:
            return self.of_pool
        return self.kind in (Kind.TEXT, Kind.DAYS, Kind.LEFT, Kind.DATE) and not self.choices

    @property
    def orderable(self) -> bool:
        return self.argument is Argument.NONE and self.kind in (
            Kind.COUNT,
            Kind.SIZE,
            Kind.ELAPSED,
            Kind.DAYS,
            Kind.LEFT,
            Kind.DATE,
        )

    @property
    def usage(self) -> str:
        """How it is written: ``idle``, ``copies(POOL)``, ``accesses(30d)``."""
        inside = {Argument.NONE: "", Argument.SITES: "", Argument.WINDOW: "(30d)"}
        return self.name + inside.get(self.argument, "(POOL)")


AVAILABILITIES = ("ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE")
"""Instance Availability (0008,0056), PS3.3 section C.4.23.1.1."""

_ALL = (
    Fact("modality", Kind.CODES, "modalities", "Modality (0008,0060) of its series"),
    Fact("body_part", Kind.TEXTS, "body_parts", "Body Part Examined (0018,0015) of its series"),
    Fact("sop_class", Kind.TEXTS, "sop_classes", "SOP Class UIDs (0008,0016) of its instances"),
    Fact("description", Kind.TEXT, "description", "Study Description (0008,1030)"),
    Fact(
        "series_description",
        Kind.TEXTS,
        "series_descriptions",
        "Series Description (0008,103E) of its series",
    ),
    Fact("age", Kind.DAYS, "study_date", "whole days since the study date"),
    Fact("study_date", Kind.DATE, "study_date", "Study Date (0008,0020)"),
    Fact("received", Kind.ELAPSED, "received_at", "time since the last instance was received"),
    Fact("idle", Kind.ELAPSED, "accessed_at", "time since the last retrieve, or reception if there was none"),
    Fact("accesses", Kind.COUNT, "accesses", "retrieves in a time up to now", argument=Argument.WINDOW),
    Fact("recalls", Kind.COUNT, "recalls", "how often it was recalled"),
    Fact("size", Kind.SIZE, "size", "bytes of all instances"),
    Fact("instances", Kind.COUNT, "instances", "number of instances"),
    Fact("institution", Kind.TEXT, "institution", "Institution Name (0008,0080)"),
    Fact("station", Kind.TEXTS, "stations", "Station Name (0008,1010) of its series"),
    Fact("source_ae", Kind.TEXT, "source_ae", "AE title that sent the study"),
    Fact("referring_physician", Kind.TEXT, "referring_physician", "Referring Physician's Name (0008,0090)"),
    Fact("accession", Kind.TEXT, "accession", "Accession Number (0008,0050)"),
    Fact("patient_id", Kind.TEXT, "patient_id", "Patient ID (0010,0020)"),
    Fact("patient_age", Kind.DAYS, "birth_date", "age of the patient today, from Birth Date (0010,0030)"),
    Fact("tags", Kind.TEXTS, "tags", "tags that people gave the study", empty_is_known=True),
    Fact("legal_hold", Kind.FLAG, "legal_hold", "the study is under legal hold"),
    Fact("retention", Kind.LEFT, "retain_until", "time until its retention ends"),
    Fact(
        "availability",
        Kind.TEXT,
        "availability",
        "how it can be had: ONLINE, NEARLINE, OFFLINE or UNAVAILABLE",
        in_scope=False,
        choices=AVAILABILITIES,
    ),
    Fact("copies", Kind.COUNT, "copies", "verified copies in a pool", Argument.POOL, in_scope=False),
    Fact("held", Kind.FLAG, "held", "there is any copy, verified or not", Argument.POOL, in_scope=False),
    Fact(
        "resident",
        Kind.ELAPSED,
        "resident_since",
        "time since it came into a pool",
        Argument.ONE_POOL,
        in_scope=False,
    ),
    Fact(
        "verified",
        Kind.ELAPSED,
        "verified_at",
        "time since its copies in a pool were last read back, of the one longest ago",
        Argument.ONE_POOL,
        in_scope=False,
    ),
    Fact(
        "sites",
        Kind.COUNT,
        "sites",
        "different sites that hold a verified copy",
        Argument.SITES,
        in_scope=False,
    ),
    Fact("fill", Kind.FRACTION, "fill", "how full a pool is", Argument.ONE_POOL, in_scope=False),
)

FACTS: Mapping[str, Fact] = MappingProxyType({fact.name: fact for fact in _ALL})
"""Every fact by name."""

OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("last_access", "last_accessed", "last_used", "unused", "accessed"), "idle"),
        **dict.fromkeys(("last_received", "stored", "arrived", "arrival"), "received"),
        **dict.fromkeys(("bytes", "volume", "filesize", "study_size"), "size"),
        **dict.fromkeys(("ae_title", "aet", "calling_ae", "sender", "source"), "source_ae"),
        **dict.fromkeys(("physician", "doctor", "referrer", "referring"), "referring_physician"),
        **dict.fromkeys(("study_description", "study_desc"), "description"),
        **dict.fromkeys(("series_desc", "series"), "series_description"),
        **dict.fromkeys(("body_part_examined", "bodypart", "region", "organ"), "body_part"),
        **dict.fromkeys(("study_age", "days"), "age"),
        **dict.fromkeys(("date", "year"), "study_date"),
        **dict.fromkeys(("images", "files", "number_of_instances"), "instances"),
        **dict.fromkeys(("hospital", "site", "department"), "institution"),
        **dict.fromkeys(("hold", "litigation", "locked"), "legal_hold"),
        **dict.fromkeys(("retain", "retained", "retain_until", "expires"), "retention"),
        **dict.fromkeys(("retrieves", "reads", "access_count", "hits"), "accesses"),
        **dict.fromkeys(("mrn", "patient", "pid"), "patient_id"),
        **dict.fromkeys(("usage", "used", "full", "pool_fill", "capacity"), "fill"),
        **dict.fromkeys(("label", "labels", "keyword", "keywords"), "tags"),
        **dict.fromkeys(("replicas", "copy_count"), "copies"),
    }
)
"""What facts are called elsewhere, for messages only."""

STUDY_SOURCES: tuple[str, ...] = tuple(
    dict.fromkeys(fact.source for fact in _ALL if fact.argument is Argument.NONE)
)
"""Keys that ``compile``'s columns and :class:`StudyFacts` values have. ``compile`` also needs those of
facts with an argument, which are functions; fill is handed over apart, since it is the same for all."""

CORE_SOURCES = (
    "modalities",
    "study_date",
    "received_at",
    "accessed_at",
    "size",
    "instances",
    "institution",
    "source_ae",
    "accession",
    "description",
    "patient_id",
)
"""Without these no study can be decided on at all."""

_MODALITIES = (
    "ANN AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS ES FID GM HC HD IO "
    "IOL IVOCT IVUS KER KO LEN LS M3D MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT "
    "PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR "
    "SRF STAIN TEXTUREMAP TG US VA VIDD XA XAPROTOCOL XC"
)
MODALITIES = frozenset(_MODALITIES.split())
"""Defined terms of Modality (0008,0060), PS3.3 section C.7.3.1.1.1; others are only warned about."""

EARLIEST_DATE = "18950101"
"""Study dates before this one are taken as not known: there was nothing to image with."""

SourceValue = str | int | bool | datetime | frozenset[str] | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """One study's values, as read from the columns that the same sources name in SQL."""

    study: str
    """Study Instance UID, for decisions and messages."""
    values: Mapping[str, SourceValue]
    """By source; see :class:`Kind` for what each kind holds."""
    copies: Mapping[str, int] = field(default_factory=dict)
    """Verified copies by pool: of a study with several packages the least that any package has."""
    held: frozenset[str] = frozenset()
    """Pools that hold any copy of it, verified or not; those in ``copies`` count without being named."""
    packages: tuple[Mapping[str, int], ...] = ()
    """Verified copies by pool, one mapping a package. Empty says that ``copies`` is the one package's."""
    accesses: tuple[datetime, ...] = ()
    """When it was retrieved, aware: as far back as the longest window that a policy asks for."""
    resident: Mapping[str, datetime] = field(default_factory=dict)
    """Since when each pool has held it, aware: of several copies there the newest."""
    verified: Mapping[str, datetime] = field(default_factory=dict)
    """When its copies in each pool were last read back, aware: of several the one longest ago."""

    def __post_init__(self) -> None:
        missing = [source for source in CORE_SOURCES if source not in self.values]
        if missing:
            raise ValueError(f"facts of study {self.study}: no value for {', '.join(missing)}")
        for source in _AWARE:
            value = self.values[source]
            if not isinstance(value, datetime) or value.tzinfo is None:
                raise ValueError(
                    f"facts of study {self.study}: {source} is {value!r}; expected an aware datetime"
                )

    @property
    def each_package(self) -> tuple[Mapping[str, int], ...]:
        """Verified copies by pool, of each package."""
        return self.packages or (self.copies,)

    def copies_in(self, *pools: str) -> int:
        """Verified copies in all of ``pools`` together: the least of any package."""
        return least_copies(self.each_package, pools)

    def sites_of(self, site_by_pool: Mapping[str, str]) -> int:
        """Different sites with a verified copy, of the pools named: the least of any package."""
        return least_sites(self.each_package, site_by_pool)

    def is_held_in(self, *pools: str) -> bool:
        return any(pool in self.held or self.copies.get(pool, 0) > 0 for pool in pools)


def least_copies(packages: Iterable[Mapping[str, int]], pools: Collection[str]) -> int:
    """Verified copies in all of ``pools`` together: the least of any package.

    :param packages: verified copies by pool, one mapping a package; at least one.
    """
    return min(sum(package.get(pool, 0) for pool in pools) for package in packages)


def least_sites(packages: Iterable[Mapping[str, int]], site_by_pool: Mapping[str, str]) -> int:
    """Different sites with a verified copy, of the pools named: the least of any package."""
    return min(
        len({site for pool, site in site_by_pool.items() if package.get(pool, 0) > 0}) for package in packages
    )


_AWARE = ("received_at", "accessed_at")
