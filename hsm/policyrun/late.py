"""Copy goals with a deadline: which studies were not protected in time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from hsm.catalog import facts, protection
from policies import Policy, PolicySet, PoolFill, fills_of
from policies.compile import compile_ownership
from policies.units import say_duration


def goals(
    session: Session, policies: PolicySet, policy: Policy, now: datetime, fills: Mapping[str, PoolFill]
) -> list[dict[str, Any]]:
    """Of each goal with a deadline the policy's studies that are past it and lack copies."""
    times = sorted({goal.within for goal in policy.copies if goal.within is not None})
    if not times:
        return []
    owned = compile_ownership(policies, policy, facts.columns(policies.pools), now, fills_of(fills))
    groups = protection.tally(session, owned, [now - each for each in times], now)
    found = []
    for goal in policy.copies:
        if goal.within is None:
            continue
        passed = times.index(goal.within) + 1
        late = [each for each in groups if each.passed >= passed and goal.have_in(each.packages) < goal.count]
        found.append(
            {
                "goal": str(goal),
                "within": say_duration(goal.within),
                "studies": sum(each.studies for each in late),
                "bytes": sum(each.bytes for each in late),
            }
        )
    return found
