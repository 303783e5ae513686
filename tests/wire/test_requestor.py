"""Associations that we ask for and do not get: what is said of it is what the peer said."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pynetdicom import _config
from pynetdicom.association import Association
from wire_peers import VERIFICATION, pdu

from hsm.config import AeConfig, DicomConfig
from hsm.dicom import requestor
from hsm.dicom.boundedsocket import BoundedSocket, outgoing_socket
from hsm.dicom.requestor import Unreachable, open_association

NOT_RECOGNISED = pdu(3, b"\0\1\1\7")


@contextlib.contextmanager
def answers(answer: bytes) -> Iterator[AeConfig]:
    """A peer that says this to the next association request, and hangs up at once."""

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            head = sock.recv(6, socket.MSG_WAITALL)
            sock.recv(int.from_bytes(head[2:], "big"), socket.MSG_WAITALL)
            sock.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield AeConfig(ae_title="WS1", host="127.0.0.1", port=listener.getsockname()[1])
        thread.join(5)


def refused(peer: AeConfig) -> Unreachable:
    with (
        pytest.raises(Unreachable) as caught,
        open_association(peer, "HSM", DicomConfig(), VERIFICATION, as_scp=False),
    ):
        pass
    return caught.value


@pytest.fixture(autouse=True)
def _as_in_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pynetdicom's own log of PDUs, which breaks at what it does not know."""
    monkeypatch.setattr(_config, "LOG_HANDLER_LEVEL", "none")


@pytest.fixture(params=["prompt", "late"])
def _requestor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """pynetdicom's requestor as it is on an idle machine, and as it is on a busy one: it looks whether it is
    connected when its other thread has read the answer and closed the connection."""

    def late(assoc: Association, address: Any) -> BoundedSocket:
        sock = outgoing_socket(assoc, address)
        connected = sock._ready.wait

        def wait(timeout: float | None = None) -> bool:
            found = connected(timeout)
            assoc.dul.join(5)
            assert not sock._is_connected, "else this test shows nothing"
            return found

        monkeypatch.setattr(sock._ready, "wait", wait)
        return sock

    if request.param == "late":
        monkeypatch.setattr(requestor, "outgoing_socket", late)


@pytest.mark.usefixtures("_requestor")
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (NOT_RECOGNISED, "association rejected: Called AE title not recognised"),
        (pdu(3, b"\0\2\3\2"), "association rejected: Local limit exceeded"),
        (pdu(7, b"\0\0\2\6"), "the peer aborted the association: Invalid PDU parameter value"),
        (pdu(7, b"\0\0\0\0"), "the peer aborted the association"),
    ],
)
def test_the_peers_own_reason_is_told_however_quick_it_hangs_up(answer: bytes, said: str) -> None:
    with answers(answer) as peer:
        error = refused(peer)
    assert str(error) == f"WS1 at 127.0.0.1:{peer.port}: {said}"
    assert error.down


def test_a_reason_that_no_standard_knows_is_told_in_numbers() -> None:
    with answers(pdu(3, bytes([0, 1, 9, 8]))) as peer:
        assert str(refused(peer)).endswith("association rejected: source 9, reason 8")


def test_a_peer_that_hangs_up_without_a_word_has_given_no_reason() -> None:
    with answers(b"") as peer:
        assert "rejected" not in str(refused(peer))
