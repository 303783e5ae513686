"""C-FIND (PS3.4 section C.4.1): an identifier in, a stream of Pending responses out."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from sqlalchemy.exc import SQLAlchemyError

from hsm.availability import Reach
from hsm.catalog import find
from hsm.catalog.engine import Catalog
from hsm.dicom.answer import response
from hsm.dicom.call import error_comment
from hsm.dicom.contexts import QUERY_RETRIEVE
from hsm.dicom.elements import tag_text
from hsm.dicom.query import Query, parse_query, read_identifier
from hsm.errors import BadInput
from hsm.terms import Field

PENDING: Final = 0xFF00
CANCELLED: Final = 0xFE00
IDENTIFIER_DOES_NOT_MATCH: Final = 0xA900
UNABLE_TO_PROCESS: Final = 0xC001
TOLD_MAX: Final = 2000
"""Studies of one query that count as found: a query with more matches asks for no study in particular."""

_log = logging.getLogger(__name__)

Response = tuple[int | Dataset, Dataset | None]


@dataclass(frozen=True, slots=True)
class Queried:
    """One query that was answered."""

    ae: str
    sop_class: str
    level: str
    keys: tuple[str, ...]
    """What was matched on, by keyword; not with which values."""
    matches: int
    identifier: bytes
    """As it came; it may name patients."""
    transfer_syntax: str


def _tell_nobody(study_uids: Iterable[str]) -> None:
    """Where there is no history."""


def handle_find(
    event: Any,
    catalog: Catalog,
    ae_title: str,
    reach: Callable[[], Reach],
    found: Callable[[Iterable[str]], None] = _tell_nobody,
    queried: Callable[[Queried], None] | None = None,
) -> Iterator[Response]:
    """The responses to one C-FIND but the final Success, which :mod:`hsm.dicom.search` sends.

    Matches are read from the catalog while they are sent, so memory does not grow with their number,
    and a C-CANCEL ends the query after the match at hand.

    :param event: what pynetdicom's ``EVT_C_FIND`` carries; :class:`hsm.dicom.search.FindEvent` is one.
    :param ae_title: for Retrieve AE Title (0008,0054).
    :param reach: what can be read now, and how; asked at the beginning.
    :param found: told of the studies that matched, each once, when the query is over.
    :param queried: told of the query itself, then.
    """
    peer = event.assoc.requestor.ae_title
    try:
        # Not the class that the request names, which may be anything.
        model, _ = QUERY_RETRIEVE[event.context.abstract_syntax]
        encoded = event.request.Identifier or io.BytesIO()
        identifier = read_identifier(encoded.getvalue(), str(event.context.transfer_syntax))
        query = parse_query(identifier, model)
    except BadInput as error:
        _log.warning("C-FIND from %s refused: %s", peer, error)
        yield failure(IDENTIFIER_DOES_NOT_MATCH, str(error)), None
        return
    told = _Told()
    try:
        yield from _matches(event, catalog, query, reach(), ae_title, told)
    except SQLAlchemyError:
        _log.exception("C-FIND from %s failed in the catalog", peer)
        yield failure(UNABLE_TO_PROCESS, "the catalog cannot be read"), None
    finally:
        # Also when the caller went away in the middle.
        found(told.studies - {""})
        if queried is not None:
            sop_class, syntax = str(event.context.abstract_syntax), str(event.context.transfer_syntax)
            keys, level = tuple(sorted(_named(identifier))), query.level.name
            queried(Queried(str(peer), sop_class, level, keys, told.matches, encoded.getvalue(), syntax))


@dataclass(slots=True)
class _Told:
    """What a caller has been told so far."""

    studies: set[str] = field(default_factory=set)
    matches: int = 0


def _matches(
    event: Any, catalog: Catalog, query: Query, reach: Reach, ae_title: str, told: _Told
) -> Iterator[Response]:
    """A Pending response for each match, or Cancel."""
    sees = bool(getattr(event, "sees_rejected", False))
    with catalog.read() as session:
        terms = dict(query.terms)
        for match in find.find(session, query.level, terms, reach, query.fields, sees_rejected=sees):
            if event.is_cancelled:
                yield CANCELLED, None
                return
            told.matches += 1
            if len(told.studies) < TOLD_MAX:
                told.studies.add(str(match.values.get(Field.STUDY_UID) or ""))
            yield PENDING, response(query, match, ae_title)


def _named(identifier: Dataset) -> Iterator[str]:
    """The keys that have a value, without a look at any."""
    for tag in list(identifier.keys()):
        if identifier.get_item(tag).value:
            yield keyword_for_tag(tag) or tag_text(int(tag))


def failure(status: int, comment: str) -> Dataset:
    """A failure status with its reason in Error Comment (0000,0902)."""
    dataset = Dataset()
    dataset.Status = status
    dataset.ErrorComment = error_comment(comment)
    return dataset
