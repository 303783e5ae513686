"""Where objects wait for the next burn: as the tree of files that will be on the disc.

Nothing here is durable: what is not burnt was never counted, and is gone after a crash.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
import threading
from pathlib import Path

from drivers.base import Readable
from drivers.errors import DriverError, NoSpace, Retryable
from drivers.optical.fileset import file_digest
from drivers.optical.index import Object, Piece
from drivers.optical.split import extract, members
from drivers.oserrors import translated
from drivers.transfer import copy_exactly

DICOM, OBJECTS = "DICOM", "OBJECTS"


class Spool:
    """A folder of one mounted disc. Thread-safe."""

    def __init__(self, folder: Path, first: int) -> None:
        """
        :param first: the number of the first object that will be put; unique on the disc.
        """
        self._folder = folder
        self.tree = folder / "tree"
        self._numbers = itertools.count(first)
        self._lock = threading.Lock()
        self.digests: dict[str, bytes] = {}
        """SHA-256 of every file in the tree, by its path."""
        shutil.rmtree(folder, ignore_errors=True)
        with translated(f"make the spool folder {folder}"):
            self.tree.mkdir(mode=0o700, parents=True)

    def take(self, key: str, source: Readable, size: int, digest: bytes | None) -> Object:
        """Read an object from ``source`` and take it apart.

        :raises Corrupt: the source gave other bytes.
        :raises Retryable: the spool's file system is full, which says nothing about the disc.
        """
        with self._lock:
            number = next(self._numbers)
        raw = self._folder / f"raw-{number}"
        try:
            with translated(f"spool {key}"):
                with raw.open("xb", buffering=0) as target:
                    hasher = hashlib.sha256()

                    def write(piece: bytes) -> None:
                        hasher.update(piece)
                        target.write(piece)

                    copy_exactly(source, size, digest, write, key)
                return self._split(key, raw, size, hasher.digest(), number)
        except NoSpace as error:
            self._forget(number)
            raise Retryable(f"the spool {self._folder} is full: {error}") from error
        except DriverError:
            self._forget(number)
            raise
        finally:
            raw.unlink(missing_ok=True)

    def read(self, path: str, offset: int, length: int) -> bytes:
        """A part of a file in the tree."""
        with translated(f"read {path} in the spool"), (self.tree / path).open("rb") as source:
            source.seek(offset)
            return source.read(length)

    def drop(self, each: Object) -> None:
        """Remove an object that will not be burnt."""
        for path in each.paths:
            (self.tree / path).unlink(missing_ok=True)
            self.digests.pop(path, None)
        for folder in {(self.tree / path).parent for path in each.paths}:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if nothing else is in it

    def empty(self) -> None:
        """After a burn."""
        shutil.rmtree(self.tree, ignore_errors=True)
        self.tree.mkdir(mode=0o700)
        self.digests.clear()

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, name: str, data: bytes) -> None:
        """A file of ours in the root of the disc."""
        with translated(f"write {name} into the spool"):
            (self.tree / name).write_bytes(data)
        self.digests[name] = hashlib.sha256(data).digest()

    def _split(self, key: str, raw: Path, size: int, digest: bytes, number: int) -> Object:
        rest = f"{OBJECTS}/O{number:07d}"
        (self.tree / OBJECTS).mkdir(exist_ok=True)
        descriptor = os.open(raw, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = members(descriptor, size)
            if not any(member.part10 for member in found):
                os.rename(raw, self.tree / rest)
                self._note(rest, digest)
                return Object(key, size, digest, rest, ())
            folder = f"{DICOM}/P{number:07d}"
            (self.tree / folder).mkdir(parents=True)
            pieces = []
            for count, member in enumerate(found, start=1):
                if not member.part10 and count > 1:
                    continue  # with the headers: only what is at the beginning is worth a name, the manifest
                path = f"{folder}/F{count:07d}" if member.part10 else f"{OBJECTS}/M{number:07d}"
                hasher = hashlib.sha256()
                extract(descriptor, member.offset, member.size, self.tree / path, hasher.update)
                self._note(path, hasher.digest())
                pieces.append(Piece(member.offset, member.size, path))
            self._write_rest(descriptor, size, pieces, rest)
        finally:
            os.close(descriptor)
        return Object(key, size, digest, rest, tuple(pieces))

    def _write_rest(self, descriptor: int, size: int, pieces: list[Piece], rest: str) -> None:
        at = 0
        with (self.tree / rest).open("xb") as target:
            for piece in (*pieces, Piece(size, 0, "")):
                left = piece.offset - at
                while left:
                    data = os.pread(descriptor, min(left, 1 << 20), at)
                    target.write(data)
                    at, left = at + len(data), left - len(data)
                at = piece.offset + piece.size
        self._note(rest, file_digest(self.tree / rest))

    def _note(self, path: str, digest: bytes) -> None:
        with self._lock:
            self.digests[path] = digest

    def _forget(self, number: int) -> None:
        shutil.rmtree(self.tree / DICOM / f"P{number:07d}", ignore_errors=True)
        for path in (self.tree / OBJECTS).glob(f"?{number:07d}*"):
            path.unlink(missing_ok=True)
        with self._lock:
            for name in [name for name in self.digests if _of(name, number)]:
                del self.digests[name]


def _of(path: str, number: int) -> bool:
    """Whether a path of the tree is of the object with this number."""
    parts = path.split("/")
    return len(parts) > 1 and parts[1][1:] == f"{number:07d}"
