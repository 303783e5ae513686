"""How the daemon is asked: one connection, time limits, and answers of the expected shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote

import httpx

from hsm.client.failures import BadRequest, Problem, Unreachable, failure
from hsm.transport import CONNECT_SECONDS, CannotUseError, Local, Transport

Record = dict[str, Any]

READ_SECONDS = 65.0
MEDIA_SECONDS = 12 * 3600.0
"""For what reads or writes whole volumes."""
ACT_SECONDS = 905.0
PLAN_SECONDS = 905.0
"""A little longer than the daemon's own limits, so that its answer is the one that is seen."""


class Asking:
    """A connection to the daemon; a context manager. What it is asked is said by the groups of calls.

    :param to: the path of its control socket, or another way to it.
    :raises ApiError: every call may, one of its four subclasses; so may this.
    """

    def __init__(self, to: Path | Transport, *, by: str = "") -> None:
        self._to = Local(to) if isinstance(to, Path) else to
        self._by = by
        self._connects = False
        try:
            self._http = self._to.open()
        except CannotUseError as error:
            raise BadRequest(str(error), "bad input") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _get(self, path: str, **parameters: str | int) -> Record:
        return _object(self._ask("GET", path, READ_SECONDS, params=given(parameters)))

    def _list(self, path: str, **parameters: str | int) -> list[Record]:
        return _array(self._ask("GET", path, READ_SECONDS, params=given(parameters)))

    def _post(self, path: str, **members: Any) -> Record:
        return _object(self._act(path, members))

    def _name(self, text: str) -> str:
        """``text`` as one part of a path. An empty, dotted or slashed one would name another path."""
        if text in ("", ".", "..") or "/" in text:
            raise BadRequest(f"{text!r} cannot be a name", "bad input")
        return quote(text, safe="")

    def _posted(self, path: str, **members: Any) -> list[Record]:
        return _array(self._act(path, members))

    def _act(self, path: str, members: Record) -> httpx.Response:
        return self._ask("POST", path, ACT_SECONDS, json=members | self._signature())

    def _worked_out(self, path: str, **parameters: str | int) -> Record:
        """What the daemon has to look at a whole catalog for."""
        return _object(self._ask("GET", path, PLAN_SECONDS, params=given(parameters)))

    def _compared(self, path: str, members: Record) -> Record:
        """The same of what is sent along; nobody is named, since nothing is changed."""
        return _object(self._ask("POST", path, PLAN_SECONDS, json=members))

    def _slowly(self, path: str, members: Record) -> Record:
        """What takes as long as media take."""
        return _object(self._ask("POST", path, MEDIA_SECONDS, json=members | self._signature()))

    def _signature(self) -> Record:
        return {"by": self._by} if self._by else {}

    def _download(self, path: str, to: IO[bytes]) -> int:
        timeout = httpx.Timeout(PLAN_SECONDS, connect=CONNECT_SECONDS)
        size = 0
        try:
            self._try_connecting()
            with self._http.stream("GET", path, timeout=timeout) as answer:
                if not answer.is_success:
                    answer.read()
                    raise failure(answer)
                for piece in answer.iter_bytes():
                    size += to.write(piece)
        except (httpx.TransportError, OSError) as error:
            self._connects = False
            raise self._unreachable(str(error)) from error
        return size

    def _ask(self, method: str, path: str, seconds: float, **more: Any) -> httpx.Response:
        timeout = httpx.Timeout(seconds, connect=CONNECT_SECONDS)
        try:
            self._try_connecting()
            answer = self._http.request(method, path, timeout=timeout, **more)
        except httpx.ReadTimeout as error:
            raise Problem(
                f"the daemon did not answer within {seconds:g} s", "time-out", "look again with `hsm status`"
            ) from error
        except (httpx.TransportError, OSError) as error:
            self._connects = False
            raise self._unreachable(str(error)) from error
        if answer.is_success:
            return answer
        raise failure(answer)

    def _try_connecting(self) -> None:
        """Connect once beforehand, where that is of use."""
        if not self._connects:
            self._to.probe()
            self._connects = True

    def _unreachable(self, why: str) -> Unreachable:
        return Unreachable(
            f"no daemon answers on {self._to.name}: {why}",
            "unreachable",
            self._to.hint,
        )


def given(parameters: Mapping[str, str | int]) -> dict[str, str | int]:
    """Without those that were left empty."""
    return {name: value for name, value in parameters.items() if value != ""}


def _object(answer: httpx.Response) -> Record:
    found = _json(answer)
    if not isinstance(found, dict):
        raise Problem(f"{answer.request.url.path}: expected a JSON object", "failed")
    return found


def _array(answer: httpx.Response) -> list[Record]:
    found = _json(answer)
    if not isinstance(found, list):
        raise Problem(f"{answer.request.url.path}: expected a JSON array", "failed")
    return found


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise Problem(f"{answer.request.url.path}: the answer is not JSON: {error}", "failed") from error
