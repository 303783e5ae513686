"""A package's tar taken apart again while it is read once, from the first byte to the last."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from drivers.base import CHUNK_BYTES, Readable
from hsm.errors import Corrupt
from hsm.package import tar
from hsm.package.manifest import plan_from_manifest
from hsm.package.reader import read_manifest
from hsm.package.values import Member


class Unpacker:
    """The members of a package, in their order.

    Nothing but what :class:`hsm.package.PackageReader` composes from the manifest is believed: every
    header is compared, and at the end the digest of the whole is there to be compared as well.

    :raises Corrupt: the bytes do not begin a package.
    """

    def __init__(self, source: Readable) -> None:
        self._source = _Digesting(source)
        manifest = read_manifest(self._source)
        self.plan = plan_from_manifest(manifest)
        self._expect(bytes(tar.padding(len(manifest))), "what follows the manifest")

    def members(self) -> Iterator[tuple[Member, Readable]]:
        """Each member with its Part 10 file, which is to be read before the next one is asked for; what is
        left of it is skipped.

        :raises Corrupt: the tar is not what its manifest says, or goes on after its end.
        """
        for member in self.plan.members:
            self._expect(tar.header(member.name, member.size), f"the header of {member.name}")
            body = _Part(self._source, member.size)
            yield member, body
            while body.read(CHUNK_BYTES):
                pass
            self._expect(bytes(tar.padding(member.size)), f"what follows {member.name}")
        self._expect(bytes(tar.END_BYTES), "the end")
        if self._source.read(1):
            raise Corrupt(f"{self.plan.identity.key} goes on after its end")

    @property
    def digest(self) -> bytes:
        """SHA-256 of what was read so far: of the whole tar when all members were."""
        return self._source.hasher.digest()

    def _expect(self, expected: bytes, what: str) -> None:
        found = b""
        while len(found) < len(expected) and (piece := self._source.read(len(expected) - len(found))):
            found += piece
        if found != expected:
            raise Corrupt(f"{self.plan.identity.key}: {what} is not what the manifest says")


class _Digesting:
    def __init__(self, source: Readable) -> None:
        self._source = source
        self.hasher = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        piece = self._source.read(size)
        self.hasher.update(piece)
        return piece


class _Part:
    """The next ``size`` bytes of a source."""

    def __init__(self, source: Readable, size: int) -> None:
        self._source = source
        self._left = size

    def read(self, size: int, /) -> bytes:
        if not self._left:
            return b""
        piece = self._source.read(min(size, self._left))
        if not piece:
            raise Corrupt(f"a package ends {self._left} bytes too early")
        self._left -= len(piece)
        return piece
