"""The same done for many volumes, on several drives at the same time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lane(Generic[T]):
    """What is done on some drives, and on none but them."""

    items: Sequence[T]
    width: int
    """How many at the same time."""


def side_by_side(
    lanes: Sequence[Lane[T]],
    at_most: int,
    announce: Callable[[T], None],
    act: Callable[[T], None],
    stop: Callable[[], None],
) -> None:
    """Call ``act`` with each item, ``at_most`` of all lanes at the same time; where that is one, in this
    thread. Before that ``announce`` is called with it, in the order of its lane.

    What one call raises ends all: ``stop`` is called, no further item is begun, and once the others have
    ended it is raised here.
    """
    width = min(at_most, sum(lane.width for lane in lanes))
    if width <= 1:
        for lane in lanes:
            for item in lane.items:
                announce(item)
                act(item)
        return
    crew = _Crew(width, announce, act, stop)
    queues = [(deque(lane.items), lane.width) for lane in lanes]
    # Daemons: a second Ctrl-C must end a process whose drive hangs.
    threads = [
        threading.Thread(target=crew.work, args=(queue,), name=f"read-{number}", daemon=True)
        for queue, some in queues
        for number in range(some)
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:
        crew.end()
        for thread in threads:
            thread.join()
        raise
    if crew.raised is not None:
        raise crew.raised


class _Crew(Generic[T]):
    """Threads that take the next item each."""

    def __init__(
        self,
        at_most: int,
        announce: Callable[[T], None],
        act: Callable[[T], None],
        stop: Callable[[], None],
    ) -> None:
        self._announce = announce
        self._act = act
        self._stop = stop
        self._room = threading.Semaphore(at_most)
        self._lock = threading.Lock()
        self._over = False
        self.raised: BaseException | None = None
        """What the first call that failed has raised."""

    def work(self, queue: deque[T]) -> None:
        while True:
            with self._room:
                try:
                    with self._lock:
                        if self._over or not queue:
                            return
                        item = queue.popleft()
                        self._announce(item)
                    self._act(item)
                except BaseException as error:  # noqa: BLE001  who started the threads raises it
                    self.raised = self.raised or error
                    self.end()
                    return

    def end(self) -> None:
        """No further item is begun."""
        with self._lock:
            self._over = True
        self._stop()
