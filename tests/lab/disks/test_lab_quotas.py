"""The raid driver under real quotas of ext4 and XFS: it knows its room before it writes, and a quota that is
reached is a full pool."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nfsserver import NfsServer, tool
from quotadisk import GROUP, PROJECT, USER, QuotaDisk

from drivers.errors import NoSpace
from drivers.nas.store import NasStore, Settings
from drivers.raid.store import RaidStore

MIB = 1 << 20
NEAR = 2 * MIB
"""What a file system takes for itself."""


@pytest.fixture(params=["ext4", "xfs"])
def disk(request: pytest.FixtureRequest) -> Iterator[QuotaDisk]:
    tool("modprobe", "-a", "quota_v2", "loop")
    made = QuotaDisk(request.param, "usrquota,grpquota,prjquota")
    yield made
    made.close()


def room(found: dict[str, object]) -> tuple[int, int]:
    assert "error" not in found, found
    assert found["ok"]
    return int(str(found["total"])), int(str(found["free"]))


@pytest.mark.parametrize(("kind", "number", "whose"), [("-u", USER, "user"), ("-g", GROUP, "group")])
def test_the_room_of_a_user_is_what_the_quota_leaves_and_is_told_before_a_byte_is_written(
    disk: QuotaDisk, kind: str, number: int, whose: str
) -> None:
    total, free = room(disk.as_user("look"))
    assert free > 200 * MIB, "there is no limit yet"
    disk.limit(kind, number, 0, 40)
    assert disk.as_user("look")["total"] == 40 * MIB
    total, free = room(disk.as_user("put", 25 * MIB))
    assert total == 40 * MIB and 15 * MIB - NEAR <= free <= 15 * MIB
    refused = disk.as_user("put", 16 * MIB, "more")
    assert refused["error"] == "NoSpace"
    assert f"within the quota of {whose} {number}" in str(refused["message"])
    room(disk.as_user("put", 10 * MIB, "less"))
    disk.limit(kind, number, 0, 0)
    assert room(disk.as_user("put", 16 * MIB, "more"))[0] > total


def test_a_soft_limit_is_the_room_because_what_lies_there_stays(disk: QuotaDisk) -> None:
    disk.limit("-u", USER, 30, 60)
    total, free = room(disk.as_user("put", 20 * MIB))
    assert total == 30 * MIB and free <= 10 * MIB


def test_no_file_is_left_to_make_is_no_room(disk: QuotaDisk) -> None:
    disk.limit("-u", USER, 0, 0, files=6)
    keys = iter(range(100))
    while (told := disk.as_user("put", 1000, str(next(keys)))).get("free"):
        pass
    assert told.get("free") == 0 or told["error"] == "NoSpace", told
    assert disk.as_user("put", 1000, "more")["error"] == "NoSpace"


def test_a_projects_quota_is_seen_by_root_and_by_the_daemons_user(disk: QuotaDisk) -> None:
    disk.project()
    disk.limit("-P", PROJECT, 0, 50)
    total, free = room(disk.as_user("put", 20 * MIB))
    assert total == 50 * MIB and 30 * MIB - NEAR <= free <= 30 * MIB
    seen = RaidStore(disk.folder, disk.uuid).capacity()
    assert seen.total == 50 * MIB and seen.free == free
    assert disk.as_user("put", 31 * MIB, "more")["error"] == "NoSpace"


def test_a_quota_that_another_one_uses_up_meanwhile_is_a_full_pool_and_leaves_nothing(
    disk: QuotaDisk,
) -> None:
    disk.limit("-u", USER, 0, 40)
    (disk.point / "theirs").mkdir()
    tool("chown", str(USER), disk.point / "theirs")
    # Allocated in one go before the first byte (fallocate): what fails is the allocation.
    room(disk.as_user("put", 30 * MIB))
    ballast = disk.point / "theirs/ballast"
    tool("setpriv", f"--reuid={USER}", "--clear-groups", "fallocate", "-l", str(8 * MIB), ballast)
    refused = disk.as_user("put", 5 * MIB, "more")
    assert refused["error"] == "NoSpace"
    ballast.unlink()
    room(disk.as_user("put", 5 * MIB, "more"))


def test_a_quota_on_an_nfs_server_is_a_full_pool_too(tmp_path: Path) -> None:
    server = NfsServer(tmp_path, root="all_squash,anonuid=4711,anongid=4712")
    store = NasStore(Settings(str(server.seen), timeout_seconds=30, probe_seconds=30))
    try:
        server.pool.chmod(0o777)
        assert store.health().ok
        tool("setquota", "-u", str(USER), "0", str(20 << 10), "0", "0", server.served)
        store.put("k", io.BytesIO(bytes(10 * MIB)), 10 * MIB, None)
        with pytest.raises(NoSpace, match="quota"):
            store.put("more", io.BytesIO(bytes(12 * MIB)), 12 * MIB, None)
        deadline = time.monotonic() + 30
        while not store.health().ok:  # the server removes what was refused when the client has let it go
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert server.files() == {"k"}
    finally:
        store.close()
        server.close()
