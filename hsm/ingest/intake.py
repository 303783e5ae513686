"""What becomes of a received instance: decided once, for whatever way its bytes came in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy import Connection

from drivers.folder import INCOMING
from hsm import layout
from hsm.catalog import rejections
from hsm.catalog.batch import Found, InDoubt, Registrar, Stale
from hsm.catalog.batch import Note as JournalNote
from hsm.catalog.commit import GroupCommit, Ticket
from hsm.catalog.engine import Catalog
from hsm.catalog.hiding import Concealment
from hsm.catalog.ingest import Known, Received, expects_file
from hsm.catalog.rejections import Note
from hsm.errors import Conflict, Refused
from hsm.ingest.decision import Decision, SameUidRule, StoreOutcome, decide
from hsm.ingest.incoming import Buffer, Incoming, Slots, said_of
from hsm.ingest.room import Room
from hsm.ingest.settle import Settling
from hsm.ingest.shelf import Shelf
from hsm.log import get_logger
from hsm.model import Header, check_uid
from hsm.part10 import file_head
from hsm.pools import DiskPool

log = get_logger(__name__)
WRITE_BYTES = 8 << 20
"""Handed to the disk at a time where a whole dataset is there."""


@dataclass(slots=True)
class _Item:
    """One file that wants its name and its row; flushed before the row is committed."""

    file: Incoming
    received: Received
    rule: SameUidRule
    key: str = ""
    """The name it was given, if that is new."""
    placed: bool = False
    """Whether it has a name that is to be flushed."""
    left_behind: bool = False
    """Whether a crash left it, and nobody sent it now."""
    in_doubt: bool = False
    """Whether a commit with it may have happened although it failed."""
    decision: Decision | None = None


class Ingest:
    """Stores instances into the online pool and the catalog. Thread-safe."""

    def __init__(
        self, catalog: Catalog, pool: DiskPool, same_uid: SameUidRule, trash_seconds: float = 30 * 86400.0
    ) -> None:
        """
        :param trash_seconds: how long what a rejection note deletes stays in the trash.
        """
        self._catalog = catalog
        self._pool = pool
        self.same_uid: SameUidRule = same_uid
        self.trash_seconds = trash_seconds
        self._room = Room(pool, catalog.clock)
        folder = pool.root / INCOMING
        if pool.there:  # else the Store makes it, when it is asked for its health before the first arrival
            folder.mkdir(exist_ok=True)
        self._slots = Slots(folder)
        self._shelf = Shelf(pool.root)
        self._settling = Settling(self._shelf)
        self._registrar = Registrar(catalog.engine)
        self._group: GroupCommit[_Item] = GroupCommit(self._commit)

    def store(
        self,
        header: Header,
        transfer_syntax_uid: str,
        dataset: bytes | memoryview,
        source_ae: str,
        *,
        left_behind: bool = False,
    ) -> StoreOutcome:
        """Make one instance durable and catalogued; when this returns, it may be acknowledged.

        ``dataset`` is kept byte for byte. ``header`` was read from it.

        :param left_behind: nobody sent it now: a crash left it. What is catalogued already stays what it is,
            deleted, rejected or to be seen.
        :raises BadInput: the class or the transfer syntax is no UID.
        :raises NoSpace: the pool is full or at its reserve; nothing was stored.
        :raises Conflict: other bytes under this UID are there and the rule is to reject.
        :raises Retryable: the disk or the database failed; the peer may send again.
        """
        view = memoryview(dataset).cast("B")
        arrival = self.begin(header.sop_class_uid, header.sop_instance_uid, transfer_syntax_uid)
        try:
            for start in range(0, len(view), WRITE_BYTES):
                arrival.write([view[start : start + WRITE_BYTES]])
            return arrival.keep(header, source_ae, left_behind=left_behind)
        finally:
            arrival.close()

    def begin(self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> Arrival:
        """An instance begins to arrive. Nothing is written before its first bytes are.

        :raises BadInput: one of these is no UID: no package could name it.
        """
        check_uid(sop_class_uid, "SOP Class UID (0008,0016)")
        check_uid(sop_instance_uid, "SOP Instance UID (0008,0018)")
        check_uid(transfer_syntax_uid, "Transfer Syntax UID (0002,0010)")
        return Arrival(
            self, file_head(sop_class_uid, sop_instance_uid, transfer_syntax_uid), transfer_syntax_uid
        )

    def require_rejectable(self, note: Note) -> None:
        """Whether a rejection note can come into force.

        :raises Refused: it is held or retained, and would be deleted.
        :raises NoSpace: it names too many instances that are not here.
        """
        with self._catalog.read() as session:
            rejections.require_possible(session, note, self._catalog.clock.now())

    def reject(self, note: Note, by: str) -> int:
        """Bring a rejection note into force; how many instances it hides. The same again changes nothing.

        :raises Refused: what it names is held or retained, and would be deleted.
        """
        with self._catalog.write() as session:
            now = self._catalog.clock.now()
            due_at = now + timedelta(seconds=self.trash_seconds)
            return rejections.reject(session, note, due_at, now, by)

    def start(self) -> None:
        """Settle final names beside the arrivals, instead of when there are many of them."""
        self._settling.start()

    def settle(self) -> bool:
        """Return when what was stored has its final names for good; whether it has."""
        return self._settling.settle()

    def close(self) -> None:
        """Settle, and leave nothing that is not needed. Nothing may be under way."""
        self._settling.close()
        self._slots.close()
        self._shelf.close()

    # For Arrival.

    def open_file(self, size: int) -> Incoming:
        self._room.take(size)
        with self._disk(""):
            return self._slots.take()

    @contextmanager
    def writing(self, size: int) -> Iterator[None]:
        self._room.take(size)
        with self._disk(""):
            yield

    @contextmanager
    def _disk(self, what: str) -> Iterator[None]:
        with said_of(f"pool {self._pool.name}{what}"):
            try:
                yield
            except OSError:
                # The files made ahead may be of a file system that is gone, or of a better time.
                self._slots.close()
                raise

    def finish(
        self,
        file: Incoming,
        header: Header,
        syntax: str,
        size: int,
        digest: bytes,
        source: str,
        *,
        left_behind: bool = False,
    ) -> StoreOutcome:
        """Flush, name and catalogue an arrived file."""
        if self._group.busy:
            # While others are being committed there is time to wait for the disk.
            self._flush(file, header.sop_instance_uid)
        else:
            # The disk works while the catalog does.
            file.begin_flush()
        received = Received(header, syntax, 0, size, digest, source, self._catalog.clock.now())
        item = _Item(file, received, self.same_uid, left_behind=left_behind)
        self._group.submit(item)
        decision = item.decision
        assert decision is not None
        if decision.verb:
            log.warning(
                "SOP Instance UID %s from %s was in the archive already: %s",
                header.sop_instance_uid,
                source,
                decision.verb,
            )
        if decision.refusal:
            raise Refused(f"SOP Instance UID {header.sop_instance_uid}: {decision.refusal}")
        if decision.outcome is None:
            raise Conflict(f"SOP Instance UID {header.sop_instance_uid} is in the archive with other content")
        return decision.outcome

    def _flush(self, file: Incoming, uid: str) -> None:
        with self._disk(f": flush {uid}"):
            file.flush()

    def _commit(self, tickets: Sequence[Ticket[_Item]]) -> None:
        """One transaction for all; if it fails, one for each, so that no instance fails another's."""
        items = [ticket.value for ticket in tickets]
        try:
            self._transact(items)
        except Exception as error:  # noqa: BLE001  whatever it is, each is told its own below
            if len(tickets) == 1 and not isinstance(error, Stale):
                tickets[0].error = error
            else:
                self._commit_each(tickets)
        self._settling.owe([item.file for item in items if item.placed or item.in_doubt])

    def _commit_each(self, tickets: Sequence[Ticket[_Item]]) -> None:
        for ticket in tickets:
            try:
                self._transact([ticket.value])
            except Exception as error:  # noqa: BLE001  its submitter raises it
                ticket.error = error

    def _transact(self, items: Sequence[_Item]) -> None:
        uids = sorted({item.received.header.sop_instance_uid for item in items})
        try:
            with self._registrar.transaction(uids) as connection:
                kept, notes = self._decide(items, self._registrar.known(connection, uids))
                with said_of(f"pool {self._pool.name}"):
                    for item in kept:
                        self._place(item)
                    for item in items:
                        self._put_back(connection, item)
                self._registrar.register(connection, [item.received for item in kept], notes)
                for item in items:
                    if item.placed:
                        self._flush(item.file, item.received.header.sop_instance_uid)
        except InDoubt:
            # The commit may have reached the disk. Names and files stay then, whatever a further attempt
            # comes to: the peer sends again, and the digest says which of the two it was.
            for item in items:
                item.key, item.in_doubt = "", True
            raise
        except BaseException:
            self._withdraw(items)
            raise

    def _decide(self, items: Sequence[_Item], found: Found) -> tuple[list[_Item], list[JournalNote]]:
        """Decide about each in turn, those before it in the batch being known to it."""
        kept: list[_Item] = []
        notes: list[JournalNote] = []
        for item in items:
            received = item.received
            uid = received.header.sop_instance_uid
            versions = found.versions.setdefault(uid, [])
            decision = item.decision = decide(
                versions, received.digest, item.rule, left_behind=item.left_behind
            )
            if decision.verb:
                detail = {
                    "sop_instance_uid": uid,
                    "sha256": received.digest.hex(),
                    "versions": len(versions),
                }
                notes.append(JournalNote(received, decision.verb, detail))
            if decision.keeps:
                item.received = received.after(versions, decision.version)
                concealed = Concealment.SHOWN
                if (uid, received.place) in found.rejected:
                    item.received = replace(item.received, rejected=True, counts=False)
                    found.rejected.discard((uid, received.place))
                    concealed = Concealment.REJECTED
                versions.append(Known(decision.version, received.digest, received.place, concealed))
                kept.append(item)
        return kept, notes

    def _place(self, item: _Item) -> None:
        header = item.received.header
        key = layout.instance_path(
            header.study_uid, header.series_uid, header.sop_instance_uid, item.received.version
        )
        if self._shelf.place(item.file.path, key, item.received.digest):
            item.key = key
        item.placed = True

    def _put_back(self, connection: Connection, item: _Item) -> None:
        """Give a duplicate its name where the first one's file is lost and the catalog counts on it."""
        decision, received = item.decision, item.received
        if decision is None or decision.outcome is not StoreOutcome.DUPLICATE:
            return
        header = received.header
        uid = header.sop_instance_uid
        for version in (decision.version, *decision.twins):
            key = layout.instance_path(header.study_uid, header.series_uid, uid, version)
            if self._shelf.holds(key, received.size):
                self._shelf.owe(key)
            elif expects_file(connection, uid, version, self._pool.volume_pk):
                log.warning("%s was lost; %s sent it again, and it is put back", key, received.source_ae)
                self._shelf.place(item.file.path, key, received.digest)
                item.placed = True

    def _withdraw(self, items: Sequence[_Item]) -> None:
        """Take back the names of what was not committed."""
        for item in items:
            if item.key:
                self._shelf.remove(item.key)
            item.key, item.placed = "", False


class Arrival:
    """One instance on its way in: written and digested as it comes. For one thread."""

    def __init__(self, ingest: Ingest, head: bytes, transfer_syntax_uid: str) -> None:
        self._ingest = ingest
        self._syntax = transfer_syntax_uid
        self._head = head
        self._hasher = hashlib.sha256(head)
        self._file: Incoming | None = None
        self.size = len(head)
        """Bytes of the Part 10 file so far."""

    def write(self, parts: Sequence[Buffer]) -> None:
        """Add bytes of the dataset. They are not used after the call returns.

        :raises NoSpace: the pool is full or at its reserve.
        :raises Retryable: the disk failed.
        """
        count = sum(len(part) for part in parts)
        if self._file is None:
            self._file = self._ingest.open_file(0)
            parts = [self._head, *parts]
            count += len(self._head)
            self.size = 0
        with self._ingest.writing(count):
            self._file.write(parts)
        self.size += count
        for part in parts:
            if part is not self._head:
                self._hasher.update(part)

    @contextmanager
    def dataset(self) -> Iterator[memoryview]:
        """What was written, for a reader that goes to and fro."""
        if self._file is None:
            yield memoryview(b"")
            return
        with said_of("reading what came"), self._file.view(len(self._head)) as view:
            yield view

    def keep(self, header: Header, source_ae: str, *, left_behind: bool = False) -> StoreOutcome:
        """Make it durable and catalogued; when this returns, it may be acknowledged.

        :raises Conflict: other bytes under this UID are there and the rule is to reject.
        :raises Retryable: the disk or the database failed; the peer may send again.
        """
        if self._file is None:
            self.write([])
        assert self._file is not None
        digest = self._hasher.digest()
        return self._ingest.finish(
            self._file, header, self._syntax, self.size, digest, source_ae, left_behind=left_behind
        )

    def close(self) -> None:
        """Drop what was not kept. Call it however the arrival ends."""
        file, self._file = self._file, None
        if file is not None and not file.kept:
            file.close()
