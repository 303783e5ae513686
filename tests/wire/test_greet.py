"""What a connection's first PDU says, and who is chosen by it, without a daemon."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, MaximumLengthNotification
from pynetdicom.sop_class import (
    CTImageStorage,
    PatientRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from hsm.dicom.contexts import QUERY_RETRIEVE
from hsm.dicom.greet import REQUEST_BYTES_MAX, abstract_syntaxes, read_request, wants_the_daemon
from hsm.dicom.secure import Visit
from hsm.receivers.channel import Channel
from hsm.receivers.desk import Desk, taken
from hsm.receivers.tally import Tally


def request(*abstract: str) -> bytes:
    """An A-ASSOCIATE-RQ as pynetdicom makes it."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "WS1", "HSM"
    contexts = [build_context(uid) for uid in abstract]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = contexts
    length = MaximumLengthNotification()
    length.maximum_length_received = 16382
    primitive.user_information = [length]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_the_proposed_services_are_found() -> None:
    proposed = [Verification, CTImageStorage, "1.2.3.4", *QUERY_RETRIEVE]
    assert abstract_syntaxes(request(*proposed)) == proposed


@pytest.mark.parametrize("uid", QUERY_RETRIEVE)
def test_one_query_or_retrieve_service_among_others_is_enough(uid: str) -> None:
    others = [CTImageStorage] * 60
    assert wants_the_daemon(request(*others, uid, *others))
    assert not wants_the_daemon(request(*others, Verification))


def test_a_request_that_is_cut_or_damaged_anywhere_is_read_as_far_as_it_goes() -> None:
    whole = request(Verification, StudyRootQueryRetrieveInformationModelFind, CTImageStorage)
    for end in range(len(whole)):
        found = abstract_syntaxes(whole[:end])
        assert found == abstract_syntaxes(whole)[: len(found)]
    for place in range(74, len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        assert len(abstract_syntaxes(bytes(damaged))) <= 3


def test_a_request_that_comes_in_pieces_is_read_whole_and_nothing_beyond_it(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    whole = request(Verification)
    sender = threading.Thread(target=lambda: [theirs.sendall(whole[at : at + 7]) for at in range(0, 400, 7)])
    sender.start()
    assert read_request(ours, 10) == whole
    theirs.sendall(b"more")
    sender.join()
    assert ours.recv(10) == b"more"
    assert ours.gettimeout() is None, "as pynetdicom expects it"


@pytest.mark.parametrize(
    "head", [b"GET / ", b"\x04\x00\0\0\0\x04", b"\x01\x00" + (REQUEST_BYTES_MAX + 1).to_bytes(4, "big")]
)
def test_what_is_no_reasonable_request_is_left_to_pynetdicom(
    ends: tuple[socket.socket, socket.socket], head: bytes
) -> None:
    ours, theirs = ends
    theirs.sendall(head + b"rest")
    assert read_request(ours, 10) == head
    assert ours.recv(10) == b"rest"


def test_a_peer_that_says_nothing_or_goes_is_not_waited_for(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    theirs.sendall(request(Verification)[:-1])
    with pytest.raises(TimeoutError):
        read_request(ours, 0.01)
    theirs.close()
    with pytest.raises(ConnectionError):
        read_request(ours, 10)


class Crew:
    """The desks of two receivers, both in this process, and what they pass on."""

    def __init__(self) -> None:
        self.tally = Tally.create(2, doors=2)
        self.ours, theirs = Channel.pair()
        channel = Channel(theirs)
        self.views = [Tally(os.dup(self.tally.file), slot, doors=2) for slot in (1, 2)]
        self.desks = [Desk(view, slot, channel) for slot, view in enumerate(self.views, 1)]
        self.channel = channel
        for desk in self.desks:
            desk.note([0, 0], 0)

    def offer(self, receiver: int, *abstract: str) -> int:
        """Who serves a connection that this receiver accepted."""
        client, peer = socket.socketpair()
        visit = Visit(("10.1.2.3", 4000), request(*abstract), door="modality")
        with client, peer:
            if self.desks[receiver - 1].keeps(client, visit):
                return receiver
            message = self.ours.receive()
            assert message is not None
            passed, given = taken(message)
            with passed:
                assert given == visit
                peer.sendall(b"still open")
                client.close()
                assert passed.recv(20) == b"still open"
            return int(message.values["to"])

    def close(self) -> None:
        for each in (self.ours, self.channel, self.tally, *self.views):
            each.close()


@pytest.fixture
def crew() -> Iterator[Crew]:
    made = Crew()
    yield made
    made.close()


def test_queries_and_retrieves_go_to_the_daemon_with_what_was_read(crew: Crew) -> None:
    assert crew.offer(1, PatientRootQueryRetrieveInformationModelMove) == 0
    assert crew.offer(2, CTImageStorage, StudyRootQueryRetrieveInformationModelFind) == 0


def test_storage_goes_to_the_receiver_with_the_fewest_connections(crew: Crew) -> None:
    assert [crew.offer(1, CTImageStorage) for _ in range(4)] == [1, 2, 1, 2], "those on their way count"
    crew.desks[0].note([5, 0], 5)
    crew.desks[0].arrived()
    assert [crew.offer(1, CTImageStorage) for _ in range(3)] == [2, 2, 2]


def test_a_receiver_that_is_gone_gets_nothing_and_counts_nothing(crew: Crew) -> None:
    crew.desks[1].note([3, 4], 7)
    crew.desks[0].note([1, 2], 3)
    assert crew.tally.standing == 10
    crew.tally.mark_gone(2)
    assert crew.tally.standing == 3
    assert [crew.offer(1, CTImageStorage) for _ in range(3)] == [1, 1, 1]


def test_each_admission_sees_those_in_the_other_processes(crew: Crew) -> None:
    crew.desks[0].note([1, 2], 3)
    crew.desks[1].note([0, 4], 4)
    with crew.desks[0].admitting(0) as found:
        assert found == (4, 0)
    with Desk(crew.tally, 0, None).admitting(1) as found:
        assert found == (7, 6)


def test_a_process_that_keeps_the_lock_stops_nobody_for_long(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsm.receivers.tally.LOCK_SECONDS", 0.02)
    holder = (
        f"import fcntl; fcntl.lockf({crew.tally.file}, fcntl.LOCK_EX); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder],
        pass_fds=[crew.tally.file],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with crew.tally.locked():
            assert crew.offer(1, CTImageStorage) == 1
        process.communicate("\n")
