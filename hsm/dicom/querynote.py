"""Queries that were answered, as notes for the journal."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final

from hsm.catalog.access import Note
from hsm.clock import Clock
from hsm.dicom.find import Queried

QUERY_BYTES_MAX: Final = 4096
"""A longer identifier is not kept."""


class QueryNotes:
    """Says who asked for what; any thread may."""

    def __init__(self, tell: Callable[[Note], None], clock: Clock, *, identifiers: bool) -> None:
        """
        :param identifiers: whether the identifier is kept, which may name patients.
        """
        self._tell = tell
        self._clock = clock
        self._identifiers = identifiers

    def note(self, asked: Queried) -> None:
        detail: dict[str, Any] = {
            "sop_class": asked.sop_class,
            "level": asked.level,
            "keys": list(asked.keys),
            "matches": asked.matches,
            "transfer_syntax": asked.transfer_syntax,
        }
        if self._identifiers and len(asked.identifier) <= QUERY_BYTES_MAX:
            detail["identifier"] = base64.b64encode(asked.identifier).decode()
        self._tell(Note(self._clock.now(), f"ae:{asked.ae}", "queried", "query", asked.level, detail))
