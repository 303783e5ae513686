"""Copy goals with a deadline: which studies were not protected in time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from hsm.catalog import facts, outlook, placements
from hsm.catalog.facts import STUDY_COLUMNS
from policies import Goal, Policy, PolicySet, PoolFill, fills_of
from policies.compile import compile_ownership
from policies.pools import By
from policies.units import say_duration


def goals(
    session: Session, policies: PolicySet, policy: Policy, now: datetime, fills: Mapping[str, PoolFill]
) -> list[dict[str, Any]]:
    """Of each goal with a deadline the policy's studies that are past it and lack copies."""
    found = []
    for goal in policy.copies:
        if goal.within is None:
            continue
        owned = compile_ownership(policies, policy, facts.columns(policies.pools), now, fills_of(fills))
        received = STUDY_COLUMNS["received_at"] < now - goal.within
        studies, size = outlook.count(session, [owned, received, _have(goal) < goal.count])
        found.append(
            {
                "goal": str(goal),
                "within": say_duration(goal.within),
                "studies": studies,
                "bytes": size,
            }
        )
    return found


def _have(goal: Goal) -> Any:
    if goal.by is By.SITES:
        return placements.sites_of({pool.name: pool.site for pool in goal.group.pools})
    return placements.copies_in(*goal.group.names)
