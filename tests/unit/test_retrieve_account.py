"""What of a retrieve the history is told."""

from __future__ import annotations

from dataclasses import replace

from hsm.catalog.history import Recorder, Retrieved
from hsm.clock import ManualClock
from hsm.model import InstanceRef, Tier
from hsm.retrieveaccount import STAGED, Account, destination

ONE = InstanceRef(1, "1.2.3.1", "1.2", "1.2", 1, 100, bytes(32), "1.2.3", "1.2.3.4", None, None)


class Heard(Recorder):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Retrieved] = []

    def retrieved(self, each: Retrieved) -> None:
        self.told.append(each)


def test_each_study_is_told_once_with_its_bytes_and_where_its_slowest_part_was() -> None:
    heard, clock = Heard(), ManualClock()
    account = Account(heard, None, clock, "C-MOVE from WS1 to WS2", "WS1")
    clock.advance(2)
    # Two studies that are not sealed yet lie in one part of a retrieve: both were read online.
    account.read(ONE, Tier.ONLINE.value)
    account.read(replace(ONE, study_uid="1.2.4"), Tier.ONLINE.value)
    clock.advance(60)
    account.read(ONE, Tier.OFFLINE.value)
    account.read(ONE, STAGED)
    account.ended()
    account.ended()
    assert [(each.study_uid, each.ae, each.bytes, each.tier, each.waited_seconds) for each in heard.told] == [
        ("1.2.3", "WS1", 300, "offline", 2.0),
        ("1.2.4", "WS1", 100, "online", 2.0),
    ]


def test_whom_a_retrieve_sends_to_is_read_from_what_it_calls_itself() -> None:
    assert destination("C-MOVE from WS1 to WS2", "WS1") == "WS2"
    assert destination("delivery to WS2 for WS1", "WS1") == "WS2"
    assert destination("C-GET from WS1", "WS1") == "WS1"
