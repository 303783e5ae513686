"""Recalls of packages that lie in a cold class: asked for, looked at again later, read when they are ready.

Between two looks nothing of it is in memory: when to look again stands in the request itself, so hours pass
and daemons come and go. What has gone cold again meanwhile is asked for again.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

from hsm.catalog import details, placement, queue
from hsm.catalog.engine import Catalog
from hsm.catalog.orders import Order
from hsm.catalog.placement import PackageRef
from hsm.cold import PAUSE_FIRST_SECONDS, ask_for
from hsm.errors import Corrupt, DriverError, HsmError, NoSpace, NotFound
from hsm.log import get_logger
from hsm.model import CopyAt
from hsm.pools import Pools
from hsm.recall import ReadAgain, Recall, Stopped
from hsm.service import NotYet
from hsm.staging import TooLarge
from hsm.wake import Bell

log = get_logger(__name__)

ACTOR = "cold recall"
AT_ONCE_MAX = 50
"""Requests that one round takes."""


class ColdRecalls:
    """Executes recalls from pools whose objects are cold."""

    def __init__(self, catalog: Catalog, pools: Pools, recall: Recall, bell: Bell) -> None:
        self._catalog = catalog
        self._pools = pools
        self._recall = recall
        self._bell = bell

    def run(self, work: Sequence[tuple[Order, CopyAt]], stop: threading.Event) -> None:
        """Ask for each, or read what is ready; every request ends here, or is queued for later."""
        for order, copy in work:
            try:
                self._one(order, copy, stop)
            except SQLAlchemyError as error:
                log.error("request %d: %s", order.pk, getattr(error, "orig", error))
                with self._catalog.write() as session:
                    queue.give_back_lost(session, order.pk, self._catalog.clock.now(), ACTOR)
        self._bell.ring()

    def _one(self, order: Order, copy: CopyAt, stop: threading.Event) -> None:
        pool = self._pools.disk_by_volume(copy.volume_pk)
        with self._catalog.read() as session:
            package = placement.package(session, order.package_pk or 0)
        try:
            if stop.is_set():
                raise Stopped
            assert pool is not None  # the dispatcher looked
            ask_for(pool, copy.locator)
            self._recall.fetch(package, copy, pool.store, stop)
        except Stopped:
            self._later(order, "the daemon stops", 0.0)
        except ReadAgain as again:
            self._later(order, str(again), 0.0)
        except NotYet as wait:
            self._wait(order, package, wait)
        except (Corrupt, NotFound) as error:
            self._recall.suspect(copy, error)
            self._retry(order, f"{copy.volume_name}: {error}")
        except TooLarge as error:  # for the whole staging area: only the configuration can mend that
            with self._catalog.write() as session:
                queue.fail(session, order.pk, self._catalog.clock.now(), ACTOR, str(error))
        except NoSpace as error:  # in the staging area just now
            self._retry(order, str(error))
        except (DriverError, HsmError) as error:
            self._later(order, f"{copy.volume_name}: {error}", PAUSE_FIRST_SECONDS)
        else:
            with self._catalog.write() as session:
                queue.done(session, order.pk, self._catalog.clock.now(), ACTOR)

    def _wait(self, order: Order, package: PackageRef, wait: NotYet) -> None:
        if details.COLD not in order.detail:
            log.info("%s is asked for from cold storage (request %d)", package.key, order.pk)
        now = self._catalog.clock.now()
        asked = order.detail.get(details.COLD, now.isoformat(timespec="minutes"))
        again = now + timedelta(seconds=wait.seconds)
        why = f"{wait}, since {asked[:16].replace('T', ' ')} UTC; looked at again {again:%Y-%m-%d %H:%M} UTC"
        with self._catalog.write() as session:
            queue.set_detail(session, order.pk, {**order.detail, details.COLD: asked})
        self._later(order, why, wait.seconds)

    def _later(self, order: Order, why: str, seconds: float) -> None:
        with self._catalog.write() as session:
            pause = timedelta(seconds=seconds)
            queue.give_back(session, order.pk, self._catalog.clock.now(), ACTOR, why, pause)
            queue.explain(session, order.pk, why)

    def _retry(self, order: Order, why: str) -> None:
        with self._catalog.write() as session:
            queue.retry_later(session, order.pk, self._catalog.clock.now(), ACTOR, why)
