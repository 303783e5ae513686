"""How available a package, and a set of packages, is: PS3.3 section C.4.23.1.1 and promise 6. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hsm.model import Availability, CopyAt, Place, Tier
from hsm.states import READABLE_COPIES, CopyState, VolumeState

_UNREACHABLE_VOLUMES = (VolumeState.LOST, VolumeState.RETIRED)


@dataclass(frozen=True, slots=True)
class Standing:
    """How available something is, and which removable volumes a retrieve would read."""

    availability: Availability
    media: tuple[str, ...] = ()
    """Names of the removable volumes needed, sorted; empty where a disk serves it."""


UNSEALED = Standing(Availability.ONLINE)
"""An instance in no package yet lies in the online pool."""


def availability(copies: Sequence[CopyAt], tiers: Mapping[str, Tier]) -> Availability:
    """One package's availability: that of the most available of its copies."""
    return standing(copies, tiers).availability


def standing(copies: Sequence[CopyAt], tiers: Mapping[str, Tier]) -> Standing:
    """One package's standing.

    Suspect copies count only where no better one is left; copies on volumes that are lost, retired or
    nowhere to be found, or of pools that are configured no more, never do.

    :param tiers: the configured pools.
    """
    reachable = [
        copy
        for copy in copies
        if copy.pool in tiers
        and copy.volume_state not in _UNREACHABLE_VOLUMES
        and copy.place is not Place.UNKNOWN
    ]
    usable = [copy for copy in reachable if copy.state in READABLE_COPIES]
    if not usable:
        usable = [copy for copy in reachable if copy.state == CopyState.SUSPECT]
    if not usable:
        return Standing(Availability.UNAVAILABLE)
    best = min(usable, key=lambda copy: (_of_copy(copy, tiers).rank, _removable(copy), copy.volume_name))
    return Standing(_of_copy(best, tiers), (best.volume_name,) if _removable(best) else ())


def worst(standings: Iterable[Standing]) -> Standing:
    """A mixed set's standing: the least available of it (PS3.4 section C.4.1.1.3.2).

    Its media are those of what is least available: on them the retrieve waits. An empty set is
    unavailable.
    """
    known = list(standings)
    least = max((each.availability for each in known), key=lambda each: each.rank, default=None)
    if least is None:
        return Standing(Availability.UNAVAILABLE)
    media = {name for each in known if each.availability is least for name in each.media}
    return Standing(least, tuple(sorted(media)))


def _of_copy(copy: CopyAt, tiers: Mapping[str, Tier]) -> Availability:
    # A shelved volume needs a person whatever its pool is called.
    if copy.place is Place.SHELF:
        return Availability.OFFLINE
    if tiers[copy.pool] is Tier.ONLINE:
        return Availability.ONLINE
    return Availability.NEARLINE


def _removable(copy: CopyAt) -> bool:
    return copy.place is not Place.MOUNTED
