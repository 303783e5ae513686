"""One DIMSE request and the ways to answer it, PS3.7 chapters 7 and 9."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association

from hsm.dicom.peers import gone

NOT_AUTHORIZED: Final = 0x0124
"""Refused: not authorized, PS3.7 section C.5.5."""
COMMENT_CHARACTERS_MAX: Final = 64
COUNT_MAX: Final = 0xFFFF
UNSENT_MAX: Final = 200
"""PDUs that may wait to be sent before a producer of many responses pauses."""
_LONGEST_SHORT_VALUE: Final = 0xFFFE


@dataclass(frozen=True, slots=True)
class Counts:
    """Sub-operations of a retrieve, PS3.7 section 9.1.3.1.6. Any size; the wire's are 16 bits."""

    remaining: int
    completed: int
    failed: int
    warning: int

    def on_the_wire(self) -> Counts:
        """The same counts as they are sent: 65,535 stands for "at least 65,535".

        The four numbers are unsigned 16-bit (PS3.7 section E.1), and the standard does not say what
        a retrieve of more instances does. Refusing would keep such a study from ever leaving the
        archive, so everything is sent and the counters saturate. Status and Failed SOP Instance UID
        List, which a peer must rely on, stay exact.
        """
        return Counts(
            *(min(n, COUNT_MAX) for n in (self.remaining, self.completed, self.failed, self.warning))
        )


def error_comment(text: str) -> str:
    """``text`` as an Error Comment (0000,0902): LO, 64 characters of the default repertoire."""
    plain = text.replace("\\", "/").encode("ascii", "replace").decode("ascii")
    plain = " ".join("".join(c if " " <= c <= "~" else " " for c in plain).split())
    if len(plain) <= COMMENT_CHARACTERS_MAX:
        return plain
    return plain[: COMMENT_CHARACTERS_MAX - 3].rstrip() + "..."


def failed_list(sop_instance_uids: Sequence[str], transfer_syntax: str) -> bytes:
    """An identifier with Failed SOP Instance UID List (0008,0058) alone, PS3.4 section C.4.2.1.4.2.

    Beyond 64 KiB the list does not fit the 16-bit length of an explicit UI and goes as UN with a
    32-bit one, as PS3.5 section 6.2.2 note 4 says.
    """
    value = "\\".join(sop_instance_uids).encode("ascii", "replace")
    value += b"\0" * (len(value) % 2)
    order = ">" if transfer_syntax == ExplicitVRBigEndian else "<"
    if transfer_syntax == ImplicitVRLittleEndian:
        head = struct.pack("<HHL", 0x0008, 0x0058, len(value))
    elif len(value) > _LONGEST_SHORT_VALUE:
        head = struct.pack(f"{order}HH2sHL", 0x0008, 0x0058, b"UN", 0, len(value))
    else:
        head = struct.pack(f"{order}HH2sH", 0x0008, 0x0058, b"UI", len(value))
    if transfer_syntax != DeflatedExplicitVRLittleEndian:
        return head + value
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = deflate.compress(head + value) + deflate.flush()
    return body + b"\0" * (len(body) % 2)


class Call:
    """A request that came on an association, with the presentation context it came in."""

    def __init__(
        self,
        assoc: Association,
        request: Any,
        context_id: int,
        on_refused: Callable[[str, str], None] = lambda act, why: None,
    ) -> None:
        """
        :param on_refused: told what was wanted and why it was refused.
        """
        self.on_refused = on_refused
        context = assoc._accepted_cx[context_id]
        self.assoc = assoc
        self.request = request
        self.context_id = context_id
        self.abstract_syntax = str(context.abstract_syntax)
        self.transfer_syntax = str(context.transfer_syntax[0])
        self.calling = (assoc.requestor.ae_title or "").strip()
        self.message_id = int(request.MessageID)

    @property
    def cancelled(self) -> bool:
        """Whether a C-CANCEL for this request has come (PS3.7 section 9.3.2.3)."""
        return self.message_id in self.assoc.dimse.cancel_req

    @property
    def caller_gone(self) -> bool:
        return gone(self.assoc)

    def has_room(self) -> bool:
        """Wait until the peer has taken most of what was sent; False when it is gone.

        Responses queue in memory: a caller that reads slowly must slow us down too.
        """
        while self.assoc.dul.to_provider_queue.qsize() > UNSENT_MAX:
            if self.caller_gone:
                return False
            time.sleep(0.005)
        return not self.caller_gone

    def refuse(self, act: str, why: str) -> None:
        """Answer that the peer may not do this."""
        self.on_refused(act, why)
        self.reply(NOT_AUTHORIZED, why)

    def reply(
        self,
        status: int,
        comment: str = "",
        *,
        identifier: bytes | None = None,
        counts: Counts | None = None,
        with_remaining: bool = False,
    ) -> None:
        """Send one response. Nothing happens if the peer has gone.

        :param comment: for Error Comment; shortened to what fits.
        :param counts: for C-MOVE and C-GET.
        :param with_remaining: send the remaining count too, which belongs into Pending and Cancel
            responses only (PS3.4 section C.4.2.1.6).
        """
        response = type(self.request)()
        response.MessageIDBeingRespondedTo = self.message_id
        for keyword in ("AffectedSOPClassUID", "AffectedSOPInstanceUID"):
            requested = keyword.replace("Affected", "Requested")  # as the requests of N-services have it
            value = getattr(self.request, keyword, None) or getattr(self.request, requested, None)
            if value is not None:
                setattr(response, keyword, value)
        response.Status = status
        if comment and hasattr(response, "ErrorComment"):
            response.ErrorComment = error_comment(comment)
        if counts is not None:
            sent = counts.on_the_wire()
            response.NumberOfCompletedSuboperations = sent.completed
            response.NumberOfFailedSuboperations = sent.failed
            response.NumberOfWarningSuboperations = sent.warning
            if with_remaining:
                response.NumberOfRemainingSuboperations = sent.remaining
        if identifier is not None:
            response.Identifier = BytesIO(identifier)
        self.assoc.dimse.send_msg(response, self.context_id)
