"""Composing a package's tar while it is read, and checking one that is read back."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Protocol, Self

from drivers.base import CHUNK_BYTES, Readable
from drivers.errors import Corrupt
from hsm.package import tar
from hsm.package.values import Member, PackagePlan

MANIFEST_BYTES_MAX = 1 << 30
"""No manifest is longer: about two million instances. What claims more is damage, not a manifest."""


class Part10Source(Readable, Protocol):
    """An open Part 10 file."""

    def close(self) -> None: ...


class PackageReader:
    """The bytes of a package as a :class:`drivers.base.Readable`, made from its instance files.

    Every file is opened when its turn comes, checked against its member's size and digest while it is
    read, and closed before the next one. A reader that has raised raises the same again: a failed
    package never looks like one that ended. At most two chunks are held in memory.

    Use as a context manager (or call :meth:`close`) so that an abandoned read leaves no file open.
    """

    def __init__(self, plan: PackagePlan, opener: Callable[[Member], Part10Source]) -> None:
        self._plan = plan
        self._opener = opener
        self._hash = hashlib.sha256()
        self._pieces = self._compose()
        self._rest = memoryview(b"")
        self._at = 0
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Bytes of the whole tar."""
        return self._plan.size

    @property
    def digest(self) -> bytes:
        """SHA-256 of the whole tar.

        :raises ValueError: the end has not been read yet.
        """
        if self._at != self._plan.size:
            raise ValueError(f"{self._plan.identity.key}: read {self._at} of {self._plan.size} bytes so far")
        return self._hash.digest()

    def read(self, size: int = CHUNK_BYTES, /) -> bytes:
        """The next ``min(size, CHUNK_BYTES)`` bytes; fewer only where the package ends, then ``b""``.

        :raises Corrupt: an instance file is not what its member says; the message names it.
        :raises ValueError: ``size`` is negative, or the reader is closed.
        """
        if size < 0:
            raise ValueError("a package is read in pieces; say how many bytes")
        if self._failure is not None:
            raise self._failure
        try:
            return self._read(min(size, CHUNK_BYTES))
        except BaseException as error:
            self._failure = error
            raise

    def close(self) -> None:
        """Close the file that is open, if any. Idempotent."""
        self._pieces.close()
        if self._failure is None and self._at != self._plan.size:
            self._failure = ValueError(f"{self._plan.identity.key}: the reader is closed")

    def _read(self, size: int) -> bytes:
        parts = []
        wanted = size
        while wanted:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._rest = memoryview(piece)  # empty where nothing needs padding
            part, self._rest = self._rest[:wanted], self._rest[wanted:]
            parts.append(part)
            wanted -= len(part)
        data = bytes(parts[0]) if len(parts) == 1 else b"".join(parts)
        self._hash.update(data)
        self._at += len(data)
        return data

    def _compose(self) -> Generator[bytes, None, None]:
        manifest = self._plan.manifest
        yield tar.header(tar.MANIFEST_NAME, len(manifest))
        yield manifest
        yield bytes(tar.padding(len(manifest)))
        for member in self._plan.members:
            yield tar.header(member.name, member.size)
            with contextlib.closing(self._opener(member)) as source:
                yield from _checked(member, source)
            yield bytes(tar.padding(member.size))
        yield bytes(tar.END_BYTES)


def package_digest(plan: PackagePlan, opener: Callable[[Member], Part10Source]) -> bytes:
    """SHA-256 of the whole tar, every instance file checked on the way.

    :raises Corrupt: an instance file is not what its member says.
    """
    with PackageReader(plan, opener) as reader:
        while reader.read(CHUNK_BYTES):
            pass
        return reader.digest


def verify_stream(chunks: Iterable[bytes], size: int, digest: bytes) -> None:
    """Read ``chunks`` to the end.

    :raises Corrupt: they are not ``size`` bytes whose SHA-256 is ``digest``.
    """
    found = hashlib.sha256()
    length = 0
    for chunk in chunks:
        length += len(chunk)
        if length > size:
            raise Corrupt(f"more than the expected {size} bytes")
        found.update(chunk)
    if length != size:
        raise Corrupt(f"{length} bytes; expected {size}")
    if found.digest() != digest:
        raise Corrupt(f"SHA-256 is {found.hexdigest()}; expected {digest.hex()}")


def read_manifest(source: Readable) -> bytes:
    """The manifest at the start of a package's tar; ``source`` is left behind it.

    :raises Corrupt: these bytes do not begin a package, or end too early.
    """
    try:
        size = tar.manifest_size(_exactly(source, tar.BLOCK_BYTES))
    except ValueError as error:
        raise Corrupt(f"not a package: it {error}") from error
    if size > MANIFEST_BYTES_MAX:
        raise Corrupt(f"a manifest of {size} bytes; at most {MANIFEST_BYTES_MAX} are believed")
    return _exactly(source, size)


def _exactly(source: Readable, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = source.read(min(size - len(data), CHUNK_BYTES))
        if not piece:
            raise Corrupt(f"a package's first {size} bytes end after {len(data)}")
        data += piece
    return bytes(data)


def _checked(member: Member, source: Part10Source) -> Iterator[bytes]:
    """The file's bytes.

    :raises Corrupt: too few, too many, or others than the member's digest says.
    """
    digest = hashlib.sha256()
    left = member.size
    while left:
        piece = source.read(min(left, CHUNK_BYTES))
        if not piece:
            raise Corrupt(f"{member.name}: {member.size - left} bytes; the manifest says {member.size}")
        digest.update(piece)
        left -= len(piece)
        yield piece
    if source.read(1):
        raise Corrupt(f"{member.name}: more than the {member.size} bytes that the manifest says")
    if digest.digest() != member.digest:
        raise Corrupt(
            f"{member.name}: SHA-256 is {digest.hexdigest()}; the manifest says {member.digest.hex()}"
        )
