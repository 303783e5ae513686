"""Whose turn it is where the general order is not the answer: what is overdue beside an endless row of stat
recalls, and drives that are kept free for recalls. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from hsm.model import Priority
from hsm.planner.order import due, urgency
from hsm.planner.values import DriveAt, VolumeAt, Work


def is_background(work: Iterable[Work]) -> bool:
    """Whether nobody waits for any of it: migration, prefetch, bulk and scrub."""
    return all(each.priority > Priority.ROUTINE for each in work)


def its_turn(
    work: Sequence[Work],
    volumes: Mapping[str, VolumeAt],
    drives: Sequence[DriveAt],
    homes: Mapping[str, str],
    now: datetime,
) -> frozenset[int]:
    """Requests that go before stat recalls, each for one package: in a library where stat recalls wait and
    one of whose idle drives did a stat recall last, the one that is overdue longest.

    Stat recalls always go first otherwise; so they and what has waited past its patience take turns, and
    neither waits for more than one package of the other.
    """
    found: set[int] = set()
    for library in sorted({each.library for each in drives if _did_stat(each)}):
        here = [each for each in work if _in(each, library, volumes, homes)]
        stat = any(each.priority <= Priority.STAT for each in here)
        overdue = [each for each in here if each.priority > Priority.STAT and due(each) <= now]
        if stat and overdue:
            found.add(min(overdue, key=urgency).request_pk)
    return frozenset(found)


def background_drives(drives: Iterable[DriveAt], library: str, reserved: int) -> int:
    """How many more drives of a library work may take that nobody waits for; one may always work."""
    mine = [each for each in drives if each.library == library and each.in_service]
    running = sum(
        each.busy and each.priority is not None and each.priority > Priority.ROUTINE for each in mine
    )
    return max(1, len(mine) - reserved) - running


def _did_stat(drive: DriveAt) -> bool:
    idle = drive.in_service and not drive.busy
    return idle and drive.priority is not None and drive.priority <= Priority.STAT


def _in(work: Work, library: str, volumes: Mapping[str, VolumeAt], homes: Mapping[str, str]) -> bool:
    """Whether a drive of the library could do it."""
    if work.volume is None:
        return homes.get(work.pool) in (None, library)
    volume = volumes.get(work.volume)
    return volume is not None and volume.in_library and volume.library == library
