"""What exports of a daemon that was killed left where they were to go, and its removal.

An export that prepares something beside its target notes it first, in the daemon's own folder, and marks it
with the same unguessable word. Only what carries both is ever removed: at the daemon's start, and before the
next export into the same folder (a stick may have been out when the daemon started).
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hsm.log import get_logger

log = get_logger(__name__)

PREFIX = ".hsm-export-"
MARKER = ".hsm-export"
"""The file in a folder that says whose it is."""
KEPT_SECONDS = 90 * 86400.0
"""So long it is remembered what may lie on a medium that is not there."""


class Leavings:
    """Notes in ``folder``, one file each, named by the word. Thread-safe.

    :param now: seconds since 1970, as files have them.
    """

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._now = now
        self._lock = threading.Lock()
        self._alive: set[str] = set()

    def begin(self, parent: Path, suffix: str = "") -> Path:
        """Note that ``parent`` is about to get something, and how it must be called; the note is durable.

        :raises OSError: it cannot be noted.
        """
        word = uuid.uuid4().hex
        path = parent / f"{PREFIX}{word}{suffix}"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock:
            self._alive.add(word)
        with (self._folder / word).open("x", encoding="utf-8", errors="surrogateescape") as note:
            note.write(str(path))
            note.flush()
            os.fsync(note.fileno())
        return path

    def mark(self, folder: Path) -> None:
        """Put the word into a folder that was noted and made."""
        (folder / MARKER).write_text(_word(folder), "ascii")

    def end(self, path: Path) -> None:
        """The export that noted it is over: remove it. What cannot be removed now is owed."""
        word = _word(path)
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            (self._folder / word).unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s is removed later: %s", path, error)
        with self._lock:
            self._alive.discard(word)

    def settle(self, parent: Path | None = None) -> int:
        """Remove what dead exports left (below ``parent``); how many things."""
        removed = 0
        with self._lock:
            alive = set(self._alive)
        for note in self._notes():
            if note.name in alive:
                continue
            try:
                path = Path(note.read_text("utf-8", errors="surrogateescape"))
                if parent is not None and path.parent != parent:
                    continue
                if _remove(path, note.name):
                    removed += 1
                    note.unlink()
                    log.info("removed %s, which an export that was killed had left", path)
                elif self._now() - note.stat().st_mtime > KEPT_SECONDS:
                    note.unlink()
            except OSError as error:
                log.warning("what an export left is not removed yet: %s", error)
        return removed

    def _notes(self) -> list[Path]:
        with suppress(FileNotFoundError):
            return sorted(self._folder.iterdir())
        return []


def _word(path: Path) -> str:
    return path.name.removeprefix(PREFIX).split(".")[0]


def _remove(path: Path, word: str) -> bool:
    """Remove it if it is there and ours; whether it was.

    :raises OSError: it cannot be removed.
    """
    if not path.name.startswith(PREFIX) or _word(path) != word:
        return False
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISREG(kind):
        path.unlink()
        return True
    if not stat.S_ISDIR(kind):
        return False
    with suppress(OSError):
        path.rmdir()  # killed before it was marked: there is nothing in it
        return True
    marker = path / MARKER
    if marker.is_symlink() or not marker.is_file() or marker.read_bytes() != word.encode("ascii"):
        return False
    shutil.rmtree(path)
    return True
