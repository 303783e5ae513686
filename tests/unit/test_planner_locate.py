"""The order in which the packages of one tape are read, and what moving the head is taken to cost."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.bench import recall
from hsm.planner import Extent, best_order, model_of, path_cost, tape_cost
from hsm.planner.locate import EXACT_MAX, exact_order
from policies.whatif.tape import LTO8, LTO9

GB = 1_000_000_000


def extents_at(*starts: int, size: int = 1) -> list[Extent]:
    return [Extent(start, start + size) for start in starts]


def along(start: int, end: int) -> float:
    return float(abs(end - start))


def total(extents: list[Extent], order: tuple[int, ...], cost: recall.LocateCost, at: int = 0) -> float:
    return path_cost([extents[index] for index in order], at, cost)


@given(st.lists(st.integers(0, 1000), max_size=6), st.integers(0, 1000), st.integers(0, 2**32))
def test_a_few_packages_are_read_in_the_cheapest_order_of_all(starts: list[int], at: int, seed: int) -> None:
    random_costs: dict[tuple[int, int], float] = {}
    rng = random.Random(seed)

    def cost(start: int, end: int) -> float:
        return random_costs.setdefault((start, end), rng.random())

    extents = extents_at(*starts)
    every = itertools.permutations(range(len(extents)))
    best = min(total(extents, order, cost, at) for order in every)
    assert total(extents, best_order(extents, at, cost), cost, at) == pytest.approx(best)


@given(st.lists(st.integers(0, 10**6), min_size=EXACT_MAX + 1, max_size=40), st.integers(0, 2**32))
def test_many_packages_never_cost_more_than_as_they_were_asked_for(starts: list[int], seed: int) -> None:
    rng = random.Random(seed)
    table = [rng.random() for _ in range(997)]

    def cost(start: int, end: int) -> float:
        return table[(start * 31 + end) % 997]

    extents = extents_at(*starts)
    order = best_order(extents, 0, cost)
    assert sorted(order) == list(range(len(extents)))
    given_order = tuple(range(len(extents)))
    assert total(extents, order, cost) <= total(extents, given_order, cost) + 1e-9
    assert order == best_order(extents, 0, cost), "the same question has the same answer"


def test_packages_in_a_row_are_read_in_a_row_whatever_the_order_of_asking() -> None:
    size = 2 * GB
    row = [Extent(start * size, (start + 1) * size) for start in range(88, 112)]  # on one wrap
    mixed = random.Random(3).sample(row, len(row))
    cost = tape_cost(LTO8)
    order = best_order(mixed, 0, cost)
    assert [mixed[index] for index in order] == row
    assert path_cost(row[1:], row[0].end, cost) == 0.0, "the next file in sequence costs nothing"


def test_a_small_gap_ahead_is_run_over_and_the_same_gap_behind_is_not() -> None:
    cost = tape_cost(LTO8)
    at = 3 * GB
    assert cost(at, at + 36_000_000) == pytest.approx(0.1), "36 MB at 360 MB/s"
    assert cost(at + 36_000_000, at) > 10, "a step back"
    assert cost(at, at + 50 * GB) < 50 * GB / 360e6, "far ahead a locate is quicker than running on"


def test_positions_may_be_blocks_of_any_size() -> None:
    in_bytes, in_blocks = tape_cost(LTO9), tape_cost(LTO9, 256 * 1024)
    for start, end in ((0, 5_000_000), (70_000, 69_000), (1_000, 1_000)):
        assert in_blocks(start, end) == in_bytes(start * 262_144, end * 262_144)
    with pytest.raises(ValueError, match="0 bytes in a position"):
        tape_cost(LTO8, 0)


@pytest.mark.parametrize(
    ("barcode", "name"), [("HSM001L8", "LTO-8"), ("HSM001L9", "LTO-9"), ("HSM001L7", "LTO-7"), ("X", "LTO-8")]
)
def test_a_barcode_says_what_sort_of_tape_it_is(barcode: str, name: str) -> None:
    assert model_of(barcode).name == name
    assert model_of(barcode, 64_000_000).volume_bytes == 64_000_000


def test_an_extent_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="from 5 to 4"):
        Extent(5, 4)


def test_half_the_locating_of_block_order_is_saved_at_sixteen_and_sixty_four_packages() -> None:
    """The product's promise, on a small sample; `hsm bench recall` has the large one."""
    rng = random.Random(11)
    for files in (16, 64):
        spent = {"by block": 0.0, "hsm": 0.0}
        for _ in range(12):
            tape = recall.scattered(LTO8, files, rng)
            for name in spent:
                spent[name] += tape.seconds(recall.ORDERS[name])[0]
        assert spent["hsm"] * 2 < spent["by block"]


def test_ours_is_within_a_tenth_of_the_best_order_where_that_can_be_found() -> None:
    rng = random.Random(12)
    for _ in range(5):
        tape = recall.scattered(LTO9, EXACT_MAX + 2, rng)
        extents = list(tape.extents)
        best = total(extents, exact_order(extents, 0, tape.believed), tape.believed)
        assert tape.seconds(recall.ours)[0] <= 1.1 * best
