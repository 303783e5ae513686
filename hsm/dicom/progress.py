"""When a retrieve says Pending, and with which status it ends. Pure.

PS3.4 section C.4.2.1.6 and table C.4-2.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

from hsm.dicom.call import COMMENT_CHARACTERS_MAX, Counts
from hsm.dicom.sendline import SubOperation, Verdict
from hsm.model import InstanceRef

SUCCESS: Final = 0x0000
PENDING: Final = 0xFF00
CANCELLED: Final = 0xFE00
SOME_FAILED: Final = 0xB000
CANNOT_COUNT: Final = 0xA701
ALL_FAILED: Final = 0xA702
DESTINATION_UNKNOWN: Final = 0xA801
BAD_IDENTIFIER: Final = 0xA900

_LEAD_ON: Final = frozenset(
    ["a", "an", "and", "at", "for", "in", "is", "of", "on", "or", "since", "the", "to"]
)
"""Words that nothing is cut behind."""
PENDING_GAP_SECONDS: Final = 0.5
"""Progress is not reported more often than this."""


class End(enum.Enum):
    """Why a retrieve ended."""

    THROUGH = "every instance was sent or found unobtainable"
    CANCELLED = "the caller cancelled it"
    GONE = "the caller went away"
    TIME_OVER = "it was held as long as hold_seconds_max allows"
    CROWDED = "as many retrieves as may wait do"
    UNREACHABLE = "the destination cannot be reached"
    STOPPING = "the archive is stopping"
    BROKEN = "the archive failed"


class Cadence:
    """Decides when the next Pending response is due."""

    def __init__(self, pending_seconds: float, now: float) -> None:
        self._every = pending_seconds
        self._last = now
        self._reported = 0

    def due(self, now: float, handled: int) -> bool:
        """Whether to send one now; the caller then does.

        :param handled: sub-operations that ended so far; the first one is reported at once.
        """
        gap = now - self._last
        moved = handled != self._reported
        if gap >= self._every or (moved and (gap >= PENDING_GAP_SECONDS or self._reported == 0)):
            self._last, self._reported = now, handled
            return True
        return False

    def seconds_left(self, now: float) -> float:
        """Until a Pending is due although nothing moves."""
        return max(0.0, self._last + self._every - now)


@dataclass
class Tally:
    """What became of each instance so far."""

    left: dict[int, InstanceRef]
    """By primary key, in the order asked for."""
    completed: int = 0
    warning: int = 0
    failed: list[str] = field(default_factory=list)
    """SOP Instance UIDs."""
    delivered: list[str] = field(default_factory=list)
    """SOP Instance UIDs of completed ones and of those with a warning."""
    passing: list[str] = field(default_factory=list)
    """Of the failed ones those that may go well later."""
    reason: str = ""
    """Of the first failure."""

    def note(self, instance: InstanceRef, outcome: SubOperation) -> None:
        del self.left[instance.pk]
        if outcome.verdict is Verdict.FAILED:
            self.failed.append(instance.sop_instance_uid)
            if outcome.passing:
                self.passing.append(instance.sop_instance_uid)
            self.reason = self.reason or outcome.reason
            return
        self.delivered.append(instance.sop_instance_uid)
        if outcome.verdict is Verdict.WARNING:
            self.warning += 1
        else:
            self.completed += 1

    def give_up(self, reason: str) -> None:
        """Everything that is left counts as failed."""
        for instance in list(self.left.values()):
            self.note(instance, SubOperation(Verdict.FAILED, reason))

    @property
    def handled(self) -> int:
        return self.completed + self.warning + len(self.failed)

    @property
    def counts(self) -> Counts:
        return Counts(len(self.left), self.completed, len(self.failed), self.warning)


def final_status(end: End, tally: Tally) -> int:
    """The status of the last response.

    A time limit, an unreachable destination and a stop have no status of their own: what was not
    sent counts as failed, and Error Comment says why.
    """
    if end is End.CANCELLED:
        return CANCELLED
    if tally.failed and not tally.delivered:
        return ALL_FAILED
    return SOME_FAILED if tally.failed or tally.warning else SUCCESS


def final_comment(end: End, tally: Tally, *, later: bool, waiting_for: str) -> str:
    """Why it ended so, for Error Comment (0000,0902), which has 64 characters; empty for success.

    :param later: whether a worker delivers what is missing.
    """
    if end is End.CANCELLED or not tally.failed:
        return ""
    missing = len(tally.failed)
    if later:
        why = tally.reason if end is End.UNREACHABLE else waiting_for
        return fitting(why or end.value, f"; {missing} delivered later")
    if end is End.CROWDED:
        return fitting(end.value, f"; {missing} recalled, ask again")
    if end is End.TIME_OVER:
        return fitting(waiting_for or end.value, f"; {missing} not sent in time")
    return f"{missing} failed: {tally.reason or end.value}"


def fitting(text: str, end: str) -> str:
    """A comment whose end is always read: the beginning is shortened, between words, where both are too long
    for an Error Comment."""
    room = COMMENT_CHARACTERS_MAX - len(end)
    text = " ".join(text.split())
    if len(text) <= room:
        return text + end
    words = text[: room + 1].split(" ")[:-1]
    while words and words[-1] in _LEAD_ON:
        words.pop()
    return (" ".join(words) or text[:room]).rstrip(",;: ") + end
