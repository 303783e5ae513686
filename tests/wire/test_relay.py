"""Bytes carried between a TLS connection and another process: all of them, both ways, and an end."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
from wire_tls import Authority
from wire_world import eventually

from hsm.dicom import relay as relay_module
from hsm.dicom.relay import HELD_BYTES_MAX, Relay
from hsm.dicom.secure import handshake, secured
from hsm.tls import server_context


class Ends:
    """The peer's TLS connection, the server's end of the pair, and the relay between them."""

    def __init__(self, tls: Authority, version: ssl.TLSVersion) -> None:
        far, near = socket.socketpair()
        context = server_context(tls.certificate("archive"), tls.key("archive"), tls.ca)
        outer = secured(near, context)
        client = tls.client(version=version)
        self.peer: ssl.SSLSocket

        def connect() -> None:
            self.peer = client.wrap_socket(far, server_hostname="localhost")

        thread = threading.Thread(target=connect)
        thread.start()
        self.security = handshake(outer, 10)
        thread.join(10)
        self.server, inner = socket.socketpair()
        self.ended: list[Relay] = []
        self.relay = Relay(outer, inner, self.ended.append)
        self.relay.start()
        for end in (self.peer, self.server):
            end.settimeout(10)

    def close(self) -> None:
        self.relay.cut()
        self.relay.join(10)
        self.peer.close()
        self.server.close()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def ends(request: pytest.FixtureRequest, tls: Authority) -> Iterator[Ends]:
    made = Ends(tls, request.param)
    yield made
    made.close()


def send(end: socket.socket, data: bytes, seed: int) -> None:
    dice = random.Random(seed)
    at = 0
    while at < len(data):
        size = dice.choice([1, 100, 20_000, 200_000])
        end.sendall(data[at : at + size])
        at += size


def receive(end: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = end.recv(1 << 16)
        assert piece, "it ended early"
        data += piece
    return bytes(data)


def receive_exactly(end: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += end.recv(size - len(data))
    return bytes(data)


def test_both_directions_at_once_bring_every_byte(ends: Ends) -> None:
    size = 3 * HELD_BYTES_MAX
    inwards, outwards = random.Random(1).randbytes(size), random.Random(2).randbytes(size)
    found: list[bytes] = []
    threads = [
        threading.Thread(target=send, args=(ends.server, outwards, 1)),
        threading.Thread(target=lambda: found.append(receive(ends.server, size))),
    ]
    for thread in threads:
        thread.start()
    # The peer's own SSL object is not for two threads: it sends a part, then takes a part.
    taken = bytearray()
    for at in range(0, size, 60_000):
        part = inwards[at : at + 60_000]
        ends.peer.sendall(part)
        taken += receive_exactly(ends.peer, len(part))
    for thread in threads:
        thread.join(20)
    assert bytes(taken) == outwards
    assert found == [inwards]
    assert ends.security.names[0] == "peer"


def test_a_side_that_does_not_read_stops_the_other_and_takes_no_memory(ends: Ends) -> None:
    ends.server.settimeout(0.3)
    sent = 0
    with pytest.raises(TimeoutError):
        while True:
            sent += ends.server.send(bytes(65536))
    assert len(ends.relay._outwards) <= HELD_BYTES_MAX + 128 * 1024
    assert sent < 8 * HELD_BYTES_MAX
    ends.server.settimeout(10)
    assert receive(ends.peer, sent) == bytes(sent)


def test_what_the_server_said_last_arrives_before_the_end(ends: Ends) -> None:
    ends.server.sendall(b"x" * 300_000)
    ends.server.close()
    assert receive(ends.peer, 300_000) == b"x" * 300_000
    assert ends.peer.recv(1) == b""
    eventually(lambda: ends.ended == [ends.relay])


def test_a_peer_that_leaves_is_noticed_and_what_it_said_arrives(ends: Ends) -> None:
    ends.peer.sendall(b"y" * 300_000)
    ends.peer.close()
    assert receive(ends.server, 300_000) == b"y" * 300_000
    with contextlib.suppress(ConnectionError):
        assert ends.server.recv(1) == b""
    ends.server.close()
    eventually(lambda: ends.ended == [ends.relay])


def test_a_peer_that_takes_nothing_more_does_not_hold_it_for_ever(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "FLUSH_SECONDS", 0.2)
    monkeypatch.setattr(relay_module, "_LOOK_MS", 50)
    ends.server.settimeout(0.2)
    with contextlib.suppress(TimeoutError):
        while True:
            ends.server.send(bytes(65536))
    ends.server.close()
    started = time.monotonic()
    eventually(lambda: ends.ended == [ends.relay])
    assert time.monotonic() - started < 5


def test_a_cut_ends_it_at_once(ends: Ends) -> None:
    ends.relay.cut()
    eventually(lambda: ends.ended == [ends.relay])
