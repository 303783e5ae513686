"""C-MOVEs of workstations: what each was told, what its destination got, and whether that was true.

The archive's own C-MOVE (:mod:`hsm.dicom.retrieve`) and its deliveries run; only the associations are played.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from types import SimpleNamespace
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove  # type: ignore[attr-defined]
from sqlalchemy import Row, text

from hsm.clock import ManualClock
from hsm.dicom.call import Counts, error_comment
from hsm.dicom.deliver import GONE
from hsm.dicom.progress import ALL_FAILED, CANCELLED, PENDING, SOME_FAILED, SUCCESS
from hsm.dicom.sendahead import Ahead
from hsm.dicom.sendline import SubOperation, Verdict
from hsm.dicom.subops import Destination, Unreachable
from hsm.retrieval import Readable, Unobtainable
from tests.chaos.chaos_ledger import Ledger
from tests.sim.taps import Fuse

PEERS = {"DEST": True, "VIEWER": False}
"""Destinations, and whether what found one down is delivered later."""
DOWN = "is down"


@dataclass
class Asked:
    """One C-MOVE as the world outside has it."""

    number: int
    """Its Message ID; no other one has the same."""
    study: int
    destination: str
    uids: frozenset[str]
    got: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    """SOP Instance UID -> why it could not be had when that was last tried."""
    cancelled: bool = False
    unprocessed: bool = False
    """Its caller was told that the archive failed."""
    ended: bool = False
    """Its caller was told how it ended, and that nothing comes later."""


class Caller:
    """Who asks, as :class:`hsm.dicom.call.Call` shows it."""

    abstract_syntax = str(StudyRootQueryRetrieveInformationModelMove)
    transfer_syntax = str(ExplicitVRLittleEndian)
    calling = "WS1"

    def __init__(
        self,
        asked: Asked,
        leaves: Callable[[], bool],
        fuse: Fuse,
        on_told: Callable[[Asked, int, str, Counts | None, set[str]], None],
        priority: int,
        *,
        cancels: bool,
    ) -> None:
        """
        :param leaves: whether the caller's patience is over.
        :param cancels: it says so, instead of hanging up.
        """
        self.message_id = asked.number
        self.request = SimpleNamespace(
            MoveDestination=asked.destination, Identifier=BytesIO(), Priority=priority
        )
        self._asked, self._leaves, self._fuse, self._on_told = asked, leaves, fuse, on_told
        self._cancels = cancels

    @property
    def caller_gone(self) -> bool:
        return not self._cancels and self._leaves()

    @property
    def cancelled(self) -> bool:
        self._asked.cancelled = self._asked.cancelled or (self._cancels and self._leaves())
        return self._asked.cancelled

    def refuse(self, _act: str, why: str) -> None:
        raise AssertionError(f"6: a C-MOVE was refused: {why}")

    def reply(
        self,
        status: int,
        comment: str = "",
        *,
        identifier: bytes | None = None,
        counts: Counts | None = None,
        with_remaining: bool = False,
    ) -> None:
        self._fuse.alive()
        if status != PENDING and not self.caller_gone:
            failed = identifier[8:].decode().rstrip("\0").split("\\") if identifier else []
            self._on_told(self._asked, status, error_comment(comment), counts, set(failed))


class Moves:
    """The book of all C-MOVEs.

    :param down: titles of the destinations that do not answer.
    :param waits: lets everything else go on while a C-MOVE is held.
    """

    def __init__(self, ledger: Ledger, down: Callable[[], set[str]], waits: Callable[[], None]) -> None:
        self.asked: list[Asked] = []
        self.watch = ManualClock()
        """Of whoever delivers later: their patience costs nobody else's time."""
        self._ledger, self._down, self._waits = ledger, down, waits
        self._serving: list[tuple[Asked, bool]] = []
        """And whether somebody waits for it."""

    def ask(self, study: int, destination: str, uids: frozenset[str]) -> Asked:
        self.asked.append(Asked(len(self.asked) + 1, study, destination, uids))
        return self.asked[-1]

    @contextmanager
    def serving(self, number: int, *, held: bool = False) -> Iterator[None]:
        """The archive works on one: its caller waits (``held``), or it is delivered later."""
        self._serving.append((self.asked[number - 1], held))
        try:
            yield
        finally:
            self._serving.pop()

    @property
    def serves(self) -> Asked:
        """What the archive works on just now."""
        return self._serving[-1][0]

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """What is sent arrives here, and what waits for storage lets the others go on."""
        send, look = Destination.send, Ahead.next

        def sends(_: Destination, item: Readable) -> SubOperation:
            return self._arrives(item)

        def looks(ahead: Ahead, seconds: float) -> Readable | Unobtainable | None:
            asked, held = self._serving[-1]
            item = ahead._source.next(0.0)
            if isinstance(item, Unobtainable):
                self._cannot_be_had(asked, item)
            elif item is None and held:
                self._waits()
            elif item is None:
                self.watch.advance(seconds)
            return item

        Destination.send, Ahead.next = sends, looks  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            Destination.send, Ahead.next = send, look  # type: ignore[method-assign]

    # As it happens.

    def _arrives(self, item: Readable) -> SubOperation:
        asked, _ = self._serving[-1]
        if asked.destination in self._down():
            self._ledger.effects.feel("peer down")
            raise Unreachable(f"{asked.destination} {DOWN}")
        uid = item.instance.sop_instance_uid
        self._ledger.served(uid, item.content.whole())
        assert uid in asked.uids, f"6: nobody asked for {uid}"
        assert uid not in asked.got, f"6: {uid} was delivered twice"
        assert not asked.ended, f"6: {uid} is delivered, and its caller was told that it is not"
        asked.got.add(uid)
        return SubOperation(Verdict.COMPLETED)

    def _cannot_be_had(self, asked: Asked, item: Unobtainable) -> None:
        uid = item.instance.sop_instance_uid
        seen = uid in self._ledger.shown(asked.study)
        with self._ledger.engine.connect() as connection:
            self._ledger.refusals.judge(connection, item.instance.package_pk, item.reason, seen=seen)
        asked.refused[uid] = item.reason

    def told(self, asked: Asked, status: int, comment: str, counts: Counts | None, failed: set[str]) -> None:
        """The last response of a C-MOVE.

        :raises AssertionError: it is not true.
        """
        said = f"C-MOVE {asked.number} was told {status:04X} {comment!r}"
        checks = self._ledger.effects.checks
        checks["6 what a C-MOVE was told is true"] += 1
        if status == CANCELLED:
            assert asked.cancelled, f"6: {said}, and nobody cancelled it"
        elif status == SUCCESS:
            assert asked.got == asked.uids, f"6: {said}, and lacks {sorted(asked.uids - asked.got)[:3]}"
            asked.ended = True
        elif status in (SOME_FAILED, ALL_FAILED) and failed:
            assert asked.got | failed == asked.uids, f"6: {said}, and nothing of {asked.uids - asked.got}"
            assert not asked.got & failed, f"6: {said}, and {sorted(asked.got & failed)[:3]} came"
            assert counts is not None, f"6: {said}, without counts"
            assert (counts.completed, counts.failed) == (len(asked.got), len(failed)), f"6: {said}: {counts}"
            self._why_not(asked, said, comment, failed)
        else:
            asked.unprocessed = True

    def _why_not(self, asked: Asked, said: str, comment: str, failed: set[str]) -> None:
        if later := re.search(r"(\d+) delivered later$", comment):
            row = self._requests()[asked.number]
            left = json.loads(row.detail)["instances"]
            assert row.state == "queued", f"6: {said}, and its request is {row.state}"
            assert len(left) == int(later[1]), f"6: {said}, and {len(left)} are left"
            return
        for uid in failed:
            assert uid in asked.refused or DOWN in comment, (
                f"6: {said}, and nobody knows why {uid} is missing"
            )
        asked.ended = True

    # At rest.

    def check_at_rest(self) -> None:
        """Each C-MOVE has ended: of each instance that it named, the destination has it, or somebody was told
        why not.

        :raises AssertionError: not so.
        """
        requests = self._requests()
        for asked in self.asked:
            row = requests.get(asked.number)
            missing = asked.uids - asked.got
            if row is None:  # it was never begun, and its caller knows, or saw the archive die
                assert not asked.got, f"6: C-MOVE {asked.number} is on no record"
            elif row.state == "done":
                assert not missing, f"6: request {row.pk} was done, and {sorted(missing)[:3]} never came"
            elif row.state == "cancelled":
                known = asked.cancelled or (asked.unprocessed and not asked.got)
                assert known, f"6: request {row.pk} was cancelled, and nobody had said so"
            else:
                assert row.state == "failed", f"6: request {row.pk} of C-MOVE {asked.number} is {row.state}"
                for uid in missing:
                    known = uid in asked.refused or DOWN in row.error or self._was_gone(uid, row.error)
                    assert known, f"6: {uid} never came, and nobody knows why: {row.error}"
            self._ledger.effects.checks["6 what a C-MOVE asked for came, or somebody was told why not"] += (
                len(asked.uids)
            )

    def _was_gone(self, uid: str, said: str) -> bool:
        return GONE in said and uid in self._ledger.hidden_once()

    def _requests(self) -> dict[int, Row[Any]]:
        """By Message ID."""
        query = text("SELECT pk, state, error, detail FROM request WHERE kind = 'deliver'")
        with self._ledger.engine.connect() as connection:
            return {json.loads(row.detail)["message_id"]: row for row in connection.execute(query)}
