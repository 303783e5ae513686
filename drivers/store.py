"""A Store, something bytes can be put into and got from *now*; what some can do besides, and the values that
are exchanged. What holds for all is in :mod:`drivers.base`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

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
        """Return only when everything put so far is on the medium and found again after a crash; also what
        :meth:`stat` has found and a process put that died before it had flushed."""
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
