"""Who may do what over the control API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from hsm.config.fields import Section, Socket

RoleName = Literal["admin", "operator", "auditor", "read-only"]
ROLES: tuple[RoleName, ...] = ("admin", "operator", "auditor", "read-only")
Others = Literal["admin", "operator", "auditor", "read-only", "none"]
NAMES_MAX = 1000


def _one_or_more(value: object) -> object:
    """One role stands for a list of one."""
    if not isinstance(value, Mapping):
        return value
    return {str(name): (roles,) if isinstance(roles, str) else roles for name, roles in value.items()}


Named = Annotated[dict[str, tuple[RoleName, ...]], BeforeValidator(_one_or_more)]


class RolesConfig(Section):
    """Roles by login name and by group; somebody has all that his name and his groups have. The daemon's own
    user and root are admin in any case."""

    users: Named = Field(
        default={}, max_length=NAMES_MAX, description=f"a mapping of users to roles: {', '.join(ROLES)}"
    )
    groups: Named = Field(
        default={}, max_length=NAMES_MAX, description=f"a mapping of groups to roles: {', '.join(ROLES)}"
    )
    others: Others = Field(
        default="read-only", description=f"a role for who is not named: {', '.join(ROLES)}, or none"
    )


class ApiConfig(Section):
    socket: Socket = Field(description="the path of a unix socket")
    roles: RolesConfig = Field(default=RolesConfig(), description="a mapping: users, groups, others")
