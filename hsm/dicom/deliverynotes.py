"""The durable side of one C-MOVE: what its destination has is written down while it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from hsm.clock import Clock
from hsm.dicom.progress import End, Tally
from hsm.model import InstanceRef

NOTE_PROGRESS_SECONDS: Final = 2.0
# The caller that cancelled does not want it; one that is told of a failing destination can ask again.
_DELIVERED_LATER: Final = frozenset({End.GONE, End.TIME_OVER, End.CROWDED, End.STOPPING, End.BROKEN})


class Deliveries(Protocol):
    """C-MOVEs as durable work; :class:`hsm.delivery.Deliveries` is one."""

    def begin(
        self, destination: str, calling: str, message_id: int, instances: Sequence[InstanceRef]
    ) -> int: ...
    def finish(self, key: int, *, failed: int, comment: str) -> None: ...
    def cancel(self, key: int) -> None: ...
    def hand_over(self, key: int, undelivered: Sequence[str]) -> None: ...
    def answered(self, key: int, sop_instance_uid: str) -> None: ...
    def delivered(self, key: int, sop_instance_uids: Sequence[str]) -> None: ...


class DeliveryNotes:
    """The durable side of one C-MOVE; silent where nothing is delivered later."""

    def __init__(
        self, deliveries: Deliveries, key: int | None, clock: Clock, *, when_down: bool = False
    ) -> None:
        self._deliveries = deliveries
        self._key = key
        self._clock = clock
        self._noted = self._written = 0
        self._at = clock.monotonic()
        self._ends = _DELIVERED_LATER | ({End.UNREACHABLE} if when_down else set())

    def goes_on(self, end: End) -> bool:
        """Whether what is left after such an end is delivered later."""
        return self._key is not None and end in self._ends

    def progress(self, tally: Tally) -> None:
        """Record what the destination has, so that a restart does not send it again: at once in a file, now
        and then in the catalog."""
        now = self._clock.monotonic()
        if self._key is not None:
            for uid in tally.delivered[self._written :]:
                self._deliveries.answered(self._key, uid)
            self._written = len(tally.delivered)
        if self._key is None or now - self._at < NOTE_PROGRESS_SECONDS:
            return
        new = tally.delivered[self._noted :]
        if new:
            self._deliveries.delivered(self._key, new)
            self._noted += len(new)
        self._at = now

    def close(self, end: End, tally: Tally, undelivered: Sequence[str], comment: str) -> None:
        if self._key is None:
            return
        if end is End.CANCELLED:
            self._deliveries.cancel(self._key)
        elif undelivered:
            self._deliveries.hand_over(self._key, undelivered)
        else:
            self._deliveries.finish(self._key, failed=len(tally.failed), comment=comment)
