"""What a crash left behind in the online pool, looked at once at start.

A received file keeps its temporary name until its row is committed and its final name is flushed, so
what was under way when the daemon died still has one. What is whole is taken in as if it had just
arrived: its digest finds out whether the catalog has it already, and where a power cut took the final
name of such a file, it is given again. What was deleted or rejected meanwhile stays so. What is not
whole was never acknowledged; it is deleted, and its sender, who has no answer, sends again. And the
other way round: instances that the catalog has and that lie in no package yet have only this one file;
one that is missing is told, never dropped.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drivers.folder import INCOMING
from hsm.catalog import instances
from hsm.catalog.engine import Catalog
from hsm.content import instance_file
from hsm.errors import BadInput, Conflict, Corrupt, DriverError, HsmError, Refused, Retryable
from hsm.ingest import Ingest, StoreOutcome
from hsm.interrupted import INTERRUPTED
from hsm.log import get_logger
from hsm.model import Header
from hsm.part10 import read_head
from hsm.pools import DiskPool

log = get_logger(__name__)

SOURCE = "recovery"
MISSING_TOLD_MAX = 20

ReadHeader = Callable[[memoryview, str], Header]
"""Dataset and Transfer Syntax UID to the catalog's attributes; BadInput where it is cut off."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found."""

    adopted: int
    """Whole, and not in the catalog: now they are."""
    known: int
    """Whole, and in the catalog already; its file is there now, whether or not it was."""
    dropped: int
    """Cut off, refused by the rule for equal UIDs, or other bytes of what was deleted or rejected. Files that
    nothing was written to do not count."""


def recover(pool: DiskPool, ingest: Ingest, read_header: ReadHeader) -> Recovered:
    """Take in or delete what was being received when the last daemon died.

    :raises NoSpace: the pool is full; the files stay for the next start.
    :raises Retryable: the disk or the catalog fails; the same.
    """
    adopted = known = dropped = 0
    folder = pool.root / INCOMING / INTERRUPTED
    paths = sorted(folder.glob("*.part"))
    for path in paths:
        outcome = _take_in(path, ingest, read_header)
        if outcome is StoreOutcome.DUPLICATE:
            known += 1
        elif outcome is not None:
            adopted += 1
        elif path.stat().st_size:
            dropped += 1
    # Until the names that were given are durable, these are what a further power cut leaves.
    if not ingest.settle():
        raise Retryable(f"pool {pool.name}: the names that were given cannot be flushed")
    for path in paths:
        path.unlink()
    if adopted or known or dropped:
        log.warning(
            "of what was being received when the last daemon ended, %d instances are taken in, %d were "
            "catalogued already, %d were incomplete and are deleted",
            adopted,
            known,
            dropped,
        )
    return Recovered(adopted, known, dropped)


def _take_in(path: Path, ingest: Ingest, read_header: ReadHeader) -> StoreOutcome | None:
    if path.stat().st_size == 0:
        return None
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        whole = memoryview(mapped)
        dataset = whole[:0]
        try:
            head = read_head(whole)
            dataset = whole[head.size :]
            header = read_header(dataset, head.transfer_syntax_uid)
            if header.sop_instance_uid != head.sop_instance_uid:
                raise BadInput(f"{header.sop_instance_uid} in the file of {head.sop_instance_uid}")
            return ingest.store(header, head.transfer_syntax_uid, dataset, SOURCE, left_behind=True)
        except (BadInput, Corrupt, Conflict, Refused) as error:
            log.info("%s: %s", path.name, error)
            return None
        finally:
            # An error on its way out holds the views of the frames that it came through, and must not be
            # replaced by what closing the map says of them: it is unmapped when they are gone.
            with contextlib.suppress(BufferError):
                dataset.release()
                whole.release()
                mapped.close()


def missing_files(catalog: Catalog, pool: DiskPool) -> list[str]:
    """SOP Instance UIDs that are catalogued, in no package, and have no file of their size.

    They are reported and stay catalogued: the file may come back with its file system or a backup, and
    the sender may send it again.
    """
    missing = []
    with catalog.read() as session:
        for instance in instances.every_unsealed(session):
            try:
                size = os.stat(instance_file(pool, instance), follow_symlinks=False).st_size
            except OSError:
                size = -1
            if size != instance.size:
                missing.append(instance.sop_instance_uid)
    for uid in missing[:MISSING_TOLD_MAX]:
        log.error("instance %s is catalogued and its file is not in pool %s", uid, pool.name)
    return missing


class Recovery:
    """What a daemon does about it when it starts: at once, or when the ingest pool is there."""

    def __init__(self, catalog: Catalog, pool: DiskPool, ingest: Ingest, read_header: ReadHeader) -> None:
        self._catalog = catalog
        self._pool = pool
        self._ingest = ingest
        self._read_header = read_header
        self._missing: list[str] = []

    def begin(self) -> None:
        """Before anybody stores or seals; for a pool that is out of service, when it comes back."""
        service = self._pool.service
        if service is not None and not service.opened:
            log.error("pool %s is out of service: %s", self._pool.name, service.condition.reason)
            service.on_open = self._begin_later
            return
        try:
            recover(self._pool, self._ingest, self._read_header)
        except (DriverError, HsmError) as error:
            log.error(
                "what was being received when the last daemon ended stays for the next start: %s", error
            )
        self._missing = missing_files(self._catalog, self._pool)

    def problems(self) -> list[str]:
        """Instances whose only file is not there, as a sentence."""
        if not self._missing:
            return []
        return [
            f"{len(self._missing)} unsealed instances had no file at start, first {self._missing[0]}: "
            "send them again, or restore the file system"
        ]

    def _begin_later(self) -> None:
        """The ingest pool was away when the daemon started, and is there now."""
        try:
            self.begin()
        except Exception:  # the probe's thread has nobody to tell
            log.exception("recovery of %s: unexpected", self._pool.name)
