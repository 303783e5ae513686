"""Which service answers which request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from pynetdicom.dimse_primitives import C_ECHO, C_FIND, C_GET, C_MOVE, C_STORE, N_ACTION

from hsm.dicom.call import Call
from hsm.dicom.contexts import COMMITMENT, QUERY_RETRIEVE, VERIFICATION, Operation, is_storage_class


class Service(Protocol):
    """Answers one kind of request, whatever happens."""

    def serve(self, call: Call, rights: frozenset[str]) -> None: ...


class Echo:
    """Verification, PS3.4 annex A."""

    def serve(self, call: Call, rights: frozenset[str]) -> None:
        if "echo" not in rights:
            call.refuse("echo", f"{call.calling} may not echo")
            return
        call.reply(0x0000)


@dataclass(frozen=True)
class Services:
    """Those of a server."""

    echo: Service
    storage: Service
    search: Service
    retrieve: Service
    commit: Service

    def of(self, message: Any, abstract_syntax: str) -> Service | None:
        """What serves this message in a context of this abstract syntax, if anything does."""
        match message:
            case C_STORE() if is_storage_class(abstract_syntax):
                return self.storage
            case C_ECHO() if abstract_syntax == VERIFICATION:
                return self.echo
            case N_ACTION() if abstract_syntax == COMMITMENT:
                return self.commit
        operation = QUERY_RETRIEVE.get(abstract_syntax, (None, None))[1]
        match message, operation:
            case C_FIND(), Operation.FIND:
                return self.search
            case (C_MOVE(), Operation.MOVE) | (C_GET(), Operation.GET):
                return self.retrieve
        return None
