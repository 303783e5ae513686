"""Peers that break the rules: each loses its own association, nobody else notices, no thread stays.

The ``start_server`` fixture fails a test after which a thread of the server is left.
"""

from __future__ import annotations

import contextlib
import gc
import random
import struct
import threading
import time
import tracemalloc

import pytest
from wire_fakes import CT, EXPLICIT, IMPLICIT, small_dataset
from wire_peers import (
    ECHO,
    STUDY_FIND,
    STUDY_MOVE,
    VERIFICATION,
    Raw,
    associate_rq,
    associated,
    command,
    item,
    pdata,
    pdu,
    send_raw,
    store_command,
    ui,
    us,
)
from wire_world import Running, StartServer, eventually

ACCEPT, REJECT, ABORT, RELEASED, P_DATA = 2, 3, 7, 6, 4


def echo_works(port: int) -> bool:
    with associated(port, [(VERIFICATION, [IMPLICIT])]) as assoc:
        return bool(assoc.is_established and assoc.send_c_echo().get("Status") == 0)


def alone(archive: Running) -> bool:
    """Whether the server has let go of everyone."""
    return not archive.server._server.active_associations  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: archive\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,  # TLS
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\0" * 4096,
        b"\xff" * 4096,
        b"\n",
    ],
)
def test_garbage_is_hung_up_on_at_once(archive: Running, garbage: bytes) -> None:
    started = time.monotonic()
    with Raw(archive.port) as peer:
        peer.send(garbage)
        if len(garbage) < 6:
            peer.sock.shutdown(1)
        assert set(peer.until_closed()) <= {ABORT}
    eventually(lambda: alone(archive))
    assert time.monotonic() - started < 3, "its thread waited for the ACSE timeout"
    assert echo_works(archive.port)


def test_random_bytes_and_random_pdus_never_stop_the_server(archive: Running) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    good = associate_rq([(CT, [EXPLICIT]), (VERIFICATION, [IMPLICIT])])
    for _ in range(60):
        with Raw(archive.port, timeout=3) as peer:
            kind = dice.randrange(4)
            if kind == 0:
                peer.send_until_refused(dice.randbytes(dice.randrange(1, 400)))
            elif kind == 1:
                peer.send_until_refused(pdu(dice.randrange(1, 9), dice.randbytes(dice.randrange(200))))
            else:
                broken = bytearray(good)
                for _ in range(dice.randrange(1, 12)):
                    broken[dice.randrange(6, len(broken))] = dice.randrange(256)
                peer.send_until_refused(bytes(broken if kind == 2 else good))
                for _ in range(dice.randrange(3)):
                    peer.send_until_refused(pdata(1, dice.randrange(4), dice.randbytes(dice.randrange(60))))
                    peer.send_until_refused(pdu(dice.randrange(8), dice.randbytes(dice.randrange(40))))
    assert echo_works(archive.port)
    eventually(lambda: alone(archive), 15)


@pytest.mark.parametrize("cut", [1, 5, 6, 40, 120])
def test_an_association_request_that_stops_midway_is_given_up_after_the_acse_timeout(
    start_server: StartServer, cut: int
) -> None:
    archive = start_server(acse_timeout_seconds=0.4)
    with Raw(archive.port) as peer:
        peer.send(associate_rq()[:cut])
        started = time.monotonic()
        assert set(peer.until_closed()) <= {ABORT}
        assert 0.1 < time.monotonic() - started < 4
    eventually(lambda: alone(archive))


def test_a_silent_connection_is_closed_after_the_acse_timeout(start_server: StartServer) -> None:
    archive = start_server(acse_timeout_seconds=0.4)
    with Raw(archive.port) as peer:
        assert peer.until_closed() == []
    eventually(lambda: alone(archive))


def test_a_peer_that_drips_bytes_has_no_more_time_than_others(start_server: StartServer) -> None:
    archive = start_server(acse_timeout_seconds=0.4)
    whole = associate_rq()
    with Raw(archive.port) as peer:
        started = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in whole:
                peer.send(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - started < 3
        assert ACCEPT not in peer.until_closed()
    eventually(lambda: alone(archive))


def test_connections_that_vanish_before_a_request_leave_nothing(archive: Running) -> None:
    for _ in range(20):
        Raw(archive.port).sock.close()
    eventually(lambda: alone(archive), 3)
    assert echo_works(archive.port)


@pytest.mark.parametrize(
    "request_pdu",
    [
        pdu(0x01, b""),
        pdu(0x01, b"\0" * 10),
        associate_rq(called=b"\xff" * 16),
        associate_rq(calling=b"\0" * 16),
        associate_rq([("1." + "2" * 300, [IMPLICIT])]),
        associate_rq([(VERIFICATION, ["9" * 900])]),
        associate_rq([(VERIFICATION, [])]),
        associate_rq([]),
        # items whose lengths go beyond the PDU
        pdu(0x01, associate_rq()[6:-4] + b"\xff\xff"),
        pdu(0x01, associate_rq()[6:] + item(0x20, b"\1\0\0\0") + struct.pack(">BBH", 0x20, 0, 60_000)),
        pdu(0x01, associate_rq()[6:] + struct.pack(">BBH", 0x50, 0, 65_535)),
    ],
)
def test_malformed_association_requests_are_answered_or_hung_up_on(
    archive: Running, request_pdu: bytes
) -> None:
    with Raw(archive.port) as peer:
        peer.send(request_pdu)
        peer.sock.shutdown(1)
        assert set(peer.until_closed()) <= {ACCEPT, REJECT, ABORT}
    eventually(lambda: alone(archive), 3)
    assert echo_works(archive.port)


def test_an_unknown_protocol_version_is_rejected(archive: Running) -> None:
    with Raw(archive.port) as peer:
        peer.send(associate_rq(version=2))
        kind, body = peer.read_pdu()
    assert (kind, body[1:4]) == (REJECT, b"\x01\x02\x02")


def test_an_announced_length_of_gigabytes_is_not_waited_for(archive: Running) -> None:
    with Raw(archive.port) as peer:
        peer.send(struct.pack(">BBL", 1, 0, 0xFFFFFFFF) + b"\0" * 100)
        assert set(peer.until_closed()) <= {ABORT}
    eventually(lambda: alone(archive), 3)


def test_data_before_an_association_is_answered_with_an_abort(archive: Running) -> None:
    with Raw(archive.port) as peer:
        peer.send(pdata(1, 3, ECHO))
        assert set(peer.until_closed()) <= {ABORT}
    eventually(lambda: alone(archive), 3)


def accepted(peer: Raw, *contexts: tuple[str, list[str]]) -> None:
    peer.send(associate_rq(contexts or ((VERIFICATION, [IMPLICIT]),)))
    assert peer.read_pdu()[0] == ACCEPT


def test_a_well_behaved_raw_peer_is_served(archive: Running) -> None:
    """The yardstick for this file: what is sent here by hand is right."""
    with Raw(archive.port) as peer:
        accepted(peer)
        peer.send(pdata(1, 3, ECHO))
        assert peer.read_pdu()[0] == P_DATA
        peer.send(pdu(0x05, b"\0\0\0\0"))
        assert peer.until_closed() == [RELEASED]


def test_a_pdu_beyond_every_announcement_is_refused(archive: Running) -> None:
    with Raw(archive.port) as peer:
        accepted(peer)
        peer.send_until_refused(struct.pack(">BBL", 4, 0, 64 * 2**20) + b"\0" * 1000)
        assert set(peer.until_closed()) <= {ABORT}
    eventually(lambda: alone(archive), 3)


@pytest.mark.parametrize(
    "message",
    [
        pdata(1, 3, b""),
        pdata(1, 3, b"\0" * 50),
        pdata(1, 3, b"\xff" * 50),
        pdata(1, 3, command({0x0100: us(0x7777), 0x0110: us(1), 0x0800: us(0x0101)})),
        pdata(1, 3, command({0x0110: us(1), 0x0800: us(0x0101)})),
        pdata(1, 3, command({0x0100: us(0x0030), 0x0110: us(1)})),
        pdata(99, 3, ECHO),
        pdu(0x04, b"\0\0\0\1\1"),
        pdu(0x04, b"\0\0\0\0"),
        pdu(0x04, struct.pack(">LBB", 10_000, 1, 3) + b"short"),
        pdu(0x02, b"\0" * 68),
        pdu(0x03, b"\0\1\1\1"),
        pdu(0x06, b"\0\0\0\0"),
        associate_rq(),
    ],
    ids=lambda message: message[:24].hex(),
)
def test_what_makes_no_sense_in_an_association_ends_it(archive: Running, message: bytes) -> None:
    with Raw(archive.port) as peer:
        accepted(peer)
        peer.send(message)
        assert peer.until_closed() in ([ABORT], [])
    eventually(lambda: alone(archive), 3)
    assert echo_works(archive.port)


def test_a_command_without_end_is_not_gathered_for_ever(archive: Running) -> None:
    with Raw(archive.port) as peer:
        accepted(peer)
        for _ in range(200):
            peer.send_until_refused(pdata(1, 1, b"\0" * 1000))
        assert set(peer.until_closed()) <= {ABORT}
    eventually(lambda: alone(archive), 3)


def test_a_request_without_its_mandatory_fields_is_answered_and_the_association_goes_on(
    archive: Running,
) -> None:
    with Raw(archive.port) as peer:
        accepted(peer, (CT, [EXPLICIT]), (VERIFICATION, [IMPLICIT]))
        nameless = command({0x0002: ui(CT), 0x0100: us(1), 0x0110: us(5), 0x0700: us(0), 0x0800: us(0x0101)})
        peer.send(pdata(1, 3, nameless))
        kind, body = peer.read_pdu()
        assert kind == P_DATA
        assert struct.pack("<HHL", 0, 0x0900, 2) + us(0x0212) in body
        peer.send(pdata(3, 3, ECHO))
        assert peer.read_pdu()[0] == P_DATA


def test_a_message_of_another_service_is_answered_not_recognised(archive: Running) -> None:
    with Raw(archive.port) as peer:
        accepted(peer, (CT, [EXPLICIT]), (STUDY_MOVE, [IMPLICIT]))
        for context_id in (1, 3):
            echo_elsewhere = command({0x0002: ui(CT), 0x0100: us(0x30), 0x0110: us(9), 0x0800: us(0x0101)})
            peer.send(pdata(context_id, 3, echo_elsewhere))
            kind, body = peer.read_pdu()
            assert kind == P_DATA
            assert struct.pack("<HHL", 0, 0x0900, 2) + us(0x0211) in body


def test_a_peer_that_aborts_in_mid_store_leaves_nothing_half_stored(archive: Running) -> None:
    dataset = small_dataset("1.2.9")
    with Raw(archive.port) as peer:
        accepted(peer, (CT, [EXPLICIT]))
        peer.send(pdata(1, 3, store_command(CT, "1.2.9")))
        peer.send(pdata(1, 0, dataset[:100]))
        peer.send(pdu(0x07, b"\0\0\0\0"))
        assert peer.until_closed() == []
    eventually(lambda: alone(archive), 3)
    assert archive.ingest.stored == {}


def test_a_connection_lost_in_mid_store_leaves_nothing_half_stored(archive: Running) -> None:
    dataset = small_dataset("1.2.9")
    with Raw(archive.port) as peer:
        accepted(peer, (CT, [EXPLICIT]))
        peer.send(pdata(1, 3, store_command(CT, "1.2.9")) + pdata(1, 2, dataset)[:-20])
    eventually(lambda: alone(archive), 3)
    assert archive.ingest.stored == {}


def test_a_pdu_that_stalls_is_given_up_after_the_network_timeout(start_server: StartServer) -> None:
    archive = start_server(network_timeout_seconds=0.5)
    with Raw(archive.port) as peer:
        accepted(peer, (CT, [EXPLICIT]))
        peer.send(pdata(1, 3, store_command(CT, "1.2.9"))[:30])
        started = time.monotonic()
        assert set(peer.until_closed()) <= {ABORT}
        assert time.monotonic() - started < 4
    eventually(lambda: alone(archive))


def test_an_idle_association_is_aborted_after_the_network_timeout(start_server: StartServer) -> None:
    archive = start_server(network_timeout_seconds=0.4)
    with Raw(archive.port) as peer:
        accepted(peer)
        assert peer.until_closed() == [ABORT]


def test_bad_peers_do_not_disturb_a_store_that_is_under_way(archive: Running) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hold(header: object) -> None:
        entered.set()
        assert go_on.wait(10)

    archive.ingest.before = hold
    dataset = small_dataset("1.2.77")
    answers: list[int] = []

    def store() -> None:
        with associated(archive.port, [(CT, [EXPLICIT])]) as assoc:
            answers.append(send_raw(assoc, CT, "1.2.77", dataset, EXPLICIT).Status)

    thread = threading.Thread(target=store)
    thread.start()
    assert entered.wait(10)
    for bad in (b"\0" * 100, associate_rq()[:50], pdu(4, b""), associate_rq() + pdu(4, b"\xff" * 9)):
        with Raw(archive.port) as peer:
            peer.send_until_refused(bad)
    go_on.set()
    thread.join(10)
    assert answers == [0]
    assert archive.ingest.stored["1.2.77"].dataset == dataset


def test_a_flood_of_half_open_connections_is_bounded_and_passes(start_server: StartServer) -> None:
    archive = start_server(max_associations=2, acse_timeout_seconds=5.0)
    flood = [Raw(archive.port) for _ in range(40)]
    eventually(lambda: len(archive.server._server.active_associations) >= 8)  # type: ignore[union-attr]
    assert len(archive.server._server.active_associations) <= 9  # type: ignore[union-attr]
    for peer in flood:
        peer.sock.close()
    eventually(lambda: alone(archive))
    assert echo_works(archive.port)


def test_associations_that_are_over_hold_nothing_that_their_peers_sent(archive: Running) -> None:
    """Before Python's collector comes by: between two of its rounds there is room for hundreds of them."""
    find = command({0x0002: ui(STUDY_FIND), 0x0100: us(0x0020), 0x0110: us(1), 0x0700: us(0), 0x0800: us(1)})
    store = store_command(CT, "1.2.3.4")
    half = bytes(2**20)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(4):
            with Raw(archive.port) as peer:
                peer.send(associate_rq([(CT, [EXPLICIT]), (STUDY_FIND, [IMPLICIT])]))
                assert peer.read_pdu()[0] == ACCEPT
                peer.send(pdata(1, 3, store) + pdata(1, 2, small_dataset("1.2.3.4")))
                assert peer.read_pdu()[0] == P_DATA
                peer.send(pdata(3, 3, find) + pdata(3, 0, half) + pdata(3, 0, half) + pdata(3, 0, half)[:-9])
        eventually(lambda: alone(archive))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert peak > len(half), "they held it"
    assert held < len(half), "nobody holds it any more"
