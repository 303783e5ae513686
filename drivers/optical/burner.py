"""A drive with a disc in it: what is there, bytes from it, and one more session onto it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from drivers.base import CHUNK_BYTES
from drivers.errors import Corrupt, NotFound, OperatorNeeded, Retryable
from drivers.optical import xorriso
from drivers.optical.xorriso import Disc, Extent, State
from drivers.oserrors import translated


class NotBegun(Retryable):
    """Nothing was burnt: the disc is what it was."""


class Burner(Protocol):
    """What a Store needs of the drive that its disc is in."""

    file_bytes_max: int | None
    """The largest file that its file system takes; None: any."""

    def look(self) -> Disc: ...

    def burn(self, tree: Path, name: str, *, close: bool) -> None: ...

    def contents(self) -> Contents: ...


class XorrisoBurner:
    """A burner's device (``/dev/sr0``) or an image file (``stdio:/path``)."""

    file_bytes_max: int | None = None

    def __init__(self, device: str, speed: int | None = None) -> None:
        self.device = device
        self._speed = speed

    def look(self) -> Disc:
        """What is in the drive now."""
        return xorriso.look(self.device)

    def burn(self, tree: Path, name: str, *, close: bool) -> None:
        """See :func:`drivers.optical.xorriso.burn`."""
        xorriso.burn(self.device, tree, name, close=close, speed=self._speed)

    def contents(self) -> Contents:
        """The disc's files as of its last session.

        :raises OperatorNeeded: the device cannot be opened.
        """
        path = self.device.removeprefix("stdio:")
        extents = xorriso.files(self.device)
        descriptor = _open(path)
        try:
            found = Contents(descriptor, path, extents)
            if os.lseek(descriptor, 0, os.SEEK_END) >= found.used or path != self.device:
                return found
        except BaseException:
            os.close(descriptor)
            raise
        # Just burnt, and the kernel still goes by the size of before.
        found.close()
        xorriso.reload(self.device)
        return Contents(_open(path), path, extents)


def _open(path: str) -> int:
    with translated(f"open {path}"):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


class Contents:
    """An open disc: its files, read where they lie."""

    def __init__(self, descriptor: int, name: str, extents: Mapping[str, tuple[Extent, ...]]) -> None:
        self._descriptor = descriptor
        self._name = name
        self._extents = {path.lstrip("/"): where for path, where in extents.items()}

    def __contains__(self, path: str) -> bool:
        return path in self._extents

    def size(self, path: str) -> int:
        """:raises NotFound: no such file."""
        return sum(extent.size for extent in self._where(path))

    @classmethod
    def none(cls, name: str) -> Contents:
        """Of a blank disc."""
        return cls(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), name, {})

    @property
    def used(self) -> int:
        """Where the last file ends."""
        ends = [each.position + each.size for where in self._extents.values() for each in where]
        return max(ends, default=0)

    def read(self, path: str, offset: int, length: int) -> Iterator[bytes]:
        """:raises Corrupt: the medium gives fewer bytes, or none."""
        at = 0
        for extent in self._where(path):
            low, high = max(offset, at), min(offset + length, at + extent.size)
            position = extent.position + low - at
            at += extent.size
            while low < high:
                piece = self._pread(path, position, min(high - low, CHUNK_BYTES))
                low, position = low + len(piece), position + len(piece)
                yield piece

    def whole(self, path: str, most: int) -> bytes:
        """A small file.

        :raises Corrupt: it is larger than ``most``.
        """
        size = self.size(path)
        if size > most:
            raise Corrupt(f"{self._name}: {path} of {size} bytes; at most {most} are believed")
        return b"".join(self.read(path, 0, size))

    def digest(self, path: str) -> bytes:
        """SHA-256 of a file, read from the medium."""
        found = hashlib.sha256()
        for piece in self.read(path, 0, self.size(path)):
            found.update(piece)
        return found.digest()

    def drop_caches(self) -> None:
        """What is read next comes from the medium."""
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _where(self, path: str) -> tuple[Extent, ...]:
        if path not in self._extents:
            raise NotFound(f"{self._name}: the disc has no file {path}")
        return self._extents[path]

    def _pread(self, path: str, position: int, size: int) -> bytes:
        try:
            piece = os.pread(self._descriptor, size, position)
        except OSError as error:  # a sector that cannot be read stays so
            raise Corrupt(f"{self._name}: {path} at byte {position}: {error.strerror}") from error
        if not piece:
            raise Corrupt(f"{self._name}: {path} ends early, at byte {position} of the disc")
        return piece


def require_disc(disc: Disc, name: str) -> None:
    """:raises OperatorNeeded: the drive is empty."""
    if disc.state is State.EMPTY:
        raise OperatorNeeded(f"drive {name} is empty, or its disc is not recognised; put one in")
