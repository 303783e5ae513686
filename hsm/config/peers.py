"""The configuration of DICOM peers: who they are, what they may do, and what they are sent."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from hsm.config.doors import NETWORKS_MAX, Origin, PeerTlsConfig
from hsm.config.fields import (
    EVERY_RIGHT,
    RIGHTS,
    AeTitle,
    Host,
    Right,
    Section,
    Size,
    Subject,
    UserIdentity,
    UserName,
    check_passcode,
    tls_or_not,
)


class UserConfig(Section):
    """Somebody who may say who he is, PS3.7 section D.3.3.7. Without a passcode the name is enough."""

    name: UserName = Field(description="a user's name")
    passcode: Annotated[str, BeforeValidator(check_passcode)] | None = Field(
        default=None, repr=False, description="a passcode as `hsm config passcode` prints it"
    )


class SendConfig(Section):
    """How much one peer is sent at the same time, by all C-MOVEs and deliveries together."""

    associations_max: int | None = Field(
        default=None, ge=1, le=1000, strict=True, description="a whole number from 1 to 1000"
    )
    instances_per_second: float | None = Field(default=None, gt=0, description="a number above 0")
    bytes_per_second: Size | None = Field(default=None, ge=1, description='a size: "20 MiB" a second')


class AeConfig(Section):
    """A peer: who it is, where it listens, and what it may do."""

    ae_title: AeTitle = Field(description="an AE title")
    host: Host = Field(description="a host name or an IP address")
    port: int = Field(ge=1, le=65535, strict=True, description="a TCP port from 1 to 65535")
    may: tuple[Right, ...] = Field(default=RIGHTS, description=f"a list of rights: {', '.join(EVERY_RIGHT)}")
    move_to: tuple[AeTitle, ...] | None = Field(
        default=None, description="a list of AE titles to which it may have instances moved; null: any of aes"
    )
    addresses: tuple[Origin, ...] = Field(
        default=(),
        max_length=NETWORKS_MAX,
        description="a list of the addresses, networks and host names that it comes from; empty: any",
    )
    deliver_later: bool = Field(
        default=True,
        strict=True,
        description="true or false: a C-MOVE to it is finished when the caller has gone away",
    )
    deliver_when_down: bool = Field(
        default=False,
        strict=True,
        description="true or false: so is one that found it down; its caller is told that it failed, and why",
    )
    send: SendConfig = Field(
        default=SendConfig(),
        description="a mapping: associations_max, instances_per_second, bytes_per_second",
    )
    notify: tuple[Subject, ...] = Field(
        default=(), description='a list of what it is told of by itself: "availability"'
    )
    tls: Annotated[PeerTlsConfig | None, BeforeValidator(tls_or_not)] = Field(
        default=None,
        description="true, false, or a mapping (ca, certificate, key, ...): whether it is sent to over TLS",
    )
    only_tls: bool = Field(default=False, strict=True, description="true or false: it must come over TLS")
    certificate_names: tuple[str, ...] = Field(
        default=(), description="a list of names, one of which its certificate must have"
    )
    user_identity: UserIdentity | None = Field(default=None, description="ignored, optional or required")
    users: tuple[UserName, ...] = Field(
        default=(), description="a list of names of dicom.users who may come with this AE title"
    )
