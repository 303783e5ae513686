"""C-MOVE and C-GET over real associations: what waits, what fails, what is cancelled, who has gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_CANCEL
from sqlalchemy.exc import OperationalError
from wire_fakes import (
    CT,
    EXPLICIT,
    FILES,
    IMPLICIT,
    MR,
    TEST_FILES,
    decoded,
    kinds_of,
    part10_parts,
    quick_config,
    small_dataset,
    stored,
)
from wire_peers import (
    STUDY_GET,
    STUDY_MOVE,
    VERIFICATION,
    Move,
    associated,
    counts,
    failed_uids,
    study_identifier,
)
from wire_world import Receiver, Running, StartServer, eventually

from hsm.clock import ManualClock
from hsm.dicom.header import read_header
from hsm.dicom.waitingroom import places
from hsm.errors import BadInput, Retryable
from hsm.model import Priority

STUDY = "1.2.3"
MOVE = [(STUDY_MOVE, [IMPLICIT]), (VERIFICATION, [IMPLICIT])]
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
PRIVATE_SYNTAX = "1.2.840.113619.5.2"

StartMove = Callable[..., Running]


def uids(number: int) -> list[str]:
    return [f"1.2.3.9.{n}" for n in range(number)]


def fill(archive: Running, number: int, **dataset: Any) -> list[str]:
    """Put ``number`` instances of one study into the archive."""
    for uid in uids(number):
        archive.ingest.stored[uid] = stored(small_dataset(uid, **dataset))
    return uids(number)


@pytest.fixture
def moving(start_server: StartServer, receiver: Receiver) -> StartMove:
    """Starts a server that knows the receiver as DEST."""

    def start(contexts: list[tuple[str, list[str]]] | None = None, **changes: Any) -> Running:
        later = changes.pop("deliver_later", True)
        clock = changes.pop("clock", None)
        port = receiver.start(contexts or [(CT, [EXPLICIT]), (MR, [EXPLICIT])])
        aes = [{"ae_title": "DEST", "host": "127.0.0.1", "port": port, "deliver_later": later}]
        return start_server(clock, aes=aes, **changes)

    return start


# C-MOVE


def test_a_move_delivers_every_instance_with_its_bytes_unchanged(
    moving: StartMove, receiver: Receiver
) -> None:
    archive = moving()
    wanted = fill(archive, 3)
    with associated(archive.port, MOVE) as assoc:
        status, identifier = Move(assoc, "DEST", study_identifier(STUDY)).final()
    assert (status.Status, counts(status)) == (0x0000, (None, 3, 0, 0))
    assert failed_uids(identifier) == []
    assert receiver.received == [(uid, EXPLICIT, archive.ingest.stored[uid].dataset) for uid in wanted]
    assert archive.deliveries.begun == [("DEST", "WS1", 7, wanted)]
    assert archive.deliveries.finished == [(1, 0, "")]
    assert archive.retrievals.opened[0].closed


def test_sub_operations_name_the_move_they_belong_to(moving: StartMove, receiver: Receiver) -> None:
    archive = moving()
    fill(archive, 1)
    with associated(archive.port, MOVE, calling="VIEWER") as assoc:
        Move(assoc, "DEST", study_identifier(STUDY), message_id=4242).final()
    (request,) = receiver.requests
    assert request.MoveOriginatorApplicationEntityTitle.strip() == "VIEWER"
    assert request.MoveOriginatorMessageID == 4242


@pytest.mark.parametrize(
    ("asked", "given"), [(0, Priority.ROUTINE), (1, Priority.STAT), (2, Priority.PREFETCH)]
)
def test_the_requests_priority_is_that_of_its_recall(moving: StartMove, asked: int, given: Priority) -> None:
    archive = moving()
    fill(archive, 1)
    with associated(archive.port, MOVE) as assoc:
        list(assoc.send_c_move(study_identifier(STUDY), "DEST", STUDY_MOVE, priority=asked))
    assert archive.retrievals.asked == [("C-MOVE from WS1 to DEST", given)]


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_every_bundled_file_is_moved_byte_for_byte_in_its_own_syntax(
    moving: StartMove, receiver: Receiver
) -> None:
    files = [part10_parts(path) for path in FILES]
    headers = [read_header(dataset, syntax) for syntax, dataset in files]
    kinds: dict[str, list[str]] = {}
    for header, (syntax, _) in zip(headers, files, strict=True):
        kinds.setdefault(header.sop_class_uid, []).append(syntax)
    archive = moving([(sop_class, sorted(set(syntaxes))) for sop_class, syntaxes in kinds.items()])
    for syntax, dataset in files:
        each = stored(dataset, syntax)
        archive.ingest.stored[each.header.sop_instance_uid] = each
    with associated(archive.port, MOVE) as assoc:
        status, _ = Move(assoc, "DEST", study_identifier("")).final(60)
    assert status.Status == 0x0000
    got = {uid: (syntax, dataset) for uid, syntax, dataset in receiver.received}
    assert got == {uid: (each.transfer_syntax, each.dataset) for uid, each in archive.ingest.stored.items()}


def test_an_unknown_destination_is_refused_before_anything_is_searched(archive: Running) -> None:
    archive.archive.select_fails = AssertionError("searched")
    with associated(archive.port, MOVE) as assoc:
        status, _ = Move(assoc, "NOWHERE", study_identifier(STUDY)).final()
        assert status.Status == 0xA801
        assert "NOWHERE" in status.ErrorComment
        assert assoc.send_c_echo().Status == 0
    assert archive.deliveries.begun == []


def test_a_move_of_nothing_is_a_success_with_empty_counters(moving: StartMove, receiver: Receiver) -> None:
    archive = moving()
    with associated(archive.port, MOVE) as assoc:
        status, _ = Move(assoc, "DEST", study_identifier("1.2.404")).final()
    assert (status.Status, counts(status)) == (0x0000, (None, 0, 0, 0))
    assert (archive.deliveries.begun, receiver.associations) == ([], 0)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadInput("a study retrieve needs (0020,000D)"), 0xA900),
        (OperationalError("SELECT", {}, Exception("database is locked")), 0xA701),
        (Retryable("catalog is away"), 0xA701),
    ],
)
def test_what_cannot_be_selected_has_its_status(moving: StartMove, error: Exception, status: int) -> None:
    archive = moving()
    archive.archive.select_fails = error
    with associated(archive.port, MOVE) as assoc:
        answer, _ = Move(assoc, "DEST", study_identifier(STUDY)).final()
        assert answer.Status == status
        assert answer.ErrorComment
        assert assoc.send_c_echo().Status == 0


def test_a_retrieval_that_cannot_be_opened_ends_with_a_failure_and_is_delivered_later(
    moving: StartMove,
) -> None:
    archive = moving()
    wanted = fill(archive, 2)
    archive.retrievals.open_fails = Retryable("catalog is away")
    with associated(archive.port, MOVE) as assoc:
        status, identifier = Move(assoc, "DEST", study_identifier(STUDY)).final()
        assert status.Status == 0xA702
        assert failed_uids(identifier) == wanted
        assert assoc.send_c_echo().Status == 0
    assert archive.deliveries.handed_over == [(1, wanted)]


def test_a_destination_that_is_down_fails_everything_and_says_where_it_was_sought(
    start_server: StartServer,
) -> None:
    archive = start_server(aes=[{"ae_title": "DOWN", "host": "127.0.0.1", "port": 1}])
    wanted = fill(archive, 2)
    with associated(archive.port, MOVE) as assoc:
        status, identifier = Move(assoc, "DOWN", study_identifier(STUDY)).final()
    assert (status.Status, counts(status)) == (0xA702, (None, 0, 2, 0))
    assert "DOWN at 127.0.0.1:1" in status.ErrorComment
    assert failed_uids(identifier) == wanted
    ((key, failed, comment),) = archive.deliveries.finished
    assert (key, failed) == (1, 2)
    assert "127.0.0.1:1" in comment


def test_a_destination_that_rejects_us_fails_everything_with_its_reason(
    moving: StartMove, receiver: Receiver
) -> None:
    receiver.ae.require_called_aet = False
    receiver.ae.require_calling_aet = ["SOMEONE"]
    archive = moving()
    fill(archive, 1)
    with associated(archive.port, MOVE) as assoc:
        status, _ = Move(assoc, "DEST", study_identifier(STUDY)).final()
    assert status.Status == 0xA702
    assert archive.deliveries.finished[0][2].endswith("association rejected: Calling AE title not recognised")


def test_what_the_destination_refuses_is_listed_and_the_rest_counts(
    moving: StartMove, receiver: Receiver
) -> None:
    archive = moving()
    wanted = fill(archive, 4)
    answers = iter([0x0000, 0xA700, 0xB007, 0xC000])

    def before() -> None:
        receiver.status = next(answers)

    receiver.before = before
    with associated(archive.port, MOVE) as assoc:
        status, identifier = Move(assoc, "DEST", study_identifier(STUDY)).final()
    assert (status.Status, counts(status)) == (0xB000, (None, 1, 2, 1))
    assert failed_uids(identifier) == [wanted[1], wanted[3]]
    assert status.ErrorComment == "2 failed: peer answers A700"


def test_instances_that_no_copy_has_fail_at_once_with_their_reason(
    moving: StartMove, receiver: Receiver
) -> None:
    archive = moving()
    wanted = fill(archive, 2)
    archive.retrievals.lost = {wanted[0]: "no copy that can be read is left"}
    with associated(archive.port, MOVE) as assoc:
        status, identifier = Move(assoc, "DEST", study_identifier(STUDY)).final()
    assert (status.Status, counts(status)) == (0xB000, (None, 1, 1, 0))
    assert failed_uids(identifier) == [wanted[0]]
    assert status.ErrorComment == "1 failed: no copy that can be read is left"


def test_a_destination_that_hangs_up_is_called_again_and_nothing_is_lost(
    moving: StartMove, receiver: Receiver
) -> None:
    archive = moving()
    wanted = fill(archive, 3)
    aborted = threading.Event()

    def before() -> None:
        if len(receiver.received) == 1 and not aborted.is_set():
            aborted.set()
            for assoc in receiver.ae.active_associations:
                assoc.abort(block=False)

    receiver.before = before
    with associated(archive.port, MOVE) as assoc:
        status, _ = Move(assoc, "DEST", study_identifier(STUDY)).final()
    assert status.Status == 0x0000
    assert receiver.associations == 2
    assert set(wanted) == {uid for uid, _, _ in receiver.received}


def test_a_destination_that_never_answers_fails_the_instance_in_time(
    moving: StartMove, receiver: Receiver
) -> None:
    archive = moving(dimse_timeout_seconds=0.3)
    wanted = fill(archive, 1)
    go_on = threading.Event()
    receiver.before = lambda: go_on.wait(10) and None
    with associated(archive.port, MOVE) as assoc:
        status, identifier = Move(assoc, "DEST", study_identifier(STUDY)).final()
    go_on.set()
    assert status.Status == 0xA702
    assert "no answer within 0.3 s" in status.ErrorComment
    assert failed_uids(identifier) == wanted


# Transfer syntaxes


def test_a_destination_without_the_stored_syntax_gets_another_one(
    moving: StartMove, receiver: Receiver
) -> None:
    syntax, dataset = part10_parts(TEST_FILES / "SC_rgb_jpeg_gdcm.dcm")
    each = stored(dataset, syntax)
    assert syntax == JPEG_LOSSLESS
    archive = moving([(each.header.sop_class_uid, [IMPLICIT])])
    archive.ingest.stored[each.header.sop_instance_uid] = each
    with associated(archive.port, MOVE) as assoc:
        status, _ = Move(assoc, "DEST", study_identifier("")).final()
    assert status.Status == 0x0000
    ((_, sent_syntax, sent),) = receiver.received
    assert sent_syntax == IMPLICIT
    native = decoded(sent, IMPLICIT)
    assert np.frombuffer(native.PixelData, np.uint8).size == 100 * 100 * 3
    assert archive.ingest.stored[each.header.sop_instance_uid].dataset == dataset


def test_what_can_be_neither_sent_nor_converted_fails_with_its_reason(
    moving: StartMove, receiver: Receiver
) -> None:
    archive = moving()
    archive.ingest.stored["1.2.9"] = stored(small_dataset("1.2.9"), PRIVATE_SYNTAX)
    archive.ingest.stored["1.2.10"] = stored(small_dataset("1.2.10"))
    with associated(archive.port, MOVE) as assoc:
        status, identifier = Move(assoc, "DEST", study_identifier(STUDY)).final()
    assert (status.Status, failed_uids(identifier)) == (0xB000, ["1.2.9"])
    assert "peer accepts no" in status.ErrorComment
    assert [uid for uid, _, _ in receiver.received] == ["1.2.10"]


@pytest.fixture
def other_archive(start_server: StartServer) -> Running:
    """A destination that takes every class and syntax."""
    return start_server(check_called_ae=False)


def sends_to(start_server: StartServer, destination: Running) -> Running:
    return start_server(aes=[{"ae_title": "DEST", "host": "127.0.0.1", "port": destination.port}])


def test_a_private_class_in_a_private_syntax_is_sent_as_stored(
    start_server: StartServer, other_archive: Running
) -> None:
    archive = sends_to(start_server, other_archive)
    dataset = small_dataset("1.2.9", sop_class="1.3.46.670589.2.3.1.1")
    kept = stored(dataset)
    archive.ingest.stored["1.2.9"] = type(kept)(kept.header, PRIVATE_SYNTAX, dataset, "X")
    with associated(archive.port, MOVE) as assoc:
        assert Move(assoc, "DEST", study_identifier(STUDY)).final()[0].Status == 0
    arrived = other_archive.ingest.stored["1.2.9"]
    assert (arrived.transfer_syntax, arrived.dataset) == (PRIVATE_SYNTAX, dataset)
    assert arrived.source == "HSM"


def test_a_study_of_more_classes_than_one_association_can_name_goes_by_several(
    start_server: StartServer, other_archive: Running
) -> None:
    archive = sends_to(start_server, other_archive)
    for n in range(70):
        archive.ingest.stored[f"1.2.3.{n}"] = stored(small_dataset(f"1.2.3.{n}", sop_class=f"1.2.999.{n}"))
    open_at_once: list[int] = []
    other_archive.ingest.before = lambda header: open_at_once.append(other_archive.server.associations)
    with associated(archive.port, MOVE) as assoc:
        status, _ = Move(assoc, "DEST", study_identifier(STUDY)).final()
    assert (status.Status, counts(status)) == (0x0000, (None, 70, 0, 0))
    assert max(open_at_once) == 2
    assert set(other_archive.ingest.stored) == set(archive.ingest.stored)


def test_a_catalog_that_fails_at_the_end_of_a_move_leaves_no_association_open(
    moving: StartMove, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = moving()
    fill(archive, 2)

    def finish(*_: Any, **__: Any) -> None:
        raise OperationalError("COMMIT", {}, Exception("the server is restarting"))

    monkeypatch.setattr(archive.deliveries, "finish", finish)
    with associated(archive.port, MOVE) as assoc:
        status, _ = Move(assoc, "DEST", study_identifier(STUDY)).final()
        assert (status.Status, counts(status)[1]) == (0xC001, 2)
        assert len(receiver.received) == 2
        eventually(lambda: not receiver.ae.active_associations)
        assert assoc.send_c_echo().Status == 0


# Waiting


def test_what_is_readable_goes_first_and_the_rest_when_it_is_there(
    moving: StartMove, receiver: Receiver
) -> None:
    archive = moving()
    wanted = fill(archive, 4)
    archive.retrievals.held = {wanted[0], wanted[2]}
    with associated(archive.port, MOVE) as assoc:
        move = Move(assoc, "DEST", study_identifier(STUDY))
        archive.retrievals.until_waiting()
        assert [uid for uid, _, _ in receiver.received] == [wanted[1], wanted[3]]
        archive.retrievals.let_go()
        status, _ = move.final()
    assert (status.Status, counts(status)) == (0x0000, (None, 4, 0, 0))
    assert [uid for uid, _, _ in receiver.received] == [wanted[1], wanted[3], wanted[0], wanted[2]]


def test_nothing_is_asked_of_the_destination_before_the_first_instance_is_there(
    moving: StartMove, receiver: Receiver
) -> None:
    archive = moving()
    wanted = fill(archive, 1)
    archive.retrievals.held = set(wanted)
    with associated(archive.port, MOVE) as assoc:
        move = Move(assoc, "DEST", study_identifier(STUDY))
        archive.retrievals.until_waiting()
        assert receiver.associations == 0
        archive.retrievals.let_go()
        assert move.final()[0].Status == 0


def test_pending_comes_at_the_cadence_while_nothing_can_be_read(moving: StartMove) -> None:
    """On a clock that moves only while the retrieve waits: 24 s at one Pending every 5 s are four."""
    clock = ManualClock()
    archive = moving(clock=clock)
    wanted = fill(archive, 2)
    archive.retrievals.held = set(wanted)

    def pass_time(seconds: float) -> None:
        clock.advance(seconds)
        if clock.monotonic() >= 24:
            archive.retrievals.held = set()

    archive.retrievals.on_wait = pass_time
    with associated(archive.port, MOVE) as assoc:
        move = Move(assoc, "DEST", study_identifier(STUDY))
        assert move.final()[0].Status == 0
    waiting = [status for status, _ in move.responses if counts(status) == (2, 0, 0, 0)]
    assert len(waiting) == 4
    assert {status.Status for status in waiting} == {0xFF00}
    assert all(identifier is None for _, identifier in move.responses[:-1])


def test_progress_is_reported_with_counters_that_add_up(moving: StartMove) -> None:
    archive = moving()
    wanted = fill(archive, 5)
    archive.retrievals.held = set(wanted[1:])
    with associated(archive.port, MOVE) as assoc:
        move = Move(assoc, "DEST", study_identifier(STUDY))
        move.until_responses(1)
        archive.retrievals.let_go()
        move.final()
    assert counts(move.responses[0][0]) == (4, 1, 0, 0)
    for status, _ in move.responses[:-1]:
        assert sum(n or 0 for n in counts(status)) == 5


def test_the_hard_limit_ends_the_wait_truthfully_and_hands_the_rest_over(
    moving: StartMove, receiver: Receiver
) -> None:
    clock = ManualClock()
    archive = moving(clock=clock, retrieve={"pending_seconds": 5, "hold_seconds_max": 30})
    wanted = fill(archive, 3)
    archive.retrievals.held = set(wanted[1:])
    archive.retrievals.on_wait = clock.advance
    with associated(archive.port, MOVE) as assoc:
        status, identifier = Move(assoc, "DEST", study_identifier(STUDY)).final()
    assert 30 <= clock.monotonic() < 36
    assert (status.Status, counts(status)) == (0xB000, (None, 1, 2, 0))
    assert failed_uids(identifier) == wanted[1:]
    assert status.ErrorComment == "cartridge HSM003L8 is on shelf B3; 2 delivered later"
    assert archive.deliveries.handed_over == [(1, wanted[1:])]
    assert archive.retrievals.opened[0].closed


def test_the_hard_limit_without_later_delivery_says_what_was_waited_for(moving: StartMove) -> None:
    clock = ManualClock()
    archive = moving(
        clock=clock, deliver_later=False, retrieve={"pending_seconds": 5, "hold_seconds_max": 30}
    )
    wanted = fill(archive, 1)
    archive.retrievals.held = set(wanted)
    archive.retrievals.on_wait = clock.advance
    with associated(archive.port, MOVE) as assoc:
        status, _ = Move(assoc, "DEST", study_identifier(STUDY)).final()
    assert status.Status == 0xA702
    assert status.ErrorComment == "cartridge HSM003L8 is on shelf B3; 1 not sent in time"
    assert archive.deliveries.begun == archive.deliveries.handed_over == []


def test_a_retrieve_that_finds_no_place_to_wait_ends_at_once_and_is_delivered_later(
    moving: StartMove, receiver: Receiver
) -> None:
    archive = moving(retrieve={"pending_seconds": 0.1, "hold_seconds_max": 30, "held_max": 1})
    wanted = fill(archive, 2)
    archive.retrievals.held = set(wanted[1:])
    with associated(archive.port, MOVE) as first, associated(archive.port, MOVE) as second:
        waits = Move(first, "DEST", study_identifier(STUDY))
        waits.until_responses(2)
        status, identifier = Move(second, "DEST", study_identifier(STUDY)).final()
        assert (status.Status, failed_uids(identifier)) == (0xB000, wanted[1:])
        assert status.ErrorComment == "cartridge HSM003L8 is on shelf B3; 1 delivered later"
        archive.retrievals.let_go()
        assert waits.final()[0].Status == 0, "who waited already is not sent away"
        archive.retrievals.held = set(wanted[1:])
        third = Move(second, "DEST", study_identifier(STUDY))
        third.until_responses(2)
        archive.retrievals.let_go()
        assert third.final()[0].Status == 0, "its place is free again"


def test_one_that_finds_no_place_and_is_not_delivered_later_is_told_to_ask_again(moving: StartMove) -> None:
    archive = moving(
        deliver_later=False, retrieve={"pending_seconds": 0.1, "hold_seconds_max": 30, "held_max": 1}
    )
    archive.retrievals.held = set(fill(archive, 1))
    with associated(archive.port, MOVE) as first, associated(archive.port, MOVE) as second:
        waits = Move(first, "DEST", study_identifier(STUDY))
        waits.until_responses(1)
        status, _ = Move(second, "DEST", study_identifier(STUDY)).final()
        assert status.Status == 0xA702
        assert status.ErrorComment == "as many retrieves as may wait do; 1 recalled, ask again"
        archive.retrievals.let_go()


def test_half_of_all_associations_may_wait_where_nothing_else_is_said() -> None:
    assert places(quick_config(max_associations=50)) == 25
    assert places(quick_config(max_associations=1)) == 1
    assert places(quick_config(max_associations=50, receivers=4)) == 7
    assert places(quick_config(retrieve={"held_max": 3}, receivers=2)) == 2


def test_a_destination_is_not_held_while_a_cartridge_is_fetched(
    moving: StartMove, receiver: Receiver
) -> None:
    clock = ManualClock()
    archive = moving(clock=clock)
    wanted = fill(archive, 2)
    archive.retrievals.held = {wanted[1]}

    def pass_time(seconds: float) -> None:
        clock.advance(1.0)
        if clock.monotonic() >= 20:
            archive.retrievals.held = set()

    archive.retrievals.on_wait = pass_time
    with associated(archive.port, MOVE) as assoc:
        assert Move(assoc, "DEST", study_identifier(STUDY)).final()[0].Status == 0
    assert receiver.associations == 2


def test_a_caller_that_waited_longer_than_the_network_timeout_is_not_cut_off(moving: StartMove) -> None:
    archive = moving(network_timeout_seconds=0.5)
    wanted = fill(archive, 1)
    archive.retrievals.held = set(wanted)
    with associated(archive.port, MOVE) as assoc:
        move = Move(assoc, "DEST", study_identifier(STUDY))
        threading.Event().wait(0.8)
        archive.retrievals.let_go()
        assert move.final()[0].Status == 0
        assert assoc.send_c_echo().Status == 0


# Cancel, and callers that go away


def test_a_cancel_while_waiting_ends_the_move_at_once(moving: StartMove) -> None:
    archive = moving()
    wanted = fill(archive, 4)
    archive.retrievals.held = set(wanted[1:])
    archive.retrievals.lost = {wanted[3]: "no copy"}
    with associated(archive.port, MOVE) as assoc:
        move = Move(assoc, "DEST", study_identifier(STUDY))
        archive.retrievals.until_waiting()
        move.cancel()
        status, identifier = move.final(5)
        assert (status.Status, counts(status)) == (0xFE00, (2, 1, 1, 0))
        assert failed_uids(identifier) == [wanted[3]]
        assert assoc.send_c_echo().Status == 0
    assert archive.deliveries.cancelled == [1]
    assert archive.retrievals.opened[0].closed


def test_a_cancel_right_behind_its_request_is_not_lost(
    moving: StartMove, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = moving()
    archive.retrievals.held = set(fill(archive, 2))
    with associated(archive.port, MOVE) as assoc:
        send = assoc.dimse.send_msg

        def send_and_cancel(message: Any, context_id: int) -> None:
            send(message, context_id)
            cancel = C_CANCEL()
            cancel.MessageIDBeingRespondedTo = message.MessageID
            send(cancel, context_id)

        monkeypatch.setattr(assoc.dimse, "send_msg", send_and_cancel)
        for _ in range(3):
            assert Move(assoc, "DEST", study_identifier(STUDY)).final(5)[0].Status == 0xFE00


def test_a_cancel_that_comes_too_late_does_not_end_the_next_request_of_its_number(moving: StartMove) -> None:
    archive = moving()
    fill(archive, 2)
    with associated(archive.port, MOVE) as assoc:
        for _ in range(3):
            move = Move(assoc, "DEST", study_identifier(STUDY))
            assert move.final(5)[0].Status == 0x0000
            move.cancel()


def test_cancels_of_nothing_do_not_crowd_out_one_that_is_meant(moving: StartMove) -> None:
    archive = moving()
    archive.retrievals.held = set(fill(archive, 2))
    with associated(archive.port, MOVE) as assoc:
        move = Move(assoc, "DEST", study_identifier(STUDY))
        archive.retrievals.until_waiting()
        for move.message_id in [*range(100, 120), 7]:
            move.cancel()
        assert move.final(5)[0].Status == 0xFE00


def test_a_cancel_between_sub_operations_keeps_the_rest_from_being_sent(
    moving: StartMove, receiver: Receiver
) -> None:
    archive = moving()
    fill(archive, 10)
    with associated(archive.port, MOVE) as assoc:
        moves: list[Move] = []
        started = threading.Event()

        def before() -> None:
            if len(receiver.received) == 2:
                assert started.wait(10)
                moves[0].cancel()
                eventually(lambda: server_side(archive).dimse.cancel_req)

        receiver.before = before
        moves.append(Move(assoc, "DEST", study_identifier(STUDY)))
        started.set()
        status, _ = moves[0].final()
    assert (status.Status, counts(status)) == (0xFE00, (7, 3, 0, 0))
    assert len(receiver.received) == 3


def server_side(archive: Running) -> Any:
    (assoc,) = archive.server._server.active_associations  # type: ignore[union-attr]
    return assoc


def test_a_cancel_of_another_message_changes_nothing(moving: StartMove) -> None:
    archive = moving()
    wanted = fill(archive, 1)
    archive.retrievals.held = set(wanted)
    with associated(archive.port, MOVE) as assoc:
        move = Move(assoc, "DEST", study_identifier(STUDY))
        archive.retrievals.until_waiting()
        move.message_id = 99
        move.cancel()
        eventually(lambda: 99 in server_side(archive).dimse.cancel_req)
        archive.retrievals.until_waiting()
        archive.retrievals.let_go()
        assert move.final()[0].Status == 0


def wake(assoc: Any) -> None:
    """Let our own waiting call end now instead of after its DIMSE time-out."""
    assoc.dimse.msg_queue.put((None, None))


def abort(assoc: Any) -> None:
    assoc.abort()
    wake(assoc)


def lose_connection(assoc: Any) -> None:
    assoc.dul.socket.socket.shutdown(2)


@pytest.mark.parametrize("leave", [abort, lose_connection])
def test_a_move_whose_caller_goes_away_is_handed_over(
    moving: StartMove, leave: Callable[[Any], None]
) -> None:
    archive = moving()
    wanted = fill(archive, 3)
    archive.retrievals.held = set(wanted[1:])
    with associated(archive.port, MOVE) as assoc:
        Move(assoc, "DEST", study_identifier(STUDY))
        archive.retrievals.until_waiting()
        leave(assoc)
        assert archive.deliveries.settled.wait(5)
    assert archive.deliveries.handed_over == [(1, wanted[1:])]
    assert archive.deliveries.finished == archive.deliveries.cancelled == []
    eventually(lambda: archive.retrievals.opened[0].closed)
    eventually(lambda: archive.server.associations == 0)


def test_a_caller_that_releases_while_it_waits_has_gone_too(moving: StartMove) -> None:
    archive = moving()
    wanted = fill(archive, 1)
    archive.retrievals.held = set(wanted)
    with associated(archive.port, MOVE, timeout=1.0) as assoc:
        Move(assoc, "DEST", study_identifier(STUDY))
        archive.retrievals.until_waiting()
        assoc.release()
        wake(assoc)
        assert archive.deliveries.settled.wait(5)
    assert archive.deliveries.handed_over == [(1, wanted)]


def test_a_move_whose_caller_goes_away_ends_where_nothing_is_delivered_later(moving: StartMove) -> None:
    archive = moving(deliver_later=False)
    wanted = fill(archive, 1)
    archive.retrievals.held = set(wanted)
    with associated(archive.port, MOVE) as assoc:
        Move(assoc, "DEST", study_identifier(STUDY))
        archive.retrievals.until_waiting()
        abort(assoc)
        eventually(lambda: archive.retrievals.opened[0].closed)
    assert archive.deliveries == type(archive.deliveries)(settled=archive.deliveries.settled)


# C-GET


class Got:
    """A C-GET caller's storage side."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str, bytes]] = []
        self.status = 0

    def store(self, event: Any) -> int:
        self.received.append(
            (
                str(event.request.AffectedSOPInstanceUID),
                str(event.context.transfer_syntax),
                event.request.DataSet.getvalue(),
            )
        )
        return self.status


@pytest.fixture
def got() -> Iterator[Got]:
    yield Got()


def getting(archive: Running, got: Got, contexts: list[tuple[str, list[str]]], roles: list[str]) -> Any:
    return associated(
        archive.port,
        [(STUDY_GET, [IMPLICIT]), *contexts],
        scp_roles=roles,
        handlers=[(evt.EVT_C_STORE, got.store)],
    )


def test_a_get_sends_every_instance_on_the_same_association(archive: Running, got: Got) -> None:
    wanted = fill(archive, 3)
    with getting(archive, got, [(CT, [EXPLICIT])], [CT]) as assoc:
        *_, (status, _) = assoc.send_c_get(study_identifier(STUDY), STUDY_GET)
    assert (status.Status, counts(status)) == (0x0000, (None, 3, 0, 0))
    assert got.received == [(uid, EXPLICIT, archive.ingest.stored[uid].dataset) for uid in wanted]
    assert archive.deliveries.begun == []
    assert archive.retrievals.asked[0][0] == "C-GET from WS1"


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_every_bundled_file_is_got_byte_for_byte_in_its_own_syntax(archive: Running, got: Got) -> None:
    for path in FILES:
        syntax, dataset = part10_parts(path)
        each = stored(dataset, syntax)
        archive.ingest.stored[each.header.sop_instance_uid] = each
    held = dict(archive.ingest.stored)
    kinds = kinds_of(FILES)
    with getting(archive, got, kinds, sorted({sop_class for sop_class, _ in kinds})) as assoc:
        *_, (status, _) = assoc.send_c_get(study_identifier(""), STUDY_GET)
    assert status.Status == 0
    assert {uid: (ts, data) for uid, ts, data in got.received} == {
        uid: (each.transfer_syntax, each.dataset) for uid, each in held.items()
    }


def test_a_caller_that_did_not_take_the_scp_role_gets_nothing(archive: Running, got: Got) -> None:
    wanted = fill(archive, 1)
    with getting(archive, got, [(CT, [EXPLICIT])], []) as assoc:
        *_, (status, identifier) = assoc.send_c_get(study_identifier(STUDY), STUDY_GET)
    assert (status.Status, failed_uids(identifier)) == (0xA702, wanted)
    assert "peer accepts no" in status.ErrorComment


def test_a_get_in_another_syntax_is_converted(archive: Running, got: Got) -> None:
    fill(archive, 1)
    with getting(archive, got, [(CT, [IMPLICIT])], [CT]) as assoc:
        *_, (status, _) = assoc.send_c_get(study_identifier(STUDY), STUDY_GET)
    assert status.Status == 0
    ((_, syntax, dataset),) = got.received
    assert syntax == IMPLICIT
    assert decoded(dataset, IMPLICIT).PatientID == "4711"


def test_what_a_get_caller_refuses_is_listed(archive: Running, got: Got) -> None:
    wanted = fill(archive, 2)
    got.status = 0xA700
    with getting(archive, got, [(CT, [EXPLICIT])], [CT]) as assoc:
        *_, (status, identifier) = assoc.send_c_get(study_identifier(STUDY), STUDY_GET)
    assert (status.Status, failed_uids(identifier)) == (0xA702, wanted)


def test_a_get_waits_and_says_pending_too(start_server: StartServer, got: Got) -> None:
    archive = start_server(retrieve={"pending_seconds": 0.1, "hold_seconds_max": 30})
    wanted = fill(archive, 2)
    archive.retrievals.held = set(wanted)
    responses: list[Any] = []
    with getting(archive, got, [(CT, [EXPLICIT])], [CT]) as assoc:
        for status, _ in assoc.send_c_get(study_identifier(STUDY), STUDY_GET):
            responses.append(status)
            if len(responses) == 3:
                archive.retrievals.let_go()
    assert [counts(each) for each in responses[:3]] == [(2, 0, 0, 0)] * 3
    assert responses[-1].Status == 0
    assert [uid for uid, _, _ in got.received] == wanted


def test_a_get_is_cancelled_while_it_waits(start_server: StartServer, got: Got) -> None:
    archive = start_server(retrieve={"pending_seconds": 0.1, "hold_seconds_max": 30})
    archive.retrievals.held = set(fill(archive, 2))
    responses: list[Any] = []
    with getting(archive, got, [(CT, [EXPLICIT])], [CT]) as assoc:
        for status, _ in assoc.send_c_get(study_identifier(STUDY), STUDY_GET, msg_id=5):
            responses.append(status)
            if len(responses) == 1:
                assoc.send_c_cancel(5, query_model=STUDY_GET)
    assert (responses[-1].Status, counts(responses[-1])) == (0xFE00, (2, 0, 0, 0))


def test_a_get_whose_caller_goes_away_lets_go_of_its_retrieval(archive: Running, got: Got) -> None:
    archive.retrievals.held = set(fill(archive, 1))
    with getting(archive, got, [(CT, [EXPLICIT])], [CT]) as assoc:
        thread = threading.Thread(target=lambda: list(assoc.send_c_get(study_identifier(STUDY), STUDY_GET)))
        thread.start()
        archive.retrievals.until_waiting()
        abort(assoc)
        thread.join(10)
        eventually(lambda: archive.retrievals.opened[0].closed, 3)
    assert archive.deliveries.begun == archive.deliveries.handed_over == []


def test_a_get_caller_that_goes_away_in_mid_sending_disturbs_nobody(archive: Running, got: Got) -> None:
    fill(archive, 20)

    def leave(event: Any) -> int:
        abort(event.assoc)
        return 0

    with associated(
        archive.port,
        [(STUDY_GET, [IMPLICIT]), (CT, [EXPLICIT])],
        scp_roles=[CT],
        handlers=[(evt.EVT_C_STORE, leave)],
    ) as assoc:
        list(assoc.send_c_get(study_identifier(STUDY), STUDY_GET))
        eventually(lambda: archive.retrievals.opened[0].closed, 3)
    with associated(archive.port, MOVE) as other:
        assert other.send_c_echo().Status == 0
