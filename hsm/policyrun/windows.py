"""Time windows: what a policy asked for at night is not begun by day."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from hsm.catalog import rulework
from hsm.catalog.engine import Catalog
from hsm.log import get_logger
from policies import Policy

log = get_logger(__name__)

NEVER = timedelta(days=400)


def next_opening(policy: Policy, now: datetime) -> datetime:
    """When work of the policy may be begun: now, or when its next window opens."""
    if policy.schedule.is_open(now):
        return now
    return policy.schedule.next_change(now) or now + NEVER


def opens(policy: Policy, now: datetime) -> str:
    """In words."""
    at = next_opening(policy, now).astimezone(policy.schedule.zone)
    return f"opens {at:%Y-%m-%d %H:%M} ({policy.schedule.time_zone})"


def hold_back(catalog: Catalog, policies: Iterable[Policy], now: datetime) -> int:
    """Move what nobody has begun to the next window, of policies whose window is closed; how many.

    What a person asked for with ``hsm policy run`` goes on.
    """
    held = 0
    for policy in policies:
        if policy.schedule.always_open or policy.schedule.is_open(now):
            continue
        opening = next_opening(policy, now)
        with catalog.write() as session:
            moved = rulework.hold_back(session, policy.name, opening)
        if moved:
            log.info("policy %s: %d requests wait for its window at %s", policy.name, moved, opening)
        held += moved
    return held
