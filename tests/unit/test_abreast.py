"""Volumes that are read at the same time: whose turn it is, and when all of them are through."""

from __future__ import annotations

import threading

import pytest

from hsm.offlinemedia import sentence
from hsm.rebuild.abreast import Abreast, Noted, Stopped
from hsm.rebuild.board import Board, left_for_all
from hsm.rebuild.sidebyside import Lane, side_by_side
from hsm.rebuild.values import Progress, Standing

GOOD, OTHER, UNNOTED = Noted(10, b"g" * 32), Noted(10, b"o" * 32), Noted(10, None)


def two(first: dict[str, Noted], second: dict[str, Noted]) -> Abreast:
    abreast = Abreast()
    for number, packages in ((1, first), (2, second)):
        abreast.announce(number)
        abreast.listed(number, packages)
    return abreast


def begins(abreast: Abreast, number: int, package: str, noted: Noted) -> bool:
    return abreast.begin(number, package, noted, wait=False)


def test_of_two_equal_volumes_each_gives_what_the_other_one_does_not() -> None:
    both = {"1.p0001": GOOD, "2.p0001": GOOD}
    abreast = two(both, both)
    assert begins(abreast, 1, "1.p0001", GOOD)
    assert not begins(abreast, 2, "1.p0001", GOOD), "the first one is at it"
    assert begins(abreast, 2, "2.p0001", GOOD)
    assert not begins(abreast, 1, "2.p0001", GOOD)
    abreast.end(2, "2.p0001", GOOD)
    abreast.end(1, "1.p0001", GOOD)
    assert begins(abreast, 2, "1.p0001", GOOD) and begins(abreast, 1, "2.p0001", GOOD)


@pytest.mark.parametrize("noted", [OTHER, UNNOTED])
def test_where_the_indexes_do_not_agree_the_first_volume_is_heard_first(noted: Noted) -> None:
    abreast = two({"1.p0001": GOOD}, {"1.p0001": noted, "1.p0002": GOOD, "2.p0001": GOOD})
    assert not begins(abreast, 2, "1.p0001", noted)
    assert not begins(abreast, 2, "1.p0002", GOOD), "what the study begins with is not known yet"
    assert begins(abreast, 2, "2.p0001", GOOD)
    assert begins(abreast, 1, "1.p0001", GOOD)
    abreast.end(1, "1.p0001", GOOD)
    assert begins(abreast, 2, "1.p0001", noted)


def test_what_the_second_volume_could_not_give_is_still_asked_of_the_first() -> None:
    both = {"1.p0001": GOOD, "1.p0002": GOOD}
    abreast = two(both, both)
    assert not begins(abreast, 2, "1.p0002", GOOD)
    assert begins(abreast, 2, "1.p0001", GOOD)
    abreast.end(2, "1.p0001", None)
    assert not begins(abreast, 2, "1.p0002", GOOD), "the study's first package comes first"
    assert begins(abreast, 1, "1.p0001", GOOD)
    abreast.end(1, "1.p0001", GOOD)
    assert begins(abreast, 2, "1.p0002", GOOD)


def test_nobody_waits_for_a_volume_that_has_ended_and_all_end_when_one_stops() -> None:
    abreast = two({"1.p0001": OTHER}, {"1.p0001": GOOD})
    went: list[bool] = []
    thread = threading.Thread(
        target=lambda: went.append(abreast.begin(2, "1.p0001", GOOD, wait=True)), daemon=True
    )
    thread.start()
    abreast.over(1)
    thread.join(10)
    assert went == [True]
    abreast.stop()
    with pytest.raises(Stopped):
        abreast.begin(2, "2.p0001", GOOD, wait=True)


def test_lanes_begin_in_order_and_what_one_raises_ends_all() -> None:
    begun: list[int] = []
    gate = threading.Barrier(2, timeout=10)
    stopped = threading.Event()

    def act(item: int) -> None:
        gate.wait()  # passes only while two are under way
        if item == 4:
            raise KeyError(item)
        if item == 3:
            assert stopped.wait(10)

    with pytest.raises(KeyError):
        side_by_side([Lane([1, 2, 3, 4, 5, 6], 2)], 2, begun.append, act, stopped.set)
    assert begun == [1, 2, 3, 4]


def test_what_is_left_is_reckoned_over_all_drives() -> None:
    assert left_for_all([100.0, 40.0], 3, 60.0, 2) == 160.0
    assert left_for_all([100.0], 0, None, 2) == 100.0
    assert left_for_all([], 2, None, 2) is None, "nobody knows"
    assert left_for_all([], 4, 60.0, 2) == 120.0


def test_the_board_says_what_is_under_way_and_when_all_is_through() -> None:
    now, said = [0.0], list[Standing]()
    board = Board(said.append, lambda: now[0])
    board.expect(5, 2)
    board.begin("T1", 1, 5)
    board.begin("T2", 2, 5)
    assert said[-1].left_seconds is None
    now[0] = 50.0
    board.progress(Progress("T1", 1, 5, 10, 20, 50.0))
    assert sentence(said[-1]) == (
        "T1 (1 of 5 volumes): 10 of 20 packages, about 50 s left for this volume; "
        "T2 (2 of 5 volumes): nothing of it seen yet; these and 3 more: about 4 min"
    )
    now[0] = 100.0
    board.end(1)
    board.end(2, counts=False)
    board.begin("T3", 3, 5)
    assert said[-1].left_seconds == 200.0, "three more, 100 s each, on two drives"
