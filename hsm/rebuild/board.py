"""How far a rebuild is, over all drives that read at the same time, and when it is through."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from hsm.rebuild.values import Progress, Standing, Tell


def left_for_all(
    under_way: Sequence[float], waiting: int, typical: float | None, drives: int
) -> float | None:
    """Seconds until the last volume is through, where each drive takes the next one when it is free. Pure.

    :param under_way: of each volume that is being read, the seconds that it still takes.
    :param waiting: volumes that nobody has begun.
    :param typical: seconds that a volume takes, its mount included; None while nobody knows.
    """
    if waiting and typical is None:
        return None
    free = sorted(under_way) + [0.0] * max(0, drives - len(under_way))
    if not free:
        return None
    heapq.heapify(free)
    for _ in range(waiting):
        heapq.heapreplace(free, free[0] + (typical or 0.0))
    return max(free)


class Board:
    """What is told while volumes are read; from any thread."""

    def __init__(self, tell: Tell, monotonic: Callable[[], float]) -> None:
        self._tell = tell
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._drives = 1
        self._waiting = 0
        self._began: dict[int, float] = {}
        self._under_way: dict[int, Progress] = {}
        self._took: list[float] = []

    def expect(self, volumes: int, drives: int) -> None:
        """So many volumes are read next, on so many drives at the same time."""
        with self._lock:
            self._waiting, self._drives = volumes, drives
            self._took.clear()

    def begin(self, volume: str, number: int, volumes: int) -> None:
        """A volume is fetched."""
        with self._lock:
            self._waiting = max(0, self._waiting - 1)
            self._began[number] = self._monotonic()
            self._under_way[number] = Progress(volume, number, volumes, 0, None, None)
            self._say()

    def progress(self, progress: Progress) -> None:
        """How far a volume is."""
        with self._lock:
            self._under_way[progress.number] = progress
            self._say()

    def end(self, number: int, *, counts: bool = True) -> None:
        """A volume was read.

        :param counts: what it took says something of the others.
        """
        with self._lock:
            self._under_way.pop(number, None)
            took = self._monotonic() - self._began.pop(number, self._monotonic())
            if counts:
                self._took.append(took)

    def _say(self) -> None:
        now = self._monotonic()
        ends = [
            (now - self._began.get(number, now), each.left_seconds)
            for number, each in self._under_way.items()
        ]
        # What is under way and says when it ends is as good a sample as what has ended.
        samples = self._took + [gone + left for gone, left in ends if left is not None]
        typical = sum(samples) / len(samples) if samples else None
        whole: float | None = None
        if all(left is not None for _, left in ends) or typical is not None:
            lefts = [max(0.0, (typical or 0.0) - gone) if left is None else left for gone, left in ends]
            whole = left_for_all(lefts, self._waiting, typical, self._drives)
        under_way = tuple(replace(each) for _, each in sorted(self._under_way.items()))
        self._tell(Standing(under_way, self._waiting, whole))
