"""What is read back next, and what becomes of a damaged copy: decided on values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hsm.fixity import Due, Scrub, Step, next_step, on_shelf, turns
from hsm.guard import CopyFact
from hsm.model import Goal, Place
from hsm.states import CopyState, VolumeState

THEN = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = Scrub(timedelta(days=365))


def due(
    pk: int, copies: int, day: int, place: Place = Place.SLOT, queued: int = 0, usable: bool = True
) -> Due:
    oldest = THEN + timedelta(days=day) if copies else None
    return Due(pk, f"V{pk:03}", place, copies, oldest, queued, usable)


def copy(pk: int, pool: str, state: str = "verified", volume: str = "active") -> CopyFact:
    return CopyFact(pk, pk * 10, pool, CopyState(state), VolumeState(volume))


def test_the_volume_that_waits_longest_is_read_to_its_end_before_the_next_one_is_mounted() -> None:
    volumes = [due(1, 5, 9), due(2, 300, 3), due(3, 5, 1)]
    assert turns(volumes, YEAR) == [(3, 5)], "one drive: one cartridge"
    assert turns(volumes, Scrub(YEAR.every, drives=2)) == [(3, 5), (2, 95)], "a hundred at a time"
    under_way = [due(1, 5, 9), due(2, 205, 3, queued=95), due(3, 0, 0, queued=5)]
    assert turns(under_way, Scrub(YEAR.every, drives=2)) == [], "as many are queued as may be"
    half_done = [due(1, 5, 9), due(2, 205, 3, queued=40), due(3, 0, 0)]
    assert turns(half_done, YEAR) == [(2, 60)], "the cartridge that is at it goes on"


def test_disks_are_read_by_age_alone_and_as_many_as_there_are() -> None:
    volumes = [due(1, 40, 2, Place.MOUNTED), due(2, 500, 1, Place.MOUNTED), due(3, 9, 0, Place.MOUNTED)]
    assert turns(volumes, YEAR) == [(3, 9), (2, 91)]


@pytest.mark.parametrize("place", [Place.SHELF, Place.UNKNOWN])
def test_nobody_is_asked_for_what_is_on_a_shelf_unless_that_is_wanted(place: Place) -> None:
    volumes = [due(1, 5, 0, place), due(2, 5, 1)]
    assert turns(volumes, YEAR) == [(2, 5)]
    asks = Scrub(YEAR.every, ask=True)
    assert turns(volumes, asks) == ([(1, 5)] if place is Place.SHELF else [(2, 5)])
    assert [each.name for each in on_shelf(volumes)] == ["V001"]


def test_volumes_that_are_suspect_or_being_emptied_are_left_alone() -> None:
    assert turns([due(1, 5, 0, usable=False), due(2, 5, 1)], YEAR) == [(2, 5)]


def test_a_cartridge_is_due_soon_some_weeks_before_its_year_is_over() -> None:
    now = THEN + timedelta(days=365)
    assert YEAR.due_before(now) == THEN
    assert timedelta(days=45) < YEAR.soon_before(now) - THEN < timedelta(days=46)


@pytest.mark.parametrize("bad", [{"every": timedelta(0)}, {"drives": 0}, {"at_once": 0}])
def test_a_scrub_that_reads_nothing_or_all_the_time_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="scrub"):
        Scrub(**({"every": timedelta(days=1)} | bad))  # type: ignore[arg-type]


def test_a_damaged_copy_is_replaced_where_it_lies_whatever_else_is_damaged() -> None:
    bad = copy(1, "nas", "suspect")
    facts = [bad, copy(2, "s3", "suspect"), copy(3, "tape")]
    goals = [Goal("nas", 1), Goal("s3", 1), Goal("tape", 1)]
    assert next_step(bad, facts, goals, in_place=True) is Step.REPLACE
    assert next_step(bad, facts, goals, in_place=True, under_way=True) is Step.WAIT
    assert next_step(bad, facts, goals, in_place=True, failed=True) is Step.STUCK


@pytest.mark.parametrize("state", ["suspect", "written", "releasing", "lost"])
def test_without_a_verified_copy_elsewhere_nothing_is_touched(state: str) -> None:
    bad = copy(1, "nas", "suspect")
    assert next_step(bad, [bad, copy(2, "tape", state)], [], in_place=True) is Step.HOPELESS
    on_bad_volume = copy(3, "tape", "verified", "suspect")
    assert next_step(bad, [bad, on_bad_volume], [], in_place=True) is Step.HOPELESS


def test_on_tape_another_copy_is_made_first_and_then_the_damaged_one_goes() -> None:
    bad = copy(1, "tape", "suspect")
    two = [Goal("tape", 2)]
    assert next_step(bad, [bad, copy(2, "nas")], [], in_place=False) is Step.COPY
    assert next_step(bad, [bad, copy(2, "tape")], two, in_place=False) is Step.COPY
    assert next_step(bad, [bad, copy(2, "tape"), copy(3, "tape")], two, in_place=False) is Step.LET_GO
    of_group = [Goal("any tape", 2, ("tape", "vault"))]
    assert next_step(bad, [bad, copy(2, "tape")], of_group, in_place=False) is Step.COPY
    assert next_step(bad, [bad, copy(2, "tape"), copy(3, "vault")], of_group, in_place=False) is Step.LET_GO


def test_what_lies_on_a_cartridge_that_is_suspect_itself_stays_until_that_is_repacked() -> None:
    bad = copy(1, "tape", "suspect", "suspect")
    assert next_step(bad, [bad, copy(2, "tape")], [Goal("tape", 1)], in_place=False) is Step.WAIT
