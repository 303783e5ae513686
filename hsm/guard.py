"""Promise 3: may this copy be released? One pure function; everything that deletes asks it.

It must be called inside the transaction that changes the copy's state, on facts read in that
transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from hsm.model import Goal
from hsm.states import COPY, CopyState, VolumeState

GOOD_VOLUMES = frozenset({VolumeState.LABELLED, VolumeState.ACTIVE, VolumeState.FULL})
"""States of volumes whose verified copies count. Named one by one: a state added later does not count
until somebody decides that it does."""


@dataclass(frozen=True, slots=True)
class CopyFact:
    """One copy of a package and the state of its volume, as the catalog has them now."""

    copy_pk: int
    volume_pk: int
    pool: str
    state: CopyState
    volume_state: VolumeState

    @property
    def good(self) -> bool:
        """Whether it counts: verified, on a volume that is well."""
        return self.state is CopyState.VERIFIED and self.volume_state in GOOD_VOLUMES


def good_copies(facts: Iterable[CopyFact], pool: str, closed: Collection[int]) -> int:
    """A package's copies that count in a pool and stay there: those on ``closed`` volumes are on their way
    out."""
    return sum(fact.good and fact.pool == pool and fact.volume_pk not in closed for fact in facts)


@dataclass(frozen=True, slots=True)
class Verdict:
    allowed: bool
    reason: str
    """In an admin's words; goes into the journal and the decision."""


@dataclass(frozen=True, slots=True)
class Permit:
    """A deletion of the study whose day has come: the one thing that lets a last copy go."""

    made_at: datetime
    made_by: str
    due_at: datetime

    @property
    def words(self) -> str:
        return (
            f"the study was deleted on {self.made_at:%Y-%m-%d} by {self.made_by}, and its time in the trash"
            f" ended on {self.due_at:%Y-%m-%d}"
        )


def may_release(
    copy: CopyFact,
    others: Sequence[CopyFact],
    goals: Sequence[Goal],
    kept_by_law: str = "",
    permit: Permit | None = None,
) -> Verdict:
    """Whether ``copy`` may be released, given the package's ``others`` and what policy demands.

    What remains is the verified copies on distinct good volumes other than the copy's own. There
    must be at least one, and they must meet every goal. One exception: a *suspect* copy counts for
    nothing, so its release cannot take anything from the goals that its own pool counts for, and a pool
    of one volume could never be mended if they forbade it; the other goals must stand.

    ``others`` may contain ``copy`` itself: it never counts.

    :param kept_by_law: why nothing of the study may go (a legal hold, a retention); empty when it may. It
        beats everything else, but a *suspect* copy may be replaced all the same: its bytes are not the
        study's, and what is kept for a court must be mended too.
    :param permit: the deletion that lets the package end. With it the last copy may go, and goals demand
        nothing; what is kept by law stays all the same.
    """
    if CopyState.RELEASING not in COPY.table[copy.state]:
        return Verdict(False, f"a copy that is {copy.state.value} cannot be released")
    if kept_by_law and copy.state is not CopyState.SUSPECT:
        return Verdict(False, kept_by_law)
    if permit is not None and not kept_by_law:
        return Verdict(True, permit.words)
    kept = _good_volumes(copy, others)
    if not kept:
        return Verdict(False, "no verified copy on another good volume would remain")
    for goal in goals:
        own = copy.pool in goal.counted
        if own and copy.state is CopyState.SUSPECT:
            continue
        have = goal.have(kept.values())
        if have < goal.copies:
            return Verdict(False, _unmet(goal, have, own=own))
    return Verdict(True, f"verified copies remain on {_plural(len(kept))}: {_pools(kept.values())}")


def _good_volumes(copy: CopyFact, others: Iterable[CopyFact]) -> dict[int, str]:
    """The pool of each volume, other than the copy's own, that holds a verified copy that counts.

    A second record on the copy's own volume would be the same file, so it does not count either.
    """
    return {
        other.volume_pk: other.pool
        for other in others
        if other.copy_pk != copy.copy_pk and other.volume_pk != copy.volume_pk and other.good
    }


def _unmet(goal: Goal, have: int, *, own: bool) -> str:
    if goal.sites:
        return f"policy demands verified copies at {goal.copies} different sites; {have} would remain"
    what = f"policy demands {goal.copies} verified in {goal.pool}"
    if own:
        return f"{what}, the pool to release from; {have} would remain there"
    return f"{what}; there are {have} on distinct good volumes"


def _plural(volumes: int) -> str:
    return "1 volume" if volumes == 1 else f"{volumes} volumes"


def _pools(pools: Iterable[str]) -> str:
    return ", ".join(sorted(set(pools)))
