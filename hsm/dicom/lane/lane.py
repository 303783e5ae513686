"""One association's C-STOREs, taken out of the stream of PDUs on pynetdicom's reading thread."""

from __future__ import annotations

import struct
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from hsm.dicom.boundeddimse import COMMAND_BYTES_MAX, Limits
from hsm.dicom.boundedsocket import CLOSED, INVALID_PDU, BoundedSocket
from hsm.dicom.contexts import is_storage_class
from hsm.dicom.lane.message import StoreRequest, encode_response, parse_store
from hsm.dicom.lane.wire import BUFFER_BYTES, ClosedError, Wire
from hsm.dicom.peers import peer_name
from hsm.dicom.store import Reception, Storage
from hsm.log import context as log_context
from hsm.log import get_logger

if TYPE_CHECKING:
    from pynetdicom.association import Association

log = get_logger(__name__)

DIGEST_BYTES: Final = 256 * 1024
"""Gathered before they are digested and written: few hand-overs, and the peer goes on sending."""
SLOWEST_BYTES_PER_SECOND: Final = 1000
"""An instance that takes longer than one PDU may must come at least as fast."""
RESPONSE_BYTES_MAX: Final = 512
IDLE_WAIT_SECONDS: Final = 0.25
_P_DATA: Final = 0x04
_PDU_HEAD = struct.Struct(">BBL")
_PDV_HEAD = struct.Struct(">LBB")
_COMMAND, _LAST = 1, 2


class Host(Protocol):
    """What the server is to the lane."""

    def rights(self, assoc: Association) -> frozenset[str]: ...

    def refused(self, assoc: Association, act: str, why: str) -> None:
        """Its peer was refused something."""

    def enter(self, assoc: Association) -> None:
        """A request is under way."""

    def leave(self, assoc: Association) -> None: ...

    def is_busy(self, assoc: Association) -> bool: ...


class _InvalidError(Exception):
    """What came is no sequence of PDVs that can be (PS3.8 annex E)."""


class Lane:
    """Reads PDUs in the place of ``DULServiceProvider._read_pdu_data``.

    Between two calls it stands between two PDUs. A command set that is complete and a C-STORE's makes
    a :class:`~hsm.dicom.store.Reception`; the data fragments that follow go into it; its answer is
    sent from here. All else is given back: what was read goes before what comes, and pynetdicom reads
    it as if it came just now.
    """

    def __init__(self, assoc: Association, sock: BoundedSocket, storage: Storage, host: Host, limits: Limits):
        self._assoc = assoc
        self._dul = assoc.dul
        self._socket = sock
        self._storage = storage
        self._host = host
        self._limits = limits
        self._stock = assoc.dul._read_pdu_data
        self._wire: Wire | None = None
        self._ended = False
        # Of a command set that is not complete: its PDVs as they came, and what they hold.
        self._fragments: list[bytes] = []
        self._command = b""
        # Of a C-STORE under way.
        self._request: StoreRequest | None = None
        self._reception: Reception | None = None
        self._began = 0.0
        self._pieces: list[memoryview] = []
        self._gathered = 0

    def read(self) -> None:
        """Read what comes until there is nothing for a moment, or it is for pynetdicom."""
        if not self._ours():
            self._give_back(0)
            self._drop()
            self._stock()
            return
        try:
            self._run()
        except ClosedError as error:
            if self._reception is not None:
                log.warning("%s left in the middle of a C-STORE: %s", peer_name(self._assoc), error)
            self._end(CLOSED)
        except _InvalidError as error:
            log.warning("%s sent what cannot be understood: %s", peer_name(self._assoc), error)
            self._end(INVALID_PDU)
        except BaseException:
            self._drop()
            raise
        finally:
            self._assoc._reactor_checkpoint.set()

    def close(self) -> None:
        """The association is over: forget what was under way, and the buffer it came into."""
        self._drop()
        self._wire = None

    def _ours(self) -> bool:
        """Whether the association stands and pynetdicom is between two messages."""
        dul = self._dul
        return (
            not self._ended
            and dul.state_machine.current_state == "Sta6"
            and self._assoc.dimse.message is None
            and dul.event_queue.empty()
            and len(self._socket.held) <= BUFFER_BYTES
        )

    def _run(self) -> None:
        wire = self._wire
        if wire is None:
            assert self._socket.socket is not None
            wire = self._wire = Wire(self._socket.socket, self._socket.patience())
        wire.prepare()
        if self._socket.held:
            wire.put_back(self._socket.take_held())
        while self._pdu(wire):
            pass
        self._absorb()
        if wire.held:
            self._socket.hold(wire.take_all())

    def _wanted_elsewhere(self) -> bool:
        """Whether the thread has something to send, or to end."""
        dul = self._dul
        return bool(dul._kill_thread or dul.to_provider_queue.queue or dul.event_queue.queue)

    def _pdu(self, wire: Wire) -> bool:
        """Read one PDU; False when there is none, or it was given back."""
        if not wire.held:
            if self._wanted_elsewhere():
                return False
            self._make_room(wire, 1)
            if not wire.more(0):
                return False
        deadline = time.monotonic() + self._socket.patience()
        self._ensure(wire, _PDU_HEAD.size, _PDU_HEAD.size, deadline)
        kind, _, left = _PDU_HEAD.unpack_from(wire.view, wire.pos)
        if kind != _P_DATA or left + _PDU_HEAD.size > self._socket.pdu_bytes_max:
            if self._reception is not None:
                self._drop()
            self._give_back(0)
            self._stock()
            return False
        if self._reception is not None:
            self._check_pace()
        wire.pos += _PDU_HEAD.size
        while left:
            if left < _PDV_HEAD.size:
                return self._refuse(left, f"a PDU ends with {left} bytes that are no PDV")
            self._ensure(wire, _PDV_HEAD.size, left, deadline)
            length, _, control = _PDV_HEAD.unpack_from(wire.view, wire.pos)
            if length < 2 or length + 4 > left:
                return self._refuse(left, f"a PDV of {length} bytes in a PDU that has {left} left")
            if control & _COMMAND:
                left -= length + 4
                if not self._command_fragment(wire, length + 4, left, deadline):
                    return False
            elif self._reception is None:
                return self._refuse(left, "data without a command")
            else:
                wire.pos += _PDV_HEAD.size
                left -= _PDV_HEAD.size
                left -= self._data_fragment(wire, length - 2, left, not control & _LAST, deadline)
                if control & _LAST:
                    self._check_rest(wire, left, deadline)
                    self._answer(wire)
        return True

    def _refuse(self, left: int, why: str) -> bool:
        """Not to be understood: pynetdicom's own concern unless a C-STORE is under way."""
        if self._reception is not None:
            raise _InvalidError(why)
        self._give_back(left)
        self._stock()
        return False

    def _command_fragment(self, wire: Wire, size: int, left: int, deadline: float) -> bool:
        """Take one PDV of a command set; False if all of it was given back.

        :param size: of the PDV, its length field included.
        :param left: bytes of the PDU that follow it.
        """
        if self._reception is not None:
            raise _InvalidError("a command in the middle of a dataset")
        if len(self._command) + size > COMMAND_BYTES_MAX:
            self._give_back(size + left)
            self._stock()
            return False
        self._ensure(wire, size, size + left, deadline)
        pdv = bytes(wire.view[wire.pos : wire.pos + size])
        wire.pos += size
        self._fragments.append(pdv)
        self._command += pdv[_PDV_HEAD.size :]
        if not pdv[5] & _LAST:
            return True
        request = parse_store(pdv[4], self._command)
        if request is not None and self._begin(request):
            self._fragments, self._command = [], b""
            return True
        self._check_rest(wire, left, deadline)
        self._give_back(left)
        self._stock()
        return False

    def _begin(self, request: StoreRequest) -> bool:
        """Start a C-STORE, if it may go this way."""
        context = self._assoc._accepted_cx.get(request.context_id)
        if (
            context is None
            or not is_storage_class(str(context.abstract_syntax))
            or not self._others_are_done()
        ):
            return False
        calling = (self._assoc.requestor.ae_title or "").strip()
        self._reception = self._storage.receive(
            calling,
            self._host.rights(self._assoc),
            str(context.transfer_syntax[0]),
            request.sop_class_uid,
            request.sop_instance_uid,
            self._limits.dataset_bytes,
            partial(self._host.refused, self._assoc),
        )
        self._request = request
        self._began = time.monotonic()
        self._host.enter(self._assoc)
        # The association's own thread has nothing to look for meanwhile: it would look 1,000 times a second.
        self._assoc._reactor_checkpoint.clear()
        return True

    def _others_are_done(self) -> bool:
        """Whether what came before is answered. A peer that waited for its answer can be here before
        the thread that sent it has put everything away; one that did not wait is pynetdicom's."""
        deadline = time.monotonic() + IDLE_WAIT_SECONDS
        while self._host.is_busy(self._assoc) or not self._assoc.dimse.msg_queue.empty():
            if self._wanted_elsewhere() or time.monotonic() > deadline:
                return False
            time.sleep(0.0005)
        return True

    def _data_fragment(self, wire: Wire, body: int, left: int, more_follows: bool, deadline: float) -> int:
        """Take the body of a PDV of data; how many bytes it had."""
        taken = 0
        # If it is not the last, another PDU with another PDV must follow, or the dataset has no end.
        beyond = _PDU_HEAD.size + _PDV_HEAD.size if more_follows else 0
        while taken < body:
            if not wire.held:
                self._make_room(wire, left - taken + beyond)
                if time.monotonic() > deadline:
                    raise ClosedError("a PDU did not come to its end in time")
                if not wire.more(left - taken + beyond):
                    continue
            count = min(body - taken, wire.held)
            self._pieces.append(wire.view[wire.pos : wire.pos + count])
            wire.pos += count
            taken += count
            self._gathered += count
            if self._gathered >= DIGEST_BYTES:
                self._absorb()
        return taken

    def _absorb(self) -> None:
        """Digest and write what was gathered; its room in the buffer is free then."""
        if self._pieces:
            assert self._reception is not None
            self._reception.feed(self._pieces)
            self._pieces = []
            self._gathered = 0

    def _make_room(self, wire: Wire, wanted: int) -> None:
        """Room for what is wanted, as far as the buffer goes."""
        if wire.room < min(wanted, BUFFER_BYTES // 2) or not (wire.held or self._pieces):
            self._absorb()
            wire.compact()

    def _ensure(self, wire: Wire, count: int, needed: int, deadline: float) -> None:
        """Have ``count`` bytes in one piece."""
        if wire.held < count:
            if wire.pos + count > BUFFER_BYTES or not wire.room:
                self._absorb()
                wire.compact()
            wire.require(count, needed, deadline)

    def _check_rest(self, wire: Wire, left: int, deadline: float) -> None:
        """What follows a complete message in its PDU must be PDVs, before the message counts."""
        if not left:
            return
        if left > BUFFER_BYTES:
            raise _InvalidError(f"{left} bytes follow a complete message in its PDU")
        self._ensure(wire, left, left, deadline)
        pos, end = wire.pos, wire.pos + left
        while pos < end:
            length = _PDV_HEAD.unpack_from(wire.view, pos)[0] if end - pos >= _PDV_HEAD.size else 0
            if length < 2 or pos + length + 4 > end:
                raise _InvalidError("what follows a complete message in its PDU is no PDV")
            pos += length + 4

    def _check_pace(self) -> None:
        assert self._reception is not None
        elapsed = time.monotonic() - self._began
        if elapsed > self._socket.patience():
            came = self._reception.size + self._gathered
            if came < elapsed * SLOWEST_BYTES_PER_SECOND:
                raise ClosedError(f"{came} bytes of an instance came in {elapsed:.0f} s")

    def _answer(self, wire: Wire) -> None:
        reception, request = self._reception, self._request
        assert reception is not None and request is not None
        self._absorb()
        with log_context(peer=peer_name(self._assoc)):
            status, comment = reception.finish()
        self._reception = None
        try:
            wire.send(encode_response(request, status, comment))
        finally:
            self._host.leave(self._assoc)
        self._dul._idle_timer.restart()

    def _give_back(self, left: int) -> None:
        """Let pynetdicom read again what was read and not used.

        :param left: bytes of the PDU that was begun and not consumed.
        """
        again = [_PDU_HEAD.pack(_P_DATA, 0, len(pdv)) + pdv for pdv in self._fragments]
        self._fragments, self._command = [], b""
        if left:
            again.append(_PDU_HEAD.pack(_P_DATA, 0, left))
        if self._wire is not None and not self._ended:
            again.append(self._wire.take_all())
        self._socket.hold(b"".join(again))

    def _end(self, event: str) -> None:
        self._drop()
        self._ended = True
        self._dul.event_queue.put(event)

    def _drop(self) -> None:
        self._pieces, self._gathered = [], 0
        self._fragments, self._command = [], b""
        reception, self._reception = self._reception, None
        if reception is not None:
            reception.close()
            self._host.leave(self._assoc)


def install(assoc: Association, sock: BoundedSocket, storage: Storage, host: Host, limits: Limits) -> None:
    """Let C-STOREs of a new acceptor go through a lane. Call it before the association's threads start."""
    lane = Lane(assoc, sock, storage, host, limits)
    dul = assoc.dul
    run = dul.run

    def run_and_clean_up() -> None:
        try:
            run()
        finally:
            lane.close()

    setattr(dul, "run", run_and_clean_up)  # noqa: B010
    setattr(dul, "_read_pdu_data", lane.read)  # noqa: B010
