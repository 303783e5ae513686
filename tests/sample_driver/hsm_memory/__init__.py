"""A sample driver: a Store in the memory of this process. Useful for nothing but to be read.

Everything that a driver of one's own needs is here: a Store, a label, options that are checked, a Family.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from drivers import options as opt
from drivers.base import (
    CHUNK_BYTES,
    Capacity,
    Family,
    Health,
    ObjectStat,
    Readable,
    Store,
    StoreLabel,
    Traits,
)
from drivers.errors import NoSpace, NotFound, OperatorNeeded, Permanent
from drivers.transfer import check_put, check_range, copy_exactly, safe_key, span


@dataclass
class Shelf:
    """The storage: outlives the Stores on it, as a disk outlives a mount."""

    size: int
    objects: dict[str, bytes] = field(default_factory=dict)
    label: StoreLabel | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


_shelves: dict[str, Shelf] = {}


class MemoryStore:
    """A Store on the shelf ``name``. :raises OperatorNeeded: it carries another label than expected."""

    def __init__(self, name: str, size: int, expect_uuid: str | None = None) -> None:
        self._name, self._expect_uuid = name, expect_uuid
        self._shelf = _shelves.setdefault(name, Shelf(size))
        self._require_label()

    @property
    def traits(self) -> Traits:
        return Traits()

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        safe_key(key)
        check_put(size, digest, key)
        self._require_label()
        if size > self.capacity().free:
            raise NoSpace(f"put {key}: {size} bytes, {self.capacity().free} are free on shelf {self._name}")
        pieces: list[bytes] = []
        copy_exactly(source, size, digest, pieces.append, key)
        with self._shelf.lock:
            if key in self._shelf.objects:
                raise Permanent(f"{key} is on shelf {self._name} already; objects are immutable")
            self._shelf.objects[key] = b"".join(pieces)
        return ObjectStat(key, size)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        safe_key(key)
        check_range(offset, length, key)
        data = self._object(key)
        end = offset + span(key, len(data), offset, length)
        for at in range(offset, end, CHUNK_BYTES):
            yield data[at : min(at + CHUNK_BYTES, end)]

    def delete(self, key: str) -> None:
        safe_key(key)
        self._require_label()
        with self._shelf.lock:
            self._shelf.objects.pop(key, None)

    def list(self) -> Iterator[ObjectStat]:
        self._require_label()
        with self._shelf.lock:
            found = [ObjectStat(key, len(data)) for key, data in sorted(self._shelf.objects.items())]
        yield from found

    def stat(self, key: str) -> ObjectStat:
        return ObjectStat(safe_key(key), len(self._object(key)))

    def capacity(self) -> Capacity:
        with self._shelf.lock:
            used = sum(len(data) for data in self._shelf.objects.values())
        return Capacity(self._shelf.size, max(0, self._shelf.size - used))

    def flush(self) -> None:
        self._require_label()

    def drop_caches(self) -> None:
        """There are none."""

    def health(self) -> Health:
        try:
            self._require_label()
        except OperatorNeeded as error:
            return Health(False, str(error))
        return Health(True)

    def read_label(self) -> StoreLabel | None:
        return self._shelf.label

    def write_label(self, label: StoreLabel) -> None:
        if self._shelf.label not in (None, label):
            raise Permanent(f"shelf {self._name} is labelled {self._shelf.label}, not {label}")
        self._shelf.label = label

    def _object(self, key: str) -> bytes:
        with self._shelf.lock:
            if key in self._shelf.objects:
                return self._shelf.objects[key]
        self._require_label()  # is the object absent, or is this not the shelf at all?
        raise NotFound(f"{key} is not on shelf {self._name}")

    def _require_label(self) -> None:
        label = self._shelf.label
        if self._expect_uuid is not None and (label is None or label.uuid != self._expect_uuid):
            raise OperatorNeeded(f"shelf {self._name} is labelled {label}, expected {self._expect_uuid}")


def _open(options: Mapping[str, Any]) -> Store:
    name = opt.text(options, "shelf")
    if name is None:
        raise Permanent("driver memory: option shelf is missing")
    return MemoryStore(name, opt.size(options, "size_bytes") or 1 << 30, opt.text(options, "expect_uuid"))


FAMILY = Family(
    name="memory",
    options=frozenset({"shelf", "size_bytes", "expect_uuid"}),
    required=frozenset({"shelf"}),
    open_store=_open,
)
