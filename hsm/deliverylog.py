"""What destinations have answered for, written down at once: a daemon that is killed sends none of it again.

A line a SOP Instance UID in a file a delivery. It is written without waiting for the disk, so it survives the
process and not a power cut; the catalog, where it goes every few seconds, survives both.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
READ_BYTES_MAX = 64 << 20


class DeliveryLog:
    """The files, below one folder.

    :param folder: made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[int, int] = {}

    def note(self, key: int, sop_instance_uid: str) -> None:
        """The destination of this delivery has this instance. One thread at a time a delivery.

        :raises OSError: it cannot be written down.
        """
        descriptor = self._open.get(key)
        if descriptor is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = self._open[key] = os.open(self._path(key), _FLAGS, 0o600)
        os.write(descriptor, f"{sop_instance_uid}\n".encode("ascii", "replace"))

    def close(self, key: int) -> None:
        """Nobody works on this delivery for now."""
        descriptor = self._open.pop(key, None)
        if descriptor is not None:
            os.close(descriptor)

    def noted(self, key: int) -> set[str]:
        """What the destination has, as far as it was noted here."""
        try:
            with self._path(key).open("rb") as file:
                text = file.read(READ_BYTES_MAX)
        except FileNotFoundError:
            return set()
        # The last line counts only whole: a kill may have cut it.
        return {line.decode("ascii", "replace") for line in text.split(b"\n")[:-1]}

    def forget(self, key: int) -> None:
        """The delivery has ended."""
        self.close(key)
        with contextlib.suppress(FileNotFoundError):
            self._path(key).unlink()

    def keep_only(self, keys: set[int]) -> None:
        """At start: delete what belongs to deliveries that have ended."""
        if not self._folder.is_dir():
            return
        for path in self._folder.glob("*.sent"):
            if not (path.stem.isdigit() and int(path.stem) in keys):
                path.unlink(missing_ok=True)

    def _path(self, key: int) -> Path:
        return self._folder / f"{key}.sent"
