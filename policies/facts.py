"""What a policy may say about a study: the one table of facts, and one study's values.

A fact is computed from a *source*: a column that the caller hands in (``compile``) or a value that
the caller has read from that same column (``evaluate``). Several facts may share a source. A new
fact is a line in :data:`FACTS`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType


class Kind(enum.Enum):
    """The type of a fact, with the value its source holds. Sources may be null where said."""

    TEXT = "text"
    """Text; null and the empty text both mean that it is not known."""
    CODES = "set of codes"
    """Text of codes, each enclosed by backslashes (``\\CT\\SR\\``); null or empty: not known."""
    COUNT = "whole number"
    """An integer, never null."""
    SIZE = "size"
    """Bytes, an integer, never null."""
    ELAPSED = "time since"
    """An aware datetime, never null; the fact is the time from then to now."""
    DAYS = "days since"
    """``YYYYMMDD`` text, null or empty if not known; the fact is the whole days from then to today."""
    DATE = "date"
    """``YYYYMMDD`` text, null or empty if not known."""
    FRACTION = "percentage"
    """A number from 0 to 1; the one kind that is about a pool and not about a study."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing a policy can ask about."""

    name: str
    kind: Kind
    source: str
    """Key into the columns handed to ``compile`` and into the values of :class:`StudyFacts`."""
    help: str
    of_pool: bool = False
    """Written with a pool in parentheses: ``copies(tape)``."""
    in_scope: bool = True
    """May stand in a policy's scope: it does not change because a policy ran."""

    @property
    def nullable(self) -> bool:
        return self.kind in (Kind.TEXT, Kind.CODES, Kind.DAYS, Kind.DATE)

    @property
    def orderable(self) -> bool:
        return not self.of_pool and self.kind not in (Kind.TEXT, Kind.CODES)


_ALL = (
    Fact("modality", Kind.CODES, "modalities", "modalities in the study; = and in hold if the study has one"),
    Fact("age", Kind.DAYS, "study_date", "whole days since the study date"),
    Fact("study_date", Kind.DATE, "study_date", "the study date"),
    Fact("received", Kind.ELAPSED, "received_at", "time since the last instance was received"),
    Fact("idle", Kind.ELAPSED, "accessed_at", "time since the last retrieve, or reception if there was none"),
    Fact("size", Kind.SIZE, "size", "bytes of all instances"),
    Fact("instances", Kind.COUNT, "instances", "number of instances"),
    Fact("institution", Kind.TEXT, "institution", "Institution Name (0008,0080)"),
    Fact("source_ae", Kind.TEXT, "source_ae", "AE title that sent the study"),
    Fact("accession", Kind.TEXT, "accession", "Accession Number (0008,0050)"),
    Fact("description", Kind.TEXT, "description", "Study Description (0008,1030)"),
    Fact("patient_id", Kind.TEXT, "patient_id", "Patient ID (0010,0020)"),
    Fact("copies", Kind.COUNT, "copies", "verified copies in a pool", of_pool=True, in_scope=False),
    Fact("fill", Kind.FRACTION, "fill", "how full a pool is", of_pool=True, in_scope=False),
)

FACTS: Mapping[str, Fact] = MappingProxyType({fact.name: fact for fact in _ALL})
"""Every fact by name."""

STUDY_SOURCES: tuple[str, ...] = tuple(dict.fromkeys(fact.source for fact in _ALL if not fact.of_pool))
"""Keys that ``compile``'s columns and :class:`StudyFacts` values must have. ``compile`` also needs
``copies``, a function of the pool's name; fill is handed over apart, since it is the same for all."""

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

SourceValue = str | int | datetime | None


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

    def __post_init__(self) -> None:
        missing = [source for source in STUDY_SOURCES if source not in self.values]
        if missing:
            raise ValueError(f"facts of study {self.study}: no value for {', '.join(missing)}")
        for source in _AWARE:
            value = self.values[source]
            if not isinstance(value, datetime) or value.tzinfo is None:
                raise ValueError(
                    f"facts of study {self.study}: {source} is {value!r}; expected an aware datetime"
                )

    def copies_in(self, pool: str) -> int:
        return self.copies.get(pool, 0)

    def is_held_in(self, pool: str) -> bool:
        return pool in self.held or self.copies_in(pool) > 0


_AWARE = tuple(dict.fromkeys(fact.source for fact in _ALL if fact.kind is Kind.ELAPSED))
