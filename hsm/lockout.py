"""How often an address may fail, and how often it may come at all.

An address is what connections are counted by: an IPv4 address, or the /64 of an IPv6 one, which is what a
machine can choose its addresses from.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from hsm.config import LockoutConfig
from hsm.origin import Networks

ADDRESSES_MAX: Final = 10_000
"""Addresses that are remembered, the latest."""
RATE_BURST_SECONDS: Final = 5.0
"""After a pause an address may make the connections of so many seconds at once."""


class Throttle:
    """So many tries at once, and then one more in so many seconds, for each address.

    :param monotonic: seconds that never go backwards.
    """

    def __init__(self, monotonic: Callable[[], float], tries: float, seconds_a_try: float) -> None:
        self._monotonic = monotonic
        self._tries = tries
        self._seconds_a_try = seconds_a_try
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By address: tries that are left, and when that was so."""
        self._lock = threading.Lock()

    def take(self, address: str) -> bool:
        """Whether one may be tried; it counts until it is given back."""
        with self._lock:
            left = self._now(address)
            if left < 1:
                return False
            self._put(address, left - 1)
            return True

    def give_back(self, address: str) -> None:
        with self._lock:
            self._put(address, min(self._tries, self._now(address) + 1))

    def _now(self, address: str) -> float:
        left, at = self._left.get(address, (self._tries, 0.0))
        return min(self._tries, left + (self._monotonic() - at) / self._seconds_a_try)

    def _put(self, address: str, left: float) -> None:
        self._left[address] = (left, self._monotonic())
        self._left.move_to_end(address)
        if len(self._left) > ADDRESSES_MAX:
            self._left.popitem(last=False)


class Lockout:
    """Addresses that are not listened to for a while. Thread-safe; a new rule begins with a clean slate."""

    def __init__(self, monotonic: Callable[[], float], rule: LockoutConfig) -> None:
        self._monotonic = monotonic
        self._rule = rule
        self._never = Networks(rule.never)
        self._failures: Throttle | None = None
        if rule.failures is not None:
            # The last one that is let pass is the one that locks out.
            self._failures = Throttle(
                monotonic, max(0.0, rule.failures - 1.0), rule.within_seconds / rule.failures
            )
        self._rate: Throttle | None = None
        if rule.connections_per_second is not None:
            burst = max(1.0, rule.connections_per_second * RATE_BURST_SECONDS)
            self._rate = Throttle(monotonic, burst, 1 / rule.connections_per_second)
        self._until: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def rule(self) -> LockoutConfig:
        return self._rule

    def refuses(self, address: str) -> str:
        """Why a new connection of this address is not taken; empty if it is."""
        if address in self._never:
            return ""
        key = counted_by(address)
        with self._lock:
            until = self._until.get(key)
            if until is not None and self._monotonic() < until:
                return "its address is locked out"
        if self._rate is not None and not self._rate.take(key):
            return f"more than {self._rule.connections_per_second:g} connections a second from its address"
        return ""

    def failed(self, address: str) -> str:
        """An association of this address was refused, or made no sense; what follows, if anything does."""
        if self._failures is None or address in self._never:
            return ""
        key = counted_by(address)
        if self._failures.take(key):
            return ""
        now = self._monotonic()
        with self._lock:
            if self._until.get(key, now) > now:
                return ""
            self._until[key] = now + self._rule.lasts_seconds
            self._until.move_to_end(key)
            if len(self._until) > ADDRESSES_MAX:
                self._until.popitem(last=False)
        return f"locked out for {self._rule.lasts_seconds:g} s after {self._rule.failures} failures"


def counted_by(address: str) -> str:
    """What the connections of an address are counted by."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)
