"""Writes the journal's head where the database has no hand: onto every volume that is flushed, into pools
that need no drive, and into a file elsewhere.

An anchor is the least of what is written there: one that cannot be written never fails what it goes with.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from drivers.base import Store
from drivers.notes import annotated
from hsm.anchor import Anchor
from hsm.catalog import chainread, journal
from hsm.catalog.engine import Catalog
from hsm.catalog.journal import Wanted
from hsm.errors import DriverError, Permanent
from hsm.log import get_logger
from hsm.marking import Marking, Put
from hsm.model import Layout
from hsm.pools import DiskPool, Pools

log = get_logger(__name__)

ACTOR = "anchors"
ANCHORED = "anchored"
"""The verb: this volume carries the digest of that record."""
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class Noted:
    """What a mounted volume has got beside its packages, for its next flush."""

    anchor: Anchor | None
    marks: Put | None


class Anchoring:
    """Anchors the journal of one archive."""

    def __init__(
        self, catalog: Catalog, pools: Pools, archive: str, every: timedelta, file: Path | None = None
    ) -> None:
        """
        :param archive: its AE title.
        :param every: how often at most a pool without drives, and the file, get an anchor.
        :param file: on storage that who administers the database does not.
        """
        self._catalog = catalog
        self._pools = pools
        self._archive = archive
        self.every = every
        self.file = file
        self.marking = Marking(catalog, pools, archive)
        self._file_error = ""

    def note(self, store: Store, volume: str) -> Noted:
        """Give a mounted volume the head to write with its next flush, where it carries notes, and the marks
        that it does not carry yet.

        :raises Retryable: it cannot be written to.
        """
        return Noted(self._note(store, volume), self.marking.put(store, volume))

    def _note(self, store: Store, volume: str) -> Anchor | None:
        carrier = annotated(store)
        if carrier is None:
            return None
        with self._catalog.read() as session:
            anchor = self._head(session)
        if anchor is not None:
            try:
                carrier.annotate(anchor.line())
            except DriverError as error:
                log.warning("%s gets no anchor: %s", volume, error)
                return None
        return anchor

    def noted(self, done: Noted, store: Store, volume: str, actor: str) -> None:
        """That flush went well. Only what the volume carries by now goes on record: a flush that had nothing
        to write, or no room left for a note, has written none."""
        self.marking.flushed(done.marks, actor)
        self._noted(done.anchor, store, volume, actor)

    def _noted(self, anchor: Anchor | None, store: Store, volume: str, actor: str) -> None:
        carrier = annotated(store)
        if anchor is None or carrier is None:
            return
        try:
            carried = anchor.line() in carrier.notes()
        except DriverError as error:
            log.warning("whether %s has its anchor is not known: %s", volume, error)
            return
        if carried:
            self._record(anchor, volume, actor)

    def round(self) -> int:
        """Anchor in every pool without drives, and in the file, where it is time; how many. And marks."""
        self.marking.round()
        return sum(self._anchor_pool(pool) for pool in self._pools.disks.values()) + self._anchor_file()

    def problems(self) -> list[str]:
        return [self._file_error] if self._file_error else []

    def _record(self, anchor: Anchor, volume: str, actor: str) -> None:
        with self._catalog.write() as session:
            detail = {"seq": anchor.seq, "sha256": anchor.digest.hex()}
            journal.append(session, self._catalog.clock.now(), actor, ANCHORED, "volume", volume, detail)

    def _head(self, session: Session) -> Anchor | None:
        seq, digest = chainread.head(session)
        return Anchor(self._archive, seq, digest, self._catalog.clock.now()) if seq else None

    def _due(self, session: Session, volume: str) -> Anchor | None:
        """None: nothing was recorded since the last one but that one itself, or it is too soon."""
        head = self._head(session)
        last = journal.last(session, Wanted(subject=volume, verb=ANCHORED, kind="volume"))
        if head is None or last is None:
            return head
        if head.at - last.at < self.every or not journal.any_since(session, last.seq, ANCHORED):
            return None
        return head

    def _anchor_pool(self, pool: DiskPool) -> bool:
        """A cold pool has none: an anchor that cannot be read before tomorrow helps nobody."""
        if pool.layout is Layout.FILES or pool.cold or not pool.writable:
            return False
        with self._catalog.read() as session:
            anchor = self._due(session, pool.label)
        if anchor is None:
            return False
        data = f"{anchor.line()}\n".encode("ascii")
        try:
            pool.store.put(anchor.key, io.BytesIO(data), len(data), None)
            pool.store.flush()
        except Permanent as error:  # another node has just put the same one, or it takes none
            log.info("%s gets no anchor: %s", pool.label, error)
            return False
        except DriverError as error:
            log.warning("%s gets no anchor now: %s", pool.label, error)
            return False
        self._record(anchor, pool.label, ACTOR)
        return True

    def _anchor_file(self) -> bool:
        if self.file is None:
            return False
        name = f"file {self.file}"
        with self._catalog.read() as session:
            anchor = self._due(session, name)
        if anchor is None:
            return False
        try:
            fd = os.open(self.file, _FLAGS, 0o640)
            try:
                os.write(fd, f"{anchor.seq} {anchor.digest.hex()} {anchor.line()}\n".encode("ascii"))
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            self._file_error = f"no anchor can be written into {self.file}: {error.strerror}"
            log.warning("%s", self._file_error)
            return False
        self._file_error = ""
        self._record(anchor, name, ACTOR)
        return True
