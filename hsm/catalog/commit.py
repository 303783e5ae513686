"""Group commit: what several threads want made durable is done in batches, by one of them at a time.

A flush costs the same for one instance as for ten. While one batch is being committed, whoever comes
next queues up, and all who queue are the next batch. The thread that finds nobody at work does it
itself, so a single association pays for no hand-over to another thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

BATCH_MAX = 64


class Ticket(Generic[T]):
    """One value on its way through a batch; :attr:`error` is what its submitter is to see."""

    __slots__ = ("done", "error", "turn", "value")

    def __init__(self, value: T) -> None:
        self.value = value
        self.error: BaseException | None = None
        self.done = False
        self.turn = threading.Lock()
        self.turn.acquire()


class GroupCommit(Generic[T]):
    """Runs ``act`` on batches in the order of submission; two batches never overlap.

    The queue is as long as there are threads that wait in :meth:`submit`, each for its own value.

    :param act: does a batch and sets :attr:`Ticket.error` on those that failed; what it raises is the
        error of all of them.
    """

    def __init__(self, act: Callable[[Sequence[Ticket[T]]], None], batch_max: int = BATCH_MAX) -> None:
        self._act = act
        self._batch_max = batch_max
        self._lock = threading.Lock()
        self._queue: deque[Ticket[T]] = deque()
        self._led = False

    @property
    def busy(self) -> bool:
        """Whether a batch is being done; who submits now will wait for its end."""
        return self._led

    def submit(self, value: T) -> None:
        """Return when the batch with this value is done.

        :raises BaseException: the value's error.
        """
        ticket = Ticket(value)
        with self._lock:
            self._queue.append(ticket)
            leads = not self._led
            self._led = True
        if not leads:
            # Woken when it is done, or as the head of the queue, to lead.
            ticket.turn.acquire()
        if not ticket.done:
            self._lead(ticket)
        if ticket.error is not None:
            raise ticket.error

    def _lead(self, own: Ticket[T]) -> None:
        with self._lock:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch_max))]
        try:
            self._act(batch)
        except BaseException as error:  # noqa: BLE001  each submitter raises it
            for ticket in batch:
                ticket.error = error
        with self._lock:
            heir = self._queue[0] if self._queue else None
            self._led = heir is not None
        if heir is not None:
            heir.turn.release()
        for ticket in batch:
            ticket.done = True
            if ticket is not own:
                ticket.turn.release()
