"""One writer of a key at a time, inside this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from drivers.errors import Retryable


class KeyTurns:
    """Whoever writes a key takes its turn; another key is in nobody's way."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._taken: set[str] = set()

    @contextmanager
    def turn(self, key: str, seconds: float) -> Iterator[None]:
        """Wait at most ``seconds`` for the turn. :raises Retryable: another writer still has it."""
        with self._condition:
            if not self._condition.wait_for(lambda: key not in self._taken, seconds):
                raise Retryable(f"put {key}: another put of it has not ended within {seconds:.0f} s")
            self._taken.add(key)
        try:
            yield
        finally:
            with self._condition:
                self._taken.discard(key)
                self._condition.notify_all()
