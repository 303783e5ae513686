"""Presentation contexts of an association request: which are accepted, in which transfer syntax."""

from __future__ import annotations

from typing import Any

from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from hsm.dicom.admission import choose
from hsm.dicom.contexts import Proposal, is_storage_class


def answer_contexts(assoc: Association) -> None:
    """Have pynetdicom accept what :func:`hsm.dicom.admission.choose` chooses.

    :raises ValueError: a request that its parser takes and that is absurd all the same.
    """
    request: Any = assoc.requestor.primitive
    proposed = request.presentation_context_definition_list
    choice = choose(
        [Proposal(str(cx.abstract_syntax), tuple(map(str, cx.transfer_syntax))) for cx in proposed]
    )
    for cx, syntaxes in zip(proposed, choice.narrowed, strict=True):
        # pynetdicom chooses from one list for each SOP class; by narrowing what was proposed we
        # choose for each context.
        cx.transfer_syntax = list(syntaxes)
    assoc.acceptor.supported_contexts = [_supported(uid, ts) for uid, ts in choice.supported.items()]


def _supported(abstract_syntax: str, transfer_syntaxes: tuple[str, ...]) -> PresentationContext:
    context = build_context(abstract_syntax, list(transfer_syntaxes))
    if is_storage_class(abstract_syntax):
        # For C-GET the requestor takes the SCP role (PS3.4 section C.5.3).
        context.scu_role = context.scp_role = True
    return context
