"""A C-MOVE as durable work: its destination gets the study although the caller goes away.

The request is active while an association works on it, and queued when the association ended first
or the daemon died; a worker then delivers what is left.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from hsm.catalog import queue, queuelooks, requesting, retrievable
from hsm.catalog.engine import Catalog
from hsm.catalog.orders import Order
from hsm.deliverylog import DeliveryLog
from hsm.model import InstanceRef, Priority, Selection
from hsm.states import RequestKind, RequestState
from hsm.wake import Bell

ASSOCIATION = "association of "
"""Who works on a delivery before it is handed over, with the AE title of its caller."""

_Change = Callable[[Session, datetime], None]


@dataclass(frozen=True, slots=True)
class DeliveryOrder:
    """What is left to deliver, and on whose behalf (PS3.7 section 9.3.1: Move Originator)."""

    request_pk: int
    destination: str
    calling: str
    message_id: int
    instances: tuple[InstanceRef, ...]
    gone: tuple[str, ...] = ()
    """SOP Instance UIDs of what is left and was deleted or rejected since it was asked for."""


PENDING_MAX = 2000
"""Deliveries to one destination that are kept: it may be down, and who asks comes again and again."""


class Deliveries:
    """Keeps C-MOVEs as DELIVER requests."""

    def __init__(self, catalog: Catalog, bell: Bell, log: DeliveryLog | None = None) -> None:
        """
        :param log: where every answer is written down at once; nowhere without it.
        """
        self._log = log
        self._catalog = catalog
        self._bell = bell
        self._lock = threading.Lock()
        self._owed: dict[int, _Change] = {}
        self._unbegun: set[str] = set()
        """Keys of requests whose beginning may be in the catalog although nobody works on them."""

    def begin(self, destination: str, calling: str, message_id: int, instances: Sequence[InstanceRef]) -> int:
        """Record a C-MOVE that an association works on; the key of its request.

        :raises NoSpace: too many for this destination wait already.
        :raises SQLAlchemyError: it could not be recorded, and is not begun.
        """
        name = f"deliver:{destination}:{uuid.uuid4()}"
        try:
            return self._begin(name, destination, calling, message_id, instances)
        except SQLAlchemyError:
            with self._lock:
                self._unbegun.add(name)  # the commit whose answer was lost may have taken effect
            raise

    def _begin(
        self, name: str, destination: str, calling: str, message_id: int, instances: Sequence[InstanceRef]
    ) -> int:
        now = self._catalog.clock.now()
        detail = {
            "destination": destination,
            "calling": calling,
            "message_id": message_id,
            "studies": sorted({instance.study_uid for instance in instances}),
            "instances": [instance.sop_instance_uid for instance in instances],
        }
        with self._catalog.write() as session:
            queuelooks.require_room(session, f"deliver:{destination}:", PENDING_MAX)
            pk, _ = requesting.enqueue(
                session,
                now,
                f"ae:{calling}",
                RequestKind.DELIVER,
                name,
                priority=Priority.ROUTINE,
                reason=f"C-MOVE from {calling} to {destination}",
                detail=detail,
            )
            queue.take(session, pk, f"{ASSOCIATION}{calling}", now)
        return pk

    def begin_again(self) -> None:
        """At start: what was noted of deliveries that have ended since is of no use any more."""
        if self._log is not None:
            with self._catalog.read() as session:
                live = queuelooks.unfinished(session, RequestKind.DELIVER)
            self._log.keep_only(live)

    def answered(self, key: int, sop_instance_uid: str) -> None:
        """The destination has an instance: whoever goes on after this process was killed knows it."""
        if self._log is not None:
            self._log.note(key, sop_instance_uid)

    def closed(self, key: int) -> None:
        """The catalog has all that was noted of this delivery."""
        if self._log is not None:
            self._log.forget(key)

    def delivered(self, key: int, sop_instance_uids: Sequence[str]) -> None:
        """Note progress, so that a later worker does not begin at the beginning."""
        done = set(sop_instance_uids)
        with self._catalog.write() as session:
            detail = queue.get(session, key).detail
            left = [uid for uid in detail["instances"] if uid not in done]
            queue.set_detail(session, key, detail | {"instances": left})

    def finish(self, key: int, *, failed: int, comment: str) -> None:
        """The caller has its answer."""
        if failed:
            why = f"{failed} instances failed: {comment}"
            self._end(key, lambda session, now: queue.fail(session, key, now, "move", why))
        else:
            self._end(key, lambda session, now: queue.done(session, key, now, "move"))

    def cancel(self, key: int) -> None:
        """C-CANCEL, or a caller that went away from a destination that is not delivered to later."""
        self._end(key, lambda session, now: queue.cancel_active(session, key, now, "move"))

    def hand_over(self, key: int, undelivered: Sequence[str]) -> None:
        """The caller went away: a worker delivers these instances."""
        left = list(undelivered)

        def give_back(session: Session, now: datetime) -> None:
            detail = queue.get(session, key).detail
            queue.set_detail(session, key, detail | {"instances": left})
            queue.give_back(session, key, now, "move", "the caller went away")

        self._end(key, give_back)
        self._bell.ring()

    def settle(self) -> None:
        """Write down the ends that the catalog could not take; called now and then.

        :raises SQLAlchemyError: it still cannot.
        """
        with self._lock:
            owed, unbegun = list(self._owed.items()), sorted(self._unbegun)
        for name in unbegun:
            with self._catalog.write() as session:
                order = queuelooks.latest(session, [name]).get(name)
                if order is not None and order.state is RequestState.ACTIVE:
                    queue.cancel_active(session, order.pk, self._catalog.clock.now(), "move")
            with self._lock:
                self._unbegun.discard(name)
        for key, change in owed:
            with self._catalog.write() as session:
                # The commit whose answer was lost may have taken effect.
                if queue.worker_of(session, key).startswith(ASSOCIATION):
                    change(session, self._catalog.clock.now())
            self.closed(key)
            with self._lock:
                self._owed.pop(key, None)
        if owed:
            self._bell.ring()

    def _end(self, key: int, change: _Change) -> None:
        """Change a request for the last time; while the catalog does not answer, it is owed."""
        try:
            with self._catalog.write() as session:
                change(session, self._catalog.clock.now())
        except Exception:
            with self._lock:
                self._owed[key] = change
            raise
        self.closed(key)

    def order(self, order: Order, *, sees_rejected: bool = False) -> DeliveryOrder:
        """What a queued delivery still has to do.

        :param sees_rejected: whether who asked may see what was rejected for quality reasons.
        """
        detail = order.detail
        has = self._log.noted(order.pk) if self._log is not None else set()
        wanted = tuple(uid for uid in detail["instances"] if uid not in has)
        with self._catalog.read() as session:
            # Of the same studies: another one may have an instance of the same UID.
            selection = Selection(study_uids=tuple(detail.get("studies", ())), sop_instance_uids=wanted)
            select = retrievable.select_instances
            found = select(session, selection, sees_rejected=sees_rejected) if wanted else []
        there = {each.sop_instance_uid for each in found}
        return DeliveryOrder(
            order.pk,
            detail["destination"],
            detail["calling"],
            int(detail["message_id"]),
            tuple(found),
            tuple(uid for uid in wanted if uid not in there),
        )
