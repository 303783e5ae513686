"""A RAID pool's file system mounted, pulled away, exchanged, read-only, full, broken, grown."""

from __future__ import annotations

import hashlib
import io
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.base import Notice, Severity
from drivers.errors import DriverError, NoSpace, OperatorNeeded, Retryable
from drivers.raid.store import RaidStore
from drivers.sentinel import write_sentinel
from tests.loopmount import LoopMount, run

POOL = "5f0c0a3e-0000-4000-8000-000000000001"
MIB = 1 << 20


@pytest.fixture(params=["ext4", "xfs"])
def mounted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LoopMount]:
    mount = LoopMount(tmp_path, request.param, 320)  # the smallest that mkfs.xfs makes is 300 MiB
    os.chmod(mount.point, 0o750)
    write_sentinel(mount.point, "online", POOL)
    yield mount
    mount.close()


def opened(mount: LoopMount) -> RaidStore:
    return RaidStore(mount.point, mount.uuid, expect_uuid=POOL)


def put(store: RaidStore, key: str, data: bytes) -> None:
    store.put(key, io.BytesIO(data), len(data), hashlib.sha256(data).digest())


def test_a_mountpoint_with_nothing_mounted_takes_nothing_and_says_what_is_expected(
    mounted: LoopMount,
) -> None:
    store = opened(mounted)
    put(store, "a/1", b"one")
    mounted.unmount()
    with pytest.raises(OperatorNeeded, match=f"expected {mounted.uuid}: mount it"):
        put(store, "a/2", b"two")
    with pytest.raises(OperatorNeeded):
        b"".join(store.get("a/1"))
    with pytest.raises(OperatorNeeded):
        opened(mounted)
    assert not store.health().ok
    assert list(mounted.point.iterdir()) == [], "nothing went to the root disk"
    mounted.mount()
    put(store, "a/2", b"two")
    assert store.health().ok
    assert b"".join(store.get("a/1")) == b"one"


def test_another_file_system_at_the_same_point_is_refused_even_with_our_sentinel(
    mounted: LoopMount, tmp_path: Path
) -> None:
    store = opened(mounted)
    mounted.unmount()
    folder = tmp_path / "other"
    folder.mkdir()
    other = LoopMount(folder, "ext4", 64)
    try:
        write_sentinel(other.point, "online", POOL)
        run("mount", "--bind", str(other.point), str(mounted.point))
        with pytest.raises(OperatorNeeded, match=f"is on file system {other.uuid}"):
            put(store, "a/1", b"one")
        run("umount", str(mounted.point))
    finally:
        other.close()


def test_unmounting_under_load_loses_nothing_that_was_acknowledged(mounted: LoopMount) -> None:
    store = opened(mounted)
    acknowledged: list[str] = []
    refused: list[DriverError] = []
    ready = threading.Event()

    def load(worker: int) -> None:
        for number in range(500):
            key = f"{worker}/{number}"
            try:
                put(store, key, key.encode() * 1000)
            except DriverError as error:
                refused.append(error)
                return
            acknowledged.append(key)
            if len(acknowledged) > 20:
                ready.set()

    threads = [threading.Thread(target=load, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    assert ready.wait(30)
    mounted.unmount()
    for thread in threads:
        thread.join(60)
    assert len(refused) == 3 and all(isinstance(error, OperatorNeeded) for error in refused)
    assert list(mounted.point.iterdir()) == []
    mounted.mount()
    again = opened(mounted)
    assert {stat.key for stat in again.list()} >= set(acknowledged)
    for key in acknowledged:
        assert b"".join(again.get(key)) == key.encode() * 1000
    assert list((mounted.point / ".incoming").iterdir()) == []


def test_a_read_only_remount_refuses_writes_serves_reads_and_is_told(mounted: LoopMount) -> None:
    store = opened(mounted)
    put(store, "a/1", b"one")
    mounted.remount("ro")
    with pytest.raises(OperatorNeeded, match="Read-only"):
        put(store, "a/2", b"two")
    assert b"".join(store.get("a/1")) == b"one"
    assert [stat.key for stat in store.list()] == ["a/1"]
    health = store.health()
    assert not health.ok and "read-only" in health.message
    mounted.remount("rw")
    assert store.health().ok
    put(store, "a/2", b"two")


def test_a_full_file_system_takes_all_of_an_object_or_nothing(mounted: LoopMount) -> None:
    store = RaidStore(mounted.point, mounted.uuid, reserve_bytes=16 * MIB, expect_uuid=POOL)
    data = os.urandom(16 * MIB)
    number = 0
    with pytest.raises(NoSpace):
        while True:
            put(store, f"full/{number}", data)
            number += 1
    assert number > 10
    assert len(list(store.list())) == number
    assert store.capacity().free < len(data)
    system = os.statvfs(mounted.point)
    assert system.f_bavail * system.f_frsize >= 16 * MIB, "the reserve stays free"
    store.delete("full/0")
    put(store, "full/0", data)


def test_a_file_that_is_being_written_has_its_room_already(mounted: LoopMount) -> None:
    store = opened(mounted)
    free = store.capacity().free
    seen: list[int] = []

    class Source(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            seen.append(store.capacity().free)
            return super().read(size)

    data = bytes(8 * MIB)
    store.put("big", Source(data), len(data), None)
    assert free - seen[0] >= len(data), "before the first byte"


def test_an_unreadable_device_is_retryable_and_not_an_absent_object(mounted: LoopMount) -> None:
    store = opened(mounted)
    put(store, "a/1", os.urandom(4 * MIB))
    run("sync", "--file-system", str(mounted.point))
    whole = mounted.image.stat().st_size
    store.drop_caches()
    os.truncate(mounted.image, 4096)
    try:
        with pytest.raises(Retryable, match="kernel log"):
            b"".join(store.get("a/1"))
    finally:
        os.truncate(mounted.image, whole)


def test_the_kernel_tells_of_a_device_that_grew_without_being_asked(mounted: LoopMount) -> None:
    store = opened(mounted)
    told: queue.SimpleQueue[Notice] = queue.SimpleQueue()
    store.watch(told.put)
    try:
        size = next(figure.value for figure in store.figures() if figure.name == "device_size_bytes")
        mounted.grow(400)
        notice = told.get(timeout=15)  # far less than the time between two looks
    finally:
        store.close()
    assert notice.severity is Severity.INFO
    assert f"has {400 * MIB} bytes now, it had {int(size)}" in notice.message
    assert not [thread for thread in threading.enumerate() if thread.name == "raid-watch"]


def test_a_watched_pool_tells_of_its_unmounting_and_its_return(mounted: LoopMount) -> None:
    told: queue.SimpleQueue[Notice] = queue.SimpleQueue()
    store = RaidStore(mounted.point, mounted.uuid, expect_uuid=POOL, poll=0.05)
    store.watch(told.put)
    try:
        mounted.unmount()
        gone = told.get(timeout=15)
        assert gone.severity is Severity.ERROR and mounted.uuid in gone.message
        mounted.mount()
        back = told.get(timeout=15)
        assert back.severity is Severity.INFO and f"{mounted.uuid} is mounted" in back.message
    finally:
        store.close()
