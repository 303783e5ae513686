"""The sftp driver on a real OpenSSH server that is killed, stopped, filled and throttled in mid-transfer."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sshserver
from sshserver import SshServer, keygen

from drivers.base import CHUNK_BYTES, StoreLabel
from drivers.errors import Corrupt, DriverError, NoSpace, NotFound, OperatorNeeded, Permanent, Retryable
from drivers.sftp.store import SftpStore

DATA = random.Random(4).randbytes(12 * CHUNK_BYTES + 77)
DIGEST = hashlib.sha256(DATA).digest()
TIMEOUT = 2.0
SLACK = 5.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Acting(io.BytesIO):
    """A source that does something once so many bytes of it were read."""

    def __init__(self, after: int, act: Callable[[], None], data: bytes = DATA) -> None:
        super().__init__(data)
        self._after, self._act = after, [act]

    def read(self, size: int | None = -1, /) -> bytes:
        if self._act and self.tell() >= self._after:
            self._act.pop()()
        return super().read(size)


class Site:
    """A server, an empty folder there, and stores on it."""

    def __init__(self, folder: Path, server: SshServer) -> None:
        self.folder, self.server, self.clock = folder / "pool", server, Clock()
        self.folder.mkdir()
        self._opened: list[SftpStore] = []
        self.store = self.open()

    def open(self, resume_bytes: int = CHUNK_BYTES, **changes: Any) -> SftpStore:
        limits = {"timeout_seconds": TIMEOUT, "connect_seconds": 10.0, **changes}
        settings = self.server.settings(self.folder, **limits)
        store = SftpStore(settings, self.clock, random.Random(1), resume_bytes=resume_bytes)
        self._opened.append(store)
        return store

    def put(self, key: str = "a/k", source: Any = None) -> None:
        self.store.put(key, source or io.BytesIO(DATA), len(DATA), DIGEST)

    def read(self, key: str = "a/k") -> bytes:
        return b"".join(self.store.get(key))

    def later(self) -> None:
        """So much later that it may be tried again."""
        self.clock.now += 61

    def files(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}

    def close(self) -> None:
        for store in self._opened:
            store.close()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Site]:
    """On the server of all tests, which must not be harmed."""
    if sshserver.MISSING:
        pytest.skip(sshserver.MISSING)
    site = Site(tmp_path, sshserver.shared_server())
    yield site
    site.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Site]:
    """On a server of its own."""
    if sshserver.MISSING:
        pytest.skip(sshserver.MISSING)
    server = SshServer(tmp_path / "server")
    site = Site(tmp_path, server)
    yield site
    site.close()
    server.signal_sessions(signal.SIGCONT)
    server.kill()


def test_an_unknown_host_is_refused_and_the_message_has_the_line_that_makes_it_known(own: Site) -> None:
    known = own.server.known_hosts
    known.write_text("")
    with pytest.raises(OperatorNeeded, match="unknown") as raised:
        own.put()
    listing = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(own.server.folder / "hostkey.pub")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert listing.stdout.split()[1] in str(raised.value), "the fingerprint as ssh-keygen prints it"
    line = str(raised.value).rpartition("add this line to ")[2].partition(": ")[2]
    known.write_text(line.partition(" (")[0] + "\n")
    own.later()
    own.put()
    assert own.read() == DATA


def test_a_changed_host_key_is_refused_loudly_and_nothing_is_sent_to_it(own: Site) -> None:
    keygen(own.server.folder / "stranger")
    stranger = " ".join((own.server.folder / "stranger.pub").read_text().split()[:2])
    own.server.know(stranger)
    with pytest.raises(OperatorNeeded, match=r"THE HOST KEY OF \[127\.0\.0\.1\]:\d+ HAS CHANGED"):
        own.put()
    assert "Accepted" not in (own.server.folder / "log").read_text()
    assert own.files() == set()


def test_a_key_that_the_server_does_not_know_is_refused_and_not_tried_at_every_call(shared: Site) -> None:
    shared.store = shared.open(key_file=shared.server.folder / "other")
    with pytest.raises(OperatorNeeded, match="authorized_keys"):
        shared.put()
    began = time.monotonic()
    with pytest.raises(OperatorNeeded, match="next try in"):
        shared.put()
    assert time.monotonic() - began < 0.1, "a server bans who knocks too often"


def test_a_private_key_that_others_may_read_is_not_used(shared: Site, tmp_path: Path) -> None:
    copied = tmp_path / "id"
    copied.write_bytes((shared.server.folder / "id").read_bytes())
    copied.chmod(0o644)
    shared.store = shared.open(key_file=copied)
    with pytest.raises(OperatorNeeded, match=f"chmod 600 {copied}"):
        shared.put()


def test_a_key_with_a_passphrase_is_opened_with_it_and_asked_for_without(own: Site, tmp_path: Path) -> None:
    keygen(tmp_path / "locked", "open sesame")
    with (own.server.folder / "authorized_keys").open("a") as file:
        file.write((tmp_path / "locked.pub").read_text())
    own.store = own.open(key_file=tmp_path / "locked")
    with pytest.raises(OperatorNeeded, match="key_passphrase_file"):
        own.put()
    own.store = own.open(key_file=tmp_path / "locked", key_passphrase="wrong")
    with pytest.raises(OperatorNeeded, match="passphrase is wrong"):
        own.put()
    own.store = own.open(key_file=tmp_path / "locked", key_passphrase="open sesame")
    own.put()


def test_the_agents_keys_let_in(own: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if shutil.which("ssh-agent") is None:
        pytest.skip("ssh-agent is not installed")
    path = str(tmp_path / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not os.path.exists(path):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        own.store = own.open(key_file=None, agent=True)
        with pytest.raises(OperatorNeeded, match="no key to show"):
            own.put()
        key = str(own.server.folder / "id")
        subprocess.run(["ssh-add", "-q", key], check=True, capture_output=True)
        own.later()
        own.put()
    finally:
        agent.kill()
        agent.wait()


def test_a_server_killed_in_mid_write_is_found_again_and_the_upload_goes_on_where_it_was(own: Site) -> None:
    with pytest.raises(Retryable):
        own.put(source=Acting(9 * CHUNK_BYTES, own.server.kill))
    with pytest.raises(Retryable, match="next try in"):
        own.store.stat("a/k")
    (begun,) = (own.folder / ".incoming").iterdir()
    inode = begun.stat().st_ino
    own.server.start()
    own.later()
    with pytest.raises(NotFound):
        own.store.stat("a/k")
    own.put()
    assert own.read() == DATA
    assert own.files() == {"a/k"}
    assert (own.folder / "a/k").stat().st_ino == inode, "the second attempt went on with the first one's file"


def test_an_upload_goes_on_only_with_the_same_bytes(own: Site) -> None:
    bad = bytes([DATA[0] ^ 1]) + DATA[1:]
    with pytest.raises(Retryable):
        own.put(source=Acting(9 * CHUNK_BYTES, own.server.kill, bad))  # a source that errs, and a lost line
    own.server.start()
    own.later()
    with pytest.raises(Retryable, match="other bytes than before the interruption"):
        own.put()
    own.put()
    assert own.read() == DATA
    assert own.files() == {"a/k"}


def test_another_object_under_the_key_does_not_go_on_with_the_first_ones_bytes(own: Site) -> None:
    with pytest.raises(Retryable):
        own.put(source=Acting(9 * CHUNK_BYTES, own.server.kill))
    own.server.start()
    own.later()
    own.store.put("a/k", io.BytesIO(b"other"), 5, hashlib.sha256(b"other").digest())
    assert own.read() == b"other"
    assert own.files() == {"a/k"}


def test_a_server_killed_in_mid_read_is_read_on_after_it_is_back(own: Site) -> None:
    own.put()
    pieces = own.store.get("a/k")
    got = next(pieces)
    own.server.kill()
    with pytest.raises(Retryable):
        for piece in pieces:
            got += piece
    own.server.start()
    own.later()
    assert got + b"".join(own.store.get("a/k", len(got))) == DATA


@pytest.mark.parametrize("after", [0, 5 * CHUNK_BYTES])
def test_a_server_that_stops_in_mid_write_is_given_up_on_in_time(own: Site, after: int) -> None:
    def stop() -> None:
        own.server.signal_sessions(signal.SIGSTOP)

    began = time.monotonic()
    with pytest.raises(Retryable):
        own.put(source=Acting(after, stop))
    assert time.monotonic() - began < 2 * TIMEOUT + SLACK
    assert not own.store.health().ok
    own.server.signal_sessions(signal.SIGCONT)
    own.later()
    assert own.store.health().ok
    own.put()
    assert own.read() == DATA
    assert own.files() == {"a/k"}


def test_a_server_that_stops_in_mid_read_is_given_up_on_in_time(own: Site) -> None:
    own.put()
    pieces = own.store.get("a/k")
    got = next(pieces)
    own.server.signal_sessions(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(Retryable):
        for piece in pieces:
            got += piece
    assert time.monotonic() - began < TIMEOUT + SLACK
    own.later()
    assert got + b"".join(own.store.get("a/k", len(got))) == DATA


def test_a_server_that_takes_connections_and_says_nothing_is_given_up_on_in_time(own: Site) -> None:
    own.store = own.open(connect_seconds=0.5)
    os.kill(own.server.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        health = own.store.health()
        assert time.monotonic() - began < 0.5 + SLACK
        assert not health.ok
    finally:
        os.kill(own.server.pid, signal.SIGCONT)
    own.later()
    own.store._sessions._settings = replace(own.store._settings, connect_seconds=10.0)
    assert own.store.health().ok


def test_a_put_whose_outcome_was_lost_is_undone_also_when_the_server_does_it_late(own: Site) -> None:
    """The link is asked for, the answer never comes; later the server does what it was asked."""
    import drivers.sftp.session as wire_session

    original = wire_session.Session.hardlink

    def stopped_after_asking(session: Any, old: str, new: str) -> None:
        own.server.signal_sessions(signal.SIGSTOP)
        original(session, old, new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire_session.Session, "hardlink", stopped_after_asking)
        with pytest.raises(Retryable):
            own.put()
    own.server.signal_sessions(signal.SIGCONT)
    deadline = time.monotonic() + 5
    while "a/k" not in own.files() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "a/k" in own.files(), "the server did link it; else this test shows nothing"
    own.later()
    with pytest.raises(NotFound):
        own.store.stat("a/k")
    assert own.files() == set()
    own.put()
    assert own.read() == DATA


def test_while_the_server_is_away_it_is_asked_seldom_and_not_all_at_once(own: Site) -> None:
    own.server.kill()
    waits = []
    for _ in range(8):
        with pytest.raises(Retryable):
            own.store.stat("k")
        began = own.clock.now
        while "next try" in own.store.health().message:
            own.clock.now += 0.25
        waits.append(own.clock.now - began)
    assert waits[-1] > 4 * waits[0]
    assert max(waits) <= 61
    own.server.start()
    own.later()
    assert own.store.health().ok


@pytest.fixture
def small_disk(shared: Site) -> Iterator[Site]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(shared.folder)], check=True)
    yield shared
    shared.close()
    subprocess.run(["umount", "-l", str(shared.folder)], check=True)


def test_a_full_disk_is_no_space_and_keeps_nothing_of_what_did_not_fit(small_disk: Site) -> None:
    def fill() -> None:
        with contextlib.suppress(OSError), (small_disk.folder / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65536))

    with pytest.raises(NoSpace, match="full"):
        small_disk.put(source=Acting(5 * CHUNK_BYTES, fill))
    (small_disk.folder / "filler").unlink()
    with pytest.raises(NoSpace, match="are free"):
        small_disk.store.put("a/k", io.BytesIO(b""), 32 << 20, None)
    deadline = time.monotonic() + 10
    while small_disk.store.capacity().free < len(DATA):  # until the server closed what it was writing
        assert time.monotonic() < deadline
    small_disk.put()
    assert small_disk.files() == {"a/k"}


def test_a_file_system_that_turned_read_only_asks_for_a_person(small_disk: Site) -> None:
    small_disk.put()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk.folder)], check=True)
    with pytest.raises(OperatorNeeded, match="read-only"):
        small_disk.store.put("other", io.BytesIO(b"abc"), 3, None)
    assert "read-only" in small_disk.store.health().message
    assert small_disk.read() == DATA


class Proxy:
    """A line to the server that passes so many bytes a second, or nothing."""

    def __init__(self, port: int, bytes_per_second: int) -> None:
        self.rate, self.dead = bytes_per_second, False
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._carry, args=(taken, server), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with one, other, contextlib.suppress(OSError):
            while True:
                for readable in select.select([one, other], [], [], 0.1)[0]:
                    if self.dead:
                        continue
                    data = readable.recv(16384)
                    if not data:
                        return
                    (other if readable is one else one).sendall(data)
                    if self.rate:
                        time.sleep(len(data) / self.rate)
                if self.dead:
                    time.sleep(0.01)


@pytest.fixture
def line(shared: Site) -> Iterator[tuple[Site, Proxy]]:
    proxy = Proxy(shared.server.port, 0)
    key = shared.server.host_key()
    known = shared.folder.parent / "known_hosts"
    known.write_text(f"[127.0.0.1]:{proxy.port} {key}\n")
    shared.store = shared.open(port=proxy.port, known_hosts=known)
    yield shared, proxy
    proxy.close()


def test_a_slow_line_is_waited_for_as_long_as_bytes_pass(line: tuple[Site, Proxy]) -> None:
    site, proxy = line
    data = DATA[: 2 * CHUNK_BYTES]
    assert site.store.health().ok
    proxy.rate = 700_000
    began = time.monotonic()
    site.store.put("k", io.BytesIO(data), len(data), None)
    assert time.monotonic() - began > TIMEOUT, "it took longer than any single answer may"
    assert site.read("k") == data


def test_a_line_that_passes_nothing_is_given_up_on_in_time(line: tuple[Site, Proxy]) -> None:
    site, proxy = line

    def cut() -> None:
        proxy.dead = True

    began = time.monotonic()
    with pytest.raises(Retryable):
        site.put(source=Acting(3 * CHUNK_BYTES, cut))
    assert time.monotonic() - began < 2 * TIMEOUT + SLACK
    proxy.dead = False
    site.later()
    site.put()
    assert site.files() == {"a/k"}


def test_a_folder_that_is_another_pools_is_neither_written_nor_called_empty(shared: Site) -> None:
    label = StoreLabel("remote", "0b4f7b6e-0000-4000-8000-000000000001")
    assert shared.store.read_label() is None
    shared.store.write_label(label)
    shared.store.write_label(label)
    assert shared.store.read_label() == label
    with pytest.raises(Permanent, match="is pool 'remote'"):
        shared.store.write_label(StoreLabel("other", "0b4f7b6e-0000-4000-8000-000000000002"))
    shared.store = shared.open(expect_uuid=label.uuid)
    shared.put()
    assert shared.files() == {"a/k", ".hsm-pool"}
    (shared.folder / ".hsm-pool").rename(shared.folder / "away")
    for call in (
        lambda: shared.put("new"),
        lambda: shared.store.delete("a/k"),
        lambda: shared.store.stat("never"),
        lambda: list(shared.store.list()),
        shared.store.flush,
    ):
        with pytest.raises(OperatorNeeded, match="no sentinel"):
            call()
    shared.folder.rename(shared.folder.parent / "gone")
    with pytest.raises(OperatorNeeded, match="not a folder"):
        list(shared.open(expect_uuid=label.uuid).list())


def test_a_label_is_the_sentinel_of_a_local_folder(shared: Site) -> None:
    from drivers.sentinel import read_sentinel

    shared.store.write_label(StoreLabel("remote", "u-1"))
    assert read_sentinel(shared.folder) == ("remote", "u-1")


def test_what_a_dead_process_left_is_removed_when_it_is_old(shared: Site) -> None:
    incoming = shared.folder / ".incoming"
    incoming.mkdir()
    for name, age in (("old", 7200), ("young", 60)):
        (incoming / name).write_bytes(b"half")
        os.utime(incoming / name, (time.time() - age,) * 2)
    assert shared.store.health().ok
    assert shared.files() == {".incoming/young"}


def test_symbolic_links_are_neither_objects_nor_followed(shared: Site, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (shared.folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(NotFound):
        shared.read("link")
    with pytest.raises(Permanent):
        shared.put("link")
    shared.store.delete("link")
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert list(shared.store.list()) == []


@pytest.mark.parametrize("without", ["hardlink", "hardlink,posix-rename", "limits", "fsync"])
def test_servers_with_fewer_extensions_serve_too_where_that_is_safe(tmp_path: Path, without: str) -> None:
    if sshserver.MISSING:
        pytest.skip(sshserver.MISSING)
    server = SshServer(tmp_path / "server", f"internal-sftp -P {without}")
    site = Site(tmp_path, server)
    try:
        if without == "fsync":
            with pytest.raises(OperatorNeeded, match="without_fsync: true"):
                site.put()
            site.store = site.open(without_fsync=True)
        site.put()
        site.store.flush()
        with pytest.raises(Permanent, match="immutable"):
            site.put()
        assert site.read() == DATA
        assert site.files() == {"a/k"}
        site.store.delete("a/k")
        assert site.files() == set()
    finally:
        site.close()
        server.kill()


def test_a_server_that_does_not_tell_its_room_needs_a_quota(tmp_path: Path) -> None:
    if sshserver.MISSING:
        pytest.skip(sshserver.MISSING)
    server = SshServer(tmp_path / "server", "internal-sftp -P statvfs")
    site = Site(tmp_path, server)
    try:
        with pytest.raises(Permanent, match="quota_bytes"):
            site.store.capacity()
        site.store = site.open(quota_bytes=20 * CHUNK_BYTES)
        site.put()
        assert site.store.capacity().free == 20 * CHUNK_BYTES - len(DATA)
        with pytest.raises(NoSpace):
            site.put("b")
        site.store.delete("a/k")
        site.put("b")
    finally:
        site.close()
        server.kill()


def test_a_server_without_the_subsystem_is_said_to_be_one(tmp_path: Path) -> None:
    if sshserver.MISSING:
        pytest.skip(sshserver.MISSING)
    server = SshServer(tmp_path / "server", "/bin/echo Welcome to the server, dear user")
    site = Site(tmp_path, server)
    try:
        with pytest.raises(DriverError, match=r"not SFTP|subsystem"):
            site.put()
    finally:
        site.close()
        server.kill()


def test_a_source_that_lies_does_not_end_the_connection(shared: Site) -> None:
    shared.put("before")
    (session,) = shared.store._sessions._idle
    with pytest.raises(Corrupt):
        shared.store.put("a/k", io.BytesIO(DATA), len(DATA), hashlib.sha256(b"").digest())
    assert session in shared.store._sessions._idle
    assert shared.files() == {"before"}
