"""In which order the packages of one tape are read: least time spent in getting from one to the next.

Getting there costs what the head has to travel along the tape, what it has to change (wrap, direction), and
nothing where one package follows on the other: an asymmetric travelling salesman's path with a given
beginning. Up to :data:`EXACT_MAX` packages the best order is found, beyond that a good one (the shortest next
step, then runs of up to three packages moved to where they cost less until nothing gets better), and it never
costs more than the order that was given. Pure and deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

LocateCost = Callable[[int, int], float]
"""What it costs, in seconds or any unit, to get from one position to another; not below zero."""

EXACT_MAX = 9
"""Held and Karp's way takes n² 2ⁿ steps: some 50,000 here, a twentieth of a second."""
RUN_MAX = 3
ROUNDS_MAX = 50
_LEAST_GAIN = 1e-9

_Ways = dict[tuple[int, int], tuple[float, tuple[int, ...]]]
"""By the set of packages read (bits) and the last of them: the cheapest way there, its cost before it."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Where one package lies, in positions of its volume: reading it takes the head from one to the other."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"an extent from {self.start} to {self.end}")


def best_order(extents: Sequence[Extent], at: int, cost: LocateCost) -> tuple[int, ...]:
    """Indices of ``extents`` in the order to read them, the head being at position ``at``."""
    costs = _Costs(extents, at, cost)
    given = list(range(len(extents)))
    if len(extents) <= EXACT_MAX:
        return _exact(costs, len(extents))
    found = _improved(_nearest(costs, len(extents)), costs)
    return tuple(found if costs.of(found) < costs.of(given) else given)


def nearest_order(extents: Sequence[Extent], at: int, cost: LocateCost) -> tuple[int, ...]:
    """Always the nearest next: where :func:`best_order` begins, and for measuring it."""
    return tuple(_nearest(_Costs(extents, at, cost), len(extents)))


def exact_order(extents: Sequence[Extent], at: int, cost: LocateCost) -> tuple[int, ...]:
    """The cheapest order there is, by Held and Karp. Memory and time double with every package: for the few
    of :data:`EXACT_MAX`, and for measuring others by it."""
    return _exact(_Costs(extents, at, cost), len(extents))


def path_cost(extents: Sequence[Extent], at: int, cost: LocateCost) -> float:
    """What reading ``extents`` in the order given spends on locating."""
    total = 0.0
    for extent in extents:
        total += cost(at, extent.start)
        at = extent.end
    return total


class _Costs:
    """Every step once: ``step[i + 1][j]`` leads from the end of ``i`` to the start of ``j``, ``step[0]`` from
    the beginning."""

    def __init__(self, extents: Sequence[Extent], at: int, cost: LocateCost) -> None:
        self.step = [[cost(at, extent.start) for extent in extents]]
        self.step += [
            [cost(one.end, other.start) if one is not other else 0.0 for other in extents] for one in extents
        ]

    def of(self, order: Sequence[int]) -> float:
        return self.step[0][order[0]] + sum(self.step[i + 1][j] for i, j in pairwise(order)) if order else 0.0


def _nearest(costs: _Costs, count: int) -> list[int]:
    left, order, row = list(range(count)), list[int](), costs.step[0]
    while left:
        nearest = min(left, key=row.__getitem__)
        left.remove(nearest)
        order.append(nearest)
        row = costs.step[nearest + 1]
    return order


def _exact(costs: _Costs, count: int) -> tuple[int, ...]:
    """The cheapest order, by the cheapest way to each set of packages that ends in each of them."""
    best: _Ways = {(1 << last, last): (costs.step[0][last], (last,)) for last in range(count)}
    for _ in range(count - 1):
        longer: _Ways = {}
        for (been, last), (spent, way) in best.items():
            row = costs.step[last + 1]
            for following in range(count):
                if been >> following & 1:
                    continue
                key = (been | 1 << following, following)
                known = longer.get(key)
                if known is None or spent + row[following] < known[0]:
                    longer[key] = (spent + row[following], (*way, following))
        best = longer
    return min(best.values())[1] if count else ()


def _improved(order: list[int], costs: _Costs) -> list[int]:
    """Move runs of packages, in their order, to where they cost less, until none does."""
    for _ in range(ROUNDS_MAX):
        gained = False
        for length in range(1, RUN_MAX + 1):
            for begin in range(len(order) - length + 1):
                better = _moved(order, begin, length, costs.step)
                if better is not None:
                    order, gained = better, True
        if not gained:
            break
    return order


def _moved(order: list[int], begin: int, length: int, step: list[list[float]]) -> list[int] | None:
    """The order with the run elsewhere, if that costs less."""
    run, rest = order[begin : begin + length], order[:begin] + order[begin + length :]
    first, after_run = run[0], step[run[-1] + 1]

    def joint(place: int) -> float:
        """What the run costs more between ``rest[place - 1]`` and ``rest[place]``."""
        before = step[rest[place - 1] + 1] if place else step[0]
        if place == len(rest):
            return before[first]
        return before[first] + after_run[rest[place]] - before[rest[place]]

    target = min(range(len(rest) + 1), key=joint)
    if joint(target) < joint(begin) - _LEAST_GAIN:
        return [*rest[:target], *run, *rest[target:]]
    return None
