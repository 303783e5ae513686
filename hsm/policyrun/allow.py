"""What the kind of a pool forbids, whatever a policy says: one answer for runs, dry runs and plans. Pure."""

from __future__ import annotations

from dataclasses import replace

from hsm.pools import Pools
from policies import Action, Decision, Outcome


def as_pools_allow(decision: Decision, pools: Pools) -> Decision:
    """The decision, or its refusal where its pool cannot do what it says."""
    if decision.action is not Action.RELEASE or decision.pool not in pools.tapes:
        return decision
    why = f"{decision.pool} is on removable media: nothing is released there, a volume is repacked"
    return replace(decision, outcome=Outcome.REFUSED, reason=why)
