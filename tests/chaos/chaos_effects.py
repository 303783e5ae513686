"""Which faults there are, how often each was injected, and how often it was felt.

A fault that nobody felt proves nothing: an injected one counts only when an operation of the archive
failed because of it, or saw what it had done.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from datetime import datetime

KINDS = (
    "daemon killed",
    "power cut",
    "daemon killed in its start",
    "drive dead",
    "write error",
    "read error",
    "index not written",
    "robot jammed",
    "door open",
    "cartridge torn out",
    "cartridge torn",
    "stickers exchanged",
    "wrong cartridge brought",
    "said done, brought nothing",
    "refused by the operator",
    "not found by the operator",
    "called damaged by the operator",
    "byte flipped while it is written",
    "byte flipped on tape",
    "byte flipped on disk",
    "byte flipped on NAS",
    "byte flipped on S3",
    "byte flipped in a cold class",
    "byte flipped in staging",
    "disk full",
    "disk flush failed",
    "NAS hangs",
    "NAS full",
    "S3 throttles",
    "S3 away",
    "S3 restore takes hours",
    "S3 object cold again too early",
    "database statement lost",
    "database lost before a commit",
    "database lost after a commit",
    "database down",
    "clock forwards",
    "clock backwards",
    "peer down",
    "meanwhile",
)
"""``meanwhile``: something came while a drive was in the middle of another thing."""

LAST_STEPS = 60


class Effects:
    """Counts, and the trace of one life."""

    def __init__(self) -> None:
        self.injected: Counter[str] = Counter()
        self.felt: Counter[str] = Counter()
        self.checks: Counter[str] = Counter()
        """By promise: how many single facts were looked at."""
        self.acts: Counter[str] = Counter()
        self.last: deque[str] = deque(maxlen=LAST_STEPS)
        self.steps = 0
        self._digest = hashlib.sha256()
        self.home = ""

    def inject(self, kind: str) -> None:
        assert kind in KINDS, kind
        self.injected[kind] += 1

    def feel(self, kind: str) -> None:
        assert kind in KINDS, kind
        self.felt[kind] += 1

    def note(self, at: datetime, what: str) -> None:
        """One step of the trace; the same seed gives the same ones."""
        line = f"{at:%d %H:%M:%S.%f} {self.clean(what)}"
        self.steps += 1
        self.last.append(line)
        self._digest.update(line.encode() + b"\n")

    def clean(self, text: str) -> str:
        """Without the folder, which is another one each time."""
        return text.replace(self.home, "~") if self.home else text

    def more(self, text: str) -> None:
        """What belongs to the trace and is too much to show."""
        self._digest.update(self.clean(text).encode())

    @property
    def digest(self) -> str:
        return self._digest.copy().hexdigest()
