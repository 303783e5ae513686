"""How full each pool is, as policies see it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hsm.catalog import facts, media, outlook, placements, rulework
from hsm.pools import Pools
from policies import Action, Circumstances, Policy, PolicySet, PoolFill
from policies.compile import compile_ownership


def pool_fills(session: Session, pools: Pools) -> dict[str, PoolFill]:
    """A file system says it itself, a tape pool is the sum of its volumes. What live requests will free
    counts as free: a second run does not free it again."""
    leaving = rulework.bytes_leaving(session)
    fills = {}
    for name, (used, capacity) in media.pool_bytes(session).items():
        room = pools.room(name)
        if room is not None:  # one that is away is as full as it was
            used, capacity = room.total - room.free, room.total
        fills[name] = PoolFill(used, capacity, min(leaving.get(name, 0), used))
    return fills


def premigrated(session: Session, policies: PolicySet, policy: Policy, at: Circumstances) -> dict[str, int]:
    """By premigrating rule (a copy with watermarks of the pool it copies from): bytes in that pool that are
    copied, or asked for, already. They can be made free at once, so they do not count as full."""
    found = {}
    for rule in policy.rules:
        if rule.action is Action.COPY and rule.has_watermarks:
            columns = facts.columns(policies.pools)
            where = [
                compile_ownership(policies, policy, columns, at.now, at.fills),
                placements.held_in(rule.source),
                placements.copies_in(rule.pool) >= policy.wanted(rule.pool),
            ]
            _, size = outlook.count(session, where)
            found[rule.name] = size + rulework.bytes_asked(session, policy.name, rule.pool)
    return found
