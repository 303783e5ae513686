"""The two protocols that storage speaks, and the values they exchange.

A :class:`Store` is something bytes can be put into and got from *now*. A :class:`Library` is
something that turns a volume into a Store: a changer (a robot, or a person with a shelf) with
drives. Capabilities are data (:class:`Traits`), not methods.

Sizes and offsets are bytes, times are seconds, digests are the 32 raw bytes of a SHA-256.
Every method may raise the four kinds of :mod:`drivers.errors` and nothing else.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from drivers.reports import DriveReport

CHUNK_BYTES = 1 << 20
"""The largest piece that ``get`` yields and that ``put`` asks of its source at a time."""

DIGEST_BYTES = 32


class Readable(Protocol):
    """A source of bytes: ``read(n)`` returns at most ``n`` bytes and ``b""`` only at the end."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Traits:
    """What a Store can and cannot do, as data."""

    random_access: bool = True
    """Reading at an offset costs about as much as reading at zero."""
    append_only: bool = False
    """``delete`` frees no space."""
    removable: bool = False
    """The medium can leave; what is on it must explain itself."""
    latency_seconds: float = 0.0
    """Expected time to the first byte."""
    cold: bool = False
    """What lies here must be asked for before it can be read; the Store is :class:`Recallable`."""


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """One stored object."""

    key: str
    size: int
    position: int | None = None
    """Where it lies on a sequential medium (the device's own unit), for ordering reads."""

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"{self.key}: size {self.size} is negative")


@dataclass(frozen=True, slots=True)
class Capacity:
    """Room on a volume. ``free`` is what may still be put, any reserve taken off."""

    total: int
    free: int


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a Store can be used now, in an admin's words."""

    ok: bool
    message: str = ""


class Store(Protocol):
    """Something bytes can be put into and got from now.

    Keys are relative paths of ``[A-Za-z0-9._-]`` parts joined by ``/``; see :func:`check_key`.
    """

    @property
    def traits(self) -> Traits: ...

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        """Store exactly ``size`` bytes from ``source`` under ``key``.

        ``digest``, when given, is compared with what was read from ``source``. All or nothing:
        after an error the key is absent. Durable only after :meth:`flush`.

        :raises Corrupt: the source gave other bytes than ``digest`` says, too few or too many.
        :raises NoSpace: they do not fit.
        :raises Permanent: the key exists already (objects are immutable) or is malformed.
        """
        ...

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the object's bytes from ``offset``, ``length`` of them (to the end when None).

        :raises NotFound: no such key.
        :raises Corrupt: the medium holds fewer bytes than were asked for.
        :raises NotReadableNow: it lies in a cold class, see :class:`Recallable`.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove ``key``; absent is not an error."""
        ...

    def list(self) -> Iterator[ObjectStat]: ...

    def stat(self, key: str) -> ObjectStat:
        """:raises NotFound: no such key."""
        ...

    def capacity(self) -> Capacity: ...

    def flush(self) -> None:
        """Return only when everything put so far is on the medium and found again after a crash."""
        ...

    def drop_caches(self) -> None:
        """Make the next ``get`` read the medium and not a cache of it (read-back needs this)."""
        ...

    def health(self) -> Health: ...


class Warmth(enum.StrEnum):
    """Whether an object of cold storage can be read."""

    READABLE = "readable"
    COLD = "cold"
    """Only after :meth:`Recallable.request_recall`."""
    RECALLING = "recalling"
    """It was asked for and is on its way."""


@dataclass(frozen=True, slots=True)
class RecallState:
    """What is known now of one object of cold storage."""

    key: str
    warmth: Warmth
    until: datetime | None = None
    """When what was recalled goes cold again (aware); None: never, or not known."""
    ask_again_seconds: float = 0.0
    """How long to wait before :meth:`Recallable.recall_state` is worth asking again; 0 when readable."""

    def __post_init__(self) -> None:
        if self.until is not None and self.until.tzinfo is None:
            raise ValueError(f"{self.key}: until has no time zone")
        if self.ask_again_seconds < 0:
            raise ValueError(f"{self.key}: ask again in {self.ask_again_seconds} s; expected at least 0")


@runtime_checkable
class Recallable(Protocol):
    """A Store that has cold objects too: they are asked for, and can be read hours later.

    No call waits for that: who wants the bytes asks, comes back when ``ask_again_seconds`` are over, and
    reads once :meth:`recall_state` says ``readable``. Use :func:`drivers.wrappers.recallable` to find it
    in a Store that may be wrapped.
    """

    def request_recall(self, key: str) -> RecallState:
        """Ask for ``key``. Safe to repeat: what is on its way or readable already is not asked for twice.

        :raises NotFound: no such key.
        """
        ...

    def recall_state(self, key: str) -> RecallState:
        """:raises NotFound: no such key."""
        ...

    def make_cold(self, key: str) -> None:
        """Move ``key`` into the pool's cold class, where ``put`` does not do so itself: an object can be
        read back, and so become a verified copy, only before. Cold already, or a warm pool: nothing to do.

        :raises NotFound: no such key.
        """
        ...


@runtime_checkable
class Digested(Protocol):
    """A Store that keeps the SHA-256 of each object beside it, as it was when the object was put. Use
    :func:`drivers.wrappers.digested` to find it in a Store that may be wrapped."""

    def recorded_digest(self, key: str) -> bytes | None:
        """What was noted when ``key`` was put: nobody has read the object for it. None: nothing was.

        :raises NotFound: no such key.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoreLabel:
    """Whose a Store's storage is: written into it once, compared whenever it is opened."""

    pool: str
    uuid: str


@runtime_checkable
class Labelled(Protocol):
    """A Store whose storage says whose it is, so that no pool writes into another one's folder or bucket.

    Its family has the option ``expect_uuid``: opened with it, the Store raises ``OperatorNeeded`` where
    the label is missing or another one, before it writes, deletes, or calls anything absent.
    """

    def read_label(self) -> StoreLabel | None:
        """Read from the storage now; None where there is none.

        :raises Corrupt: what is there is not a label.
        """
        ...

    def write_label(self, label: StoreLabel) -> None:
        """Mark the storage; durable on return. The same label again changes nothing.

        :raises Permanent: it carries another label.
        """
        ...


class Severity(enum.StrEnum):
    """How much a notice matters: for the record; look at it in the daytime; service is lost."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened to a Store's device, in an admin's words."""

    severity: Severity
    subject: str
    """The path, port or device that it happened to."""
    message: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One reading of a device, for metrics and status."""

    name: str
    """In lower case with its unit, as metrics are called: ``paths_up``, ``size_bytes``."""
    value: float
    labels: tuple[tuple[str, str], ...] = ()


@runtime_checkable
class Watched(Protocol):
    """A Store whose device tells what happens to it, without being used."""

    def watch(self, tell: Callable[[Notice], None]) -> None:
        """Call ``tell`` for what happens from now on, from a thread of the Store's own; once for a Store."""
        ...

    def figures(self) -> tuple[Figure, ...]:
        """What there is to measure now; asks nothing that could hang."""
        ...

    def close(self) -> None:
        """End the watching."""
        ...


class ElementKind(enum.StrEnum):
    """Element types of SCSI SMC (data transfer, storage, import/export), and the shelf."""

    DRIVE = "drive"
    SLOT = "slot"
    MAIL = "mail"


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a changer and what lies in it."""

    kind: ElementKind
    address: int
    barcode: str | None = None
    note: str = ""
    """What else an admin should know of it: a cleaning cartridge, a label that cannot be read."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a changer sees. What it does not list is not in the library."""

    elements: tuple[Element, ...]

    def find(self, barcode: str) -> Element | None:
        """The element that holds ``barcode``, or None when it is not in the library."""
        return next((e for e in self.elements if e.barcode == barcode), None)

    def drives(self) -> tuple[Element, ...]:
        return tuple(e for e in self.elements if e.kind is ElementKind.DRIVE)


@dataclass(frozen=True, slots=True)
class VolumeLabel:
    """Who a volume says it is: written first on the medium, compared before any other I/O."""

    barcode: str
    uuid: str
    pool: str


class Library(Protocol):
    """Drives and something that puts volumes into them: a robot, or a person with a shelf.

    ``drive`` is always a drive's element address, as :meth:`inventory` gives it.
    """

    @property
    def name(self) -> str: ...

    def inventory(self) -> Inventory:
        """What is where, looked at now and not remembered."""
        ...

    def read_label(self, barcode: str, drive: int) -> VolumeLabel | None:
        """Load ``barcode`` into ``drive`` if it is not there and return its label; None when blank."""
        ...

    def label(self, label: VolumeLabel, drive: int) -> None:
        """Load a blank volume and write its label.

        :raises WrongVolume: the volume is not blank.
        """
        ...

    def mount(self, label: VolumeLabel, drive: int) -> Store:
        """Load the volume into ``drive`` (unloading another one first) and return it as a Store.

        :raises OperatorNeeded: the volume is not in the library.
        :raises WrongVolume: what is in the drive says it is another volume than ``label``.
        """
        ...

    def unmount(self, drive: int) -> None:
        """Flush, unload, and put the volume back into a slot. Empty drive: nothing to do."""
        ...

    def eject(self, barcode: str) -> int:
        """Move the volume to a mail slot and return that element's address.

        :raises OperatorNeeded: every mail slot is occupied.
        """
        ...


@runtime_checkable
class Overwriting(Protocol):
    """A Library that can make a volume that is not blank its own, when an admin insists."""

    def overwrite(self, label: VolumeLabel, drive: int, typed: str) -> str:
        """Write ``label`` over whatever is on the cartridge; what that was.

        ``typed`` is the barcode as the admin typed it out.

        :raises Permanent: ``typed`` is not the barcode of ``label``; nothing was read or written.
        """
        ...


@runtime_checkable
class Reporting(Protocol):
    """A Library whose drives say how they and their cartridges are."""

    def report(self, drive: int) -> DriveReport:
        """Ask a drive now; what it does not tell is None. A mounted volume is not disturbed.

        Alerts that were seen since the drive was cleaned are among those of the report: drives lower them
        when they are read.

        :raises Retryable: the drive cannot be asked while this volume is mounted, or is not there.
        """
        ...


@runtime_checkable
class Ordering(Protocol):
    """A Library whose drives may know a good order to read in (recommended access order)."""

    def recommended_order(self, drive: int, extents: Sequence[tuple[int, int]]) -> tuple[int, ...] | None:
        """In which order the drive itself would read from the volume that is mounted in it.

        ``extents`` are the first and the last position of each object, as :attr:`ObjectStat.position` counts
        them. Answers with their indices; None where the drive does not say.

        :raises Retryable: the drive cannot be asked now.
        """
        ...


@runtime_checkable
class Cleaning(Protocol):
    """A Library that can clean a drive with a cleaning cartridge it holds."""

    def clean(self, drive: int) -> None:
        """Unload the drive, clean it and put the cleaning cartridge back; minutes.

        :raises OperatorNeeded: there is no cleaning cartridge, the one there is has expired, or it does
            not come out again; the message says what to do.
        :raises Retryable: a put or get is under way.
        """
        ...


@runtime_checkable
class SimulatedHands(Protocol):
    """What an operator's hands do to a library that must be told of it: a simulated one, or drives
    without a changer. A robot does not have it."""

    def hand_insert(self, barcode: str) -> None:
        """Take the volume from the shelf and put it into a free mail slot or slot."""
        ...

    def hand_remove(self, barcode: str) -> None:
        """Take the volume out of the mail slot (or slot) and put it on the shelf."""
        ...


@dataclass(frozen=True, slots=True)
class Family:
    """One driver family, as found through the entry-point group ``hsm.drivers``.

    The factories take the driver's own options (plain values from the configuration) and
    import what is heavy only when called. A family gives Stores, Libraries, or both.
    """

    name: str
    options: frozenset[str]
    """The option names that the factories accept; anything else is a configuration error."""
    open_store: Callable[[Mapping[str, Any]], Store] | None = None
    open_library: Callable[[Mapping[str, Any]], Library] | None = None
    required: frozenset[str] = frozenset()
    kind: str = "disk"
    """What a policy calls the volumes of its Stores: disk, nas, sftp, s3, optical, tape."""
    path_option: str | None = None
    """The option that names a folder of this machine below which the object ``key`` is the file
    ``path/key``, if the Stores are such: only these can hold the layout ``files``."""
    check: Callable[[Mapping[str, Any]], None] | None = None
    """Looks at the options' values and opens nothing, for whoever checks a configuration; raises
    ``Permanent`` where one cannot be meant."""
    any_clock: bool = False
    """Nothing in it waits for hardware or a network, so that a daemon in a simulation whose clock is
    sped up may use it."""


def noted_digest(text: str | None) -> bytes | None:
    """A SHA-256 that somebody noted in hexadecimal; None where it is not one."""
    try:
        found = bytes.fromhex(text or "")
    except ValueError:
        return None
    return found if len(found) == DIGEST_BYTES else None


_KEY_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
KEY_LENGTH_MAX = 512


def check_key(key: str) -> str:
    """Return ``key`` if it is safe as a relative path on every medium.

    :raises ValueError: empty, absolute, too long, ``.`` or ``..`` as a part, or a character outside
        ``[A-Za-z0-9._-]``.
    """
    if not key or len(key) > KEY_LENGTH_MAX:
        raise ValueError(f"key of {len(key)} characters; expected 1 to {KEY_LENGTH_MAX}")
    for part in key.split("/"):
        if part in ("", ".", "..") or not _KEY_CHARACTERS.issuperset(part):
            raise ValueError(f"key {key!r} has an unsafe part {part!r}")
    return key
