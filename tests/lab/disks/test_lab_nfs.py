"""The nas driver on the kernel's NFS: hard mounts whose server, wire or disk goes in the middle of things."""

from __future__ import annotations

import hashlib
import io
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nfsserver
import pytest
from nfsserver import NfsServer

from drivers.base import CHUNK_BYTES, StoreLabel
from drivers.errors import NoSpace, NotFound, OperatorNeeded, Retryable
from drivers.folder import FolderStore
from drivers.nas.helpers import Helpers, Limits
from drivers.nas.store import NasStore, Settings

DATA = random.Random(3).randbytes(6 * CHUNK_BYTES + 77)
DIGEST = hashlib.sha256(DATA).digest()
LABEL = StoreLabel("nas", "0b4f7b6e-0000-4000-8000-000000000001")
TIMEOUT = 5.0
SLACK = 15.0
BACK_SECONDS = 90.0
"""Until TCP has tried again, the server has let its clients in, and the breaker lets a probe pass."""


class Acting(io.BytesIO):
    """A source that does something once so many bytes of it were read."""

    def __init__(self, after: int, act: Callable[[], object]) -> None:
        super().__init__(DATA)
        self._after, self._act = after, [act]

    def read(self, size: int | None = -1, /) -> bytes:
        if self._act and self.tell() >= self._after:
            self._act.pop()()
        return super().read(size)


class Site:
    """A server, a store on its mount, and a pool on this machine's own disk."""

    def __init__(self, folder: Path, version: str = "4.2", **how: str | int) -> None:
        self.server = NfsServer(folder, version, **how)  # type: ignore[arg-type]
        self.helpers = Helpers(Limits(at_once=4, stuck_max=4))
        settings = Settings(str(self.server.seen), None, timeout_seconds=TIMEOUT, probe_seconds=TIMEOUT)
        self.store = NasStore(settings, self.helpers, rng=random.Random(1))
        self.comes_back()  # a helper process starts slowly in here
        (folder / "local").mkdir()
        self.local = FolderStore(folder / "local")

    def put(self, key: str = "a/k", source: io.BytesIO | None = None) -> None:
        self.store.put(key, source or io.BytesIO(DATA), len(DATA), DIGEST)

    def read(self, key: str = "a/k") -> bytes:
        return b"".join(self.store.get(key))

    def comes_back(self) -> float:
        """Nobody does anything, and the store is well again; after how long."""
        began = time.monotonic()
        while not (health := self.store.health()).ok:
            assert time.monotonic() - began < BACK_SECONDS, health
            time.sleep(0.2)
        return time.monotonic() - began

    def helpers_end(self) -> None:
        """Those that were given up on were let go by the kernel."""
        deadline = time.monotonic() + BACK_SECONDS
        while self.helpers.stuck():
            assert time.monotonic() < deadline, self.helpers.stuck()
            time.sleep(0.1)

    def other_work_goes_on(self, key: str) -> None:
        began = time.monotonic()
        with pytest.raises(Retryable, match=r"hangs.*next try in"):
            self.store.stat("a/before")
        assert time.monotonic() - began < TIMEOUT, "once it is known to hang nobody waits for it again"
        health = self.store.health()
        assert not health.ok and str(self.server.seen) in health.message
        self.local.put(key, io.BytesIO(DATA), len(DATA), DIGEST)
        assert b"".join(self.local.get(key)) == DATA

    def close(self) -> None:
        self.store.close()
        self.server.close()


@pytest.fixture(params=["4.2", "3"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with opened(tmp_path, request.param) as made:
        yield made


@contextmanager
def opened(folder: Path, version: str = "4.2", **how: str | int) -> Iterator[Site]:
    made = Site(folder, version, **how)
    try:
        yield made
    finally:
        made.close()


TROUBLES = {
    "the wire is cut": (nfsserver.cut_the_wire, nfsserver.mend_the_wire),
    "the server is shut down": (nfsserver.stop_threads, nfsserver.start_threads),
}


@pytest.fixture(params=TROUBLES)
def trouble(request: pytest.FixtureRequest) -> tuple[Callable[[], None], Callable[[], None]]:
    return TROUBLES[request.param]


def refused_in_time(call: Callable[[], object]) -> None:
    began = time.monotonic()
    with pytest.raises(Retryable, match="hangs"):
        call()
    assert time.monotonic() - began < TIMEOUT + SLACK


def test_a_hard_mount_that_hangs_in_mid_write_holds_nobody_and_nothing_is_left_half_done(
    site: Site, trouble: tuple[Callable[[], None], Callable[[], None]]
) -> None:
    fail, mend = trouble
    site.put("a/before")
    try:
        refused_in_time(lambda: site.put("a/k", Acting(2 * CHUNK_BYTES, fail)))
        site.other_work_goes_on("meanwhile")
    finally:
        mend()
    print(f"back after {site.comes_back():.1f} s")
    site.helpers_end()
    with pytest.raises(NotFound):
        site.store.stat("a/k")
    site.put("a/k")
    assert site.read() == site.read("a/before") == DATA
    assert site.server.files() == {"a/k", "a/before"}


def test_a_hard_mount_that_hangs_in_mid_read_holds_nobody_and_is_read_on_afterwards(
    site: Site, trouble: tuple[Callable[[], None], Callable[[], None]]
) -> None:
    fail, mend = trouble
    site.put("a/before")
    site.store.drop_caches()
    pieces = site.store.get("a/before")
    got = next(pieces)
    try:
        fail()
        refused_in_time(lambda: site.put("a/k"))
        site.other_work_goes_on("meanwhile")
    finally:
        mend()
        pieces.close()
    site.comes_back()
    site.helpers_end()
    assert got + b"".join(site.store.get("a/before", len(got))) == DATA


def test_a_server_whose_own_disk_hangs_is_a_server_that_hangs(tmp_path: Path) -> None:
    with opened(tmp_path) as site:
        site.put("a/before")
        site.server.freeze()
        try:
            refused_in_time(site.put)
            site.other_work_goes_on("meanwhile")
        finally:
            site.server.thaw()
        site.comes_back()
        site.helpers_end()
        with pytest.raises(NotFound):
            site.store.stat("a/k")
        site.put()
        assert site.read() == DATA


def test_handles_of_another_life_of_the_server_are_told_and_good_again_when_it_is_the_old_one(
    site: Site,
) -> None:
    site.put()
    site.server.export_as_another()
    for call in (site.read, lambda: site.put("a/new"), lambda: site.store.delete("a/k"), site.store.capacity):
        with pytest.raises(Retryable, match="umount -l"):
            call()
    assert not site.store.health().ok
    site.server.export_as_before()
    site.comes_back()
    assert site.read() == DATA


def test_an_export_that_was_deleted_and_made_anew_wants_a_new_mount_and_nothing_else(site: Site) -> None:
    site.store.write_label(LABEL)
    site.put()
    moved = site.server.served / "restored"
    tree = site.server.pool
    tree.rename(moved)
    tree.mkdir()
    for each in moved.iterdir():
        each.rename(tree / each.name)
    moved.rmdir()
    site.comes_back()  # the folder's name leads to the new one: no handle below the root is kept
    assert site.read() == DATA
    site.server.unmount()
    site.server.mount()
    assert site.read() == DATA


def test_a_full_server_says_no_space_and_keeps_nothing_of_it(tmp_path: Path) -> None:
    with opened(tmp_path, mebibytes=16) as site:
        ballast = site.server.served / "ballast"
        with pytest.raises(NoSpace):
            site.store.put("big", io.BytesIO(bytes(32 << 20)), 32 << 20, None)
        with pytest.raises(NoSpace):
            site.put("a/k", Acting(CHUNK_BYTES, lambda: fill(ballast)))
        ballast.unlink()
        assert site.server.files() == set()
        site.put()
        assert site.read() == DATA


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            return


def test_a_server_that_takes_root_for_nobody_says_which_line_of_its_exports_to_look_at(site: Site) -> None:
    site.put()
    site.server.unexport()
    nfsserver.export(site.server.served, ("rw", "root_squash", f"fsid={site.server._fsid}"))
    nfsserver.tool("exportfs", "-f")
    site.server.pool.chmod(0o755)
    with pytest.raises(OperatorNeeded, match=r"root_squash"):
        site.put("a/new")
    assert "root_squash" in site.store.health().message
    with pytest.raises(OperatorNeeded, match="no_root_squash"):
        site.read()
    nfsserver.tool("chmod", "-R", "a+rwX", site.server.pool)
    site.store.put("b", io.BytesIO(DATA), len(DATA), DIGEST)


def test_a_read_only_export_is_an_admins_business(site: Site) -> None:
    site.put()
    site.server.unexport()
    nfsserver.export(site.server.served, ("ro", "no_root_squash", f"fsid={site.server._fsid}"))
    nfsserver.tool("exportfs", "-f")
    with pytest.raises(OperatorNeeded, match="Read-only"):
        site.put("a/new")
    assert site.read() == DATA


def test_a_mount_that_is_taken_away_is_not_an_empty_pool(site: Site) -> None:
    site.put()
    site.server.unmount()
    with pytest.raises(OperatorNeeded, match="mount its file system"):
        site.read()
    with pytest.raises(OperatorNeeded):
        site.put("a/new")
    assert list(site.server.point.iterdir()) == []
    site.server.mount()
    assert site.read() == DATA
