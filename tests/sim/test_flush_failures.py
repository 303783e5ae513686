"""A flush that fails is told, is never made good by a later one, and leaves what the next start needs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivers.folder import INCOMING
from hsm.dicom.header import read_header
from hsm.errors import Retryable
from hsm.ingest import incoming, settle, shelf
from hsm.ingest.incoming import Incoming
from hsm.ingest.shelf import Shelf
from hsm.interrupted import INTERRUPTED, keep_interrupted
from hsm.recovery import recover
from tests.sim.test_recovery import acknowledge, left_behind, stored_file
from tests.sim.world import World


def fails(times: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """A call that fails with EIO so many times, and then says that all is well."""
    left = [times]

    def call(*args: Any, **kwargs: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*args, **kwargs)

    return call


def test_bytes_whose_flush_failed_are_not_durable_because_the_next_flush_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Incoming(tmp_path / "a.part")
    file.write([b"bytes"])
    monkeypatch.setattr(incoming.os, "fdatasync", fails(1, os.fdatasync))
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output error"):
            file.flush()
    file.close()


def test_a_folder_that_could_not_be_flushed_is_flushed_with_those_above_it_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / INCOMING).mkdir()
    made = Shelf(tmp_path)
    sources = [tmp_path / INCOMING / name for name in "ab"]
    for source in sources:
        source.write_bytes(b"bytes")
    made.place(sources[0], "studies/1/a.dcm", b"")
    with monkeypatch.context() as patch:
        patch.setattr(shelf, "sync_chain", fails(1, shelf.sync_chain))
        with pytest.raises(OSError, match="Input/output error"):
            made.sync()
    made.place(sources[1], "studies/1/b.dcm", b"")
    chains: list[tuple[str, ...]] = []
    monkeypatch.setattr(shelf, "sync_chain", lambda _, parts: chains.append(tuple(parts)))
    made.sync()
    assert chains == [("studies", "1")]
    made.close()


def test_what_was_interrupted_has_a_durable_name_before_it_loses_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / INCOMING
    folder.mkdir()
    (folder / "a.part").write_bytes(b"acknowledged")
    flushed: list[str] = []
    sync, unlink = os.fsync, os.unlink

    def note(fd: int) -> None:
        sync(fd)
        flushed.append(str(Path(f"/proc/self/fd/{fd}").readlink().relative_to(tmp_path)))

    def removed(path: Any, **kwargs: Any) -> None:
        assert flushed == [f"{INCOMING}/{INTERRUPTED}", INCOMING]
        assert (folder / INTERRUPTED / Path(path).name).samefile(path)
        unlink(path, **kwargs)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "unlink", removed)
    assert keep_interrupted(tmp_path) == 1
    assert [path.name for path in (folder / INTERRUPTED).iterdir()] == ["a.part"]


def test_a_start_that_died_between_the_two_names_is_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / INCOMING
    (folder / INTERRUPTED).mkdir(parents=True)
    (folder / "a.part").write_bytes(b"acknowledged")
    (folder / INTERRUPTED / "a.part").hardlink_to(folder / "a.part")
    assert keep_interrupted(tmp_path) == 1
    assert (folder / INTERRUPTED / "a.part").read_bytes() == b"acknowledged"
    assert not (folder / "a.part").exists()


def test_recovery_keeps_its_files_where_the_names_that_it_gives_cannot_be_flushed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledge(world, "CT_small.dcm")
    whole = stored_file(world).read_bytes()
    world.ingest.settle()
    left_behind(world, "a", whole)
    keep_interrupted(world.pools.ingest.root)
    with monkeypatch.context() as patch:
        patch.setattr(settle.Shelf, "sync", fails(1, Shelf.sync))
        with pytest.raises(Retryable, match="cannot be flushed"):
            recover(world.pools.ingest, world.ingest, read_header)
    kept = world.pools.ingest.root / INCOMING / INTERRUPTED / "a.part"
    assert kept.read_bytes() == whole
    assert recover(world.pools.ingest, world.ingest, read_header).known == 1
    assert not kept.exists()


def test_a_start_that_cannot_flush_what_was_interrupted_says_so_and_the_next_look_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.pools.ingest.root / INCOMING / "a.part").write_bytes(b"acknowledged")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails(1, os.fsync))
        again = world.rebuild()
    service = again.pools.ingest.service
    assert service is not None
    assert "Input/output error" in service.condition.reason
    assert "unexpected" not in service.condition.reason
    assert service.probe().reason == ""
    again.close()
