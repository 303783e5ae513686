"""Logins with tokens, for the journal: each place that a token comes from, and never more of it than fits.

HTTP has no session that begins or ends: the first request of a shift that comes with a token from an address
is the login. Whoever holds a token can come from as many addresses as a network has (an IPv6 one has more
than a journal), so each token has so many records a minute; its further ones are counted in a record that
names no address.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from hsm.lockout import Throttle

SHIFT_SECONDS: Final = 8 * 3600.0
"""The same token from the same address is one login in so long."""
NAMED_A_MINUTE: Final = 10
"""Logins of one token that are records of their own; as many more at once after a pause of a minute."""
PLACES_MAX: Final = 1000
"""Addresses of one token that are remembered, the latest."""
TOKENS_MAX: Final = 1000
"""Tokens that are remembered, the latest."""
MANY: Final = {"addresses": "many"}
"""What the record says that counts the logins that have none of their own."""


class Arrivals:
    """What one process remembers of logins. Thread-safe.

    :param monotonic: seconds that never go backwards.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._named = Throttle(monotonic, NAMED_A_MINUTE, 60 / NAMED_A_MINUTE)
        self._places: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()
        """When each token was last counted as coming from an address."""
        self._lock = threading.Lock()

    def told_of(self, token: str, address: str) -> Mapping[str, str]:
        """What the record of a login says of where it comes from; empty where there is none to write, because
        this token has come from there already."""
        now = self._monotonic()
        with self._lock:
            places = self._places.setdefault(token, OrderedDict())
            self._places.move_to_end(token)
            if now - places.get(address, float("-inf")) < SHIFT_SECONDS:
                return {}
            places[address] = now
            places.move_to_end(address)
            if len(places) > PLACES_MAX:
                places.popitem(last=False)
            if len(self._places) > TOKENS_MAX:
                self._places.popitem(last=False)
        return {"address": address} if self._named.take(token) else MANY
