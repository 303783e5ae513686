"""What a copy is made from: the package's bytes from the quickest place that has them, and who is to blame
when they are not what was stored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from drivers.base import CHUNK_BYTES, Readable
from hsm.catalog import placement
from hsm.catalog.engine import Catalog
from hsm.catalog.placement import PackageRef
from hsm.content import ChunkReader, open_package, package_chunks
from hsm.errors import Corrupt, NotFound, OperatorNeeded, Retryable
from hsm.model import CopyAt, Priority
from hsm.package import verify_stream
from hsm.pools import DiskPool, Pools
from hsm.reader import Reader
from hsm.recall import Recall
from hsm.staging import Staging


class SourceUnavailable(Retryable):
    """There is nothing to copy from just now; the volume that is written to has no part in it."""


class SourceComing(SourceUnavailable):
    """The same, and a recall is under way or a volume is to come back: waiting is no failed attempt."""


class _Remote:
    """A source across a network: that it fails to read is nobody's failed attempt."""

    def __init__(self, source: Readable, name: str) -> None:
        self._source = source
        self._name = name

    def read(self, size: int, /) -> bytes:
        try:
            return self._source.read(size)
        except (Retryable, OperatorNeeded) as error:
            raise SourceComing(f"source {self._name}: {error}") from error


class CopySources:
    """Opens packages where they lie; keeps no state."""

    def __init__(
        self, catalog: Catalog, pools: Pools, staging: Staging, reader: Reader, recall: Recall
    ) -> None:
        self._catalog = catalog
        self._pools = pools
        self._staging = staging
        self._reader = reader
        self._recall = recall

    @contextlib.contextmanager
    def open(self, package: PackageRef) -> Iterator[Readable]:
        """The package's bytes from the quickest place that has them.

        :raises SourceUnavailable: only a volume has them and its recall has been asked for, or what was
            read from here was damaged.
        """
        with self._catalog.read() as session:
            copies = placement.copies(session, [package.pk])[package.pk]
        direct = self._reader.direct_copies(copies)
        if direct:
            pool = self._pools.disk_by_volume(direct[0].volume_pk)
            assert pool is not None  # direct_copies looked
            try:
                # Whoever reads it compares the whole digest; what is wrong is read again to see which file.
                with open_package(
                    pool, package, direct[0].locator, from_medium=False, digests=False
                ) as source:
                    yield source if pool.local else _Remote(source, pool.label)
            except (Corrupt, NotFound) as error:
                self._blame_source(direct[0], pool, package, error)
            return
        if not self._staging.complete(package.key):
            self.ask_recall(package)
            raise SourceComing(f"{package.key} can be read from no disk just now; its recall is asked for")
        self._staging.pin(package.key)
        try:
            yield ChunkReader(self._staged(package))
        except (Corrupt, NotFound) as error:
            self._blame_staging(package, error)
        finally:
            self._staging.unpin(package.key)

    def _staged(self, package: PackageRef) -> Iterator[bytes]:
        for offset in range(0, package.size, CHUNK_BYTES):
            yield self._staging.read(package.key, offset, min(CHUNK_BYTES, package.size - offset))

    def _blame_source(
        self, copy: CopyAt, pool: DiskPool, package: PackageRef, error: Corrupt | NotFound
    ) -> None:
        """A copy could not be made: is it the source? Read it alone before it is called suspect."""
        try:
            with open_package(pool, package, copy.locator, from_medium=True) as source:
                verify_stream(package_chunks(source), package.size, package.digest)
        except (Corrupt, NotFound) as found:
            self._recall.suspect(copy, found)
            raise SourceUnavailable(f"source {copy.volume_name}: {found}; another copy is tried") from found
        raise error

    def _blame_staging(self, package: PackageRef, error: Corrupt | NotFound) -> None:
        """The same for what lies in the staging area: damaged there, it is recalled again."""
        try:
            verify_stream(self._staged(package), package.size, package.digest)
        except (Corrupt, NotFound) as found:
            self._staging.remove(package.key)
            raise SourceUnavailable(f"{package.key} was damaged in the staging area: {found}") from found
        raise error

    def ask_recall(self, package: PackageRef) -> None:
        """Have a package brought to the staging area, to be copied from there."""
        attachment = self._recall.attach(package, f"copy of {package.key}", Priority.MIGRATION)
        self._recall.detach(package, attachment)
