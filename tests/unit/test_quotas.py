"""What quotas leave of a file system: a pure decision, the kernel's structure, and kernels that have none."""

from __future__ import annotations

import errno
import io
import os
import struct
from pathlib import Path

import pytest

from drivers import folder
from drivers.errors import NoSpace
from drivers.folder import FolderStore
from drivers.oserrors import translate
from drivers.quotas import Quota, Room, parse, quotas_at, room, room_at

GIB = 1 << 30


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ((), Room(100, 40)),
        ((Quota("user 998", 0, 7),), Room(100, 40)),
        ((Quota("user 998", 50, 20),), Room(50, 30, "user 998")),
        ((Quota("user 998", 90, 20),), Room(90, 40)),
        ((Quota("user 998", 500, 20),), Room(100, 40)),
        ((Quota("user 998", 50, 60),), Room(50, 0, "user 998")),
        ((Quota("user 998", 60, 50), Quota("group 9", 70, 65)), Room(60, 5, "group 9")),
        ((Quota("group 9", 70, 65), Quota("user 998", 60, 50)), Room(60, 5, "group 9")),
        ((Quota("project 4", 0, 9, files_limit=5, files_used=5),), Room(100, 0, "project 4")),
        ((Quota("project 4", 0, 9, files_limit=6, files_used=5),), Room(100, 40)),
    ],
)
def test_the_room_is_the_least_of_what_the_file_system_and_each_quota_leave(
    quotas: tuple[Quota, ...], expected: Room
) -> None:
    assert room(100, 40, quotas) == expected


def test_a_soft_limit_counts_because_what_an_archive_writes_stays() -> None:
    def answer(hard: int, soft: int) -> bytes:
        return struct.pack("=8QI4x", hard, soft, 3 * GIB, 100, 0, 12, 0, 0, 0x3F)

    assert parse("user 998", answer(10 << 20, 8 << 20)) == Quota("user 998", 8 * GIB, 3 * GIB, 100, 12)
    assert parse("user 998", answer(10 << 20, 0)).left == 7 * GIB
    assert parse("user 998", answer(0, 0)).left is None


def test_nonsense_is_not_a_quota() -> None:
    with pytest.raises(ValueError, match="user 998"):
        Quota("user 998", -1, 0)


def test_where_the_kernel_tells_no_quota_the_file_system_decides(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        system = os.fstatvfs(descriptor)
        if quotas_at(descriptor):
            pytest.skip(f"{tmp_path} has quotas")
        assert room_at(descriptor).total == system.f_blocks * system.f_frsize
        assert room_at(descriptor).whose == ""
    finally:
        os.close(descriptor)


def test_a_store_has_the_room_that_the_quota_leaves_and_says_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "room_at", lambda descriptor: Room(1000, 300, "user 998"))
    store = FolderStore(tmp_path, reserve_bytes=100)
    assert (store.capacity().total, store.capacity().free) == (1000, 200)
    with pytest.raises(
        NoSpace, match="201 bytes, 200 are free beyond the reserve of 100 within the quota of user 998"
    ):
        store.put("k", io.BytesIO(bytes(201)), 201, None)
    store.put("k", io.BytesIO(bytes(200)), 200, None)


def test_a_quota_that_is_reached_is_a_full_pool_and_no_broken_device() -> None:
    told = translate(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "put /srv/hsm/k")
    assert isinstance(told, NoSpace)
    assert "repquota" in str(told)
