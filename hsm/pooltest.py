"""``hsm pool test``: writes a probe, reads it back, times it, deletes it, and says in an admin's words what
is wrong. Works on a Store that nobody has opened yet, with the daemon or without it."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from drivers.base import Labelled, Store
from drivers.wrappers import PassingStore
from hsm.errors import Corrupt, DriverError, HsmError, NoSpace, NotFound, OperatorNeeded, Permanent, Retryable
from hsm.service import close_store

PROBE_BYTES = 8 << 20
SLOW_BYTES_PER_SECOND = 2e6
"""Slower than this is told as a problem: a study of 500 MB would take longer than four minutes."""
SLOW_ANSWER_SECONDS = 5.0
"""So long for a small request is told as a problem."""

_WORDS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("host key", "known_hosts", "fingerprint"), "the server's host key is not the known one"),
    (
        (
            *("credential", "accessdenied", "access denied", "invalidaccesskey", "signature", "forbidden"),
            *("authenticat", "permission denied", "publickey", "403", "401", "not permitted"),
        ),
        "wrong credentials, or no right to do this",
    ),
    (("nosuchbucket", "no such bucket", "bucket does not exist"), "there is no such bucket"),
    (("read-only", "read only"), "it is read-only"),
    (("no space", "quota", "full", "507"), "it is full"),
    (("not mounted", "is not a folder", "does not exist; mount", "stale"), "it is not mounted"),
    (("certificate", "ssl", "tls"), "its TLS certificate is not trusted"),
    (("clock", "requesttimetooskewed", "skew"), "the clocks of the two machines differ too much"),
    (
        ("refused", "unreachable", "timed out", "timeout", "does not answer", "name or service", "resolve"),
        "it does not answer: is the server up, and its address right?",
    ),
)


def in_words(error: Exception) -> str:
    """What is wrong, as an admin would say it; the error's own text follows it. Pure."""
    text = str(error)
    low = text.lower()
    if isinstance(error, NoSpace):
        return f"it is full ({text})"
    for marks, words in _WORDS:
        if any(_says(low, mark) for mark in marks):
            return f"{words} ({text})"
    kinds: tuple[tuple[type[Exception], str], ...] = (
        (Corrupt, "other bytes came back than were written"),
        (OperatorNeeded, "somebody must act"),
        (Retryable, "it fails just now"),
        (NotFound, "what was written is not there"),
        (Permanent, "it refuses"),
    )
    kind = next((words for each, words in kinds if isinstance(error, each)), "it fails")
    return f"{kind} ({text})"


def _says(text: str, mark: str) -> bool:
    """A status code is one only where it stands alone: a path or a length may have the same digits."""
    return bool(re.search(rf"(?<![\w/.-]){mark}(?![\w/.-])", text)) if mark.isdigit() else mark in text


@dataclass(slots=True)
class PoolTest:
    """What was tried on one volume."""

    pool: str
    volume: str
    steps: list[dict[str, Any]] = field(default_factory=list)
    """Each: step, seconds, and bytes_per_second where bytes went."""
    problems: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        return {
            "pool": self.pool,
            "volume": self.volume,
            "ok": not self.problems,
            "steps": self.steps,
            "problems": self.problems,
        }


class _Failed(Exception):
    """A step failed and is on record; those after it make no sense."""


class Tester:
    """Tries one volume after the other.

    :param seconds: a clock that never goes back.
    :param rng: makes the probe, so that nothing on the way can guess or squeeze it.
    """

    def __init__(self, seconds: Callable[[], float], rng: random.Random, size: int = PROBE_BYTES) -> None:
        self._seconds = seconds
        self._rng = rng
        self._size = size

    def test(self, pool: str, volume: str, opener: Callable[[], Store], identity: str | None) -> PoolTest:
        """Try the Store that ``opener`` opens; what the probe wrote is gone afterwards.

        :param identity: the UUID that it must carry; None where nobody has used it yet.
        """
        found = PoolTest(pool, volume)
        with suppress(_Failed):
            self._all(found, opener, identity)
        return found

    def _all(self, found: PoolTest, opener: Callable[[], Store], identity: str | None) -> None:
        with self._step(found, "open"):
            store = opener()
        try:
            with self._step(found, "label"):
                _check_label(store, found.pool, identity)
            with self._step(found, "room"):
                room = store.capacity()
            found.steps[-1]["free"] = room.free
            self._bytes(found, store)
        finally:
            close_store(store)

    def _bytes(self, found: PoolTest, store: Store) -> None:
        """What goes there must come back."""
        data = self._rng.randbytes(self._size)
        digest = sha256(data).digest()
        key = f"hsm-probe/{self._rng.getrandbits(64):016x}.bin"
        try:
            with self._step(found, "write", self._size):
                store.put(key, io.BytesIO(data), self._size, digest)
                store.flush()
            with self._step(found, "read back", self._size):
                store.drop_caches()
                if sha256(b"".join(store.get(key))).digest() != digest:
                    raise Corrupt(f"{key} has other bytes")
            with self._step(found, "answer"):
                store.stat(key)
        finally:
            with self._step(found, "delete"):
                store.delete(key)
                store.flush()
        self._judge(found)

    @contextmanager
    def _step(self, found: PoolTest, name: str, size: int = 0) -> Iterator[None]:
        began = self._seconds()
        try:
            yield
        except (DriverError, HsmError) as error:
            found.problems.append(f"{name}: {in_words(error)}")
            raise _Failed from error
        spent = self._seconds() - began
        rate = {"bytes_per_second": round(size / max(spent, 1e-6))} if size else {}
        found.steps.append({"step": name, "seconds": round(spent, 3), **rate})

    def _judge(self, found: PoolTest) -> None:
        for step in found.steps:
            rate = step.get("bytes_per_second")
            if rate is not None and rate < SLOW_BYTES_PER_SECOND:
                found.problems.append(f"{step['step']}: it is slow: {rate / 1e6:.2f} MB/s")
            elif rate is None and step["seconds"] > SLOW_ANSWER_SECONDS:
                found.problems.append(f"{step['step']}: it is slow: an answer took {step['seconds']:.1f} s")


def _check_label(store: Store, pool: str, identity: str | None) -> None:
    inner = store
    while not isinstance(inner, Labelled):
        if not isinstance(inner, PassingStore):
            raise Permanent("the driver keeps no label on its storage: it cannot be a pool")
        inner = inner.inner
    label = inner.read_label()
    if label is not None and label.pool != pool:
        raise Permanent(f"it belongs to pool {label.pool!r}, as its label says")
    if identity is not None and (label is None or label.uuid != identity):
        carries = label.uuid if label else "no label"
        raise OperatorNeeded(f"it carries {carries}, expected {identity}: not mounted, or another storage")
