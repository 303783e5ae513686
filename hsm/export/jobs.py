"""Exports under way: each a thread of the daemon, watched and cancelled over the API.

An export waits for recalls as a retrieve does, for as long as a person needs. It lives as long as the
daemon: after a restart it is asked for again, and finds what was recalled meanwhile.
"""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from hsm.catalog import journal, retrievable
from hsm.catalog.engine import Catalog
from hsm.errors import BadInput, DriverError, HsmError, NotFound, Refused
from hsm.export.compose import Composer, Wish
from hsm.export.leavings import Leavings
from hsm.export.target import Target, caller_named, deliver, look_at, workshop
from hsm.log import get_logger
from hsm.model import InstanceRef, Priority, Selection
from hsm.retrieval import Retrievals, Unobtainable

log = get_logger(__name__)

RUNNING_MAX = 4
KEPT_MAX = 100
LOOK_SECONDS = 1.0
STUDIES_MAX = 1000
BEGUN = "begun"
"""The folder in the spool with the notes of :mod:`hsm.export.leavings`."""


class _Cancelled(Exception):
    """Somebody has asked for the end."""


@dataclass
class Job:
    """One export; its fields are read while its thread writes them."""

    pk: int
    target: str
    kind: str
    by: str
    total: int
    bytes_total: int
    state: str = "active"
    done: int = 0
    bytes_done: int = 0
    waiting_for: str = ""
    error: str = ""
    burned_in: int = 0
    unlisted: tuple[str, ...] = ()
    studies: tuple[str, ...] = ()
    stop: threading.Event = field(default_factory=threading.Event)

    def shown(self) -> dict[str, Any]:
        """For the API."""
        return {
            "id": self.pk,
            "target": self.target,
            "kind": self.kind,
            "by": self.by,
            "state": self.state,
            "instances": self.total,
            "instances_done": self.done,
            "bytes": self.bytes_total,
            "bytes_done": self.bytes_done,
            "waiting_for": self.waiting_for,
            "error": self.error,
            "burned_in": self.burned_in,
            "unlisted": list(self.unlisted),
        }


class Exports:
    """Starts, shows and ends exports. Thread-safe."""

    def __init__(self, catalog: Catalog, retrievals: Retrievals, archive: str, spool: Path) -> None:
        """
        :param archive: the archive's name on the medium (its AE title).
        :param spool: where images and discs are prepared.
        """
        self._catalog = catalog
        self._retrievals = retrievals
        self._archive = archive
        self._spool = spool
        self._leavings = Leavings(spool / BEGUN)
        self._clean()
        self._jobs: dict[int, Job] = {}
        self._threads: dict[int, threading.Thread] = {}
        self._lock = threading.Lock()
        self._last = 0

    def _clean(self) -> None:
        """Remove what a daemon left that was killed in mid-export."""
        self._leavings.settle()
        for each in self._spool.glob("*"):
            if each.name != BEGUN:
                shutil.rmtree(each, ignore_errors=True)

    def begin(
        self, target: str, uids: list[str], user: str, by: str, *, anonymise: bool, udf: bool
    ) -> dict[str, Any]:
        """Start to export studies; what comes of it is shown by :meth:`show`.

        :param user: the login name at the other end of the socket: what it may write, it may export to.
        :param by: who asks, for the journal.
        :raises Refused: not there, or four exports are under way.
        :raises NotFound: a study is not in the catalog.
        """
        if not 1 <= len(uids) <= STUDIES_MAX:
            raise BadInput(f"studies: expected 1 to {STUDIES_MAX} UIDs")
        place = look_at(Path(target), caller_named(user))
        instances = self._instances(uids)
        with self._lock:
            if sum(job.state == "active" for job in self._jobs.values()) >= RUNNING_MAX:
                raise Refused(f"{RUNNING_MAX} exports are under way; wait for one to end")
            self._last += 1
            total = sum(each.size for each in instances)
            job = Job(
                self._last, str(place.path), place.kind.value, by, len(instances), total, studies=tuple(uids)
            )
            self._forget_old()
            self._jobs[job.pk] = job
        self._note(job, "export asked", {"studies": uids, "anonymised": anonymise})
        thread = threading.Thread(
            target=self._run, args=(job, place, instances, anonymise, udf), name=f"export {job.pk}"
        )
        self._threads[job.pk] = thread
        thread.start()
        return job.shown()

    def show(self, pk: int) -> dict[str, Any]:
        """:raises NotFound: no such export in this daemon's life."""
        with self._lock:
            job = self._jobs.get(pk)
        if job is None:
            raise NotFound(f"no export {pk}; exports end with the daemon: ask again")
        return job.shown()

    def cancel(self, pk: int, by: str) -> dict[str, Any]:
        """End an export; nothing of it stays. Its recalls go on."""
        with self._lock:
            job = self._jobs.get(pk)
        if job is None:
            raise NotFound(f"no export {pk}")
        if job.state == "active":
            job.stop.set()
            log.info("export %d is cancelled by %s", pk, by)
        return job.shown()

    def stop(self, seconds: float = 20.0) -> None:
        """End all of them."""
        for job in self._jobs.values():
            job.stop.set()
        for thread in self._threads.values():
            thread.join(seconds)

    def _forget_old(self) -> None:
        for pk in [pk for pk, job in self._jobs.items() if job.state != "active"][: -KEPT_MAX + 1]:
            del self._jobs[pk]
            self._threads.pop(pk, None)

    def _instances(self, uids: list[str]) -> list[InstanceRef]:
        found: list[InstanceRef] = []
        with self._catalog.read() as session:
            for uid in dict.fromkeys(uids):
                mine = retrievable.select_instances(session, Selection(study_uids=(uid,)))
                if not mine:
                    raise NotFound(f"the catalog has no study {uid}")
                found += mine
        return found

    def _run(self, job: Job, place: Target, instances: list[InstanceRef], anonymise: bool, udf: bool) -> None:
        try:
            with workshop(place, self._spool, self._leavings) as work:
                now = self._catalog.clock.now()
                wish = Wish(self._archive, f"{now:%Y-%m-%d}", anonymise)
                tree = work / "tree"
                tree.mkdir(mode=0o700)
                composer = Composer(tree, wish)
                self._gather(job, instances, composer)
                composer.finish()
                job.burned_in, job.unlisted = composer.burned, tuple(composer.unlisted[:20])
                if job.stop.is_set():
                    raise _Cancelled
                deliver(place, tree, composer.set_id, self._leavings, udf=udf)
        except _Cancelled:
            self._end(job, "cancelled", "")
        except (DriverError, HsmError) as error:
            self._end(job, "failed", str(error))
        except OSError as error:
            self._end(job, "failed", f"export to {job.target}: {error.strerror or error}")
        except SQLAlchemyError as error:
            self._end(job, "failed", f"the catalog: {getattr(error, 'orig', error)}")
        except Exception as error:  # a fault of ours must not leave the job active for ever
            log.exception("export %d: unexpected", job.pk)
            self._end(job, "failed", f"unexpected: {error!r}")
        else:
            self._end(job, "done", "")

    def _gather(self, job: Job, instances: list[InstanceRef], composer: Composer) -> None:
        who = f"export {job.pk} by {job.by}"
        retrieval = self._retrievals.open(instances, who, Priority.ROUTINE)
        try:
            while retrieval.remaining:
                if job.stop.is_set():
                    raise _Cancelled
                found = retrieval.next(LOOK_SECONDS)
                if found is None:
                    job.waiting_for = retrieval.waiting_for()
                    continue
                if isinstance(found, Unobtainable):
                    raise NotFound(
                        f"instance {found.instance.sop_instance_uid} of study {found.instance.study_uid} "
                        f"cannot be had: {found.reason}; nothing was exported"
                    )
                job.waiting_for = ""
                try:
                    composer.add(found.instance, found.content)
                finally:
                    found.content.close()
                job.done += 1
                job.bytes_done += found.instance.size
        finally:
            retrieval.close()

    def _end(self, job: Job, state: str, error: str) -> None:
        job.error, job.waiting_for = error, ""
        try:
            detail = {"instances": job.done, "bytes": job.bytes_done, "studies": list(job.studies)}
            self._note(job, f"export {state}", detail | ({"error": error} if error else {}))
        except (SQLAlchemyError, HsmError) as trouble:
            log.error("export %d: %s, and the journal does not know: %s", job.pk, state, trouble)
        job.state = state
        (log.error if state == "failed" else log.info)(
            "export %d to %s: %s %s", job.pk, job.target, state, error
        )

    def _note(self, job: Job, verb: str, detail: dict[str, Any]) -> None:
        with self._catalog.write() as session:
            at = self._catalog.clock.now()
            journal.append(session, at, job.by, verb, "export", job.target, {"export": job.pk, **detail})
