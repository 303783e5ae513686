"""Where a connection comes from, compared with the addresses, networks and names of the configuration."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
REMEMBERED_SECONDS: Final = 60.0
"""What a name stands for is asked once in so many seconds."""
NAMES_MAX: Final = 1000


class Networks:
    """A set of networks; an IPv4 address that comes mapped into IPv6 is the IPv4 address."""

    def __init__(self, networks: Iterable[str]) -> None:
        """:raises ValueError: one of them is no network."""
        self._networks: tuple[_Network, ...] = tuple(ipaddress.ip_network(each) for each in networks)

    def __contains__(self, address: object) -> bool:
        parsed = parsed_address(str(address))
        return parsed is not None and any(
            parsed.version == network.version and parsed in network for network in self._networks
        )


def parsed_address(address: str) -> _Address | None:
    """An address as a connection has it, its zone left out; None for what is none."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed


class Names:
    """The addresses of host names, remembered for a minute.

    :param look_up: the addresses of a name.
    """

    def __init__(
        self, monotonic: Callable[[], float], look_up: Callable[[str], Iterable[str]] | None = None
    ) -> None:
        self._monotonic = monotonic
        self._look_up = look_up or addresses_of
        self._known: OrderedDict[str, tuple[float, frozenset[_Address]]] = OrderedDict()
        self._lock = threading.Lock()

    def addresses(self, name: str) -> frozenset[_Address]:
        """Those of a name; none if it cannot be looked up, which is remembered as well."""
        now = self._monotonic()
        with self._lock:
            found = self._known.get(name)
            if found is not None and now - found[0] < REMEMBERED_SECONDS:
                return found[1]
        try:
            given = self._look_up(name)
        except (OSError, UnicodeError):
            given = ()
        addresses = frozenset(each for text in given if (each := parsed_address(text)) is not None)
        with self._lock:
            self._known[name] = (now, addresses)
            if len(self._known) > NAMES_MAX:
                self._known.popitem(last=False)
        return addresses


def addresses_of(name: str) -> list[str]:
    """:raises OSError: it is not known."""
    return [str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]


def comes_from(address: str, origins: Iterable[str], names: Names) -> bool:
    """Whether an address is one of ``origins``: networks, and host names.

    Networks are looked at first: a name costs a question to the network.
    """
    parsed = parsed_address(address)
    if parsed is None:
        return False
    hosts = []
    for origin in origins:
        try:
            network = ipaddress.ip_network(origin)
        except ValueError:
            hosts.append(origin)
            continue
        if parsed.version == network.version and parsed in network:
            return True
    return any(parsed in names.addresses(host) for host in hosts)
