"""Pure: why a study lacks copies, in an auditor's words."""

from __future__ import annotations

from collections.abc import Sequence

from hsm.catalog.protection import CopyFact, Work
from hsm.guard import GOOD_VOLUMES
from hsm.states import LIVE_REQUESTS, CopyState, RequestState

SHOWN = 3
"""Copies and requests that are told; further ones are counted."""


def why(copies: Sequence[CopyFact], work: Sequence[Work]) -> str:
    """What became of the copies that it has not, and of the work for it."""
    said = [text for copy in copies if (text := _bad(copy))]
    failed = [each for each in work if each.state == RequestState.FAILED]
    said += [
        f"{each.kind} to {each.pool or 'a pool'} failed (request {each.number}): {each.error}"
        for each in failed
    ]
    if not said:
        said.append("no further copy was made yet" if copies else "no copy was ever made")
    return _some(said)


def under_way(work: Sequence[Work]) -> str:
    """What is queued for it; empty when nothing is."""
    live = [each for each in work if each.state in LIVE_REQUESTS]
    return _some([_live(each) for each in live])


def _live(work: Work) -> str:
    what = f"{work.kind} to {work.pool}" if work.pool else work.kind
    about = f": {work.error}" if work.error else ""
    return f"{what} {work.state} (request {work.number}){about}"


def _bad(copy: CopyFact) -> str:
    where = f"on {copy.volume} of {copy.pool}" if copy.pool else f"on {copy.volume}"
    if copy.state != CopyState.VERIFIED:
        return f"the copy {where} is {copy.state}"
    return "" if copy.volume_state in GOOD_VOLUMES else f"{copy.volume} is {copy.volume_state}"


def _some(said: Sequence[str]) -> str:
    kept = list(dict.fromkeys(said))
    more = [f"{len(kept) - SHOWN} more"] if len(kept) > SHOWN else []
    return "; ".join([*kept[:SHOWN], *more])
