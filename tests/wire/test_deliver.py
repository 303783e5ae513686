"""A delivery whose caller has gone, to a real destination: what is tried again and what is noted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import wire_fakes
from wire_fakes import (
    CT,
    EXPLICIT,
    FakeIngest,
    FakeRetrievals,
    quick_config,
    reference,
    small_dataset,
    stored,
)
from wire_world import Receiver

from hsm.clock import ManualClock
from hsm.delivery import DeliveryOrder
from hsm.dicom.deliver import Deliverer
from hsm.errors import Corrupt, Permanent, Retryable
from hsm.ranges import Held
from hsm.recall import Postponed


class Kept:
    """One delivery as the catalog keeps it."""

    def __init__(self, ingest: FakeIngest) -> None:
        self.left = [f"1.2.3.9.{n}" for n in range(4)]
        for uid in self.left:
            ingest.stored[uid] = stored(small_dataset(uid))
        self._references = {uid: reference(each, pk) for pk, (uid, each) in enumerate(ingest.stored.items())}
        self.notes: list[list[str]] = []
        self.answers: list[str] = []
        self.gone: tuple[str, ...] = ()
        self.rejected_too = False

    def order(self, _order: object, *, sees_rejected: bool) -> DeliveryOrder:
        self.rejected_too = sees_rejected
        left = tuple(self._references[uid] for uid in self.left)
        return DeliveryOrder(1, "DEST", "WS1", 7, left, self.gone)

    def answered(self, _key: int, uid: str) -> None:
        self.answers.append(uid)

    def closed(self, _key: int) -> None:
        pass

    def delivered(self, _key: int, uids: list[str]) -> None:
        self.notes.append(list(uids))
        self.left = [uid for uid in self.left if uid not in uids]


class Delivery:
    def __init__(self, receiver: Receiver) -> None:
        port = receiver.start([(CT, [EXPLICIT])])
        aes: list[dict[str, Any]] = [{"ae_title": "DEST", "host": "127.0.0.1", "port": port}]
        aes.append({"ae_title": "WS1", "host": "127.0.0.1", "port": 1, "may": ["move", "see rejected"]})
        config = quick_config(aes=aes)
        ingest = FakeIngest()
        self.clock = ManualClock()
        self.kept = Kept(ingest)
        deliveries: Any = self.kept
        retrievals: Any = FakeRetrievals(ingest)
        self.retrievals = retrievals
        self._deliverer = Deliverer(config, "HSM", self.clock, retrievals, deliveries)

    def run(self) -> None:
        order: Any = type("Order", (), {"pk": 1, "detail": {"calling": "WS1"}})
        self._deliverer(order, threading.Event())


@pytest.fixture
def delivery(receiver: Receiver) -> Delivery:
    return Delivery(receiver)


@pytest.mark.parametrize(
    ("status", "error"),
    [(0xA700, Retryable), (0xA702, Retryable), (0x0110, Retryable), (0x0122, Permanent), (0xC000, Permanent)],
)
def test_a_refusal_that_may_pass_is_tried_again_and_one_that_lasts_is_not(
    delivery: Delivery, receiver: Receiver, status: int, error: type[Exception]
) -> None:
    answers = iter([0x0000, status, 0xB007, status])

    def before() -> None:
        receiver.status = next(answers, 0x0000)

    receiver.before = before
    with pytest.raises(error, match=f"DEST.*1.2.3.9.1: peer answers {status:04X}"):
        delivery.run()
    assert delivery.kept.left == ["1.2.3.9.1", "1.2.3.9.3"]
    delivery.run()
    assert delivery.kept.left == []


def test_what_is_delivered_is_noted_every_few_seconds(delivery: Delivery, receiver: Receiver) -> None:
    receiver.before = lambda: delivery.clock.advance(1.5)
    delivery.run()
    assert [len(note) for note in delivery.kept.notes] == [2, 2]


def test_a_delivery_that_can_read_nothing_more_gives_its_worker_free_and_keeps_what_it_sent(
    delivery: Delivery, receiver: Receiver
) -> None:
    delivery.retrievals.held = {"1.2.3.9.1", "1.2.3.9.2"}
    delivery.retrievals.on_wait = delivery.clock.advance
    with pytest.raises(Postponed):
        delivery.run()
    assert delivery.kept.left == ["1.2.3.9.1", "1.2.3.9.2"]
    assert 3.0 <= delivery.clock.monotonic() < 10.0
    assert all(retrieval.closed for retrieval in delivery.retrievals.opened)
    delivery.retrievals.held = set()
    delivery.run()
    assert delivery.kept.left == []


def test_what_was_deleted_since_it_was_asked_for_fails_and_says_so_once_the_rest_went(
    delivery: Delivery,
) -> None:
    delivery.kept.gone = ("1.2.3.9.77", "1.2.3.9.78")
    with pytest.raises(Permanent, match=r"DEST: 2 instances failed, first 1\.2\.3\.9\.77: it was deleted"):
        delivery.run()
    assert delivery.kept.left == []
    sent = list(delivery.kept.answers)
    with pytest.raises(Permanent, match="deleted or rejected since"):
        delivery.run()
    assert delivery.kept.answers == sent
    assert len(sent) == 4
    assert delivery.kept.rejected_too, "the right to see what was rejected is the caller's"


@pytest.mark.parametrize(
    ("trouble", "ends"),
    [
        (Retryable("NAS: no answer"), Retryable),
        (Corrupt("other bytes than a moment ago"), Retryable),
        (Permanent("no such object"), Permanent),
    ],
)
def test_what_our_own_storage_does_not_give_while_it_is_sent_is_tried_again_unless_it_never_will_be(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, trouble: Exception, ends: type[Exception]
) -> None:
    begun = iter([False, True, False, False])

    class Troubled(Held):
        def pieces(self) -> Iterator[bytes]:
            whole = self.whole()
            yield whole[:400]
            if next(begun, False):
                raise trouble
            yield whole[400:]

    monkeypatch.setattr(wire_fakes, "Held", Troubled)
    with pytest.raises(ends, match=f"DEST.*1.2.3.9.1: {trouble}"):
        delivery.run()
    assert delivery.kept.left == ["1.2.3.9.1"]
    delivery.run()
    assert delivery.kept.left == []
