"""Addresses that failed too often are not listened to for a while."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

FAILURES_MAX: Final = 5
WITHIN_SECONDS: Final = 60.0
LOCKED_SECONDS: Final = 60.0
LOCKED_SECONDS_MAX: Final = 960.0
"""Each lock-out of one address lasts twice as long as the one before it, up to this."""
ADDRESSES_MAX: Final = 10_000


@dataclass
class _Standing:
    failures: float = 0.0
    at: float = 0.0
    until: float = 0.0
    locked: int = 0


class Strikes:
    """Counts failures by address: an IPv4 address, or the /64 of an IPv6 one. For one thread."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._known: OrderedDict[str, _Standing] = OrderedDict()

    def seconds_left(self, address: str) -> float:
        """How long the address is not listened to; 0 where it is."""
        standing = self._known.get(counted_by(address))
        return max(0.0, standing.until - self._monotonic()) if standing is not None else 0.0

    def failed(self, address: str) -> float:
        """It failed once more; for how many seconds it is locked out now, or 0."""
        key, now = counted_by(address), self._monotonic()
        standing = self._known.setdefault(key, _Standing(at=now))
        self._known.move_to_end(key)
        if len(self._known) > ADDRESSES_MAX:
            self._known.popitem(last=False)
        forgotten = (now - standing.at) * FAILURES_MAX / WITHIN_SECONDS
        standing.failures, standing.at = max(0.0, standing.failures - forgotten) + 1, now
        if now - standing.until > LOCKED_SECONDS_MAX:
            standing.locked = 0
        if standing.failures < FAILURES_MAX:
            return 0.0
        seconds = min(LOCKED_SECONDS_MAX, LOCKED_SECONDS * 2.0**standing.locked)
        standing.failures, standing.until, standing.locked = 0.0, now + seconds, standing.locked + 1
        return seconds


def counted_by(address: str) -> str:
    """A machine with IPv6 chooses from a /64 as it likes, so all of it counts as one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped is not None else str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
    return str(found)
