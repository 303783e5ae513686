"""Asking for what lies in a cold class, from wherever it is wanted."""

from __future__ import annotations

from drivers.base import Warmth
from drivers.wrappers import recallable
from hsm.pools import DiskPool
from hsm.service import NotYet

PAUSE_FIRST_SECONDS, PAUSE_LAST_SECONDS = 10.0, 6 * 3600.0
"""Between two looks at one package, whatever the storage advises."""


def ask_for(pool: DiskPool, key: str) -> None:
    """Return when ``key`` can be read from a pool that may be cold; else it has been asked for.

    :raises NotYet: it is on its way; the error says when to look again.
    :raises DriverError: it cannot be asked for.
    """
    cold = recallable(pool.store) if pool.cold else None
    if cold is None:
        return
    state = cold.request_recall(key)
    if state.warmth is not Warmth.READABLE:
        pause = min(max(state.ask_again_seconds, PAUSE_FIRST_SECONDS), PAUSE_LAST_SECONDS)
        raise NotYet(f"{pool.label} is cold: asked for, and on its way", pause)
