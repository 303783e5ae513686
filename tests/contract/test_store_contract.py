"""What every Store must do. The stores are in conftest.py."""

from __future__ import annotations

import hashlib
import io
import os
import random
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.base import CHUNK_BYTES, Store, Traits
from drivers.errors import Corrupt, DriverError, NoSpace, NotFound, Permanent, Retryable

BIG = random.Random(1).randbytes(2 * CHUNK_BYTES + 12_345)

# One example is several fsyncs, and in the laboratory several rewinds; the fixture only says how to open a
# store, and each example opens its own.
modest = settings(
    max_examples=4 if os.environ.get("HSM_LAB") else 25,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def put(store: Store, key: str, data: bytes) -> None:
    stat = store.put(key, io.BytesIO(data), len(data), sha256(data))
    assert (stat.key, stat.size) == (key, len(data))


def read(store: Store, key: str, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join(store.get(key, offset, length))


def keys(store: Store) -> list[str]:
    return sorted(stat.key for stat in store.list())


def assert_absent(store: Store, key: str) -> None:
    with pytest.raises(NotFound):
        store.stat(key)
    with pytest.raises(NotFound):
        read(store, key)
    assert key not in keys(store)


class Dribble:
    """A source that gives a few bytes at a time, as a socket does."""

    def __init__(self, data: bytes, most: int = 7_001) -> None:
        self._file = io.BytesIO(data)
        self._most = most

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._most))


class Breaking:
    """A source that gives ``good`` bytes and then fails."""

    def __init__(self, good: int, error: Exception) -> None:
        self._left = good
        self._error = error

    def read(self, size: int, /) -> bytes:
        if not self._left:
            raise self._error
        size = min(size, self._left)
        self._left -= size
        return bytes(size)


class Endless:
    def read(self, size: int, /) -> bytes:
        return bytes(size)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(BIG)])
def test_what_was_put_is_given_back_in_pieces_of_a_chunk_at_most(store: Store, size: int) -> None:
    put(store, "1.2.3/4.5.dcm", BIG[:size])
    pieces = list(store.get("1.2.3/4.5.dcm"))
    assert b"".join(pieces) == BIG[:size]
    assert all(0 < len(piece) <= CHUNK_BYTES for piece in pieces)
    assert store.stat("1.2.3/4.5.dcm").size == size


def test_a_source_is_never_asked_for_more_than_a_chunk(store: Store) -> None:
    class Watched(io.BytesIO):
        asked: list[int]

        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            self.asked.append(size)
            return super().read(size)

    source = Watched(BIG)
    source.asked = []
    store.put("k", source, len(BIG), None)
    assert all(0 < size <= CHUNK_BYTES for size in source.asked)


def test_a_source_may_give_less_than_it_is_asked_for(store: Store) -> None:
    data = BIG[: CHUNK_BYTES + 99]
    store.put("k", Dribble(data), len(data), sha256(data))
    assert read(store, "k") == data


def test_without_a_digest_the_bytes_are_taken_as_they_come(store: Store) -> None:
    store.put("k", io.BytesIO(b"abc"), 3, None)
    assert read(store, "k") == b"abc"


@pytest.mark.parametrize(
    ("data", "size", "digest"),
    [
        pytest.param(b"abc", 3, sha256(b"abd"), id="another digest"),
        pytest.param(b"abc", 4, sha256(b"abc"), id="too short"),
        pytest.param(b"abc", 2, sha256(b"ab"), id="too long"),
        pytest.param(b"", 1, None, id="empty where a byte was promised"),
        pytest.param(b"a", 0, None, id="a byte where none was promised"),
        pytest.param(BIG, len(BIG), sha256(b""), id="big and another digest"),
        pytest.param(BIG, len(BIG) + 1, None, id="big and too short"),
        pytest.param(BIG, CHUNK_BYTES, None, id="a chunk and too long"),
    ],
)
def test_a_source_that_lies_leaves_nothing_and_its_key_is_free(
    harness: Any, data: bytes, size: int, digest: bytes | None
) -> None:
    store = harness.store
    put(store, "other", b"stays")
    with pytest.raises(Corrupt):
        store.put("a/k", io.BytesIO(data), size, digest)
    assert_absent(store, "a/k")
    put(store, "a/k", b"good")
    store.flush()
    store = harness.crash()
    assert (read(store, "a/k"), read(store, "other")) == (b"good", b"stays")


@pytest.mark.parametrize("good", [0, 10, CHUNK_BYTES + 1])
def test_a_source_that_fails_leaves_nothing_and_its_error_is_passed_on(store: Store, good: int) -> None:
    error = Retryable("the other drive is busy")
    with pytest.raises(Retryable) as raised:
        store.put("k", Breaking(good, error), CHUNK_BYTES * 2, None)
    assert raised.value is error
    assert_absent(store, "k")


def test_a_source_that_fails_as_a_file_does_is_a_driver_error(store: Store) -> None:
    with pytest.raises(DriverError, match="k"):
        store.put("k", Breaking(5, OSError(5, "Input/output error")), 10, None)
    assert_absent(store, "k")


@pytest.mark.parametrize("digest", [b"", b"x" * 31, b"x" * 33])
def test_a_digest_of_another_length_is_refused(store: Store, digest: bytes) -> None:
    with pytest.raises(Permanent):
        store.put("k", io.BytesIO(b"abc"), 3, digest)
    assert_absent(store, "k")


def test_a_negative_size_is_refused(store: Store) -> None:
    with pytest.raises(Permanent):
        store.put("k", io.BytesIO(b""), -1, None)
    assert_absent(store, "k")


def test_an_object_is_immutable(store: Store) -> None:
    put(store, "a/k", b"first")
    for data in (b"first", b"second", b""):
        with pytest.raises(Permanent):
            store.put("a/k", io.BytesIO(data), len(data), None)
    assert read(store, "a/k") == b"first"
    assert keys(store) == ["a/k"]


HOSTILE = [
    "",
    ".",
    "..",
    "/",
    "/etc/passwd",
    "../outside",
    "a/../../outside",
    "a/./b",
    "a//b",
    "a/",
    "a\\b",
    "a\0b",
    "a\nb",
    "a b",
    "~",
    "Å",
    "a/" * 300 + "a",
    "x" * 513,
    "..%2foutside",
]


@pytest.mark.parametrize("key", HOSTILE)
def test_a_hostile_key_is_refused_by_every_method(store: Store, tmp_path: Path, key: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    calls: list[Callable[[], object]] = [
        lambda: store.put(key, io.BytesIO(b"evil"), 4, None),
        lambda: read(store, key),
        lambda: store.stat(key),
        lambda: store.delete(key),
    ]
    for call in calls:
        with pytest.raises(Permanent):
            call()
    assert keys(store) == []
    assert [path for path in sorted(tmp_path.rglob("*")) if "evil" in path.name] == []
    assert {path for path in tmp_path.rglob("*") if path.is_file()} <= set(before)


@modest
@given(
    key=st.text(st.characters(codec="utf-8"), max_size=40) | st.from_regex(r"[a-c./-]{1,12}", fullmatch=True)
)
def test_a_key_works_or_is_refused_and_never_anything_else(open_store: Any, key: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder)).store
        try:
            store.put(key, io.BytesIO(b"abc"), 3, None)
        except Permanent:
            assert keys(store) == []
        else:
            assert keys(store) == [key]
            assert read(store, key) == b"abc"


def test_a_key_below_an_object_never_harms_the_object(store: Store) -> None:
    put(store, "a", b"object")
    try:
        put(store, "a/b", b"below")
    except Permanent:
        assert keys(store) == ["a"]
        assert_absent(store, "a/b")
    else:
        assert read(store, "a/b") == b"below"
    assert read(store, "a") == b"object"
    store.delete("a/b")
    assert read(store, "a") == b"object"


def test_a_key_above_an_object_never_harms_the_object(store: Store) -> None:
    put(store, "a/b", b"object")
    with pytest.raises(NotFound):
        store.stat("a")
    try:
        put(store, "a", b"above")
    except Permanent:
        assert keys(store) == ["a/b"]
    store.delete("a")
    assert read(store, "a/b") == b"object"


def test_what_is_absent_is_not_found(store: Store) -> None:
    assert_absent(store, "nothing")
    assert_absent(store, "no/such/folder")


def test_deleting_removes_and_deleting_again_is_no_error(harness: Any) -> None:
    store = harness.store
    put(store, "a/k", b"abc")
    put(store, "a/l", b"def")
    store.delete("a/k")
    assert_absent(store, "a/k")
    store.delete("a/k")
    store.delete("never/was")
    store.flush()
    store = harness.crash()
    assert_absent(store, "a/k")
    assert read(store, "a/l") == b"def"


def test_a_deleted_key_can_be_put_again(harness: Any) -> None:
    store = harness.store
    put(store, "a/k", b"first")
    store.delete("a/k")
    put(store, "a/k", b"second")
    store.flush()
    assert read(harness.crash(), "a/k") == b"second"


@modest
@given(data=st.data())
def test_a_range_is_exactly_these_bytes_or_corrupt_when_there_are_fewer(open_store: Any, data: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder)).store
        size = data.draw(st.sampled_from([0, 1, 1000, CHUNK_BYTES, CHUNK_BYTES + 1, len(BIG)]))
        put(store, "before", b"x" * 1000)
        put(store, "k", BIG[:size])
        put(store, "after", b"y" * 1000)
        for _ in range(8):
            offset = data.draw(st.integers(0, size + 2))
            length = data.draw(st.none() | st.integers(0, size + 2))
            if offset > size or (length is not None and offset + length > size):
                with pytest.raises(Corrupt):
                    read(store, "k", offset, length)
            else:
                end = size if length is None else offset + length
                assert read(store, "k", offset, length) == BIG[offset:end]


@pytest.mark.parametrize(("offset", "length"), [(-1, None), (0, -1), (-5, 2)])
def test_a_negative_range_is_refused(store: Store, offset: int, length: int | None) -> None:
    put(store, "k", b"abcdef")
    with pytest.raises(Permanent):
        read(store, "k", offset, length)


def test_what_was_flushed_is_found_after_a_crash(harness: Any) -> None:
    objects = {f"study/{number}.dcm": BIG[number : number * 50_000] for number in range(1, 9)}
    for key, data in objects.items():
        put(harness.store, key, data)
    harness.store.flush()
    store = harness.crash()
    assert keys(store) == sorted(objects)
    assert {key: read(store, key) for key in objects} == objects


def test_what_was_not_flushed_is_whole_or_absent_after_a_crash(harness: Any) -> None:
    put(harness.store, "flushed", BIG)
    harness.store.flush()
    put(harness.store, "late", BIG)
    store = harness.crash()
    assert read(store, "flushed") == BIG
    if "late" in keys(store):
        assert read(store, "late") == BIG
    else:
        assert_absent(store, "late")
        put(store, "late", BIG)
        assert read(store, "late") == BIG


def test_flushing_twice_or_nothing_is_fine(store: Store) -> None:
    store.flush()
    put(store, "k", b"abc")
    store.flush()
    store.flush()
    assert read(store, "k") == b"abc"


def test_dropped_caches_do_not_change_what_is_read(store: Store) -> None:
    put(store, "k", BIG)
    store.flush()
    store.drop_caches()
    assert read(store, "k") == BIG
    assert read(store, "k", 100, 1000) == BIG[100:1100]


def test_no_space_leaves_nothing_and_smaller_objects_still_fit(harness: Any) -> None:
    store = harness.small(1 << 30)
    put(store, "before", b"abc")
    with pytest.raises(NoSpace):
        store.put("a/k", Endless(), 8 << 30, None)
    assert_absent(store, "a/k")
    put(store, "after", b"def")
    assert keys(store) == ["after", "before"]


def test_capacity_is_never_more_free_than_there_is(store: Store) -> None:
    capacity = store.capacity()
    assert 0 < capacity.free <= capacity.total


def test_what_is_append_only_gives_no_room_back(store: Store) -> None:
    before = store.capacity().free
    put(store, "k", BIG)
    after = store.capacity().free
    store.delete("k")
    if store.traits.append_only:
        assert after == before - len(BIG)
        assert store.capacity().free == after


def test_positions_grow_in_the_order_of_writing(store: Store) -> None:
    positions = []
    for number, size in enumerate([0, 5, CHUNK_BYTES, 0, 1, 600_000, 2]):
        put(store, f"{number}", BIG[:size])
        positions.append(store.stat(f"{number}").position)
    if store.traits.random_access:
        assert all(position is None or position >= 0 for position in positions)
    else:
        assert None not in positions
        assert positions == sorted(set(positions))
        assert [stat.position for stat in store.list()] == positions


def test_the_list_has_every_object_with_its_size_once(store: Store) -> None:
    sizes = {"a": 1, "b/c": 2, "b/d/e": 3, "b/d/f.tar": 4, "1.2.840/x": 0, ".hidden": 6, "-dash": 7}
    for key, size in sizes.items():
        put(store, key, BIG[:size])
    listed = list(store.list())
    assert {stat.key: stat.size for stat in listed} == sizes
    assert len(listed) == len(sizes)


def test_an_abandoned_get_is_in_nobodys_way(store: Store) -> None:
    put(store, "k", BIG)
    pieces = store.get("k")
    next(pieces)
    del pieces
    store.delete("k")
    put(store, "k", b"new")
    assert read(store, "k") == b"new"


def test_one_thread_may_read_while_it_writes(store: Store) -> None:
    put(store, "k", BIG)
    copied = bytearray()
    for number, piece in enumerate(store.get("k")):
        copied += piece
        put(store, f"piece/{number}", piece)
    assert bytes(copied) == BIG


def test_threads_put_different_keys_side_by_side(harness: Any) -> None:
    store = harness.store
    objects = {f"s{number % 3}/{number}": BIG[number : 40_000 * number] for number in range(1, 13)}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda item: put(store, *item), objects.items()))
    store.flush()
    store = harness.crash()
    assert {key: read(store, key) for key in keys(store)} == objects


def test_of_threads_that_put_one_key_exactly_one_wins(store: Store) -> None:
    start = threading.Barrier(4)

    def contend(number: int) -> bool:
        data = bytes([number]) * 200_000
        start.wait()
        try:
            put(store, "a/k", data)
        except Permanent:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(contend, range(4)))
    assert won.count(True) == 1
    assert read(store, "a/k") == bytes([won.index(True)]) * 200_000


def test_a_usable_store_says_that_it_is_healthy(store: Store) -> None:
    assert store.health().ok
    assert isinstance(store.traits, Traits)
    assert keys(store) == []


@modest
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put", "put", "put", "delete", "flush", "crash"]),
            st.sampled_from(["a", "b/c", "b/d", "e/f/g"]),
            st.binary(max_size=2000),
        ),
        max_size=14,
    )
)
def test_a_store_behaves_like_a_dictionary_that_crashes_back_to_its_last_flush(
    open_store: Any, steps: list[tuple[str, str, bytes]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        harness = open_store(Path(folder))
        now: dict[str, bytes] = {}
        flushed: dict[str, bytes] = {}
        touched: set[str] = set()
        for step, key, data in steps:
            store = harness.store
            if step == "put" and key in now:
                with pytest.raises(Permanent):
                    put(store, key, data)
            elif step == "put":
                put(store, key, data)
                now[key] = data
                touched.add(key)
            elif step == "delete":
                store.delete(key)
                now.pop(key, None)
                touched.add(key)
            elif step == "flush":
                store.flush()
                flushed, touched = dict(now), set()
            else:
                store = harness.crash()
                found = {key: read(store, key) for key in keys(store)}
                for key in {*found, *now, *flushed}:
                    allowed = [flushed.get(key), now.get(key)] if key in touched else [flushed.get(key)]
                    assert found.get(key) in allowed
                now, flushed, touched = dict(found), dict(found), set()
            assert {key: read(store, key) for key in keys(store)} == now
