"""Matches as identifiers of Pending responses (PS3.4 section C.4.1.1.3.2)."""

from __future__ import annotations

import re
import uuid

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as PydicomSequence
from pydicom.tag import BaseTag

from hsm.catalog.find import Match, Value
from hsm.dicom import keys
from hsm.dicom.query import Query
from hsm.model import Availability
from hsm.terms import LEVEL_OF
from hsm.text import choose_charset

_TEXT_VRS = frozenset({"LO", "SH", "PN"})


def response(query: Query, match: Match, ae_title: str) -> Dataset:
    """A match as the identifier of a Pending response.

    Every key asked for is in it, empty where nothing is known, and besides them the unique keys down
    to the level, Retrieve AE Title and Instance Availability. Storage Media File-Set ID and UID name
    the removable volume that a retrieve would wait for; they have room for one (VM 1), so where
    several are needed the first by name is given.
    """
    found: dict[int, tuple[str, Value]] = {}
    for tag in query.keys:
        if vr := keys.vr_of(tag):
            found[tag] = (vr, "")
    for tag, (field, vr) in keys.KEYS.items():
        unique = tag in keys.UNIQUE.values() and LEVEL_OF[field].rank <= query.level.rank
        if field in match.values and (unique or tag in found):
            found[tag] = (vr, match.values[field])
    retrievable = match.availability is not Availability.UNAVAILABLE
    found[keys.RETRIEVE_AE] = ("AE", ae_title if retrievable else "")
    found[keys.AVAILABILITY] = ("CS", match.availability.value)
    if match.media:
        found[keys.FILE_SET_ID] = ("SH", match.media[0].name)
        found[keys.FILE_SET_UID] = ("UI", uuid_uid(match.media[0].uuid))
    texts = [part for vr, value in found.values() if vr in _TEXT_VRS for part in _written_parts(vr, value)]
    charset = choose_charset(texts, (query.charset, match.charset))
    found[keys.LEVEL] = ("CS", query.level.value)
    if charset:
        found[keys.CHARSET] = ("CS", tuple(charset.split("\\")))
    dataset = Dataset()
    for tag in sorted(found):
        dataset[BaseTag(tag)] = _element(tag, *found[tag])
    return dataset


def _written_parts(vr: str, value: Value) -> list[str]:
    """The pieces in which pydicom encodes a text value."""
    if not isinstance(value, str):
        return []
    return re.split(r"[\\^=]" if vr == "PN" else r"\\", value)


def _element(tag: int, vr: str, value: Value) -> DataElement:
    if vr == "SQ":
        return DataElement(BaseTag(tag), vr, PydicomSequence())
    if isinstance(value, tuple):
        value = "\\".join(value)
    text = "" if value is None else str(value)
    if vr not in _TEXT_VRS:
        # What a device wrote where only the default repertoire may be cannot be sent.
        text = text.encode("ascii", "replace").decode("ascii")
    # Archived values go out as they came: they are not ours to refuse now.
    return DataElement(BaseTag(tag), vr, text or None, validation_mode=config.IGNORE)


def uuid_uid(text: str) -> str:
    """A volume's UUID as a UID (PS3.5 section B.2)."""
    try:
        return f"2.25.{uuid.UUID(text).int}"
    except ValueError:
        return ""
