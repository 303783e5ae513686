"""File systems that are away, full or failing while somebody wants what is on them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from hsm.errors import Retryable
from hsm.model import Priority
from tests.sim.conftest import MakeWorld
from tests.sim.world import TWO_TAPES, World

BOTH = """\
policy: both
priority: 1
copies: {nearline: 1, tape: 1}
rules:
  - {name: to nearline, copy to: nearline}
  - {name: to tape, copy to: tape}
  - {name: free online, release from: online, when: copies(nearline) >= 1 and copies(tape) >= 1}
"""
"""Nearline and on tape, and not online."""

NEARLINE_ONLY = """\
policy: near
priority: 1
copies: {nearline: 1}
rules:
  - {name: to nearline, copy to: nearline}
  - {name: free online, release from: online, when: copies(nearline) >= 1}
"""


def followed(make_world: MakeWorld, policies: str) -> World:
    world = make_world(policies=policies)
    world.store(1, 2)
    world.follow()
    assert not world.online_file(1, 1).exists()
    return world


def unmount(world: World, pool: str) -> Path:
    """Nothing is mounted on the pool's folder now; where its file system is."""
    root = world.home / pool
    away = root.with_name(f"{pool} is away")
    root.rename(away)
    root.mkdir()
    world.clock.advance(2)  # longer than a presence is believed
    return away


def mount(world: World, pool: str, away: Path) -> None:
    shutil.rmtree(world.home / pool)
    away.rename(world.home / pool)
    world.clock.advance(2)  # longer than an absence is believed


def test_a_copy_on_an_unmounted_file_system_gives_way_to_the_one_on_tape(make_world: MakeWorld) -> None:
    world = followed(make_world, BOTH)
    away = unmount(world, "nearline")
    wait = world.retrieve(1)
    world.settle()
    got = wait.look()
    assert (len(got.files), got.lost, got.waiting) == (2, {}, 0)
    wait.close()
    assert [request.state for request in world.requests(kind="recall")] == ["done"]
    assert world.copies(1)["1.p0001", "nearline"] == "verified", "it is away, not damaged"
    mount(world, "nearline", away)
    world.assert_readable(1)
    assert len(world.requests(kind="recall")) == 1, "it is back and needs no tape"
    world.check()


def test_a_file_system_that_goes_while_a_study_is_retrieved_gives_way_to_the_tape(
    make_world: MakeWorld,
) -> None:
    world = followed(make_world, BOTH)
    wait = world.retrieve(1)
    assert wait.retrieval.next(0) is not None
    unmount(world, "nearline")
    world.clock.advance(2)
    wait.look()
    world.settle()
    got = wait.look()
    assert (len(got.files), got.lost, got.waiting) == (1, {}, 0), "the other one came before"
    wait.close()


def test_what_is_only_on_an_absent_file_system_is_waited_for_and_does_not_fail(make_world: MakeWorld) -> None:
    world = followed(make_world, NEARLINE_ONLY)
    away = unmount(world, "nearline")
    wait = world.retrieve(1)
    asked = world.recall.request_study(world.instances(1)[0].study_uid, Priority.ROUTINE, "alice")
    assert asked["readable_now"] == 0
    for _ in range(4):
        world.later()
        got = wait.look()
        assert (got.files, got.lost, got.waiting) == ({}, {}, 2)
    assert [request.state for request in world.requests(kind="recall")] == ["queued"]
    mount(world, "nearline", away)
    world.settle()
    got = wait.look()
    assert (len(got.files), got.lost, got.waiting) == (2, {}, 0)
    assert [request.state for request in world.requests(kind="recall")] == ["done"]
    wait.close()
    world.check()


def test_who_waits_for_a_shelved_cartridge_is_served_when_the_file_system_is_back(
    make_world: MakeWorld,
) -> None:
    world = followed(make_world, BOTH)
    world.custody.export("HSM001L8", "B3", "alice")
    away = unmount(world, "nearline")
    wait = world.retrieve(1)
    world.settle()
    assert world.prompts() == ["HSM001L8"]
    assert wait.look().waiting == 2
    mount(world, "nearline", away)
    got = wait.look()
    assert (len(got.files), got.lost, got.waiting) == (2, {}, 0), "no operator is needed for it any more"
    wait.close()
    world.check()


def test_a_read_error_of_a_package_passes_the_copy_over(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = followed(make_world, BOTH)

    def broken(*_: object) -> NoReturn:
        raise Retryable("read: Input/output error")

    monkeypatch.setattr(world.pools.disks["nearline"].store, "get", broken)
    wait = world.retrieve(1)
    wait.look()
    world.settle()
    got = wait.look()
    assert (len(got.files), got.lost, got.waiting) == (2, {}, 0)
    wait.close()
    assert world.copies(1)["1.p0001", "nearline"] == "suspect", "the file system is there: it is this copy"
    world.check()


def test_a_read_error_of_an_online_file_passes_the_copy_over(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(policies=TWO_TAPES.replace(">= 2", ">= 200"))
    world.store(1, 2)
    world.follow()
    real = os.pread
    broken = os.stat(world.online_file(1, 2)).st_ino

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        if os.fstat(descriptor).st_ino == broken:
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    wait = world.retrieve(1)
    wait.look()
    world.settle()
    got = wait.look()
    assert (len(got.files), got.lost, got.waiting) == (2, {}, 0)
    wait.close()
    assert world.copies(1)["1.p0001", "online"] == "suspect"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
def test_what_is_on_a_full_or_read_only_file_system_is_read(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    world = followed(make_world, BOTH)

    def refuses(*_: object) -> NoReturn:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("drivers.folder.write_all", refuses)
    assert not world.pools.disks["nearline"].store.health().ok
    wait = world.retrieve(1)
    assert len(wait.look().files) == 2
    wait.close()
    assert world.requests(kind="recall") == []
