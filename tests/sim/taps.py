"""Wrappers that count everything that lasts, and end the process at a chosen count.

A process that dies leaves what it had made durable and does nothing more. So each tap stands before
and after an effect (a commit, a put, a flush, a delete, a label, a move), and once one of them has
raised :class:`Crash` all of them do: no handler can tidy up after a process that is dead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy.orm import Session

from drivers.base import (
    Capacity,
    Health,
    Inventory,
    ObjectStat,
    Readable,
    Store,
    Traits,
    VolumeLabel,
)
from drivers.reports import DriveReport
from drivers.simulated.library import SimulatedLibrary
from drivers.wrappers import PassingStore
from hsm.catalog.engine import Catalog


class Crash(BaseException):
    """The process is dead. Not an Exception: nothing in the daemon may catch it."""


class Fuse:
    """Counts effects; blows at a given one."""

    def __init__(self) -> None:
        self.count = 0
        self.blows_at: int | None = None
        self.blown = False

    def tick(self) -> None:
        if self.blown:
            raise Crash("dead")
        self.count += 1
        if self.blows_at is not None and self.count >= self.blows_at:
            self.blown = True
            raise Crash(f"at effect {self.count}")

    def alive(self) -> None:
        if self.blown:
            raise Crash("dead")

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        """An effect: the process may die before it and after it."""
        self.tick()
        yield
        self.tick()


class TappedCatalog(Catalog):
    """A catalog whose commits may be the last thing that the process does."""

    fuse: Fuse

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        self.fuse.alive()
        with super().read() as session:
            yield session

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        self.fuse.alive()
        with super().write() as session:
            yield session
            self.fuse.tick()  # nothing is committed yet
        self.fuse.tick()


class TappedStore(PassingStore):
    """A Store whose effects are counted."""

    def __init__(self, inner: Store, fuse: Fuse) -> None:
        super().__init__(inner)
        self._fuse = fuse

    @property
    def traits(self) -> Traits:
        return self._inner.traits

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        with self._fuse.around():
            return self._inner.put(key, source, size, digest)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        for chunk in self._inner.get(key, offset, length):
            self._fuse.alive()
            yield chunk

    def delete(self, key: str) -> None:
        with self._fuse.around():
            self._inner.delete(key)

    def list(self) -> Iterator[ObjectStat]:
        return self._inner.list()

    def stat(self, key: str) -> ObjectStat:
        self._fuse.alive()
        return self._inner.stat(key)

    def capacity(self) -> Capacity:
        return self._inner.capacity()

    def flush(self) -> None:
        with self._fuse.around():
            self._inner.flush()

    def drop_caches(self) -> None:
        self._inner.drop_caches()

    def health(self) -> Health:
        return self._inner.health()


class TappedLibrary:
    """A simulated library whose effects are counted; hands and faults included."""

    def __init__(self, inner: SimulatedLibrary, fuse: Fuse) -> None:
        self.inner = inner
        self._fuse = fuse
        self.on_mount: Callable[[str], None] = lambda _: None

    @property
    def name(self) -> str:
        return self.inner.name

    def inventory(self) -> Inventory:
        self._fuse.alive()
        return self.inner.inventory()

    def read_label(self, barcode: str, drive: int) -> VolumeLabel | None:
        with self._fuse.around():
            return self.inner.read_label(barcode, drive)

    def label(self, label: VolumeLabel, drive: int) -> None:
        with self._fuse.around():
            self.inner.label(label, drive)

    def overwrite(self, label: VolumeLabel, drive: int, typed: str) -> str:
        with self._fuse.around():
            return self.inner.overwrite(label, drive, typed)

    def report(self, drive: int) -> DriveReport:
        return self.inner.report(drive)

    def clean(self, drive: int) -> None:
        with self._fuse.around():
            self.inner.clean(drive)

    def mount(self, label: VolumeLabel, drive: int) -> Store:
        with self._fuse.around():
            store = TappedStore(self.inner.mount(label, drive), self._fuse)
        self.on_mount(label.barcode)
        return store

    def unmount(self, drive: int) -> None:
        with self._fuse.around():
            self.inner.unmount(drive)

    def eject(self, barcode: str) -> int:
        with self._fuse.around():
            return self.inner.eject(barcode)

    def hand_insert(self, barcode: str) -> None:
        self.inner.hand_insert(barcode)

    def hand_remove(self, barcode: str) -> None:
        self.inner.hand_remove(barcode)


class Handless:
    """A library without simulated hands, as every real one is."""

    def __init__(self, inner: TappedLibrary) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("hand_"):
            raise AttributeError(name)
        return getattr(self._inner, name)
