"""Which file system is mounted where: ``/proc/self/mountinfo``, proc_pid_mountinfo(5)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")
_NO_WRITES = frozenset({"ro", "emergency_ro", "shutdown"})
"""The second and third say what ext4 has done by itself, of a mount that is still called ``rw``."""
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted file system."""

    device: str
    """``major:minor`` of its device, as :func:`os.stat` gives it for files on it."""
    point: str
    kind: str
    """``ext4``, ``xfs``, ..."""
    source: str
    """What was mounted: ``/dev/mapper/pacs1``."""
    read_only: bool
    """The mount or the file system itself: the kernel sets the second after errors."""


def parse(text: str) -> Iterator[Mount]:
    """The mounts of a ``mountinfo`` file, in its order; lines of another shape are left out."""
    for line in text.splitlines():
        before, found, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        if not found or len(fields) < 6 or len(tail) < 3:
            continue
        flags = {*fields[5].split(","), *tail[2].split(",")}
        yield Mount(fields[2], _plain(fields[4]), tail[0], _plain(tail[1]), bool(flags & _NO_WRITES))


def mount_of(path: str | os.PathLike[str], text: str | None = None) -> Mount | None:
    """The mount that ``path``, made absolute, lies on. Of two at one point the later one covers the other."""
    text = MOUNTINFO.read_text(errors="surrogateescape") if text is None else text
    wanted = os.path.realpath(path)
    best: Mount | None = None
    for mount in parse(text):
        inside = wanted == mount.point or wanted.startswith(mount.point.rstrip("/") + "/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
