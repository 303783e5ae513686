from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.base import CHUNK_BYTES, ObjectStat, Readable, RecallState, Warmth
from drivers.errors import Corrupt, DriverError, NoSpace, NotReadableNow, Permanent, Retryable
from drivers.folder import FolderStore
from drivers.metered import Call, MeteredStore
from drivers.wrappers import (
    Fault,
    FaultyStore,
    LimitedStore,
    PassingStore,
    RetryingStore,
    fail_at_random,
    fail_nth,
    recallable,
)

BUSY = Retryable("busy")
DATA = bytes(range(256)) * 10_000


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


class Sleeps(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def retrying(inner: PassingStore | FolderStore, attempts: int, sleeps: Sleeps) -> RetryingStore:
    return RetryingStore(inner, attempts, random.Random(3), sleeps, base_seconds=1, cap_seconds=4)


class Once:
    """A source that cannot be wound back and counts what was read of it."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.given = 0

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self.given += len(data)
        return data


def test_a_retryable_error_is_tried_again_as_often_as_said(folder: FolderStore) -> None:
    folder.put("k", io.BytesIO(b"abc"), 3, None)
    for failures in range(5):
        sleeps = Sleeps()
        store = retrying(FaultyStore(folder, fail_nth("stat", 1, BUSY, times=failures)), 4, sleeps)
        if failures < 4:
            assert store.stat("k").size == 3
            assert len(sleeps) == failures
        else:
            with pytest.raises(Retryable):
                store.stat("k")
            assert len(sleeps) == 3


def test_the_sleeps_are_random_and_grow_up_to_a_cap(folder: FolderStore) -> None:
    sleeps = Sleeps()
    store = retrying(FaultyStore(folder, fail_nth("flush", 1, BUSY, times=1000)), 500, sleeps)
    with pytest.raises(Retryable):
        store.flush()
    assert sleeps[0] <= 1
    assert sleeps[1] <= 2
    assert max(sleeps) <= 4
    assert len(set(sleeps)) == 499
    assert sum(sleeps[10:]) / len(sleeps[10:]) == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("error", [Permanent("p"), Corrupt("c"), NoSpace("n"), NotReadableNow("cold")])
@pytest.mark.parametrize("operation", ["put", "get", "read", "delete", "list", "stat", "capacity", "flush"])
def test_every_other_error_passes_at_once(folder: FolderStore, operation: str, error: DriverError) -> None:
    folder.put("k", io.BytesIO(b"abc"), 3, None)
    sleeps = Sleeps()
    store = retrying(FaultyStore(folder, fail_nth(operation, 1, error)), 9, sleeps)
    calls = {
        "put": lambda: store.put("l", io.BytesIO(b"abc"), 3, None),
        "get": lambda: list(store.get("k")),
        "read": lambda: list(store.get("k")),
        "delete": lambda: store.delete("k"),
        "list": lambda: list(store.list()),
        "stat": lambda: store.stat("k"),
        "capacity": store.capacity,
        "flush": store.flush,
    }
    with pytest.raises(type(error)):
        calls[operation]()
    assert sleeps == []


@pytest.mark.parametrize("operation", ["put", "write"])
def test_a_put_is_retried_from_where_its_source_stood(folder: FolderStore, operation: str) -> None:
    store = retrying(FaultyStore(folder, fail_nth(operation, 1, BUSY, times=2)), 3, Sleeps())
    source = io.BytesIO(b"skipped" + DATA)
    source.seek(7)
    store.put("k", source, len(DATA), None)
    assert b"".join(folder.get("k")) == DATA


def test_a_source_that_cannot_be_wound_back_is_never_read_twice(folder: FolderStore) -> None:
    sleeps = Sleeps()
    source = Once(DATA)
    store = retrying(FaultyStore(folder, fail_nth("write", 2, BUSY)), 5, sleeps)
    with pytest.raises(Retryable):
        store.put("k", source, len(DATA), None)
    assert source.given <= len(DATA)
    assert sleeps == []
    assert list(folder.list()) == []


def test_a_file_that_says_it_cannot_seek_is_read_once(folder: FolderStore) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    store = retrying(FaultyStore(folder, fail_nth("put", 1, BUSY)), 5, Sleeps())
    with pytest.raises(Retryable):
        store.put("k", Pipe(DATA), len(DATA), None)


@pytest.mark.parametrize(("offset", "length"), [(0, None), (5, None), (7, CHUNK_BYTES + 100)])
def test_a_get_goes_on_at_the_byte_it_had_come_to(
    folder: FolderStore, offset: int, length: int | None
) -> None:
    folder.put("k", io.BytesIO(DATA), len(DATA), None)
    sleeps = Sleeps()
    store = retrying(FaultyStore(folder, fail_nth("read", 2, BUSY, times=3)), 4, sleeps)
    end = None if length is None else offset + length
    assert b"".join(store.get("k", offset, length)) == DATA[offset:end]
    assert len(sleeps) == 3


def test_a_get_gives_up_after_its_attempts(folder: FolderStore) -> None:
    folder.put("k", io.BytesIO(DATA), len(DATA), None)
    store = retrying(FaultyStore(folder, fail_nth("read", 2, BUSY, times=99)), 4, Sleeps())
    pieces = store.get("k")
    assert next(pieces) == DATA[:CHUNK_BYTES]
    with pytest.raises(Retryable):
        next(pieces)


def test_a_list_is_retried_before_its_first_item_and_not_after(folder: FolderStore) -> None:
    class Breaking(PassingStore):
        failures = 1

        def list(self) -> Iterator[ObjectStat]:
            items = self._inner.list()
            if self.failures:
                self.failures -= 1
                raise BUSY
            yield next(items)
            raise BUSY

    for key in ("a", "b"):
        folder.put(key, io.BytesIO(b""), 0, None)
    listing = retrying(Breaking(folder), 3, Sleeps()).list()
    assert next(listing).key == "a"
    with pytest.raises(Retryable):
        next(listing)


def test_an_empty_list_is_empty(folder: FolderStore) -> None:
    assert list(retrying(folder, 3, Sleeps()).list()) == []


def test_no_attempts_make_no_store(folder: FolderStore) -> None:
    with pytest.raises(ValueError, match="attempts"):
        RetryingStore(folder, 0, random.Random(1), Sleeps())


class Time:
    """A clock that its own sleep moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def test_a_limit_holds_for_puts_and_gets_together(folder: FolderStore) -> None:
    time = Time()
    store = LimitedStore(folder, 1_000_000, time.clock, time.sleep)
    store.put("k", io.BytesIO(DATA), len(DATA), None)
    assert b"".join(store.get("k")) == DATA
    assert b"".join(store.get("k", 0, 1_000_000)) == DATA[:1_000_000]
    passed = 2 * len(DATA) + 1_000_000
    # One second's worth passed at once, the rest at the rate.
    assert time.now - 100 == pytest.approx(passed / 1_000_000 - 1)


def test_a_pause_saves_up_no_more_than_the_burst(folder: FolderStore) -> None:
    time = Time()
    store = LimitedStore(folder, 1000, time.clock, time.sleep, burst_bytes=500)
    time.now += 3600
    store.put("k", io.BytesIO(bytes(2500)), 2500, None)
    assert time.now - 3700 == pytest.approx(2.0)


@pytest.mark.parametrize("rate", [0, -1])
def test_a_limit_of_nothing_is_refused(folder: FolderStore, rate: float) -> None:
    time = Time()
    with pytest.raises(ValueError, match="more than 0"):
        LimitedStore(folder, rate, time.clock, time.sleep)


def test_a_flipped_key_reads_with_one_byte_wrong_and_others_do_not(folder: FolderStore) -> None:
    for key in ("rotten", "sound"):
        folder.put(key, io.BytesIO(DATA), len(DATA), None)
    store = FaultyStore(folder, lambda *_: None, frozenset({"rotten"}))
    assert b"".join(store.get("sound")) == DATA
    assert b"".join(store.get("rotten")) == bytes([DATA[0] ^ 0xFF]) + DATA[1:]
    assert b"".join(store.get("rotten", 10)) == DATA[10:]


def test_a_fault_in_the_middle_of_a_put_leaves_nothing(folder: FolderStore) -> None:
    store = FaultyStore(folder, fail_nth("write", 2, BUSY))
    with pytest.raises(Retryable):
        store.put("k", io.BytesIO(DATA), len(DATA), None)
    assert list(folder.list()) == []


def test_seeded_faults_are_the_same_every_time() -> None:
    def outcomes(seed: int) -> list[bool]:
        fault: Fault = fail_at_random(random.Random(seed), 0.3, Retryable)
        return [fault("get", str(number)) is not None for number in range(200)]

    assert outcomes(1) == outcomes(1) != outcomes(2)
    assert 30 < sum(outcomes(1)) < 90


def test_a_wrapper_passes_everything_on(folder: FolderStore) -> None:
    calls: list[str] = []

    class Watched(PassingStore):
        def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
            calls.append("put")
            return super().put(key, source, size, digest)

        def drop_caches(self) -> None:
            calls.append("drop_caches")
            super().drop_caches()

        def flush(self) -> None:
            calls.append("flush")
            super().flush()

    time = Time()
    store = LimitedStore(
        FaultyStore(retrying(Watched(folder), 2, Sleeps()), lambda *_: None), 1e9, time.clock, time.sleep
    )
    store.put("k", io.BytesIO(b"abc"), 3, None)
    store.flush()
    store.drop_caches()
    assert calls == ["put", "flush", "drop_caches"]
    assert store.traits == folder.traits
    assert store.health().ok
    assert store.capacity().total == folder.capacity().total


class Cold(PassingStore):
    """A folder that plays cold storage."""

    def request_recall(self, key: str) -> RecallState:
        return RecallState(key, Warmth.RECALLING, ask_again_seconds=60)

    def recall_state(self, key: str) -> RecallState:
        return RecallState(key, Warmth.COLD)

    def make_cold(self, key: str) -> None:
        raise Permanent(key)


def test_cold_storage_is_found_in_whatever_wraps_it_and_a_warm_store_has_none(folder: FolderStore) -> None:
    wrapped = retrying(FaultyStore(Cold(folder), fail_nth("get", 1, BUSY)), 3, Sleeps())
    found = recallable(wrapped)
    assert found is not None
    assert found.request_recall("k").warmth is Warmth.RECALLING
    assert recallable(retrying(PassingStore(folder), 3, Sleeps())) is None


class Ticking:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("operation", ["stat", "get"])
def test_no_attempt_begins_after_the_deadline_and_none_is_slept_for_in_vain(
    folder: FolderStore, operation: str
) -> None:
    folder.put("k", io.BytesIO(b"abc"), 3, None)
    time = Ticking()
    tried: list[float] = []

    def fault(happening: str, _key: str) -> DriverError | None:
        if happening != operation:
            return None
        tried.append(time.now)
        return BUSY

    store = RetryingStore(
        FaultyStore(folder, fault),
        1000,
        random.Random(3),
        time.sleep,
        base_seconds=1,
        cap_seconds=4,
        deadline_seconds=30,
        clock=time.clock,
    )
    with pytest.raises(Retryable, match="busy"):
        store.stat("k") if operation == "stat" else list(store.get("k"))
    assert 8 < len(tried) < 1000
    assert tried[-1] <= 30
    assert time.now <= 30


def test_a_deadline_without_a_clock_is_refused(folder: FolderStore) -> None:
    with pytest.raises(ValueError, match="clock"):
        RetryingStore(folder, 2, random.Random(3), lambda _: None, deadline_seconds=1)


def test_a_put_is_wound_back_also_below_a_limit_and_a_meter(folder: FolderStore) -> None:
    """Whatever the order of the wrappers."""
    time = Ticking()
    broken = FaultyStore(folder, fail_nth("write", 2, BUSY))
    store = MeteredStore(
        LimitedStore(retrying(broken, 3, Sleeps()), 1e9, time.clock, time.sleep), lambda _: None, time.clock
    )
    store.put("k", io.BytesIO(DATA), len(DATA), None)
    assert b"".join(store.get("k")) == DATA


def test_a_meter_tells_how_long_how_much_and_how_it_ended(folder: FolderStore) -> None:
    time = Ticking()
    calls: list[Call] = []
    slow = LimitedStore(folder, 1_000_000, time.clock, time.sleep, burst_bytes=0)
    store = MeteredStore(FaultyStore(slow, fail_nth("stat", 1, BUSY)), calls.append, time.clock)
    store.put("k", io.BytesIO(DATA), len(DATA), None)
    for piece in store.get("k"):
        assert piece
        time.now += 1000  # the reader's own time
    abandoned = store.get("k")
    first = len(next(abandoned))
    abandoned.close()  # type: ignore[attr-defined]
    with pytest.raises(Retryable):
        store.stat("k")
    with pytest.raises(Corrupt):
        store.put("l", io.BytesIO(b"abc"), 4, None)
    seconds = len(DATA) / 1_000_000
    assert [(each.operation, each.bytes, each.error) for each in calls] == [
        ("put", len(DATA), ""),
        ("get", len(DATA), ""),
        ("get", first, ""),
        ("stat", 0, "Retryable"),
        ("put", 3, "Corrupt"),
    ]
    assert calls[0].seconds == pytest.approx(seconds)
    assert calls[1].seconds < 2 * seconds + 1
