"""What a rebuild tells while it goes on, and what it has found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

NAMED_MAX = 200
"""Of each sort of trouble, how many an answer names; the counts are whole, and the journal has all."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one volume has been read."""

    volume: str
    number: int
    """Which volume of ``volumes`` it is, from 1."""
    volumes: int
    packages: int
    """Looked at so far on this volume."""
    expected: int | None
    """How many there are on it; None where it does not say before it was listed."""
    left_seconds: float | None
    """Until this volume is done, at the pace so far; None while that is not known."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far all of it is."""

    under_way: tuple[Progress, ...]
    """Volumes that are being fetched or read now."""
    waiting: int
    """Volumes that nobody has begun, of those that are read like these."""
    left_seconds: float | None
    """Until these and the waiting ones are read, as far as can be told; None while it cannot."""


Tell = Callable[[Standing], None]
TellVolume = Callable[[Progress], None]


@dataclass
class VolumeReport:
    """What one volume gave."""

    volume: str
    says: str = ""
    known: int = 0
    """Packages whose copy here was on record already."""
    packages: int = 0
    """Packages that the catalog did not have before."""
    copies: int = 0
    """Further copies of packages that it had."""
    verified: int = 0
    """Of these, how many were read back, every byte."""
    instances: int = 0
    """Instances of no package, in the online pool."""
    bytes_read: int = 0
    seconds: float = 0.0
    quarantined: list[tuple[str, str]] = field(default_factory=list)
    """What contradicts the rest: key and why. It stays where it lies, and is in the catalog as nothing."""
    waiting: list[str] = field(default_factory=list)
    """Cold: asked for; run again when it is there."""
    ask_again_seconds: float = 0.0
    """When to look whether it is."""
    backups: list[str] = field(default_factory=list)
    """Backups of a catalog: a better start than a rebuild."""
    anchors: list[str] = field(default_factory=list)
    """Digests of the journal that was, as media have kept them."""
    marks: list[str] = field(default_factory=list)
    """Files of what people said of studies: deletions, holds, retention, tags, rejections."""
    marked: int = 0
    """Studies of which they said something new."""
    others: list[str] = field(default_factory=list)
    """What is neither a package nor anything else of ours."""
    missing: list[str] = field(default_factory=list)
    """What the catalog has here and the volume has not."""
    failed: str = ""
    """Why it was not read, or not to its end."""
    skipped: bool = False
    """It was read to its end by an earlier run."""

    def record(self) -> dict[str, Any]:
        counts = ("known", "packages", "copies", "verified", "instances", "marked", "bytes_read")
        lists = ("waiting", "backups", "anchors", "others", "missing")
        return {
            "volume": self.volume,
            "says": self.says,
            **{name: getattr(self, name) for name in counts},
            "seconds": round(self.seconds, 3),
            "quarantined": len(self.quarantined),
            **{name: len(getattr(self, name)) for name in lists},
            "failed": self.failed,
            "skipped": self.skipped,
            "named": {
                "quarantined": [{"key": key, "why": why} for key, why in self.quarantined[:NAMED_MAX]],
                **{name: getattr(self, name)[:NAMED_MAX] for name in lists},
            },
        }


UNKNOWABLE = (
    "not on any medium, and so not here: who retrieved what, requests that were under way, which "
    "policies were active, corrections after sealing",
    "legal holds, retention dates, tags, rejections and deletions are here as far as the volumes that were "
    "read carry them",
    "volumes that nobody brought are not in the catalog: bring them and run this again",
)
"""What no rebuild can know, in sentences for whoever reads the report."""


@dataclass
class Report:
    """What all volumes gave."""

    volumes: list[VolumeReport] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    """Sentences: where media contradict each other."""
    deleted: list[str] = field(default_factory=list)
    """Sentences: studies that were deleted and whose bytes still lie on media."""
    totals: dict[str, int] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    """Volumes on which something counts and that were not compared."""
    lifted: bool = False
    """Whether catalog and media are compared as a whole now."""

    @property
    def complete(self) -> bool:
        """Whether every volume was read to its end."""
        return not any(each.failed or each.waiting for each in self.volumes)

    @property
    def quarantined(self) -> int:
        return sum(len(each.quarantined) for each in self.volumes)

    def contradictions(self) -> Iterator[str]:
        """Sentences: what was left alone, and why."""
        for volume in self.volumes:
            for key, why in volume.quarantined:
                yield f"{volume.volume}: {key}: {why}"

    def record(self) -> dict[str, Any]:
        return {
            "complete": self.complete,
            "totals": self.totals,
            "volumes": [each.record() for each in self.volumes],
            "differs": self.differs[:NAMED_MAX],
            "deleted": self.deleted[:NAMED_MAX],
            "left": self.left[:NAMED_MAX],
            "lifted": self.lifted,
            "unknowable": list(UNKNOWABLE),
        }
