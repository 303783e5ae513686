"""Peers that talk to the server under test: pynetdicom as SCU, and raw sockets for the bad ones."""

from __future__ import annotations

import contextlib
import io
import queue
import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, build_context, build_role
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_CANCEL, C_STORE
from pynetdicom.pdu_primitives import A_ASSOCIATE, UserIdentityNegotiation
from wire_fakes import IMPLICIT

STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"
PATIENT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
VERIFICATION = "1.2.840.10008.1.1"


@contextlib.contextmanager
def associated(
    port: int,
    contexts: Sequence[tuple[str, Sequence[str]]],
    *,
    calling: str = "WS1",
    called: str = "HSM",
    scp_roles: Sequence[str] = (),
    handlers: Sequence[Any] = (),
    timeout: float = 10.0,
    tls: ssl.SSLContext | None = None,
    user: UserIdentityNegotiation | None = None,
) -> Iterator[Association]:
    """An association with the server; released at the end if it still stands."""
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout
    assoc = ae.associate(
        "127.0.0.1",
        port,
        [build_context(abstract, list(transfers)) for abstract, transfers in contexts],
        ae_title=called,
        ext_neg=[*(build_role(uid, scp_role=True) for uid in scp_roles), *([user] if user else [])],
        tls_args=None if tls is None else (tls, "localhost"),
        evt_handlers=list(handlers),
    )
    _heed_a_quick_rejection(assoc)
    # Its thread may be quicker than we to take an answer, and would drop it: it puts it back instead.
    setattr(assoc, "_serve_request", lambda message, cx: assoc.dimse.msg_queue.put((cx, message)))  # noqa: B010
    try:
        yield assoc
    finally:
        if assoc.is_established:
            assoc.release()
        elif not assoc.is_aborted and not assoc.is_released:
            assoc.kill()
        if assoc.dul.socket is not None and assoc.dul.socket.socket is not None:
            assoc.dul.socket.socket.close()
        assoc.dul.join(5)


def _heed_a_quick_rejection(assoc: Association) -> None:
    """A rejection that comes, with the end of the connection, before pynetdicom's requestor has looked
    whether it is connected is left in the queue: it believes that it never was."""
    if assoc.acceptor.primitive is not None or assoc.is_established or not assoc.is_aborted:
        return
    with contextlib.suppress(queue.Empty):
        answer = assoc.dul.to_user_queue.get(timeout=1)
        if isinstance(answer, A_ASSOCIATE) and answer.result:
            assoc.acceptor.primitive, assoc.is_rejected, assoc.is_aborted = answer, True, False


def send_raw(
    assoc: Association, sop_class: str, uid: str, dataset: bytes, transfer_syntax: str, message_id: int = 1
) -> Any:
    """C-STORE of encoded bytes exactly as given; the response primitive, None if there is none."""
    context = next(
        cx
        for cx in assoc.accepted_contexts
        if cx.abstract_syntax == sop_class and cx.transfer_syntax[0] == transfer_syntax
    )
    request = C_STORE()
    request.MessageID = message_id
    request.AffectedSOPClassUID = sop_class
    request.AffectedSOPInstanceUID = uid
    request.Priority = 2
    request.DataSet = io.BytesIO(dataset)
    assoc._reactor_checkpoint.clear()
    try:
        assoc.dimse.send_msg(request, int(context.context_id or 0))
        return assoc.dimse.get_msg(block=True)[1]
    finally:
        assoc._reactor_checkpoint.set()


def study_identifier(study: str, level: str = "STUDY", **keys: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    identifier.StudyInstanceUID = study
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


class Move:
    """A C-MOVE whose responses are gathered on a thread, so that a test can act meanwhile."""

    def __init__(
        self, assoc: Association, destination: str, identifier: Dataset, message_id: int = 7
    ) -> None:
        self.assoc = assoc
        self.message_id = message_id
        self.responses: list[tuple[Dataset, Dataset | None]] = []
        self._came = threading.Condition()
        self._done = False
        self._destination = destination
        self._identifier = identifier
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for status, identifier in self.assoc.send_c_move(
            self._identifier, self._destination, STUDY_MOVE, msg_id=self.message_id
        ):
            with self._came:
                self.responses.append((status, identifier))
                self._came.notify_all()
        with self._came:
            self._done = True
            self._came.notify_all()

    def until_responses(self, number: int, seconds: float = 10.0) -> None:
        with self._came:
            assert self._came.wait_for(lambda: len(self.responses) >= number, seconds), self.responses

    def cancel(self) -> None:
        request = C_CANCEL()
        request.MessageIDBeingRespondedTo = self.message_id
        context = next(cx for cx in self.assoc.accepted_contexts if cx.abstract_syntax == STUDY_MOVE)
        self.assoc.dimse.send_msg(request, int(context.context_id or 0))

    def final(self, seconds: float = 20.0) -> tuple[Dataset, Dataset | None]:
        """The last response, when it has come."""
        self._thread.join(seconds)
        assert self._done, f"no final response within {seconds} s: {self.responses}"
        return self.responses[-1]


def counts(status: Dataset) -> tuple[int | None, int | None, int | None, int | None]:
    """Remaining, completed, failed and warning of a response."""
    return tuple(  # type: ignore[return-value]
        status.get(f"NumberOf{word}Suboperations") for word in ("Remaining", "Completed", "Failed", "Warning")
    )


def failed_uids(identifier: Dataset | None) -> list[str]:
    if identifier is None or "FailedSOPInstanceUIDList" not in identifier:
        return []
    value = identifier.FailedSOPInstanceUIDList
    return [value] if isinstance(value, str) else list(value)


# The wire by hand, PS3.8 section 9.3.


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body)) + body


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def associate_rq(
    contexts: Sequence[tuple[str, Sequence[str]]] = ((VERIFICATION, (IMPLICIT,)),),
    called: bytes = b"HSM",
    calling: bytes = b"BAD",
    version: int = 1,
    max_pdu: int = 16384,
) -> bytes:
    body = struct.pack(">HH16s16s32x", version, 0, called.ljust(16), calling.ljust(16))
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, (abstract, transfers) in enumerate(contexts):
        inner = struct.pack(">BBBB", 2 * number + 1, 0, 0, 0) + item(0x30, abstract.encode())
        for transfer in transfers:
            inner += item(0x40, transfer.encode())
        body += item(0x20, inner)
    body += item(0x50, item(0x51, struct.pack(">L", max_pdu)) + item(0x52, b"1.2.3.4"))
    return pdu(0x01, body)


def command(elements: dict[int, bytes]) -> bytes:
    """A command set: implicit VR, group 0000, group length first."""
    body = b"".join(
        struct.pack("<HHL", 0, number, len(value)) + value for number, value in sorted(elements.items())
    )
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def us(value: int) -> bytes:
    return struct.pack("<H", value)


def ui(value: str) -> bytes:
    raw = value.encode()
    return raw + b"\0" * (len(raw) % 2)


def pdata(context_id: int, control: int, data: bytes) -> bytes:
    """A P-DATA-TF PDU with one PDV; control bit 0: command, bit 1: last fragment."""
    return pdu(0x04, struct.pack(">LBB", len(data) + 2, context_id, control) + data)


def store_command(sop_class: str, uid: str, message_id: int = 1) -> bytes:
    return command(
        {
            0x0002: ui(sop_class),
            0x0100: us(0x0001),
            0x0110: us(message_id),
            0x0700: us(0),
            0x0800: us(1),
            0x1000: ui(uid),
        }
    )


ECHO = command({0x0002: ui(VERIFICATION), 0x0100: us(0x0030), 0x0110: us(1), 0x0800: us(0x0101)})


class Raw:
    """A TCP connection to the server, over TLS where there is a context for it."""

    def __init__(self, port: int, timeout: float = 10.0, context: ssl.SSLContext | None = None) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.sock.settimeout(timeout)
        if context is not None:
            self.sock = context.wrap_socket(self.sock, server_hostname="127.0.0.1")

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_until_refused(self, data: bytes) -> None:
        """Send what the server may not want to read to its end."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self.sock.sendall(data)

    def stop_sending(self) -> None:
        """Close our half of the connection, if the server has not closed all of it."""
        with contextlib.suppress(OSError):
            # Not SSLSocket's own, which would end the decryption of what we receive too.
            socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def read_pdu(self) -> tuple[int, bytes]:
        """Type and body of the next PDU; type 0 when the server closed the connection."""
        head = self._read(6)
        if len(head) < 6:
            return 0, b""
        kind, _, length = struct.unpack(">BBL", head)
        return kind, self._read(length)

    def until_closed(self) -> list[int]:
        """The types of the PDUs that come before the server closes."""
        kinds: list[int] = []
        while kind := self.read_pdu()[0]:
            kinds.append(kind)
        return kinds

    def _read(self, number: int) -> bytes:
        data = b""
        while len(data) < number:
            try:
                piece = self.sock.recv(number - len(data))
            except (ConnectionError, ssl.SSLError):  # TLS says so when one half is closed without a word
                return b""
            if not piece:
                return data
            data += piece
        return data
