"""Presentation contexts, decided without a network: what we accept, what we propose, which one to use.

PS3.8 section 7.1.1.13 (negotiation), PS3.7 annex D.3.3.4 (roles), PS3.4 annex B (Storage) and
C (Query/Retrieve).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from hsm.model import is_uid

CONTEXTS_MAX: Final = 128
"""Presentation contexts in one association: their ids are odd and fit in a byte (PS3.8 section 9.3.2.2)."""

VERIFICATION: Final = "1.2.840.10008.1.1"
COMMITMENT: Final = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model, PS3.4 annex J."""
AVAILABILITY: Final = "1.2.840.10008.5.1.4.33"
"""Instance Availability Notification, PS3.4 annex R."""

_STANDARD = "1.2.840.10008."
_STORAGE_ARC = "1.2.840.10008.5.1.4.1.1."
# Their names contain "Storage" but they are no composite instances of a patient's study: the
# commitment services, DICOMDIR, and the classes of the Non-Patient Object Storage service
# (PS3.4 annex GG), which have no Study Instance UID to be filed under.
_NOT_OF_A_STUDY: Final = frozenset(
    {
        "1.2.840.10008.1.3.10",
        COMMITMENT,
        "1.2.840.10008.1.20.2",
        "1.2.840.10008.5.1.4.38.1",
        "1.2.840.10008.5.1.4.39.1",
        "1.2.840.10008.5.1.4.43.1",
        "1.2.840.10008.5.1.4.44.1",
        "1.2.840.10008.5.1.4.45.1",
        "1.2.840.10008.5.1.4.1.1.200.1",
        "1.2.840.10008.5.1.4.1.1.200.3",
        "1.2.840.10008.5.1.4.1.1.200.7",
        "1.2.840.10008.5.1.4.1.1.201.1",
    }
)
# Vendors put their own query/retrieve models on their own roots but keep the standard's arc.
_PRIVATE_QUERY = re.compile(r"\.5\.1\.4\.1\.2\.[0-9]")

UNCOMPRESSED: Final = (
    str(ExplicitVRLittleEndian),
    str(ImplicitVRLittleEndian),
    str(DeflatedExplicitVRLittleEndian),
    str(ExplicitVRBigEndian),
)
"""Transfer syntaxes that we read and write ourselves, best first."""


class Model(enum.StrEnum):
    """Query/Retrieve information models that are served, PS3.4 section C.3."""

    PATIENT_ROOT = "patient root"
    STUDY_ROOT = "study root"


class Operation(enum.StrEnum):
    FIND = "find"
    MOVE = "move"
    GET = "get"


QUERY_RETRIEVE: Final[Mapping[str, tuple[Model, Operation]]] = {
    "1.2.840.10008.5.1.4.1.2.1.1": (Model.PATIENT_ROOT, Operation.FIND),
    "1.2.840.10008.5.1.4.1.2.1.2": (Model.PATIENT_ROOT, Operation.MOVE),
    "1.2.840.10008.5.1.4.1.2.1.3": (Model.PATIENT_ROOT, Operation.GET),
    "1.2.840.10008.5.1.4.1.2.2.1": (Model.STUDY_ROOT, Operation.FIND),
    "1.2.840.10008.5.1.4.1.2.2.2": (Model.STUDY_ROOT, Operation.MOVE),
    "1.2.840.10008.5.1.4.1.2.2.3": (Model.STUDY_ROOT, Operation.GET),
}


def is_storage_class(uid: str) -> bool:
    """Whether instances of this SOP class are kept.

    True for every storage class of a patient's study that the standard names, current or retired;
    for ones newer than our dictionary; and for private ones. False for every other service,
    retired and private query models included, so that nothing is mistaken for storage.
    """
    if uid in _NOT_OF_A_STUDY:
        return False
    if not uid.startswith(_STANDARD):
        return not _PRIVATE_QUERY.search(uid)
    name, kind = UID_dictionary.get(uid, ("", "SOP Class", "", "", ""))[:2]
    if kind != "SOP Class":
        return False
    return "Storage" in name if name else uid.startswith(_STORAGE_ARC)


@dataclass(frozen=True, slots=True)
class Proposal:
    """One proposed presentation context."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.transfer_syntaxes:
            raise ValueError(f"presentation context for {self.abstract_syntax} without a transfer syntax")


@dataclass(frozen=True, slots=True)
class Accepted:
    """One accepted presentation context."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str


def choose_syntax(proposal: Proposal) -> str | None:
    """The transfer syntax to accept for a context, or None when none can be.

    Storage takes what the peer names first, known to us or not, because the bytes are kept as they
    come. One exception: Implicit VR Little Endian, which everyone must list, gives way to Explicit
    VR Little Endian in the same context, because explicit VRs tell what private elements are.
    Other services take the best of the four that we read and write.

    :returns: None for a service that is not offered, or offered in none of these syntaxes. What is no
        UID counts as not offered: no package could name it, so no instance may come with it.
    """
    if not is_uid(proposal.abstract_syntax):
        return None
    offered = [syntax for syntax in proposal.transfer_syntaxes if is_uid(syntax)]
    if not offered:
        return None
    if is_storage_class(proposal.abstract_syntax):
        if offered[0] == ImplicitVRLittleEndian and ExplicitVRLittleEndian in offered:
            return str(ExplicitVRLittleEndian)
        return offered[0]
    if proposal.abstract_syntax not in (VERIFICATION, COMMITMENT, *QUERY_RETRIEVE):
        return None
    return next((syntax for syntax in UNCOMPRESSED if syntax in offered), None)


def plan_associations(kinds: Iterable[tuple[str, str]]) -> list[tuple[Proposal, ...]]:
    """What to propose to a peer that instances are sent to.

    :param kinds: (SOP class, stored transfer syntax) of each instance; repetitions do not matter.
    :returns: one tuple of proposals for each association needed; all contexts of one SOP class are
        in the same one. Each stored syntax has a context of its own, so that the peer's choice in
        one cannot exclude another, and each class one more with the uncompressed syntaxes that
        every peer can read (PS3.5 section 10.1).
    """
    syntaxes: dict[str, list[str]] = {}
    for sop_class, syntax in kinds:
        known = syntaxes.setdefault(sop_class, [])
        if syntax not in known:
            known.append(syntax)
    plans: list[list[Proposal]] = [[]]
    for sop_class in sorted(syntaxes):
        # A class stored in more syntaxes than contexts fit is not met in practice; the rest is
        # then sent as the fallback allows.
        stored = sorted(syntaxes[sop_class])[: CONTEXTS_MAX - 1]
        proposals = [Proposal(sop_class, (syntax,)) for syntax in stored]
        proposals.append(Proposal(sop_class, UNCOMPRESSED[:2]))
        if len(plans[-1]) + len(proposals) > CONTEXTS_MAX:
            plans.append([])
        plans[-1].extend(proposals)
    return [tuple(plan) for plan in plans if plan]


def choose_context(
    accepted: Sequence[Accepted], sop_class: str, stored: str, convertible_to: Sequence[str]
) -> Accepted | None:
    """The context to send an instance in: as stored if the peer takes that, else converted.

    :param convertible_to: transfer syntaxes that the stored one can be converted to, best first.
    :returns: None when the peer accepted nothing that fits.
    """
    for_class = {cx.transfer_syntax: cx for cx in reversed(accepted) if cx.abstract_syntax == sop_class}
    return next((for_class[ts] for ts in (stored, *convertible_to) if ts in for_class), None)
