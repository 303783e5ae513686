"""Values as written -> values of the type that a fact has."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from functools import cache

from policies import units
from policies.errors import Fault, did_you_mean
from policies.expr import Ref, Value
from policies.facts import MODALITIES, Kind
from policies.parse import Item

ELAPSED = (Kind.ELAPSED, Kind.DAYS, Kind.LEFT)
"""Kinds that are compared with a length of time."""
SETS = (Kind.CODES, Kind.TEXTS)
ORDERED = (*ELAPSED, Kind.COUNT, Kind.SIZE, Kind.DATE, Kind.FRACTION)
EXAMPLES = {
    Kind.TEXT: "text such as 'St. Mary'",
    Kind.CODES: "a code such as CT",
    Kind.TEXTS: "text such as 'HEAD'",
    Kind.COUNT: "a whole number such as 2",
    Kind.SIZE: "a size such as 500 MB or 1.5 TiB",
    Kind.ELAPSED: "a length of time such as 90d or 18 months",
    Kind.DAYS: "a length of time such as 90d or 18 months",
    Kind.LEFT: "a length of time such as 90d or 18 months",
    Kind.DATE: "a date such as 2024-01-31",
    Kind.FLAG: "yes or no",
    Kind.FRACTION: "a percentage such as 85%",
}
_MISNAMED = {"MRI": "MR", "CAT": "CT", "XR": "DX", "PET": "PT", "USG": "US", "MAMMO": "MG", "ANGIO": "XA"}


class Wrong(Exception):
    """What is wrong with one part of an expression; None if it is noted elsewhere already."""

    def __init__(self, fault: Fault | None = None) -> None:
        super().__init__(fault.message if fault else "")
        self.fault = fault


def wrong(item: Item, message: str) -> Wrong:
    return Wrong(Fault(item.start, item.end, message))


def a_kind(ref: Ref) -> str:
    """What the fact is, with its article: ``a length of time``."""
    kind = ref.fact.kind
    if ref.fact.choices:
        return "one of a few words"
    name = dict.fromkeys(ELAPSED, "length of time").get(kind, kind.value)
    return {Kind.TEXT: name, Kind.FLAG: name}.get(kind, f"a {name}")


def read_value(item: Item, ref: Ref, notes: list[Fault]) -> Value:
    """``item`` as the type of ``ref``; warnings go into ``notes``.

    :raises Wrong: it is not of that type.
    """
    kind = ref.fact.kind
    if kind in (Kind.TEXT, *SETS):
        return _text(item, ref, notes)
    if kind is Kind.DATE:
        return _date(item, ref)
    try:
        if kind in ELAPSED and item.number is not None and item.kind in ("quantity", "number"):
            return duration(item, "years" if kind is Kind.DAYS else "min")
        if kind is Kind.SIZE and item.number is not None and item.kind in ("quantity", "number"):
            if item.kind == "quantity":
                return units.size(item.number, item.text)
            if item.number == 0:
                return 0
            raise wrong(item, f"{item.text} of what? write a unit, as in {item.text} MB or {item.text} GiB")
    except units.UnitError as error:
        raise wrong(item, str(error)) from None
    if kind is Kind.COUNT and item.kind == "number" and item.number is not None:
        return _count(item, item.number, ref)
    if kind is Kind.FRACTION and item.kind == "percent" and item.number is not None:
        if item.number > 100:
            raise wrong(item, f"{item.number}% is more than the whole pool: write at most 100%")
        return float(item.number / 100)
    raise _mismatch(item, ref)


def duration(item: Item, other: str = "min") -> Value:
    """A length of time. :raises Wrong: it has no unit. :raises units.UnitError: not one of time."""
    if item.kind == "quantity" and item.number is not None:
        return units.duration(item.number, item.text)
    if item.number == 0:
        return units.duration(Decimal(0), "s")
    raise wrong(item, f"{item.text} of what? write a unit, as in {item.text}d or {item.text} {other}")


_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "no": 0, "none": 0, "zero": 0}


def _mismatch(item: Item, ref: Ref) -> Wrong:
    kind = ref.fact.kind
    extra = ""
    if ref.fact.name in ("age", "idle", "received") and item.kind == "date":
        extra = "; for dates write study_date"
    if kind is Kind.FRACTION and item.kind == "number" and item.number is not None:
        extra = f"; did you mean {_percentage(item.number)}?"
    if kind is Kind.COUNT and item.kind == "quantity":
        extra = f", without {item.text}"
    if kind is Kind.COUNT and item.text.lower() in _NUMBERS:
        extra = f"; did you mean {_NUMBERS[item.text.lower()]}?"
    if item.kind == "string" and item.text[:1].isdigit():
        extra = f"; did you mean {item.text} without quotes?"
    if kind is Kind.DATE and item.kind == "number":
        extra = _as_date(item.text)
    if kind is Kind.DATE and item.text.lower() in ("today", "now"):
        extra = "; for times up to today write age"
    return wrong(item, f"{ref} is {a_kind(ref)}: expected {EXAMPLES[kind]}{extra}")


def _as_date(text: str) -> str:
    if re.fullmatch(r"(19|20)\d{6}", text):
        return f"; did you mean {text[:4]}-{text[4:6]}-{text[6:]}?"
    return f"; did you mean {text}-01-01?" if re.fullmatch(r"(19|20)\d\d", text) else ""


def _percentage(number: Decimal) -> str:
    """What was probably meant: 0.85 and 85 are both 85%."""
    return f"{(number * 100 if number <= 1 else number).normalize():f}%"


def _count(item: Item, number: Decimal, ref: Ref) -> int:
    if number != int(number):
        raise wrong(item, f"{ref} is a whole number: write {int(number)} or {int(number) + 1}")
    if number > units.LARGEST:
        raise wrong(item, f"{number} is too large: write at most {units.LARGEST}")
    return int(number)


def _date(item: Item, ref: Ref) -> str:
    if item.kind == "quantity":
        raise wrong(
            item, f"{ref} is a date: expected a date such as 2024-01-31; for lengths of time write age"
        )
    if item.kind != "date":
        raise _mismatch(item, ref)
    try:
        return date.fromisoformat(item.text).strftime("%Y%m%d").rjust(8, "0")
    except ValueError:
        raise wrong(
            item, f"{item.text} is not in the calendar: expected year-month-day, as in 2024-01-31"
        ) from None


def _text(item: Item, ref: Ref, notes: list[Fault]) -> str:
    if item.kind == "call":
        raise wrong(item, f"{ref} is {a_kind(ref)}: expected {EXAMPLES[ref.fact.kind]}")
    if item.kind not in ("string", "name"):
        written = item.text if item.kind != "quantity" else f"{item.number}{item.text}"
        raise wrong(item, f"{ref} is {a_kind(ref)}: write the value in quotes: '{written}'")
    if item.kind == "string" and re.search(r"(?<!\\)\*", item.text):
        advice = (
            "write the codes one by one: in (CT, MR)"
            if ref.fact.kind is Kind.CODES
            else f"write {ref} like '{item.text}'"
        )
        raise wrong(item, rf"* is a wildcard only after like: {advice}, or \* for the character itself")
    text = re.sub(r"\\(.)", r"\1", item.text)
    if not text.strip():
        mend = f"write {ref} is null" if ref.fact.nullable else "write the text that is meant"
        raise wrong(item, f"{ref} that is empty is not known: {mend}")
    if ref.fact.choices:
        return _choice(item, text, ref)
    if ref.fact.kind is Kind.CODES:
        _code(item, text, notes)
    if ref.fact.name == "sop_class":
        return _sop_class(item, text)
    if ref.fact.name == "body_part" and text != text.upper():
        message = f"Body Part Examined is written in capitals: did you mean '{text.upper()}'?"
        notes.append(Fault(item.start, item.end, message, warning=True))
    return text


def _choice(item: Item, text: str, ref: Ref) -> str:
    if text.upper() not in ref.fact.choices:
        message = f"'{text}' is no value of {ref}.{did_you_mean(text, ref.fact.choices)}"
        raise wrong(item, message)
    return text.upper()


def _code(item: Item, text: str, notes: list[Fault]) -> None:
    if "\\" in text:
        raise wrong(item, f"a code holds no backslash: write {text.split(chr(92), maxsplit=1)[0] or 'CT'}")
    if text not in MODALITIES:
        close = _MISNAMED.get(text.upper())
        hint = f" Did you mean '{close}'?" if close else did_you_mean(text, MODALITIES)
        hint = hint if "Did" in hint else ""
        message = f"'{text}' is not a modality that DICOM defines.{hint}"
        notes.append(Fault(item.start, item.end, message, warning=True))


@cache
def _sop_classes() -> tuple[dict[str, str], tuple[str, ...]]:
    """UID by lower-case keyword and name (``ctimagestorage``, ``ct image storage``), and the keywords
    of PS3.6 as written."""
    # Heavy, so only where a policy asks for SOP classes.
    from pydicom.uid import UID_dictionary  # type: ignore[attr-defined]

    found: dict[str, str] = {}
    keywords: list[str] = []
    for uid, (name, kind, _info, _retired, keyword) in UID_dictionary.items():
        if kind == "SOP Class":
            found[keyword.lower()] = found[name.lower()] = uid
            keywords.append(keyword)
    return found, tuple(keywords)


def _sop_class(item: Item, text: str) -> str:
    if re.fullmatch(r"[0-9]+(\.[0-9]+)+", text) and len(text) <= 64:
        return text
    found, keywords = _sop_classes()
    uid = found.get(text.lower())
    if uid is None:
        hint = did_you_mean(text, keywords)
        hint = hint if "Did" in hint else " Write its UID in quotes or its name, as in CTImageStorage."
        raise wrong(item, f"'{text}' is not a SOP class of DICOM.{hint}")
    return uid
