"""Telling a peer something over an association of its own: one N-service request after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Final

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.dsutils import encode

from hsm.config import AeConfig, DicomConfig
from hsm.dicom.outbound import Outbound
from hsm.dicom.requestor import named, open_association
from hsm.dicom.sendhold import Lost
from hsm.dicom.sendline import queued_answer
from hsm.errors import Retryable

SUCCESS: Final = 0x0000
WARNINGS: Final = (0x0001, 0x0107, 0x0116)
"""Of PS3.7 annex C: the message was taken."""


class Telling:
    """The association, while it is open."""

    def __init__(self, assoc: Association, name: str) -> None:
        self._assoc = assoc
        self._message_id = 0
        self.name = name
        """The peer, for messages."""

    def tell(self, request: Any, keyword: str, dataset: Dataset) -> tuple[int, str]:
        """Send one request; status and comment of the answer.

        :param request: pynetdicom's primitive, but for message ID and dataset.
        :param keyword: the primitive's attribute that the dataset belongs into.
        :raises Lost: no answer came.
        """
        (context,) = self._assoc.accepted_contexts
        syntax = context.transfer_syntax[0]
        self._message_id += 1
        request.MessageID = self._message_id
        encoded = encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
        setattr(request, keyword, BytesIO(encoded or b""))
        self._assoc.dimse.send_msg(request, context.context_id or 0)
        return queued_answer(self._assoc, self._message_id, type(request))


@contextmanager
def telling(
    peer: AeConfig,
    our_ae_title: str,
    config: DicomConfig,
    sop_class: str,
    outbound: Outbound,
    *,
    as_scp: bool = False,
) -> Iterator[Telling]:
    """An association with a configured AE; released at the end.

    :param outbound: knows after this whether the peer can be reached.
    :param as_scp: we are the SCP of the class on it, as of who reports events.
    :raises Retryable: it cannot be had, or the peer does not answer on it.
    """
    name = named(peer)
    try:
        gate = outbound.gate(peer)
        with open_association(peer, our_ae_title, config, sop_class, as_scp=as_scp, gate=gate) as assoc:
            yield Telling(assoc, name)
    except Lost as error:
        raise Retryable(f"{name}: {error}") from error
