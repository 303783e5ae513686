"""Executes deliveries whose caller has gone: what is left goes to the destination when it can be read."""

from __future__ import annotations

import threading

from hsm.catalog.orders import Order
from hsm.clock import Clock
from hsm.config import AeConfig, DicomConfig
from hsm.delivery import Deliveries, DeliveryOrder
from hsm.dicom.outbound import Outbound
from hsm.dicom.rights import SEES_REJECTED, AeBook
from hsm.dicom.sendline import Originator
from hsm.dicom.subops import DeliveryResult, Destination, deliver
from hsm.errors import Permanent, Retryable
from hsm.log import get_logger
from hsm.model import Priority
from hsm.recall import Postponed, Stopped
from hsm.retrieval import Retrievals

log = get_logger(__name__)

NOTE_SECONDS = 2.0
"""Between two notes of what was delivered."""
GONE = "it was deleted or rejected since it was asked for"


class _Notes:
    """What the destination has, written down every few seconds: who goes on after a crash begins there."""

    def __init__(self, deliveries: Deliveries, key: int, clock: Clock) -> None:
        self._deliveries = deliveries
        self._key = key
        self._clock = clock
        self._new: list[str] = []
        self._at = clock.monotonic()

    def add(self, uid: str) -> None:
        self._deliveries.answered(self._key, uid)
        self._new.append(uid)
        if self._clock.monotonic() - self._at >= NOTE_SECONDS:
            self.write()

    def write(self) -> None:
        if self._new:
            self._deliveries.delivered(self._key, self._new)
            self._new = []
        self._at = self._clock.monotonic()


class Deliverer:
    """Callable with a DELIVER request; returns when its destination has everything."""

    def __init__(
        self,
        config: DicomConfig,
        ae_title: str,
        clock: Clock,
        retrievals: Retrievals,
        deliveries: Deliveries,
        outbound: Outbound | None = None,
    ) -> None:
        self._outbound = outbound or Outbound(clock)
        self._config = config
        self._ae_title = ae_title
        self._clock = clock
        self._retrievals = retrievals
        self._deliveries = deliveries

    def reload(self, config: DicomConfig) -> None:
        """Use other destinations from the next delivery on."""
        self._config = config

    def __call__(self, order: Order, stop: threading.Event) -> None:
        """
        :raises Retryable: the destination cannot be reached now, or takes something not now.
        :raises Permanent: it is not configured any more, or instances failed for good.
        :raises Postponed: the rest cannot be read yet, or the destination may not be sent more now.
        :raises Stopped: the daemon stops; progress is noted.
        """
        book = AeBook.of(self._config)
        # Of today: a right that was taken from whoever asked counts no more.
        rights = book.rights(str(order.detail["calling"]))
        left = self._deliveries.order(order, sees_rejected=SEES_REJECTED in rights)
        peer = book.destination(left.destination)
        if peer is None:
            raise Permanent(f"{left.destination} is not among the configured AEs any more")
        result = self._send(order, left, peer, stop) if left.instances else DeliveryResult(0, ())
        failed = (*result.failed, *((uid, GONE) for uid in left.gone))
        if failed:
            uid, reason = failed[0]
            raise Permanent(f"{left.destination}: {len(failed)} instances failed, first {uid}: {reason}")
        log.info("delivered %d instances to %s", result.delivered, left.destination)

    def _send(
        self, order: Order, left: DeliveryOrder, peer: AeConfig, stop: threading.Event
    ) -> DeliveryResult:
        """Everything that can be had, until it went or has failed for good."""
        originator = Originator(left.calling, left.message_id)
        gate = self._outbound.gate(peer)
        target = Destination(
            peer, self._ae_title, self._config, self._clock, left.instances, originator, gate
        )
        who = f"delivery to {left.destination} for {left.calling}"
        source = self._retrievals.open(left.instances, who, Priority.ROUTINE, left.calling, comes_back=True)
        notes = _Notes(self._deliveries, order.pk, self._clock)
        try:
            result = deliver(target, source, stop.is_set, notes.add, self._clock.monotonic)
            waits_for = source.waiting_for() if result.waiting else ""
        finally:
            source.close()
            notes.write()
            self._deliveries.closed(order.pk)
        if result.stopped:
            raise Stopped
        if result.unreachable:
            raise Retryable(f"{left.destination}: {result.unreachable}")
        if result.refused:
            raise Retryable(f"{left.destination}: not everything went, first {result.refused}")
        if result.held_up:
            raise Postponed(result.held_up)
        if result.waiting:
            raise Postponed(waits_for or "waits for its recalls")
        return result
