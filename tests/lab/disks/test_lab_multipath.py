"""A raid pool on the kernel's device mapper with two paths, beside multipathd: lost, back, all lost."""

from __future__ import annotations

import io
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from multipath import FAIL, QUEUE, Array, wait_for

from drivers.base import Notice, Severity
from drivers.errors import DriverError, OperatorNeeded, Retryable
from drivers.folder import FolderStore
from drivers.raid.store import RaidStore

MIB = 1 << 20
SOON = 20.0


@pytest.fixture(scope="module")
def array() -> Iterator[Array]:
    if os.environ.get("LAB_SETUP") != "disks":
        pytest.skip("needs the laboratory's kernel: run `make lab`")
    yield Array(Path("/srv/array"))


@pytest.fixture
def told() -> queue.SimpleQueue[Notice]:
    return queue.SimpleQueue()


@pytest.fixture
def store(array: Array, told: queue.SimpleQueue[Notice]) -> Iterator[RaidStore]:
    made = RaidStore(array.point, array.uuid)
    made.watch(told.put)
    yield made
    made.close()
    array.rescan()
    array.running(*array.disks)
    wait_for(lambda: [*array.shown().values()] == ["ready", "ready"], "both paths are back")


def put(store: RaidStore, key: str, size: int = MIB) -> bytes:
    data = os.urandom(size)
    store.put(key, io.BytesIO(data), size, None)
    return data


def figure(store: RaidStore, name: str) -> float:
    return next(each.value for each in store.figures() if each.name == name)


def next_of(told: queue.SimpleQueue[Notice], words: str) -> Notice:
    """The next notice with these words; others, such as of error counters, go by."""
    deadline = time.monotonic() + SOON
    while True:
        notice = told.get(timeout=max(0.1, deadline - time.monotonic()))
        if words in notice.message:
            return notice


def agree(store: RaidStore, array: Array, up: int) -> Callable[[], bool]:
    """Whether the driver and multipathd count the same paths that are up."""
    return lambda: figure(store, "paths_up") == [*array.shown().values()].count("ready") == up


def test_the_driver_sees_the_map_and_its_paths_as_multipathd_does(store: RaidStore, array: Array) -> None:
    assert array.shown() == dict.fromkeys(array.disks, "ready")
    assert (figure(store, "paths"), figure(store, "paths_up")) == (2, 2)
    labels = {dict(each.labels)["path"] for each in store.figures() if each.name == "path_up"}
    assert labels == set(array.disks)
    assert any(dict(each.labels) == {"device": "mpatha"} for each in store.figures())
    assert store.health().ok and not store.health().message
    data = put(store, "both")
    assert b"".join(store.get("both")) == data


def test_a_path_that_is_lost_is_told_and_the_pool_goes_on_over_the_other(
    store: RaidStore, array: Array, told: queue.SimpleQueue[Notice]
) -> None:
    first, other = array.disks
    array.offline(first)
    lost = next_of(told, f"path {first} is lost")
    assert lost.severity is Severity.WARNING and "1 of 2 paths are up" in lost.message
    wait_for(agree(store, array, 1), "one path is up")
    assert array.shown() == {first: "faulty", other: "ready"}
    health = store.health()
    assert health.ok and health.message.startswith(f"1 of 2 paths are up ({first}: ")
    data = put(store, "one", 8 * MIB)
    store.drop_caches()
    assert b"".join(store.get("one")) == data
    array.running(first)
    back = next_of(told, f"path {first} is back")
    assert back.severity is Severity.INFO and "2 of 2" in back.message
    wait_for(agree(store, array, 2), "both are up")
    assert not store.health().message


def test_a_disk_that_is_taken_away_and_found_again_is_the_same_path(
    store: RaidStore, array: Array, told: queue.SimpleQueue[Notice]
) -> None:
    disk = array.disks[1]
    array.delete(disk)
    gone = next_of(told, f"path {disk} is lost")
    assert "1 of 2 paths are up" in gone.message and gone.severity is Severity.WARNING
    wait_for(lambda: figure(store, "paths") == 1, "one path is left")
    data = put(store, "deleted")
    array.rescan()
    wait_for(agree(store, array, 2), "it is found again")
    assert "2 of 2" in next_of(told, "is back").message
    assert b"".join(store.get("deleted")) == data


def test_with_no_path_the_pool_is_out_of_service_at_once_and_what_waits_ends_well_when_one_is_back(
    store: RaidStore, array: Array, told: queue.SimpleQueue[Notice], tmp_path: Path
) -> None:
    array.without_paths(QUEUE)
    array.offline(*array.disks)
    put_off: list[bytes] = []
    waiting = threading.Thread(target=lambda: put_off.append(put(store, "queued", 4 * MIB)))
    waiting.start()
    assert next_of(told, "0 of 2 paths are up").severity is Severity.ERROR
    wait_for(agree(store, array, 0), "no path is up")
    began = time.monotonic()
    health = store.health()
    assert not health.ok and health.message.startswith("0 of 2 paths are up")
    other = FolderStore(tmp_path)
    other.put("k", io.BytesIO(b"x"), 1, None)
    assert time.monotonic() - began < 5, "nobody waits for the disk to learn that it is away"
    assert waiting.is_alive() and not put_off
    array.running(array.disks[1])
    waiting.join(SOON)
    assert not waiting.is_alive()
    assert b"".join(store.get("queued")) == put_off[0]
    wait_for(lambda: store.health().ok, "in service again by itself")


def test_a_file_system_that_the_kernel_gave_up_is_out_of_service_until_an_admin_mends_it(
    store: RaidStore, array: Array
) -> None:
    data = put(store, "before")
    array.without_paths(FAIL)
    array.offline(*array.disks)
    wait_for(agree(store, array, 0), "no path is up")
    began = time.monotonic()
    with pytest.raises(DriverError) as refused:
        put(store, "lost", 4 * MIB)
    assert isinstance(refused.value, OperatorNeeded | Retryable), refused.value
    assert time.monotonic() - began < SOON
    assert not store.health().ok
    array.running(*array.disks)
    wait_for(agree(store, array, 2), "both are up")
    health = store.health()
    assert not health.ok, "the paths are back, and ext4 takes nothing any more"
    assert "fsck" in health.message, health.message
    with pytest.raises(OperatorNeeded, match="fsck"):
        put(store, "refused")
    assert b"".join(store.get("before")) == data
    array.repair()
    wait_for(lambda: store.health().ok, "in service again")
    assert b"".join(store.get("before")) == data
    put(store, "lost")
