"""The paths of policies: run, plan, compare, activate, resume."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hsm.api.identity import actor
from hsm.api.services import Services
from hsm.api.shares import run_in_threadpool
from hsm.api.wire import body, known, number, reply
from hsm.errors import BadInput

HOURS_MAX = 24.0 * 31


class PolicyPaths:
    """What policies can be asked and told."""

    def __init__(self, services: Services) -> None:
        self._policies = services.policies

    def gets(self) -> dict[str, Any]:
        """Paths that only look."""
        return {
            "/v1/policies": self.listing,
            "/v1/policies/plan": self.plan,
            "/v1/policies/activations": self.history,
            "/v1/studies/{uid}/policies": self.explain,
        }

    def posts(self) -> dict[str, Any]:
        """Paths that change something, or that take texts."""
        return {
            "/v1/policies/check": self.check,
            "/v1/policies/run": self.run,
            "/v1/policies/diff": self.diff,
            "/v1/policies/activate": self.activate,
            "/v1/policies/{name}/resume": self.resume,
        }

    async def listing(self, request: Request) -> Response:
        known(request)
        return reply(await run_in_threadpool(self._policies.listing))

    async def explain(self, request: Request) -> Response:
        known(request)
        return reply(await run_in_threadpool(self._policies.explain, request.path_params["uid"]))

    async def check(self, request: Request) -> Response:
        """``{texts: {file name: text}}``, or nothing for the configured folder."""
        given = await body(request, {}, {"texts": dict, "by": str})
        texts = given.get("texts")
        return reply(await run_in_threadpool(self._policies.check, None if texts is None else _texts(texts)))

    async def run(self, request: Request) -> Response:
        given = await body(request, {}, {"name": str, "dry_run": bool, "by": str})
        who = actor(request, given.get("by", ""))
        name = given.get("name") or None
        dry_run = bool(given.get("dry_run", False))
        return reply(await run_in_threadpool(self._policies.run, name, dry_run, who))

    async def plan(self, request: Request) -> Response:
        text = known(request, "hours")["hours"]
        try:
            hours = float(text or 24)
        except ValueError:
            hours = 0.0
        if not 0 < hours <= HOURS_MAX:
            raise BadInput(f"hours {text!r}: expected a number above 0, at most {HOURS_MAX:g}")
        return reply(await run_in_threadpool(self._policies.plan, hours))

    async def history(self, request: Request) -> Response:
        text = known(request, "limit")["limit"]
        limit = number(text, "limit") if text else 50
        return reply(await run_in_threadpool(self._policies.history, limit))

    async def diff(self, request: Request) -> Response:
        """``{old_version, old_texts, new_version, new_texts}``: of each side the number of an activation or
        ``{file name: text}``; without them what is in force, and the folder."""
        members = {"old_version": int, "new_version": int, "old_texts": dict, "new_texts": dict, "by": str}
        given = await body(request, {}, members)
        old, new = (_side(given, name) for name in ("old", "new"))
        return reply(await run_in_threadpool(self._policies.diff, old, new))

    async def activate(self, request: Request) -> Response:
        """``{comment, version, digest}``: with a digest only if the folder's policies have it."""
        given = await body(request, {}, {"comment": str, "version": int, "digest": str, "by": str})
        who = actor(request, given.get("by", ""))
        comment, version, digest = given.get("comment", ""), given.get("version"), given.get("digest", "")
        return reply(await run_in_threadpool(self._policies.activate, who, comment, version, digest))

    async def resume(self, request: Request) -> Response:
        given = await body(request, {}, {"by": str})
        who = actor(request, given.get("by", ""))
        return reply(await run_in_threadpool(self._policies.resume, request.path_params["name"], who))


def _side(given: dict[str, Any], name: str) -> int | dict[str, str] | None:
    texts = given.get(f"{name}_texts")
    if texts is None:
        return given.get(f"{name}_version")
    if f"{name}_version" in given:
        raise BadInput(f"{name}: expected a version or texts, not both")
    return _texts(texts)


def _texts(given: dict[str, Any]) -> dict[str, str]:
    if not all(isinstance(text, str) for text in given.values()):
        raise BadInput("texts: expected file names and their texts")
    return given
