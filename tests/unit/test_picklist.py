"""Walks: what to carry at once, in which order, and where to put it."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.operators.picklist import Doors, Wanted, pick, shelf_order

AT = datetime(2026, 3, 1, 2, tzinfo=UTC)


def wanted(
    number: int, shelf: str = "A1", *, priority: int = 10, library: str = "lib", site: str = "", age: int = 0
) -> Wanted:
    since = AT - timedelta(minutes=age)
    return Wanted(number, f"HSM{number:03}L8", library, site, shelf, priority, since)


def barcodes(walks: object) -> list[list[str]]:
    return [[item.wanted.barcode for item in walk.items] for walk in walks]  # type: ignore[attr-defined]


def test_shelf_b3_comes_before_b10_and_an_unknown_one_last() -> None:
    shelves = ["B10", "", "b3", "A2", "B3 left"]
    assert sorted(shelves, key=shelf_order) == ["A2", "b3", "B3 left", "B10", ""]


def test_a_walk_carries_no_more_than_there_is_room_for_and_the_urgent_first() -> None:
    asked = [wanted(1, "A1"), wanted(2, "B2", priority=0), wanted(3, "C3", age=5), wanted(4, "D4")]
    walks = pick(asked, [Doors("lib", ("mail slot 101", "mail slot 102"), 2)])
    assert barcodes(walks) == [["HSM002L8", "HSM003L8"], ["HSM001L8", "HSM004L8"]]


def test_the_way_of_a_walk_is_along_the_shelves_and_other_sites_come_last() -> None:
    asked = [wanted(1, "B10"), wanted(2, "A1", site="vault"), wanted(3, "B3"), wanted(4, "B3", priority=0)]
    (walk,) = pick(asked, [Doors("lib", tuple("abcd"), 4)])
    assert [(stop.site, stop.shelf, len(stop.items)) for stop in walk.stops] == [
        ("", "B3", 2),
        ("", "B10", 1),
        ("vault", "A1", 1),
    ]


def test_the_most_urgent_gets_the_first_door_wherever_its_shelf_is() -> None:
    asked = [wanted(1, "A1"), wanted(2, "Z9", priority=0)]
    (walk,) = pick(asked, [Doors("lib", ("mail slot 101", "mail slot 102"), 2)])
    assert {item.wanted.barcode: item.into for item in walk.items} == {
        "HSM002L8": "mail slot 101",
        "HSM001L8": "mail slot 102",
    }


def test_where_every_door_is_taken_the_walk_is_made_all_the_same() -> None:
    (walk,) = pick([wanted(1)], [Doors("lib", (), 2)])
    assert [item.into for item in walk.items] == [""]


def test_libraries_fill_their_own_doors() -> None:
    asked = [wanted(1, library="a"), wanted(2, library="a"), wanted(3, library="b")]
    walks = pick(asked, [Doors("a", ("drive 1",), 1), Doors("b", ("drive 9",), 1)])
    assert barcodes(walks) == [["HSM001L8", "HSM003L8"], ["HSM002L8"]]


def test_more_free_doors_than_doors_is_refused() -> None:
    with pytest.raises(ValueError, match="2 of 1 are free"):
        Doors("lib", ("a", "b"), 1)


@given(
    st.lists(
        st.tuples(st.sampled_from(["A1", "A10", "B2", ""]), st.integers(0, 40), st.sampled_from("ab")),
        max_size=20,
    ),
    st.integers(0, 4),
)
def test_every_walk_fits_nothing_is_carried_twice_and_none_less_urgent_goes_first(
    asked: list[tuple[str, int, str]], free: int
) -> None:
    every = [
        wanted(number, shelf, priority=priority, library=library)
        for number, (shelf, priority, library) in enumerate(asked)
    ]
    doors = [Doors(library, tuple(f"m{n}" for n in range(free)), 4) for library in "ab"]
    walks = pick(every, doors, walks_max=50)
    carried = [item.wanted for walk in walks for item in walk.items]
    assert sorted(each.prompt for each in carried) == [each.prompt for each in every]
    for library in "ab":
        loads = [[i.wanted for i in walk.items if i.wanted.library == library] for walk in walks]
        assert all(len(load) <= 4 for load in loads)
        if free and loads:
            assert len(loads[0]) <= free
        for sooner, later in itertools.pairwise(loads):
            assert not later or max(w.priority for w in sooner) <= min(w.priority for w in later)
    assert walks == pick(reversed(every), doors, walks_max=50)
