"""What is kept by addresses, users and AE titles that others choose has a limit."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hsm import lockout
from hsm.api import doors, shares
from hsm.api.identity import UnixPeer
from hsm.config import LockoutConfig
from hsm.config.access import RolesConfig


def test_a_lock_out_remembers_the_latest_addresses_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockout, "ADDRESSES_MAX", 10)
    rule = LockoutConfig(failures=1, within_seconds=60, lasts_seconds=300, connections_per_second=1)
    found = lockout.Lockout(lambda: 1000.0, rule)
    for number in range(50):
        assert found.failed(f"192.0.2.{number}")
        assert found.refuses(f"198.51.100.{number}") == ""
    assert found.refuses("192.0.2.49") and not found.refuses("192.0.2.0"), "the latest stay out"
    tables = (found._until, cast(Any, found._rate)._left)
    assert [len(each) for each in tables] == [10, 10]


def test_groups_of_users_are_remembered_of_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "USERS_MAX", 5)
    monkeypatch.setattr(doors, "group_names", lambda _uid: frozenset({"radiology"}))
    known = doors.Doors(RolesConfig(groups={"radiology": ["operator"]}))
    for uid in range(1000, 1050):
        peer = cast(UnixPeer, SimpleNamespace(uid=uid, name=f"u{uid}", pid=1))
        assert known.local(peer).roles == {"operator"}
    assert len(known._groups) <= 5


def test_who_has_no_request_under_way_is_not_remembered_by_the_threads() -> None:
    async def many() -> tuple[int, int]:
        lane = shares._Lane(2, 1)
        await asyncio.gather(*(lane.run(f"p{number}", int) for number in range(40)))
        await asyncio.sleep(0)
        return len(lane._turns), len(lane._here)

    assert asyncio.run(many()) == (0, 0)
