"""Which copy a recall or a verification is read from. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hsm.availability import quickest, why_none
from hsm.catalog import details
from hsm.catalog.orders import Order
from hsm.model import CopyAt, Place
from hsm.states import CopyState, RequestKind, VolumeState

TROUBLE_MAX = 3
"""How often a copy may fail to be read for one recall before another one is tried."""


def source(order: Order, held: Sequence[CopyAt], stuck: Collection[str] = ()) -> CopyAt | None:
    """The copy to read for a recall or a verification; None when there is none.

    A recall reads no copy twice that gave wrong bytes, and leaves one that fails otherwise, or that is
    stuck in a drive, for another.
    """
    if order.kind is RequestKind.VERIFY:
        mine = next((copy for copy in held if copy.volume_pk == order.volume_pk), None)
        return mine if mine is not None and mine.place is not Place.UNKNOWN else None
    smooth, left = _left(order, held, stuck)
    return quickest(smooth) or quickest(left)


def equals(order: Order, held: Sequence[CopyAt], copy: CopyAt, stuck: Collection[str] = ()) -> list[CopyAt]:
    """The good copies that are as quick to reach as this one, itself first: all that a robot can load, or all
    that a person must fetch. A suspect one, or one to verify, is like no other; one that gave trouble is not
    taken for another."""
    good = copy.state != CopyState.SUSPECT and copy.volume_state != VolumeState.SUSPECT
    smooth, _ = _left(order, held, stuck)
    if order.kind is RequestKind.VERIFY or not good or copy not in smooth:
        return [copy]
    shelf, trouble = copy.place is Place.SHELF, order.detail.get(details.TROUBLE, {})
    others = [
        each
        for each in smooth
        if each is not copy
        and str(each.copy_pk) not in trouble
        and (found := quickest([each])) is not None
        and found.state != CopyState.SUSPECT
        and found.volume_state != VolumeState.SUSPECT
        and (found.place is Place.SHELF) is shelf
    ]
    return [copy, *others]


def _left(order: Order, held: Sequence[CopyAt], stuck: Collection[str]) -> tuple[list[CopyAt], list[CopyAt]]:
    """What may be tried for a recall: the copies that give no trouble, and all."""
    tried, trouble = order.detail.get(details.TRIED, []), order.detail.get(details.TROUBLE, {})
    left = [copy for copy in held if copy.place is not Place.MOUNTED and copy.copy_pk not in tried]
    left = _as_operators_said(left, order)
    smooth = [
        copy
        for copy in left
        if trouble.get(str(copy.copy_pk), 0) < TROUBLE_MAX and copy.volume_name not in stuck
    ]
    return smooth, left


def _as_operators_said(left: Sequence[CopyAt], order: Order) -> list[CopyAt]:
    """What a person brings instead, else all but what could not be brought; everything where that leaves
    nothing that can be read."""
    passed = order.detail.get(details.PASSED, [])
    shelf = (Place.SHELF, Place.UNKNOWN)
    preferred = [copy for copy in left if copy.volume_name == order.detail.get(details.PREFERRED)]
    others = [copy for copy in left if copy.volume_name not in passed or copy.place not in shelf]
    for some in (preferred, others):
        if quickest(some) is not None:
            return some
    return list(left)


def why_no_source(order: Order, held: Sequence[CopyAt]) -> str:
    """In words for a human: why :func:`source` found nothing."""
    if order.kind is RequestKind.VERIFY:
        lost = next((copy.volume_name for copy in held if copy.volume_pk == order.volume_pk), None)
        return f"nobody knows where {lost} is" if lost else "the copy to verify is not there any more"
    return why_none(held, order.detail.get(details.TRIED, []))


def colder(copy: CopyAt | None, cold: Sequence[CopyAt]) -> CopyAt | None:
    """The cold copy to ask for; None where there is none, or a good one in a library is quicker."""
    if copy is not None and copy.place is not Place.SHELF and copy.state != CopyState.SUSPECT:
        return None
    return min(cold, key=lambda each: each.copy_pk, default=None)
