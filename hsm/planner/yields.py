"""Whether a session stops between two packages: its drive is needed for something more urgent. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from hsm.model import Priority
from hsm.planner.values import DriveAt, Plan, Running, Situation, VolumeAt, Work

Decide = Callable[[Sequence[Work], Sequence[VolumeAt], Sequence[DriveAt], datetime], Plan]
"""The planner with everything that does not change from one look to the next filled in."""


@dataclass(frozen=True, slots=True)
class Yield:
    """What a session makes room for."""

    barcode: str
    """The volume that the drive is needed for; it may be the one that is in it."""
    request_pks: tuple[int, ...]
    """The more urgent requests, the first of them first."""
    why: str


def may_matter(left: Sequence[Work], waiting: Sequence[Work]) -> list[Work]:
    """Of what waits that which is of a more urgent class than everything the session has left: a cheap look
    before :func:`yields_to`. Work of the same class waits for the session's end."""
    most_urgent = min((each.priority for each in left), default=Priority.STAT)
    return [each for each in waiting if each.priority < most_urgent]


def yields_to(running: Running, at: Situation, decide: Decide) -> Yield | None:
    """Plan as if the session's drive were idle and what it has left were queued again: when the drive would
    then do something of a more urgent class first, the session makes room for it. None: it goes on.

    :param running: the session; what it has not begun yet is left of it.
    :param at: what waits, and all drives as they are.
    """
    left, drive, barcode = running.left, running.drive, running.barcode
    urgent = {each.request_pk for each in may_matter(left, at.work)}
    if not urgent or not left:
        return None
    bound = [each if each.volume is not None else replace(each, volume=barcode) for each in left]
    here = (drive.library, drive.address)
    free = [
        replace(each, holds=barcode, busy=False) if (each.library, each.address) == here else each
        for each in at.drives
    ]
    plan = decide([*at.work, *bound], at.volumes, free, at.now)
    session = next((each for each in plan.sessions if (each.drive.library, each.drive.address) == here), None)
    first = tuple(pk for pk in session.work if pk in urgent) if session is not None else ()
    if session is None or not first:
        return None
    return Yield(
        session.barcode, first, f"{session.barcode} is needed in drive {drive.address}: {session.why}"
    )
