"""Whether a drive is asked for its own order of reading, and what is made of its answer. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hsm.planner.locate import Extent
from hsm.planner.order import after, reading_class
from hsm.planner.values import Work

ASKED_FOR_MORE_THAN = 3
"""Reads. Up to there asking takes longer than a better order could save: ours is the best by the model."""

Ask = Callable[[Sequence[Extent]], Sequence[int] | None]
"""Asks the drive: indices of the extents in its order; None where it does not say."""


def recommended(reads: Sequence[Work], ask: Ask) -> tuple[int, ...] | None:
    """Requests in the order to read them: stat first, then clinical, then the others, as ours has it; in each
    of these the drive's order, where there are enough of known position. None: ours stays as it is.

    :param reads: in our own order.
    """
    order, asked = list[int](), False
    for group in range(3):
        mine = [each for each in reads if reading_class(each) == group]
        known = [each for each in mine if each.position is not None]
        answer = None
        if len(known) > ASKED_FOR_MORE_THAN:
            answer = ask([_extent(each) for each in known])
        if answer is None or sorted(answer) != list(range(len(known))):
            order += [each.request_pk for each in mine]
            continue
        asked = True
        order += [known[index].request_pk for index in answer]
        order += [each.request_pk for each in mine if each.position is None]
    return tuple(order) if asked else None


def _extent(work: Work) -> Extent:
    start = work.position or 0
    return Extent(start, max(after(work) or 0, start + 1))
