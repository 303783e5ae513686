"""One request taken from the queue and seen through: what is done with it when it fails, and how it ends."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from hsm.catalog import queue, queuelooks, storage
from hsm.catalog.engine import Catalog
from hsm.catalog.orders import Order
from hsm.copysource import SourceComing
from hsm.errors import (
    Corrupt,
    DriverError,
    HsmError,
    NoSpace,
    OperatorNeeded,
    Permanent,
    Refused,
    Retryable,
)
from hsm.log import get_logger
from hsm.owed import Owed
from hsm.pools import Pools
from hsm.recall import Postponed, Stopped
from hsm.service import NotYet, OutOfService
from hsm.states import RequestKind
from hsm.wake import Bell

log = get_logger(__name__)

OVERDUE_EVERY = 8
"""Every so many requests that need no drive a worker takes the one whose patience ended first, so that an
endless row of more urgent ones keeps none waiting for ever."""
POSTPONED_FIRST, POSTPONED_LAST = timedelta(seconds=10), timedelta(minutes=5)


def _pause(age: timedelta) -> timedelta:
    """How long a delivery is left alone that waits for its recalls: the older, the longer."""
    return min(max(age / 10, POSTPONED_FIRST), POSTPONED_LAST)


class Execution:
    """Takes requests that need no session of a drive. Any thread may."""

    def __init__(self, catalog: Catalog, pools: Pools, bell: Bell, owed: Owed) -> None:
        self._catalog = catalog
        self._pools = pools
        self._bell = bell
        self._owed = owed
        self._takes = itertools.count(1)

    def take(
        self,
        kinds: tuple[RequestKind, ...],
        pools: list[str] | None,
        act: Callable[[Order], None],
        not_for: Collection[str] = (),
    ) -> bool:
        """Take one request of these kinds and see it through; False when there is none.

        :param pools: only what works on one of these; None: wherever.
        :param act: does it; what it raises says how the request ends.
        :param not_for: peers that nothing is begun for now.
        """
        name = threading.current_thread().name
        clock = self._catalog.clock
        with self._catalog.read() as session:
            if not queuelooks.has_work(session, kinds, clock.now(), pools, not_for):
                return False
        with self._owed.taking() as (session, taken):
            overdue = next(self._takes) % OVERDUE_EVERY == 0
            order = queue.take_next(session, kinds, name, clock.now(), pools, not_for, overdue=overdue)
            taken += [order] if order is not None else []
        if order is None:
            return False
        try:
            act(order)
        except Stopped:
            self._end(order.pk, lambda s, now: queue.give_back(s, order.pk, now, name, "the daemon stops"))
        except Postponed as waits:
            pause, why = _pause(clock.now() - order.created_at), str(waits)
            self._end(order.pk, lambda s, now: queue.give_back(s, order.pk, now, name, why, pause))
        except (OutOfService, SourceComing, NoSpace) as waits:
            self._wait(order, name, waits)
        except (Corrupt, Permanent, Refused) as error:
            # Corrupt bytes on the target are written anew; the others will not change by waiting.
            text = str(error)
            log.warning("%s (request %d): %s", order.key, order.pk, text)
            if isinstance(error, Corrupt) and order.kind is RequestKind.COPY:
                self._end(order.pk, lambda s, now: queue.retry_later(s, order.pk, now, name, text))
            else:
                self._end(order.pk, lambda s, now: queue.fail(s, order.pk, now, name, text))
        except (DriverError, HsmError, SQLAlchemyError, OSError) as error:
            text = str(error)
            if isinstance(error, Retryable | OperatorNeeded) and self._is_away(order):
                self._wait(order, name, error)
                self._bell.ring()
                return True
            log.warning("%s (request %d) will be tried again: %s", order.key, order.pk, text)
            self._end(order.pk, lambda s, now: queue.retry_later(s, order.pk, now, name, text))
        except Exception as error:  # a fault of ours must not leave a request active for ever
            log.exception("%s (request %d): unexpected", order.key, order.pk)
            text = f"unexpected: {error!r}"
            self._end(order.pk, lambda s, now: queue.retry_later(s, order.pk, now, name, text))
        else:
            self._end(order.pk, lambda s, now: queue.done(s, order.pk, now, name))
        self._bell.ring()
        return True

    def _wait(self, order: Order, name: str, waits: Exception) -> None:
        """It goes on when what it needs is there again: that is no attempt that failed."""
        pause = _pause(self._catalog.clock.now() - order.created_at)
        if isinstance(waits, NotYet):
            pause = timedelta(seconds=waits.seconds)
        why = str(waits)
        log.info("%s (request %d) waits: %s", order.key, order.pk, why)

        def give_back(session: Session, now: datetime) -> None:
            queue.give_back(session, order.pk, now, name, why, pause)
            queue.explain(session, order.pk, f"{storage.WAITS}{why}")

        self._end(order.pk, give_back)

    def _is_away(self, order: Order) -> bool:
        """Whether a volume of the pool that it works on went out of service meanwhile: asked now, since
        the request's end depends on it."""
        found = False
        for pool in self._pools.volumes_of(order.pool or ""):
            if pool.service is not None:
                pool.service.probe()
                found = found or not pool.writable
        return found

    def _end(self, pk: int, change: Callable[..., object]) -> None:
        """Write a request's end down; while the catalog does not answer, it is owed."""
        try:
            with self._catalog.write() as session:
                change(session, self._catalog.clock.now())
        except Exception:
            self._owed.add([pk])
            raise
