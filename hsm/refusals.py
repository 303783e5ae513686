"""Refused acts in the journal: who was refused what at which door, and never more of it than fits.

Whoever refuses an act notes it here and goes on at once; a thread writes what was noted some moments later,
verb ``refused``, kind ``access``, the door as subject. Anybody can be refused as often as he likes, so the
same refusal is one record a minute, with how often it came, and all together are at most
:data:`RECORDS_A_MINUTE`; what is beyond that is counted in one further record.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from hsm.catalog import journal
from hsm.catalog.engine import Catalog
from hsm.clock import Clock
from hsm.errors import HsmError
from hsm.log import get_logger, neutral

log = get_logger(__name__)

VERB: Final = "refused"
KIND: Final = "access"
ROUND_SECONDS: Final = 1.0
SAME_SECONDS: Final = 60.0
"""The same refusal is written once in so many seconds."""
RECORDS_A_MINUTE: Final = 30
"""Of one process; a flood costs the catalog some 10 MB a day and no more."""
DIFFERENT_MAX: Final = 500
"""Different refusals that wait, and that are remembered as written."""
TEXT_MAX: Final = 200
"""Characters of each field: they are a stranger's."""
MANY: Final = "many"
"""The actor of the record that counts what got none of its own."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused act. Fields are made safe to show and cut; an empty actor becomes ``unknown``."""

    actor: str
    """Who it was, or claimed to be: an AE title, a user of the machine, the holder of a token."""
    door: str
    """Where he came: the name of a DICOM listener, or of a door of the control API."""
    act: str
    """What he wanted: ``associate``, ``move``, ``DELETE /v1/studies``."""
    reason: str
    """Why not."""
    address: str = ""
    """Where from; empty where there is no network between."""

    def __post_init__(self) -> None:
        for name in ("actor", "door", "act", "reason", "address"):
            object.__setattr__(self, name, neutral(str(getattr(self, name))).replace("\0", "")[:TEXT_MAX])
        if not self.actor:
            object.__setattr__(self, "actor", "unknown")
        if not self.door:
            raise ValueError("a refusal without the door it was refused at")

    def detail(self, times: int) -> dict[str, Any]:
        """As it stands in the journal, but for actor and door."""
        found: dict[str, Any] = {"act": self.act, "reason": self.reason, "times": times}
        return found | ({"address": self.address} if self.address else {})


class Refusals:
    """Those of one process. :meth:`note` never waits and never raises."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: OrderedDict[Refusal, int] = OrderedDict()
        self._others: dict[str, int] = {}
        """By door: refusals that get no record of their own."""
        self._written: OrderedDict[Refusal, float] = OrderedDict()
        self._tokens = float(RECORDS_A_MINUTE)
        self._filled_at = clock.monotonic()
        self._others_at = float("-inf")
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, refusal: Refusal) -> None:
        """Somebody was refused something."""
        with self._lock:
            if refusal in self._waiting or len(self._waiting) < DIFFERENT_MAX:
                self._waiting[refusal] = self._waiting.get(refusal, 0) + 1
            else:
                self._count_among_others(refusal.door, 1)

    def start(self) -> None:
        """Write on a thread of its own from now on."""
        self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what still waits, whenever it is due, and end."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self.round(last=True)

    def round(self, *, last: bool = False) -> int:
        """Write what is due; how many records that made.

        What the catalog does not take now waits for the next round.
        """
        with self._lock:
            due = self._due(last=last)
            others = self._due_others(last=last)
        if not due and not others:
            return 0
        try:
            self._write(due, others)
        except (SQLAlchemyError, HsmError) as error:
            log.warning("refused acts wait to be journalled: %s", getattr(error, "orig", error))
            with self._lock:
                for refusal, times in due:
                    self._waiting[refusal] = self._waiting.get(refusal, 0) + times
                for door, times in others:
                    self._count_among_others(door, times)
            return 0
        now = self._clock.monotonic()
        with self._lock:
            for refusal, _ in due:
                self._written[refusal] = now
                self._written.move_to_end(refusal)
            while len(self._written) > DIFFERENT_MAX:
                self._written.popitem(last=False)
        return len(due) + len(others)

    def _run(self) -> None:
        while not self._stopping.wait(ROUND_SECONDS):
            self.round()

    def _due(self, *, last: bool) -> list[tuple[Refusal, int]]:
        now = self._clock.monotonic()
        self._tokens += (now - self._filled_at) * RECORDS_A_MINUTE / 60
        self._tokens = min(float(RECORDS_A_MINUTE), self._tokens)
        self._filled_at = now
        found = []
        for refusal in list(self._waiting):
            if not last and now - self._written.get(refusal, float("-inf")) < SAME_SECONDS:
                continue
            times = self._waiting.pop(refusal)
            if self._tokens < 1:
                self._count_among_others(refusal.door, times)
                continue
            self._tokens -= 1
            found.append((refusal, times))
        return found

    def _due_others(self, *, last: bool) -> list[tuple[str, int]]:
        now = self._clock.monotonic()
        if not self._others or (now - self._others_at < SAME_SECONDS and not last):
            return []
        self._others_at = now
        found, self._others = list(self._others.items()), {}
        return found

    def _count_among_others(self, door: str, times: int) -> None:
        self._others[door] = self._others.get(door, 0) + times

    def _write(self, due: Sequence[tuple[Refusal, int]], others: Sequence[tuple[str, int]]) -> None:
        now = self._clock.now()
        with self._catalog.write() as session:
            for refusal, times in due:
                journal.append(session, now, refusal.actor, VERB, KIND, refusal.door, refusal.detail(times))
            for door, times in others:
                detail = {"act": "various", "reason": "too many to be named one by one", "times": times}
                journal.append(session, now, MANY, VERB, KIND, door, detail)
