"""Errors as answers: ``{"error": what happened, "kind": what sort, "hint": what to do}``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hsm.api.caller import caller_of
from hsm.errors import (
    BadInput,
    ConfigError,
    Conflict,
    Corrupt,
    NotFound,
    OperatorNeeded,
    Permanent,
    Refused,
    Retryable,
)
from hsm.refusals import Refusal

APPROVALS = "/v1/approvals/"

log = logging.getLogger("hsm.api")


class Forbidden(Exception):
    """The caller has no role that the act needs."""

    def __init__(self, act: str, name: str, needs: str, has: str) -> None:
        super().__init__(f"{act} needs the role {needs}; {name} has {has}")
        self.act = act
        self.needs = needs
        self.has = has


class ApprovalNeeded(Exception):
    """The command waits for a second person."""

    def __init__(self, command: str, pk: int, until: datetime) -> None:
        super().__init__(
            f"{command} needs a second person: it waits as number {pk} until {until:%Y-%m-%d %H:%M} UTC"
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """How one class of error is told to a client."""

    status: int
    kind: str
    hint: str = ""


_CATALOG_AWAY = Answer(
    503, "retry later", "the database is away; the daemon runs, and goes on by itself once it is back"
)

ANSWERS: tuple[tuple[type[Exception], Answer], ...] = (
    # The first that fits counts, so a subclass comes before its base.
    (BadInput, Answer(400, "bad input")),
    (NotFound, Answer(404, "not found")),
    (ApprovalNeeded, Answer(409, "approval needed", "somebody else: `hsm approve ls`, `hsm approve NUMBER`")),
    (Forbidden, Answer(403, "refused", "api.roles of the configuration says who has which role")),
    (Refused, Answer(409, "refused")),
    (Conflict, Answer(409, "refused")),
    (ConfigError, Answer(422, "configuration", "nothing was changed; mend it and try again")),
    (OperatorNeeded, Answer(409, "operator needed", "`hsm operator ls` shows what is asked for")),
    (Corrupt, Answer(500, "corrupt", "`hsm study locate UID` shows whether another copy is good")),
    (Retryable, Answer(503, "retry later", "try again in a moment")),
    (Permanent, Answer(500, "failed")),
    (OperationalError, _CATALOG_AWAY),
    (InterfaceError, _CATALOG_AWAY),
)


def answer_of(error: Exception) -> Answer | None:
    """How ``error`` is told, or None when it is not of the project's error tree."""
    return next((answer for kind, answer in ANSWERS if isinstance(error, kind)), None)


def problem(status: int, kind: str, error: str, hint: str = "") -> JSONResponse:
    """The body of every answer that is not a success."""
    return JSONResponse({"error": error, "kind": kind, "hint": hint}, status_code=status)


async def on_error(request: Request, error: Exception) -> Response:
    """Exception handler for the classes in :data:`ANSWERS`."""
    answer = answer_of(error)
    if answer is None:
        raise error
    note_refusal(request, error)
    if isinstance(error, DBAPIError):
        log.error("%s %s: the catalog does not answer: %s", request.method, request.url.path, error.orig)
        return problem(answer.status, answer.kind, f"the catalog does not answer: {error.orig}", answer.hint)
    return problem(answer.status, answer.kind, str(error), answer.hint)


def note_refusal(request: Request, error: Exception) -> None:
    """Tell the journal, by the application's ``note``, of what a role or the two-person rule forbade."""
    if isinstance(error, Forbidden):
        act, why = error.act, f"needs the role {error.needs}, has {error.has}"
    elif isinstance(error, Refused) and request.url.path.startswith(APPROVALS):
        act, why = f"{request.method} {request.url.path}", str(error)
    else:
        return
    caller = caller_of(request)
    request.app.state.note(Refusal(caller.name, caller.door, act, why, caller.where))


async def on_bug(request: Request, error: Exception) -> Response:
    """Exception handler for everything else: the details go to the log, not to the peer."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(
        500, "internal", f"{type(error).__name__} in {request.url.path}", "the daemon's log has the details"
    )


async def on_gone(request: Request, error: Exception) -> Response:
    """Exception handler for a caller who hung up before the body was whole; nobody reads the answer."""
    return problem(400, "bad input", "the body ended before it was whole")


async def on_http(request: Request, error: Exception) -> Response:
    """Exception handler for Starlette's own refusals: no such path, wrong method."""
    status = getattr(error, "status_code", 500)
    detail = getattr(error, "detail", str(error))
    kind = {404: "not found", 405: "bad input", 408: "bad input", 413: "bad input"}.get(status, "failed")
    return problem(status, kind, f"{request.method} {request.url.path}: {detail}")
