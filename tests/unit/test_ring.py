"""The ring between a source and a drive: the same bytes, in whole blocks, and an end whatever happens."""

from __future__ import annotations

import gc
import hashlib
import io
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.errors import Corrupt, Retryable
from drivers.ring import Feed, Ring

DATA = random.Random(3).randbytes(70_001)
DIGEST = hashlib.sha256(DATA).digest()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("ring ")]
    assert not left


class Source:
    """Gives at most ``step`` bytes a time, and calls ``before`` with what it has given so far."""

    def __init__(self, data: bytes, step: int = 1 << 20, before: Callable[[int], None] | None = None) -> None:
        self._data, self._step, self._before = io.BytesIO(data), step, before
        self.reads = 0

    def read(self, size: int, /) -> bytes:
        self.reads += 1
        if self._before is not None:
            self._before(self._data.tell())
        return self._data.read(min(size, self._step))


class FillingSource(Source):
    def fill(self, buffer: memoryview, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def drained(feed: Feed) -> list[bytes]:
    return [bytes(piece) for piece in feed.pieces()]


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(0, 30_000),
    step=st.integers(1, 9_000),
    block=st.integers(1, 5_000),
    slot=st.integers(1, 9_000),
    total=st.integers(1, 40_000),
    fills=st.booleans(),
)
def test_what_goes_in_comes_out_in_whole_blocks(
    size: int, step: int, block: int, slot: int, total: int, fills: bool
) -> None:
    block = min(block, slot)
    step = max(step, size // 200 + 1)
    ring = Ring(total, slot_bytes=slot)
    source = (FillingSource if fills else Source)(DATA[:size], step)
    with ring.feed(source, size, None, "key", block_bytes=block) as feed:
        pieces = drained(feed)
        assert feed.sha256 == hashlib.sha256(DATA[:size]).digest()
    assert b"".join(pieces) == DATA[:size]
    assert all(not len(piece) % block for piece in pieces[:-1])
    assert len(ring._free) == ring.slots


@pytest.mark.parametrize(
    ("size", "digest", "words"),
    [
        (len(DATA) + 1, None, "ended after 70001 of 70002"),
        (len(DATA) - 1, None, "more than 70000"),
        (len(DATA), bytes(32), "SHA-256"),
        (0, None, "more than 0"),
    ],
)
def test_a_source_of_other_bytes_than_promised_is_corrupt(
    size: int, digest: bytes | None, words: str
) -> None:
    with (
        Ring(16_384, slot_bytes=4096).feed(Source(DATA), size, digest, "key") as feed,
        pytest.raises(Corrupt, match=words),
    ):
        drained(feed)


@pytest.mark.parametrize(
    "error", [ValueError("broken"), OSError(5, "Input/output error"), KeyboardInterrupt()]
)
@pytest.mark.parametrize("at", [0, 30_000, len(DATA)])
def test_what_the_source_raises_is_raised_where_it_is_written(error: BaseException, at: int) -> None:
    def fail(given: int) -> None:
        if given >= at:
            raise error

    expected = Retryable if isinstance(error, OSError) else type(error)
    ring = Ring(16_384, slot_bytes=4096)
    with (
        ring.feed(Source(DATA, 5000, fail), len(DATA), DIGEST, "key") as feed,
        pytest.raises(expected, match=r"nput/output|broken|"),
    ):
        drained(feed)
    assert len(ring._free) == ring.slots


def test_a_writer_that_fails_ends_the_reading_at_once_and_the_source_is_not_touched_after_it() -> None:
    source = Source(DATA, 100)
    ring = Ring(8192, slot_bytes=4096)
    with (
        pytest.raises(OSError, match="drive"),
        ring.feed(source, len(DATA), DIGEST, "key") as feed,
    ):
        next(feed.pieces())
        raise OSError("drive")
    reads = source.reads
    assert reads < len(DATA) // 100
    gc.collect()
    assert source.reads == reads
    assert len(ring._free) == ring.slots


@pytest.mark.parametrize("slow", ["source", "writer", "both"])
def test_slow_sides_lose_nothing(slow: str) -> None:
    noise = random.Random(5)

    def pause(_: int) -> None:
        if slow != "writer" and noise.random() < 0.3:
            time.sleep(0.0005)

    got = bytearray()
    with Ring(20_480, slot_bytes=4096).feed(Source(DATA, 3001, pause), len(DATA), DIGEST, "key") as feed:
        for piece in feed.pieces():
            if slow != "source" and noise.random() < 0.3:
                time.sleep(0.0005)
            got += piece
    assert got == DATA


def test_writing_begins_with_a_full_ring_and_begins_again_with_a_full_one_when_it_has_run_dry() -> None:
    allowed = threading.Semaphore(0)
    given: list[int] = []

    def wait(at: int) -> None:
        allowed.acquire()
        given.append(at)

    ring = Ring(4 * 4096, slot_bytes=4096)
    taken: list[int] = []
    with ring.feed(Source(DATA, 4096, wait), len(DATA), DIGEST, "key") as feed:
        pieces = feed.pieces()
        for _ in range(2):
            thread = threading.Thread(target=lambda: taken.append(len(next(pieces))))
            thread.start()
            held = len(taken)
            for _ in range(3):
                allowed.release()
            thread.join(0.05)
            assert thread.is_alive(), "it did not wait for a full ring"
            assert len(taken) == held
            allowed.release()
            thread.join(5)
            assert not thread.is_alive()
            for _ in range(3):
                next(pieces)
        for _ in range(len(DATA)):
            allowed.release()
        for _ in pieces:
            pass
    assert given[-1] == len(DATA)


@pytest.mark.parametrize(("seconds", "waits"), [(0.005, False), (1.0, True)])
def test_a_source_that_is_known_to_be_quick_is_written_while_it_is_read(
    monkeypatch: pytest.MonkeyPatch, seconds: float, waits: bool
) -> None:
    """Its first object shows how quick it is; seconds are those of a read of 4 KiB."""
    monkeypatch.setattr("drivers.ring.TRUSTED_BYTES", 8192)
    now = [0.0]

    def tick(_: int) -> None:
        now[0] += seconds * 4096 / 250e4

    ring = Ring(8 * 4096, slot_bytes=4096, clock=lambda: now[0])
    with ring.feed(Source(DATA, 4096, tick), len(DATA), None, "first") as feed:
        drained(feed)
    allowed = threading.Semaphore(1)

    def one(at: int) -> None:
        tick(at)
        allowed.acquire(timeout=10)

    first: list[int] = []
    with ring.feed(Source(DATA, 4096, one), len(DATA), None, "second") as feed:
        pieces = feed.pieces()
        thread = threading.Thread(target=lambda: first.append(len(next(pieces))))
        thread.start()
        thread.join(0.1 if waits else 10)
        assert bool(first) is not waits
        for _ in range(len(DATA)):
            allowed.release()
        thread.join(10)
        for _ in pieces:
            pass


def test_the_next_object_is_read_while_the_present_one_is_written_and_never_before_it() -> None:
    ring = Ring(8 * 4096, slot_bytes=4096)
    order: list[str] = []
    first = ring.feed(Source(DATA, 4096, lambda _: order.append("first")), len(DATA), DIGEST, "first")
    second = ring.feed(Source(DATA, 4096, lambda _: order.append("second")), len(DATA), DIGEST, "second")
    with second, first:
        assert ring.feed(first, len(DATA), DIGEST, "first", block_bytes=512) is first
        assert b"".join(drained(first)) == DATA
        assert b"".join(drained(second)) == DATA
    assert order == sorted(order)


def test_a_feed_is_a_source_for_those_who_do_not_know_it() -> None:
    ring, other = Ring(16_384, slot_bytes=4096), Ring(9000, slot_bytes=3000)
    with (
        ring.feed(Source(DATA), len(DATA), DIGEST, "key") as inner,
        other.feed(inner, len(DATA), DIGEST, "key", block_bytes=3000) as outer,
    ):
        assert outer is not inner
        assert b"".join(bytes(piece) for piece in outer.pieces()) == DATA


def test_a_wait_for_a_silent_source_is_told_to_those_who_wait_for_the_drive() -> None:
    now = [100.0]
    ring = Ring(8192, slot_bytes=4096, clock=lambda: now[0])
    inside, go = threading.Event(), threading.Event()

    def wait(_: int) -> None:
        inside.set()
        go.wait(10)

    feed = ring.feed(Source(DATA[:10], 10, wait), 10, None, "key")
    assert inside.wait(10)
    assert feed.stalled() == 0  # nobody waits for it yet
    writer = threading.Thread(target=lambda: drained(feed))
    writer.start()
    while not feed._waiting:
        time.sleep(0.001)
    now[0] += 7.5
    assert feed.stalled() == 7.5
    assert not feed.reads_here()
    go.set()
    writer.join(10)
    assert feed.stalled() == 0
    feed.close()


def test_closing_waits_for_the_read_that_is_under_way_and_tells_that_it_waits() -> None:
    inside, go = threading.Event(), threading.Event()

    def wait(_: int) -> None:
        inside.set()
        go.wait(10)

    feed = Ring(8192, slot_bytes=4096).feed(Source(DATA, 10, wait), len(DATA), None, "key")
    assert inside.wait(10)
    closing = threading.Thread(target=feed.close)
    closing.start()
    closing.join(0.02)
    assert closing.is_alive()
    assert feed.stalled() > 0
    go.set()
    closing.join(10)
    with pytest.raises(ValueError, match="closed"):
        drained(feed)


def test_a_thread_knows_that_it_reads_for_the_feed() -> None:
    seen: list[bool] = []
    made: list[Feed] = []
    ready = threading.Event()

    def look(_: int) -> None:
        ready.wait(10)
        seen.append(made[0].reads_here())

    with Ring(8192, slot_bytes=4096).feed(Source(b"x", 1, look), 1, None, "key") as feed:
        made.append(feed)
        ready.set()
        drained(feed)
        assert not feed.reads_here()
    assert set(seen) == {True}


def test_memory_is_given_back_only_by_a_ring_that_is_not_in_use() -> None:
    ring = Ring(8192, slot_bytes=4096)
    with ring.feed(Source(DATA), len(DATA), DIGEST, "key") as feed:
        pieces = feed.pieces()
        first = bytes(next(pieces))
        ring.shrink()
        assert first + b"".join(bytes(piece) for piece in pieces) == DATA
    ring.shrink()
    assert ring._memory is None
    with ring.feed(Source(DATA), len(DATA), DIGEST, "key") as feed:
        assert b"".join(bytes(piece) for piece in feed.pieces()) == DATA


@pytest.mark.parametrize("make", [lambda: Ring(0), lambda: Ring(1, slot_bytes=0)])
def test_a_ring_of_no_size_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="ring of"):
        make()


def test_a_block_that_fits_no_slot_is_refused() -> None:
    with pytest.raises(ValueError, match="block of 8193"):
        Ring(1 << 20, slot_bytes=8192).feed(Source(DATA), 1, None, "key", block_bytes=8193)
