"""Python's collector of cyclic garbage, kept from the bulk path."""

from __future__ import annotations

import gc
from typing import Final

FIRST_GENERATION: Final = 20_000
"""Container objects made since the last collection, less those gone; Python's own is 700."""
OLDER_GENERATIONS: Final = 5
"""So many collections of the younger ones and an older one is looked through; Python's own are 10. What is
left of a connection that failed, with what its peer sent, is often old before it is garbage: with 20 its
memory waited for 400 rounds of the first. Looking through all takes some 30 ms, once in half a million
objects that stay."""


def calm_collector() -> None:
    """Call once, when everything that stays has been made.

    With Python's own thresholds a fifth of the time of receiving went into looking through what never
    goes: classes, statements, dictionaries of DICOM. These are left out from now on, and the rest,
    little of it cyclic, is looked at less often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(FIRST_GENERATION, OLDER_GENERATIONS, OLDER_GENERATIONS)
