"""Bytes that are checked once, held or read again, and never given when they are others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.folder import FolderStore
from hsm import ranges
from hsm.errors import Corrupt
from hsm.ranges import FileState, Held, Proofs, Range, Rechecked, StoreRange, checked, open_range

DATA = bytes(n * n % 251 for n in range(300_000))
DIGEST = hashlib.sha256(DATA).digest()

Open = Callable[[Path], Range]


def in_file(folder: Path) -> Range:
    (folder / "file").write_bytes(b"before" + DATA + b"behind")
    return open_range(folder / "file", 6, len(DATA))


def in_store(folder: Path) -> Range:
    (folder / "file").write_bytes(b"before" + DATA + b"behind")
    return StoreRange(FolderStore(folder), "file", 6, len(DATA))


@pytest.fixture(params=[in_file, in_store])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Range:
    found: Range = request.param(tmp_path)
    return found


@pytest.fixture(params=["held", "large"])
def large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether it is too large to be held, and read in small pieces."""
    if request.param == "large":
        monkeypatch.setattr(ranges, "HELD_BYTES_MAX", 1000)
        monkeypatch.setattr(ranges, "PIECE_BYTES", 7000)
    return bool(request.param == "large")


def joined(found: Range) -> bytes:
    return b"".join(bytes(piece) for piece in found.pieces())


def test_what_matches_its_digest_is_given_any_number_of_times(source: Range, large: bool) -> None:
    found = checked(source, DIGEST, lambda: pytest.fail("it is not damaged"))
    assert found is not None
    assert isinstance(found, Rechecked if large else Held)
    assert found.size == len(DATA)
    assert [joined(found), joined(found), found.whole()] == [DATA] * 3
    found.close()
    found.close()


def test_what_does_not_match_is_not_given(source: Range, large: bool) -> None:
    damage: list[bool] = []
    assert checked(source, b"\0" * 32, lambda: damage.append(True)) is None
    assert damage == [True]


def test_a_large_one_that_changes_after_the_check_is_never_given_whole(
    source: Range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "HELD_BYTES_MAX", 1000)
    damage: list[bool] = []
    found = checked(source, DIGEST, lambda: damage.append(True))
    assert found is not None
    with open(tmp_path / "file", "r+b") as file:
        file.seek(5000)
        file.write(b"!")
    given = b""
    with pytest.raises(Corrupt, match="other bytes"):
        for piece in found.pieces():
            given += bytes(piece)
    assert len(given) < len(DATA)
    assert damage == [True]
    found.close()


def test_a_file_that_is_too_short_is_corrupt(tmp_path: Path, large: bool) -> None:
    (tmp_path / "file").write_bytes(DATA[:-1])
    with pytest.raises(Corrupt, match=f"ends at {len(DATA) - 1}"):
        checked(open_range(tmp_path / "file", 0, len(DATA)), DIGEST, lambda: None)


def test_a_closed_file_is_not_read_and_every_descriptor_is_closed(tmp_path: Path, large: bool) -> None:
    before = len(os.listdir("/proc/self/fd"))
    found = checked(in_file(tmp_path), DIGEST, lambda: None)
    assert found is not None
    found.close()
    assert checked(in_file(tmp_path), b"", lambda: None) is None
    assert len(os.listdir("/proc/self/fd")) == before
    if large:
        with pytest.raises(ValueError, match="closed"):
            joined(found)


class Time:
    """What the proofs see of time."""

    def __init__(self) -> None:
        self.monotonic = 0.0
        self.now_ns = 10**18


def proofs(time: Time) -> Proofs:
    return Proofs(60.0, lambda: time.monotonic, lambda: time.now_ns)


def state(**changes: int) -> FileState:
    values = {"size": 9, "mtime_ns": 1, "ctime_ns": 10**17, "offset": 0} | changes
    return FileState((1, 2), **values)


def test_a_proof_holds_for_the_same_state_and_digest_until_it_is_old() -> None:
    time = Time()
    known = proofs(time)
    assert not known.hold(state(), DIGEST)
    known.note(state(), DIGEST)
    assert known.hold(state(), DIGEST)
    assert not known.hold(state(), b"other")
    for change in ("size", "mtime_ns", "ctime_ns", "offset"):
        assert not known.hold(state(**{change: 77}), DIGEST), change
    time.monotonic = 60.0
    assert not known.hold(state(), DIGEST)


def test_a_file_that_was_changed_just_now_proves_nothing() -> None:
    time = Time()
    known = proofs(time)
    known.note(state(ctime_ns=time.now_ns - 1_000_000), DIGEST)
    assert not known.hold(state(ctime_ns=time.now_ns - 1_000_000), DIGEST)


def test_proofs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "PROOFS_MAX", 3)
    known = proofs(Time())
    states = [FileState((1, n), 9, 1, 1, 0) for n in range(5)]
    for each in states:
        known.note(each, DIGEST)
    assert [known.hold(each, DIGEST) for each in states] == [False, False, True, True, True]
