"""The arithmetic of plans: runs in a night, cartridges, mounts, hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from hsm.catalog.outlook import Room
from hsm.model import Tier
from hsm.policyrun.tapes import LOCATE_SECONDS, MOUNT_SECONDS, TAPE_BYTES_PER_SECOND, Need, tape_plans
from hsm.pools import LibraryPool, Pools
from policies import load_texts
from policies.fires import fires_between, open_between

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
POLICY = "policy: p\npriority: 1\nrules: [{{name: r, copy to: tape, when: always}}]\nschedule: {}\n"
GB = 10**9


@pytest.mark.parametrize(
    ("schedule", "hours", "expected"),
    [
        ("every 1 hour", 24, (24, 24.0)),
        ("{every: 1 hour, between: 20:00 and 06:00}", 24, (10, 10.0)),
        ("{every: 1 hour, between: 20:00 and 06:00}", 9, (1, 1.0)),
        ("{every: 1 hour, between: 20:00 and 06:00}", 8, (0, 0.0)),
        ("{every: 1 hour, not on: [thu]}", 24, (12, 12.0)),
        ("cron 0 2 * * *", 24, (1, 24.0)),
        ("cron 0 2 * * *", 14, (0, 14.0)),
        ("cron 0 */6 * * *", 24, (4, 24.0)),
        ("{cron: 30 * * * *, between: 20:00 and 06:00}", 24, (10, 10.0)),
    ],
)
def test_runs_of_a_night_are_counted_in_its_windows(
    schedule: str, hours: float, expected: tuple[int, float]
) -> None:
    (policy,) = load_texts({"p.yaml": POLICY.format(schedule)}, ["tape"]).policies
    until = NOON + timedelta(hours=hours)
    opened = open_between(policy.schedule, NOON, until)
    assert (fires_between(policy.schedule, NOON, until), opened / timedelta(hours=1)) == expected


class _Drives:
    def __init__(self, count: int) -> None:
        self._count = count

    def inventory(self) -> Any:
        return self

    def drives(self) -> list[int]:
        return list(range(self._count))


def pools(drives: int = 2) -> Pools:
    tapes = {name: LibraryPool(name, Tier.OFFLINE, "library") for name in ("a", "b")}
    return Pools({}, tapes, cast(Any, {"library": _Drives(drives)}))


def room(name: str, pool: str | None, free: int, capacity: int = 1000 * GB) -> Room:
    return Room(name, pool, "library", capacity, free)


def needs(size: int, copies: int = 1) -> Need:
    need = Need()
    need.add(size, copies)
    return need


def test_what_is_begun_is_filled_before_blank_cartridges_are_taken() -> None:
    rooms = [room("T1", "a", 100 * GB), room("T2", "a", 500 * GB), room("T3", None, 1000 * GB)]
    plan, other = tape_plans(rooms, pools(), {"a": needs(600 * GB)}, set())
    assert plan.volumes == {"T1": 95 * GB, "T2": 475 * GB, "T3": 30 * GB}
    assert (plan.cartridges, plan.missing, plan.scratch_left, plan.mounts) == (1, 0, 0, 3)
    assert (other.bytes, other.volumes, other.warning) == (0, {}, "")


def test_cartridges_that_the_library_has_not_are_missing() -> None:
    plan, other = tape_plans([room("T3", None, GB)], pools(), {"a": needs(1950 * GB), "b": needs(5)}, set())
    assert (plan.cartridges, plan.missing) == (2, 1)
    assert other.missing == 1, "the one that there was is given away"
    assert "1 blank cartridges are missing in library" in other.warning


def test_two_copies_of_little_need_two_cartridges() -> None:
    rooms = [room(f"T{number}", None, GB) for number in range(3)]
    plan = tape_plans(rooms, pools(), {"a": needs(10, copies=2)}, set())[0]
    assert (plan.cartridges, plan.mounts, plan.scratch_left) == (2, 2, 1)
    assert sum(plan.volumes.values()) == 20


@pytest.mark.parametrize("drives", [1, 4])
def test_hours_count_reading_back_mounts_and_what_must_be_fetched(drives: int) -> None:
    rooms = [room("T1", "a", 1000 * GB)]
    plan = tape_plans(rooms, pools(drives), {"a": needs(300 * GB)}, {"X1", "X2"})[0]
    assert plan.mounts == 3
    seconds = 2 * 300 * GB / TAPE_BYTES_PER_SECOND + 3 * (MOUNT_SECONDS + LOCATE_SECONDS)
    assert plan.seconds == pytest.approx(seconds / drives)
