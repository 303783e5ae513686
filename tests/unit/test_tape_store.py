"""What a plain tape volume keeps when drives, cartridges and power fail; what every Store does is in
tests/contract."""

from __future__ import annotations

import errno
import hashlib
import io
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Capacity, VolumeLabel
from drivers.errors import Corrupt, DriverError, NoSpace, NotFound, Permanent, Retryable
from drivers.tape import index as indexes
from drivers.tape.fake import FakeDrive, FakeHandle, Tape
from drivers.tape.io import Op
from drivers.tape.label import FIRST_BLOCK, Content, PlainLabel
from drivers.tape.plain import Recovered, identify, recover, write_label
from drivers.tape.store import PlainStore

BLOCK = 4096
LABEL = PlainLabel(VolumeLabel("HSM001L8", "5f0c0a3e-0001", "tape-a"), BLOCK)
DATA = random.Random(1).randbytes(10 * BLOCK + 77)
BIG = Capacity(1 << 40, 1 << 40)


@pytest.fixture
def drive() -> FakeDrive:
    made = FakeDrive()
    made.load(Tape())
    with_handle(made, lambda handle: write_label(handle, LABEL))
    return made


def with_handle(drive: FakeDrive, act: Callable[[FakeHandle], Any]) -> Any:
    handle = drive.open(write=True)
    try:
        return act(handle)
    finally:
        handle.close()


def mount(drive: FakeDrive, capacity: Capacity = BIG, handle: Any = None) -> PlainStore:
    handle = handle or drive.open(write=True)
    found = identify(handle)
    assert found.content is Content.OURS
    assert found.label is not None
    return PlainStore(handle, "/dev/nst0", found.label, recover(handle, found.label), capacity)


def tape_of(drive: FakeDrive) -> Tape:
    assert drive.tape is not None
    return drive.tape


def put(store: PlainStore, key: str, data: bytes = DATA) -> None:
    store.put(key, io.BytesIO(data), len(data), hashlib.sha256(data).digest())


def read(store: PlainStore, key: str) -> bytes:
    return b"".join(store.get(key))


def contents(store: PlainStore) -> dict[str, bytes]:
    return {stat.key: read(store, stat.key) for stat in store.list()}


def tape_files(tape: Tape) -> list[bytes]:
    """The tape files as dd reads them."""
    files, now = [], bytearray()
    for record in tape.records:
        if record is None:
            files.append(bytes(now))
            now.clear()
        else:
            now += record
    assert not now, "the tape does not end with a filemark"
    return files


def failing(operation: str, code: int, nth: int = 1) -> Callable[[str, int], OSError | None]:
    left = nth

    def fault(name: str, _: int) -> OSError | None:
        nonlocal left
        left -= name == operation
        return OSError(code, "injected") if name == operation and left == 0 else None

    return fault


class Meddling:
    """A handle that somebody meddles with before each write."""

    def __init__(self, handle: FakeHandle, before: Callable[[int], bool]) -> None:
        self._handle, self._before, self._writes = handle, before, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def write(self, data: Any) -> int:
        """``before`` says whether the write reaches the tape; the answer is that it does."""
        self._writes += 1
        return self._handle.write(data) if self._before(self._writes) else len(data)


def test_a_package_is_one_tape_file_byte_by_byte(drive: FakeDrive) -> None:
    store = mount(drive)
    put(store, "ab/first.tar")
    put(store, "cd/second.tar", DATA[:5])
    store.flush()
    store.close()
    label, first, second, index = tape_files(tape_of(drive))
    assert label.startswith(b"VOL1HSM001")
    assert (first, second) == (DATA, DATA[:5])
    listed = indexes.decode(index, LABEL.volume.uuid, FIRST_BLOCK + 12 + 2).entries
    assert [(entry.key, entry.file, entry.size) for entry in listed.values()] == [
        ("ab/first.tar", 1, len(DATA)),
        ("cd/second.tar", 2, 5),
    ]
    assert listed["ab/first.tar"].sha256 == hashlib.sha256(DATA).hexdigest()


def test_positions_are_the_blocks_and_files_that_mt_knows(drive: FakeDrive) -> None:
    store = mount(drive)
    put(store, "a")
    store.flush()
    put(store, "b")
    store.flush()
    for entry in store.entries():
        handle_tape = tape_of(drive)
        assert handle_tape.records[entry.block] == DATA[:BLOCK]
        assert sum(record is None for record in handle_tape.records[: entry.block]) == entry.file


def test_reading_locates_and_never_spaces(drive: FakeDrive) -> None:
    store = mount(drive)
    for key in "abc":
        put(store, key)
    store.flush()
    drive.log.clear()
    assert read(store, "b") == DATA
    assert b"".join(store.get("c", 3 * BLOCK + 5, 10)) == DATA[3 * BLOCK + 5 :][:10]
    block = {entry.key: entry.block for entry in store.entries()}
    assert drive.log == [f"SEEK {block['b']}", f"SEEK {block['c'] + 3}"]


def test_a_flush_is_one_synchronous_filemark_and_packages_are_not_waited_for(drive: FakeDrive) -> None:
    store = mount(drive)
    drive.log.clear()
    for key in "abc":
        put(store, key)
    store.flush()
    assert [entry for entry in drive.log if entry.startswith("WEOF")] == ["WEOFI 1"] * 3 + ["WEOF 1"]


@pytest.mark.parametrize("survivors", range(0, 60, 3))
def test_after_a_power_cut_what_was_flushed_is_there_and_nothing_else(
    drive: FakeDrive, survivors: int
) -> None:
    store = mount(drive)
    put(store, "flushed")
    store.flush()
    for key in "xyz":
        put(store, key)
    proved = list(tape_of(drive).records[: store._end - 36])
    drive.power_cut(survivors)
    store = mount(drive)
    assert contents(store) == {"flushed": DATA}
    put(store, "x", DATA[:3])
    store.flush()
    assert contents(store) == {"flushed": DATA, "x": DATA[:3]}
    assert tape_of(drive).records[: len(proved)] == proved, "something that was proved was overwritten"
    store.close()
    assert contents(mount(drive)) == {"flushed": DATA, "x": DATA[:3]}


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "put", "flush", "lie", "cut", "remount"]), st.integers(0, 40)),
        max_size=25,
    ),
    worm=st.booleans(),
)
def test_whatever_happens_flushed_packages_stay_and_no_proved_record_changes(
    steps: list[tuple[str, int]], worm: bool
) -> None:
    drive = FakeDrive()
    drive.load(Tape())
    with_handle(drive, lambda handle: write_label(handle, LABEL))
    tape_of(drive).worm = worm
    store = mount(drive)
    flushed: dict[str, bytes] = {}
    now: dict[str, bytes] = {}
    proved: list[bytes | None] = []
    for number, (step, amount) in enumerate(steps):
        if step == "put":
            data = DATA[: amount * 1000]
            put(store, f"k{number}", data)
            now[f"k{number}"] = data
        elif step == "lie":
            with pytest.raises(Corrupt):
                store.put(f"k{number}", io.BytesIO(DATA), amount * 1000, bytes(32))
        elif step == "flush":
            store.flush()
            flushed, proved = dict(now), list(tape_of(drive).records)
        elif step == "remount":
            store.close()
            store = mount(drive)
            now = dict(flushed)
        else:
            drive.power_cut(amount)
            store = mount(drive)
            now = dict(flushed)
        assert contents(store) == now
        assert tape_of(drive).records[: len(proved)] == proved


def test_a_write_error_counts_nothing_that_follows_and_the_volume_is_whole_after_a_remount(
    drive: FakeDrive,
) -> None:
    store = mount(drive)
    put(store, "good")
    store.flush()
    put(store, "unproved")
    drive.fault = failing("write", errno.EIO, nth=4)
    with pytest.raises(Retryable, match=r"put bad on HSM001L8 in drive /dev/nst0"):
        put(store, "bad")
    assert not store.health().ok
    with pytest.raises(Retryable, match="mount it again"):
        put(store, "next")
    with pytest.raises(Retryable):
        store.flush()
    assert read(store, "good") == DATA
    store.close()
    store = mount(drive)
    assert contents(store) == {"good": DATA}
    put(store, "bad")
    store.flush()
    assert contents(store) == {"good": DATA, "bad": DATA}


def test_a_failing_filemark_counts_nothing(drive: FakeDrive) -> None:
    store = mount(drive)
    put(store, "good")
    store.flush()
    drive.fault = failing("weofi", errno.EIO)
    with pytest.raises(Retryable):
        put(store, "bad")
    with pytest.raises(NotFound):
        store.stat("bad")


@pytest.mark.parametrize("operation", ["write", "weof", "tell", "read"])
def test_an_index_that_cannot_be_proved_is_reported_and_the_old_one_stays(
    drive: FakeDrive, operation: str
) -> None:
    store = mount(drive)
    put(store, "good")
    store.flush()
    put(store, "unproved")
    drive.fault = failing(operation, errno.EIO)
    with pytest.raises(Retryable):
        store.flush()
    drive.fault = None
    store.close()
    found = contents(mount(drive))
    assert found.pop("good") == DATA
    assert found in ({}, {"unproved": DATA})


def test_a_record_that_the_drive_swallowed_is_noticed_by_its_position(drive: FakeDrive) -> None:
    store = mount(drive, handle=Meddling(drive.open(write=True), lambda n: n != 5))
    with pytest.raises(Retryable, match="expected"):
        put(store, "a")
    assert "expected" in store.health().message
    with pytest.raises(Retryable, match="mount it again"):
        put(store, "b")
    store.close()
    assert contents(mount(drive)) == {}


@pytest.mark.parametrize("place", [0, 3, 5])
def test_a_tape_that_somebody_moved_is_never_written_on_again(drive: FakeDrive, place: int) -> None:
    store = mount(drive)
    put(store, "good")
    store.flush()
    store.close()
    proved = list(tape_of(drive).records)

    def rewind(write: int) -> bool:
        if write == 3:
            drive.position = place
            raise OSError(errno.EIO, "Input/output error")  # what the driver says after a reset
        return True

    store = mount(drive, handle=Meddling(drive.open(write=True), rewind))
    with pytest.raises(Retryable):
        put(store, "bad")
    assert tape_of(drive).records[: len(proved)] == proved
    with pytest.raises(Retryable):
        store.flush() or put(store, "worse")
    assert tape_of(drive).records[: len(proved)] == proved
    drive.opener = None
    assert contents(mount(drive)) == {"good": DATA}


def test_at_the_end_of_the_tape_all_that_was_counted_is_there() -> None:
    drive = FakeDrive()
    drive.load(Tape(capacity=40 * BLOCK * 10, early_warning=20 * BLOCK))
    with_handle(drive, lambda handle: write_label(handle, LABEL))
    store = mount(drive)
    wanted: dict[str, bytes] = {}
    with pytest.raises(NoSpace, match="HSM001L8"):
        for number in range(100):
            put(store, f"k{number}")
            wanted[f"k{number}"] = DATA
    store.flush()
    assert store.capacity().free == 0
    with pytest.raises(NoSpace):
        put(store, "more")
    assert contents(store) == wanted
    assert len(wanted) > 30
    store.close()
    again = mount(drive)
    assert contents(again) == wanted


def test_no_room_for_the_index_counts_nothing_since_the_last_one() -> None:
    drive = FakeDrive()
    drive.load(Tape(capacity=30 * BLOCK, early_warning=0))
    with_handle(drive, lambda handle: write_label(handle, LABEL))
    store = mount(drive)
    put(store, "flushed", DATA[:BLOCK])
    store.flush()
    put(store, "unproved", DATA[: 2 * BLOCK])
    tape_of(drive).capacity = tape_of(drive).used + 10
    with pytest.raises(NoSpace, match="index"):
        store.flush()
    store.close()
    assert contents(mount(drive)) == {"flushed": DATA[:BLOCK]}


def test_what_is_larger_than_the_room_is_refused_before_a_byte_is_written(drive: FakeDrive) -> None:
    store = mount(drive, Capacity(1 << 20, len(DATA) - 1))
    used = tape_of(drive).used
    with pytest.raises(NoSpace):
        put(store, "a")
    assert tape_of(drive).used == used


def test_an_index_that_cannot_be_read_makes_the_volume_read_only_and_nothing_is_appended(
    drive: FakeDrive,
) -> None:
    store = mount(drive)
    put(store, "old")
    store.flush()
    put(store, "new")
    store.flush()
    store.close()
    tape = tape_of(drive)
    last = max(at for at, record in enumerate(tape.records) if record and indexes.is_index(record))
    before = list(tape.records)
    tape.bad.add(last)
    store = mount(drive)
    assert contents(store) == {"old": DATA}
    health = store.health()
    assert not health.ok
    assert "may be the last index" in health.message
    for act in (lambda: put(store, "x"), lambda: store.delete("old")):
        with pytest.raises(Permanent, match="takes no writes"):
            act()
    store.flush()
    assert tape.records == before


def test_an_index_with_a_flipped_byte_makes_the_volume_read_only(drive: FakeDrive) -> None:
    store = mount(drive)
    put(store, "old")
    store.flush()
    store.close()
    tape = tape_of(drive)
    last = max(at for at, record in enumerate(tape.records) if record and indexes.is_index(record))
    record = bytearray(tape.records[last] or b"")
    record[-5] ^= 1
    tape.records[last] = bytes(record)
    store = mount(drive)
    assert contents(store) == {}
    assert "damaged" in store.health().message
    with pytest.raises(Permanent, match="takes no writes"):
        put(store, "x")


def test_a_bad_spot_in_a_package_names_the_package_and_spares_the_others(drive: FakeDrive) -> None:
    store = mount(drive)
    for key in "abc":
        put(store, key)
    store.flush()
    entry = next(entry for entry in store.entries() if entry.key == "b")
    tape_of(drive).bad.add(entry.block + 4)
    with pytest.raises(Retryable, match="get b from HSM001L8"):
        read(store, "b")
    assert read(store, "a") == read(store, "c") == DATA
    assert b"".join(store.get("b", 0, BLOCK)) == DATA[:BLOCK]
    store.close()
    assert set(mount(drive)._entries) == {"a", "b", "c"}


@pytest.mark.parametrize("record", [b"short", None, bytes(BLOCK + 1)])
def test_a_record_of_another_length_is_corrupt(drive: FakeDrive, record: bytes | None) -> None:
    store = mount(drive)
    put(store, "a")
    store.flush()
    tape_of(drive).records[store.entries()[0].block + 2] = record
    with pytest.raises(Corrupt, match="a"):
        read(store, "a")


def test_after_a_read_error_the_label_is_read_again_before_anything_is_written(drive: FakeDrive) -> None:
    store = mount(drive)
    for key in "abc":
        put(store, key)
    store.flush()
    other = Tape()
    second = FakeDrive()
    second.load(other)
    label = PlainLabel(VolumeLabel("HSM002L8", "another", "tape-a"), BLOCK)
    with_handle(second, lambda handle: write_label(handle, label))
    filled = PlainStore(second.open(write=True), "x", label, Recovered(FIRST_BLOCK, 1), BIG)
    for number in range(9):
        put(filled, f"k{number}")
    filled.flush()
    before = list(other.records)

    def swapped(name: str, _: int) -> OSError | None:
        drive.tape, drive.fault = other, None
        return OSError(errno.EIO, "Input/output error")  # unit attention: another cartridge is in the drive

    drive.fault = swapped
    with pytest.raises(Retryable):
        read(store, "a")
    with pytest.raises(Retryable, match="HSM002L8"):
        put(store, "d")
    with pytest.raises(Retryable, match="mount it again"):
        put(store, "e")
    assert other.records == before


def test_after_a_read_error_on_the_right_cartridge_writing_goes_on(drive: FakeDrive) -> None:
    store = mount(drive)
    put(store, "a")
    drive.fault = failing("read", errno.EIO)
    with pytest.raises(Retryable):
        read(store, "a")
    put(store, "b")
    store.flush()
    assert contents(store) == {"a": DATA, "b": DATA}


def test_a_volume_is_not_written_from_itself(drive: FakeDrive) -> None:
    store = mount(drive)
    put(store, "a")

    class Itself:
        def read(self, size: int, /) -> bytes:
            return next(store.get("a", 0, size))

    with pytest.raises(Permanent, match="this very volume"):
        store.put("b", Itself(), len(DATA), None)
    assert read(store, "a") == DATA
    put(store, "b")
    assert read(store, "b") == DATA


def test_a_put_whose_source_waits_for_its_own_volume_in_another_thread_ends_and_leaves_the_volume_whole(
    drive: FakeDrive,
) -> None:
    store = mount(drive)
    put(store, "a")
    store._patience = 0.05
    said: list[BaseException] = []

    class ThroughAThread:
        """As a pipe or a queue does it: the reading thread waits for one that reads the volume."""

        def read(self, size: int, /) -> bytes:
            got: list[bytes] = []

            def fetch() -> None:
                try:
                    got.append(next(store.get("a", 0, size)))
                except Retryable as error:
                    said.append(error)

            thread = threading.Thread(target=fetch)
            thread.start()
            thread.join()
            return got[0] if got else b""

    with pytest.raises(Corrupt, match="ended after 0"):
        store.put("b", ThroughAThread(), len(DATA), None)
    assert "does it wait for this volume" in str(said[0])
    put(store, "c")
    store.flush()
    assert contents(store) == {"a": DATA, "c": DATA}


def test_who_waits_for_a_put_that_goes_on_is_not_refused(drive: FakeDrive) -> None:
    store = mount(drive)
    put(store, "a")
    store._patience = 0.3
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read(store, "a")))

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if not reader.ident:
                reader.start()
            time.sleep(0.05)
            return super().read(min(size or 0, BLOCK))

    store.put("b", Slow(DATA), len(DATA), None)
    reader.join(10)
    assert got == [DATA]


def test_a_source_that_breaks_off_costs_dead_bytes_and_nothing_else(drive: FakeDrive) -> None:
    store = mount(drive)
    put(store, "a")

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 5 * BLOCK:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(min(size or 0, BLOCK))

    with pytest.raises(Retryable, match="read the source of b"):
        store.put("b", Broken(DATA), len(DATA), None)
    assert not store.failed
    put(store, "b")
    store.flush()
    assert contents(store) == {"a": DATA, "b": DATA}


def test_a_lost_end_of_data_is_found_by_reading_when_the_drive_cannot_space_to_it(drive: FakeDrive) -> None:
    store = mount(drive)
    put(store, "a")
    store.flush()
    put(store, "b")
    drive.power_cut(7)
    drive.fault = failing("eom", errno.EIO)
    store = mount(drive)
    assert contents(store) == {"a": DATA}
    put(store, "b")
    store.flush()
    assert contents(store) == {"a": DATA, "b": DATA}
    assert tape_files(tape_of(drive))[1] == DATA


def test_a_tape_that_breaks_off_in_the_middle_is_read_only(drive: FakeDrive) -> None:
    store = mount(drive)
    put(store, "a")
    store.flush()
    put(store, "b")
    store.flush()
    store.close()
    bad = store_block(drive, "b")
    drive.fault = lambda name, at: (
        OSError(errno.EIO, "Input/output error") if name == "eom" or (name == "fsf" and at >= bad) else None
    )
    store = mount(drive)
    assert "cannot be read behind" in store.health().message
    with pytest.raises(Permanent):
        put(store, "x")


def store_block(drive: FakeDrive, key: str) -> int:
    store = mount(drive)
    try:
        return store.stat(key).position or 0
    finally:
        store.close()


def test_many_sessions_are_mounted_with_a_handful_of_motions(drive: FakeDrive) -> None:
    store = mount(drive)
    for number in range(50):
        put(store, f"k{number}", DATA[:100])
        if number % 10 == 9:
            store.flush()
    store.close()
    drive.log.clear()
    store = mount(drive)
    assert len(list(store.list())) == 50
    assert len(drive.log) < 10


def test_labelling_is_read_back(drive: FakeDrive) -> None:
    other = FakeDrive()
    other.load(Tape())
    handle = Meddling(other.open(write=True), lambda n: n != 2)
    with pytest.raises(DriverError):
        write_label(handle, LABEL)  # type: ignore[arg-type]


def test_a_blank_tape_and_one_that_cannot_be_read_are_told_apart() -> None:
    drive = FakeDrive()
    drive.load(Tape())
    assert with_handle(drive, identify).content is Content.BLANK
    drive.load(Tape(records=[b"x" * 100, None], bad={0}))
    with pytest.raises(OSError, match="Input/output"):
        with_handle(drive, identify)
    drive.load(Tape(records=[None]))
    assert with_handle(drive, identify).content is Content.FOREIGN
    drive.load(Tape(records=[bytes(2 << 20), None]))
    assert "more than" in with_handle(drive, identify).words


def test_the_first_package_begins_where_the_label_says(drive: FakeDrive) -> None:
    store = mount(drive)
    put(store, "a")
    assert store.stat("a").position == FIRST_BLOCK
    handle = drive.opener
    assert handle is not None
    handle.op(Op.SEEK, FIRST_BLOCK)
    assert handle.read(BLOCK) == DATA[:BLOCK]
