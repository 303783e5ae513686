"""Who gets an association and with which presentation contexts. Decided without a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hsm.config import AeConfig, Door
from hsm.dicom.contexts import Proposal, choose_syntax
from hsm.dicom.rights import AeBook
from hsm.dicom.secure import Security


@dataclass(frozen=True, slots=True)
class Rejection:
    """Result, source and reason of an A-ASSOCIATE-RJ, PS3.8 table 9-21, and the reason in words."""

    result: int
    source: int
    diagnostic: int
    reason: str


ACSE: Final = 2
"""Source of a rejection: the service provider, ACSE related; of ours only those of user identities."""
LOG_IN: Final = "log in"
"""The act that is refused with one, for the journal."""
CALLED_AE_UNKNOWN: Final = Rejection(1, 1, 7, "it called another AE title")
CALLING_AE_UNKNOWN: Final = Rejection(1, 1, 3, "its AE title has no rights here")
NOT_SECURED: Final = Rejection(1, 1, 1, "its AE title has to come over TLS")
OTHER_CERTIFICATE: Final = Rejection(1, 1, 3, "its certificate is not one of its AE title's")
OTHER_ADDRESS: Final = Rejection(1, 1, 3, "its address is not one of its AE title's")
OTHER_DOOR: Final = Rejection(1, 1, 3, "its AE title may not come in at this listener")
NOTHING_HERE: Final = Rejection(1, 1, 3, "nothing that its AE title may do can be done at this listener")
TOO_MANY: Final = Rejection(2, 3, 2, "as many associations as allowed are open")
TOO_MANY_TRIES: Final = Rejection(2, 3, 1, "too many wrong user identities came from its address")


def admit(called: str, calling: str, our_ae_title: str, check_called: bool, book: AeBook) -> Rejection | None:
    """:returns: None if the association is welcome, whatever its operations may be allowed to do."""
    if check_called and called != our_ae_title:
        return CALLED_AE_UNKNOWN
    if not book.rights(calling):
        return CALLING_AE_UNKNOWN
    return None


def admit_at(door: Door, calling: str, book: AeBook) -> Rejection | None:
    """Whether the listener that an association came in at lets it pass."""
    if door.ae_titles and calling not in door.ae_titles:
        return OTHER_DOOR
    if not book.rights(calling) & door.may:
        return NOTHING_HERE
    return None


def admit_secured(ae: AeConfig | None, security: Security | None) -> Rejection | None:
    """Whether the connection is what the AE's settings demand.

    :param ae: the configured AE that calls, if it is one.
    :param security: what TLS says of the peer; None without TLS.
    """
    if ae is None or not (ae.only_tls or ae.certificate_names):
        return None
    if security is None:
        return NOT_SECURED
    if ae.certificate_names and not {name.lower() for name in ae.certificate_names} & set(security.names):
        return OTHER_CERTIFICATE
    return None


@dataclass(frozen=True, slots=True)
class Choice:
    """What a set of proposals leads to."""

    narrowed: tuple[tuple[str, ...], ...]
    """For each proposal, in order: the one syntax accepted, or all proposed where none was."""
    supported: dict[str, tuple[str, ...]]
    """By abstract syntax: every transfer syntax accepted in one of its contexts."""


def choose(proposals: Sequence[Proposal]) -> Choice:
    """Choose one transfer syntax for each proposed context, each for itself."""
    narrowed: list[tuple[str, ...]] = []
    supported: dict[str, list[str]] = {}
    for proposal in proposals:
        chosen = choose_syntax(proposal)
        narrowed.append(proposal.transfer_syntaxes if chosen is None else (chosen,))
        if chosen is not None and chosen not in supported.setdefault(proposal.abstract_syntax, []):
            supported[proposal.abstract_syntax].append(chosen)
    return Choice(tuple(narrowed), {uid: tuple(syntaxes) for uid, syntaxes in supported.items()})
