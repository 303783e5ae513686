"""A driver family for tests: a bucket in a folder, across a network that fails when it is told to.

The switch of each bucket is found by its path, so that it outlives the daemon as a real server does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pytest

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

RESTORE_SECONDS = 4 * 3600.0
KEPT_SECONDS = 24 * 3600.0


@dataclass
class Switch:
    """What is wrong with a bucket, and what it was asked."""

    down: bool = False
    failing_reads: int = 0
    """So many reads fail although it answers."""
    full: bool = False
    free: int | None = None
    cold: bool = False
    asked: list[str] = field(default_factory=list)
    gets: int = 0
    frozen: set[str] = field(default_factory=set)
    ready_at: dict[str, datetime] = field(default_factory=dict)
    now: Any = None


SWITCHES: dict[str, Switch] = {}


def switch(path: object) -> Switch:
    return SWITCHES.setdefault(str(path), Switch())


class CloudStore:
    """A :class:`FolderStore` behind a switch. Cold objects need asking, and hours."""

    def __init__(self, path: str, expect_uuid: str | None) -> None:
        self._switch = switch(path)
        self._answer()
        self._inner = FolderStore(path, expect_uuid=expect_uuid)

    def _answer(self) -> None:
        if self._switch.down:
            raise Retryable("connect: connection refused")

    @property
    def traits(self) -> Traits:
        return Traits(cold=self._switch.cold)

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        self._answer()
        if self._switch.full:
            raise NoSpace("put: 507 Insufficient Storage")
        return self._inner.put(key, source, size, digest)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self._answer()
        self._switch.gets += 1
        if self._switch.failing_reads:
            self._switch.failing_reads -= 1
            raise Retryable("get: 503 Slow Down")
        if key in self._switch.frozen and self.recall_state(key).warmth is not Warmth.READABLE:
            raise NotReadableNow(f"{key} is in the class DEEP_ARCHIVE")
        for chunk in self._inner.get(key, offset, length):
            self._answer()
            yield chunk

    def delete(self, key: str) -> None:
        self._answer()
        self._inner.delete(key)
        self._switch.frozen.discard(key)

    def list(self) -> Iterator[ObjectStat]:
        self._answer()
        return self._inner.list()

    def stat(self, key: str) -> ObjectStat:
        self._answer()
        return self._inner.stat(key)

    def capacity(self) -> Capacity:
        self._answer()
        free = 0 if self._switch.full else self._switch.free
        return Capacity(1 << 40, 1 << 39 if free is None else free)

    def flush(self) -> None:
        self._answer()
        self._inner.flush()

    def drop_caches(self) -> None:
        self._inner.drop_caches()

    def health(self) -> Health:
        return Health(False, "connection refused") if self._switch.down else Health(True)

    def read_label(self) -> StoreLabel | None:
        self._answer()
        return self._inner.read_label()

    def write_label(self, label: StoreLabel) -> None:
        self._answer()
        self._inner.write_label(label)

    def request_recall(self, key: str) -> RecallState:
        state = self.recall_state(key)
        if state.warmth is Warmth.COLD:
            self._switch.asked.append(key)
            self._switch.ready_at[key] = self._switch.now() + timedelta(seconds=RESTORE_SECONDS)
        return self.recall_state(key)

    def recall_state(self, key: str) -> RecallState:
        self._answer()
        self._inner.stat(key)
        if key not in self._switch.frozen:
            return RecallState(key, Warmth.READABLE)
        ready = self._switch.ready_at.get(key)
        if ready is None:
            return RecallState(key, Warmth.COLD)
        now, until = self._switch.now(), ready + timedelta(seconds=KEPT_SECONDS)
        if now >= until:
            del self._switch.ready_at[key]
            return RecallState(key, Warmth.COLD)
        if now < ready:
            return RecallState(key, Warmth.RECALLING, ask_again_seconds=1800.0)
        return RecallState(key, Warmth.READABLE, until)

    def make_cold(self, key: str) -> None:
        self._answer()
        if not self._switch.cold:
            return
        self._inner.stat(key)
        self._switch.frozen.add(key)


def _open(options: Mapping[str, Any]) -> CloudStore:
    return CloudStore(options["bucket"], options.get("expect_uuid"))


FAMILY = Family(
    name="cloud",
    options=frozenset({"bucket", "expect_uuid"}),
    required=frozenset({"bucket"}),
    open_store=_open,
    kind="s3",
)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The family is found as an installed package's would be."""
    mine = EntryPoint("cloud", "tests.sim.cloud:FAMILY", registry.GROUP)

    def points(group: str) -> list[EntryPoint]:
        return [*entry_points(group=group), mine]

    monkeypatch.setattr(registry, "entry_points", points)
    SWITCHES.clear()
