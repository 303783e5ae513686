"""The two-person rule: a command that destroys is written down when it is asked for, and executed when
somebody else agrees.

Which commands there are stands in :data:`COMMANDS`, which of them need two persons in ``api.two_person`` of
the configuration. A further one takes a name in :data:`hsm.config.access.COMMANDS` and a line here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from hsm.api.access import needs_of, said
from hsm.api.caller import Caller, caller_of
from hsm.api.guard import Endpoint, admits, members
from hsm.api.identity import actor
from hsm.api.problems import ApprovalNeeded, Forbidden
from hsm.api.services import Record, Services
from hsm.api.shares import run_in_threadpool
from hsm.api.wire import body, flag, known, number, reply
from hsm.catalog import approvals
from hsm.catalog.approvals import ApprovalRef
from hsm.config.access import TwoPersonConfig
from hsm.errors import DriverError, HsmError, Refused
from hsm.states import ApprovalState

LISTED = 200
_VOLUME, _STUDY = "POST /v1/volumes/{barcode}", "POST /v1/studies/{uid}"
Pin = Callable[[Services, Mapping[str, Any]], dict[str, Any]]


def _as_given(services: Services, given: Mapping[str, Any]) -> dict[str, Any]:
    return dict(given)


def _this_folder(services: Services, given: Mapping[str, Any]) -> dict[str, Any]:
    """The folder may change until somebody agrees: only what is in it now is meant."""
    return dict(given) if "version" in given else {**given, "digest": services.policies.folder_digest()}


@dataclass(frozen=True, slots=True)
class Command:
    """A call that may need two persons."""

    act: str
    """Method and path, as in :data:`hsm.api.access.ACCESS`."""
    member: str = ""
    """Only where this member of the body is given."""
    pin: Pin = _as_given
    """The body that is written down: with what the parameters mean now, where that may change."""


COMMANDS: Final[Mapping[str, Command]] = {
    "volume overwrite": Command(f"{_VOLUME}/label", "overwrite"),
    "volume recycle": Command(f"{_VOLUME}/recycle"),
    "volume retire": Command(f"{_VOLUME}/retire"),
    "volume lost": Command(f"{_VOLUME}/lost"),
    "volume drain": Command(f"{_VOLUME}/drain"),
    "volume adopt": Command(f"{_VOLUME}/scan", "adopt"),
    "study delete": Command(f"{_STUDY}/delete"),
    "study unhold": Command(f"{_STUDY}/unhold"),
    "study retain": Command(f"{_STUDY}/retention"),
    "policy activate": Command("POST /v1/policies/activate", pin=_this_folder),
    "queue cancel": Command("POST /v1/queue/{pk}/cancel"),
}


class TwoPerson:
    """The commands that wait; ``config`` may be replaced while the daemon serves."""

    def __init__(self, services: Services, config: TwoPersonConfig | None = None) -> None:
        self.config = config or TwoPersonConfig()
        self._services = services
        self._endpoints: dict[str, Endpoint] = {}

    def knows(self, act: str, endpoint: Endpoint) -> None:
        """What executes a call once it is agreed to."""
        self._endpoints[act] = endpoint

    async def hold(self, request: Request, act: str) -> None:
        """Keep a call from being executed if it needs two persons.

        :raises ApprovalNeeded: it does; it is written down, and waits.
        """
        for name in self.config.commands:
            command = COMMANDS[name]
            if command.act == act:
                given = await members(request)
                if not command.member or given.get(command.member):
                    await self._write_down(request, name, given)

    async def _write_down(self, request: Request, name: str, given: dict[str, Any]) -> None:
        caller, command, catalog = caller_of(request), COMMANDS[name], self._services.catalog

        def write_down() -> ApprovalRef:
            asked = {
                "act": command.act,
                "path": dict(request.path_params),
                "body": command.pin(self._services, given),
                "caller": caller.name,
            }
            by, now = actor(request, str(given.get("by", ""))), catalog.clock.now()
            until = now + timedelta(seconds=self.config.expires)
            with catalog.write() as session:
                return approvals.ask(session, name, asked, by, caller.person, now, until)

        found = await run_in_threadpool(write_down)
        raise ApprovalNeeded(name, found.pk, found.expires_at)

    # The paths

    def gets(self) -> dict[str, Any]:
        return {"/v1/approvals": self.listing, "/v1/approvals/{pk}": self.show}

    def posts(self) -> dict[str, Any]:
        one = "/v1/approvals/{pk}"
        return {f"{one}/approve": self.approve, f"{one}/refuse": self.refuse}

    async def listing(self, request: Request) -> Response:
        every = flag(known(request, "all")["all"], "all")
        return reply(await run_in_threadpool(self._listing, every))

    def _listing(self, every: bool) -> list[Record]:
        now = self._services.catalog.clock.now()
        with self._services.catalog.read() as session:
            found = approvals.listing(session, now, every=every, limit=LISTED)
        return [self._record(each) for each in found]

    async def show(self, request: Request) -> Response:
        known(request)
        return reply(self._record(await run_in_threadpool(self._get, _pk(request))))

    def _get(self, pk: int) -> ApprovalRef:
        with self._services.catalog.read() as session:
            return approvals.get(session, pk)

    async def refuse(self, request: Request) -> Response:
        """``{reason}``. Who asked may take it back."""
        given = await body(request, {"reason": str}, {"by": str})
        pk, caller, by = _pk(request), caller_of(request), actor(request, given.get("by", ""))
        there = await run_in_threadpool(self._get, pk)
        if caller.person != there.asked_person:
            self._require_role(caller, there)

        def refuse() -> ApprovalRef:
            catalog = self._services.catalog
            with catalog.write() as session:
                return approvals.refuse(session, pk, given["reason"], by, caller.person, catalog.clock.now())

        return reply(self._record(await run_in_threadpool(refuse)))

    async def approve(self, request: Request) -> Response:
        """``{digest}``: of what was shown. The answer is what the command itself answers."""
        given = await body(request, {"digest": str}, {"by": str})
        pk, caller, by = _pk(request), caller_of(request), actor(request, given.get("by", ""))
        there = await run_in_threadpool(self._get, pk)
        self._require_role(caller, there)
        endpoint = self._endpoints.get(there.asked["act"])
        if endpoint is None:
            raise Refused(f"approval {pk}: the API has no {there.asked['act']} any more")

        def approve() -> ApprovalRef:
            catalog = self._services.catalog
            with catalog.write() as session:
                return approvals.approve(session, pk, given["digest"], by, caller.person, catalog.clock.now())

        return await self._execute(await run_in_threadpool(approve), endpoint, caller)

    async def _execute(self, agreed: ApprovalRef, endpoint: Endpoint, approver: Caller) -> Response:
        """Once: what happens in between is not tried again. A crash leaves it as approved, and says so."""
        name = f"{agreed.asked['caller']}, approved by {approver.name}"
        caller = Caller(name, agreed.asked_person, "", "approval", frozenset(), approved_by=approver.name)
        try:
            answer = await endpoint(_request(agreed, caller))
        except (HsmError, DriverError) as error:
            await run_in_threadpool(self._finish, agreed.pk, False, str(error))
            raise
        except Exception as error:  # a bug is told as one; a call that takes too long may still get there
            await run_in_threadpool(self._finish, agreed.pk, False, type(error).__name__)
            raise
        said = bytes(answer.body).decode("utf-8", "replace")
        await run_in_threadpool(self._finish, agreed.pk, True, said)
        return reply({"approval": agreed.pk, "command": agreed.command, "answer": json.loads(said)})

    def _finish(self, pk: int, good: bool, outcome: str) -> None:
        catalog = self._services.catalog
        with catalog.write() as session:
            approvals.finish(session, pk, good, outcome, catalog.clock.now())

    def _require_role(self, caller: Caller, there: ApprovalRef) -> None:
        """Only who might do it may agree to it."""
        act = str(there.asked["act"])
        wanted = needs_of(*act.split(" ", 1)).asked(there.asked["body"])
        if not admits(caller, wanted):
            raise Forbidden(f"approval of {there.command}", caller.name, said(wanted), caller.said_roles())

    def _record(self, each: ApprovalRef) -> Record:
        now = self._services.catalog.clock.now()
        return {
            "id": each.pk,
            "state": each.said_state(now),
            "command": each.command,
            "act": each.asked["act"],
            "path": each.asked["path"],
            "body": each.asked["body"],
            "digest": each.digest,
            "asked_at": each.asked_at,
            "asked_by": each.asked_by,
            "expires_at": each.expires_at,
            "decided_at": each.decided_at,
            "decided_by": each.decided_by,
            "reason": each.reason,
            "outcome": _outcome(each),
        }


def _outcome(each: ApprovalRef) -> str:
    if each.state is ApprovalState.APPROVED:
        return "under way, or a crash came in between: look whether it was done before you ask again"
    return each.outcome


def _request(agreed: ApprovalRef, caller: Caller) -> Request:
    """The call as it was asked for, and nothing else of whoever agreed to it."""
    method, path = str(agreed.asked["act"]).split(" ", 1)
    for name, value in agreed.asked["path"].items():
        path = path.replace("{" + name + "}", str(value))
    content = json.dumps(agreed.asked["body"]).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "path_params": dict(agreed.asked["path"]),
        "query_string": b"",
        "headers": [],
        "state": {"caller": caller},
    }
    return Request(scope, receive)


def _pk(request: Request) -> int:
    return number(request.path_params["pk"], "approval")
