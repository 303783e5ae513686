"""A file-set in a folder: Part 10 files, DICOMDIR, a text for people and a list of digests.

Whoever puts files in calls :meth:`FileSet.add` for each and :meth:`FileSet.finish` once.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from drivers.base import CHUNK_BYTES
from drivers.errors import Corrupt
from drivers.optical.dicomdir import NAME, Entry, build, read_entry

README = "README"
DIGESTS = "SHA256SUMS"


@dataclass
class FileSet:
    """A file-set that is being made in ``root``."""

    root: Path
    set_id: str
    set_uid: str
    entries: list[Entry] = field(default_factory=list)
    digests: dict[str, bytes] = field(default_factory=dict)
    """SHA-256 by relative path."""
    unlisted: list[str] = field(default_factory=list)
    """Files that the directory does not name, and why."""

    def add(self, file_id: Sequence[str], digest: bytes) -> None:
        """Note a Part 10 file that lies in the folder already."""
        name = "/".join(file_id)
        self.digests[name] = digest
        try:
            self.entries.append(read_entry(self.root.joinpath(*file_id), file_id))
        except Corrupt as error:
            self.unlisted.append(f"{name}: {error}")

    def finish(self, readme: str) -> None:
        """Write README, DICOMDIR and the list of digests, and flush every file."""
        text = readme.replace("\n", "\r\n").encode("latin-1", "replace")
        for name, data in (
            (README, text),
            (NAME, build(self.entries, self.set_id, self.set_uid, (README,))),
        ):
            (self.root / name).write_bytes(data)
            self.digests[name] = hashlib.sha256(data).digest()
        (self.root / DIGESTS).write_bytes(digest_list(self.digests))
        sync_tree(self.root)


def digest_list(digests: dict[str, bytes]) -> bytes:
    """What ``sha256sum -c`` reads."""
    return "".join(f"{digest.hex()}  {name}\n" for name, digest in sorted(digests.items())).encode("ascii")


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as source:
        while piece := source.read(CHUNK_BYTES):
            found.update(piece)
    return found.digest()


def sync_tree(root: Path) -> None:
    """Flush every file and folder below ``root``, and ``root``."""
    for folder, _, names in os.walk(root, topdown=False):
        for path in _paths(folder, names):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _paths(folder: str, names: Iterable[str]) -> list[str]:
    return [*(os.path.join(folder, name) for name in names), folder]
