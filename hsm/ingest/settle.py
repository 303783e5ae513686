"""The last step of an ingest, after its success was said: flushed final names, temporary ones removed.

An instance is safe before it: its bytes and its temporary name are durable, and so is its row. Should
the final name be lost in a power cut, the next start finds the temporary one and gives it back
(:mod:`hsm.recovery`). So the flush of a folder need not be waited for, and one serves many instances.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from hsm.ingest.incoming import Incoming, remove
from hsm.ingest.shelf import Shelf
from hsm.log import get_logger

log = get_logger(__name__)

PAUSE_SECONDS = 0.25
"""How long a name may wait for others that a flush then serves too."""
OWED_FILES_MAX = 512
OWED_BYTES_MAX = 1 << 30
"""With more than either, who owes waits for the flush: a released file would go on taking room."""


class Settling:
    """Files with two names, the final one not known to be durable yet. Thread-safe."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._lock = threading.Lock()
        self._one_at_a_time = threading.Lock()
        self._owed: list[Path] = []
        self._bytes = 0
        self._owing = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def owe(self, files: Sequence[Incoming]) -> None:
        """Take over files whose final names were given by the shelf and whose rows are committed."""
        for file in files:
            file.keep()
        with self._lock:
            self._owed += (file.path for file in files)
            self._bytes += sum(file.size for file in files)
            many = len(self._owed) >= OWED_FILES_MAX or self._bytes >= OWED_BYTES_MAX
        self._owing.set()
        if many:
            self.settle()

    def settle(self) -> bool:
        """Flush what is owed, and remove the temporary names. Returns when that is done: whether it is.

        Where the flush fails the temporary names stay, and the next start puts things right.
        """
        with self._one_at_a_time:
            with self._lock:
                paths, self._owed, self._bytes = self._owed, [], 0
                self._owing.clear()
            try:
                self._shelf.sync()
            except OSError as error:
                log.error(
                    "%d instances keep their temporary names until the next start: flush of a folder: %s",
                    len(paths),
                    error,
                )
                return False
            for path in paths:
                remove(path)
        return True

    def start(self) -> None:
        """Settle by itself from now on, soon after something is owed."""
        self._thread = threading.Thread(target=self._run, name="settle", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Settle the rest; nothing may be owed after that."""
        self._ending.set()
        self._owing.set()
        if self._thread is not None:
            self._thread.join()
        self.settle()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._owing.wait()
            self._ending.wait(PAUSE_SECONDS)
            self.settle()
