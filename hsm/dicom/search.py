"""C-FIND as SCP, PS3.4 section C.4.1: the DIMSE side; matching is :mod:`hsm.dicom.find`.

pynetdicom's own loop is not used: it would go on to the last match for a caller that has gone, and
queue every response in memory for one that reads slowly.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from types import SimpleNamespace
from typing import Any, Final, Protocol

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import encode

from hsm.dicom.call import Call
from hsm.dicom.rights import SEES_REJECTED
from hsm.log import get_logger

log = get_logger(__name__)

SUCCESS: Final = 0x0000
PENDING: Final = (0xFF00, 0xFF01)
CANNOT_PROCESS: Final = 0xC001

Response = tuple[int | Dataset, Dataset | None]


class Find(Protocol):
    """Responses to a C-FIND, the final Success excepted, given what pynetdicom's EVT_C_FIND gives."""

    def __call__(self, event: Any) -> Iterator[Response]: ...


class FindEvent:
    """The parts of pynetdicom's event that a :class:`Find` looks at."""

    def __init__(self, call: Call, *, sees_rejected: bool = False) -> None:
        self._call = call
        self.sees_rejected = sees_rejected
        """Who asks may see what was rejected for quality reasons."""
        self.assoc = call.assoc
        self.request = call.request
        self.context = SimpleNamespace(
            context_id=call.context_id,
            abstract_syntax=UID(call.abstract_syntax),
            transfer_syntax=UID(call.transfer_syntax),
        )

    @property
    def is_cancelled(self) -> bool:
        return self._call.cancelled


class Search:
    """Answers C-FIND requests."""

    def __init__(self, find: Find) -> None:
        self._find = find

    def serve(self, call: Call, rights: frozenset[str]) -> None:
        """Send a Pending response for each match and then the final one."""
        if "find" not in rights:
            call.refuse("find", f"{call.calling} may not find")
            return
        responses = self._find(FindEvent(call, sees_rejected=SEES_REJECTED in rights))
        try:
            status, comment = self._send(call, responses)
        except Exception:
            log.exception("C-FIND from %s failed", call.calling)
            status, comment = CANNOT_PROCESS, "internal error, see the archive's log"
        finally:
            if isinstance(responses, Generator):
                responses.close()  # it may hold a transaction
        call.reply(status, comment)

    def _send(self, call: Call, responses: Iterator[Response]) -> tuple[int, str]:
        """Send what is pending; the status and comment of the final response."""
        number = 0
        for answer, identifier in responses:
            status = int(answer.Status) if isinstance(answer, Dataset) else answer
            if status not in PENDING or identifier is None:
                return status, str(answer.get("ErrorComment", "")) if isinstance(answer, Dataset) else ""
            if not call.has_room():
                break  # the caller is gone; nobody reads the final response
            call.reply(status, identifier=_encoded(identifier, call.transfer_syntax))
            number += 1
        log.info("C-FIND from %s: %d matches", call.calling, number)
        return SUCCESS, ""


def _encoded(identifier: Dataset, transfer_syntax: str) -> bytes:
    """:raises ValueError: a value in it cannot be encoded."""
    syntax = UID(transfer_syntax)
    encoded = encode(identifier, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    if encoded is None:
        raise ValueError("a response identifier cannot be encoded")
    return encoded
