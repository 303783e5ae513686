"""Composing a package's tar while it is read, and checking one that is read back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Any, Protocol, Self

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

    :param digests: compare each file's digest; without it only sizes are, for whoever compares the digest of
        the whole package.

    Use as a context manager (or call :meth:`close`) so that an abandoned read leaves no file open.
    """

    def __init__(
        self, plan: PackagePlan, opener: Callable[[Member], Part10Source], *, digests: bool = True
    ) -> None:
        self._plan = plan
        self._digests = digests
        self._opener = opener
        self._hash: Any = hashlib.sha256()
        self._pieces = self._compose()
        self._rest = memoryview(b"")
        self._body: _Body | None = None
        """The instance file that is being read."""
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

        :raises ValueError: the end has not been read yet, or not all of it with :meth:`read`.
        """
        if self._hash is None:
            raise ValueError(f"{self._plan.identity.key}: was not digested while it was read")
        if self._at != self._plan.size:
            raise ValueError(f"{self._plan.identity.key}: read {self._at} of {self._plan.size} bytes so far")
        digest: bytes = self._hash.digest()
        return digest

    def read(self, size: int = CHUNK_BYTES, /) -> bytes:
        """The next ``min(size, CHUNK_BYTES)`` bytes; fewer only where the package ends, then ``b""``.

        :raises Corrupt: an instance file is not what its member says; the message names it.
        :raises ValueError: ``size`` is negative, or the reader is closed.
        """
        if size < 0:
            raise ValueError("a package is read in pieces; say how many bytes")
        left = self._plan.size - self._at
        data = bytearray(min(size, CHUNK_BYTES, max(left, 1)))
        with memoryview(data) as view:
            got = self._guarded(view)
        del data[got:]
        if self._hash is not None:
            self._hash.update(data)
        return bytes(data)

    def fill(self, buffer: memoryview, /) -> int:
        """Compose the next bytes in ``buffer``, which spares copies; how many. Fewer than it holds only
        where the package ends. The digest of the whole is left to whoever takes them.

        :raises Corrupt, ValueError: as :meth:`read`.
        """
        self._hash = None
        return self._guarded(buffer)

    def close(self) -> None:
        """Close the file that is open, if any. Idempotent."""
        if self._body is not None:
            self._body.close()
            self._body = None
        self._pieces.close()
        if self._failure is None and self._at != self._plan.size:
            self._failure = ValueError(f"{self._plan.identity.key}: the reader is closed")

    def _guarded(self, buffer: memoryview) -> int:
        if self._failure is not None:
            raise self._failure
        try:
            got = self._fill(buffer)
        except BaseException as error:
            self._failure = error
            raise
        self._at += got
        return got

    def _fill(self, buffer: memoryview) -> int:
        at, wanted = 0, len(buffer)
        while at < wanted:
            if self._rest:
                part = self._rest[: wanted - at]
                buffer[at : at + len(part)] = part
                self._rest = self._rest[len(part) :]
                at += len(part)
            elif self._body is not None:
                at += self._body.fill(buffer[at:])
                if not self._body.left:
                    body, self._body = self._body, None
                    body.end()
            else:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                if isinstance(piece, bytes):
                    self._rest = memoryview(piece)
                else:
                    self._body = _Body(piece, self._opener(piece), self._digests)
        return at

    def _compose(self) -> Generator[bytes | Member, None, None]:
        """The parts of the tar: bytes, and members whose file comes there."""
        manifest = self._plan.manifest
        yield tar.header(tar.MANIFEST_NAME, len(manifest))
        yield manifest
        pad = tar.padding(len(manifest))
        for member in self._plan.members:
            # Padding of the one and header of the next are one part: there are many small files.
            yield bytes(pad) + tar.header(member.name, member.size)
            yield member
            pad = tar.padding(member.size)
        yield bytes(pad + tar.END_BYTES)


class _Body:
    """An instance file that is being read: never more of it than its member says."""

    def __init__(self, member: Member, source: Part10Source, digests: bool) -> None:
        self.left = member.size
        self._member = member
        self._source = source
        self._into: Callable[[memoryview], int | None] | None = getattr(source, "readinto", None)
        self._hash = hashlib.sha256() if digests else None
        self._ended = False
        """The file has been seen to end where it should."""

    def fill(self, buffer: memoryview) -> int:
        """The next bytes in ``buffer``; none only where the member ends.

        :raises Corrupt: too few.
        """
        if not self.left:
            return 0
        # One byte more is asked for than is there: when it does not come, the file has ended.
        got = self._read(buffer[: min(self.left + 1, CHUNK_BYTES)])
        if not got:
            done = self._member.size - self.left
            raise Corrupt(f"{self._member.name}: {done} bytes; the manifest says {self._member.size}")
        if got > self.left:
            raise self._too_long()
        self._ended = got == self.left < len(buffer) and self.left < CHUNK_BYTES
        if self._hash is not None:
            self._hash.update(buffer[:got])
        self.left -= got
        return got

    def end(self) -> None:
        """Check and close a file that has been read.

        :raises Corrupt: too many bytes, or others than the member's digest says.
        """
        member = self._member
        try:
            if not self._ended and self._source.read(1):
                raise self._too_long()
        finally:
            self.close()
        if self._hash is not None and self._hash.digest() != member.digest:
            raise Corrupt(
                f"{member.name}: SHA-256 is {self._hash.hexdigest()}; the manifest says {member.digest.hex()}"
            )

    def close(self) -> None:
        self._source.close()

    def _read(self, view: memoryview) -> int:
        if self._into is not None:
            return self._into(view) or 0
        data = self._source.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _too_long(self) -> Corrupt:
        return Corrupt(f"{self._member.name}: more than the {self._member.size} bytes that the manifest says")


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
