"""How available packages are, from where their copies lie."""

from __future__ import annotations

import itertools

import pytest

from hsm.availability import Reach, Room, Standing, availability, by_disks, standing, unsealed, worst
from hsm.model import Availability, CopyAt, Place, Tier

REACH = Reach({"online": Tier.ONLINE, "near": Tier.NEARLINE, "tape": Tier.OFFLINE})
ONLINE, NEARLINE, OFFLINE, UNAVAILABLE = Availability
_KEYS = itertools.count(1)


def copy(
    pool: str, place: Place, state: str = "verified", *, volume: str = "", volume_state: str = "active"
) -> CopyAt:
    return CopyAt(next(_KEYS), 1, 1, volume or pool, pool, state, volume_state, place, "x", None, None, "")


@pytest.mark.parametrize(
    ("pool", "place", "expected"),
    [
        ("online", Place.MOUNTED, ONLINE),
        ("near", Place.MOUNTED, NEARLINE),
        ("tape", Place.SLOT, NEARLINE),
        ("tape", Place.MAIL, NEARLINE),
        ("tape", Place.DRIVE, NEARLINE),
        ("tape", Place.SHELF, OFFLINE),
        ("tape", Place.UNKNOWN, UNAVAILABLE),
        ("near", Place.SHELF, OFFLINE),
        ("gone from the configuration", Place.MOUNTED, UNAVAILABLE),
    ],
)
def test_one_good_copy(pool: str, place: Place, expected: Availability) -> None:
    assert availability([copy(pool, place)], REACH) is expected


@pytest.mark.parametrize("state", ["writing", "releasing", "released", "lost"])
def test_copies_that_are_not_all_there_do_not_count(state: str) -> None:
    assert availability([copy("online", Place.MOUNTED, state)], REACH) is UNAVAILABLE
    assert availability([copy("online", Place.MOUNTED, state), copy("tape", Place.SHELF)], REACH) is OFFLINE


@pytest.mark.parametrize("state", ["lost", "retired"])
def test_copies_on_volumes_that_are_gone_do_not_count(state: str) -> None:
    assert availability([copy("online", Place.MOUNTED, volume_state=state)], REACH) is UNAVAILABLE


def test_what_no_recall_brings_is_read_where_it_lies_or_not_at_all() -> None:
    tape, suspect = copy("tape", Place.SLOT), copy("near", Place.MOUNTED, "suspect")
    assert by_disks([tape, suspect], REACH).availability is NEARLINE, "in good faith"
    assert by_disks([tape], REACH).availability is UNAVAILABLE
    assert standing([tape], REACH).recalled
    assert not standing([tape, copy("near", Place.MOUNTED)], REACH).recalled
    room = Room(package=1000, instance=900)
    assert room.passes(1000, 1000), "kept as a whole"
    assert room.passes(5000, 900)
    assert not room.passes(5000, 901)


def test_no_copies_is_unavailable() -> None:
    assert standing([], REACH) == Standing(UNAVAILABLE)


def test_a_suspect_copy_counts_only_when_nothing_better_is_left() -> None:
    suspect = copy("online", Place.MOUNTED, "suspect")
    assert availability([suspect, copy("tape", Place.SHELF)], REACH) is OFFLINE
    assert availability([suspect], REACH) is ONLINE
    assert availability([suspect, copy("tape", Place.SHELF, volume_state="lost")], REACH) is ONLINE


def test_a_written_copy_can_be_read() -> None:
    assert availability([copy("near", Place.MOUNTED, "written")], REACH) is NEARLINE


def test_the_best_copy_decides_and_names_its_volume_only_if_it_can_be_carried() -> None:
    shelved = copy("tape", Place.SHELF, volume="T00002L8")
    other = copy("tape", Place.SHELF, volume="T00001L8")
    slotted = copy("tape", Place.SLOT, volume="T00003L8")
    disk = copy("near", Place.MOUNTED)
    assert standing([shelved, other], REACH) == Standing(OFFLINE, ("T00002L8",)), "as a recall takes it"
    assert standing([shelved, other, slotted], REACH) == Standing(NEARLINE, ("T00003L8",))
    assert standing([shelved, slotted, disk], REACH) == Standing(NEARLINE)


def test_a_mixed_set_is_as_available_as_its_least_available_part() -> None:
    near, off = Standing(NEARLINE, ("A",)), Standing(OFFLINE, ("B",))
    assert worst([unsealed(REACH), near]) == near
    assert worst([near, off, Standing(OFFLINE, ("A",)), unsealed(REACH)]) == Standing(OFFLINE, ("A", "B"))
    assert worst([near, off]) == off
    assert worst([near, Standing(UNAVAILABLE)]) == Standing(UNAVAILABLE)
    assert worst([]) == Standing(UNAVAILABLE)
