"""Sixty packages onto three LTFS cartridges, with ltfs killed in mid-write ten times."""

from __future__ import annotations

import hashlib
import os
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "ltfs_emulator"))
from ltfs_hall import KINDS, LtfsIo, library_options

from drivers.base import Store, VolumeLabel
from drivers.errors import Retryable
from drivers.tape.configure import open_mtx
from drivers.tape.library import TapeLibrary

LABELS = tuple(VolumeLabel(f"HSM00{n}L8", f"uuid-{n}", "tape-a") for n in (1, 2, 3))
DRIVE = 60_000
PACKAGES, KILLS, SESSION = 60, 10, 4
CUTS = int(os.environ.get("HSM_LTFS_CUTS", "5"))


@pytest.fixture(params=KINDS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[LtfsIo, str]]:
    io = LtfsIo(tmp_path, [label.barcode for label in LABELS])
    yield io, request.param
    io.close()


class Killing:
    """A source that has ltfs killed when so many of its bytes have been taken."""

    def __init__(self, data: bytes, io: LtfsIo, at: int | None) -> None:
        self._data, self._io, self._at, self._given = data, io, at, 0

    def read(self, size: int, /) -> bytes:
        if self._at is not None and self._given >= self._at:
            self._at = None
            self._io.kill_ltfs()
        piece = self._data[self._given : self._given + min(size, 200_000)]
        self._given += len(piece)
        return piece


def data_of(number: int) -> bytes:
    rng = random.Random(number)
    return rng.randbytes(rng.randrange(1, 900_000))


def read_back(store: Store, key: str) -> bytes:
    store.drop_caches()
    return hashlib.sha256(b"".join(store.get(key))).digest()


def test_nothing_is_counted_that_is_not_there_and_nothing_proved_is_lost(machine: tuple[LtfsIo, str]) -> None:
    io, kind = machine
    rng = random.Random(60)
    proved: dict[str, dict[str, bytes]] = {label.barcode: {} for label in LABELS}
    queue = [(number, LABELS[number % 3]) for number in range(PACKAGES)]
    kills = set(rng.sample(range(PACKAGES // 2), KILLS))
    library = _open(io, kind)
    for label in LABELS:
        library.label(label, DRIVE)
    puts = 0
    while queue:
        label = queue[0][1]
        batch = [work for work in queue if work[1] is label][:SESSION]
        store = library.mount(label, DRIVE)
        written: dict[str, bytes] = {}
        try:
            for number, _ in batch:
                data, digest = data_of(number), hashlib.sha256(data_of(number)).digest()
                at = rng.randrange(len(data)) if puts in kills else None
                puts += 1
                store.put(f"p/{number}.tar", Killing(data, io, at), len(data), digest)
                written[f"p/{number}.tar"] = digest
            if rng.random() < 0.2:  # and once in a while between the last put and the index
                io.kill_ltfs()
            store.flush()
            for key, digest in written.items():
                assert read_back(store, key) == digest
        except Retryable:
            library = _open(io, kind)  # a new life; what was not proved stays in the queue
            store = library.mount(label, DRIVE)
            assert {stat.key for stat in store.list()} >= set(proved[label.barcode])
            for stat in list(store.list()):  # what is there but was never proved is taken off again
                if stat.key not in proved[label.barcode]:
                    assert read_back(store, stat.key) is not None
                    store.delete(stat.key)
            continue
        proved[label.barcode] |= written
        queue = [work for work in queue if work not in batch]
    library.unmount(DRIVE)
    assert sum(map(len, proved.values())) == PACKAGES
    library = _open(io, kind)
    for label in LABELS:
        store = library.mount(label, DRIVE)
        assert {stat.key: read_back(store, stat.key) for stat in store.list()} == proved[label.barcode]
    library.unmount(DRIVE)


def test_an_ltfs_that_dies_at_any_moment_leaves_what_was_flushed(machine: tuple[LtfsIo, str]) -> None:
    """Killed by the clock, wherever that is: in a write, a rename, an attribute, or the index itself."""
    io, kind = machine
    rng = random.Random(11)
    library = _open(io, kind)
    label, flushed = LABELS[0], dict[str, bytes]()
    library.label(label, DRIVE)
    for turn in range(6):
        store = library.mount(label, DRIVE)
        present = {stat.key: read_back(store, stat.key) for stat in store.list()}
        assert present.items() >= flushed.items()
        timer = threading.Timer(rng.uniform(0.0, 0.2 * (turn + 1)), io.kill_ltfs)
        written: dict[str, bytes] = {}
        timer.start()
        try:
            for number in range(100):
                data = data_of(100 * turn + number)[:300_000]
                key = f"t{turn}/{number}"
                store.put(key, Killing(data, io, None), len(data), hashlib.sha256(data).digest())
                written[key] = hashlib.sha256(data).digest()
                if number % 3 == 2:
                    store.flush()
                    flushed |= written
        except Retryable:
            pass
        finally:
            timer.join()
        library = _open(io, kind)
    assert flushed


@pytest.mark.campaign
def test_no_power_cut_takes_what_was_flushed(machine: tuple[LtfsIo, str]) -> None:
    """HSM_LTFS_CUTS makes it longer. What a cut takes is in :meth:`LtfsIo.cut_power`; what comes back must be
    all that was flushed, byte for byte, and nothing that was never put."""
    io, kind = machine
    seed = int(os.environ.get("HSM_LTFS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
    print(f"HSM_LTFS_SEED={seed} lives this again")
    rng, label, flushed = random.Random(seed), LABELS[0], dict[str, bytes]()
    _open(io, kind).label(label, DRIVE)
    put: dict[str, bytes] = {}
    for cut in range(CUTS + 1):
        store = _open(io, kind).mount(label, DRIVE)
        present = {stat.key: read_back(store, stat.key) for stat in store.list()}
        assert flushed.items() <= present.items() <= put.items(), f"seed {seed}, after cut {cut}"
        timer = threading.Timer(rng.uniform(0.02, 0.6), io.cut_power, (kind, label.barcode, rng))
        timer.start()
        written: dict[str, bytes] = {}
        try:
            for number in range(1000):
                data = data_of(1000 * cut + number)
                key, digest = f"t{cut}/{number}", hashlib.sha256(data).digest()
                put[key] = digest
                store.put(key, Killing(data, io, None), len(data), digest)
                written[key] = digest
                if number % 3 == 2:
                    store.flush()
                    flushed |= written
        except Retryable:
            pass
        finally:
            timer.join()
    assert flushed


def _open(io: LtfsIo, kind: str) -> TapeLibrary:
    return open_mtx(library_options(io, kind), io)
