"""Writes one package into the staging area, and what the area's disk says as errors that tell what to do."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from hsm.errors import Corrupt, NoSpace, NotFound, Retryable


class StagingWriter:
    """Writes one package. It ends with :meth:`commit` or :meth:`abort`; an error aborts by itself."""

    def __init__(
        self,
        key: str,
        size: int,
        descriptor: int,
        progress: Callable[[int], None],
        finish: Callable[[], None],
        forget: Callable[[], None],
    ) -> None:
        """
        :param descriptor: of the file to write, closed with it.
        :param progress: told how many bytes more can be read.
        :param finish: gives the package its name; raises when it was removed meanwhile.
        :param forget: takes away what was begun.
        """
        self._key = key
        self._size = size
        self._descriptor: int | None = descriptor
        self._progress = progress
        self._finish = finish
        self._forget = forget
        self._hash = hashlib.sha256()
        self._length = 0

    def write(self, chunk: bytes) -> None:
        """Append; readers may have it as soon as this returns.

        :raises Corrupt: more bytes than were announced.
        :raises NoSpace: the disk is full.
        :raises Retryable: the disk failed.
        """
        with self._aborting() as descriptor:
            if self._length + len(chunk) > self._size:
                raise Corrupt(f"{self._key}: more than the expected {self._size} bytes")
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            self._hash.update(chunk)
            self._length += len(chunk)
            self._progress(len(chunk))

    def commit(self, digest: bytes) -> None:
        """Make the package complete and lasting.

        :raises Corrupt: too few bytes, or their SHA-256 is not ``digest``; nothing is left.
        :raises Retryable: the disk failed, or a reader found the bytes damaged on it; nothing is left.
        """
        with self._aborting() as descriptor:
            if self._length != self._size:
                raise Corrupt(f"{self._key}: {self._length} bytes; expected {self._size}")
            if self._hash.digest() != digest:
                raise Corrupt(f"{self._key}: SHA-256 is {self._hash.hexdigest()}; expected {digest.hex()}")
            os.fsync(descriptor)
            self._finish()
            self._close()

    def abort(self) -> None:
        """Leave nothing. After the end (commit, abort or an error) it does nothing."""
        if self._descriptor is not None:
            self._close()
            self._forget()

    @contextlib.contextmanager
    def _aborting(self) -> Iterator[int]:
        if self._descriptor is None:
            raise ValueError(f"staging: the writer of {self._key} has ended")
        try:
            with translated(self._key):
                yield self._descriptor
        except BaseException:
            self.abort()
            raise

    def _close(self) -> None:
        assert self._descriptor is not None  # both callers look
        descriptor, self._descriptor = self._descriptor, None
        os.close(descriptor)


@contextlib.contextmanager
def translated(key: str) -> Iterator[None]:
    """The staging disk's errors as the kinds that say what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"staging: {key}: {error.filename} is gone") from error
    except OSError as error:
        kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else Retryable
        raise kind(f"staging: {key}: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
