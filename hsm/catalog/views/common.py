"""What the views share: pages, pools as facts, and the columns that say where a copy is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hsm.catalog.tables import Volume
from hsm.errors import BadInput
from hsm.model import Priority, Tier

Record = dict[str, Any]
"""One thing as shown: documented keys, plain values."""

PAGE_MAX = 1000
PAGE_DEFAULT = 50


@dataclass(frozen=True, slots=True)
class Page:
    """Which rows of a long list: ``limit`` rows, skipping ``offset``.

    :raises BadInput: a limit outside 1..1000 or a negative offset.
    """

    limit: int = PAGE_DEFAULT
    offset: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= PAGE_MAX:
            raise BadInput(f"limit {self.limit}: expected 1 to {PAGE_MAX}")
        if self.offset < 0:
            raise BadInput(f"offset {self.offset}: expected 0 or more")


@dataclass(frozen=True, slots=True)
class PoolFact:
    """One configured pool, as far as a view needs it."""

    name: str
    tier: Tier
    layout: str
    library: str | None = None
    scratch: tuple[str, ...] = ("*",)
    scratch_low: int = 0


def place_of(volume: Volume) -> str:
    """Where a volume is, in an operator's words: ``lib1 slot 12``, ``shelf A3``, ``mounted``."""
    if volume.place == "shelf":
        shelf = volume.shelf or (f"(usually {volume.home})" if volume.home else "")
        return " ".join(part for part in ("shelf", shelf, f"at {volume.site}" if volume.site else "") if part)
    if volume.element is not None and volume.place in ("slot", "mail", "drive"):
        return " ".join(filter(None, (volume.library, volume.place, str(volume.element))))
    if volume.place == "unknown" and not volume.removable:
        return "out of service"
    return volume.place


def priority_name(value: int) -> str:
    """``stat`` for 0; the number itself when it is between the named ones."""
    try:
        return Priority(value).name.lower()
    except ValueError:
        return str(value)
