"""The listener: who gets in, rights, limits, reload and stop."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from wire_fakes import CT, EXPLICIT, IMPLICIT, quick_config, small_dataset, stored
from wire_peers import (
    STUDY_FIND,
    STUDY_GET,
    STUDY_MOVE,
    VERIFICATION,
    Move,
    Raw,
    associate_rq,
    associated,
    failed_uids,
    send_raw,
    study_identifier,
)
from wire_world import Receiver, Running, StartServer, eventually

REJECT = 3
ALL = [(uid, [IMPLICIT]) for uid in (VERIFICATION, STUDY_FIND, STUDY_MOVE, STUDY_GET)] + [(CT, [EXPLICIT])]


def rejection(port: int, **request: bytes) -> tuple[int, ...]:
    """Result, source and reason of the A-ASSOCIATE-RJ that a request leads to."""
    with Raw(port) as peer:
        peer.send(associate_rq(**request))  # type: ignore[arg-type]
        kind, body = peer.read_pdu()
    assert kind == REJECT, kind
    return tuple(body[1:4])


def test_verification_is_answered(archive: Running) -> None:
    with associated(archive.port, [(VERIFICATION, [IMPLICIT])]) as assoc:
        assert assoc.send_c_echo().Status == 0


def test_the_implementation_is_named_in_the_answer(archive: Running) -> None:
    with associated(archive.port, [(VERIFICATION, [IMPLICIT])]) as assoc:
        assert assoc.acceptor.implementation_version_name == "HSM"


def test_another_called_title_is_rejected_unless_that_is_not_checked(start_server: StartServer) -> None:
    assert rejection(start_server().port, called=b"PACS") == (1, 1, 7)
    with associated(start_server(check_called_ae=False).port, ALL, called="PACS") as assoc:
        assert assoc.is_established


def test_an_ae_without_any_right_is_rejected(start_server: StartServer) -> None:
    archive = start_server(unknown_aes=[], aes=[{"ae_title": "WS1", "host": "127.0.0.1", "port": 104}])
    assert rejection(archive.port, calling=b"STRANGER") == (1, 1, 3)
    with associated(archive.port, ALL) as assoc:
        assert assoc.is_established


def test_an_operation_without_its_right_is_refused_and_the_association_goes_on(
    start_server: StartServer,
) -> None:
    archive = start_server(unknown_aes=["echo"])
    dataset = small_dataset("1.2.9")
    with associated(archive.port, ALL) as assoc:
        assert send_raw(assoc, CT, "1.2.9", dataset, EXPLICIT).Status == 0x0124
        identifier = study_identifier("1.2.3")
        assert [status.Status for status, _ in assoc.send_c_find(identifier, STUDY_FIND)] == [0x0124]
        assert [status.Status for status, _ in assoc.send_c_move(identifier, "WS1", STUDY_MOVE)] == [0x0124]
        assert [status.Status for status, _ in assoc.send_c_get(identifier, STUDY_GET)] == [0x0124]
        assert assoc.send_c_echo().Status == 0
    assert archive.ingest.stored == {}


def test_echo_needs_its_right_too(start_server: StartServer) -> None:
    with associated(start_server(unknown_aes=["store"]).port, ALL) as assoc:
        assert assoc.send_c_echo().Status == 0x0124


def test_one_association_more_than_allowed_is_rejected_for_now(start_server: StartServer) -> None:
    archive = start_server(max_associations=2)
    with associated(archive.port, ALL), associated(archive.port, ALL):
        assert rejection(archive.port) == (2, 3, 2)
        assert archive.server.associations == 2
    eventually(lambda: archive.server.associations == 0)
    with associated(archive.port, ALL) as assoc:
        assert assoc.is_established


@pytest.mark.campaign
def test_two_hundred_associations_stand_and_the_next_is_rejected(start_server: StartServer) -> None:
    archive = start_server(max_associations=200, acse_timeout_seconds=30.0)
    peers = [Raw(archive.port, timeout=60) for _ in range(200)]
    try:
        for peer in peers:
            peer.send(associate_rq())
        assert {peer.read_pdu()[0] for peer in peers} == {2}
        assert rejection(archive.port) == (2, 3, 2)
    finally:
        for peer in peers:
            peer.sock.close()
    eventually(lambda: archive.server.associations == 0, 60)


def test_half_open_connections_do_not_count_as_associations(start_server: StartServer) -> None:
    archive = start_server(max_associations=2)
    with Raw(archive.port), Raw(archive.port), Raw(archive.port):
        with associated(archive.port, ALL) as assoc:
            assert assoc.is_established


def test_a_reload_changes_rights_destinations_and_limits_for_new_associations(
    start_server: StartServer,
) -> None:
    archive = start_server()
    with associated(archive.port, ALL) as assoc:
        archive.server.reload(quick_config(unknown_aes=[], max_associations=1))
        assert assoc.is_established
    eventually(lambda: archive.server.associations == 0)
    assert rejection(archive.port, calling=b"WS1") == (1, 1, 3)
    archive.server.reload(quick_config())
    with associated(archive.port, ALL) as assoc:
        assert assoc.send_c_echo().Status == 0


def test_a_port_that_is_taken_is_an_error_at_start(start_server: StartServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            start_server(port=taken.getsockname()[1])


def test_a_stop_aborts_who_is_idle_and_lets_a_store_finish(archive: Running) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hold(header: object) -> None:
        entered.set()
        assert go_on.wait(10)

    archive.ingest.before = hold
    answers: list[int] = []

    def store() -> None:
        with associated(archive.port, [(CT, [EXPLICIT])]) as assoc:
            answers.append(send_raw(assoc, CT, "1.2.9", small_dataset("1.2.9"), EXPLICIT).Status)

    with associated(archive.port, ALL) as idle:
        thread = threading.Thread(target=store)
        thread.start()
        assert entered.wait(10)
        stop = threading.Thread(target=archive.server.stop, args=(10.0,))
        stop.start()
        eventually(lambda: idle.is_aborted)
        with pytest.raises(ConnectionError):
            Raw(archive.port)
        go_on.set()
        thread.join(10)
        stop.join(10)
    assert answers == [0]


def test_a_stop_cuts_who_is_busy_when_the_grace_is_over(archive: Running) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hold(header: object) -> None:
        entered.set()
        assert go_on.wait(10)

    archive.ingest.before = hold
    answers: list[object] = []

    def store() -> None:
        with associated(archive.port, [(CT, [EXPLICIT])]) as assoc:
            answers.append(send_raw(assoc, CT, "1.2.9", small_dataset("1.2.9"), EXPLICIT))

    thread = threading.Thread(target=store)
    thread.start()
    assert entered.wait(10)
    started = time.monotonic()
    archive.server.stop(0.2)
    assert time.monotonic() - started < 3
    go_on.set()
    thread.join(10)
    assert answers == [None]


def test_a_stop_does_not_wait_for_connections_that_say_nothing(archive: Running) -> None:
    with Raw(archive.port) as silent:
        eventually(lambda: archive.server._server.active_associations)  # type: ignore[union-attr]
        started = time.monotonic()
        archive.server.stop(30.0)
        assert time.monotonic() - started < 3
        assert silent.until_closed() == []


def test_a_stop_hands_back_what_waits_for_a_cartridge_and_says_so(
    start_server: StartServer, receiver: Receiver
) -> None:
    port = receiver.start([(CT, [EXPLICIT])])
    archive = start_server(aes=[{"ae_title": "DEST", "host": "127.0.0.1", "port": port}])
    archive.ingest.stored["1.2.9"] = stored(small_dataset("1.2.9"))
    archive.retrievals.held = {"1.2.9"}
    with associated(archive.port, ALL) as assoc:
        move = Move(assoc, "DEST", study_identifier("1.2.3"))
        archive.retrievals.until_waiting()
        archive.server.stop(5.0)
        status, identifier = move.final()
    assert status.Status == 0xA702
    assert failed_uids(identifier) == ["1.2.9"]
    assert archive.deliveries.handed_over == [(1, ["1.2.9"])]


def test_find_responses_come_one_by_one_and_end_with_success(archive: Running) -> None:
    for number in range(5):
        archive.ingest.stored[f"1.2.{number}"] = stored(small_dataset(f"1.2.{number}", study=f"1.9.{number}"))
    with associated(archive.port, ALL) as assoc:
        responses = list(assoc.send_c_find(study_identifier(""), STUDY_FIND))
    assert [status.Status for status, _ in responses] == [0xFF00] * 5 + [0x0000]
    assert [found.StudyInstanceUID for _, found in responses[:-1] if found] == [f"1.9.{n}" for n in range(5)]


def test_a_find_that_fails_is_answered_and_the_association_goes_on(
    archive: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.ingest.stored["1.2.9"] = None  # type: ignore[assignment]
    with associated(archive.port, ALL) as assoc:
        (status, _), *rest = assoc.send_c_find(study_identifier(""), STUDY_FIND)
        assert (status.Status, rest) == (0xC001, [])
        assert assoc.send_c_echo().Status == 0
