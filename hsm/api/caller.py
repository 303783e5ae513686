"""Who asks: what the kernel or a token says of them, and which roles that makes. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from starlette.requests import Request

from hsm.config.access import RolesConfig

ROOT = 0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of one request."""

    name: str
    """For the journal and for messages."""
    person: str
    """Who it is where two persons are needed: two callers with one ``person`` are one."""
    user: str
    """The login name on this machine; empty where the caller came over the network."""
    where: str
    """``socket, process 4711``, or the address and port of a connection."""
    roles: frozenset[str]
    door: str = "api socket"
    """Where they came in, for the journal."""
    approved_by: str = ""
    """The second person, where the two-person rule asked for one."""

    def said_roles(self) -> str:
        """``operator and auditor``; ``no role``."""
        return " and ".join(sorted(self.roles)) or "no role"


NOBODY = Caller("unknown", "unknown", "", "unknown", frozenset())


def caller_of(request: Request) -> Caller:
    """Who asks; somebody without any role where nobody found out."""
    found = getattr(request.state, "caller", NOBODY)
    return found if isinstance(found, Caller) else NOBODY


def roles_for(
    config: RolesConfig, uid: int, name: str, groups: Collection[str], daemon_uid: int
) -> frozenset[str]:
    """The roles of somebody on this machine: all that the name and the groups are given; of root and the
    daemon's own user admin; otherwise what ``others`` says."""
    found: set[str] = set(config.users.get(name, ()))
    for group in groups:
        found.update(config.groups.get(group, ()))
    if uid in (ROOT, daemon_uid):
        found.add("admin")
    if not found and config.others != "none":
        found.add(config.others)
    return frozenset(found)
