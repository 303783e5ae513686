"""The trash: studies go in, come back whole, or end when their day has come (promise 3).

The end is executed in rounds, each found out anew from the catalog: deletions whose day has come become due
unless the study is held or retained; then the guard lets each copy go. What lies on a disk is deleted by a
release request. Of a cartridge or disc nothing can be deleted: its copy does not count any more, and the
bytes stay until it is repacked and written over, or destroyed; the journal says where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from hsm.catalog import (
    deletions,
    details,
    forgetting,
    placement,
    queuelooks,
    rejections,
    requesting,
    restored,
    trashwork,
)
from hsm.catalog.deletions import DeletionRef
from hsm.catalog.engine import Catalog
from hsm.catalog.trashwork import Failed, Left
from hsm.config.deletion import DeletionConfig
from hsm.log import get_logger
from hsm.model import Priority
from hsm.staging import Staging
from hsm.states import CopyState, DeletionState, RequestKind, RequestState
from hsm.wake import Bell

log = get_logger(__name__)

ACTOR = "trash"
ROUND_MAX = 100
"""Deletions that one round looks at."""
AGAIN_AFTER = timedelta(days=1)
"""From when a release was asked for that failed for good until it is asked for again."""
NAMED_MAX = 3
"""Releases that failed of which a problem tells in words."""
ENDING = (DeletionState.DUE, DeletionState.PURGED)
Record = dict[str, Any]


class Trash:
    """One for each daemon."""

    def __init__(self, catalog: Catalog, staging: Staging, bell: Bell, config: DeletionConfig) -> None:
        self._catalog, self._staging, self._bell = catalog, staging, bell
        self.config = config

    def delete(
        self, uid: str, reason: str, by: str, *, refuse_late: bool = False, approved_by: str = ""
    ) -> Record:
        """Put a study into the trash.

        :raises NotFound: no such study.
        :raises BadInput: no reason.
        :raises Refused: it is held or retained, or in the trash already and nothing has come since.
        """
        with self._catalog.write() as session:
            now = self._catalog.clock.now()
            found = deletions.delete(
                session,
                uid,
                reason,
                now + timedelta(seconds=self.config.trash),
                now,
                by,
                approved_by=approved_by,
                refuses=refuse_late or self.config.late == "refuse",
            )
            trashwork.withdraw(session, found.study_pk, now, by)
        self._bell.ring()
        return self._shown([found])[0]

    def undelete(self, uid: str, reason: str, by: str) -> Record:
        """Take a study out of the trash, whole.

        :raises NotFound: it is not there.
        :raises BadInput: no reason.
        :raises Refused: its copies are being released, and one package has no good one any more.
        """
        with self._catalog.write() as session:
            found = deletions.undelete(session, uid, reason, self._catalog.clock.now(), by)
        return self._shown([found])[0]

    def revoke(self, uid: str, reason: str, by: str, note: str = "") -> Record:
        """Take the rejections of a study back: all, or that of one note.

        :raises NotFound: there is none.
        :raises BadInput: no reason.
        """
        with self._catalog.write() as session:
            count = rejections.revoke(session, uid, reason, self._catalog.clock.now(), by, note)
        return {"study": uid, "revoked": count}

    def rejections(self, limit: int, offset: int = 0) -> list[Record]:
        """Rejections that stand, the last first."""
        with self._catalog.read() as session:
            found = rejections.listing(session, limit, offset)
        return [
            {
                "study": each.study_uid,
                "code": each.code,
                "title": rejections.TITLES[each.code],
                "note": each.note,
                "instances": each.instances,
                "awaited": each.awaited,
                "rejected_at": each.made_at,
                "rejected_by": each.made_by,
            }
            for each in found
        ]

    def listing(self, limit: int, offset: int = 0, *, every: bool = False) -> list[Record]:
        """Studies in the trash, those whose day comes next first; with ``every`` also what has ended."""
        with self._catalog.read() as session:
            found = deletions.trash(session, limit, offset, every=every)
        return self._shown(found)

    def problems(self) -> list[str]:
        """Releases that failed, without which a deletion does not come to its end."""
        with self._catalog.read() as session:
            found = trashwork.failed(session)
        if not found:
            return []
        named = "; ".join(f"study {each.study_uid}: {waits(each)}" for each in found[:NAMED_MAX])
        more = f"; and {len(found) - NAMED_MAX} more: hsm study trash" if len(found) > NAMED_MAX else ""
        return [f"the end of a deletion waits: {named}{more}"]

    def round(self) -> int:
        """Move on what is due; how many copies were let go or asked to be."""
        now = self._catalog.clock.now()
        with self._catalog.read() as session:
            if restored.is_owed(session):
                return 0  # what was undone since the backup is not known here
            ready = deletions.due(session, now, ROUND_MAX)
            expired = rejections.expired(session, ROUND_MAX)
        for uid in expired:
            with self._catalog.write() as session:
                at = self._catalog.clock.now()
                rejections.expire(session, uid, at + timedelta(seconds=self.config.trash), at, ACTOR)
        moved = 0
        for each in ready:
            with self._catalog.write() as session:
                why = deletions.make_due(session, each.pk, self._catalog.clock.now(), ACTOR)
            if why:
                log.info("study %s stays in the trash: %s", each.study_uid, why)
            else:
                moved += self._end(each)
        with self._catalog.read() as session:
            again = trashwork.left(session)
        moved += self._let_go(again)  # of volumes that were found again
        if moved:
            self._bell.ring()
        return moved

    def _end(self, deletion: DeletionRef) -> int:
        with self._catalog.write() as session:
            busy = trashwork.end_requests(session, deletion.pk, self._catalog.clock.now(), ACTOR)
            left = trashwork.left(session, deletion.pk)
        if busy:
            return 0  # somebody reads or writes one of its packages: the next round finds it ended
        if left:
            return self._let_go(left)
        with self._catalog.read() as session:
            keys = trashwork.package_keys(session, deletion.pk)
        for key in keys:
            if self._staging.holds(key):
                self._staging.remove(key)
        with self._catalog.write() as session:
            if not trashwork.still_due(session, deletion.pk):
                return 0  # another node was quicker, or somebody took it back
            volumes = trashwork.purged(session, deletion.pk, self._catalog.clock.now(), ACTOR)
            if self.config.forget_patient:
                forgetting.forget(session, deletion.study_pk)
        log.info("study %s is deleted: %s", deletion.study_uid, said_of(volumes))
        return 1

    def _let_go(self, copies: Sequence[Left]) -> int:
        moved = 0
        for copy in copies:
            with self._catalog.write() as session:
                moved += self._let_one_go(session, copy)
        return moved

    def _let_one_go(self, session: Session, copy: Left) -> int:
        """A step towards the end of one copy: whether there was one."""
        now = self._catalog.clock.now()
        state = placement.state_of(session, copy.copy_pk)
        if state is CopyState.WRITING:
            why = "its study was deleted before it was written"
            placement.move_copy(session, copy.copy_pk, CopyState.RELEASED, now, ACTOR, why=why)
            return 1
        if state is CopyState.WRITTEN:
            placement.move_copy(session, copy.copy_pk, CopyState.SUSPECT, now, ACTOR, why="never read back")
        if not copy.removable:
            return int(self._ask_release(session, copy))
        verdict = placement.release(session, copy.copy_pk, (), now, ACTOR)
        if not verdict.allowed:
            log.warning("%s on %s stays: %s", copy.package, copy.volume, verdict.reason)
            return 0
        why = f"bytes remain on {copy.volume} until it is {copy.end}"
        placement.move_copy(session, copy.copy_pk, CopyState.RELEASED, now, ACTOR, why=why)
        return 1

    def _ask_release(self, session: Session, copy: Left) -> bool:
        key = f"{trashwork.PURGE}{copy.package}:{copy.volume}"
        latest = queuelooks.latest(session, [key]).get(key)
        now = self._catalog.clock.now()
        failed = latest is not None and latest.state is RequestState.FAILED
        if latest is not None and failed and latest.created_at > now - AGAIN_AFTER:
            return False  # until then it is a problem of `hsm status`
        _, made = requesting.enqueue(
            session,
            now,
            ACTOR,
            RequestKind.RELEASE,
            key,
            priority=Priority.MIGRATION,
            reason="its study was deleted, and its time in the trash is over",
            package_pk=copy.package_pk,
            study_pk=copy.study_pk,
            volume_pk=copy.volume_pk,
            pool=copy.pool,
            detail={details.GOALS: []},
        )
        return made

    def _shown(self, found: Sequence[DeletionRef]) -> list[Record]:
        with self._catalog.read() as session:
            sizes = trashwork.sizes(session, [each.pk for each in found])
            kept = trashwork.kept(session, found, self._catalog.clock.now())
            remains = {each.pk: trashwork.remains(session, each.pk) for each in found}
            failed = trashwork.failed(session, [each.study_pk for each in found])
        waiting = {each.study_uid: waits(each) for each in reversed(failed)}
        return [record(each, sizes, kept, remains, waiting) for each in found]


def record(
    each: DeletionRef,
    sizes: Mapping[int, tuple[int, int]],
    kept: Mapping[int, str],
    remains: Mapping[int, Sequence[str]],
    waiting: Mapping[str, str],
) -> Record:
    """One deletion as it is shown.

    :param waiting: by the study's UID, why it does not come to its end.
    """
    packages, size = sizes.get(each.pk, (0, 0))
    return {
        "study": each.study_uid,
        "state": each.state.value,
        "reason": each.reason,
        "code": each.code,
        "deleted_at": each.made_at,
        "deleted_by": each.made_by,
        "approved_by": each.approved_by,
        "due_at": each.due_at,
        "kept": kept.get(each.pk, ""),
        "waits": waiting.get(each.study_uid, "") if each.state in ENDING else "",
        "refuses_late": each.refuses,
        "packages": packages,
        "bytes": size,
        "bytes_since": each.came_since,
        "bytes_on_removable": list(remains.get(each.pk, ())),
        "ended_at": each.ended_at,
        "ended_by": each.ended_by,
        "ended_reason": each.ended_reason,
    }


def waits(failed: Failed) -> str:
    """Why a deletion does not come to its end, and when it goes on, in words."""
    again = failed.asked_at + AGAIN_AFTER
    return (
        f"the release from {failed.volume} failed: {failed.error}; it is asked for again at"
        f" {again:%Y-%m-%d %H:%M} UTC, or with `hsm queue retry {failed.request_pk}`"
    )


def said_of(volumes: Sequence[str]) -> str:
    """Where bytes remain, in words."""
    if not volumes:
        return "no bytes of it remain on any medium"
    return f"bytes remain on {', '.join(volumes)} until each is repacked and written over, or destroyed"
