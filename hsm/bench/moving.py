"""One object through a Store and back, timed: what the benchmarks of disk and network drivers share."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.base import Store
from hsm.bench.frame import Cell, Report, Spread, Table, machine
from hsm.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Object:
    """Bytes in a file that cannot be compressed, and their SHA-256."""

    path: Path
    size: int
    digest: bytes

    def require_same(self, copy: Path) -> None:
        """Remove ``copy``. :raises ConfigError: it held other bytes."""
        with copy.open("rb") as file:
            same = hashlib.file_digest(file, "sha256").digest() == self.digest
        copy.unlink()
        if not same:
            raise ConfigError("what came back is not what was put")


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that putting and getting took."""

    put: float
    get: float


def made_up(path: Path, size: int) -> Object:
    """Write ``size`` made-up bytes."""
    rng, hasher = random.Random(1), hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, 1 << 20):
            piece = rng.randbytes(min(1 << 20, size - start))
            hasher.update(piece)
            file.write(piece)
    return Object(path, size, hasher.digest())


def through(store: Store, given: Object, key: str) -> Times:
    """Put, flush, get into a file, compare, delete."""
    back = given.path.with_name("back")
    with given.path.open("rb") as source:
        begun = time.perf_counter()
        store.put(key, source, given.size, given.digest)
        store.flush()
        put = time.perf_counter() - begun
    begun = time.perf_counter()
    with back.open("wb") as file:
        for piece in store.get(key):
            file.write(piece)
    get = time.perf_counter() - begun
    given.require_same(back)
    store.delete(key)
    return Times(put, get)


def report(
    name: str,
    times: Mapping[str, Sequence[Times]],
    given: Object,
    settings: Mapping[str, Cell],
    notes: tuple[str, ...],
) -> Report:
    """MiB/s of each, and of the first one's (ours) to every other's, round by round."""
    ours = next(iter(times.values()))
    rows: list[tuple[Cell, ...]] = []
    measurements: list[dict[str, Any]] = []
    for by, theirs in times.items():
        row: list[Cell] = [by]
        record: dict[str, Any] = {"by": by}
        for act in ("put", "get"):
            seconds = [getattr(each, act) for each in theirs]
            row.append(Spread.of(given.size / (1 << 20) / each for each in seconds).text(0))
            record[f"{act}_seconds"] = Spread.of(seconds).record()
            if theirs is ours:
                row.append("")
                continue
            # Rates: where theirs took longer, ours is above 1.
            ratio = Spread.ratio(seconds, [getattr(each, act) for each in ours])
            record[f"{act}_ratio"] = ratio.record()
            row.append(ratio.text())
        rows.append(tuple(row))
        measurements.append(record)
    columns = ("by", ">put, MiB/s", ">ours to it", ">get, MiB/s", ">ours to it")
    return Report(
        name=name,
        machine=machine(),
        settings={"object": f"{given.size >> 20} MiB", **settings},
        tables=(Table("one object", columns, tuple(rows)),),
        measurements=tuple(measurements),
        notes=notes,
    )
