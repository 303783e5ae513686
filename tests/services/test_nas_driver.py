"""The nas driver on a real mount whose server is stopped, killed, slowed and filled in the middle of things.

The server is :mod:`fuseserver`: to those who wait for it, a stopped one is what a hung NFS server is.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fuseserver
import pytest
from fuseserver import FuseServer

from drivers.base import CHUNK_BYTES, StoreLabel
from drivers.errors import DriverError, NoSpace, NotFound, OperatorNeeded, Permanent, Retryable
from drivers.nas import open_nas, worker
from drivers.nas.helpers import Helpers, Limits, Started, start_helper
from drivers.nas.store import NasStore, Settings
from drivers.oserrors import translate

DATA = random.Random(3).randbytes(6 * CHUNK_BYTES + 77)
DIGEST = hashlib.sha256(DATA).digest()
TIMEOUT = 0.6
# What a call may take beyond its time limit on a machine that is busy with other things.
SLACK = 5.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Acting(io.BytesIO):
    """A source that does something once so many bytes of it were read."""

    def __init__(self, after: int, act: Callable[[], None]) -> None:
        super().__init__(DATA)
        self._after, self._act = after, act

    def read(self, size: int | None = -1, /) -> bytes:
        if self._act is not None and self.tell() >= self._after:
            act, self._act = self._act, None  # type: ignore[assignment]
            act()
        return super().read(size)


class Site:
    """A server, a store on its mount, and the clock of the store's breaker."""

    def __init__(self, folder: Path) -> None:
        self.server, self.clock = FuseServer(folder), Clock()
        self.helpers = Helpers(Limits(at_once=8, stuck_max=3))
        self.store = self.open()
        self.comes_back()  # a helper process takes its time to start on a busy machine

    def open(self, **changes: Any) -> NasStore:
        settings = Settings(
            str(self.server.point), **{"timeout_seconds": TIMEOUT, "probe_seconds": TIMEOUT, **changes}
        )
        return NasStore(settings, self.helpers, self.clock, random.Random(1))

    def put(self, key: str = "a/k", source: Any = None) -> None:
        self.store.put(key, source or io.BytesIO(DATA), len(DATA), DIGEST)

    def read(self, key: str = "a/k") -> bytes:
        return b"".join(self.store.get(key))

    def comes_back(self) -> None:
        """Time passes, and the store is well again without anybody's doing."""
        deadline = time.monotonic() + 20
        while not self.store.health().ok:
            assert time.monotonic() < deadline, self.store.health()
            self.clock.now += 61
            time.sleep(0.02)

    def files(self) -> set[str]:
        """Everything that lies on the server."""
        return {
            str(path.relative_to(self.server.served))
            for path in self.server.served.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    if reason := fuseserver.missing():
        pytest.skip(reason)
    made = Site(tmp_path)
    try:
        yield made
    finally:
        made.server.close()
        made.helpers.close()


def refused_in_time(call: Callable[[], object], match: str = "hangs") -> None:
    began = time.monotonic()
    with pytest.raises(Retryable, match=match):
        call()
    assert time.monotonic() - began < TIMEOUT + SLACK


def test_a_server_that_stops_in_mid_write_holds_nobody_and_leaves_nothing_half_done(site: Site) -> None:
    site.put("a/before")
    refused_in_time(lambda: site.put("a/k", Acting(2 * CHUNK_BYTES, site.server.stop)))
    began = time.monotonic()
    for call in (lambda: site.put("other"), site.read, lambda: list(site.store.list())):
        with pytest.raises(Retryable, match=r"hangs.*next try in"):
            call()
    health = site.store.health()
    assert not health.ok
    assert str(site.server.point) in health.message
    assert time.monotonic() - began < 3 * TIMEOUT, "once it is known to hang nobody waits for it again"
    site.server.go_on()
    site.comes_back()
    with pytest.raises(NotFound):
        site.store.stat("a/k")
    site.put("a/k")
    assert site.read("a/k") == site.read("a/before") == DATA
    assert site.files() == {"a/k", "a/before"}


def test_a_server_that_stops_in_mid_read_holds_nobody_and_is_read_on_when_it_goes_on(site: Site) -> None:
    site.put()
    pieces = site.store.get("a/k")
    got = next(pieces)
    site.store.drop_caches()
    site.server.stop()
    refused_in_time(lambda: b"".join(site.store.get("a/k")))
    pieces.close()
    site.server.go_on()
    site.comes_back()
    assert got + b"".join(site.store.get("a/k", len(got))) == DATA


def test_what_a_put_that_was_given_up_on_publishes_late_is_removed(site: Site) -> None:
    site.server.hold_links(True)
    refused_in_time(site.put)
    site.clock.now += 61
    deadline = time.monotonic() + 20
    with pytest.raises(Retryable, match="still hangs in the kernel"):
        site.store.stat("a/k")
    site.server.hold_links(False)
    while site.helpers.stuck():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "a/k" in site.files(), "the link was made after all; else this test shows nothing"
    with pytest.raises(NotFound):
        site.store.stat("a/k")
    assert "a/k" not in site.files()
    site.put()
    assert site.read() == DATA


def test_an_object_that_was_there_before_is_never_taken_for_a_late_one(site: Site) -> None:
    site.put()
    written = (site.server.point / "a/k").stat().st_mtime_ns
    for size, since, late in (
        (len(DATA), written + 1, False),
        (1, written, False),
        (len(DATA), written, True),
    ):
        assert site.store._call("remove_late", key="a/k", size=size, since=since) is late
        assert site.files() == (set() if late else {"a/k"})


def test_helpers_that_hang_are_counted_and_no_more_are_started_than_the_limit(site: Site) -> None:
    site.server.hold_links(True)
    for number in range(6):
        with pytest.raises(Retryable):
            site.put(f"a/{number}")
        site.clock.now += 61
    assert len(site.helpers.stuck()) == 3
    with pytest.raises(Retryable, match=r"3 helper processes hang in the kernel \(pids \d+, \d+, \d+\)"):
        site.put("a/more")
    site.server.hold_links(False)
    site.comes_back()
    deadline = time.monotonic() + 20
    while site.helpers.stuck():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    site.put("a/0")
    assert [each.key for each in site.store.list()] == ["a/0"]
    assert site.files() == {"a/0"}


def test_a_mount_whose_server_died_is_unavailable_and_not_empty(site: Site) -> None:
    site.put()
    site.server.kill()
    for call in (site.read, lambda: list(site.store.list()), lambda: site.store.stat("never")):
        with pytest.raises(Retryable, match="not connected"):
            call()
    assert "not connected" in site.store.health().message
    site.server.unmount()
    site.server.start()
    assert site.read() == DATA


def test_a_server_that_dies_in_mid_write_leaves_nothing_once_it_is_back(site: Site) -> None:
    site.put("a/before")
    with pytest.raises(Retryable, match="not connected"):
        site.put("a/k", Acting(4 * CHUNK_BYTES, site.server.kill))
    assert any(name.startswith(".incoming") for name in site.files()), "nobody could remove it"
    for _ in range(3):
        with pytest.raises(Retryable):
            site.store.capacity()
    site.server.unmount()
    site.server.start()
    site.comes_back()
    assert site.files() == {"a/before"}
    site.put("a/k")
    assert site.read("a/k") == DATA


@pytest.mark.parametrize("number", sorted(worker._AWAY))
def test_whatever_a_mount_answers_whose_server_is_away_it_passes(number: int) -> None:
    assert isinstance(translate(OSError(number, os.strerror(number)), "get k"), Retryable)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ESTALE, "umount -l"), (errno.EIO, "see the kernel log")],
    ids=["ESTALE", "EIO"],
)
def test_a_mount_that_answers_with_errors_is_away_and_well_again_by_itself(
    site: Site, number: int, words: str
) -> None:
    site.store = site.open(timeout_seconds=20, probe_seconds=20)
    site.put()
    site.server.fail(number)
    for call in (site.read, lambda: site.put("a/new"), lambda: site.store.stat("a/k")):
        with pytest.raises(Retryable, match=words):
            call()
    assert words in site.store.health().message
    site.server.fail(0)
    assert site.store.health().ok
    assert site.read() == DATA
    site.put("a/new")
    assert site.files() == {"a/k", "a/new"}


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO], ids=["ESTALE", "EIO"])
def test_an_error_in_mid_write_leaves_nothing_half_done_and_one_in_mid_read_gives_no_wrong_byte(
    site: Site, number: int
) -> None:
    site.store = site.open(timeout_seconds=20, probe_seconds=20)
    with pytest.raises(Retryable):
        site.put("a/k", Acting(2 * CHUNK_BYTES, lambda: site.server.fail(number)))
    site.server.fail(0)
    with pytest.raises(NotFound):
        site.store.stat("a/k")
    site.put()
    site.store.drop_caches()
    pieces = site.store.get("a/k")
    got = [next(pieces)]
    site.server.fail(number)
    with pytest.raises(Retryable):
        got += pieces
    site.server.fail(0)
    begun = b"".join(got)
    assert len(begun) < len(DATA)
    assert begun + b"".join(site.store.get("a/k", len(begun))) == DATA


@pytest.mark.parametrize(("user", "words"), [(0, "no_root_squash"), (998, "user 998")])
def test_a_refusal_of_the_server_says_where_to_look(user: int, words: str) -> None:
    assert words in worker._squashed(user)


def test_a_server_that_is_slow_is_waited_for_as_long_as_it_makes_progress(site: Site) -> None:
    site.server.slow(0.001)
    site.store = site.open(timeout_seconds=1.5)
    began = time.monotonic()
    site.put()
    assert time.monotonic() - began > 1.5, "it took longer than any single answer may"
    assert site.read() == DATA


def test_a_full_server_says_no_space_and_keeps_nothing_of_it(site: Site) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(site.server.served)], check=True)
    try:
        with pytest.raises(NoSpace):
            site.put()
        # Somebody else fills it in the middle.
        small = DATA[: 3 * CHUNK_BYTES]
        filler = site.server.served / "filler"
        source = Acting(CHUNK_BYTES, lambda: _fill(filler))
        source.truncate(len(small))
        with pytest.raises(NoSpace):
            site.store.put("a/k", source, len(small), None)
        filler.unlink()
        assert site.files() == set()
        site.store.put("a/k", io.BytesIO(small), len(small), None)
        assert site.read() == small
    finally:
        subprocess.run(["umount", "-l", str(site.server.served)], check=True)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            return


def test_a_mountpoint_without_its_file_system_is_refused_by_the_sentinel(site: Site) -> None:
    label = StoreLabel("nas", "0b4f7b6e-0000-4000-8000-000000000001")
    site.store.write_label(label)
    site.store = site.open(expect_uuid=label.uuid)
    site.put()
    assert site.store.read_label() == label
    with pytest.raises(Permanent, match="says that this folder is pool 'nas'"):
        site.store.write_label(StoreLabel("other", "0b4f7b6e-0000-4000-8000-000000000002"))
    site.server.kill()
    site.server.unmount()
    for call in (site.read, lambda: site.put("new"), lambda: site.store.delete("a/k"), site.store.flush):
        with pytest.raises(OperatorNeeded, match="not mounted"):
            call()
    assert list(site.server.point.iterdir()) == []


def test_a_helper_that_dies_costs_its_work_only(tmp_path: Path) -> None:
    started = []

    def start() -> Started:
        started.append(start_helper())
        return started[-1]

    def kill() -> None:
        started[-1].process.kill()
        started[-1].process.wait(5)

    store = NasStore(Settings(str(tmp_path)), Helpers(Limits(), start))
    try:
        with pytest.raises(Retryable, match="ended by itself"):
            store.put("k", Acting(CHUNK_BYTES, kill), len(DATA), DIGEST)
        with pytest.raises(NotFound):
            store.stat("k")
        store.put("k", io.BytesIO(DATA), len(DATA), DIGEST)
        assert b"".join(store.get("k")) == DATA
        assert len(started) == 2
    finally:
        store.close()


def test_helpers_end_when_the_daemon_does(tmp_path: Path) -> None:
    store = open_nas({"path": str(tmp_path)})
    assert store.health().ok
    (helper,) = store._helpers._idle
    assert helper._process.stdin
    helper._process.stdin.close()  # as the kernel does when the daemon is killed
    assert helper.wait(10)
    assert store.health().ok, "another one is started"
    store.close()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "path is missing"),
        ({"path": "relative"}, "absolute"),
        ({"path": "/x", "timeout_seconds": 0}, "more than 0"),
        ({"path": "/x", "helpers": 1}, "helpers"),
        ({"path": "/x", "reserve_bytes": "much"}, "reserve_bytes"),
    ],
)
def test_unusable_options_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(DriverError, match=match):
        open_nas(options)
