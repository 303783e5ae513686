"""What is done with bytes that come under a SOP Instance UID (pure)."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hsm.catalog.hiding import Concealment
from hsm.catalog.ingest import Known

SameUidRule = Literal["reject", "keep first", "keep both"]
VERSIONS_MAX = 99
CLOSED = "its study was deleted, and takes nothing more"
REJECTED = "it was rejected; other bytes under its UID are not taken"


class StoreOutcome(enum.Enum):
    """What became of a received instance; each of them is a success to the peer."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # the same bytes were there already
    KEPT_FIRST = "kept first"  # other bytes under the same UID; the rule says the first stay
    KEPT_BOTH = "kept both"  # other bytes under the same UID, kept as a further version


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done with bytes under a UID."""

    version: int
    outcome: StoreOutcome | None
    """None: they are rejected."""
    verb: str = ""
    """For the journal, where other bytes are there."""
    refusal: str = ""
    """Why these bytes are not taken, where no rule for equal UIDs says so."""
    twins: tuple[int, ...] = ()
    """Further versions that a file which a crash left behind may be the bytes of."""

    @property
    def keeps(self) -> bool:
        return self.outcome in (StoreOutcome.STORED, StoreOutcome.KEPT_BOTH)


def decide(
    known: Sequence[Known], digest: bytes, rule: SameUidRule, *, left_behind: bool = False
) -> Decision:
    """Which version these bytes become, if any.

    :param left_behind: nobody sent them now: a crash left them.
    """
    if not known:
        return Decision(0, StoreOutcome.STORED)
    if left_behind:
        # Also what was deleted or rejected since: a file that was kept twice does not bring it back.
        same_bytes = [each.version for each in known if each.digest == digest]
        if same_bytes:
            return Decision(same_bytes[-1], StoreOutcome.DUPLICATE, twins=tuple(same_bytes[:-1]))
    if any(each.concealed & Concealment.CLOSED for each in known):
        return Decision(0, None, "refused after its deletion", CLOSED)
    # What went into the trash will be gone: the same bytes, sent anew, are kept anew.
    kept = [each for each in known if not each.concealed & Concealment.DELETED]
    same = next((each for each in kept if each.digest == digest), None)
    if same is not None:
        return Decision(same.version, StoreOutcome.DUPLICATE)
    if any(each.concealed & Concealment.REJECTED for each in known):
        return Decision(0, None, "refused after its rejection", REJECTED)
    if len(known) >= VERSIONS_MAX:
        return Decision(0, None, "same uid rejected")
    if not kept:
        return Decision(known[-1].version + 1, StoreOutcome.STORED, "received after its deletion")
    if rule == "keep first":
        return Decision(0, StoreOutcome.KEPT_FIRST, "same uid kept first")
    if rule == "reject":
        return Decision(0, None, "same uid rejected")
    return Decision(known[-1].version + 1, StoreOutcome.KEPT_BOTH, "same uid kept both")
