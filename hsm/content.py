"""The bytes of a package or an instance, from whichever copy a disk pool holds.

A ``files`` pool keeps a package as its instance files and a manifest, and the tar is composed from
them while it is read; a ``packages`` pool keeps the tar itself.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path

from drivers.base import Readable, Store
from hsm import layout
from hsm.catalog.placement import PackageRef
from hsm.errors import Corrupt, NotFound, Retryable
from hsm.model import InstanceRef, Layout
from hsm.package import Member, PackagePlan, PackageReader, Unpacker, plan_from_manifest, verify_stream
from hsm.pools import DiskPool


class ChunkReader:
    """A Readable over an iterator of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            piece = next(self._chunks, None)
            if piece is None:
                return b""
            self._rest = piece
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def read_all(store: Store, key: str, offset: int, length: int | None) -> bytes:
    """The bytes of a range in one piece."""
    return b"".join(store.get(key, offset, length))


def instance_key(study_uid: str, member: Member) -> str:
    return layout.instance_path(study_uid, member.series_uid, member.sop_instance_uid, member.version)


def instance_locator(instance: InstanceRef) -> str:
    return layout.instance_path(
        instance.study_uid, instance.series_uid, instance.sop_instance_uid, instance.version
    )


def instance_file(pool: DiskPool, instance: InstanceRef) -> Path:
    return pool.root / instance_locator(instance)


def stored_plan(pool: DiskPool, package: PackageRef) -> PackagePlan:
    """The plan of a package whose files lie in a ``files`` pool.

    :raises NotFound: its manifest is not there.
    :raises Corrupt: its manifest is damaged.
    """
    key = layout.manifest_path(package.study_uid, package.key)
    return plan_from_manifest(read_all(pool.store, key, 0, None))


def require_absent(pool: DiskPool, key: str) -> None:
    """Return when an object that was not found is really not there.

    :raises DriverError: the pool itself is not there (nothing is mounted on its folder): that says nothing
        about what it holds.
    """
    with contextlib.suppress(NotFound):
        pool.store.stat(key)


def open_instance(pool: DiskPool, study_uid: str, member: Member, *, from_medium: bool) -> FileIO:
    """An instance file, open for reading, without a buffer.

    :param from_medium: drop the page cache's view of the file first, so that what is read is what the
        disk has (promise 2).
    :raises NotFound: it is not there.
    :raises Retryable: the file system failed.
    :raises OperatorNeeded: it is not mounted.
    """
    return _open_file(pool, instance_key(study_uid, member), from_medium=from_medium)


def _open_file(pool: DiskPool, key: str, *, from_medium: bool) -> FileIO:
    path = f"{pool.root}/{key}"
    try:
        raw = FileIO(path)
    except FileNotFoundError as error:
        require_absent(pool, key)
        raise NotFound(f"pool {pool.name}: {path} is not there") from error
    except OSError as error:
        raise Retryable(f"pool {pool.name}: {path}: {error.strerror}") from error
    if from_medium:
        os.posix_fadvise(raw.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return raw


@contextlib.contextmanager
def open_package(
    pool: DiskPool, package: PackageRef, locator: str, *, from_medium: bool, digests: bool = True
) -> Iterator[Readable]:
    """The tar of a package on a disk pool, to be read once.

    Every instance of a ``files`` pool is checked against the manifest on the way; whoever reads a
    ``packages`` pool compares the whole digest.

    :param digests: whether instances' digests are compared; whoever compares the whole digest in any case
        does without, and reads again with it to learn which file it is.
    """
    if pool.layout is Layout.PACKAGES:
        if from_medium:
            pool.store.drop_caches()
        yield ChunkReader(pool.store.get(locator))
        return
    plan = stored_plan(pool, package)
    if plan.size != package.size:
        raise Corrupt(
            f"pool {pool.name}: the manifest of {package.key} plans {plan.size} bytes, not {package.size}"
        )
    # A member's name is its file's path below the study's folder: looked up once, not for each of thousands.
    folder = layout.study_dir(package.study_uid)
    with PackageReader(
        plan,
        lambda member: _open_file(pool, f"{folder}/{member.name}", from_medium=from_medium),
        digests=digests,
    ) as tar:
        yield tar


def unpack_package(pool: DiskPool, package: PackageRef, source: Readable) -> None:
    """Put a package back into a ``files`` pool: its instance files, then its manifest. Not flushed.

    What an earlier attempt has put there is used where it is the same.

    :raises Corrupt: ``source`` gave other bytes than the package's.
    """
    unpacker = Unpacker(source)
    for member, body in unpacker.members():
        key = instance_key(package.study_uid, member)
        if not _has(pool.store, key, member):
            pool.store.put(key, body, member.size, member.digest)
    if (unpacker.plan.size, unpacker.digest) != (package.size, package.digest):
        raise Corrupt(f"what was read as {package.key} is another package or has other bytes")
    put_manifest(pool, unpacker.plan)


def _has(store: Store, key: str, member: Member) -> bool:
    """Whether the file is there; one with other bytes is deleted, since no row counts on it."""
    try:
        verify_stream(store.get(key), member.size, member.digest)
    except NotFound:
        return False
    except Corrupt:
        store.delete(key)
        return False
    return True


def put_manifest(pool: DiskPool, plan: PackagePlan) -> str:
    """Write a package's manifest beside its files, in place of one that an earlier attempt left; its key.
    Flushed."""
    key = layout.manifest_path(plan.identity.study_uid, plan.identity.key)
    with contextlib.suppress(NotFound):
        pool.store.delete(key)
    pool.store.put(key, io.BytesIO(plan.manifest), len(plan.manifest), None)
    pool.store.flush()
    return key


def package_chunks(source: Readable) -> Iterator[bytes]:
    """The rest of a Readable as chunks."""
    while chunk := source.read(1 << 20):
        yield chunk


def delete_package(
    pool: DiskPool, package: PackageRef, locator: str, instances: Iterable[InstanceRef]
) -> None:
    """Delete a package's bytes from a disk pool; what is gone already is no error.

    :param instances: the package's, from the catalog: a damaged manifest must not keep them here.
    """
    if pool.layout is Layout.PACKAGES:
        pool.store.delete(locator)
    else:
        for each in instances:
            pool.store.delete(instance_locator(each))
        pool.store.delete(layout.manifest_path(package.study_uid, package.key))
    pool.store.flush()
