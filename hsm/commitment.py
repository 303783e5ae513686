"""Storage Commitment as durable work, PS3.4 annex J: who asked for which instances, and what is said of them.

The request is queued before the peer is told that it was received, and is a COMMIT request from then on:
it outlives associations and restarts. An instance is committed when a verified copy of its package lies on
a good volume, or its file was read back from the online pool just now; where ``wait_for`` says so, only when
policy's copies are verified. Nothing is committed by a row in a database alone.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from sqlalchemy.orm import Session

from hsm.catalog import instances, media, placement, queue, queuelooks, requesting
from hsm.catalog.engine import Catalog
from hsm.catalog.orders import Order
from hsm.guard import GOOD_VOLUMES
from hsm.model import CopyAt, Goal, InstanceRef, Place, Priority
from hsm.reader import Reader
from hsm.states import CopyState, RequestKind
from hsm.wake import Bell

PENDING_MAX = 2000
"""Requests of one AE title that wait for their report."""
ITEMS_MAX = 65_536
"""In one transaction; a larger one is not taken."""

WaitFor = Literal["received", "copies"]


class Failure(enum.IntEnum):
    """Failure Reason (0008,1197), PS3.3 section C.14.1.1."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    DUPLICATE_TRANSACTION_UID = 0x0131
    RESOURCE_LIMITATION = 0x0213


@dataclass(frozen=True, slots=True)
class Item:
    """One instance that a peer wants to be kept."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Medium:
    """The removable volume that holds an instance."""

    name: str
    uuid: str


@dataclass(frozen=True, slots=True)
class Committed:
    """One instance that is kept, and the first removable volume it is on, by name."""

    item: Item
    medium: Medium | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    item: Item
    reason: Failure


@dataclass(frozen=True, slots=True)
class Result:
    """What is reported of a transaction, or why that has to wait."""

    calling: str
    transaction_uid: str
    committed: tuple[Committed, ...] = ()
    failed: tuple[Failed, ...] = ()
    waits_for: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """What the archive has of one SOP Instance UID: every version that counts, and its copies."""

    instance: InstanceRef
    copies: tuple[CopyAt, ...]

    @property
    def good(self) -> dict[int, CopyAt]:
        """Verified copies on volumes that count, one a volume."""
        return {
            copy.volume_pk: copy
            for copy in self.copies
            if copy.state == CopyState.VERIFIED and copy.volume_state in GOOD_VOLUMES
        }

    def lacks(self, goals: Iterable[Goal]) -> tuple[str, Goal | None]:
        """The first goal of policy that is not met yet, in words and as it is; empty when all are.

        What is in no package yet has no goals that anybody could know, and no copies.
        """
        if self.instance.package_pk is None:
            return "its study is not sealed yet", None
        pools = [copy.pool for copy in self.good.values()]
        for goal in goals:
            if (have := goal.have(pools)) < goal.copies:
                return f"{goal.copies} verified in {goal.pool}, has {have}", goal
        return "", None


class Commitments:
    """Keeps requests for commitment and answers them.

    :param goals_of: the copy goals of a study's policy.
    :param keeps: whether instances of a SOP class are kept here at all.
    :param full: whether a pool has no room for so many bytes.
    """

    def __init__(
        self,
        catalog: Catalog,
        reader: Reader,
        bell: Bell,
        goals_of: Callable[[str], Sequence[Goal]],
        keeps: Callable[[str], bool],
        full: Callable[[Session, str, int], bool],
    ) -> None:
        self._full = full
        self._catalog, self._reader, self._bell = catalog, reader, bell
        self._goals_of, self._keeps = goals_of, keeps

    def ask(self, calling: str, transaction_uid: str, items: Sequence[Item]) -> None:
        """Record a request; durable on return. The same one again changes nothing; another one under the same
        transaction UID is recorded too, and fails as a duplicate.

        :raises NoSpace: too many requests of this AE title wait already.
        """
        wanted = [[item.sop_class_uid, item.sop_instance_uid] for item in items]
        detail = {"calling": calling, "transaction": transaction_uid, "items": wanted, "duplicate": False}
        key = f"commit:{calling}:{transaction_uid}"
        with self._catalog.write() as session:
            queuelooks.require_room(session, f"commit:{calling}:", PENDING_MAX)
            pk, made = self._enqueue(session, key, detail)
            if not made and queue.get(session, pk).detail["items"] != wanted:
                self._enqueue(session, f"{key}:{uuid.uuid4()}", detail | {"duplicate": True})
        self._bell.ring()

    def _enqueue(self, session: Session, key: str, detail: Mapping[str, object]) -> tuple[int, bool]:
        calling = detail["calling"]
        return requesting.enqueue(
            session,
            self._catalog.clock.now(),
            f"ae:{calling}",
            RequestKind.COMMIT,
            key,
            priority=Priority.ROUTINE,
            reason=f"storage commitment for {calling}",
            detail=dict(detail),
        )

    def result(self, order: Order, wait_for: WaitFor, seconds_max: float) -> Result:
        """What to report now; ``waits_for`` is empty when everything is decided.

        After ``seconds_max`` nothing is waited for any more: what lacks its copies then has failed.
        """
        calling, transaction = str(order.detail["calling"]), str(order.detail["transaction"])
        items = tuple(Item(*pair) for pair in order.detail["items"])
        if order.detail["duplicate"]:
            failed = [Failed(item, Failure.DUPLICATE_TRANSACTION_UID) for item in items]
            return Result(calling, transaction, failed=tuple(failed))
        held, media_of = self._held(items)
        late = self._catalog.clock.now() - order.created_at >= timedelta(seconds=seconds_max)
        goals = self._goals(held.values()) if wait_for == "copies" else {}
        committed: list[Committed] = []
        failed = []
        lacking: dict[tuple[int | None, Goal | None], Failure] = {}
        for item in items:
            fault, mine = self._fault(item, held.get(item.sop_instance_uid, ()))
            if fault is None and mine is not None and wait_for == "copies":
                lacks, goal = mine.lacks(goals.get(mine.instance.study_uid, ()))
                if lacks and not late:
                    return Result(calling, transaction, waits_for=f"{item.sop_instance_uid}: {lacks}")
                key = (mine.instance.package_pk, goal)
                if lacks and key not in lacking:
                    lacking[key] = self._why_lacking(*key)
                fault = lacking[key] if lacks else None
            if fault is not None:
                failed.append(Failed(item, fault))
            elif mine is not None:
                committed.append(Committed(item, _medium(mine, media_of)))
        return Result(calling, transaction, tuple(committed), tuple(failed))

    def _fault(self, item: Item, held: Sequence[Held]) -> tuple[Failure | None, Held | None]:
        """Why an instance cannot be committed at all, or the version that can."""
        if not held:
            known = self._keeps(item.sop_class_uid)
            return (Failure.NO_SUCH_OBJECT if known else Failure.SOP_CLASS_NOT_SUPPORTED), None
        of_class = [each for each in held if each.instance.sop_class_uid == item.sop_class_uid]
        if not of_class:
            return Failure.CLASS_INSTANCE_CONFLICT, None
        # The same UID may have come with different bytes: the peer means one of them, nobody knows which.
        unsafe = [each for each in of_class if not self._is_safe(each)]
        return (Failure.PROCESSING_FAILURE, None) if unsafe else (None, of_class[0])

    def _why_lacking(self, package_pk: int | None, goal: Goal | None) -> Failure:
        """Why a copy did not come in time: nothing has room for it, or something else."""
        if goal is None or package_pk is None:
            return Failure.PROCESSING_FAILURE
        with self._catalog.read() as session:
            size = placement.package(session, package_pk).size
            full = all(self._full(session, pool, size) for pool in goal.counted)
        return Failure.RESOURCE_LIMITATION if full else Failure.PROCESSING_FAILURE

    def _is_safe(self, held: Held) -> bool:
        if held.good:
            return True
        if held.instance.package_pk is not None:
            return False
        content = self._reader.read(held.instance, None, ())  # digests it
        if content is None:
            return False
        content.close()
        return True

    def _held(self, items: Collection[Item]) -> tuple[dict[str, list[Held]], dict[str, Medium]]:
        wanted = tuple({item.sop_instance_uid for item in items})
        with self._catalog.read() as session:
            refs = instances.every_version(session, wanted)
            copies = placement.copies(session, {ref.package_pk for ref in refs if ref.package_pk is not None})
            names = {
                copy.volume_name
                for some in copies.values()
                for copy in some
                if copy.place is not Place.MOUNTED
            }
            known = [media.volume(session, name) for name in sorted(names)]
        found: dict[str, list[Held]] = {}
        for ref in refs:
            held = Held(ref, tuple(copies.get(ref.package_pk or 0, ())))
            found.setdefault(ref.sop_instance_uid, []).append(held)
        return found, {volume.name: Medium(volume.name, volume.uuid) for volume in known}

    def _goals(self, held: Iterable[Sequence[Held]]) -> dict[str, Sequence[Goal]]:
        studies = {each.instance.study_uid for some in held for each in some}
        return {study: self._goals_of(study) for study in sorted(studies)}


def _medium(held: Held, media_of: Mapping[str, Medium]) -> Medium | None:
    names = sorted(copy.volume_name for copy in held.good.values() if copy.place is not Place.MOUNTED)
    return media_of.get(names[0]) if names else None
