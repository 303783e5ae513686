"""What lies on one volume, package by package, as its Store shows it.

Two layouts: a Store that keeps packages as tars, and a folder with one file an instance and a manifest a
package. Nothing here knows the catalog; what is read is bounded by one package's manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from drivers.base import CHUNK_BYTES, Store
from drivers.notes import annotated
from drivers.wrappers import digested
from hsm import layout, marksfile
from hsm.anchor import BYTES_MAX, Anchor, parse
from hsm.content import ChunkReader, instance_key, open_instance, read_all
from hsm.errors import BadInput, Corrupt, NotFound
from hsm.marksfile import Stand, StudyMarks
from hsm.package import PackagePlan, Unpacker, package_digest, plan_from_manifest, read_manifest
from hsm.pools import DiskPool

HEAD_BYTES = 64 << 10
"""Of a package, what is asked for first: most manifests end in it."""
MANIFEST_SUFFIX = ".manifest.json"
BACKUPS = "catalog/"
"""Below this key lie backups of catalogs."""


@dataclass(frozen=True, slots=True)
class Lying:
    """One object of a volume."""

    locator: str
    size: int
    position: int | None
    package: str
    """The name of the package that it is, by where it lies; empty for something else."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A package, as far as it was looked at."""

    plan: PackagePlan
    digest: bytes | None
    """Of the whole tar; None where only its manifest was read and nobody has noted it."""
    read: int
    """Bytes that were read for it."""


class Source(Protocol):
    """One volume's packages."""

    def every(self) -> Iterator[Lying]:
        """All that is on it."""
        ...

    def noted(self, lying: Lying) -> bytes | None:
        """The package's digest as the medium has noted it; nothing is read for it."""
        ...

    def compare(self, lying: Lying, size: int) -> None:
        """See whether it can be a package of so many bytes; next to nothing is read.

        :raises Corrupt, NotFound: it cannot.
        """
        ...

    def look(self, lying: Lying) -> Seen:
        """Read its manifest.

        :raises Corrupt, NotFound: it is no package, another one, or not all of it is there.
        """
        ...

    def read(self, lying: Lying) -> Seen:
        """Read and compare every byte of it.

        :raises Corrupt, NotFound: it is no package, or not what its manifest says.
        """
        ...


class Tars:
    """A Store that keeps packages as they are."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._digested = digested(store)

    def every(self) -> Iterator[Lying]:
        for each in self._store.list():
            yield Lying(each.key, each.size, each.position, _tar_at(each.key))

    def noted(self, lying: Lying) -> bytes | None:
        return None if self._digested is None else self._digested.recorded_digest(lying.locator)

    def compare(self, lying: Lying, size: int) -> None:
        if lying.size != size:
            raise Corrupt(f"{lying.locator} has {lying.size} bytes; expected {size}")

    def look(self, lying: Lying) -> Seen:
        head = read_all(self._store, lying.locator, 0, min(HEAD_BYTES, lying.size))

        def pieces() -> Iterator[bytes]:
            yield head
            at = len(head)
            while at < lying.size:
                piece = read_all(self._store, lying.locator, at, min(CHUNK_BYTES, lying.size - at))
                at += len(piece)
                yield piece

        manifest = read_manifest(ChunkReader(pieces()))
        plan = _expected(plan_from_manifest(manifest), lying)
        if plan.size != lying.size:
            raise Corrupt(f"{lying.size} bytes; its manifest makes it {plan.size}")
        return Seen(plan, self.noted(lying), max(len(head), len(manifest)))

    def read(self, lying: Lying) -> Seen:
        self._store.drop_caches()
        unpacker = Unpacker(ChunkReader(self._store.get(lying.locator)))
        for member, body in unpacker.members():
            digest = hashlib.sha256()
            while piece := body.read(CHUNK_BYTES):
                digest.update(piece)
            if digest.digest() != member.digest:
                raise Corrupt(f"{member.name}: SHA-256 is {digest.hexdigest()}, not what the manifest says")
        noted = self.noted(lying)
        if noted is not None and noted != unpacker.digest:
            raise Corrupt(f"SHA-256 is {unpacker.digest.hex()}, and was {noted.hex()} when it was written")
        return Seen(_expected(unpacker.plan, lying), unpacker.digest, unpacker.plan.size)


class Files:
    """A folder in the layout ``files``."""

    def __init__(self, pool: DiskPool) -> None:
        self._pool = pool

    def every(self) -> Iterator[Lying]:
        for each in self._pool.store.list():
            if not each.key.endswith(".dcm"):
                yield Lying(each.key, each.size, None, _manifest_at(each.key))

    def noted(self, lying: Lying) -> bytes | None:
        return None

    def compare(self, lying: Lying, size: int) -> None:
        planned = self.look(lying).plan.size
        if planned != size:
            raise Corrupt(f"{lying.locator} plans {planned} bytes; expected {size}")

    def look(self, lying: Lying) -> Seen:
        manifest = read_all(self._pool.store, lying.locator, 0, None)
        plan = _expected(plan_from_manifest(manifest), lying)
        for member in plan.members:
            key = instance_key(plan.identity.study_uid, member)
            size = self._pool.store.stat(key).size
            if size != member.size:
                raise Corrupt(f"{key} has {size} bytes, its manifest says {member.size}")
        return Seen(plan, None, len(manifest))

    def read(self, lying: Lying) -> Seen:
        plan = self.look(lying).plan
        uid = plan.identity.study_uid
        digest = package_digest(plan, lambda member: open_instance(self._pool, uid, member, from_medium=True))
        return Seen(plan, digest, plan.size)


def _expected(plan: PackagePlan, lying: Lying) -> PackagePlan:
    if plan.identity.key != lying.package:
        raise Corrupt(f"it says that it is {plan.identity.key}")
    return plan


def _tar_at(key: str) -> str:
    """The package that lies at this key of a Store; empty where the key is not one of a package."""
    name = key.rpartition("/")[2]
    return name if _is_package(name) and key == layout.package_locator(name) else ""


def _manifest_at(key: str) -> str:
    name = key.rpartition("/")[2].removesuffix(MANIFEST_SUFFIX)
    if not key.endswith(MANIFEST_SUFFIX) or not _is_package(name):
        return ""
    study, _, _ = name.removesuffix(".tar").rpartition(".p")
    return name if key == layout.manifest_path(study, name) else ""


def _is_package(name: str) -> bool:
    study, _, number = name.removesuffix(".tar").rpartition(".p")
    try:
        return layout.package_key(study, int(number)) == name
    except (BadInput, ValueError):
        return False


@dataclass(frozen=True, slots=True)
class InstanceFile:
    """Where an instance lies in the layout ``files``, by its name."""

    key: str
    size: int
    study_uid: str
    series_uid: str
    sop_uid: str
    version: int


def instance_files(pool: DiskPool) -> Iterator[InstanceFile]:
    """Every instance file of a folder, in no packages' order. What is not named as one is not there."""
    for each in pool.store.list():
        parts = each.key.removesuffix(".dcm").split("/")
        if not each.key.endswith(".dcm") or len(parts) != 5:
            continue
        uid, _, version = parts[4].partition(".v")
        try:
            number = int(version or 0)
            if layout.instance_path(parts[2], parts[3], uid, number) != each.key:
                continue
        except (BadInput, ValueError):
            continue
        yield InstanceFile(each.key, each.size, parts[2], parts[3], uid, number)


def anchors_on(store: Store, keys: Iterable[str]) -> list[str]:
    """The heads of the journal that a volume keeps, in words: as notes beside its index, and as the objects
    of these keys."""
    carrier = annotated(store)
    lines = list(carrier.notes()) if carrier is not None else []
    for key in keys:
        with suppress(NotFound, Corrupt):
            lines.append(read_all(store, key, 0, BYTES_MAX).decode("ascii", "replace"))
    found = {each for each in map(parse, lines) if each is not None}
    return [f"{each.archive} {each.seq} {each.digest.hex()}" for each in sorted(found, key=_age)]


def marks_at(store: Store, key: str) -> tuple[Stand, list[StudyMarks]]:
    """What a file of marks says.

    :raises Corrupt, NotFound: it is none, or not whole.
    """
    size = store.stat(key).size
    if size > marksfile.BYTES_MAX:
        raise Corrupt(f"{key} has {size} bytes; a file of marks has {marksfile.BYTES_MAX} at most")
    stand, said = marksfile.parse(read_all(store, key, 0, size))
    if not key.startswith(stand.key(1).partition(".")[0]):
        raise Corrupt(f"{key} says that it is of record {stand.to} of journal {stand.journal.hex()[:8]}")
    return stand, said


def _age(anchor: Anchor) -> tuple[str, int]:
    return anchor.archive, anchor.seq
