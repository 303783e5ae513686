"""The send lane over real associations: PDU sizes, where the bytes lie, peers that misbehave."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wire_fakes
from pydicom.uid import UID
from pynetdicom import AE, build_context, build_role, evt
from wire_fakes import CT, EXPLICIT, FILES, IMPLICIT, kinds_of, part10_parts, small_dataset, stored
from wire_peers import (
    STUDY_GET,
    STUDY_MOVE,
    VERIFICATION,
    Move,
    associated,
    command,
    counts,
    failed_uids,
    item,
    pdata,
    pdu,
    study_identifier,
    ui,
    us,
)
from wire_world import Receiver, Running, StartServer, eventually

from drivers.folder import FolderStore
from hsm import ranges
from hsm.dicom import sendline
from hsm.ranges import Held, Range, StoreRange, checked, open_range
from hsm.staging import Staging

STUDY = "1.2.3"
MOVE = [(STUDY_MOVE, [IMPLICIT]), (VERIFICATION, [IMPLICIT])]
PDU_SIZES = [4096, 16384, 65536, 2**20, 0]
KEY = "1.2.3.p0001.tar"


def fill(archive: Running, number: int, pixels: int = 64) -> list[str]:
    uids = [f"1.2.3.9.{n}" for n in range(number)]
    for uid in uids:
        archive.ingest.stored[uid] = stored(small_dataset(uid, pixels=pixels))
    return uids


def knows(start_server: StartServer, port: int, **changes: Any) -> Running:
    """An archive with a destination DEST on this port."""
    return start_server(aes=[{"ae_title": "DEST", "host": "127.0.0.1", "port": port}], **changes)


def move(archive: Running, seconds: float = 30) -> tuple[Any, Any]:
    with associated(archive.port, MOVE) as assoc:
        return Move(assoc, "DEST", study_identifier("")).final(seconds)


def get(
    archive: Running, kinds: list[tuple[str, list[str]]], max_pdu: int, store: Callable[[Any], int]
) -> Any:
    """C-GET everything; the final response."""
    ae = AE("WS1")
    assoc = ae.associate(
        "127.0.0.1",
        archive.port,
        [build_context(STUDY_GET, [IMPLICIT]), *(build_context(uid, ts) for uid, ts in kinds)],
        ae_title="HSM",
        ext_neg=[build_role(UID(uid), scp_role=True) for uid in sorted({uid for uid, _ in kinds})],
        evt_handlers=[(evt.EVT_C_STORE, store)],
        max_pdu=max_pdu,
    )
    try:
        *_, (status, _) = assoc.send_c_get(study_identifier(""), STUDY_GET, msg_id=5)
        return status
    finally:
        if assoc.is_established:
            assoc.release()
        assoc.dul.join(5)


def kept(got: dict[str, tuple[str, bytes]]) -> Callable[[Any], int]:
    def store(event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        got[uid] = (str(event.context.transfer_syntax), event.request.DataSet.getvalue())
        return 0

    return store


def bundled(archive: Running) -> dict[str, tuple[str, bytes]]:
    """Put every bundled file into the archive, and one of more than a mebibyte."""
    for path in FILES:
        syntax, dataset = part10_parts(path)
        each = stored(dataset, syntax)
        archive.ingest.stored[each.header.sop_instance_uid] = each
    archive.ingest.stored["1.2.77"] = stored(small_dataset("1.2.77", sop_class=CT, pixels=2_500_000))
    return {uid: (each.transfer_syntax, each.dataset) for uid, each in archive.ingest.stored.items()}


# What the bytes come from.


def in_memory(folder: Path, part10: bytes) -> Range:
    return Held(part10)


def in_file(folder: Path, part10: bytes) -> Range:
    path = folder / f"{len(list(folder.iterdir()))}.dcm"
    path.write_bytes(part10)
    return open_range(path, 0, len(part10))


def in_package(folder: Path, part10: bytes) -> Range:
    key = f"{len(list(folder.iterdir()))}.tar"
    (folder / key).write_bytes(b"\0" * 512 + part10 + b"\0" * 1024)
    return StoreRange(FolderStore(folder), key, 512, len(part10))


def in_staging(folder: Path, part10: bytes) -> Range:
    """A package that is still being written: what follows the instance has not come."""
    number = len(list(folder.iterdir()))
    staging = Staging(folder / f"staging{number}", 1 << 30)
    writer = staging.admit(KEY, 512 + len(part10) + 1_000_000)
    writer.write(b"\0" * 512 + part10)
    found = staging.open(KEY, 512, len(part10))
    writer.abort()  # what is open can be read to its end, come what may
    return found


@pytest.fixture(params=[in_memory, in_file, in_package, in_staging])
def places(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything but the smallest is too large to be held, and is read in pieces that fit no PDU."""
    monkeypatch.setattr(ranges, "HELD_BYTES_MAX", 20_000)
    monkeypatch.setattr(ranges, "PIECE_BYTES", 300_007)

    def content(part10: bytes) -> Range:
        source: Range = request.param(tmp_path, part10)
        digest = hashlib.sha256(part10).digest()
        found = checked(source, digest, lambda: pytest.fail("it is not damaged"))
        assert found is not None
        return found

    monkeypatch.setattr(wire_fakes, "Held", content)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("size", PDU_SIZES)
def test_every_file_is_moved_byte_for_byte_in_pdus_of_any_size(
    start_server: StartServer, receiver: Receiver, size: int
) -> None:
    receiver.ae.maximum_pdu_size = size
    kinds = kinds_of(FILES)
    merged: dict[str, list[str]] = {}
    for sop_class, syntaxes in kinds:
        merged.setdefault(sop_class, []).extend(ts for ts in syntaxes if ts not in merged.get(sop_class, []))
    archive = knows(start_server, receiver.start(list(merged.items())))
    held = bundled(archive)
    status, _ = move(archive, 60)
    assert status.Status == 0x0000
    assert {uid: (ts, data) for uid, ts, data in receiver.received} == held


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("size", PDU_SIZES)
def test_every_file_is_got_byte_for_byte_in_pdus_of_any_size(archive: Running, size: int) -> None:
    held = bundled(archive)
    got: dict[str, tuple[str, bytes]] = {}
    assert get(archive, kinds_of(FILES), size, kept(got)).Status == 0x0000
    assert got == held


@pytest.mark.usefixtures("places")
@pytest.mark.parametrize("size", [4096, 131072])
def test_bytes_arrive_alike_wherever_they_lie(
    start_server: StartServer, receiver: Receiver, size: int
) -> None:
    receiver.ae.maximum_pdu_size = size
    archive = knows(start_server, receiver.start([(CT, [EXPLICIT])]))
    for number, pixels in enumerate((64, 19_000, 21_000, 300_007, 1_000_000)):
        uid = f"1.2.3.9.{number}"
        archive.ingest.stored[uid] = stored(small_dataset(uid, pixels=pixels))
    held = {uid: each.dataset for uid, each in archive.ingest.stored.items()}
    assert move(archive)[0].Status == 0x0000
    assert {uid: data for uid, _, data in receiver.received} == held
    got: dict[str, tuple[str, bytes]] = {}
    assert get(archive, [(CT, [EXPLICIT])], size, kept(got)).Status == 0x0000
    assert {uid: data for uid, (_, data) in got.items()} == held


def test_a_large_one_that_changes_after_its_check_never_arrives_whole_and_the_rest_does(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ranges, "HELD_BYTES_MAX", 20_000)
    damage: list[bool] = []

    def content(part10: bytes) -> Range:
        digest = hashlib.sha256(part10).digest()
        found = checked(in_file(tmp_path, part10), digest, lambda: damage.append(True))
        assert found is not None
        if b"1.2.3.9.1\0" in part10[:1000]:
            newest = max(tmp_path.iterdir(), key=lambda path: int(path.stem))
            with open(newest, "r+b") as file:
                file.seek(30_000)
                file.write(b"!")
        return found

    monkeypatch.setattr(wire_fakes, "Held", content)
    archive = knows(start_server, receiver.start([(CT, [EXPLICIT])]))
    uids = fill(archive, 3, pixels=3_000_000)
    status, identifier = move(archive)
    assert (status.Status, counts(status)) == (0xB000, (None, 2, 1, 0))
    assert failed_uids(identifier) == [uids[1]]
    assert [uid for uid, _, _ in receiver.received] == [uids[0], uids[2]]
    assert damage == [True]


def test_what_is_too_large_to_convert_fails_and_says_so(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sendline, "TRANSCODE_BYTES_MAX", 10_000)
    archive = knows(start_server, receiver.start([(CT, [IMPLICIT])]))
    archive.ingest.stored["1.2.3.9.0"] = stored(small_dataset("1.2.3.9.0", pixels=64))
    archive.ingest.stored["1.2.3.9.1"] = stored(small_dataset("1.2.3.9.1", pixels=20_000))
    status, identifier = move(archive)
    assert (status.Status, failed_uids(identifier)) == (0xB000, ["1.2.3.9.1"])
    assert "too many to convert" in status.ErrorComment


# Peers that misbehave.


def accept_all(request: bytes, max_pdu: int = 16384) -> bytes:
    """An A-ASSOCIATE-AC that takes the first transfer syntax of every context of an A-ASSOCIATE-RQ's body."""
    body, at, results = request[:68], 68, b""
    while at < len(request):
        kind, length = struct.unpack(">BxH", request[at : at + 4])
        inner = request[at + 4 : at + 4 + length]
        at += 4 + length
        if kind == 0x20:
            abstract = struct.unpack(">H", inner[6:8])[0]
            syntax = inner[8 + abstract :]
            first = syntax[: 4 + struct.unpack(">H", syntax[2:4])[0]]
            results += item(0x21, bytes([inner[0], 0, 0, 0]) + first)
    user = item(0x50, item(0x51, struct.pack(">L", max_pdu)) + item(0x52, b"1.2.3.4"))
    return pdu(0x02, body + item(0x10, b"1.2.840.10008.3.1.1.1") + results + user)


def response(message_id: int, uid: str, status: int = 0) -> bytes:
    return command(
        {
            0x0002: ui(CT),
            0x0100: us(0x8001),
            0x0120: us(message_id),
            0x0800: us(0x0101),
            0x0900: us(status),
            0x1000: ui(uid),
        }
    )


class Line:
    """One accepted connection of a :class:`BadPeer`."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(10)
        sock.sendall(accept_all(self.pdu()[1]))

    def pdu(self) -> tuple[int, bytes]:
        head = self.exactly(6)
        return head[0], self.exactly(int.from_bytes(head[2:], "big"))

    def exactly(self, number: int) -> bytes:
        data = b""
        while len(data) < number:
            piece = self.sock.recv(number - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def message(self) -> tuple[int, int, str]:
        """Take a C-STORE request: its context, message ID and SOP Instance UID.

        :raises EOFError: the association ended instead.
        """
        kind, body = self.pdu()
        if kind == 5:
            self.sock.sendall(pdu(6, b"\0" * 4))
        if kind != 4:
            raise EOFError
        found = {}
        at = 6
        while at < len(body):
            number, length = struct.unpack("<2xHL", body[at : at + 8])
            found[number] = body[at + 8 : at + 8 + length]
            at += 8 + length
        while not self.pdu()[1][5] & 2:
            pass
        return body[4], int.from_bytes(found[0x0110], "little"), found[0x1000].decode().strip("\0")

    def answer(self, context: int, message_id: int, uid: str, status: int = 0) -> None:
        self.sock.sendall(pdata(context, 3, response(message_id, uid, status)))

    def serve(self) -> None:
        """Behave, until the association ends."""
        while True:
            self.answer(*self.message())


class BadPeer:
    """Takes associations; each goes to the next script, the last of them again and again."""

    def __init__(self, *scripts: Callable[[Line], None]) -> None:
        self._scripts = list(scripts)
        self.lines = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._listen)]
        self._threads[0].start()

    def _listen(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(self.lines, len(self._scripts) - 1)]
            self.lines += 1
            self._threads.append(threading.Thread(target=self._run, args=(sock, script)))
            self._threads[-1].start()

    def _run(self, sock: socket.socket, script: Callable[[Line], None]) -> None:
        with sock:
            with contextlib.suppress(EOFError, OSError):
                script(Line(sock))

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def bad_peer() -> Iterator[Callable[..., BadPeer]]:
    made: list[BadPeer] = []

    def make(*scripts: Callable[[Line], None]) -> BadPeer:
        made.append(BadPeer(*scripts))
        return made[-1]

    yield make
    for each in made:
        each.stop()


MakePeer = Callable[..., BadPeer]


def slow(line: Line) -> None:
    """Every byte of the answer for itself, and late."""
    while True:
        context, message_id, uid = line.message()
        time.sleep(0.1)
        for byte in pdata(context, 3, response(message_id, uid)):
            line.sock.sendall(bytes([byte]))


def in_parts(line: Line) -> None:
    """Each answer's command set in two PDUs."""
    while True:
        context, message_id, uid = line.message()
        answer = response(message_id, uid)
        line.sock.sendall(pdata(context, 1, answer[:20]) + pdata(context, 3, answer[20:]))


@pytest.mark.parametrize("script", [Line.serve, slow, in_parts])
def test_an_answer_may_come_as_it_likes(
    start_server: StartServer, bad_peer: MakePeer, script: Callable[[Line], None]
) -> None:
    peer = bad_peer(script)
    archive = knows(start_server, peer.port)
    fill(archive, 3, pixels=50_000)
    status, _ = move(archive)
    assert (status.Status, counts(status)) == (0x0000, (None, 3, 0, 0))
    assert peer.lines == 1


def wrong_id(line: Line) -> None:
    context, message_id, uid = line.message()
    line.answer(context, message_id + 1, uid)
    line.exactly(1)


def request_instead(line: Line) -> None:
    context, _, _ = line.message()
    echo = command({0x0002: ui(VERIFICATION), 0x0100: us(0x0030), 0x0110: us(9), 0x0800: us(0x0101)})
    line.sock.sendall(pdata(context, 3, echo))
    line.exactly(1)


def abort_instead(line: Line) -> None:
    line.message()
    line.sock.sendall(pdu(7, b"\0" * 4))
    line.sock.recv(1)


def release_instead(line: Line) -> None:
    line.message()
    line.sock.sendall(pdu(5, b"\0" * 4))
    line.sock.recv(100)


def abort_in_mid_pdu(line: Line) -> None:
    line.pdu()
    line.exactly(1000)
    line.sock.sendall(pdu(7, b"\0" * 4))


def close_in_mid_pdu(line: Line) -> None:
    line.pdu()
    line.exactly(1000)


def half_an_answer(line: Line) -> None:
    context, message_id, uid = line.message()
    line.sock.sendall(pdata(context, 3, response(message_id, uid))[:30])


def nonsense(line: Line) -> None:
    line.message()
    line.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
    line.sock.recv(1)


def huge_pdu(line: Line) -> None:
    line.message()
    line.sock.sendall(struct.pack(">BBL", 4, 0, 2**31))
    line.sock.recv(1)


MISDEEDS = [
    *(wrong_id, request_instead, abort_instead, release_instead, abort_in_mid_pdu, close_in_mid_pdu),
    *(half_an_answer, nonsense, huge_pdu),
]


@pytest.mark.parametrize("script", MISDEEDS)
def test_after_a_misdeed_the_instance_goes_over_another_association(
    start_server: StartServer, bad_peer: MakePeer, script: Callable[[Line], None]
) -> None:
    peer = bad_peer(script, Line.serve)
    archive = knows(start_server, peer.port)
    fill(archive, 3, pixels=1_500_000)
    status, _ = move(archive)
    assert (status.Status, counts(status)) == (0x0000, (None, 3, 0, 0))
    assert peer.lines == 2


@pytest.mark.parametrize("script", MISDEEDS)
def test_a_peer_that_only_misbehaves_fails_each_instance_and_nothing_hangs(
    start_server: StartServer, bad_peer: MakePeer, script: Callable[[Line], None]
) -> None:
    peer = bad_peer(script)
    archive = knows(start_server, peer.port)
    wanted = fill(archive, 2, pixels=1_500_000)
    with associated(archive.port, MOVE) as assoc:
        status, identifier = Move(assoc, "DEST", study_identifier("")).final(30)
        assert (status.Status, failed_uids(identifier)) == (0xA702, wanted)
        assert assoc.send_c_echo().Status == 0


@pytest.mark.parametrize("reads", [0, 1000])
def test_a_peer_that_stops_reading_is_given_up_in_time(
    start_server: StartServer, bad_peer: MakePeer, reads: int
) -> None:
    done = threading.Event()

    def deaf(line: Line) -> None:
        line.exactly(reads)
        done.wait(20)

    peer = bad_peer(deaf)
    archive = knows(start_server, peer.port, dimse_timeout_seconds=0.3)
    fill(archive, 1, pixels=9_000_000)
    begun = time.monotonic()
    status, _ = move(archive)
    done.set()
    assert status.Status == 0xA702
    assert "took nothing for 0.3 s" in status.ErrorComment
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("status", [0xA700, 0xA900, 0xC123, 0xB000, 0xB007, 0x0107, 0x0001])
def test_statuses_are_told_apart_by_their_class(
    start_server: StartServer, bad_peer: MakePeer, status: int
) -> None:
    def refusing(line: Line) -> None:
        while True:
            line.answer(*line.message(), status)

    archive = knows(start_server, bad_peer(refusing).port)
    fill(archive, 2)
    answer, _ = move(archive)
    warning = status in (0xB000, 0xB007, 0x0107, 0x0001)
    assert counts(answer) == ((None, 0, 0, 2) if warning else (None, 0, 2, 0))


def test_several_destinations_are_served_at_once(start_server: StartServer, bad_peer: MakePeer) -> None:
    both = threading.Barrier(2, timeout=10)

    def together(line: Line) -> None:
        while True:
            found = line.message()
            both.wait()  # each waits with its answer until the other has its instance too
            line.answer(*found)

    ports = [bad_peer(together).port for _ in range(2)]
    aes = [{"ae_title": f"DEST{n}", "host": "127.0.0.1", "port": port} for n, port in enumerate(ports)]
    archive = start_server(aes=aes)
    fill(archive, 5)
    with associated(archive.port, MOVE) as one, associated(archive.port, MOVE) as two:
        moves = [Move(a, f"DEST{n}", study_identifier("")) for n, a in enumerate((one, two))]
        assert [each.final()[0].Status for each in moves] == [0, 0]


# C-GET: the caller speaks on the association that we send on.


def test_a_cancel_in_the_middle_of_a_get_ends_it(archive: Running) -> None:
    fill(archive, 40, pixels=100_000)
    seen: list[str] = []

    def store(event: Any) -> int:
        seen.append(str(event.request.AffectedSOPInstanceUID))
        if len(seen) == 3:
            event.assoc.send_c_cancel(5, query_model=STUDY_GET)
        return 0

    status = get(archive, [(CT, [EXPLICIT])], 16384, store)
    assert status.Status == 0xFE00
    remaining, completed, failed, warning = counts(status)
    assert completed == len(seen)
    assert 3 <= len(seen) <= 5
    assert (remaining, failed, warning) == (40 - len(seen), 0, 0)


def test_an_abort_in_the_middle_of_a_get_ends_it_and_the_archive_goes_on(archive: Running) -> None:
    fill(archive, 40, pixels=100_000)

    def store(event: Any) -> int:
        event.assoc.dul.socket.socket.close()
        return 0

    with associated(
        archive.port,
        [(STUDY_GET, [IMPLICIT]), (CT, [EXPLICIT])],
        scp_roles=[CT],
        handlers=[(evt.EVT_C_STORE, store)],
    ) as assoc:
        threading.Thread(target=lambda: list(assoc.send_c_get(study_identifier(""), STUDY_GET))).start()
        eventually(lambda: archive.retrievals.opened and archive.retrievals.opened[0].closed, 5)
        assoc.abort()
        assoc.dimse.msg_queue.put((None, None))
    eventually(lambda: archive.server.associations == 0)
    with associated(archive.port, MOVE) as other:
        assert other.send_c_echo().Status == 0


def test_an_association_serves_gets_and_stores_in_turn(archive: Running) -> None:
    """The receive lane and the send lane share the socket and its time-outs."""
    fill(archive, 3, pixels=200_000)
    with associated(
        archive.port,
        [(STUDY_GET, [IMPLICIT]), (CT, [EXPLICIT]), (VERIFICATION, [IMPLICIT])],
        scp_roles=[CT],
        handlers=[(evt.EVT_C_STORE, lambda event: 0)],
    ) as assoc:
        for n in range(3):
            *_, (status, _) = assoc.send_c_get(study_identifier(""), STUDY_GET)
            assert (status.Status, counts(status)) == (0x0000, (None, 3, 0, 0))
            assert assoc.send_c_echo().Status == 0, n
    eventually(lambda: archive.server.associations == 0)
