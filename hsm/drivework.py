"""Queued requests as the planner's work: what is read, and from which copy; what is written, and where.

What of the queue needs a drive at all is :mod:`hsm.sight`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from hsm import planner
from hsm.catalog import details, placement, together
from hsm.catalog.orders import Order
from hsm.catalog.together import PATIENT
from hsm.guard import GOOD_VOLUMES
from hsm.model import CopyAt
from hsm.reader import Reader
from hsm.staging import Staging
from hsm.states import CopyState, RequestKind


def reads(
    wanted: Sequence[tuple[Order, int, Sequence[CopyAt]]], at_hand: Collection[str]
) -> list[planner.Work]:
    """What is read, each from the one of its equally quick copies that saves mounts."""
    picked = planner.share_volumes(
        {order.pk: [copy.volume_name for copy in equal] for order, _, equal in wanted}, at_hand
    )
    found = []
    for order, size, equal in wanted:
        copy = next(each for each in equal if each.volume_name == picked[order.pk])
        found.append(
            planner.Work(
                request_pk=order.pk,
                kind="verify" if order.kind is RequestKind.VERIFY else "read",
                volume=copy.volume_name,
                pool=copy.pool,
                priority=order.priority,
                created=order.created_at,
                size=size,
                position=copy.position,
                deadline=order.deadline,
            )
        )
    return found


class Beside:
    """Where copies belong that shall lie beside others (``colocate``), by pool and word."""

    def __init__(self, session: Session, orders: Sequence[Order]) -> None:
        self._patients: dict[str, dict[str, set[str]]] = {}
        self._groups: dict[str, dict[str, tuple[str, ...]]] = {}
        words: dict[str, set[str]] = {}
        for order in orders:
            if order.kind is RequestKind.COPY and order.detail.get(details.TOGETHER):
                words.setdefault(order.pool or "", set()).update(order.detail[details.TOGETHER])
        for pool, found in words.items():
            patients = [word.removeprefix(PATIENT) for word in found if word.startswith(PATIENT)]
            self._patients[pool] = together.volumes_of_patients(session, pool, sorted(patients))
            if together.group_of(found):
                self._groups[pool] = together.groups_of_volumes(session, pool)

    def of(self, order: Order) -> tuple[frozenset[str], frozenset[str], tuple[str, ...]]:
        """Volumes to prefer, volumes to keep off, and the group."""
        words, pool = order.detail.get(details.TOGETHER, ()), order.pool or ""
        group = together.group_of(words)
        groups = self._groups.get(pool, {}) if group else {}
        same = {volume for volume, words_there in groups.items() if words_there == group}
        patient = next((word.removeprefix(PATIENT) for word in words if word.startswith(PATIENT)), None)
        theirs = self._patients.get(pool, {}).get(patient, set()) if patient else set()
        # What counts most decides where the two do not agree.
        first = theirs if words and words[0].startswith(PATIENT) else same
        near = (theirs & same) or first or theirs or same
        return frozenset(near), frozenset(groups.keys() - same), group


def write(
    order: Order,
    size: int,
    held: Sequence[CopyAt],
    volumes: Mapping[int, planner.VolumeAt],
    beside: Beside,
) -> planner.Work:
    """A copy to make: on the volume where an earlier attempt began it, if it can be finished there; else
    wherever there is room, but never on a volume that has the package already."""
    written = next((copy for copy in _begun(order, held, CopyState.WRITTEN)), None)
    begun = next(
        (
            copy
            for copy in _begun(order, held, CopyState.WRITING)
            if (volume := volumes.get(copy.volume_pk)) is not None
            and volume.writable
            and volume.in_library
            and size <= volume.room
        ),
        None,
    )
    to = written or begun
    near, apart, group = beside.of(order) if to is None else (frozenset[str](), frozenset[str](), ())
    return planner.Work(
        request_pk=order.pk,
        # What is written needs only its reading back, and no more room for that.
        kind="verify" if written else "write",
        volume=to.volume_name if to else None,
        pool=order.pool or "",
        priority=order.priority,
        created=order.created_at,
        size=size,
        position=written.position if written else None,
        not_on=frozenset(copy.volume_name for copy in held) if to is None else frozenset(),
        near=near,
        apart=apart,
        group=group,
        not_in=_not_in(order) if written else frozenset(),
    )


def _not_in(order: Order) -> frozenset[tuple[str, int]]:
    """The drive that wrote the copy, where another one shall read it back."""
    written_in = order.detail.get(details.WRITTEN_IN)
    return frozenset({(str(written_in[0]), int(written_in[1]))}) if written_in else frozenset()


def readable_now(
    order: Order, package: placement.PackageRef, held: Sequence[CopyAt], staging: Staging, reader: Reader
) -> bool:
    """Whether a copy can be made without a recall: it is begun and only to be read back, or the bytes are on
    a disk or in the staging area."""
    begun = bool(_begun(order, held, CopyState.WRITTEN))
    return begun or bool(reader.direct_copies(held)) or staging.complete(package.key)


def nowhere(order: Order, failed: tuple[datetime, str] | None) -> str | None:
    """Why a copy can never be made: its recall has failed since somebody last wanted it."""
    if failed is None or order.not_before is None or failed[0] < order.not_before:
        return None
    return f"the package can nowhere be read: {failed[1]}"


def enough(order: Order, held: Sequence[CopyAt], draining: Collection[int] = ()) -> bool:
    """Whether the pool has as many verified copies as policy wanted when it asked: a request whose end
    was lost in a crash must not make one more. For a repack what lies on volumes that are emptied does not
    count."""
    if details.FROM in order.detail:
        held = [copy for copy in held if copy.volume_pk not in draining]
    good = [
        copy
        for copy in held
        if copy.pool == order.pool and copy.state == CopyState.VERIFIED and copy.volume_state in GOOD_VOLUMES
    ]
    wanted: int = order.detail.get(details.COPIES, 1)
    return len(good) >= wanted


def _begun(order: Order, held: Sequence[CopyAt], state: CopyState) -> list[CopyAt]:
    return [
        copy
        for copy in held
        if copy.pool == order.pool and copy.state == state and copy.volume_state in GOOD_VOLUMES
    ]
