"""The staging area: readers while it is written, pins, evictions, damage and restarts."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hsm.clock import ManualClock
from hsm.errors import ConfigError, Corrupt, DriverError, NoSpace, NotFound, Retryable
from hsm.staging import Staging, StagingWriter

WAIT_SECONDS = 20.0  # an upper bound for a broken test, never slept through


def key(number: int) -> str:
    return f"1.2.{number}.p0001.tar"


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def fill(area: Staging, number: int, data: bytes) -> str:
    writer = area.admit(key(number), len(data))
    writer.write(data)
    writer.commit(sha(data))
    return key(number)


@pytest.fixture
def area(tmp_path: Path) -> Staging:
    return Staging(tmp_path / "staging", 100)


def files(tmp_path: Path) -> set[str]:
    return set(os.listdir(tmp_path / "staging"))


def test_a_package_is_readable_as_it_arrives_and_complete_only_when_its_digest_matched(area: Staging) -> None:
    writer = area.admit(key(1), 6)
    assert (area.holds(key(1)), area.complete(key(1)), area.available(key(1))) == (True, False, 0)
    writer.write(b"abc")
    assert area.available(key(1)) == 3
    assert area.read(key(1), 1, 2) == b"bc"
    with pytest.raises(Retryable, match="3 of 6 bytes are there so far"):
        area.read(key(1), 2, 2)
    writer.write(b"def")
    assert not area.complete(key(1))
    writer.commit(sha(b"abcdef"))
    assert area.complete(key(1))
    assert area.read(key(1), 0, 6) == b"abcdef"
    assert area.read(key(1), 6, 0) == b""


def test_what_is_not_there_says_so(area: Staging) -> None:
    assert (area.holds(key(1)), area.complete(key(1)), area.available(key(1))) == (False, False, 0)
    with pytest.raises(NotFound, match="not there"):
        area.read(key(1), 0, 1)
    area.remove(key(1))


@pytest.mark.parametrize(("offset", "length"), [(0, 4), (3, 1), (-1, 1), (0, -1), (100, 0)])
def test_a_range_outside_the_package_is_corrupt_and_leaves_it_there(
    area: Staging, offset: int, length: int
) -> None:
    fill(area, 1, b"abc")
    with pytest.raises(Corrupt, match="3 bytes; asked for"):
        area.read(key(1), offset, length)
    assert area.complete(key(1))


@pytest.mark.parametrize(
    ("written", "announced", "message"),
    [
        (b"abX", 3, "SHA-256 is"),
        (b"ab", 3, "2 bytes; expected 3"),
        (b"abcd", 3, "more than the expected 3"),
    ],
)
def test_other_bytes_than_expected_leave_nothing(
    area: Staging, tmp_path: Path, written: bytes, announced: int, message: str
) -> None:
    writer = area.admit(key(1), announced)
    with pytest.raises(Corrupt, match=message):
        for at in range(len(written)):
            writer.write(written[at : at + 1])
        writer.commit(sha(b"abc"))
    assert files(tmp_path) == set()
    assert not area.holds(key(1))
    assert area.used_bytes == 0
    writer.abort()  # what a caller's `except` does; harmless
    with pytest.raises(ValueError, match="has ended"):
        writer.write(b"x")
    fill(area, 1, b"abc")


def test_an_aborted_package_leaves_nothing_and_an_abort_after_commit_does_no_harm(
    area: Staging, tmp_path: Path
) -> None:
    writer = area.admit(key(1), 3)
    writer.write(b"ab")
    writer.abort()
    assert files(tmp_path) == set()
    writer = area.admit(key(1), 3)
    writer.write(b"abc")
    writer.commit(sha(b"abc"))
    writer.abort()
    assert files(tmp_path) == {key(1)}
    assert area.read(key(1), 0, 3) == b"abc"


def test_one_package_is_written_once_at_a_time(area: Staging) -> None:
    writer = area.admit(key(1), 3)
    with pytest.raises(Retryable, match="on its way"):
        area.admit(key(1), 3)
    writer.abort()
    fill(area, 1, b"abc")
    with pytest.raises(Retryable, match="there already"):
        area.admit(key(1), 3)


@pytest.mark.parametrize(
    "name", ["../x.p0001.tar", "x", "1.2.tar", "1.2.p0001.tar/..", "1.2.p0001.tar.part", ""]
)
def test_only_keys_of_packages_become_files(area: Staging, name: str) -> None:
    with pytest.raises(ValueError, match="not the key of a package"):
        area.admit(name, 1)


# Room.


def test_the_least_recently_used_unpinned_package_makes_room(area: Staging, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        fill(area, number, b"x" * 30)
    area.pin(key(2))
    area.read(key(1), 0, 1)
    fill(area, 4, b"y" * 30)  # 2 is pinned and 1 was just read: 3 goes
    assert files(tmp_path) == {key(1), key(2), key(4)}
    area.unpin(key(2))
    fill(area, 5, b"z" * 70)
    assert files(tmp_path) == {key(4), key(5)}
    assert area.used_bytes == 100


def test_a_package_that_will_be_read_outlasts_one_that_was_read_just_now(tmp_path: Path) -> None:
    clock = ManualClock()
    area = Staging(tmp_path / "staging", 100, clock=clock)
    until = clock.now().timestamp() + 3600
    writer = area.admit(key(1), 40, expected_until=until)
    writer.write(b"x" * 40)
    writer.commit(sha(b"x" * 40))
    clock.advance(600)
    fill(area, 2, b"y" * 40)
    clock.advance(1)
    fill(area, 3, b"z" * 40)
    assert files(tmp_path) == {key(1), key(3)}
    area.read(key(1), 0, 1)
    clock.advance(60)
    area.read(key(3), 0, 1)
    fill(area, 4, b"w" * 40)
    assert files(tmp_path) == {key(3), key(4)}, "read once, it is like the others"


def test_what_was_dear_to_bring_outlasts_what_is_quickly_back(area: Staging, tmp_path: Path) -> None:
    fill(area, 1, b"x" * 40)
    fill(area, 2, b"y" * 40)
    assert area.lacks(40) == [key(1), key(2)]
    assert area.lacks(20) == []
    writer = area.admit(key(3), 40, {key(1): 1800.0, key(2): 60.0})
    writer.abort()
    assert files(tmp_path) == {key(1)}


def test_room_of_the_disk_is_left_to_others(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    free = status.f_bavail * status.f_frsize
    area = Staging(tmp_path / "staging", 1 << 60, free_min_bytes=free * 2)
    assert area.room_ever() <= 0
    with pytest.raises(NoSpace):
        area.admit(key(1), 1)


def test_a_package_that_took_long_to_arrive_is_not_the_oldest_when_it_is_complete(
    area: Staging, tmp_path: Path
) -> None:
    slow = area.admit(key(1), 30)
    fill(area, 2, b"x" * 30)
    slow.write(b"y" * 30)
    slow.commit(sha(b"y" * 30))
    fill(area, 3, b"z" * 70)
    assert files(tmp_path) == {key(1), key(3)}


def test_pins_are_counted_and_may_come_before_the_package(area: Staging) -> None:
    area.pin(key(1))
    area.pin(key(1))
    fill(area, 1, b"x" * 60)
    area.unpin(key(1))
    with pytest.raises(NoSpace):
        area.admit(key(2), 60)
    area.unpin(key(1))
    area.admit(key(2), 60).abort()
    with pytest.raises(ValueError, match="not pinned"):
        area.unpin(key(1))


def test_nothing_is_evicted_when_that_would_not_be_enough(area: Staging) -> None:
    fill(area, 1, b"x" * 40)
    fill(area, 2, b"y" * 40)
    area.pin(key(2))
    with pytest.raises(NoSpace, match=r"needs 70 bytes and 60 can be had"):
        area.admit(key(3), 70)
    assert area.complete(key(1))


def test_a_package_larger_than_the_area_is_refused_with_both_sizes(area: Staging) -> None:
    fill(area, 1, b"x")
    with pytest.raises(NoSpace, match=r"of 101 bytes is larger than the whole area of 100 bytes"):
        area.admit(key(2), 101)
    assert area.complete(key(1))


def test_room_is_reserved_for_what_is_still_being_written(area: Staging) -> None:
    writer = area.admit(key(1), 80)
    assert area.used_bytes == 80
    with pytest.raises(NoSpace):  # and it cannot be evicted either
        area.admit(key(2), 30)
    writer.abort()
    area.admit(key(2), 30).abort()


def test_the_disk_may_be_smaller_than_the_area(
    area: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free blocks count too, less what packages under way were promised."""
    real = os.statvfs

    def nearly_full(path: Path) -> os.statvfs_result:
        values = list(real(path))
        values[1], values[4] = 1, 25  # f_frsize, f_bavail
        return os.statvfs_result(values)

    fill(area, 1, b"x" * 30)
    monkeypatch.setattr(os, "statvfs", nearly_full)
    writer = area.admit(key(2), 20)
    assert area.complete(key(1))
    area.admit(key(3), 30).abort()  # 5 free, 30 by evicting
    assert not area.complete(key(1))
    with pytest.raises(NoSpace, match=r"5 can be had.*disk 5 free"):
        area.admit(key(4), 6)
    writer.abort()


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, Retryable)]
)
def test_a_disk_that_fails_leaves_nothing_and_names_the_package(
    area: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[DriverError]
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    for step in ("write", "fsync", "rename"):
        writer = area.admit(key(1), 3)
        with monkeypatch.context() as patch, pytest.raises(kind, match=rf"1\.2\.1.*{os.strerror(number)}"):
            patch.setattr(os, step, fail)
            writer.write(b"abc")
            writer.commit(sha(b"abc"))
        assert files(tmp_path) == set(), step
        assert not area.holds(key(1))
    fill(area, 1, b"abc")


def test_a_folder_that_cannot_be_synced_leaves_no_file_behind(
    area: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second fsync of a commit is the folder's, after the rename."""
    real, calls = os.fsync, []

    def fail_second(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.EIO, "folder")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail_second)
    writer = area.admit(key(1), 3)
    writer.write(b"abc")
    with pytest.raises(Retryable, match="folder"):
        writer.commit(sha(b"abc"))
    assert files(tmp_path) == set()
    assert not area.complete(key(1))


# Damage.


def test_a_staged_file_that_vanished_or_shrank_is_dropped_so_that_it_can_be_recalled_again(
    area: Staging, tmp_path: Path
) -> None:
    fill(area, 1, b"abc")
    (tmp_path / "staging" / key(1)).unlink()
    with pytest.raises(NotFound, match="is gone"):
        area.read(key(1), 0, 3)
    assert not area.complete(key(1))
    fill(area, 1, b"abc")
    os.truncate(tmp_path / "staging" / key(1), 2)
    with pytest.raises(Corrupt, match="ends at 2"):
        area.read(key(1), 0, 3)
    assert not area.complete(key(1))
    assert files(tmp_path) == set()
    fill(area, 1, b"abc")


def test_a_read_that_fails_does_not_cost_the_package_that_came_in_its_place(
    area: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(area, 1, b"abc")

    def fail_late(*_: object) -> bytes:
        area.remove(key(1))
        fill(area, 1, b"xyz")
        raise OSError(errno.EIO, "late")

    with monkeypatch.context() as patch, pytest.raises(Retryable, match="late"):
        patch.setattr(os, "pread", fail_late)
        area.read(key(1), 0, 3)
    assert area.read(key(1), 0, 3) == b"xyz"


def test_a_commit_that_fails_does_not_cost_the_package_that_came_in_its_place(
    area: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def fail_late(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:  # the folder's, after the rename
            area.remove(key(1))
            fill(area, 1, b"xyz")
            raise OSError(errno.EIO, "late")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail_late)
    writer = area.admit(key(1), 3)
    writer.write(b"abc")
    with pytest.raises(Retryable, match="late"):
        writer.commit(sha(b"abc"))
    assert area.read(key(1), 0, 3) == b"xyz"


def test_a_read_that_finds_no_free_descriptor_does_not_cost_a_good_package(
    area: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(area, 1, b"abc")

    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch, pytest.raises(Retryable, match="Too many open files"):
        patch.setattr(os, "open", fail)
        area.read(key(1), 0, 1)
    assert area.read(key(1), 0, 3) == b"abc"


def test_a_removed_package_is_gone_though_it_is_pinned(area: Staging, tmp_path: Path) -> None:
    fill(area, 1, b"abc")
    area.pin(key(1))
    area.remove(key(1))
    assert files(tmp_path) == set()
    fill(area, 1, b"xyz")
    assert area.read(key(1), 0, 3) == b"xyz"


@pytest.mark.parametrize(("data", "kind"), [(b"abc", Retryable), (b"abX", Corrupt)])
def test_a_package_removed_on_its_way_is_hidden_and_its_writer_tells_whose_fault_it_was(
    area: Staging, tmp_path: Path, data: bytes, kind: type[DriverError]
) -> None:
    """Right bytes from the medium: this disk damaged them. Wrong ones: the medium did."""
    writer = area.admit(key(1), 3)
    writer.write(data[:2])
    area.remove(key(1))
    assert (area.holds(key(1)), area.available(key(1))) == (False, 0)
    with pytest.raises(NotFound):
        area.read(key(1), 0, 1)
    writer.write(data[2:])
    assert area.available(key(1)) == 0
    with pytest.raises(kind):
        writer.commit(sha(b"abc"))
    assert files(tmp_path) == set()
    assert area.used_bytes == 0


# Restart.


def test_after_a_restart_complete_packages_are_there_and_begun_ones_are_not(
    area: Staging, tmp_path: Path
) -> None:
    fill(area, 1, b"abc")
    area.admit(key(2), 50).write(b"half")
    folder = tmp_path / "staging"
    (folder / "notes.txt").write_text("an admin's")
    (folder / "other.part").write_text("an admin's")
    (folder / "1.2.9.p0001.tar").mkdir()
    again = Staging(folder, 100)
    assert files(tmp_path) == {key(1), "notes.txt", "other.part", "1.2.9.p0001.tar"}
    assert again.complete(key(1))
    assert again.read(key(1), 0, 3) == b"abc"
    assert not again.holds(key(2))
    assert again.used_bytes == 3


def test_after_a_restart_the_oldest_package_is_evicted_first(area: Staging, tmp_path: Path) -> None:
    for number, age in ((1, 50), (2, 90), (3, 10)):
        fill(area, number, b"x" * 30)
        os.utime(tmp_path / "staging" / key(number), (10_000 - age, 10_000 - age))
    again = Staging(tmp_path / "staging", 100)
    fill(again, 4, b"x" * 30)
    assert files(tmp_path) == {key(1), key(3), key(4)}


def test_an_area_made_smaller_gives_way_when_the_next_package_comes(area: Staging, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        fill(area, number, b"x" * 30)
    again = Staging(tmp_path / "staging", 40)
    fill(again, 4, b"x" * 30)
    assert files(tmp_path) == {key(4)}


def test_a_folder_that_cannot_be_made_refuses_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="file"):
        Staging(tmp_path / "file", 100)


# Threads.


def test_wait_for_returns_with_the_bytes_or_with_the_time(area: Staging) -> None:
    assert not area.wait_for(key(1), 1, 0.001)
    writer = area.admit(key(1), 6)
    writer.write(b"abc")
    assert area.wait_for(key(1), 3, 0)
    assert not area.wait_for(key(1), 4, 0.001)
    waiting = threading.Event()
    seen: list[bool] = []

    def wait() -> None:
        waiting.set()
        seen.append(area.wait_for(key(1), 6, WAIT_SECONDS))

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait(WAIT_SECONDS)
    writer.write(b"def")
    thread.join(WAIT_SECONDS)
    assert seen == [True]


def test_a_waiter_outlasts_an_aborted_attempt_and_gets_the_next_one(area: Staging) -> None:
    writer = area.admit(key(1), 3)
    seen: list[bytes] = []

    def wait() -> None:
        if area.wait_for(key(1), 3, WAIT_SECONDS):
            seen.append(area.read(key(1), 0, 3))

    thread = threading.Thread(target=wait)
    thread.start()
    writer.write(b"ab")
    writer.abort()
    fill(area, 1, b"abc")
    thread.join(WAIT_SECONDS)
    assert seen == [b"abc"]


def run_all(*targets: Callable[[], None]) -> None:
    """Run each in a thread; an error in one of them is the test's."""
    errors: list[BaseException] = []

    def guarded(target: Callable[[], None]) -> None:
        try:
            target()
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


def test_a_waiter_is_woken_by_each_write(area: Staging) -> None:
    """Ping-pong: the next byte is written only when the last one has been seen."""
    seen = threading.Semaphore(0)

    def follow() -> None:
        for end in range(1, 51):
            assert area.wait_for(key(1), end, WAIT_SECONDS)
            seen.release()

    def write() -> None:
        writer = area.admit(key(1), 50)
        for _ in range(50):
            writer.write(b"x")
            assert seen.acquire(timeout=WAIT_SECONDS / 4), "nobody woke the waiter"
        writer.commit(sha(b"x" * 50))

    run_all(follow, write)


def test_many_readers_follow_a_writer_and_each_gets_every_byte(tmp_path: Path) -> None:
    data = os.urandom(200_000)
    area = Staging(tmp_path / "staging", len(data))
    got: list[bytes] = []

    def follow(step: int) -> None:
        parts = []
        for offset in range(0, len(data), step):
            end = min(offset + step, len(data))
            assert area.wait_for(key(1), end, WAIT_SECONDS)
            parts.append(area.read(key(1), offset, end - offset))
        got.append(b"".join(parts))

    def produce() -> None:
        writer = area.admit(key(1), len(data))
        for offset in range(0, len(data), 1777):
            writer.write(data[offset : offset + 1777])
        writer.commit(sha(data))

    area.pin(key(1))
    run_all(produce, *(functools.partial(follow, step) for step in (701, 1777, 30_000, 200_000)))
    assert len(got) == 4
    assert set(got) == {data}


def test_readers_of_packages_that_come_and_go_see_right_bytes_or_a_clear_error(tmp_path: Path) -> None:
    """Two writers keep evicting each other's packages under four readers."""
    area = Staging(tmp_path / "staging", 2500)
    contents = {key(number): bytes([number]) * 1000 for number in range(6)}
    stop = threading.Event()
    hits: list[int] = []

    def write(numbers: tuple[int, ...]) -> None:
        for turn in range(60):
            name = key(numbers[turn % len(numbers)])
            try:
                writer = area.admit(name, 1000)
            except (Retryable, NoSpace):
                continue
            for part in range(4):
                writer.write(contents[name][part * 250 : (part + 1) * 250])
            writer.commit(sha(contents[name]))

    def read() -> None:
        while not stop.is_set():
            for name, data in contents.items():
                try:
                    assert area.read(name, 100, 600) == data[100:700]
                except (NotFound, Retryable):
                    continue
                hits.append(1)

    def write_all() -> None:
        try:
            run_all(lambda: write((0, 1, 2)), lambda: write((3, 4, 5)))
        finally:
            stop.set()

    run_all(write_all, read, read, read, read)
    assert hits
    kept = {name for name in contents if area.complete(name)}
    assert files(tmp_path) == kept
    assert area.used_bytes == 1000 * len(kept) <= 2500


class Machine(RuleBasedStateMachine):
    """Any sequence of acts against a plain model of what should be there."""

    numbers = st.integers(1, 5)

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name) / "staging"
        self.area = Staging(self.folder, 100)
        self.whole: dict[str, bytes] = {}
        self.begun: dict[str, tuple[StagingWriter, bytes, int]] = {}
        self.pins: dict[str, int] = {}

    def teardown(self) -> None:
        for writer, _, _ in self.begun.values():
            writer.abort()
        self.temporary.cleanup()

    @rule(number=numbers, data=st.binary(min_size=1, max_size=120))
    def admit(self, number: int, data: bytes) -> None:
        name = key(number)
        pinned = sum(len(d) for k, d in self.whole.items() if k in self.pins)
        pinned += sum(len(d) for _, d, _ in self.begun.values())
        try:
            writer = self.area.admit(name, len(data))
        except NoSpace:
            assert len(data) > 100 - pinned
        except Retryable:
            assert name in self.whole or name in self.begun
        else:
            assert len(data) <= 100 - pinned
            assert name not in self.begun
            left = {k: d for k, d in self.whole.items() if self.area.complete(k)}
            assert self.pins.keys() & self.whole.keys() <= left.keys(), "a pinned package was evicted"
            self.whole = left
            self.begun[name] = (writer, data, 0)

    @precondition(lambda self: self.begun)
    @rule(which=st.integers(0, 9), length=st.integers(1, 120))
    def write(self, which: int, length: int) -> None:
        name = sorted(self.begun)[which % len(self.begun)]
        writer, data, at = self.begun[name]
        writer.write(data[at : at + length])
        self.begun[name] = (writer, data, min(at + length, len(data)))

    @precondition(lambda self: self.begun)
    @rule(which=st.integers(0, 9))
    def commit(self, which: int) -> None:
        name = sorted(self.begun)[which % len(self.begun)]
        writer, data, at = self.begun.pop(name)
        if at == len(data):
            writer.commit(sha(data))
            self.whole[name] = data
        else:
            with pytest.raises(Corrupt):
                writer.commit(sha(data))

    @rule(number=numbers)
    def pin(self, number: int) -> None:
        self.area.pin(key(number))
        self.pins[key(number)] = self.pins.get(key(number), 0) + 1

    @precondition(lambda self: self.pins)
    @rule(which=st.integers(0, 9))
    def unpin(self, which: int) -> None:
        name = sorted(self.pins)[which % len(self.pins)]
        self.area.unpin(name)
        self.pins[name] -= 1
        if not self.pins[name]:
            del self.pins[name]

    @rule(number=numbers)
    def remove_whole(self, number: int) -> None:
        if key(number) not in self.begun:
            self.area.remove(key(number))
            self.whole.pop(key(number), None)

    @rule()
    def restart(self) -> None:
        for writer, _, _ in self.begun.values():
            writer.abort()
        self.begun.clear()
        self.pins.clear()
        self.area = Staging(self.folder, 100)

    @invariant()
    def what_is_there_is_right(self) -> None:
        assert self.area.used_bytes <= 100
        for number in range(1, 6):
            name = key(number)
            assert self.area.complete(name) == (name in self.whole)
            if name in self.whole:
                assert self.area.read(name, 0, len(self.whole[name])) == self.whole[name]
            elif name in self.begun:
                _, data, at = self.begun[name]
                assert self.area.available(name) == at
                assert self.area.read(name, 0, at) == data[:at]
        expected = set(self.whole) | {f"{name}.part" for name in self.begun}
        assert set(os.listdir(self.folder)) == expected


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
