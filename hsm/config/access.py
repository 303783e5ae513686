"""Who may do what over the control API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from hsm.config.fields import Folder, Host, Seconds, Section, Socket
from hsm.tls import Profile

RoleName = Literal["admin", "operator", "auditor", "read-only"]
ROLES: tuple[RoleName, ...] = ("admin", "operator", "auditor", "read-only")
Others = Literal["admin", "operator", "auditor", "read-only", "none"]
NAMES_MAX = 1000
Command = Literal[
    "volume overwrite",
    "volume recycle",
    "volume retire",
    "volume lost",
    "volume drain",
    "volume adopt",
    "study delete",
    "study unhold",
    "study retain",
    "policy activate",
    "queue cancel",
]
"""Commands that may be made to need a second person; :mod:`hsm.api.twoperson` says which call each is."""
COMMANDS: tuple[Command, ...] = get_args(Command)


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


class TwoPersonConfig(Section):
    """Commands that are executed only when somebody else agrees."""

    commands: tuple[Command, ...] = Field(
        default=(), max_length=100, description=f"a list of commands: {', '.join(COMMANDS)}"
    )
    expires: Seconds = Field(
        default=86400.0, ge=60, le=30 * 86400, description="a duration from a minute to 30 days"
    )


class TcpConfig(Section):
    """The control API for other machines: over TLS only, with a token."""

    listen: Host = Field(default="127.0.0.1", description="an IP address or a host name to listen on")
    port: int = Field(
        default=8443, ge=0, le=65535, strict=True, description="a TCP port from 0 (any free one) to 65535"
    )
    certificate: Folder = Field(description="the path of a PEM file: our certificate, then its chain")
    key: Folder = Field(description="the path of a PEM file: the certificate's private key")
    client_ca: Folder | None = Field(
        default=None,
        description="the path of a PEM file: whose certificates clients must have, besides a token",
    )
    profile: Profile = Field(default="BCP 195", description='"BCP 195" or "TLS 1.3"')
    tokens_file: Folder = Field(description="the path of the file that `hsm token` writes")


class ApiConfig(Section):
    socket: Socket = Field(description="the path of a unix socket")
    roles: RolesConfig = Field(default=RolesConfig(), description="a mapping: users, groups, others")
    tcp: TcpConfig | None = Field(
        default=None, description="a mapping: listen, port, certificate, key, client_ca, tokens_file"
    )
    two_person: TwoPersonConfig = Field(default=TwoPersonConfig(), description="a mapping: commands, expires")
