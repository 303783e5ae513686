"""What a query asks for, without DICOM's encoding and without SQL: levels, fields and matching terms.

PS3.4 section C.2.2.2. The DICOM side makes these values, the catalog compiles them.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

from hsm.text import normalise_group, normalise_groups

# Noncharacters stand for wildcards while text is folded: folding leaves them alone, and no text has them.
_ANY, _ONE = "\ufdd0", "\ufdd1"
_HOLD = {ord("*"): _ANY, ord("?"): _ONE, ord(_ANY): None, ord(_ONE): None}
_TOKEN = re.compile(r"\\.|.", re.DOTALL)


class Level(enum.StrEnum):
    """Query/Retrieve Level (0008,0052), PS3.4 section C.6.1.1 and C.6.2.1."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"

    @property
    def rank(self) -> int:
        """0 for PATIENT to 3 for IMAGE."""
        return list(Level).index(self)


class Field(enum.StrEnum):
    """What the catalog can match or answer."""

    PATIENT_ID = "patient_id"
    PATIENT_ISSUER = "patient_issuer"
    PATIENT_NAME = "patient_name"
    PATIENT_BIRTH_DATE = "patient_birth_date"
    PATIENT_SEX = "patient_sex"
    PATIENT_STUDIES = "patient_studies"
    PATIENT_SERIES = "patient_series"
    PATIENT_INSTANCES = "patient_instances"
    STUDY_UID = "study_uid"
    STUDY_DATE = "study_date"
    STUDY_TIME = "study_time"
    STUDY_ID = "study_id"
    ACCESSION = "accession"
    STUDY_DESCRIPTION = "study_description"
    REFERRING_PHYSICIAN = "referring_physician"
    INSTITUTION = "institution"
    MODALITIES = "modalities"
    SOP_CLASSES = "sop_classes"
    STUDY_SERIES = "study_series"
    STUDY_INSTANCES = "study_instances"
    SERIES_UID = "series_uid"
    MODALITY = "modality"
    SERIES_NUMBER = "series_number"
    SERIES_DESCRIPTION = "series_description"
    BODY_PART = "body_part"
    SERIES_DATE = "series_date"
    SERIES_TIME = "series_time"
    STATION = "station"
    SERIES_INSTANCES = "series_instances"
    SOP_INSTANCE_UID = "sop_instance_uid"
    SOP_CLASS_UID = "sop_class_uid"
    INSTANCE_NUMBER = "instance_number"
    TRANSFER_SYNTAX_UID = "transfer_syntax_uid"


_FIRST_FIELDS = (
    (Level.PATIENT, Field.PATIENT_ID),
    (Level.STUDY, Field.STUDY_UID),
    (Level.SERIES, Field.SERIES_UID),
    (Level.IMAGE, Field.SOP_INSTANCE_UID),
)


def _levels() -> dict[Field, Level]:
    starts = {field: level for level, field in _FIRST_FIELDS}
    found, level = {}, Level.PATIENT
    for field in Field:
        level = starts.get(field, level)
        found[field] = level
    return found


LEVEL_OF: Mapping[Field, Level] = _levels()
"""The level whose entity has the field; the enumeration is in this order."""


@dataclass(frozen=True, slots=True)
class Exact:
    """The value, to the letter."""

    value: str


@dataclass(frozen=True, slots=True)
class Wildcard:
    """``*`` is any text, ``?`` one character, and a backslash takes the next character as it is."""

    pattern: str


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of several: UID lists and lists of codes."""

    terms: tuple[Exact | Wildcard, ...]

    def __post_init__(self) -> None:
        if not self.terms:
            raise ValueError("a choice between nothing matches nothing")


@dataclass(frozen=True, slots=True)
class Range:
    """Between two texts in code point order, both included; None is open. Empty values never match."""

    low: str | None
    high: str | None

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise ValueError("a range open on both sides matches everything")


@dataclass(frozen=True, slots=True)
class NameMatch:
    """A person's name, matched on normalised component groups (PS3.5 section 6.2.1.1).

    ``groups`` are wildcard patterns for the alphabetic, ideographic and phonetic group, empty for
    "any". With ``any_group`` the first pattern may match any of the three.
    """

    groups: tuple[str, str, str]
    any_group: bool

    def __post_init__(self) -> None:
        if not any(self.groups):
            raise ValueError("a name match without a pattern matches everything")

    def accepts(self, name: str) -> bool:
        """Whether a name as sent matches; SQL narrows, this decides."""
        groups = normalise_groups(name)
        if self.any_group:
            return any(_name_matches(self.groups[0], group) for group in groups if group)
        return all(
            not pattern or _name_matches(pattern, group)
            for pattern, group in zip(self.groups, groups, strict=True)
        )


Term = Exact | Wildcard | AnyOf | Range | NameMatch


def text_term(value: str) -> Exact | Wildcard | None:
    """A single value with DICOM's wildcards as a term; None where it matches everything."""
    held = value.translate(_HOLD)
    if held.strip(_ANY) == "":
        return None
    if _ANY not in held and _ONE not in held:
        return Exact(value)
    return Wildcard(_pattern(held))


def name_term(value: str) -> NameMatch | None:
    """A PN key as a term; None where it matches everything.

    A key of one group matches any group, as people type a name in the script they have it in; with
    ``=`` in it each group matches its own.
    """
    groups = [_pattern(normalise_group(group.translate(_HOLD))) for group in value.split("=")[:3]]
    groups = ["" if group.strip("*^") == "" else group for group in groups]
    first, second, third = groups + [""] * (3 - len(groups))
    if not (first or second or third):
        return None
    return NameMatch((first, second, third), any_group="=" not in value)


def _pattern(held: str) -> str:
    escaped = re.sub(r"([*?\\])", r"\\\1", held)
    return re.sub(f"{_ANY}+", "*", escaped).replace(_ONE, "?")


def name_variants(pattern: str) -> tuple[str, ...]:
    """Patterns of which one must match: ``doe^*`` also finds a Doe without a given name."""
    base = pattern
    while base.endswith("^*"):
        base = base[:-2]
    if base == pattern or not base:
        return (pattern,)
    return (base,) if tokens(base)[-1] == "*" else (base, base + "^*")


def _name_matches(pattern: str, group: str) -> bool:
    return any(matches(variant, group) for variant in name_variants(pattern))


def tokens(pattern: str) -> list[str]:
    r"""A pattern's characters: ``*`` and ``?`` are wildcards, a literal one is ``\*`` and so on."""
    return _TOKEN.findall(pattern)


def is_plain(pattern: str) -> bool:
    """Whether a pattern has no wildcard."""
    return not any(token in "*?" for token in tokens(pattern))


def literal(pattern: str) -> str:
    """The text that a pattern without wildcards stands for."""
    return "".join(token[-1] for token in tokens(pattern))


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text matches. Linear in practice: a star is never tried twice in vain."""
    wanted = tokens(pattern)
    at = position = 0
    star, resume = -1, 0
    while position < len(text):
        token = wanted[at] if at < len(wanted) else ""
        if token == "*":
            star, resume = at, position
            at += 1
        elif token and (token == "?" or token[-1] == text[position]):
            at += 1
            position += 1
        elif star >= 0:
            resume += 1
            at, position = star + 1, resume
        else:
            return False
    return all(token == "*" for token in wanted[at:])
