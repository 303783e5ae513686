"""A share and a bucket on other machines: folders behind a network that hangs, throttles and is cut."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from drivers import registry
from drivers.base import (
    Capacity,
    Family,
    Health,
    ObjectStat,
    Readable,
    RecallState,
    StoreLabel,
    Traits,
    Warmth,
)
from drivers.errors import NoSpace, NotReadableNow, Retryable
from drivers.folder import FolderStore
from drivers.oserrors import translated
from hsm.clock import ManualClock
from tests.chaos.chaos_effects import Effects
from tests.sim.taps import Fuse

LIMIT_SECONDS = 20.0
"""After so long an operation that hangs is given up, as the real drivers do."""
RESTORE_SECONDS = (240.0, 900.0, 4 * 3600.0)
"""What a cold class takes until an object can be read, one of these."""
SLOW_SECONDS = 12 * 3600.0
KEPT_SECONDS = 24 * 3600.0
"""Then it is cold again."""
LAPSED = "S3 object cold again too early"


@dataclass
class Trouble:
    """What is wrong with one far machine."""

    name: str
    clock: ManualClock
    rng: random.Random
    effects: Effects
    fuse: Callable[[], Fuse]
    hangs: bool = False
    away: bool = False
    full: bool = False
    throttles: float = 0.0
    """The share of operations that are told to come again."""
    slow: bool = False
    """What is asked for from a cold class takes hours."""
    cold: set[str] = field(default_factory=set)
    """Keys of the objects in a cold class."""
    ready_at: dict[str, float] = field(default_factory=dict)
    """Of what was asked for: when it can be read (monotonic seconds)."""
    lapsed: set[str] = field(default_factory=set)
    """What went cold again before its time."""

    def heal(self) -> None:
        self.hangs = self.away = self.full = self.slow = False
        self.throttles = 0.0

    def answer(self, what: str) -> None:
        """:raises Retryable: it does not answer, or not now."""
        self.fuse().alive()
        if self.hangs:
            self.effects.feel(f"{self.name} hangs")
            self.clock.advance(LIMIT_SECONDS)
            raise Retryable(f"{what}: no answer within {LIMIT_SECONDS:g} s")
        if self.away:
            self.effects.feel(f"{self.name} away")
            raise Retryable(f"{what}: connection refused")
        if self.throttles and self.rng.random() < self.throttles:
            self.effects.feel(f"{self.name} throttles")
            raise Retryable(f"{what}: 503 Slow Down")


TROUBLES: dict[str, Trouble] = {}
"""By family."""


class FarStore:
    """A :class:`FolderStore` whose machine has troubles of its own. What it has, it keeps."""

    def __init__(self, path: str, expect_uuid: str | None, trouble: Trouble) -> None:
        self._trouble = trouble
        trouble.answer("connect")
        self._inner = FolderStore(path, expect_uuid=expect_uuid)

    @property
    def traits(self) -> Traits:
        return Traits()

    @contextmanager
    def _does(self, what: str) -> Iterator[None]:
        self._trouble.answer(what)
        with translated(what):
            yield

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        with self._does(f"put {key}"):
            if self._trouble.full:
                self._trouble.effects.feel(f"{self._trouble.name} full")
                raise NoSpace(f"put {key}: no room on {self._trouble.name}")
            # The far machine's own matter: a death here leaves what it has.
            return self._inner.put(key, source, size, digest)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self._trouble.answer(f"get {key}")
        for chunk in self._inner.get(key, offset, length):
            self._trouble.answer(f"get {key}, in mid-way")
            yield chunk

    def delete(self, key: str) -> None:
        with self._does(f"delete {key}"):
            self._inner.delete(key)

    def list(self) -> Iterator[ObjectStat]:
        self._trouble.answer("list")
        return self._inner.list()

    def stat(self, key: str) -> ObjectStat:
        with self._does(f"stat {key}"):
            return self._inner.stat(key)

    def capacity(self) -> Capacity:
        with self._does("capacity"):
            if self._trouble.full:
                self._trouble.effects.feel(f"{self._trouble.name} full")
            return Capacity(1 << 40, 0 if self._trouble.full else 1 << 39)

    def flush(self) -> None:
        with self._does("flush"):
            self._inner.flush()

    def drop_caches(self) -> None:
        self._inner.drop_caches()

    def health(self) -> Health:
        try:
            self._trouble.answer("health")
        except Retryable as error:
            return Health(False, str(error))
        return Health(True)

    def read_label(self) -> StoreLabel | None:
        with self._does("read the label"):
            return self._inner.read_label()

    def write_label(self, label: StoreLabel) -> None:
        with self._does("write the label"):
            self._inner.write_label(label)


class ColdStore(FarStore):
    """A bucket with a cold class: its objects are asked for, and can be read minutes or hours later."""

    @property
    def traits(self) -> Traits:
        return Traits(cold=True)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        if self._warmth(key)[0] is not Warmth.READABLE:
            self._trouble.answer(f"get {key}")
            raise NotReadableNow(f"get {key}: it lies in a cold class")
        yield from super().get(key, offset, length)

    def delete(self, key: str) -> None:
        super().delete(key)
        self._trouble.cold.discard(key)
        self._trouble.ready_at.pop(key, None)

    def make_cold(self, key: str) -> None:
        self.stat(key)
        self._trouble.cold.add(key)

    def request_recall(self, key: str) -> RecallState:
        trouble = self._trouble
        if self.recall_state(key).warmth is Warmth.COLD:
            if key in trouble.lapsed:
                trouble.lapsed.discard(key)
                trouble.effects.feel(LAPSED)
            seconds = trouble.rng.choice(RESTORE_SECONDS)
            if trouble.slow:
                trouble.effects.feel("S3 restore takes hours")
                seconds = SLOW_SECONDS
            trouble.ready_at[key] = trouble.clock.monotonic() + seconds
        return self.recall_state(key)

    def recall_state(self, key: str) -> RecallState:
        self.stat(key)
        warmth, seconds = self._warmth(key)
        return RecallState(key, warmth, ask_again_seconds=seconds)

    def _warmth(self, key: str) -> tuple[Warmth, float]:
        """And how long until it is worth another look, seconds."""
        trouble, now = self._trouble, self._trouble.clock.monotonic()
        if key not in trouble.cold:
            return Warmth.READABLE, 0.0
        ready = trouble.ready_at.get(key)
        if ready is None or now >= ready + KEPT_SECONDS:
            return Warmth.COLD, 0.0
        return (Warmth.READABLE, 0.0) if now >= ready else (Warmth.RECALLING, min(ready - now, 1800.0))


def lapse(trouble: Trouble) -> bool:
    """What was asked for, and is ready or on its way, is cold again; False where there is none."""
    asked = set(trouble.ready_at)
    trouble.lapsed |= asked
    trouble.ready_at.clear()
    return bool(asked)


def _family(name: str, kind: str, store: type[FarStore] = FarStore) -> Family:
    def open_store(options: Mapping[str, Any]) -> FarStore:
        return store(options["at"], options.get("expect_uuid"), TROUBLES[name])

    return Family(
        name=name,
        options=frozenset({"at", "expect_uuid"}),
        required=frozenset({"at"}),
        open_store=open_store,
        kind=kind,
    )


NAS = _family("chaosnas", "nas")
BUCKET = _family("chaosbucket", "s3")
VAULT = _family("chaosvault", "s3", ColdStore)


@contextmanager
def installed(troubles: Mapping[str, Trouble]) -> Iterator[None]:
    """The families are found as an installed package's would be."""
    mine = [
        EntryPoint("chaosnas", f"{__name__}:NAS", registry.GROUP),
        EntryPoint("chaosbucket", f"{__name__}:BUCKET", registry.GROUP),
        EntryPoint("chaosvault", f"{__name__}:VAULT", registry.GROUP),
    ]
    before = registry.entry_points
    registry.entry_points = lambda group: [*entry_points(group=group), *mine]  # type: ignore[assignment]
    TROUBLES.clear()
    TROUBLES.update(troubles)
    try:
        yield
    finally:
        registry.entry_points = before
