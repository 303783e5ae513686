"""What a person may do to single requests of the queue."""

from __future__ import annotations

from hsm.catalog import queue
from hsm.catalog.engine import Catalog
from hsm.wake import Bell


class QueueActs:
    """What an operator may do to single requests."""

    def __init__(self, catalog: Catalog, bell: Bell) -> None:
        self._catalog = catalog
        self._bell = bell

    def cancel(self, pk: int, by: str) -> None:
        """:raises Refused: there is no such request, or it is not queued or waiting."""
        with self._catalog.write() as session:
            queue.cancel(session, pk, self._catalog.clock.now(), by)
        self._bell.ring()

    def retry(self, pk: int, by: str) -> None:
        """:raises Refused: there is no such request, or it has not failed."""
        with self._catalog.write() as session:
            queue.retry(session, pk, self._catalog.clock.now(), by)
        self._bell.ring()
