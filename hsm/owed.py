"""Requests that nobody works on any more, although the catalog still has them as active: their end could not
be written down. They are queued again as soon as it answers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from functools import partial

from sqlalchemy.orm import Session

from hsm.catalog import queue
from hsm.catalog.engine import Catalog
from hsm.catalog.orders import Order


class Owed:
    """What this process owes the catalog. Safe for threads."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._pks: set[int] = set()

    def add(self, pks: Iterable[int]) -> None:
        """Their end is not known to be recorded. It may be: then they may be taken again."""
        with self._lock:
            self._pks.update(pks)

    @contextlib.contextmanager
    def taking(self) -> Iterator[tuple[Session, list[Order]]]:
        """A transaction that takes requests; whoever takes one puts it into the list.

        What is taken again was recorded after all: from then on it is not owed, or it would be given back
        while somebody works on it. Where the transaction's own end is not known, what it took is owed.
        """
        taken: list[Order] = []
        try:
            with self._catalog.write() as session:
                yield session, taken
                with self._lock:
                    self._pks.difference_update(order.pk for order in taken)
        except BaseException:
            self.add(order.pk for order in taken)
            raise

    def pay(self, actor: str) -> None:
        """Hand back what is still active.

        :raises SQLAlchemyError: the catalog does not answer; what is left is owed further on.
        """
        with self._lock:
            owed = sorted(self._pks)
        for pk in owed:
            with self._catalog.write() as session:
                # Asked with the request locked: who takes it says so before others may lock it.
                now = self._catalog.clock.now()
                queue.give_back_lost(session, pk, now, actor, partial(self._still, pk))
            with self._lock:
                self._pks.discard(pk)

    def _still(self, pk: int) -> bool:
        with self._lock:
            return pk in self._pks
