"""What the watch shows, as values: made from the API's answers by pure functions, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cli import text

Record = Mapping[str, Any]

URGENCY: Mapping[str, int] = {
    "stat": 0, "routine": 10, "prefetch": 20, "bulk": 25, "migration": 30, "scrub": 40,
}  # fmt: skip
"""The names that the API gives priorities, and their order; lower goes first."""

NAME_LENGTH_MAX = 200
"""Characters of anything that comes from outside: a line of the screen is shorter, a limit keeps it quick."""


@dataclass(frozen=True, slots=True)
class Waiter:
    """Who waits for a volume, and since when."""

    who: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another volume that would do, where it lies, and in how many seconds it could be read."""

    barcode: str
    where: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """One volume that somebody is asked to bring.

    :ivar urgency: ``stat``, ``routine`` ... or a number between the named priorities.
    :ivar where: where it should lie, as the catalog knows it.
    :ivar into: the drive or the mail slot that it should go into; empty for any of the library's.
    :ivar waited: seconds that the prompt had been open when it was looked at.
    :ivar taken_by: who has said that they are walking; empty for nobody.
    :ivar note: what the archive adds: an answer that was not taken back, a switch to another copy.
    """

    barcode: str
    id: int = 0
    urgency: str = "routine"
    where: str = ""
    site: str = ""
    library: str = ""
    into: str = ""
    pool: str = ""
    asked_at: datetime | None = None
    waited: float = 0.0
    deadline: datetime | None = None
    waiters: tuple[Waiter, ...] = ()
    requests: int = 0
    bytes: int | None = None
    taken_by: str = ""
    taken_at: datetime | None = None
    note: str = ""
    alternatives: tuple[Alternative, ...] = ()

    @property
    def rank(self) -> int:
        """The urgency as a number; lower goes first."""
        return _rank(self.urgency)

    @property
    def is_stat(self) -> bool:
        return self.rank <= URGENCY["stat"]

    def is_mine(self, name: str) -> bool:
        """Whether it is this operator who walks; the journal adds the login to a name."""
        return bool(name) and (self.taken_by == name or self.taken_by.startswith(f"{name} (as "))

    @property
    def walker(self) -> str:
        """Who walks, without the login."""
        return self.taken_by.partition(" (as ")[0]

    def is_late(self, now: datetime) -> bool:
        """Whether its deadline is over."""
        return self.deadline is not None and self.deadline < now

    def left(self, now: datetime) -> float | None:
        """Seconds until its deadline, negative when that is over; None without one."""
        return None if self.deadline is None else (self.deadline - now).total_seconds()


@dataclass(frozen=True, slots=True)
class Stop:
    """One shelf of a walk, and what to take from it."""

    site: str
    shelf: str
    picks: tuple[Prompt, ...]


@dataclass(frozen=True, slots=True)
class Walk:
    """What to carry in one go: 1 is the one to make now, the next follows when the drives are free."""

    number: int
    stops: tuple[Stop, ...]

    @property
    def picks(self) -> tuple[Prompt, ...]:
        return tuple(pick for stop in self.stops for pick in stop.picks)


@dataclass(frozen=True, slots=True)
class Drive:
    """One drive and what is in it."""

    library: str
    number: int
    barcode: str = ""
    in_service: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cartridge:
    """A cartridge in a mail slot, and where a person should take it; ``shelf`` is empty when nobody said."""

    barcode: str
    library: str
    slot: int | None
    shelf: str = ""
    state: str = ""
    pool: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Trip:
    """A cartridge that a person carries out of a library to its shelf, or back.

    :ivar state: ``planned`` or ``left``; empty for one that lies in a mail slot and was never planned.
    :ivar by: who took that step.
    """

    barcode: str
    origin: str
    target: str
    state: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a prompt ended, and by whom."""

    barcode: str
    outcome: str
    by: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that was seen at one look.

    :ivar total: open prompts altogether; ``prompts`` are the most urgent of them.
    :ivar ended: what became of prompts that the last picture had and this one has not.
    """

    looked_at: datetime
    prompts: tuple[Prompt, ...] = ()
    total: int = 0
    walks: tuple[Walk, ...] = ()
    drives: tuple[Drive, ...] = ()
    mail: tuple[Cartridge, ...] = ()
    trips: tuple[Trip, ...] = ()
    ended: tuple[Ended, ...] = ()
    archive: str = ""
    by_barcode: Mapping[str, Prompt] = field(default_factory=dict, compare=False, repr=False)

    def find(self, barcode: str) -> Prompt | None:
        """The open prompt for a barcode; barcodes are compared without regard to case."""
        return self.by_barcode.get(barcode.upper())

    def trip(self, barcode: str) -> Trip | None:
        """The way that a cartridge is on."""
        return next((each for each in self.trips if each.barcode == barcode), None)


def picture(
    looked_at: datetime,
    mounts: Sequence[Record],
    *,
    status: Record,
    walks: Sequence[Record] = (),
    mail: Sequence[Record] = (),
    movements: Sequence[Record] = (),
    busy: frozenset[str] | None = frozenset(),
    ended: Sequence[Record] = (),
) -> Picture:
    """The API's answers as one picture, its prompts in the order to do them.

    :param busy: volumes that something waits for: they are not carried away; None when that is not known.
    """
    prompts = by_urgency([prompt(mount) for mount in mounts if mount.get("state", "open") == "open"])
    daemon = status.get("daemon", {})
    in_mail = tuple(cartridge(volume) for volume in mail)
    wanted = {each.barcode for each in prompts}
    carried = [trip(each) for each in movements if each.get("open")]
    planned = wanted | {each.barcode for each in carried}
    if busy is not None:
        carried += [_unplanned(each) for each in in_mail if each.shelf and each.barcode not in planned | busy]
    return Picture(
        looked_at,
        prompts,
        max(len(prompts), int(status.get("mounts_open", 0) or 0)),
        tuple(walk(each) for each in walks),
        tuple(drive(each) for each in daemon.get("drives", ())),
        in_mail,
        tuple(carried),
        tuple(
            Ended(_clean(each["barcode"]), _clean(each.get("outcome")), _clean(each.get("answered_by")))
            for each in ended
        ),
        _clean(daemon.get("listen", {}).get("ae_title", "")),
        {each.barcode.upper(): each for each in prompts},
    )


def by_urgency(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """``prompts`` in the order to do them: urgency, then deadline, then the oldest, then barcode."""

    def key(each: Prompt) -> tuple[int, bool, float, float, str]:
        due = each.deadline.timestamp() if each.deadline is not None else 0.0
        asked = each.asked_at.timestamp() if each.asked_at is not None else -each.waited
        return each.rank, each.deadline is None, due, asked, each.barcode

    return tuple(sorted(prompts, key=key))


def prompt(mount: Record) -> Prompt:
    """One mount request of ``GET /v1/operator/prompts``."""
    return Prompt(
        barcode=_clean(mount["barcode"]),
        id=int(mount.get("id") or 0),
        urgency=_clean(mount.get("priority", "routine")),
        where=_clean(mount.get("where")),
        site=_clean(mount.get("site")),
        library=_clean(mount.get("library")),
        into=_clean(mount.get("into")),
        pool=_clean(mount.get("pool")),
        asked_at=_time(mount.get("created_at")),
        waited=float(mount.get("waiting_seconds") or 0),
        deadline=_time(mount.get("deadline")),
        waiters=tuple(
            Waiter(_clean(each["who"]), _time(each.get("since"))) for each in mount.get("waiters", ())
        ),
        requests=int(mount.get("requests") or 0),
        bytes=mount.get("bytes"),
        taken_by=_clean(mount.get("acked_by")),
        taken_at=_time(mount.get("acked_at")),
        note=_clean(mount.get("note")),
        alternatives=tuple(alternative(each) for each in mount.get("alternatives", ())),
    )


def alternative(given: Record) -> Alternative:
    """Another volume that would do."""
    return Alternative(_clean(given["barcode"]), _clean(given.get("where")), given.get("seconds"))


def walk(given: Record) -> Walk:
    """One walk of ``GET /v1/operator/picklist``."""
    return Walk(
        int(given["number"]),
        tuple(
            Stop(_clean(stop.get("site")), _clean(stop.get("shelf")), tuple(map(prompt, stop["items"])))
            for stop in given["stops"]
        ),
    )


def drive(given: Record) -> Drive:
    """One drive of ``GET /v1/status``."""
    return Drive(
        _clean(given.get("library")),
        int(given.get("drive") or 0),
        _clean(given.get("barcode")),
        bool(given.get("in_service", True)),
        _clean(given.get("note")),
    )


def cartridge(volume: Record) -> Cartridge:
    """One volume of ``GET /v1/volumes``."""
    return Cartridge(
        _clean(volume.get("name") or volume.get("barcode")),
        _clean(volume.get("library")),
        volume.get("element"),
        _clean(volume.get("shelf")),
        _clean(volume.get("state")),
        _clean(volume.get("pool")),
    )


def trip(movement: Record) -> Trip:
    """One cartridge of ``GET /v1/movements``."""
    return Trip(
        _clean(movement["barcode"]),
        _clean(movement.get("from")),
        _clean(movement.get("to")),
        _clean(movement.get("state")),
        _clean(movement.get("left_by") or movement.get("planned_by")),
    )


def _unplanned(each: Cartridge) -> Trip:
    number = "" if each.slot is None else f" {each.slot}"
    return Trip(each.barcode, f"{each.library} mail slot{number}", f"shelf {each.shelf}")


def _rank(urgency: str) -> int:
    if urgency in URGENCY:
        return URGENCY[urgency]
    return int(urgency) if urgency.isdecimal() and len(urgency) < 6 else max(URGENCY.values())


def _clean(value: object) -> str:
    return text.clean(value)[:NAME_LENGTH_MAX]


def _time(value: object) -> datetime | None:
    return text.parse_time(value) if isinstance(value, str) and value else None
