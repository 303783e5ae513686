"""What the journal is streamed to, as the shipper sees it."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hsm.catalog.chain import GENESIS
from hsm.catalog.chainread import Link


class NotTaken(Exception):
    """The sink cannot be written to now; the text says why and what to do. What it has is asked anew."""


@dataclass(frozen=True, slots=True)
class Place:
    """A record of the chain: what a sink has got to."""

    seq: int
    digest: bytes


BEGINNING = Place(0, GENESIS)
"""Before record 1."""


class Whose(enum.Enum):
    """Who streams to a sink that has one stream."""

    OURS = "ours"
    ANOTHERS = "another node's"
    OPEN = "open"  # this node has let it go and leaves time for another to take it


class Sink(Protocol):
    """Takes records in order. One thread uses it; ``abort`` may come from another one."""

    @property
    def name(self) -> str:
        """For people: ``the file /srv/audit/journal.jsonl``."""
        ...

    def begin(self) -> Place:
        """The last record that is there for good; also after something failed.

        :raises NotTaken: nobody knows now.
        """
        ...

    def whose(self) -> Whose:
        """Which node writes to it now; asked before each batch.

        :raises SQLAlchemyError: the database, which says it, does not answer.
        """
        ...

    def take(self, links: Sequence[Link]) -> None:
        """:raises NotTaken: they are not, or perhaps not, all there; :meth:`begin` says from where to go
        on."""
        ...

    def idle(self) -> None:
        """Called between, also when there is nothing to take.

        :raises NotTaken: what was taken lately may be lost; :meth:`begin` says from where to go on.
        """
        ...

    def not_taken(self) -> None:
        """It is not begun again for a while; never raises."""
        ...

    def abort(self) -> None:
        """End what waits now: the daemon stops."""
        ...

    def close(self) -> None: ...
