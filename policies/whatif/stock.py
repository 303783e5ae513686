"""The simulated archive's stock: studies, their copies, and the room that these take."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

from policies.decide import PoolFill
from policies.facts import STUDY_SOURCES, SourceValue, StudyFacts
from policies.policy import Policy
from policies.whatif.history import Arrival
from policies.whatif.moments import Micros, micros, moment
from policies.whatif.site import Pool, Site

_KNOWN = frozenset(STUDY_SOURCES)
_DEFAULTS: dict[str, SourceValue] = {
    **dict.fromkeys(STUDY_SOURCES),
    "instances": 1,
    "recalls": 0,
    "legal_hold": False,
    **dict.fromkeys(("body_parts", "sop_classes", "series_descriptions", "stations", "tags"), ()),
}


class SimulationError(RuntimeError):
    """The simulation broke a promise of the archive: a fault of the program, not of the policy."""


class Volume:
    """A cartridge or disc."""

    __slots__ = (
        "barcode",
        "drive",
        "full",
        "in_library",
        "leaving",
        "library",
        "number",
        "pool",
        "used_at",
        "written",
    )

    def __init__(self, number: int, library: str, pool: str) -> None:
        self.number = number
        self.barcode = f"V{number:05}"
        self.library = library
        self.pool = pool
        self.written = 0
        """Bytes, dead ones too: nothing is freed by deleting."""
        self.in_library = True
        self.leaving = False
        """The operator is asked to shelve it."""
        self.full = False
        self.drive: object | None = None
        self.used_at: Micros = 0


class Copy:
    """A verified copy; the one in the arrival pool is verified when the study is sealed."""

    __slots__ = ("pool", "position", "since", "verified", "volume")

    def __init__(self, pool: str, volume: Volume | None, position: int, since: Micros) -> None:
        self.pool = pool
        self.volume = volume
        self.position = position
        self.since = since
        self.verified = since


class _Facts(StudyFacts):
    """Made by the million from values that were looked at when the study arrived."""

    __slots__ = ()

    def __post_init__(self) -> None:
        """Nothing: see above."""


class Study:
    """One study in one package."""

    __slots__ = (
        "accessed",
        "accesses",
        "agenda",
        "asked",
        "changes",
        "copies",
        "goals_met",
        "late",
        "number",
        "owner",
        "patient",
        "protection",
        "recalls",
        "received",
        "sealed",
        "short_since",
        "size",
        "uid",
        "values",
    )

    def __init__(self, number: int, arrival: Arrival) -> None:
        self.number = number
        self.uid = arrival.study
        self.size = arrival.size
        self.received = self.accessed = micros(arrival.at)
        self.values = {key: value for key, value in arrival.facts.items() if key in _KNOWN}
        self.patient = str(arrival.facts.get("patient_id") or "")
        self.accesses: list[Micros] = []
        self.recalls = 0
        self.sealed = False
        self.copies: list[Copy] = []
        self.changes = 0
        """How often a copy came or went."""
        self.asked: dict[tuple[str, str], int] = {}
        """Live work by action and pool."""
        self.owner: Policy | None = None
        self.agenda = 0
        """Which of its entries in the agenda is the valid one."""
        self.short_since: Micros | None = None
        """Since when it has fewer copies than its goals."""
        self.goals_met = 0
        self.late = False
        self.protection: tuple[int, int] = (-1, 0)
        """State of the copies, and policy, at which its goals were last looked at."""

    def is_in(self, pool: str) -> bool:
        return any(copy.pool == pool for copy in self.copies)

    def count_in(self, pool: str) -> int:
        """Verified copies on distinct volumes."""
        return sum(copy.pool == pool for copy in self.copies) if self.sealed else 0

    def asked_for(self, action: str, pool: str) -> int:
        return self.asked.get((action, pool), 0)

    def ask(self, action: str, pool: str) -> None:
        self.asked[(action, pool)] = self.asked.get((action, pool), 0) + 1

    def answered(self, action: str, pool: str) -> None:
        left = self.asked[(action, pool)] - 1
        if left:
            self.asked[(action, pool)] = left
        else:
            del self.asked[(action, pool)]

    def on(self, volume: Volume) -> bool:
        return any(copy.volume is volume for copy in self.copies)


class Room:
    """How much of a pool is used, now and summed over time."""

    def __init__(self, pool: Pool, volume_bytes: int) -> None:
        self.pool = pool
        self.volume_bytes = volume_bytes
        self.used = 0
        """Bytes. Of a removable pool what is written, dead bytes too."""
        self.reserved = 0
        """Bytes of copies that are being made."""
        self.volumes: list[Volume] = []
        self.peak = 0
        self.byte_seconds = 0.0
        self._changed: Micros | None = None

    @property
    def capacity(self) -> int:
        return len(self.volumes) * self.volume_bytes if self.pool.kind.removable else self.pool.capacity

    @property
    def free(self) -> int:
        return self.capacity - self.used - self.reserved

    def fill(self) -> PoolFill:
        return PoolFill(self.used, self.capacity)

    @property
    def fraction(self) -> float:
        capacity = self.capacity
        return min(1.0, self.used / capacity) if capacity else 1.0

    def change(self, size: int, now: Micros) -> None:
        self.settle(now)
        self.used += size
        self.peak = max(self.peak, self.used)

    def settle(self, now: Micros) -> None:
        """Sum up to now."""
        if self._changed is not None:
            self.byte_seconds += self.used * (now - self._changed) / 1e6
        self._changed = now

    def begin(self, now: Micros) -> None:
        """Forget what was before: the simulation of interest begins."""
        self.byte_seconds, self._changed, self.peak = 0.0, now, self.used


class Stock:
    """All studies and pools. Refuses what the archive itself would refuse."""

    def __init__(self, site: Site, timed: Collection[str] | None = None) -> None:
        """:param timed: pools of which policies ask since when a study is there; None: all."""
        self.site = site
        self._timed = frozenset((pool.name for pool in site.pools) if timed is None else timed)
        self.studies: list[Study] = []
        self.by_uid: dict[str, Study] = {}
        self.by_patient: dict[str, list[Study]] = {}
        self.rooms = {
            pool.name: Room(pool, site.library(pool.library).drive.volume_bytes if pool.library else 0)
            for pool in site.pools
        }
        self._disks = frozenset(pool.name for pool in site.pools if not pool.kind.removable)
        self._online = frozenset(
            pool.name for pool in site.pools if pool.tier == "online" and pool.name in self._disks
        )

    def arrive(self, arrival: Arrival) -> Study:
        """A study stands in the arrival pool, not yet sealed.

        A study that arrives a second time (late instances) keeps its place and grows nothing: the history
        gives each study once.
        """
        known = self.by_uid.get(arrival.study)
        if known is not None:
            raise SimulationError(f"study {arrival.study} arrives twice in the history: give each study once")
        study = Study(len(self.studies), arrival)
        self.studies.append(study)
        self.by_uid[study.uid] = study
        if study.patient:
            self.by_patient.setdefault(study.patient, []).append(study)
        pool = self.site.arrival_pool.name
        study.copies.append(Copy(pool, None, 0, study.received))
        self.rooms[pool].change(study.size, study.received)
        return study

    def add(self, study: Study, pool: str, volume: Volume | None, position: int, now: Micros) -> Copy:
        """A verified copy is there. Of a removable pool the bytes count when the volume takes them
        (:meth:`write`)."""
        if volume is not None and study.on(volume):
            raise SimulationError(f"{study.uid} would have two copies on {volume.barcode}")
        if volume is None and study.is_in(pool):
            raise SimulationError(f"{study.uid} would have two copies in {pool}, which is one volume")
        copy = Copy(pool, volume, position, now)
        study.copies.append(copy)
        study.changes += 1
        if volume is None:
            self.rooms[pool].change(study.size, now)
        return copy

    def write(self, volume: Volume, size: int, now: Micros) -> int:
        """Append to a volume; returns the position."""
        position = volume.written
        volume.written += size
        volume.used_at = now
        self.rooms[volume.pool].change(size, now)
        return position

    def release(self, study: Study, pool: str, now: Micros) -> int:
        """Delete the copies in a disk pool; returns the bytes. :raises SimulationError: they are the last."""
        if pool not in self._disks:
            raise SimulationError(f"{pool} is removable: nothing is released there")
        kept = [copy for copy in study.copies if copy.pool != pool]
        if not kept or not study.sealed:
            raise SimulationError(f"{study.uid} would lose its last verified copy, in {pool}")
        gone = len(study.copies) - len(kept)
        study.copies = kept
        study.changes += 1
        self.rooms[pool].change(-study.size * gone, now)
        return study.size * gone

    def fills(self) -> dict[str, PoolFill]:
        return {name: room.fill() for name, room in self.rooms.items()}

    def disk_copies(self, study: Study) -> Iterator[Copy]:
        """Copies that can be read at once, quickest first."""
        usable = [copy for copy in study.copies if copy.volume is None and not self._pool(copy).cold]
        yield from sorted(
            usable, key=lambda copy: (self._pool(copy).tier != "online", self._pool(copy).latency_seconds)
        )

    def _pool(self, copy: Copy) -> Pool:
        return self.rooms[copy.pool].pool

    def any_facts(self) -> StudyFacts | None:
        """Of some study, for tests that are about none."""
        return self.facts(self.studies[0]) if self.studies else None

    def availability(self, study: Study) -> str:
        """Instance Availability (0008,0056), as the archive would answer."""
        found = "UNAVAILABLE"
        for copy in study.copies:
            if copy.pool in self._online:
                return "ONLINE"
            if copy.volume is None or copy.volume.in_library:
                found = "NEARLINE"
            elif found == "UNAVAILABLE":
                found = "OFFLINE"
        return found

    def facts(self, study: Study) -> StudyFacts:
        """What policies may ask about the study, as it stands."""
        received = moment(study.received)
        values: dict[str, SourceValue] = _DEFAULTS | study.values
        values["received_at"] = received
        values["accessed_at"] = received if study.accessed == study.received else moment(study.accessed)
        values["size"] = study.size
        values["recalls"] = study.recalls
        values["availability"] = self.availability(study)
        counts: dict[str, int] = {}
        resident: dict[str, datetime] = {}
        verified: dict[str, datetime] = {}
        for copy in study.copies:
            pool = copy.pool
            counts[pool] = counts.get(pool, 0) + 1
            if pool in self._timed:
                since, proved = moment(copy.since), moment(copy.verified)
                resident[pool] = max(since, resident.get(pool, since))
                verified[pool] = min(proved, verified.get(pool, proved))
        return _Facts(
            study=study.uid,
            values=values,
            copies=counts if study.sealed else {},
            held=frozenset(counts),
            accesses=tuple(map(moment, study.accesses)) if study.accesses else (),
            resident=resident,
            verified=verified,
        )
