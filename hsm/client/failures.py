"""What may be wrong with an answer, as four classes that tell a command what to end with."""

from __future__ import annotations

from collections.abc import Mapping

import httpx


class ApiError(Exception):
    """Base: the daemon could not be asked, or its answer was no success.

    :ivar kind: the sort of error, as :mod:`hsm.api.problems` names it.
    :ivar hint: what to do next; may be empty.
    :ivar exit_code: what a command ends with.
    """

    exit_code = 1

    def __init__(self, message: str, kind: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.hint = hint


class Problem(ApiError):
    """The daemon looked or tried, and something is wrong (exit code 1)."""

    exit_code = 1


class BadRequest(ApiError):
    """What was asked makes no sense to the daemon (exit code 2)."""

    exit_code = 2


class Unreachable(ApiError):
    """No daemon answers (exit code 3)."""

    exit_code = 3


class Refused(ApiError):
    """A promise, a right or a state forbids it, or a person must act first (exit code 4)."""

    exit_code = 4


KINDS: Mapping[str, type[ApiError]] = {
    "bad input": BadRequest,
    "refused": Refused,
    "operator needed": Refused,
    "approval needed": Refused,
}


def failure(answer: httpx.Response) -> ApiError:
    """What an answer that is no success says."""
    try:
        said = answer.json()
        message, kind, hint = str(said["error"]), str(said["kind"]), str(said["hint"])
    except (ValueError, KeyError, TypeError):
        return Problem(f"the daemon answered {answer.status_code}: {answer.text[:200]}", "failed")
    return KINDS.get(kind, Problem)(message, kind, hint)
