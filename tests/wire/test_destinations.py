"""C-MOVE destinations with limits of their own, that are down, or that take everything and answer nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from wire_fakes import CT, EXPLICIT, IMPLICIT, small_dataset, stored
from wire_peers import STUDY_MOVE, Move, associated, counts, failed_uids, study_identifier
from wire_world import Receiver, Running, StartServer, eventually

from hsm.clock import ManualClock

STUDY = "1.2.3"
MOVE = [(STUDY_MOVE, [IMPLICIT])]
StartMove = Callable[..., Running]


@pytest.fixture
def moving(start_server: StartServer, receiver: Receiver) -> StartMove:
    """Starts a server that knows the receiver as DEST; options of its entry, and the server's clock."""

    def start(number: int, clock: ManualClock | None = None, **entry: Any) -> Running:
        changes = {key: entry.pop(key) for key in ("retrieve", "dimse_timeout_seconds") if key in entry}
        port = receiver.start([(CT, [EXPLICIT])])
        aes = [{"ae_title": "DEST", "host": "127.0.0.1", "port": port, **entry}]
        archive = start_server(clock, aes=aes, **changes)
        for n in range(number):
            archive.ingest.stored[f"1.2.3.9.{n}"] = stored(small_dataset(f"1.2.3.9.{n}"))
        return archive

    return start


@pytest.fixture
def blocked(receiver: Receiver) -> Iterator[threading.Event]:
    """The receiver answers nothing until it is set."""
    event = threading.Event()
    receiver.before = lambda: event.wait(30)  # type: ignore[assignment, return-value]
    yield event
    event.set()


def test_moves_to_one_destination_share_its_associations_and_the_one_that_waits_says_so(
    moving: StartMove, receiver: Receiver, blocked: threading.Event
) -> None:
    archive = moving(2, send={"associations_max": 1}, retrieve={"pending_seconds": 0.05})
    with ExitStack() as stack:
        first, second = (stack.enter_context(associated(archive.port, MOVE)) for _ in range(2))
        early = Move(first, "DEST", study_identifier(STUDY))
        eventually(lambda: receiver.associations == 1)
        late = Move(second, "DEST", study_identifier(STUDY))
        late.until_responses(3)
        assert receiver.associations == 1
        assert {status.Status for status, _ in late.responses} == {0xFF00}
        blocked.set()
        for move in (early, late):
            status, _ = move.final()
            assert (status.Status, counts(status)) == (0x0000, (None, 2, 0, 0))
    assert receiver.associations == 2


def test_a_move_that_waits_for_its_turn_can_be_cancelled(
    moving: StartMove, receiver: Receiver, blocked: threading.Event
) -> None:
    archive = moving(1, send={"associations_max": 1}, retrieve={"pending_seconds": 0.05})
    with ExitStack() as stack:
        lines = [stack.enter_context(associated(archive.port, MOVE)) for _ in range(2)]
        first = Move(lines[0], "DEST", study_identifier(STUDY))
        eventually(lambda: receiver.associations == 1)
        second = Move(lines[1], "DEST", study_identifier(STUDY))
        second.until_responses(1)
        second.cancel()
        assert second.final()[0].Status == 0xFE00
        blocked.set()
        assert first.final()[0].Status == 0x0000


def test_a_move_that_waits_for_its_turn_ends_with_its_hold_and_is_delivered_later(
    moving: StartMove, receiver: Receiver, blocked: threading.Event
) -> None:
    archive = moving(1, ManualClock(), send={"associations_max": 1})
    with ExitStack() as stack:
        lines = [stack.enter_context(associated(archive.port, MOVE)) for _ in range(2)]
        first = Move(lines[0], "DEST", study_identifier(STUDY))
        eventually(lambda: receiver.associations == 1)
        status, identifier = Move(lines[1], "DEST", study_identifier(STUDY)).final()
        assert (status.Status, failed_uids(identifier)) == (0xA702, ["1.2.3.9.0"])
        assert status.ErrorComment == "waiting for DEST: 1 of 1 associations in use; 1 delivered later"
        assert archive.deliveries.handed_over == [(2, ["1.2.3.9.0"])]
        blocked.set()
        assert first.final()[0].Status == 0x0000


@pytest.mark.parametrize("send", [{"instances_per_second": 2}, {"bytes_per_second": "1 KiB"}])
def test_a_destination_gets_no_more_a_second_than_it_may(
    moving: StartMove, receiver: Receiver, send: dict[str, Any]
) -> None:
    clock = ManualClock()
    archive = moving(12, clock, send=send)
    began = clock.monotonic()
    with associated(archive.port, MOVE) as assoc:
        status, _ = Move(assoc, "DEST", study_identifier(STUDY)).final()
    assert counts(status) == (None, 12, 0, 0)
    size = len(archive.ingest.stored["1.2.3.9.0"].part10)
    least = 4.0 if "instances_per_second" in send else (11 * size - 1024) / 1024
    assert least <= clock.monotonic() - began < 60


def test_what_a_destination_answers_for_is_written_down_one_by_one(moving: StartMove) -> None:
    archive = moving(3)
    with associated(archive.port, MOVE) as assoc:
        Move(assoc, "DEST", study_identifier(STUDY)).final()
    assert archive.deliveries.answers == [f"1.2.3.9.{n}" for n in range(3)]


@pytest.mark.parametrize("when_down", [True, False])
def test_a_destination_that_is_down_gets_its_study_later_where_that_is_wanted(
    moving: StartMove, receiver: Receiver, when_down: bool
) -> None:
    archive = moving(2, deliver_when_down=when_down)
    receiver.stop()
    with associated(archive.port, MOVE) as assoc:
        status, identifier = Move(assoc, "DEST", study_identifier(STUDY)).final()
    assert (status.Status, len(failed_uids(identifier))) == (0xA702, 2), "the caller is told the truth"
    assert len(status.ErrorComment) <= 64
    assert status.ErrorComment.endswith("; 2 delivered later") is when_down
    assert archive.deliveries.handed_over == ([(1, ["1.2.3.9.0", "1.2.3.9.1"])] if when_down else [])


def test_a_destination_that_takes_everything_and_answers_nothing_is_given_up_in_time(
    moving: StartMove, receiver: Receiver, blocked: threading.Event
) -> None:
    archive = moving(50, dimse_timeout_seconds=0.3, deliver_when_down=True)
    began = time.monotonic()
    with associated(archive.port, MOVE) as assoc:
        status, identifier = Move(assoc, "DEST", study_identifier(STUDY)).final(30)
    assert time.monotonic() - began < 20
    assert status.Status == 0xA702
    assert len(failed_uids(identifier)) == 50
    assert receiver.associations == 6, "three instances, each tried twice"
    assert status.ErrorComment.endswith("; 50 delivered later")
    ((_, left),) = archive.deliveries.handed_over
    assert len(left) == len(set(left)) == 50, "also those that it had and never answered for"
