"""What of a retrieve is told to the history (statistics) and to the journal (who had what)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hsm.catalog.access import AccessLog, Note
from hsm.catalog.history import Recorder, Retrieved
from hsm.clock import Clock
from hsm.model import InstanceRef, Tier

STAGED = "staging"
"""For the history: read from the staging area, to which somebody had recalled it before."""
SLOWEST_LAST = (*(tier.value for tier in (Tier.ONLINE, Tier.NEARLINE)), STAGED, Tier.OFFLINE.value)


@dataclass(slots=True)
class _Told:
    """What one study's share of a retrieval was."""

    waited_seconds: float
    bytes: int = 0
    tier: str = ""
    """Where the slowest part of it was read from."""
    instances: int = 0


class Account:
    """Of one retrieve; told study by study, when it ends."""

    def __init__(
        self, history: Recorder | None, accesses: AccessLog | None, clock: Clock, who: str, ae: str
    ) -> None:
        """
        :param history: where retrieves are noted; nowhere without it.
        :param accesses: what puts each study's retrieve into the journal; None: nothing does.
        :param who: the retrieve, in words.
        :param ae: the calling AE title; empty where nobody called.
        """
        self._history = history
        self._accesses = accesses
        self._clock = clock
        self._who = who
        self._ae = ae
        self._opened = clock.monotonic()
        self._told: dict[str, _Told] = {}
        self.is_wanted = history is not None or accesses is not None
        """Whether anybody is told."""

    def begun(self, study_uids: Sequence[str]) -> None:
        """These studies were asked for."""
        if self._accesses is not None and self._ae:
            now = self._clock.now()
            for uid in study_uids:
                detail = {"how": self._who, "to": destination(self._who, self._ae)}
                self._accesses.note(Note(now, f"ae:{self._ae}", "retrieve begun", "study", uid, detail))

    def read(self, instance: InstanceRef, tier: str) -> None:
        """One more instance of its study was read, from there."""
        told = self._told.get(instance.study_uid)
        if told is None:
            waited = self._clock.monotonic() - self._opened
            told = self._told[instance.study_uid] = _Told(waited, tier=tier)
        told.bytes += instance.size
        told.instances += 1
        if told.tier != tier:
            told.tier = max(told.tier, tier, key=SLOWEST_LAST.index)

    def ended(self) -> None:
        """Tell what was read since the last time. Idempotent."""
        told, self._told = self._told, {}
        now = self._clock.now()
        for uid, each in told.items():
            if self._history is not None:
                seconds = each.waited_seconds
                self._history.retrieved(Retrieved(uid, now, self._ae, each.bytes, each.tier, seconds))
            if self._accesses is not None and self._ae:
                detail: dict[str, str | int] = {"how": self._who, "to": destination(self._who, self._ae)}
                detail |= {"instances": each.instances, "bytes": each.bytes}
                self._accesses.note(Note(now, f"ae:{self._ae}", "retrieved", "study", uid, detail))


def destination(who: str, ae: str) -> str:
    """To whom a retrieve sends, by what it calls itself; the caller where it says nobody else. Pure."""
    for start, end in ((f"C-MOVE from {ae} to ", ""), ("delivery to ", f" for {ae}")):
        if who.startswith(start) and who.endswith(end):
            return who.removeprefix(start).removesuffix(end)
    return ae
