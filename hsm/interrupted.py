"""What was being received when a daemon died: kept aside until :mod:`hsm.recovery` has looked at it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from drivers.folder import INCOMING
from drivers.walk import FOLDER_FLAGS, sync_folder

INTERRUPTED = "interrupted"
"""The folder below ``.incoming`` where it is kept."""


def keep_interrupted(root: Path) -> int:
    """Move what a dead daemon was receiving out of the way of the Store, which would delete it: some of
    it may be whole. :mod:`hsm.recovery` looks at it; how many files there are.

    A file that a living process still writes is locked by it and left alone. No file is without a durable
    name at any time: these may be the only ones of what was acknowledged.
    """
    folder = root / INCOMING
    kept: list[Path] = []
    for path in sorted(folder.glob("*.part")):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            (folder / INTERRUPTED).mkdir(exist_ok=True)
            _link_again(path, folder / INTERRUPTED / path.name)
            kept.append(path)
        finally:
            os.close(descriptor)
    if kept:
        for each in (folder / INTERRUPTED, folder):
            _sync(each)
        for path in kept:
            path.unlink()
    return len(kept)


def _link_again(path: Path, target: Path) -> None:
    """Give a file a second name, which it may have from a start that did not come to its end."""
    try:
        os.link(path, target, follow_symlinks=False)
    except FileExistsError:
        if not path.samefile(target):
            raise


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, FOLDER_FLAGS)
    try:
        sync_folder(descriptor)
    finally:
        os.close(descriptor)
