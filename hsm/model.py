"""The nouns as values. Frozen, and they refuse to be wrong."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hsm.errors import BadInput

UID_LENGTH_MAX = 64
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def is_uid(value: str) -> bool:
    """Whether :func:`check_uid` lets it through."""
    return len(value) <= UID_LENGTH_MAX and _UID.fullmatch(value) is not None


def check_uid(value: str, what: str) -> str:
    """Return ``value`` if it may be used as a UID and as a file name.

    Leading zeros in a component, which PS3.5 section 9.1 forbids but devices send, are let through.

    :raises BadInput: empty, longer than 64 characters, or not digits joined by single dots.
    """
    if not value:
        raise BadInput(f"{what} is empty")
    if not is_uid(value):
        raise BadInput(f"{what} {value[:80]!r} is not a UID (PS3.5 section 9.1)")
    return value


class Availability(enum.StrEnum):
    """Instance Availability (0008,0056), PS3.3 section C.4.23.1.1, most available first."""

    ONLINE = "ONLINE"
    NEARLINE = "NEARLINE"
    OFFLINE = "OFFLINE"
    UNAVAILABLE = "UNAVAILABLE"

    @property
    def rank(self) -> int:
        """0 for ONLINE to 3 for UNAVAILABLE; the least available of a set is its maximum."""
        return list(Availability).index(self)


class Tier(enum.StrEnum):
    """What kind of pool: decides the availability its copies give."""

    ONLINE = "online"
    NEARLINE = "nearline"
    OFFLINE = "offline"


class Layout(enum.StrEnum):
    """How a pool lays packages out on its volumes."""

    FILES = "files"
    PACKAGES = "packages"


class Place(enum.StrEnum):
    """Where a volume is."""

    MOUNTED = "mounted"  # a file system or bucket: always there
    SLOT = "slot"
    MAIL = "mail"
    DRIVE = "drive"
    SHELF = "shelf"
    UNKNOWN = "unknown"


class Priority(enum.IntEnum):
    """Order of work; lower goes first."""

    STAT = 0
    ROUTINE = 10
    PREFETCH = 20
    BULK = 25
    MIGRATION = 30
    SCRUB = 40


SECONDS_PER_POINT = 1800.0
"""What a point of priority is worth: a migration (30) goes before what was asked for at once (0) only
when it has waited 15 hours longer, a scrub (40) 20 hours."""


def patience(priority: int) -> timedelta:
    """How long work of a :class:`Priority` lets later and more urgent work go first."""
    return timedelta(seconds=priority * SECONDS_PER_POINT)


@dataclass(frozen=True, slots=True)
class ReadBack:
    """When what was written to a pool's tapes is read back. Nothing is verified before that."""

    percent: int = 100
    """Of a session's packages, how many are read back in the session; the others later, when the drives
    have nothing more urgent."""
    other_drive: bool = False
    """Each is read back in another drive than the one that wrote it, where there is one."""

    def __post_init__(self) -> None:
        if not 1 <= self.percent <= 100:
            raise ValueError(f"a sample of {self.percent}%; expected 1% to 100%")

    @classmethod
    def of(cls, value: object) -> ReadBack:
        """From the configuration's words: ``every``, ``sample N%`` or ``other-drive``.

        :raises ValueError: something else.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, Mapping) and set(value) == {"percent", "other_drive"}:  # handed on as it is
            return cls(int(value["percent"]), bool(value["other_drive"]))
        words = value.split() if isinstance(value, str) else []
        if words == ["every"]:
            return cls()
        if words == ["other-drive"]:
            return cls(other_drive=True)
        number = words[1].removesuffix("%") if len(words) == 2 and words[0] == "sample" else ""
        if not (number.isascii() and number.isdigit() and len(number) <= 3):
            raise ValueError(f'expected "every", "sample N%" or "other-drive"; found {value!r}')
        return cls(percent=int(number))

    def at_once(self, packages: int) -> int:
        """How many of so many packages are read back in the session that wrote them: one at least."""
        return 0 if self.other_drive else min(packages, max(1, -(-packages * self.percent // 100)))


@dataclass(frozen=True, slots=True)
class Header:
    """What the catalog keeps of one instance's dataset, decoded to text, padding removed.

    Strings are empty when the attribute is absent or empty. Dates are ``YYYYMMDD``; times are as
    sent. Multi-valued attributes keep their backslashes.
    """

    patient_id: str
    patient_issuer: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    study_uid: str
    study_date: str
    study_time: str
    study_id: str
    study_description: str
    accession: str
    referring_physician: str
    series_uid: str
    series_number: int | None
    series_description: str
    series_date: str
    series_time: str
    modality: str
    body_part: str
    institution: str
    station: str
    sop_instance_uid: str
    sop_class_uid: str
    instance_number: int | None
    charset: str
    """Specific Character Set (0008,0005) as sent."""

    def __post_init__(self) -> None:
        check_uid(self.study_uid, "Study Instance UID (0020,000D)")
        check_uid(self.series_uid, "Series Instance UID (0020,000E)")
        check_uid(self.sop_instance_uid, "SOP Instance UID (0008,0018)")
        check_uid(self.sop_class_uid, "SOP Class UID (0008,0016)")


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """One catalogued instance: enough to find, check and send its bytes."""

    pk: int
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    version: int
    size: int
    """Bytes of the whole Part 10 file."""
    digest: bytes
    """SHA-256 of the whole Part 10 file."""
    study_uid: str
    series_uid: str
    package_pk: int | None
    """None while the instance is not sealed."""
    offset: int | None
    """Where its Part 10 file begins in the package's tar."""


@dataclass(frozen=True, slots=True)
class CopyAt:
    """One copy of one package and where its volume is: what availability and recalls decide on."""

    copy_pk: int
    package_pk: int
    volume_pk: int
    volume_name: str
    pool: str
    state: str
    volume_state: str
    place: Place
    locator: str
    position: int | None
    library: str | None
    shelf: str


@dataclass(frozen=True, slots=True)
class Goal:
    """How many verified copies on distinct volumes must be kept: in a pool, in a group of pools, or at
    different sites."""

    pool: str
    """The pool, or what the group is called in the policy: a kind, a tier, a site, ``sites``."""
    copies: int
    pools: tuple[str, ...] = ()
    """The pools that count; none is the one pool itself."""
    sites: tuple[str, ...] = ()
    """Where each of ``pools`` stands: the goal counts different sites. None: it counts copies."""

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ValueError(f"goal for {self.pool}: {self.copies} copies; expected at least 1")
        if self.sites and len(self.sites) != len(self.pools):
            raise ValueError(f"goal for {self.pool}: every pool stands at a site")

    @property
    def counted(self) -> tuple[str, ...]:
        """The pools whose copies count."""
        return self.pools or (self.pool,)

    def have(self, pools: Iterable[str]) -> int:
        """What copies in these pools, each pool named once a copy, are worth."""
        if not self.sites:
            return sum(pool in self.counted for pool in pools)
        site_of = dict(zip(self.pools, self.sites, strict=True))
        return len({site_of[pool] for pool in pools if pool in site_of})

    def record(self) -> dict[str, Any]:
        """As JSON holds it; :meth:`of` reads it."""
        return {
            "pool": self.pool,
            "copies": self.copies,
            "pools": list(self.pools),
            "sites": list(self.sites),
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Goal:
        """:raises ValueError, KeyError: not what :meth:`record` gave."""
        return cls(record["pool"], record["copies"], tuple(record["pools"]), tuple(record["sites"]))


@dataclass(frozen=True, slots=True)
class Selection:
    """What a C-MOVE, C-GET or recall asks for: unique keys of one level, PS3.4 section C.4.2.1.4.

    Every non-empty tuple narrows; at least one of them is not empty.
    """

    patient_ids: tuple[str, ...] = ()
    study_uids: tuple[str, ...] = ()
    series_uids: tuple[str, ...] = ()
    sop_instance_uids: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not (self.patient_ids or self.study_uids or self.series_uids or self.sop_instance_uids):
            raise BadInput("the request names no patient, study, series or instance")
