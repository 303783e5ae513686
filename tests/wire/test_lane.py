"""The receive lane and pynetdicom's own way are given the same bytes and must come to the same end."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from wire_fakes import CT, EXPLICIT, IMPLICIT, small_dataset
from wire_peers import ECHO, VERIFICATION, Raw, associate_rq, command, pdata, pdu, store_command, ui, us
from wire_tls import Authority
from wire_world import Running, StartServer, eventually

from hsm.dicom import server as server_module
from hsm.dicom.lane.lane import Lane

CORPUS = Path(__file__).parent / "corpus"
STORE_CONTEXT, ECHO_CONTEXT = 1, 3
LAST_DATA, DATA, LAST_COMMAND, COMMAND = 2, 0, 3, 1


def pdv(context_id: int, control: int, data: bytes) -> bytes:
    return struct.pack(">LBB", len(data) + 2, context_id, control) + data


@dataclass
class Store:
    """One C-STORE and how it is laid into PDVs and PDUs."""

    size: int
    pdu_bytes: int
    seed: int
    dense: bool
    """Several PDVs in a PDU, the command's among them."""
    with_echo: bool
    """A C-ECHO begins in the PDU in which the dataset ends."""
    trailing: int = 0
    """This many bytes are missing from the dataset's end."""

    def pdus(self, number: int) -> bytes:
        dice = random.Random(self.seed)
        uid = f"1.2.99.{number}"
        dataset = small_dataset(uid, pixels=self.size)
        dataset = dataset[: len(dataset) - self.trailing]
        set_ = store_command(CT, uid, number)
        pieces = self._cut(set_, STORE_CONTEXT, COMMAND, dice, whole=dice.random() < 0.6)
        pieces += self._cut(dataset, STORE_CONTEXT, DATA, dice, whole=False)
        if self.with_echo:
            pieces.append(pdv(ECHO_CONTEXT, LAST_COMMAND, echo_command(number + 1000)))
        packed: list[bytes] = []
        for piece in pieces:
            room = packed and len(packed[-1]) + len(piece) <= self.pdu_bytes
            if room and (self.dense or (self.with_echo and piece is pieces[-1])) and dice.random() < 0.8:
                packed[-1] += piece
            else:
                packed.append(piece)
        return b"".join(pdu(4, each) for each in packed)

    def _cut(
        self, data: bytes, context_id: int, control: int, dice: random.Random, *, whole: bool
    ) -> list[bytes]:
        pieces: list[bytes] = []
        limit = self.pdu_bytes - 6
        while data:
            size = limit if whole or dice.random() < 0.5 else dice.randrange(1, limit + 1)
            piece, data = data[:size], data[size:]
            pieces.append(pdv(context_id, control if data else control | 2, piece))
        if dice.random() < 0.1:
            pieces.insert(dice.randrange(len(pieces)), pdv(context_id, control, b""))
        return pieces

    def answers(self, number: int) -> set[int]:
        return {number, number + 1000} if self.with_echo else {number}


def echo_command(message_id: int) -> bytes:
    return command({0x0002: ui(VERIFICATION), 0x0100: us(0x0030), 0x0110: us(message_id), 0x0800: us(0x0101)})


@dataclass
class Outcome:
    """What a peer and the archive saw of one association."""

    statuses: dict[int, int] = field(default_factory=dict)
    end: set[int] = field(default_factory=set)
    stored: dict[str, bytes] = field(default_factory=dict)


def endings(dice: random.Random) -> dict[str, bytes]:
    """What an association may end with, by name."""
    begun = pdata(STORE_CONTEXT, LAST_COMMAND, store_command(CT, "1.2.98", 77))
    half = begun + pdata(STORE_CONTEXT, DATA, small_dataset("1.2.98")[:100])
    abort = pdu(7, bytes(4))
    return {
        "release": pdu(5, bytes(4)),
        "abort": abort,
        "abort in mid-store": half + abort,
        "close": b"",
        "close in mid-store": half,
        "close in mid-PDU": half + pdata(STORE_CONTEXT, LAST_DATA, bytes(500))[:90],
        "release in mid-store": half + pdu(5, bytes(4)),
        "command amid data": half + pdata(ECHO_CONTEXT, LAST_COMMAND, ECHO),
        "data first": pdata(STORE_CONTEXT, LAST_DATA, bytes(40)),
        "PDV too long": half + pdu(4, struct.pack(">LBB", 1000, 1, 2) + b"short"),
        "PDV too short": half + pdu(4, struct.pack(">LB", 1, 1)),
        "half a PDV head": half + pdu(4, b"\0\0\0"),
        "garbage after a whole store": pdu(
            4,
            pdv(STORE_CONTEXT, LAST_COMMAND, store_command(CT, "1.2.97", 78))
            + pdv(STORE_CONTEXT, LAST_DATA, small_dataset("1.2.97"))
            + b"\xff\xff\xff\xff\0\0",
        ),
        "unknown PDU": half + pdu(9, b"\0\0"),
        "a second association request": half + associate_rq(),
        "unknown context": pdata(99, LAST_COMMAND, store_command(CT, "1.2.96", 79))
        + pdata(99, LAST_DATA, b"\0\0"),
        "noise": dice.randbytes(200),
        "noise in mid-store": half + dice.randbytes(200),
        "an announcement of gigabytes": half + struct.pack(">BBL", 4, 0, 2**32 - 1) + bytes(100),
    }


def talk(archive: Running, stores: list[Store], ending: str, seed: int) -> Outcome:
    """Send everything, cut anywhere, waiting for the answers to each message."""
    dice = random.Random(seed)
    outcome = Outcome()
    archive.ingest.stored.clear()
    contexts = [(CT, [EXPLICIT]), (VERIFICATION, [IMPLICIT]), (CT, [IMPLICIT])]
    with archive.dial() as peer:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.send(associate_rq(contexts))
        assert peer.read_pdu()[0] == 2
        for number, store in enumerate(stores, start=1):
            send_cut(peer, store.pdus(number), dice)
            wanted = store.answers(number)
            while not wanted <= set(outcome.statuses):
                kind, body = peer.read_pdu()
                assert kind == 4, f"PDU type {kind} in place of an answer"
                outcome.statuses.update(read_status(body))
        peer.send_until_refused(endings(dice)[ending])
        if ending.startswith(("close", "noise")):
            peer.stop_sending()
        outcome.end = set(peer.until_closed())
    eventually(lambda: not archive.server._server.active_associations)  # type: ignore[union-attr]
    outcome.stored = {uid: each.dataset for uid, each in archive.ingest.stored.items()}
    assert archive.ingest.begun == archive.ingest.closed
    return outcome


def send_cut(peer: Raw, data: bytes, dice: random.Random) -> None:
    for _ in range(dice.randrange(4)):
        at = dice.randrange(len(data) + 1)
        peer.send(data[:at])
        data = data[at:]
    peer.send(data)


def read_status(body: bytes) -> dict[int, int]:
    """Message ID being responded to and status of a response."""
    at, found = 6, {}
    while at < len(body):
        _, number, length = struct.unpack_from("<HHL", body, at)
        found[number] = body[at + 8 : at + 8 + length]
        at += 8 + length
    return {int.from_bytes(found[0x0120], "little"): int.from_bytes(found[0x0900], "little")}


@pytest.fixture(params=["plain", "TLS"])
def pair(
    request: pytest.FixtureRequest, start_server: StartServer, monkeypatch: pytest.MonkeyPatch, tls: Authority
) -> tuple[Running, Running]:
    """One archive with the lane, one without."""
    over: dict[str, Any] = {"tls": tls.settings()} if request.param == "TLS" else {}
    lane, stock = start_server(**over), start_server(**over)
    if over:
        lane.context = stock.context = tls.client()
    install = server_module.install

    def install_but_in_stock(assoc: Any, sock: Any, storage: Any, host: Any, limits: Any) -> None:
        if host is lane.server:
            install(assoc, sock, storage, host, limits)

    monkeypatch.setattr(server_module, "install", install_but_in_stock)
    return lane, stock


STORES = st.builds(
    Store,
    size=st.sampled_from([0, 10, 3_000, 20_000, 140_000, 700_000]),
    pdu_bytes=st.sampled_from([4_096, 16_384, 131_072, 600_000]),
    seed=st.integers(0, 2**32),
    dense=st.booleans(),
    with_echo=st.booleans(),
    trailing=st.sampled_from([0, 0, 0, 2, 11]),
)
ENDINGS = sorted(endings(random.Random(0)))


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stores=st.lists(STORES, max_size=3), ending=st.sampled_from(ENDINGS), seed=st.integers(0, 2**32))
def test_the_lane_and_pynetdicom_come_to_the_same_end(
    pair: tuple[Running, Running], stores: list[Store], ending: str, seed: int
) -> None:
    event(ending)
    lane, stock = (talk(archive, stores, ending, seed) for archive in pair)
    assert lane.stored == stock.stored
    assert lane.statuses == stock.statuses
    assert lane.end == stock.end
    assert {uid for uid in lane.stored if uid.startswith("1.2.9")} == set(lane.stored)
    whole = {f"1.2.99.{number}" for number, store in enumerate(stores, 1) if not store.trailing}
    assert whole <= set(lane.stored)


@pytest.mark.parametrize("ending", ENDINGS)
def test_each_ending_is_the_same_with_and_without_the_lane(
    pair: tuple[Running, Running], ending: str
) -> None:
    store = Store(50_000, 16_384, 1, dense=True, with_echo=False)
    lane, stock = (talk(archive, [store], ending, 7) for archive in pair)
    assert lane == stock
    assert set(lane.stored) == {"1.2.99.1"}


def test_the_lane_takes_whole_fragmented_and_packed_requests(pair: Any, monkeypatch: Any) -> None:
    """Otherwise the two tests above compare pynetdicom with itself."""
    archive, _ = pair
    taken = 0
    answer = Lane._answer

    def count(self: Lane, wire: Any) -> None:
        nonlocal taken
        taken += 1
        answer(self, wire)

    monkeypatch.setattr(Lane, "_answer", count)
    stores = [
        Store(200_000, size, size, dense, False) for size in (4_096, 131_072) for dense in (True, False)
    ]
    outcome = talk(archive, stores, "release", 3)
    assert taken == len(stores) == len(outcome.stored)


def test_an_instance_larger_than_every_buffer_arrives_whole(pair: Any) -> None:
    archive, _ = pair
    outcome = talk(archive, [Store(5_000_000, 131_072, 5, True, True)], "release", 9)
    assert outcome.statuses == {1: 0, 1001: 0}
    assert outcome.stored["1.2.99.1"] == small_dataset("1.2.99.1", pixels=5_000_000)


def test_a_store_that_comes_a_byte_at_a_time_is_taken(archive: Running) -> None:
    message = Store(60, 4_096, 2, False, False).pdus(1)
    with Raw(archive.port) as peer:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.send(associate_rq([(CT, [EXPLICIT])]))
        assert peer.read_pdu()[0] == 2
        for byte in message:
            peer.send(bytes([byte]))
        kind, body = peer.read_pdu()
    assert (kind, read_status(body)) == (4, {1: 0})


def test_a_store_that_trickles_is_given_up_however_small_its_pdus(start_server: StartServer) -> None:
    archive = start_server(network_timeout_seconds=0.3)
    with Raw(archive.port) as peer:
        peer.send(associate_rq([(CT, [EXPLICIT])]))
        assert peer.read_pdu()[0] == 2
        peer.send(pdata(STORE_CONTEXT, LAST_COMMAND, store_command(CT, "1.2.9")))
        started = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - started < 5:
                peer.send(pdata(STORE_CONTEXT, DATA, b"x"))
                time.sleep(0.02)
        assert time.monotonic() - started < 3
    eventually(lambda: archive.ingest.begun == archive.ingest.closed)


def test_a_peer_without_the_right_to_store_is_refused_after_its_dataset(start_server: StartServer) -> None:
    archive = start_server(unknown_aes=["echo"])
    outcome = talk(archive, [Store(300_000, 16_384, 1, True, True)], "release", 4)
    assert outcome.statuses == {1: 0x0124, 1001: 0}
    assert outcome.stored == {}
    assert archive.ingest.begun == 0


def test_a_stop_lets_the_instance_that_is_arriving_finish(archive: Running) -> None:
    message = Store(100_000, 16_384, 1, False, False).pdus(1)
    with Raw(archive.port) as peer:
        peer.send(associate_rq([(CT, [EXPLICIT])]))
        assert peer.read_pdu()[0] == 2
        peer.send(message[:50_000])
        eventually(lambda: archive.server._standing._busy)
        stopper = threading.Thread(target=archive.server.stop, args=(10.0,))
        stopper.start()
        peer.send(message[50_000:])
        kind, body = peer.read_pdu()
        assert (kind, read_status(body)) == (4, {1: 0})
        assert peer.until_closed() == [7]
        stopper.join(10)
    assert list(archive.ingest.stored) == ["1.2.99.1"]


@pytest.mark.parametrize("entry", sorted(CORPUS.glob("*.bin")), ids=lambda path: path.stem)
def test_what_once_was_trouble_ends_its_association_and_no_more(archive: Running, entry: Path) -> None:
    replay(archive, entry.read_bytes())


def test_damaged_streams_never_stop_the_archive(archive: Running) -> None:
    """A bounded run of the fuzzer; a find goes into the corpus by hand."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    seeds = [path.read_bytes() for path in sorted(CORPUS.glob("*.bin"))]
    for _ in range(80):
        replay(archive, damage(dice.choice(seeds), dice))
    assert talk(archive, [Store(1_000, 4_096, 1, False, False)], "release", 1).statuses == {1: 0}


def damage(stream: bytes, dice: random.Random) -> bytes:
    """Bytes changed, removed, doubled or cut off."""
    data = bytearray(stream)
    for _ in range(dice.randrange(1, 6)):
        at = dice.randrange(len(data)) if data else 0
        match dice.randrange(5):
            case 0 if data:
                data[at] = dice.randrange(256)
            case 1:
                del data[at : at + dice.randrange(1, 20)]
            case 2:
                data[at:at] = data[at : at + dice.randrange(1, 200)]
            case 3:
                del data[at:]
            case _:
                data[at:at] = dice.randbytes(dice.randrange(1, 10))
    return bytes(data)


def replay(archive: Running, stream: bytes) -> None:
    """Send a stream after a good association request; whatever it is, the server lets go of it."""
    with Raw(archive.port, timeout=10) as peer:
        peer.send(associate_rq([(CT, [EXPLICIT]), (VERIFICATION, [IMPLICIT]), (CT, [IMPLICIT])]))
        assert peer.read_pdu()[0] == 2
        peer.send_until_refused(stream)
        with contextlib.suppress(OSError):
            peer.sock.shutdown(socket.SHUT_WR)
        assert set(peer.until_closed()) <= {4, 6, 7}
    eventually(lambda: not archive.server._server.active_associations)  # type: ignore[union-attr]
    assert archive.ingest.begun == archive.ingest.closed
