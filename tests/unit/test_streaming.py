"""What passes through the staging area: whoever follows gets every byte, in bounded room."""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsm.clock import ManualClock
from hsm.errors import Corrupt, NoSpace, Retryable
from hsm.passing import IDLE_SECONDS, LINGER_SECONDS, Pass, TooLarge
from hsm.staging import Staging
from hsm.streaming import Follower, Span

KEY = "1.2.3.p0001.tar"
AREA = 64_000


class Tape:
    """A package of instances, and what reading it costs."""

    def __init__(self, sizes: list[int], gap: int = 512) -> None:
        self.spans: list[Span] = []
        data = bytearray(b"m" * gap)
        for number, size in enumerate(sizes):
            body = random.Random(number).randbytes(size)
            self.spans.append(Span(len(data), size, hashlib.sha256(body).digest()))
            data += body + b"\0" * gap
        self.data = bytes(data)
        self.read = 0

    def feed(self, into: Pass, at: int, most: int) -> int:
        """Give a pass at most so many bytes; where it is then."""
        taken = into.write(memoryview(self.data)[at : at + most])
        self.read += taken
        return at + taken


def area_of(folder: Path, size: int = AREA) -> tuple[Staging, ManualClock]:
    clock = ManualClock()
    return Staging(folder, size, clock=clock), clock


def on_disk(folder: Path) -> int:
    return sum(entry.stat().st_blocks * 512 for entry in os.scandir(folder))


def take(area: Staging, follower: Follower, tape: Tape) -> bytes | None:
    """The next instance that this follower can have."""
    span = area.streams.ready(follower)
    if span is None:
        return None
    content = area.open(KEY, span.offset, span.size)
    data = content.whole()
    content.close()
    assert data == tape.data[span.offset : span.end]
    area.streams.took(follower, span.offset)
    return data


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=25),
    script=st.lists(
        st.tuples(st.sampled_from(["read", "take", "join", "leave", "wait"]), st.integers(0, 9)), max_size=80
    ),
)
def test_whoever_comes_and_goes_everyone_who_stays_gets_every_byte_in_bounded_room(
    sizes: list[int], script: list[tuple[str, int]]
) -> None:
    tape = Tape(sizes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "staging"
        area, clock = area_of(folder)
        followers: list[Follower] = []
        under_way: Pass | None = None
        at = 0

        def read(most: int) -> None:
            nonlocal under_way, at
            if under_way is None and area.streams.hungry(KEY):
                under_way = area.streams.begin(KEY)
                at = under_way.start
            if under_way is None:
                return
            before = at
            if not under_way.over:
                at = tape.feed(under_way, at, most)
            if under_way.over or (at == before and not under_way.leave_behind()):
                under_way.close()
                under_way = None

        for what, number in script:
            mine = followers[number % len(followers)] if followers else None
            if what == "read":
                read(1000 * (number + 1))
            elif what == "join" and len(followers) < 5:
                wanted = [span for at_, span in enumerate(tape.spans) if (at_ + number) % 3 or number < 5]
                followers.append(area.streams.follow(KEY, f"waiter {number}", wanted))
            elif what == "wait":
                clock.advance(30 * number)
            elif mine is not None and what == "take":
                take(area, mine, tape)
            elif mine is not None:
                area.streams.unfollow(mine)
                followers.remove(mine)
            assert area.used_bytes <= AREA
            assert on_disk(folder) <= AREA + 2 * 4096
        for _ in range(5000):
            if not any(len(each) for each in followers):
                break
            read(30_000)
            for each in followers:
                take(area, each, tape)
        assert [len(each) for each in followers] == [0] * len(followers)
        if under_way is not None:
            under_way.close()
        for each in followers:
            area.streams.unfollow(each)
        assert os.listdir(folder) == []
        assert area.used_bytes == 0


def begun(tmp_path: Path, sizes: list[int]) -> tuple[Staging, ManualClock, Tape, Follower, Pass]:
    tape = Tape(sizes)
    area, clock = area_of(tmp_path / "staging")
    follower = area.streams.follow(KEY, "C-GET from A", tape.spans)
    return area, clock, tape, follower, area.streams.begin(KEY)


def test_other_bytes_than_were_stored_stop_the_read_before_anybody_has_them(tmp_path: Path) -> None:
    area, _, tape, follower, reading = begun(tmp_path, [10_000] * 3)
    wrong = bytearray(tape.data)
    wrong[tape.spans[1].offset + 9_999] ^= 1
    with pytest.raises(Corrupt, match="expected"):
        reading.write(memoryview(bytes(wrong))[reading.start : reading.start + 30_000])
    reading.close()
    assert take(area, follower, tape) is not None, "the first is good"
    assert take(area, follower, tape) is None


def test_what_a_reader_found_damaged_ends_the_pass_and_is_read_from_there_again(tmp_path: Path) -> None:
    area, _, tape, follower, reading = begun(tmp_path, [10_000] * 3)
    at = tape.feed(reading, reading.start, 15_000)
    assert take(area, follower, tape) is not None
    area.remove(KEY)
    with pytest.raises(Retryable, match="damaged"):
        tape.feed(reading, at, 1000)
    reading.close()
    again = area.streams.begin(KEY)
    assert again.start == tape.spans[1].offset


def test_one_read_at_a_time_and_none_for_nobody(tmp_path: Path) -> None:
    area, _, tape, follower, reading = begun(tmp_path, [10_000] * 8)
    with pytest.raises(Retryable, match="read already"):
        area.streams.begin(KEY)
    reading.close()
    reading.close()
    area.streams.unfollow(follower)
    area.streams.unfollow(follower)
    assert area.streams.hungry(KEY) is None
    with pytest.raises(Retryable, match="nobody waits"):
        area.streams.begin(KEY)
    assert tape.read == 0


def test_an_instance_that_can_never_pass_is_told_from_one_that_waits_for_room(tmp_path: Path) -> None:
    tape = Tape([AREA])
    area, _ = area_of(tmp_path / "staging")
    area.streams.follow(KEY, "C-GET", tape.spans)
    with pytest.raises(TooLarge, match=r"raise staging\.size_max_bytes"):
        area.streams.begin(KEY)
    small = Tape([1000] * 100)
    area, _ = area_of(tmp_path / "other")
    area.admit("1.2.9.p0001.tar", 60_000)
    area.streams.follow(KEY, "C-GET", small.spans)
    with pytest.raises(NoSpace) as told:
        area.streams.begin(KEY)
    assert not isinstance(told.value, TooLarge)


def test_what_is_kept_for_a_delivery_is_its_own_when_it_comes_back_and_nobodys_when_it_does_not(
    tmp_path: Path,
) -> None:
    area, clock, tape, follower, reading = begun(tmp_path, [10_000] * 3)
    tape.feed(reading, reading.start, 25_000)
    reading.close()
    area.streams.unfollow(follower, lingers=True)
    back = area.streams.follow(KEY, "C-GET from A", tape.spans)
    assert take(area, back, tape) is not None
    area.streams.unfollow(back, lingers=True)
    clock.advance(LINGER_SECONDS + 1)
    assert area.streams.hungry(KEY) is None
    assert os.listdir(tmp_path / "staging") == []


def test_what_nobody_takes_makes_room_for_who_wants_another_part_but_not_at_once(tmp_path: Path) -> None:
    area, clock, tape, slow, reading = begun(tmp_path, [10_000] * 9)
    at = reading.start
    while (after := tape.feed(reading, at, 5000)) > at:
        at = after
    reading.close()
    other = area.streams.follow(KEY, "other", tape.spans[6:])
    assert area.streams.ready(slow) is not None
    assert area.streams.hungry(KEY) is False, "it has just come"
    clock.advance(IDLE_SECONDS + 1)
    assert area.streams.hungry(KEY) is True
    again = area.streams.begin(KEY)
    assert again.start == tape.spans[0].offset, "the slow one gets it again on the way"
    assert area.streams.ready(other) is None


def test_a_crash_leaves_no_segment(tmp_path: Path) -> None:
    area, _, tape, _, reading = begun(tmp_path, [10_000] * 3)
    tape.feed(reading, reading.start, 20_000)
    assert os.listdir(tmp_path / "staging")
    area_of(tmp_path / "staging")
    assert os.listdir(tmp_path / "staging") == []
    assert area.streams.passes(KEY)
