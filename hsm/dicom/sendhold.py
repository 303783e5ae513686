"""An association's socket for one thread, while pynetdicom's own thread for it rests.

pynetdicom reads and writes a connection on a thread of its own, which looks for work every
millisecond and hands it on by queues. A sub-operation is one message and one answer, over and over:
whoever sends them takes the socket from that thread (:meth:`Hold.take`) between two rounds of its
loop, when nothing is queued or half read, and gives it back (:meth:`Hold.let_go`) whenever anything
else is to happen. What arrives and is not the expected answer is given to pynetdicom as it came.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from hsm.dicom.peers import gone
from hsm.dicom.sendwire import PDU_HEAD_BYTES
from hsm.dicom.sockets import acknowledge_at_once
from hsm.ranges import Piece

if TYPE_CHECKING:
    from pynetdicom.association import Association

TAKE_SECONDS: Final = 10.0
"""For pynetdicom's thread to finish what it does; it may be in the middle of reading a PDU."""
_ROUND_SECONDS: Final = 0.05
_RECEIVE_BYTES: Final = 65536
_ESTABLISHED: Final = "Sta6"
PDU_BYTES_MAX: Final = 65536
"""Nothing that is a response to a C-STORE is longer."""


class Lost(Exception):
    """The association ended or the peer did not answer; the message says which."""


class Hold:
    """Takes an association's socket and gives it back. One thread uses it.

    :param patience_seconds: for the peer to take any byte, and to answer.
    """

    def __init__(self, assoc: Association, patience_seconds: float) -> None:
        self._assoc = assoc
        self._dul: Any = assoc.dul
        self._patience = patience_seconds
        self._changed = threading.Condition()
        self._wanted = False
        self._rests = False
        self._turn = 0
        self._received = b""
        self._sock: socket.socket | None = None
        self._timeouts: dict[int, bytes] = {}
        self._next_primitive: Callable[[], bool] = self._dul._process_recv_primitive
        self._send_pdu: Callable[[Any], None] = self._dul.send_pdu
        self._replace(self._round, self._queue_primitive)

    @property
    def held(self) -> bool:
        return self._wanted

    def take(self) -> None:
        """Have the socket, if it is not had already; what came or was queued before has been dealt with.

        While it is had, what the peer sends unasked is found before its next answer: its stream is one.

        :raises Lost: the association is over, or busy for too long.
        """
        deadline = time.monotonic() + max(TAKE_SECONDS, self._patience)
        while not self._wanted:
            self._park(deadline)
            if self._quiet():
                self._open()
                return
            self.let_go()
            time.sleep(0.0005)
            if time.monotonic() > deadline:
                raise Lost(f"the connection was busy for {self._patience:g} s")

    def let_go(self) -> None:
        """Give the socket back. Any thread may call it; it takes effect at once."""
        with self._changed:
            if not self._wanted:
                return
            self._restore()
            self._wanted = self._rests = False
            self._turn += 1
            self._changed.notify_all()
        self._dul._idle_timer.restart()  # it counts what comes to pynetdicom only
        if self._assoc.is_requestor:
            self._assoc._reactor_checkpoint.set()

    def write(self, buffers: Sequence[Piece]) -> None:
        """Send all of these in as few system calls as it takes.

        :raises Lost: the peer takes nothing more; the connection is cut, in the middle of a message.
        """
        sock, left = self._sock, list(buffers)
        assert sock is not None
        try:
            if isinstance(sock, ssl.SSLSocket):
                sock.sendall(b"".join(left))
                return
            while left := after(left, sock.sendmsg(left)):
                pass
        except (BlockingIOError, TimeoutError) as error:
            self.cut()
            raise Lost(f"peer took nothing for {self._patience:g} s") from error
        except OSError as error:
            self.cut()
            raise Lost(f"peer ended the association: {error.strerror or error}") from error

    def read(self) -> bytes:
        """The next PDU, whole.

        :raises Lost: none comes, or one that is too long.
        """
        while True:
            data = self._received
            if len(data) >= PDU_HEAD_BYTES:
                size = PDU_HEAD_BYTES + int.from_bytes(data[2:PDU_HEAD_BYTES], "big")
                if size > PDU_BYTES_MAX:
                    self.hand_over()
                    raise Lost(f"peer sent a PDU of {size} bytes instead of a C-STORE response")
                if len(data) >= size:
                    self._received = data[size:]
                    return data[:size]
            self._received += self._more()

    def hand_over(self, pdu: bytes = b"") -> None:
        """Let pynetdicom read ``pdu`` and all that came after it, and give the socket back."""
        rest, self._received = self._received, b""
        while self._pending():  # what TLS has decrypted already, nobody else would look for
            rest += self._more()
        self._dul.socket.hold(pdu + rest)
        self.let_go()

    @property
    def leftover(self) -> bool:
        """Whether bytes came after the PDU that was read last."""
        return bool(self._received) or self._pending()

    def close(self) -> None:
        """Give the socket back and leave pynetdicom's thread as it was found."""
        self.let_go()
        self._replace(self._next_primitive, self._send_pdu)

    def cut(self) -> None:
        """End the connection in the middle of a message, where no A-ABORT can be said."""
        sock = self._dul.socket
        if sock is not None:
            sock.cut()
        self.let_go()

    def _more(self) -> bytes:
        assert self._sock is not None
        acknowledge_at_once(self._sock)
        try:
            data = self._sock.recv(_RECEIVE_BYTES)
        except (BlockingIOError, TimeoutError) as error:
            raise Lost(f"no answer within {self._patience:g} s") from error
        except OSError as error:
            raise Lost(f"peer ended the association: {error.strerror or error}") from error
        if not data:
            raise Lost("peer ended the association")
        return data

    def _open(self) -> None:
        """Blocking calls with the kernel's time-outs: a long write is then one system call."""
        sock = self._dul.socket.socket
        self._sock = sock
        if isinstance(sock, ssl.SSLSocket):
            sock.settimeout(self._patience)
            return
        limit = struct.pack("ll", int(self._patience), int(self._patience % 1 * 1_000_000))
        try:
            sock.settimeout(None)
            for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                self._timeouts[option] = sock.getsockopt(socket.SOL_SOCKET, option, len(limit))
                sock.setsockopt(socket.SOL_SOCKET, option, limit)
        except OSError as error:
            self.let_go()
            raise Lost(f"peer ended the association: {error.strerror or error}") from error

    def _restore(self) -> None:
        """The receive lane has time-outs of its own."""
        for option, value in self._timeouts.items():
            with contextlib.suppress(OSError):
                assert self._sock is not None
                self._sock.setsockopt(socket.SOL_SOCKET, option, value)
        self._timeouts.clear()

    def _pending(self) -> bool:
        return isinstance(self._sock, ssl.SSLSocket) and bool(self._sock.pending())

    def _park(self, deadline: float) -> None:
        """Return when pynetdicom's threads for this association rest.

        :raises Lost: they have ended, or do not come to rest.
        """
        assoc = self._assoc
        if assoc.is_requestor:
            assoc._reactor_checkpoint.clear()
        with self._changed:
            self._wanted = True
        try:
            while not self._resting():
                if gone(assoc):
                    raise Lost("peer ended the association")
                if time.monotonic() > deadline:
                    raise Lost(f"the connection was busy for {self._patience:g} s")
        except BaseException:
            self.let_go()
            raise

    def _resting(self) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._rests, _ROUND_SECONDS)

    def _quiet(self) -> bool:
        """Whether pynetdicom has nothing left to do, and nothing half done."""
        dul = self._dul
        if gone(self._assoc) or dul.state_machine.current_state != _ESTABLISHED:
            self.let_go()
            raise Lost("peer ended the association")
        return (
            dul.event_queue.empty()
            and dul.to_provider_queue.empty()
            and dul._recv_pdu.empty()
            and self._assoc.dimse.message is None
            and not (dul.socket is None or dul.socket.socket is None)
            and not dul.socket.ready
        )

    def _replace(self, next_primitive: Callable[[], bool], send_pdu: Callable[[Any], None]) -> None:
        self._dul._process_recv_primitive = next_primitive
        self._dul.send_pdu = send_pdu

    # Called on pynetdicom's threads.

    def _round(self) -> bool:
        """At the beginning of each round of its loop."""
        if self._wanted:
            with self._changed:
                turn = self._turn
                self._rests = self._wanted
                self._changed.notify_all()
                # Once the socket was given back there is a round to do, even if it is taken again by now.
                while self._wanted and turn == self._turn and not self._dul._kill_thread:
                    self._changed.wait(_ROUND_SECONDS)
        return bool(self._next_primitive())

    def _queue_primitive(self, primitive: Any) -> None:
        """Whatever is to be sent by pynetdicom's thread wakes it."""
        self._send_pdu(primitive)
        self.let_go()


def after(buffers: list[Piece], sent: int) -> list[Piece]:
    """What is left of ``buffers`` when their first ``sent`` bytes are gone."""
    if sent == sum(map(len, buffers)):
        return []
    for number, each in enumerate(buffers):
        if sent < len(each):
            return [memoryview(each)[sent:], *buffers[number + 1 :]]
        sent -= len(each)
    return []
