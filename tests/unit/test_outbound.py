"""What peers are sent at the same time, and what is remembered of what they have answered for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hsm.clock import ManualClock
from hsm.config import AeConfig
from hsm.deliverylog import DeliveryLog
from hsm.dicom.outbound import REST_LAST_SECONDS, Gate, Outbound


def peer(title: str = "DEST", **send: Any) -> AeConfig:
    return AeConfig.model_validate({"ae_title": title, "host": "127.0.0.1", "port": 104, "send": send})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def outbound(clock: ManualClock) -> Outbound:
    return Outbound(clock)


def test_a_peer_has_no_more_associations_than_it_may_and_others_are_not_asked(outbound: Outbound) -> None:
    first, again = outbound.gate(peer(associations_max=2)), outbound.gate(peer(associations_max=2))
    assert first.enter() == again.enter() == ""
    assert "2 associations" in first.enter()
    assert "DEST" in again.full()
    assert outbound.gate(peer("OTHER", associations_max=1)).enter() == ""
    assert outbound.resting() == ["DEST", "OTHER"], "nothing more is begun for either"
    again.leave()
    assert first.full() == ""
    assert outbound.resting() == ["OTHER"]


def test_without_limits_nothing_is_held_up(outbound: Outbound) -> None:
    gate = outbound.gate(peer())
    for _ in range(100):
        assert gate.enter() == ""
        gate.sent(2**40)
    assert gate.pause_seconds() == 0.0
    assert outbound.resting() == []


def paced(gate: Gate, clock: ManualClock, size: int, instances: int) -> float:
    """Seconds until so many instances are out."""
    begun = clock.monotonic()
    for _ in range(instances):
        clock.advance(gate.pause_seconds())
        gate.sent(size)
    return clock.monotonic() - begun


@pytest.mark.parametrize(
    "send", [{"instances_per_second": 5.0}, {"bytes_per_second": "5 KiB"}, {"instances_per_second": 0.1}]
)
def test_whoever_sends_shares_the_rate(outbound: Outbound, clock: ManualClock, send: dict[str, Any]) -> None:
    first, second = outbound.gate(peer(**send)), outbound.gate(peer(**send))
    rate = send.get("instances_per_second", 5.0)
    taken = paced(first, clock, 1024, 100) + paced(second, clock, 1024, 100)
    assert taken == pytest.approx(200 / rate, rel=0.05)


def test_other_limits_hold_from_the_next_look_on(outbound: Outbound) -> None:
    gate = outbound.gate(peer())
    gate.enter()
    outbound.gate(peer(associations_max=1))
    assert gate.full()


def test_a_peer_that_cannot_be_reached_rests_for_longer_each_time_and_is_forgiven_when_it_answers(
    outbound: Outbound, clock: ManualClock
) -> None:
    gate = outbound.gate(peer())
    rests = []
    for _ in range(12):
        gate.unreachable()
        began = clock.monotonic()
        while outbound.resting():
            clock.advance(1.0)
        rests.append(clock.monotonic() - began)
    assert rests[:3] == [2.0, 4.0, 8.0]
    assert rests[-1] == REST_LAST_SECONDS
    gate.unreachable()
    gate.reached()
    assert outbound.resting() == []
    gate.unreachable()
    clock.advance(2.0)
    assert outbound.resting() == []


def test_what_was_answered_for_is_known_to_whoever_goes_on(tmp_path: Path) -> None:
    log = DeliveryLog(tmp_path / "deliveries")
    assert log.noted(7) == set()
    for uid in ("1.2.3", "1.2.4"):
        log.note(7, uid)
    log.note(8, "1.2.5")
    after_a_kill = DeliveryLog(tmp_path / "deliveries")
    assert after_a_kill.noted(7) == {"1.2.3", "1.2.4"}
    assert after_a_kill.noted(8) == {"1.2.5"}
    after_a_kill.keep_only({7})
    assert after_a_kill.noted(8) == set()
    after_a_kill.forget(7)
    after_a_kill.forget(7)
    assert list((tmp_path / "deliveries").iterdir()) == []
    log.close(7)
    log.close(8)


def test_a_line_that_a_kill_has_cut_is_no_answer(tmp_path: Path) -> None:
    (tmp_path / "7.sent").write_bytes(b"1.2.3\n1.2.4.5")
    assert DeliveryLog(tmp_path).noted(7) == {"1.2.3"}
