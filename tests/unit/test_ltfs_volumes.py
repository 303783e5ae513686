"""LTFS volumes through the emulation and, where there is one, a real LTFS: every known trap, noticed."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "ltfs_emulator"))
from ltfs_hall import KINDS, LtfsIo, library_options

from drivers.base import Store, VolumeLabel
from drivers.errors import Corrupt, DriverError, NoSpace, OperatorNeeded, Permanent, Retryable, WrongVolume
from drivers.tape.configure import open_mtx
from drivers.tape.library import TapeLibrary
from drivers.tape.ltfs import bay, mounting
from drivers.tape.ltfs.volume import LABEL_NAME

ONE, TWO = VolumeLabel("HSM001L8", "uuid-1", "tape-a"), VolumeLabel("HSM002L8", "uuid-2", "tape-a")
DRIVE, OTHER = 60_000, 60_001
DATA = bytes(range(256)) * 6000


class World:
    """A library, and what is behind it."""

    def __init__(self, io: LtfsIo, kind: str) -> None:
        self.io, self.kind = io, kind
        self.library = self.open()

    def open(self, **options: Any) -> TapeLibrary:
        self.library = open_mtx(library_options(self.io, self.kind, **options), self.io)
        return self.library

    def mounted(self, label: VolumeLabel = ONE, drive: int = DRIVE) -> Store:
        self.library.label(label, drive)
        return self.library.mount(label, drive)

    def mountpoint(self, drive: int = DRIVE) -> Path:
        return self.io.mountpoints / f"drive-{drive}"

    def medium(self, barcode: str) -> dict[str, bytes]:
        """Everything that is on the cartridge."""
        folder = self.io.cartridge(barcode)
        return {
            file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith("attr_")
        }

    def damage_index(self, barcode: str, partition: int) -> None:
        """Break the last index of a partition: 0 the index partition, 1 the data partition."""
        folder = self.io.cartridge(barcode)
        blocks = [file for file in folder.glob(f"{partition}_*_?") if b"<ltfsindex" in file.read_bytes()]
        if self.kind == "emulated":
            blocks = list(folder.glob(f"{partition}_*_I"))
        last = max(blocks, key=lambda file: int(file.name.split("_")[1]))
        data = bytearray(last.read_bytes())
        data[data.index(b"generation")] ^= 0x80
        last.chmod(0o600)
        last.write_bytes(data)

    def flip(self, barcode: str, block: str, piece: bytes) -> None:
        """One bit of the first of these bytes of a block."""
        file = self.io.cartridge(barcode) / block
        data = bytearray(file.read_bytes())
        data[data.index(piece)] ^= 1
        file.chmod(0o600)
        file.write_bytes(data)

    def trap(self, barcode: str = "HSM001L8", **traps: Any) -> None:
        self.io.traps(barcode, **traps)


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    machine = LtfsIo(tmp_path, ("HSM001L8", "HSM002L8", "HSM003L8"))
    yield World(machine, request.param)
    machine.close()


@pytest.fixture(params=KINDS[:1])
def trapped(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """The emulation, whose traps can be set."""
    machine = LtfsIo(tmp_path, ("HSM001L8", "HSM002L8", "HSM003L8"))
    yield World(machine, request.param)
    machine.close()


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The checks that are made, by their flag."""
    made: list[str] = []
    run = bay.run

    def watched(argv: Any, seconds: float, what: str) -> tuple[int, str]:
        if what.endswith("ltfsck"):
            made.append(next((word for word in argv if word in ("-f", "-z")), "plain"))
        return run(argv, seconds, what)

    monkeypatch.setattr(bay, "run", watched)
    return made


def keys(store: Store) -> list[str]:
    return sorted(stat.key for stat in store.list())


def put(store: Store, key: str = "k", data: bytes = DATA) -> None:
    store.put(key, io.BytesIO(data), len(data), hashlib.sha256(data).digest())


def read(store: Store, key: str = "k") -> bytes:
    return b"".join(store.get(key))


def test_the_whole_road_of_an_ltfs_volume(world: World) -> None:
    store = world.mounted()
    put(store, "1.2.3/a.tar")
    store.flush()
    store.drop_caches()
    assert read(store, "1.2.3/a.tar") == DATA
    world.library.unmount(DRIVE)
    assert world.library.read_label("HSM001L8", OTHER) == ONE
    assert read(world.library.mount(ONE, OTHER), "1.2.3/a.tar") == DATA
    world.library.unmount(OTHER)


def test_a_package_has_its_digest_where_the_format_keeps_it_and_the_index_says_how_many(world: World) -> None:
    store = world.mounted()
    put(store)
    store.flush()
    file = world.mountpoint() / "packages" / "k"
    assert os.getxattr(file, "user.ltfs.hash.sha256sum").decode() == hashlib.sha256(DATA).hexdigest()
    assert os.getxattr(world.mountpoint(), "user.ltfs.commitMessage") == b"hsm: 1 packages"
    world.library.unmount(DRIVE)
    store = world.library.mount(ONE, DRIVE)
    (entry,) = store.entries()  # type: ignore[attr-defined]
    assert (entry.key, entry.size, entry.sha256) == ("k", len(DATA), hashlib.sha256(DATA).hexdigest())


class FromHere:
    """A source that reads the volume onto which it is put, and may write to it on the way."""

    def __init__(self, store: Store, *, writes: bool) -> None:
        self._store, self._writes, self._pieces = store, writes, store.get("k")

    def read(self, size: int, /) -> bytes:
        if self._writes:
            put(self._store, "nested")
        return next(self._pieces, b"")


def test_a_package_may_be_copied_from_the_volume_onto_itself_but_its_source_may_not_write_there(
    world: World,
) -> None:
    store = world.mounted()
    put(store, "k", DATA[: 1 << 20])
    store.put("copy", FromHere(store, writes=False), 1 << 20, None)
    assert read(store, "copy") == DATA[: 1 << 20]
    with pytest.raises(Permanent, match="written from this very volume"):
        store.put("other", FromHere(store, writes=True), 1 << 20, None)
    assert keys(store) == ["copy", "k"]


# What FUSE and the mountpoint do.


def test_an_ltfs_that_mounts_nothing_and_exits_with_0_is_a_failed_mount(trapped: World) -> None:
    trapped.mounted()
    trapped.library.unmount(DRIVE)
    trapped.trap(fuse_fails=True)
    with pytest.raises(Retryable, match="FUSE failed"):
        trapped.library.mount(ONE, DRIVE)
    trapped.trap()
    put(trapped.library.mount(ONE, DRIVE))


def test_a_mountpoint_with_files_in_it_is_refused_and_they_stay(world: World) -> None:
    world.library.label(ONE, DRIVE)
    (world.mountpoint() / "somebody's").write_bytes(b"x")
    with pytest.raises(Permanent, match="not empty"):
        world.library.mount(ONE, DRIVE)
    assert [file.name for file in world.mountpoint().iterdir()] == ["somebody's"]


def test_nothing_is_ever_written_to_the_local_disk_below_a_lost_mount(world: World) -> None:
    store = world.mounted()
    put(store, "flushed")
    store.flush()
    put(store, "not-flushed")
    world.io.kill_ltfs()
    for call in (store.flush, lambda: put(store, "late"), store.flush):
        with pytest.raises(Retryable):
            call()
    assert not store.health().ok
    assert list(world.mountpoint().iterdir()) == []
    store = world.library.mount(ONE, DRIVE)
    assert keys(store) == ["flushed"]
    assert read(store, "flushed") == DATA


def test_an_ltfs_that_never_mounts_is_ended_in_time(trapped: World) -> None:
    trapped.library.label(ONE, DRIVE)
    trapped.trap(never_mounts=True)
    options = library_options(trapped.io, trapped.kind)
    options["ltfs"]["mount_seconds"] = 0.3
    library = open_mtx(options, trapped.io)
    with pytest.raises(Retryable, match=r"did not mount it in 0\.3 s"):
        library.mount(ONE, DRIVE)


@pytest.mark.parametrize("step", ["label", "mount"])
def test_a_command_that_writes_without_end_is_ended_and_its_output_is_bounded(
    trapped: World, step: str
) -> None:
    if step == "mount":
        trapped.library.label(ONE, DRIVE)
    trapped.trap(flood=True)
    with pytest.raises(Retryable, match="without end"):
        getattr(trapped.library, step)(ONE, DRIVE)


# When the index is written, and how that is known.


def test_a_sync_that_returns_and_writes_nothing_is_noticed_by_the_generation(trapped: World) -> None:
    trapped.library.label(ONE, DRIVE)
    trapped.trap(sync_ignored=True)
    store = trapped.library.mount(ONE, DRIVE)
    put(store)
    with pytest.raises(Retryable, match="generation"):
        store.flush()
    assert not store.health().ok
    with pytest.raises(Retryable, match="mount it again"):
        put(store, "more")


def test_unmounting_waits_until_the_index_is_on_the_medium(trapped: World) -> None:
    trapped.library.label(ONE, DRIVE)
    trapped.trap(slow_unmount_seconds=0.4)
    store = trapped.library.mount(ONE, DRIVE)
    put(store)
    began = time.monotonic()
    trapped.library.unmount(DRIVE)
    assert time.monotonic() - began >= 0.4
    assert trapped.io.slots[1] == "HSM001L8"
    trapped.trap()
    assert keys(trapped.library.mount(ONE, DRIVE)) == ["k"]


def test_an_unmount_without_an_index_is_told_once_and_what_was_flushed_is_there(trapped: World) -> None:
    trapped.library.label(ONE, DRIVE)
    trapped.trap(no_index_at_unmount=True)
    store = trapped.library.mount(ONE, DRIVE)
    put(store)
    with pytest.raises(Retryable, match="11033E"):
        trapped.library.unmount(DRIVE)
    trapped.library.unmount(DRIVE)
    assert trapped.io.slots[1] == "HSM001L8"
    trapped.trap()
    assert read(trapped.library.mount(ONE, DRIVE)) == DATA


def test_what_a_dead_daemon_left_mounted_is_unmounted_before_the_drive_is_touched(world: World) -> None:
    store = world.mounted()
    put(store)
    store.flush()
    store._mount._let_go()  # type: ignore[attr-defined]  # as the kernel does for a process that ends
    library = world.open()
    assert read(library.mount(ONE, DRIVE)) == DATA  # the machine fails the test if the drive is opened before


def test_a_drive_is_not_asked_for_anything_while_a_volume_is_mounted(world: World) -> None:
    world.mounted()
    with pytest.raises(Retryable, match="unmount it first"):
        world.library.report(DRIVE)
    with pytest.raises(Retryable, match="unmount it first"):
        world.library._bays()[0].drive.status()


# What a cartridge is.


def test_a_tape_with_a_backup_on_it_is_not_formatted(world: World) -> None:
    tape = world.io.tapes["HSM001L8"]
    tape.records = [b"x" * 257 + b"ustar" + bytes(300), None]
    before = (list(tape.records), world.medium("HSM001L8"))
    for call in (world.library.label, world.library.mount):
        with pytest.raises(WrongVolume, match="tar archive"):
            call(ONE, DRIVE)
    with pytest.raises(WrongVolume, match="tar archive"):
        world.library.read_label("HSM001L8", DRIVE)
    with pytest.raises(Permanent, match="type its barcode"):
        world.library.overwrite(ONE, DRIVE, "HSM001")
    assert (list(tape.records), world.medium("HSM001L8")) == before
    assert "tar archive" in world.library.overwrite(ONE, DRIVE, "HSM001L8")
    assert world.library.read_label("HSM001L8", DRIVE) == ONE


def test_somebody_elses_ltfs_volume_is_left_alone(world: World) -> None:
    world.library.label(ONE, DRIVE)
    store = world.library.mount(ONE, DRIVE)
    os.unlink(world.mountpoint() / LABEL_NAME)
    put(store)
    world.library.unmount(DRIVE)
    before = world.medium("HSM001L8")
    for call in (world.library.label, world.library.mount):
        with pytest.raises(WrongVolume, match=r"LTFS volume \(HSM001\) that is not of this archive"):
            call(ONE, DRIVE)
    assert world.medium("HSM001L8") == before
    assert "not of this archive" in world.library.overwrite(ONE, DRIVE, "HSM001L8")
    assert keys(world.library.mount(ONE, DRIVE)) == []


def test_an_unclean_ltfs_volume_is_not_checked_only_to_learn_whose_it_is(
    world: World, checks: list[str]
) -> None:
    put(world.mounted())
    world.io.kill_ltfs()
    library, before = world.open(), world.medium("HSM001L8")
    for call in (lambda: library.read_label("HSM001L8", DRIVE), lambda: library.label(ONE, DRIVE)):
        with pytest.raises(WrongVolume, match="not unmounted cleanly"):
            call()
    assert (world.medium("HSM001L8"), checks) == (before, [])
    library.mount(ONE, DRIVE)
    assert checks == ["plain"]


INDEX_LABEL, DATA_LABEL = r"of the index partition \(0\) is", r"of the data partition \(1\) is"


@pytest.mark.parametrize(
    ("block", "piece", "damaged", "whole"),
    [
        ("0_0_R", b"LTFS", INDEX_LABEL, DATA_LABEL),
        ("1_2_R", b"volumeuuid>", DATA_LABEL, INDEX_LABEL),
    ],
)
def test_a_bit_that_flips_in_a_partitions_label_is_named_and_nothing_is_done_to_the_volume(
    world: World, checks: list[str], block: str, piece: bytes, damaged: str, whole: str
) -> None:
    world.library.label(ONE, DRIVE)
    world.library.unmount(DRIVE)
    world.flip("HSM001L8", block, piece)
    before = world.medium("HSM001L8")
    words = (
        f"HSM001L8 .*{damaged} damaged .*{whole} whole: serial number HSM001.*Never format.*hsm volume lost"
    )
    with pytest.raises(Corrupt, match=words):
        world.library.mount(ONE, DRIVE)
    with pytest.raises(WrongVolume, match=words):
        world.library.read_label("HSM001L8", DRIVE)
    with pytest.raises(WrongVolume, match=f"not blank.*{damaged} damaged"):
        world.library.label(ONE, DRIVE)
    assert (world.medium("HSM001L8"), checks) == (before, [])


@pytest.mark.campaign
def test_a_volume_whose_label_is_damaged_is_formatted_when_its_barcode_is_typed(world: World) -> None:
    world.library.label(ONE, DRIVE)
    world.library.unmount(DRIVE)
    world.flip("HSM001L8", "1_2_R", b"<volumeuuid")
    new = VolumeLabel("HSM001L8", "uuid-7", "tape-a")
    assert "data partition (1) is damaged" in world.library.overwrite(new, DRIVE, "HSM001L8")
    put(world.library.mount(new, DRIVE))
    assert read(world.library.mount(new, DRIVE)) == DATA


@pytest.mark.campaign
def test_an_index_that_is_damaged_in_one_partition_is_put_back_from_the_other(
    world: World, checks: list[str]
) -> None:
    put(world.mounted())
    world.library.unmount(DRIVE)
    world.damage_index("HSM001L8", 0)
    with pytest.raises(WrongVolume, match="or whose index is damaged"):
        world.library.read_label("HSM001L8", DRIVE)
    assert checks == [], "whose it is is not worth a check, which writes"
    store = world.library.mount(ONE, DRIVE)
    assert (read(store), checks) == (DATA, ["plain"])
    world.library.unmount(DRIVE)
    world.damage_index("HSM001L8", 1)
    assert read(world.library.mount(ONE, DRIVE)) == DATA
    assert checks == ["plain"], "the index partition's is enough"


@pytest.mark.campaign
def test_an_index_that_is_damaged_in_both_partitions_gives_way_to_the_generation_before(world: World) -> None:
    store = world.mounted()
    put(store, "first")
    store.flush()
    put(store, "second")
    store.flush()
    world.library.unmount(DRIVE)
    for partition in (0, 1):
        world.damage_index("HSM001L8", partition)
    store = world.library.mount(ONE, DRIVE)
    assert keys(store) == ["first"], "what is not there is missing, and not wrong"
    assert read(store, "first") == DATA
    put(store, "second")
    store.flush()
    world.library.unmount(DRIVE)
    store = world.library.mount(ONE, OTHER)
    assert [read(store, key) for key in keys(store)] == [DATA, DATA]


def test_a_cartridge_under_a_wrong_barcode_is_refused_before_anything_is_written(world: World) -> None:
    for label in (ONE, TWO):
        world.library.label(label, DRIVE)
    world.library.unmount(DRIVE)
    one, two = world.io.cartridge("HSM001L8"), world.io.cartridge("HSM002L8")
    one.rename(one.with_name("aside"))
    two.rename(one)
    one.with_name("aside").rename(two)
    before = world.medium("HSM001L8")
    with pytest.raises(WrongVolume, match="HSM002"):
        world.library.mount(ONE, DRIVE)
    assert world.medium("HSM001L8") == before


def test_a_cartridge_whose_chip_says_another_barcode_is_refused(trapped: World) -> None:
    trapped.library.label(ONE, DRIVE)
    trapped.trap(mam_barcode="HSM009L8")
    with pytest.raises(WrongVolume, match="HSM009"):
        trapped.library.mount(ONE, DRIVE)


def test_a_label_that_was_copied_with_other_files_is_not_believed(world: World) -> None:
    world.mounted()
    label = (world.mountpoint() / LABEL_NAME).read_bytes()
    world.library.unmount(DRIVE)
    world.library.overwrite(VolumeLabel("HSM001L8", "uuid-9", "tape-a"), DRIVE, "HSM001L8")
    world.library.mount(VolumeLabel("HSM001L8", "uuid-9", "tape-a"), DRIVE)
    os.unlink(world.mountpoint() / LABEL_NAME)
    (world.mountpoint() / LABEL_NAME).write_bytes(label)
    world.library.unmount(DRIVE)
    with pytest.raises(WrongVolume, match="copy of the label"):
        world.library.mount(ONE, DRIVE)


def test_a_plain_volume_and_an_ltfs_volume_are_each_what_they_are(world: World) -> None:
    library = world.open(pool_formats={"plain-pool": "plain"})
    plain = VolumeLabel("HSM002L8", "uuid-2", "plain-pool")
    library.label(ONE, DRIVE)
    library.label(plain, DRIVE)
    library.unmount(DRIVE)
    assert (world.io.cartridge("HSM001L8") / "0_0_R").exists()
    assert not (world.io.cartridge("HSM002L8") / "0_0_R").exists()
    for label in (ONE, plain):
        put(library.mount(label, DRIVE))
    # Whatever the configuration says by now, a cartridge is what it is.
    library.unmount(DRIVE)
    library = world.open(format="plain", pool_formats={"plain-pool": "ltfs"})
    for label in (ONE, plain):
        assert read(library.mount(label, DRIVE)) == DATA
    library.unmount(DRIVE)
    with pytest.raises(WrongVolume, match=r"LTFS volume uuid-1 \(HSM001L8\) of pool 'tape-a'"):
        library.label(VolumeLabel("HSM001L8", "uuid-7", "plain-pool"), DRIVE)
    with pytest.raises(WrongVolume, match=r"volume uuid-2 \(HSM002L8\) of pool 'plain-pool'"):
        library.label(VolumeLabel("HSM002L8", "uuid-8", "tape-a"), DRIVE)
    with pytest.raises(WrongVolume, match="expected uuid-8"):
        library.mount(VolumeLabel("HSM002L8", "uuid-8", "tape-a"), DRIVE)


def test_an_ltfs_tape_in_a_library_without_ltfs_is_named_and_left_alone(world: World) -> None:
    world.library.label(ONE, DRIVE)
    world.library.unmount(DRIVE)
    before = world.medium("HSM001L8")
    library = open_mtx({"changer": "CHANGER1"}, world.io)
    for call in (library.label, library.mount):
        with pytest.raises(WrongVolume, match=r"an LTFS volume \(HSM001\)"):
            call(ONE, DRIVE)
    with pytest.raises(Permanent, match="two partitions"):
        library.overwrite(ONE, DRIVE, "HSM001L8")
    assert world.medium("HSM001L8") == before


def test_an_ltfs_tape_is_made_a_plain_one_when_its_barcode_is_typed(world: World) -> None:
    world.library.label(ONE, DRIVE)
    world.library.unmount(DRIVE)
    library = world.open(format="plain")
    plain = VolumeLabel("HSM001L8", "uuid-5", "tape-b")
    assert "LTFS volume uuid-1" in library.overwrite(plain, DRIVE, "HSM001L8")
    put(library.mount(plain, DRIVE))
    library.unmount(DRIVE)
    assert not (world.io.cartridge("HSM001L8") / "0_0_R").exists()
    assert read(library.mount(plain, DRIVE)) == DATA


def test_a_barcode_that_ltfs_cannot_take_is_refused_before_anything_is_written(world: World) -> None:
    world.io.add("lo-1")
    world.io.slots[5] = "lo-1"
    with pytest.raises(Permanent, match="six characters"):
        world.library.label(VolumeLabel("lo-1", "uuid", "tape-a"), DRIVE)
    assert world.medium("lo-1") == {}


def test_a_write_protected_cartridge_is_not_labelled_and_says_why(trapped: World) -> None:
    trapped.trap(protected=True)
    with pytest.raises(Permanent, match="write-protect tab"):
        trapped.library.label(ONE, DRIVE)


@pytest.mark.campaign
def test_what_ltfs_does_not_know_again_in_a_cartridges_memory_costs_no_volume_after_a_power_cut(
    world: World, checks: list[str]
) -> None:
    store = world.mounted()
    put(store)
    store.flush()
    world.io.cut_power(world.kind, "HSM001L8", random.Random(1))
    for partition in (0, 1):
        file = world.io.coherency("HSM001L8", partition)
        file.write_bytes(file.read_bytes()[:36] + b" " + file.read_bytes()[37:])
    assert read(world.open().mount(ONE, DRIVE)) == DATA
    assert checks == ["-z", "-z"]
    assert world.io.coherency("HSM001L8", 0).read_bytes()[36] == 0


# The end of the tape, errors, and what comes after them.


def small(world: World, mib: int) -> None:
    """Make the first cartridge one of ``mib`` MiB."""
    if world.kind == "emulated":
        world.trap(capacity_bytes=mib << 20)
    else:
        conf = "<?xml version='1.0' encoding='UTF-8'?><filedebug_cartridge_config><capacity_mb>"
        text = f"{conf}{mib}</capacity_mb></filedebug_cartridge_config>"
        (world.io.cartridge("HSM001L8") / "filedebug_tc_conf.xml").write_text(text)


def test_five_per_cent_stay_free_for_the_index(world: World) -> None:
    small(world, 300)
    capacity = world.mounted().capacity()
    assert capacity.total > 0
    assert capacity.free <= capacity.total - capacity.total // 20


def test_what_the_end_of_the_tape_swallows_is_noticed_and_nothing_else_is_lost(world: World) -> None:
    """At the end of the tape a write comes back short, and fsync and close succeed all the same."""
    small(world, 300 if world.kind == "real" else 8)
    store = world.mounted()
    room = store.capacity().free
    store._free = 1 << 40  # type: ignore[attr-defined]  # believes that there is room, as with a lying drive
    whole: dict[str, bytes] = {}
    with pytest.raises(NoSpace, match=r"tape ended|end of the tape"):
        for number in range(200):
            data = random.Random(number).randbytes(3 << 20)
            put(store, f"p/{number}", data)
            whole[f"p/{number}"] = data
    assert room < 1 << 40
    assert store.capacity().free == 0
    assert keys(store) == sorted(whole)
    for _ in range(2):  # a full volume may refuse its last index; then nothing of this session counts
        try:
            world.library.unmount(DRIVE)
        except DriverError:
            continue
        break
    store = world.library.mount(ONE, DRIVE)
    assert set(keys(store)) <= set(whole)
    assert all(read(store, key) == whole[key] for key in keys(store))


def test_a_write_error_locks_the_volume_which_is_suspect_and_still_readable(trapped: World) -> None:
    trapped.library.label(ONE, DRIVE)
    trapped.trap(write_error_after_bytes=len(DATA) + 100)
    store = trapped.library.mount(ONE, DRIVE)
    put(store, "good")
    store.flush()
    with pytest.raises(Retryable):
        put(store, "bad")
    assert not store.health().ok
    assert "locked" in store.health().message
    with pytest.raises(Permanent, match="takes no writes"):
        put(store, "more")
    assert keys(store) == ["good"]
    assert read(store, "good") == DATA


def test_a_byte_that_flips_on_the_medium_is_read_and_only_the_digest_tells(world: World) -> None:
    """Why reading back is worth something: it reads the medium, and not a cache of it."""
    store = world.mounted()
    data = random.Random(3).randbytes(1 << 20)
    put(store, "k", data)
    store.flush()
    assert read(store) == data
    block = max(world.io.cartridge("HSM001L8").glob("1_*_R"), key=lambda file: file.stat().st_size)
    block.chmod(0o600)
    with block.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    store.drop_caches()
    found = read(store)
    assert len(found) == len(data)
    assert hashlib.sha256(found).digest() != hashlib.sha256(data).digest()


def test_a_clean_volume_is_not_checked_and_an_unclean_one_no_more_than_needed(
    world: World, checks: list[str]
) -> None:
    put(world.mounted(), "flushed")
    world.library.unmount(DRIVE)
    store = world.library.mount(ONE, DRIVE)
    assert checks == []
    put(store, "late")
    world.io.kill_ltfs()
    store = world.open().mount(ONE, DRIVE)
    assert checks == ["plain"]
    assert keys(store) == ["flushed"]


def test_a_lost_end_of_data_is_found_by_the_deep_check(trapped: World, checks: list[str]) -> None:
    put(trapped.mounted())
    trapped.library.unmount(DRIVE)
    trapped.trap(end_lost=True)
    assert read(trapped.library.mount(ONE, DRIVE)) == DATA
    assert checks == ["-z"]


def test_a_volume_that_no_check_mends_is_corrupt_and_left_as_it_is(trapped: World, checks: list[str]) -> None:
    put(trapped.mounted())
    trapped.library.unmount(DRIVE)
    trapped.trap(beyond_repair=True)
    before = trapped.medium("HSM001L8")
    with pytest.raises(Corrupt, match="cannot be restored"):
        trapped.library.mount(ONE, DRIVE)
    assert checks == ["plain", "-f", "-z"]
    assert trapped.medium("HSM001L8") == before


def test_what_is_found_behind_the_index_is_never_counted(world: World) -> None:
    store = world.mounted()
    put(store, "flushed")
    store.flush()
    put(store, "late")
    world.io.kill_ltfs()
    options = library_options(world.io, world.kind)
    options["ltfs"]["check"] = options["ltfs"]["full_check"]
    store = open_mtx(options, world.io).mount(ONE, DRIVE)
    assert list((world.mountpoint() / "_ltfs_lostandfound").iterdir()) != []
    assert keys(store) == ["flushed"]


def test_an_unfinished_put_and_what_others_lay_there_are_not_counted(world: World) -> None:
    store = world.mounted()
    put(store)
    store.flush()
    packages = world.mountpoint() / "packages"
    (packages / "by-hand.tar").write_bytes(b"not ours")
    shutil.copyfile(packages / "k", packages / "copy")
    (world.mountpoint() / ".incoming" / "half").write_bytes(b"half")
    world.library.unmount(DRIVE)
    assert keys(world.library.mount(ONE, DRIVE)) == ["k"]


def test_an_empty_drive_is_an_operators_matter(world: World) -> None:
    drive = world.library._bays()[0]
    with pytest.raises(OperatorNeeded):
        drive.mount(ONE)
    assert not mounting.is_mounted(world.mountpoint())
