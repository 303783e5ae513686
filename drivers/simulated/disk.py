"""Small JSON files that are either the old ones or the new ones, and a lock between processes."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drivers.walk import FOLDER_FLAGS


def read_json(path: Path) -> Any:
    """The file's value; None when there is no file. :raises ValueError: it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def replace_json(path: Path, value: Any) -> None:
    """Replace the file by ``value``, durably, in one step. One writer at a time."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, separators=(",", ":"))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, FOLDER_FLAGS)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class FileLock:
    """Mutual exclusion among threads and processes; freed when its holder dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._threads:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield
            finally:
                os.close(fd)
