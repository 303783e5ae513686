"""What only the folder store does; what every store does is in tests/contract."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivers.base import Labelled, StoreLabel
from drivers.errors import Corrupt, DriverError, NoSpace, NotFound, OperatorNeeded, Permanent, Retryable
from drivers.folder import FAMILY, FolderStore
from drivers.oserrors import translate
from drivers.sentinel import SENTINEL, read_sentinel, write_sentinel

UUID = "0b9e2a9c-0000-4000-8000-00000000000a"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "pool"
    folder.mkdir()
    return folder


def put(store: FolderStore, key: str, data: bytes = b"abc") -> None:
    store.put(key, io.BytesIO(data), len(data), None)


def read(store: FolderStore, key: str) -> bytes:
    return b"".join(store.get(key))


def keys(store: FolderStore) -> list[str]:
    return [stat.key for stat in store.list()]


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def path_of(fd: int) -> str:
    return str(Path(f"/proc/self/fd/{fd}").readlink())


# Opening and the sentinel


def test_a_folder_that_is_not_there_is_refused_and_not_created(tmp_path: Path) -> None:
    with pytest.raises(OperatorNeeded, match="pool is not a folder"):
        FolderStore(tmp_path / "pool")
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_is_expected_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pool").write_bytes(b"")
    with pytest.raises(OperatorNeeded, match="not a folder"):
        FolderStore(tmp_path / "pool")


def test_a_sentinel_says_whose_folder_it_is(root: Path) -> None:
    assert read_sentinel(root) is None
    write_sentinel(root, "nearline", UUID)
    write_sentinel(root, "nearline", UUID)
    assert read_sentinel(root) == ("nearline", UUID)
    assert files(root) == [SENTINEL]


@pytest.mark.parametrize(("pool", "uuid"), [("other", UUID), ("nearline", "other")])
def test_a_folder_of_one_pool_is_not_marked_as_another_ones(root: Path, pool: str, uuid: str) -> None:
    write_sentinel(root, "nearline", UUID)
    with pytest.raises(Permanent, match="nearline"):
        write_sentinel(root, pool, uuid)
    assert read_sentinel(root) == ("nearline", UUID)


def test_a_store_says_whose_folder_it_is_and_marks_it_once(root: Path) -> None:
    store = FolderStore(root)
    assert isinstance(store, Labelled)
    assert store.read_label() is None
    store.write_label(StoreLabel("near", "u-1"))
    store.write_label(StoreLabel("near", "u-1"))
    assert store.read_label() == StoreLabel("near", "u-1")
    with pytest.raises(Permanent, match="near"):
        store.write_label(StoreLabel("far", "u-1"))


def test_a_sentinel_is_neither_written_nor_missed_where_there_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OperatorNeeded):
        write_sentinel(tmp_path / "gone", "nearline", UUID)
    with pytest.raises(OperatorNeeded):
        read_sentinel(tmp_path / "gone")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pool": "a"}', b'{"pool": 1, "uuid": 2}', b"\xff"])
def test_a_broken_sentinel_is_corrupt_and_not_absent(root: Path, content: bytes) -> None:
    (root / SENTINEL).write_bytes(content)
    with pytest.raises(Corrupt, match=SENTINEL):
        read_sentinel(root)
    with pytest.raises(Corrupt):
        write_sentinel(root, "nearline", UUID)
    assert (root / SENTINEL).read_bytes() == content


def test_the_sentinel_is_no_object_and_no_key(root: Path) -> None:
    write_sentinel(root, "nearline", UUID)
    store = FolderStore(root, expect_uuid=UUID)
    assert keys(store) == []
    for key in (SENTINEL, ".HSM-pool", ".hsm-pool.17", ".incoming", ".incoming/x", ".Incoming/x"):
        with pytest.raises(Permanent, match="reserved"):
            put(store, key)
        with pytest.raises(Permanent, match="reserved"):
            store.delete(key)
    assert read_sentinel(root) == ("nearline", UUID)


def test_a_store_does_not_open_on_a_folder_without_the_expected_sentinel(root: Path) -> None:
    with pytest.raises(OperatorNeeded, match="probably not mounted"):
        FolderStore(root, expect_uuid=UUID)
    write_sentinel(root, "other", "other-uuid")
    with pytest.raises(OperatorNeeded, match="expected " + UUID):
        FolderStore(root, expect_uuid=UUID)
    assert files(root) == [SENTINEL]


def test_a_file_system_that_goes_away_is_noticed_by_every_method(root: Path) -> None:
    write_sentinel(root, "nearline", UUID)
    store = FolderStore(root, expect_uuid=UUID)
    put(store, "a/k")
    # What an unmounted file system leaves behind: the empty mount point on the root disk.
    root.rename(root.with_name("elsewhere"))
    root.mkdir()
    calls: list[Callable[[], object]] = [
        lambda: put(store, "a/l"),
        lambda: store.delete("a/k"),
        lambda: store.stat("a/k"),
        lambda: read(store, "a/k"),
        lambda: keys(store),
        store.capacity,
        store.flush,
    ]
    for call in calls:
        with pytest.raises(OperatorNeeded, match="probably not mounted"):
            call()
    assert not store.health().ok
    assert "probably not mounted" in store.health().message
    assert list(root.iterdir()) == []
    root.rmdir()
    assert "is not a folder" in store.health().message
    root.with_name("elsewhere").rename(root)
    assert store.health().ok
    assert read(store, "a/k") == b"abc"


def test_a_folder_that_cannot_be_written_is_not_healthy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(root)

    def refuse(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "write", refuse)
    health = store.health()
    assert not health.ok
    assert "Read-only" in health.message
    monkeypatch.undo()
    assert store.health().ok
    assert files(root) == []


# Symbolic links


def test_no_symbolic_link_leads_out_of_the_root(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    store = FolderStore(root)
    for key in ("folder/secret", "file"):
        with pytest.raises(NotFound):
            read(store, key)
        with pytest.raises(NotFound):
            store.stat(key)
        with pytest.raises(Permanent):
            put(store, key)
        store.delete(key)
    with pytest.raises(Permanent):
        put(store, "folder/new")
    assert keys(store) == []
    assert files(outside) == ["secret"]
    assert (outside / "secret").read_bytes() == b"secret"


def test_a_dangling_link_is_not_written_through(root: Path, tmp_path: Path) -> None:
    (root / "k").symlink_to(tmp_path / "made-by-accident")
    with pytest.raises(Permanent):
        put(FolderStore(root), "k")
    assert not (tmp_path / "made-by-accident").exists()


def test_an_incoming_folder_that_is_a_link_is_not_followed(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"")
    (root / ".incoming").symlink_to(outside)
    with pytest.raises(DriverError):
        put(FolderStore(root), "k")
    assert files(outside) == ["precious"]


# Putting


def test_a_put_that_fails_half_way_leaves_no_file_behind(root: Path) -> None:
    store = FolderStore(root)
    with pytest.raises(Corrupt):
        store.put("a/k", io.BytesIO(b"abc"), 5, None)
    assert files(root) == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, Retryable), (errno.EROFS, OperatorNeeded)],
)
@pytest.mark.parametrize("call", ["write", "fsync", "link"])
def test_an_error_at_any_step_of_a_put_is_translated_and_leaves_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, kind: type[DriverError]
) -> None:
    store = FolderStore(root)
    put(store, "before")
    real = getattr(os, call)
    calls = 0

    def failing(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if call == "write" and calls == 1:
            return real(args[0], args[1][:1])  # a short write first, as at the end of a quota
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(kind, match="a/k") as raised:
        put(store, "a/k", b"abcdef")
    assert type(raised.value) is kind
    monkeypatch.undo()
    assert files(root) == ["before"]
    put(store, "a/k", b"abcdef")
    assert read(store, "a/k") == b"abcdef"


def test_an_object_whose_folder_cannot_be_synced_is_taken_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(root)
    real = os.fsync

    def failing(fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(Retryable):
        put(store, "a/k")
    monkeypatch.undo()
    assert files(root) == []


def test_the_bytes_are_synced_before_the_name_and_the_name_before_success(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(root)
    steps: list[str] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(fd: int) -> None:
        steps.append("sync " + os.path.relpath(path_of(fd), root).split("/")[0])
        real_fsync(fd)

    def link(*args: Any, **options: Any) -> None:
        steps.append("link")
        real_link(*args, **options)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    put(store, "a/k")
    at = steps.index("link")
    assert steps[:at] == ["sync .incoming"]
    assert {"sync a", "sync ."} <= set(steps[at:])
    steps.clear()
    put(store, "a/second")
    assert steps == ["sync .incoming", "link", "sync a"]
    # A second process's store knows nothing of the first one's syncs: the folder's own name is synced again.
    steps.clear()
    put(FolderStore(root), "a/l")
    assert {"sync a", "sync ."} <= set(steps)


def test_file_systems_without_hard_links_are_immutable_too(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    store = FolderStore(root)
    put(store, "a/k", b"first")
    with pytest.raises(Permanent):
        put(store, "a/k", b"second")
    # The same race that the other way is decided by link: somebody is quicker between look and rename.
    monkeypatch.setattr(FolderStore, "_refuse_existing", lambda *_: None)
    with pytest.raises(Permanent, match="immutable"):
        put(store, "a/k", b"third")
    assert read(store, "a/k") == b"first"
    assert files(root) == ["a/k"]


def test_the_reserve_stays_free(root: Path) -> None:
    free = FolderStore(root).capacity().free
    store = FolderStore(root, reserve_bytes=free * 2)
    assert store.capacity().free == 0
    with pytest.raises(NoSpace, match="reserve"):
        put(store, "k")
    store.put("empty", io.BytesIO(b""), 0, None)


def test_files_are_not_readable_by_others(root: Path) -> None:
    put(FolderStore(root), "a/k")
    assert (root / "a/k").stat().st_mode & 0o007 == 0
    assert (root / "a").stat().st_mode & 0o007 == 0


def test_what_a_dead_process_left_is_removed_when_the_store_opens(root: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        from drivers.folder import FolderStore
        class Slow:
            first = True
            def read(self, size):
                if not self.first:
                    print("half", flush=True)
                    sys.stdin.read()
                self.first = False
                return bytes(min(size, 1000))
        FolderStore(sys.argv[1]).put("a/k", Slow(), 2000, None)
        """
    )
    command = [sys.executable, "-c", script, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        # While it lives, another store leaves its file alone.
        other = FolderStore(root)
        assert len(files(root)) == 1
        assert keys(other) == []
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(files(root)) == 1
    store = FolderStore(root)
    assert files(root) == []
    put(store, "a/k")
    assert read(store, "a/k") == b"abc"


# Getting


def test_a_file_that_is_cut_while_it_is_read_is_corrupt(root: Path) -> None:
    store = FolderStore(root)
    put(store, "k", bytes(3 << 20))
    pieces = store.get("k")
    next(pieces)
    os.truncate(root / "k", 1 << 20)
    with pytest.raises(Corrupt, match="ended"):
        list(pieces)


def in_cache(path: Path) -> bool:
    """Whether the first page is in the page cache."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def test_dropped_caches_make_the_next_get_read_the_medium_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(root)
    for key in ("k", "l"):
        put(store, key, bytes(100_000))
    dropped: list[int] = []
    real = os.posix_fadvise

    def fadvise(fd: int, offset: int, length: int, advice: int) -> None:
        real(fd, offset, length, advice)
        assert (offset, length, advice) == (0, 0, os.POSIX_FADV_DONTNEED)
        dropped.append(os.fstat(fd).st_ino)

    monkeypatch.setattr(os, "posix_fadvise", fadvise)
    read(store, "k")
    assert dropped == []
    for _ in range(2):
        store.drop_caches()
        for _ in range(3):
            read(store, "k")
        read(store, "l")
    k, l_ = (os.stat(root / key).st_ino for key in ("k", "l"))
    assert dropped == [k, l_, k, l_]


def test_the_page_cache_really_forgets_an_object(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(root)
    put(store, "k", bytes(100_000))
    assert in_cache(root / "k")
    store.drop_caches()
    cached: list[bool] = []
    real = os.pread

    def pread(fd: int, size: int, offset: int) -> bytes:
        cached.append(in_cache(root / "k"))
        return real(fd, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    read(store, "k")
    if _in_memory(root):
        assert cached == [True]  # tmpfs: the memory is the medium
    else:
        assert cached[0] is False


def _in_memory(path: Path) -> bool:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    kinds = {fields[1]: fields[2] for fields in mounts}
    return next(kinds[str(p)] for p in (path, *path.parents) if str(p) in kinds) in ("tmpfs", "ramfs")


# Deleting and listing


def test_folders_that_become_empty_are_removed(root: Path) -> None:
    store = FolderStore(root)
    put(store, "a/b/k")
    put(store, "a/l")
    store.delete("a/b/k")
    assert not (root / "a/b").exists()
    store.delete("a/l")
    store.flush()
    assert sorted(path.name for path in root.iterdir()) == [".incoming"]
    assert root.exists()


def test_a_deletion_whose_flush_failed_or_never_came_is_flushed_when_it_is_done_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut brings back what everybody believes to be gone."""
    store = FolderStore(root)
    put(store, "a/k")
    put(store, "a/l")
    synced: list[str] = []
    broken = [True]

    def fsync(fd: int) -> None:
        if broken:
            raise OSError(errno.EIO, "Input/output error")
        synced.append(path_of(fd))

    monkeypatch.setattr(os, "fsync", fsync)
    store.delete("a/k")
    with pytest.raises(DriverError):
        store.flush()
    broken.clear()
    store.flush()
    assert str(root / "a") in synced, "what failed is tried again"
    synced.clear()
    after_a_crash = FolderStore(root)
    after_a_crash.delete("a/k")
    after_a_crash.flush()
    assert str(root / "a") in synced, "it is gone already, and perhaps not for good"


@pytest.mark.parametrize("remembered", [10_000, 1])
def test_what_a_dead_process_put_and_another_finds_is_durable_after_its_flush(
    root: Path, monkeypatch: pytest.MonkeyPatch, remembered: int
) -> None:
    """It has its name and its bytes, so it is taken as it is; a power cut may still take the name away."""
    monkeypatch.setattr("drivers.folder._REMEMBERED_MAX", remembered)
    real, synced = os.fsync, []

    def fsync(fd: int) -> None:
        if not path_of(fd).startswith(str(root / ".incoming")):
            raise KeyboardInterrupt  # the process dies: nothing is tidied up
        real(fd)

    with monkeypatch.context() as dying:
        dying.setattr(os, "fsync", fsync)
        for key in ("a/b/k", "c/k"):
            with pytest.raises(KeyboardInterrupt):
                put(FolderStore(root), key)
    again = FolderStore(root)
    assert [again.stat(key).size for key in ("a/b/k", "c/k")] == [3, 3]
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(path_of(fd)))
    again.flush()
    assert {str(root), str(root / "a"), str(root / "a/b"), str(root / "c")} <= set(synced)
    synced.clear()
    again.flush()
    assert synced == [], "once is enough"


def test_putting_survives_that_deleting_removes_its_folder(root: Path) -> None:
    store = FolderStore(root)
    stop = threading.Event()
    errors: list[BaseException] = []

    def churn(number: int) -> None:
        try:
            while not stop.is_set():
                put(store, f"a/b/{number}")
                store.delete(f"a/b/{number}")
        except BaseException as error:  # noqa: BLE001 (told to the main thread)
            errors.append(error)

    threads = [threading.Thread(target=churn, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for number in range(60):
        put(store, f"a/{number}")
        store.delete(f"a/{number}")
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert keys(store) == []


def test_what_cannot_be_a_key_is_not_listed(root: Path) -> None:
    store = FolderStore(root)
    put(store, "a/k")
    (root / "lost+found").mkdir()
    (root / "lost+found" / "x").write_bytes(b"")
    (root / "with space").write_bytes(b"")
    os.mkfifo(root / "pipe")
    assert keys(store) == ["a/k"]
    with pytest.raises(NotFound):
        read(store, "pipe")


def test_a_folder_that_cannot_be_read_is_an_error_and_not_an_empty_list(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(root)
    put(store, "a/k")
    real = os.scandir

    def failing(fd: Any) -> Any:
        if path_of(fd).endswith("/a"):
            raise OSError(errno.EIO, "Input/output error")
        return real(fd)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(Retryable):
        keys(store)


# Options and errors


def test_the_family_opens_a_store_from_plain_values(root: Path) -> None:
    assert FAMILY.open_store is not None
    store = FAMILY.open_store({"path": str(root), "reserve_bytes": "1 GiB"})
    assert store.capacity().free <= FolderStore(root).capacity().free
    with pytest.raises(Permanent, match="reserve_bytes"):
        FAMILY.open_store({"path": str(root), "reserve_bytes": "much"})
    with pytest.raises(OperatorNeeded):
        FAMILY.open_store({"path": str(root), "expect_uuid": UUID})


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, NotFound),
        (errno.ENOTDIR, NotFound),
        (errno.ENOSPC, NoSpace),
        (errno.EDQUOT, NoSpace),
        (errno.EACCES, OperatorNeeded),
        (errno.EPERM, OperatorNeeded),
        (errno.EIO, Retryable),
        (errno.ESTALE, Retryable),
        (errno.ETIMEDOUT, Retryable),
        (errno.EMFILE, Retryable),
        (errno.EROFS, OperatorNeeded),
        (errno.ENAMETOOLONG, Permanent),
        (errno.ELOOP, Permanent),
        (None, Permanent),
    ],
)
def test_an_os_error_becomes_the_kind_that_says_what_to_do(
    number: int | None, kind: type[DriverError]
) -> None:
    error = translate(OSError(number, "words") if number else OSError("words"), "put k")
    assert type(error) is kind
    assert str(error).startswith("put k: words")
