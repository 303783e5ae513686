"""DICOM listeners: the settings of each, and what the whole of them comes to as :class:`Door` values."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from pydantic import BeforeValidator, Field

from hsm.config.fields import (
    EVERY_RIGHT,
    AeTitle,
    Folder,
    Host,
    Name,
    Right,
    Seconds,
    Section,
    check_host,
    tls_or_not,
)
from hsm.config.towards import TlsTowards
from hsm.tls import ClientCertificate, Profile

LISTENERS_MAX = 16
NETWORKS_MAX = 1000
PLAIN, SECURE = "dicom", "dicom-tls"
"""The names of the doors of the simple form: ``dicom.port``, and that of ``dicom.tls``."""
LOOPBACK = ("127.0.0.0/8", "::1/128")


def _check_network(value: object) -> str:
    if isinstance(value, str):
        try:
            return str(ipaddress.ip_network(value))
        except ValueError as error:
            if "host bits" in str(error):
                raise ValueError(f"{value!r} has bits set behind its prefix; expected a network") from None
    raise ValueError(f'expected an address or a network like "10.1.0.0/16"; found {value!r}')


def _check_origin(value: object) -> str:
    try:
        return _check_network(value)
    except ValueError as error:
        if "prefix" in str(error):
            raise
    try:
        return check_host(value)
    except ValueError:
        raise ValueError(
            f'expected an address, a network like "10.1.0.0/16" or a host name; found {value!r}'
        ) from None


def _check_address(value: object) -> str:
    if isinstance(value, str):
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            pass
    raise ValueError(f"expected an IP address; found {value!r}")


Address = Annotated[str, BeforeValidator(_check_address)]
Network = Annotated[str, BeforeValidator(_check_network)]
Origin = Annotated[str, BeforeValidator(_check_origin)]
"""A network, or a host name, which is looked up."""


class TlsConfig(Section):
    """The port for DICOM over TLS, PS3.15 annex B.12."""

    port: int = Field(
        default=2762, ge=0, le=65535, strict=True, description="a TCP port from 0 (any free one) to 65535"
    )
    only: bool = Field(default=False, strict=True, description="true or false: no port without TLS")
    certificate: Folder = Field(description="the path of a PEM file: our certificate, then its chain")
    key: Folder = Field(description="the path of a PEM file: the certificate's private key")
    ca: Folder | None = Field(
        default=None, description="the path of a PEM file: whose certificates of clients are good"
    )
    client_certificate: ClientCertificate = Field(
        default="required", description="required, optional or none"
    )
    profile: Profile = Field(default="BCP 195", description='"BCP 195" or "TLS 1.3"')


class ListenerTlsConfig(Section):
    """TLS of one listener. What is not given is as in ``dicom.tls``."""

    certificate: Folder | None = Field(
        default=None, description="the path of a PEM file: our certificate, then its chain"
    )
    key: Folder | None = Field(
        default=None, description="the path of a PEM file: the certificate's private key"
    )
    ca: Folder | None = Field(
        default=None, description="the path of a PEM file: whose certificates of clients are good"
    )
    client_certificate: ClientCertificate | None = Field(
        default=None, description="required, optional or none"
    )
    profile: Profile | None = Field(default=None, description='"BCP 195" or "TLS 1.3"')


class PeerTlsConfig(TlsTowards):
    """TLS towards one peer. What is not given is as in ``dicom.tls``."""


class ListenerConfig(Section):
    """One address and port, and the most that may be done through it."""

    name: Name = Field(description="a name")
    listen: Host = Field(default="127.0.0.1", description="an IP address or a host name to listen on")
    port: int = Field(ge=0, le=65535, strict=True, description="a TCP port from 0 (any free one) to 65535")
    tls: Annotated[ListenerTlsConfig | None, BeforeValidator(tls_or_not)] = Field(
        default=None,
        description="true, false, or a mapping (certificate, key, ca, ...): whether it speaks TLS",
    )
    may: tuple[Right, ...] = Field(
        default=EVERY_RIGHT, description=f"a list of rights: {', '.join(EVERY_RIGHT)}"
    )
    ae_titles: tuple[AeTitle, ...] = Field(
        default=(), description="a list of the AE titles that may come in here; empty: any"
    )
    addresses: tuple[Network, ...] = Field(
        default=(),
        max_length=NETWORKS_MAX,
        description="a list of the addresses and networks that may come in here; empty: any",
    )
    max_associations: int | None = Field(
        default=None, ge=1, le=1000, strict=True, description="a whole number from 1 to 1000"
    )


class LockoutConfig(Section):
    """When an address is not listened to for a while."""

    failures: int | None = Field(
        default=50,
        ge=1,
        le=1_000_000,
        strict=True,
        description="a whole number: so many refused or senseless associations; null: never",
    )
    within_seconds: Seconds = Field(
        default=60.0, gt=0, description="a duration above 0: in which an address has so many failures"
    )
    lasts_seconds: Seconds = Field(
        default=300.0, gt=0, description="a duration above 0: how long nothing of it is answered then"
    )
    connections_per_second: float | None = Field(
        default=None, gt=0, description="a number above 0: how many one address may make, on the average"
    )
    never: tuple[Network, ...] = Field(
        default=LOOPBACK,
        max_length=NETWORKS_MAX,
        description="a list of addresses and networks that are never locked out",
    )


@dataclass(frozen=True, slots=True)
class Door:
    """One listener with nothing left open."""

    name: str
    listen: str
    port: int
    tls: TlsConfig | None = None
    may: frozenset[str] = frozenset(EVERY_RIGHT)
    ae_titles: frozenset[str] = frozenset()
    addresses: tuple[str, ...] = ()
    max_associations: int | None = None


class Doors(Protocol):
    """The settings that say what listens where; :class:`hsm.config.DicomConfig` is one."""

    @property
    def listen(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def tls(self) -> TlsConfig | None: ...
    @property
    def listeners(self) -> Sequence[ListenerConfig]: ...


def doors_of(dicom: Doors) -> tuple[Door, ...]:
    """What listens where. Where there are listeners, ``listen``, ``port`` and ``tls.port`` open nothing."""
    tls = dicom.tls
    if not dicom.listeners:
        plain = [] if tls is not None and tls.only else [Door(PLAIN, dicom.listen, dicom.port)]
        return (*plain, *([] if tls is None else [Door(SECURE, dicom.listen, tls.port, tls)]))
    return tuple(
        Door(
            each.name,
            each.listen,
            each.port,
            _tls_of(each, tls),
            frozenset(each.may),
            frozenset(each.ae_titles),
            each.addresses,
            each.max_associations,
        )
        for each in dicom.listeners
    )


def _tls_of(listener: ListenerConfig, own: TlsConfig | None) -> TlsConfig | None:
    """:raises ValueError: it names no certificate, and ``dicom.tls`` does not either; the cross checks of
    the configuration tell this before."""
    given = listener.tls
    if given is None:
        return None
    pair = (given.certificate, given.key)
    if pair == (None, None) and own is not None:
        pair = (own.certificate, own.key)
    if pair[0] is None or pair[1] is None:
        raise ValueError(f"listener {listener.name} has no certificate")
    return TlsConfig(
        port=listener.port,
        certificate=pair[0],
        key=pair[1],
        ca=given.ca or (own.ca if own is not None else None),
        client_certificate=given.client_certificate or (own.client_certificate if own else "required"),
        profile=given.profile or (own.profile if own else "BCP 195"),
    )
