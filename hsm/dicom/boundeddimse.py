"""DIMSE messages, gathered from their PDVs within bounds (PS3.7, PS3.8 annex E)."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA

from hsm.dicom.boundedsocket import INVALID_PDU
from hsm.dicom.peers import peer_name
from hsm.log import get_logger, neutral

log = get_logger(__name__)

COMMAND_BYTES_MAX: Final = 64 * 1024
CANCELS_MAX: Final = 10
"""C-CANCELs of unknown requests that are remembered, the latest."""
GATHERED_BYTES_MAX: Final = 64 * 2**20
"""Of a message that pynetdicom gathers in memory: of a query, or of a C-STORE that its receive lane
(:mod:`hsm.dicom.lane`), which keeps none in memory, does not take."""


@dataclass(frozen=True)
class Limits:
    """What one peer may make us hold."""

    pdu_bytes: int
    dataset_bytes: int


class CappedBuffer(BytesIO):
    """Takes any number of bytes, keeps ``limit`` of them, and knows whether there were more."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._room = limit
        self.overflowed = False

    def write(self, data: Any) -> int:
        """Like BytesIO.write, but bytes beyond the limit are dropped."""
        size = len(data)
        if size > self._room:
            self.overflowed = True
            self._room = 0
            self.seek(0)
            self.truncate()
        if not self.overflowed:
            self._room -= super().write(data)
        return size


class BoundedDimse(DIMSEServiceProvider):
    """Gathers messages without growing beyond the limits."""

    def __init__(self, assoc: Association, limits: Limits) -> None:
        super().__init__(assoc)
        self._limits = limits

    def receive_primitive(self, primitive: Any) -> None:
        """Take a P-DATA primitive; one that makes no sense aborts the association.

        Its PDVs are taken one by one: the original drops those that follow a complete message.
        """
        for pdv in primitive.presentation_data_value_list:
            single: Any = P_DATA()
            single.presentation_data_value_list = [list(pdv)]
            if not self._receive(single, pdv[1][:1]):
                self.message = None
                self.dul.event_queue.put(INVALID_PDU)
                return

    def _receive(self, primitive: Any, control: bytes) -> bool:
        if self.message is None:
            self.message = DIMSEMessage()
            self.message.data_set = CappedBuffer(min(self._limits.dataset_bytes, GATHERED_BYTES_MAX))
            self.message.encoded_command_set = CappedBuffer(COMMAND_BYTES_MAX)
        name = peer_name(self.assoc)
        # PS3.8 section E.2: a message is its command, then its data. Its class is set by its command.
        commanded = type(self.message) is not DIMSEMessage
        if control and commanded is bool(control[0] & 1):
            log.warning("%s sent %s", name, "a command amid data" if commanded else "data without a command")
            return False
        commands = self.message.encoded_command_set
        if len(self.cancel_req) >= CANCELS_MAX:
            del self.cancel_req[next(iter(self.cancel_req))]
        try:
            super().receive_primitive(primitive)
            if not commanded and self.message is not None:
                # A C-CANCEL that came before this request was for an older one of the same number.
                self.cancel_req.pop(self.message.command_set.get("MessageID"), None)
        except Exception as error:  # noqa: BLE001  whatever a damaged message makes the decoder raise
            log.warning("%s sent a message that cannot be decoded: %s", name, neutral(str(error)))
            return False
        if isinstance(commands, CappedBuffer) and commands.overflowed:
            log.warning("%s sent a command set beyond %d bytes", name, COMMAND_BYTES_MAX)
            return False
        return True


class SendingDimse(BoundedDimse):
    """For associations that we only send on: answers are taken from ``msg_queue`` by who waits.

    pynetdicom's association thread looks for requests with :meth:`get_msg` and drops the answers that
    it gets instead, if it is quicker; its own remedy, to pause the thread, leaves a gap.
    """

    def get_msg(self, block: bool = False) -> Any:
        """Nothing, ever: a peer that we send to has no requests for us."""
        return None, None
