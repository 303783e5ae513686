"""How a package would be read now, and so how available it is: PS3.3 section C.4.23.1.1, promise 6. Pure.

One decision, :func:`route`, is taken by who answers a query and by who retrieves: what a query tells is what
a retrieve then does.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hsm.model import Availability, CopyAt, Place, Tier
from hsm.states import READABLE_COPIES, CopyState, VolumeState

GONE_VOLUMES = (VolumeState.LOST, VolumeState.RETIRED)
"""Nothing is read from them."""
NEAREST_FIRST = (Place.DRIVE, Place.SLOT, Place.MAIL, Place.SHELF)


@dataclass(frozen=True, slots=True)
class Disk:
    """A volume that needs no drive, as it is now."""

    tier: Tier
    rank: int
    """The lower, the sooner it is read from."""
    there: bool = True
    """It answers."""
    cold: bool = False
    """What lies on it must be asked for, and takes its time."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the staging area takes of a recall, in bytes."""

    package: int
    """The largest package that is kept there; a larger one passes through."""
    instance: int
    """The largest instance of one that passes through: all of it is there before any of it is sent."""

    def passes(self, package: int, instance: int) -> bool:
        """Whether an instance of a package can be recalled, of these sizes."""
        return package <= self.package or instance <= self.instance


@dataclass(frozen=True, slots=True)
class Reach:
    """What can be reached now, but for where the copies are."""

    tiers: Mapping[str, Tier]
    """The configured pools. Copies in others are never read."""
    disks: Mapping[int, Disk] | None = None
    """Volumes that need no drive, by key. None: those that the catalog says are there, as policies see it."""
    libraries: Collection[str] | None = None
    """The configured ones. None: all."""
    ingest: str = ""
    """Why what is in no package yet cannot be read; empty while it can."""
    staged: Collection[str] = frozenset()
    """Names of the packages that lie wholly in the staging area."""
    room: Room | None = None
    """What can be recalled. None: everything, as policies see it."""

    def disk(self, copy: CopyAt) -> Disk | None:
        """Where a copy lies that no drive is needed for; None for one on a cartridge or disc."""
        if self.disks is not None:
            return self.disks.get(copy.volume_pk)
        tier = self.tiers.get(copy.pool)
        if copy.place is not Place.MOUNTED or tier is None:
            return None
        return Disk(tier, list(Tier).index(tier))


class Way(enum.Enum):
    """How a package is read."""

    DISK = "read where it lies"
    STAGED = "read from the staging area"
    LIBRARY = "recalled by a machine"
    COLD = "asked of cold storage"
    PERSON = "a person brings the volume"
    AWAY = "its storage is out of service"
    NONE = "no copy is left"


RECALLED = (Way.LIBRARY, Way.COLD, Way.PERSON)
"""Ways of which a recall is one."""


@dataclass(frozen=True, slots=True)
class Route:
    """How one package would be read, and from which copy."""

    way: Way
    copy: CopyAt | None = None
    """None for the staging area, and where nothing is left."""
    tier: Tier = Tier.ONLINE
    """Of the pool, where it is read where it lies."""

    @property
    def doubtful(self) -> bool:
        """Only a copy is left with which something is wrong: what it still gives is known when it is read."""
        return self.copy is not None and self.copy.state == CopyState.SUSPECT

    @property
    def availability(self) -> Availability:
        """As PS3.3 section C.4.23.1.1 has it."""
        if self.way is Way.STAGED or (self.way is Way.DISK and self.tier is Tier.ONLINE):
            return Availability.ONLINE
        if self.way in (Way.DISK, Way.LIBRARY, Way.COLD):
            return Availability.NEARLINE
        return Availability.OFFLINE if self.way is Way.PERSON else Availability.UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Standing:
    """How available something is, and which removable volumes a retrieve would read."""

    availability: Availability
    media: tuple[str, ...] = ()
    """Names of the removable volumes needed, sorted; empty where a disk serves it."""
    recalled: bool = field(default=False, compare=False)
    """It comes through the staging area: what is too large for that cannot be had."""


def route(copies: Sequence[CopyAt], reach: Reach, *, staged: bool = False) -> Route:
    """How a package would be read now.

    The quickest good copy wins. Suspect ones count only where no good one can be reached; what lies on
    storage that is out of service is waited for where nothing else is left; copies on volumes that are lost,
    retired or nowhere to be found, or of pools that are configured no more, are never read.

    :param staged: the whole of it lies in the staging area.
    """
    known = [copy for copy in copies if copy.pool in reach.tiers and copy.volume_state not in GONE_VOLUMES]
    good = [copy for copy in known if copy.state in READABLE_COPIES]
    found = _on_disk(good, reach) or (Route(Way.STAGED) if staged else None) or _carried(good, reach)
    if found is not None:
        return found
    suspect = [copy for copy in known if copy.state == CopyState.SUSPECT]
    found = _on_disk(suspect, reach) or _carried(suspect, reach)
    if found is not None:
        return found
    away = next((copy for copy in good if _is_away(copy, reach)), None)
    return Route(Way.AWAY, away) if away is not None else Route(Way.NONE)


def _on_disk(copies: Iterable[CopyAt], reach: Reach) -> Route | None:
    """Read where it lies."""
    found = [
        (disk.rank, copy.copy_pk, copy, disk.tier)
        for copy in copies
        if (disk := reach.disk(copy)) is not None and disk.there and not disk.cold
    ]
    if not found:
        return None
    *_, copy, tier = min(found, key=lambda each: each[:2])
    return Route(Way.DISK, copy, tier)


def _carried(copies: Sequence[CopyAt], reach: Reach) -> Route | None:
    """Read after a machine or a person has done something."""
    near = quickest([copy for copy in copies if reach.libraries is None or copy.library in reach.libraries])
    if near is not None and near.place is not Place.SHELF:
        return Route(Way.LIBRARY, near)
    for copy in copies:
        disk = reach.disk(copy)
        # What is suspect in cold storage is not asked for: nobody could look at it before hours have gone.
        if disk is not None and disk.there and disk.cold and copy.state in READABLE_COPIES:
            return Route(Way.COLD, copy)
    return Route(Way.PERSON, near) if near is not None else None


def _is_away(copy: CopyAt, reach: Reach) -> bool:
    disk = reach.disk(copy)
    return disk is not None and not disk.there


def quickest(copies: Sequence[CopyAt]) -> CopyAt | None:
    """The copy to recall from: the nearest good one on a removable volume, a suspect one only when none is.

    None when no copy is where a machine or a person could reach it.
    """
    reachable = [
        copy
        for copy in copies
        if copy.place in NEAREST_FIRST
        and copy.volume_state not in GONE_VOLUMES
        and copy.state in (*READABLE_COPIES, CopyState.SUSPECT)
    ]

    def cost(copy: CopyAt) -> tuple[bool, bool, int, int]:
        return (
            copy.state == CopyState.SUSPECT,
            copy.volume_state == VolumeState.SUSPECT,
            NEAREST_FIRST.index(copy.place),
            copy.copy_pk,
        )

    return min(reachable, key=cost, default=None)


def why_none(copies: Sequence[CopyAt], tried: Collection[int] = ()) -> str:
    """In words for a human: why nothing can be read from any of these copies.

    :param tried: those that gave other bytes than were stored.
    """
    if not copies:
        return "no copy that can be read is left"

    def why(copy: CopyAt) -> str:
        if copy.copy_pk in tried:
            return f"{copy.volume_name} gave other bytes than were stored"
        if copy.volume_state in GONE_VOLUMES:
            return f"{copy.volume_name} is {copy.volume_state}"
        if copy.place not in (*NEAREST_FIRST, Place.MOUNTED):
            return f"nobody knows where {copy.volume_name} is"
        return f"the copy on {copy.volume_name} is {copy.state}"

    return f"no copy that can be read is left: {'; '.join(why(copy) for copy in copies)}"


def unsealed(reach: Reach) -> Standing:
    """Of an instance in no package yet: it lies in the ingest pool and nowhere else."""
    return Standing(Availability.UNAVAILABLE if reach.ingest else Availability.ONLINE)


def availability(copies: Sequence[CopyAt], reach: Reach) -> Availability:
    """One package's availability."""
    return route(copies, reach).availability


def standing(copies: Sequence[CopyAt], reach: Reach, *, staged: bool = False) -> Standing:
    """One package's standing; its parameters are those of :func:`route`."""
    found = route(copies, reach, staged=staged)
    removable = found.copy is not None and found.way in (Way.LIBRARY, Way.PERSON)
    media = (found.copy.volume_name,) if found.copy is not None and removable else ()
    return Standing(found.availability, media, found.way in RECALLED)


def by_disks(copies: Sequence[CopyAt], reach: Reach) -> Route:
    """How an instance would be read that no recall can bring: where it lies, be it from a suspect copy."""
    disks = {copy.copy_pk: reach.disk(copy) for copy in copies}
    warm = [copy for copy in copies if (disk := disks[copy.copy_pk]) is not None and not disk.cold]
    return route(warm, reach)


def too_large(size: int, room: Room) -> str:
    """In words for a human: why an instance of so many bytes cannot be recalled."""
    return (
        f"its {size} bytes do not pass through the staging area, which takes instances of {room.instance}; "
        "raise staging.size_max_bytes"
    )


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
