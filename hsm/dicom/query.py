"""Identifiers of C-FIND, C-MOVE and C-GET as values (PS3.4 annex C).

Queries are read leniently. Every key that the archive knows at the level asked for or above it is
matched, so unique keys of the levels above narrow but are not demanded: a query is relational
(PS3.4 section C.4.1.2.2.2) where it lacks them and hierarchical where it has them. Keys of levels
below, and keys that the catalog does not keep, are answered empty and never matched on. Dates and
times are matched one by one: combined date-time matching is for whom negotiates it, and nobody can.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as PydicomSequence
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRBigEndian

from hsm import terms
from hsm.dicom import keys
from hsm.dicom.contexts import Model
from hsm.dicom.elements import Buffer, elements, tag_text
from hsm.errors import BadInput
from hsm.model import Selection, check_uid
from hsm.terms import LEVEL_OF, AnyOf, Exact, Field, Level, Range, Term, Wildcard
from hsm.text import decode

VALUES_MAX: Final = 10_000
"""UIDs in one list."""

TEXT_CHARS_MAX: Final = 1024

_NUMBER = re.compile(r"[+-]?\d{1,9}")
_DATE = re.compile(r"\d{8}")
_TIME = re.compile(r"(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?")


@dataclass(frozen=True, slots=True)
class Query:
    """A C-FIND identifier."""

    level: Level
    terms: tuple[tuple[Field, Term], ...]
    keys: tuple[int, ...]
    """Tags to answer, known or not."""
    charset: str
    """The requester's own Specific Character Set: preferred for answers."""

    @property
    def fields(self) -> frozenset[Field]:
        return frozenset(keys.KEYS[tag][0] for tag in self.keys if tag in keys.KEYS)


def read_identifier(encoded: Buffer, transfer_syntax_uid: str) -> Dataset:
    """An identifier whose values stay encoded until they are asked for.

    Sequences come empty: no key of this archive is in one.

    :raises BadInput: it is cut short or no dataset.
    """
    dataset = Dataset()
    little_endian = transfer_syntax_uid != ExplicitVRBigEndian
    for element in elements(encoded, transfer_syntax_uid):
        tag = BaseTag(element.tag)
        if element.undefined_length or element.vr == "SQ":
            dataset[tag] = DataElement(tag, "SQ", PydicomSequence())
        else:
            value = bytes(element.value)
            dataset[tag] = RawDataElement(
                tag, element.vr or None, len(value), value, 0, not element.vr, little_endian
            )
    return dataset


def parse_query(identifier: Dataset, model: Model) -> Query:
    """Read a C-FIND identifier, PS3.4 sections C.2.2.2 and C.4.1.

    :raises BadInput: no valid Query/Retrieve Level for the model, or a date, time, number or list
        that cannot be matched; the message names the tag. The peer is to get status A900.
    """
    level = _level(identifier, model)
    charset = _value(identifier, keys.CHARSET, "")
    found: list[tuple[Field, Term]] = []
    asked = []
    for tag in sorted(int(key) for key in identifier.keys()):  # noqa: SIM118 (iterating a Dataset decodes it)
        if tag in keys.ABOUT_THE_QUERY:
            continue
        asked.append(tag)
        if tag not in keys.KEYS:
            continue
        field, vr = keys.KEYS[tag]
        if LEVEL_OF[field].rank > level.rank or field in keys.NEVER_MATCHED:
            continue
        term = _TERMS[vr](tag, _value(identifier, tag, charset))
        if term is not None:
            found.append((field, term))
    return Query(level, tuple(found), tuple(asked), charset)


def parse_selection(identifier: Dataset, model: Model) -> Selection:
    """Read a C-MOVE or C-GET identifier, PS3.4 sections C.4.2.1.4 and C.4.3.1.3.

    The unique key of the level is demanded; those of the levels above narrow where they are given.
    Keys below the level, and all others, are not looked at.

    :raises BadInput: no valid level, the level's key is missing, or a UID that is none; the peer is
        to get status A900.
    """
    level = _level(identifier, model)
    charset = _value(identifier, keys.CHARSET, "")
    given: dict[Level, tuple[str, ...]] = {}
    for each, tag in keys.UNIQUE.items():
        skipped = each is Level.PATIENT and model is Model.STUDY_ROOT
        values = () if skipped or each.rank > level.rank else _split(_value(identifier, tag, charset))
        if len(values) > VALUES_MAX:
            raise BadInput(f"{tag_text(tag)} lists {len(values)} values; at most {VALUES_MAX} are allowed")
        if each is not Level.PATIENT:
            for value in values:
                check_uid(value, tag_text(tag))
        given[each] = values
    if not given[level]:
        raise BadInput(f"a {level.value} retrieve needs {tag_text(keys.UNIQUE[level])}")
    return Selection(
        patient_ids=given[Level.PATIENT],
        study_uids=given[Level.STUDY],
        series_uids=given[Level.SERIES],
        sop_instance_uids=given[Level.IMAGE],
    )


def _level(identifier: Dataset, model: Model) -> Level:
    text = _value(identifier, keys.LEVEL, "").upper()
    levels = [level for level in Level if model is Model.PATIENT_ROOT or level is not Level.PATIENT]
    if text not in levels:
        allowed = ", ".join(level.value for level in levels)
        raise BadInput(
            f"Query/Retrieve Level {tag_text(keys.LEVEL)} is {text[:16]!r}; {model.value} has {allowed}"
        )
    return Level(text)


def _value(identifier: Dataset, tag: int, charset: str) -> str:
    """A key's values as sent, decoded, without padding, joined by backslashes; empty if there are none.

    Encoded values are decoded here: pydicom would check and convert them, and ranges, wildcards and
    lists are not what it expects in most of them.
    """
    element = identifier.get_item(BaseTag(tag)) if BaseTag(tag) in identifier else None
    value = element.value if element is not None else None
    if value is None or isinstance(value, PydicomSequence):
        return ""
    if isinstance(value, bytes):
        text = decode(value, charset, name=tag in keys.KEYS and keys.KEYS[tag][1] == "PN")
    elif isinstance(value, str) or not hasattr(value, "__iter__") or hasattr(value, "components"):
        text = str(value)
    else:
        text = "\\".join(str(each) for each in value)
    return "\\".join(part.strip() for part in text.split("\\"))


def _split(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part for part in text.split("\\") if part))


def _uid_term(tag: int, text: str) -> Term | None:
    """A UID or a list of them; a wildcard is no wildcard here (PS3.4 section C.2.2.2.4)."""
    return _choice(tag, [Exact(value) for value in _split(text)])


def _text_term(tag: int, text: str) -> Term | None:
    if len(text) > TEXT_CHARS_MAX:
        raise BadInput(f"{tag_text(tag)} has {len(text)} characters; at most {TEXT_CHARS_MAX} are matched")
    found = [terms.text_term(value) for value in _split(text)]
    wanted = [term for term in found if term is not None]
    return _choice(tag, wanted) if len(wanted) == len(found) else None


def _choice(tag: int, found: list[Exact] | list[Exact | Wildcard]) -> Term | None:
    if len(found) > VALUES_MAX:
        raise BadInput(f"{tag_text(tag)} lists {len(found)} values; at most {VALUES_MAX} are matched")
    if not found:
        return None
    return found[0] if len(found) == 1 else AnyOf(tuple(found))


def _name_term(tag: int, text: str) -> Term | None:
    if len(text) > TEXT_CHARS_MAX:
        raise BadInput(f"{tag_text(tag)} has {len(text)} characters; at most {TEXT_CHARS_MAX} are matched")
    names = _split(text)
    if len(names) > 1:
        raise BadInput(f"{tag_text(tag)} has {len(names)} names; one can be matched")
    return terms.name_term(names[0]) if names else None


def _number_term(tag: int, text: str) -> Term | None:
    values = _split(text)
    if "*" in values:
        return None
    for value in values:
        if not _NUMBER.fullmatch(value):
            raise BadInput(f"{tag_text(tag)} is {value[:32]!r}; expected an integer")
    return _choice(tag, [Exact(str(int(value))) for value in values])


def _date_term(tag: int, text: str) -> Term | None:
    """A date or a range (PS3.4 section C.2.2.2.5), the old form with dots included."""
    low, dash, high = text.replace(".", "").partition("-")
    low, high = low.strip(), high.strip()
    if not (low or high) or text == "*":
        return None
    for part in (low, high):
        if part and not _DATE.fullmatch(part):
            raise BadInput(f"{tag_text(tag)} is {text[:32]!r}; expected YYYYMMDD or a range of two")
    return Range(low or None, high or None) if dash else Exact(low)


def _time_term(tag: int, text: str) -> Term | None:
    """A time or a range, matched by meaning: 10, 1000 and 100000.0 are one time.

    An end of a range that is given to the hour or minute includes the whole of it.
    """
    low, dash, high = text.replace(":", "").partition("-")
    low, high = low.strip(), high.strip()
    if not (low or high) or text == "*":
        return None
    for part in (low, high):
        if part and not _TIME.fullmatch(part):
            raise BadInput(f"{tag_text(tag)} is {text[:32]!r}; expected HHMMSS.FFFFFF or a range of two")
    if not dash:
        return Range(_earliest(low), _padded(low, "00", "0"))
    return Range(_earliest(low) if low else None, _padded(high, "59", "9") if high else None)


def _earliest(time: str) -> str:
    """The shortest way to write a time, which in code point order is before all others."""
    if "." in time:
        time = time.rstrip("0").rstrip(".")
    while len(time) > 2 and "." not in time and time.endswith("00"):
        time = time[:-2]
    return time


def _padded(time: str, pair: str, digit: str) -> str:
    """The time in full; what was not given filled up."""
    whole, _, fraction = time.partition(".")
    whole += pair * ((6 - len(whole)) // 2)
    return f"{whole}.{fraction:{digit}<6}" if fraction else f"{whole}.{digit * 6}"


_TERMS: Final[Mapping[str, Callable[[int, str], Term | None]]] = {
    "UI": _uid_term,
    "CS": _text_term,
    "LO": _text_term,
    "SH": _text_term,
    "PN": _name_term,
    "IS": _number_term,
    "DA": _date_term,
    "TM": _time_term,
}
