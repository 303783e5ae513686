"""Sub-operations over one association: which context, which bytes, and what the peer answers."""

from __future__ import annotations

import enum
import itertools
import queue
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext

from hsm.dicom.contexts import Accepted, choose_context
from hsm.dicom.peers import gone
from hsm.dicom.sendhold import Hold, Lost
from hsm.dicom.sendwire import command_pdus, dataset_pdus, pdu_data_bytes, store_command, store_response
from hsm.dicom.transcode import CannotTranscode, targets, transcode
from hsm.errors import Corrupt, DriverError, Permanent
from hsm.model import InstanceRef
from hsm.part10 import dataset_offset
from hsm.ranges import Held, Piece, Range
from hsm.retrieval import Readable

LOOK_SECONDS: Final = 0.2
TRANSCODE_BYTES_MAX: Final = 256 << 20
"""Larger instances are not converted: the whole of one is in memory then, several times."""


class Verdict(enum.Enum):
    """What became of one sub-operation; the counters of a retrieve."""

    COMPLETED = "completed"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SubOperation:
    """The outcome of sending one instance."""

    verdict: Verdict
    reason: str = ""
    """Why it failed or what the peer warns of, in words."""
    passing: bool = False
    """Whether what failed may go well later."""


def verdict_of(status: int) -> Verdict:
    """A C-STORE response's status by its class, PS3.7 section C.1."""
    if status == 0x0000:
        return Verdict.COMPLETED
    if status & 0xF000 == 0xB000 or status in (0x0001, 0x0107, 0x0116):
        return Verdict.WARNING
    return Verdict.FAILED


def is_passing(status: int) -> bool:
    """Whether a refusal may not last: out of resources (A7xx), or a general failure (01xx, PS3.7 annex C)
    that does not say that it will never be otherwise."""
    return status & 0xFF00 == 0xA700 or (status & 0xFF00 == 0x0100 and status not in _LASTING)


_LASTING: Final = frozenset({0x0111, 0x0117, 0x0118, 0x0119, 0x0122})
"""The instance is there with other content, or it or its class is not understood."""


@dataclass(frozen=True, slots=True)
class Originator:
    """The C-MOVE that a sub-operation belongs to, PS3.7 section 9.1.1.1.8."""

    ae_title: str
    message_id: int


def _content(instance: InstanceRef, content: Range, target: str) -> Range:
    """The Part 10 file to send, or its dataset alone made anew where ``target`` is not as stored.

    :raises CannotTranscode: it cannot be converted, or is too large to be.
    :raises DriverError: it cannot be read.
    """
    stored = instance.transfer_syntax_uid
    if target == stored:
        return content
    if content.size > TRANSCODE_BYTES_MAX:
        raise CannotTranscode(
            f"{content.size} bytes are too many to convert; the peer accepts nothing as it is stored"
        )
    part10 = content.whole()
    return Held(transcode(memoryview(part10)[dataset_offset(part10) :], stored, target))


def _datasets(content: Range, *, part10: bool) -> tuple[int, Iterator[Piece]]:
    """The length of the dataset and its pieces.

    :raises DriverError: it cannot be read, or is no Part 10 file of ours.
    """
    pieces = content.pieces()
    first = memoryview(next(pieces))
    start = dataset_offset(first) if part10 else 0
    if start >= content.size:
        raise Corrupt("the file holds no dataset")
    return content.size - start, itertools.chain([first[start:]], pieces)


class Line:
    """An association that sub-operations go over, and what its peer accepts."""

    def __init__(self, assoc: Association, *, as_acceptor: bool) -> None:
        self.assoc = assoc
        self.hold = Hold(assoc, assoc.dimse_timeout or 60.0)
        self._accepted = _accepted(assoc.accepted_contexts, as_acceptor=as_acceptor)
        self._chosen: dict[tuple[str, str], Accepted | None] = {}
        self._data_bytes = pdu_data_bytes(assoc.dimse.maximum_pdu_size)
        self._message_id = 0

    def send(self, item: Readable, originator: Originator | None) -> SubOperation:
        """Send one instance and wait for the peer's answer.

        :raises Lost: no answer.
        """
        instance = item.instance
        context = self._context(instance.sop_class_uid, instance.transfer_syntax_uid)
        if context is None:
            wanted = f"{instance.sop_class_uid} in {instance.transfer_syntax_uid}"
            return SubOperation(Verdict.FAILED, f"peer accepts no {wanted}, nor what it converts to")
        try:
            content = _content(instance, item.content, context.transfer_syntax)
            size, pieces = _datasets(content, part10=content is item.content)
        except (CannotTranscode, DriverError) as error:
            return _unread(error)
        self._message_id = self._message_id % 0xFFFF + 1
        move = None if originator is None else (originator.ae_title, originator.message_id)
        command = store_command(instance.sop_class_uid, instance.sop_instance_uid, self._message_id, move)
        self.hold.take()
        alone = self.assoc.dimse.msg_queue.empty()
        number, room = context.context_id, self._data_bytes
        try:
            for buffers in dataset_pdus(pieces, size, number, room, command_pdus(command, number, room)):
                self.hold.write(buffers)
        except DriverError as error:
            # In the middle of a message nothing else can be said.
            self.hold.cut()
            return _unread(error)
        return _outcome(*self._answer(number, alone=alone))

    def _context(self, sop_class: str, stored: str) -> Accepted | None:
        key = (sop_class, stored)
        if key not in self._chosen:
            self._chosen[key] = choose_context(self._accepted, sop_class, stored, targets(stored))
        return self._chosen[key]

    def _answer(self, context_id: int, *, alone: bool) -> tuple[int, str]:
        """The status and comment of the response: read here, unless there is anything odd about it.

        :raises Lost: none comes, or something else.
        """
        if not alone:
            self.hold.let_go()
            return queued_answer(self.assoc, self._message_id, C_STORE)
        pdu = self.hold.read()
        response = store_response(pdu, context_id)
        if response is None or response.message_id != self._message_id:
            self.hold.hand_over(pdu)
            return queued_answer(self.assoc, self._message_id, C_STORE)
        if self.hold.leftover:
            self.hold.hand_over()
        return response.status, response.comment


def _unread(error: Exception) -> SubOperation:
    """Our own storage did not give an instance while it was sent: it may later, or another copy does."""
    return SubOperation(
        Verdict.FAILED, str(error), passing=not isinstance(error, CannotTranscode | Permanent)
    )


def _outcome(status: int, comment: str) -> SubOperation:
    verdict = verdict_of(status)
    if verdict is Verdict.COMPLETED:
        return SubOperation(verdict)
    return SubOperation(verdict, f"peer answers {status:04X} {comment}".rstrip(), is_passing(status))


def queued_answer(assoc: Association, message_id: int, kind: type[Any]) -> tuple[int, str]:
    """Wait for a response that pynetdicom reads: its status and comment.

    :param kind: pynetdicom's primitive of the request.

    :raises Lost: none comes, or something else.
    """
    patience = assoc.dimse_timeout or 60.0
    deadline = time.monotonic() + patience
    while True:
        try:
            _, response = assoc.dimse.msg_queue.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            response = None
        if isinstance(response, kind) and response.MessageIDBeingRespondedTo == message_id:
            if response.Status is None:
                raise Lost("peer answered without a status")
            return int(response.Status), str(response.ErrorComment or "")
        if response is not None:
            raise Lost(f"peer sent {type(response).__name__} instead of a {kind.__name__} response")
        if gone(assoc):
            raise Lost("peer ended the association")
        if time.monotonic() > deadline:
            raise Lost(f"no answer within {patience:g} s")


def _accepted(contexts: Sequence[PresentationContext], *, as_acceptor: bool) -> list[Accepted]:
    """The contexts in which we may send: those of ours, or those whose peer took the SCP role."""
    return [
        Accepted(int(cx.context_id or 0), str(cx.abstract_syntax), str(cx.transfer_syntax[0]))
        for cx in contexts
        if not as_acceptor or cx.as_scu
    ]
