"""Instances that lie in the online pool and in no package: their rows, from their own bytes.

Looked for last, when every package of every volume is known. What is known is not read; what is not is read
to its end, because its digest is what the catalog has of it.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable
from datetime import UTC, datetime

from hsm.catalog import marksfound, rebuilding
from hsm.catalog.engine import Catalog
from hsm.catalog.ingest import Received
from hsm.errors import BadInput, Corrupt, Refused, Retryable
from hsm.log import get_logger
from hsm.model import Header
from hsm.part10 import read_head
from hsm.pools import DiskPool
from hsm.rebuild.sources import InstanceFile, instance_files
from hsm.rebuild.take import batches
from hsm.rebuild.values import VolumeReport

log = get_logger(__name__)

ReadHeader = Callable[[memoryview, str], Header]
"""Dataset and Transfer Syntax UID to the catalog's attributes; BadInput where it is cut off."""


class Loose:
    """Takes single instances in."""

    def __init__(self, catalog: Catalog, actor: str, read_header: ReadHeader, *, verify: bool) -> None:
        self._catalog = catalog
        self._actor = actor
        self._read_header = read_header
        self._verify = verify

    def instances(self, pool: DiskPool, found: VolumeReport) -> None:
        """Every instance file of a folder.

        :raises DriverError: the folder cannot be read any more; what was taken in stays.
        """
        for some in batches(instance_files(pool)):
            with self._catalog.read() as session:
                known = rebuilding.files(session, {each.sop_uid for each in some})
            for file in some:
                have = known.get((file.study_uid, file.series_uid, file.sop_uid, file.version))
                try:
                    self._one(pool, found, file, have)
                except (Corrupt, BadInput, Refused) as error:
                    self._quarantine(found, file, str(error))

    def _one(
        self, pool: DiskPool, found: VolumeReport, file: InstanceFile, have: rebuilding.File | None
    ) -> None:
        if have is None:
            self._take(pool, found, file)
            return
        if have.size != file.size:
            raise Corrupt(f"{file.size} bytes; the instance of this name has {have.size}")
        if self._verify and not have.sealed:
            digest, _, _ = self._read(pool, file)
            found.bytes_read += file.size
            if digest != have.digest:
                raise Corrupt("other bytes than the instance of this name has")

    def _take(self, pool: DiskPool, found: VolumeReport, file: InstanceFile) -> None:
        digest, header, syntax = self._read(pool, file)
        found.bytes_read += file.size
        said = (header.study_uid, header.series_uid, header.sop_instance_uid)
        if said != (file.study_uid, file.series_uid, file.sop_uid):
            raise BadInput(f"it says that it is instance {said[2]} of series {said[1]} of study {said[0]}")
        now = self._catalog.clock.now()
        try:
            came = datetime.fromtimestamp(os.stat(pool.root / file.key).st_mtime, UTC)
        except OSError as error:
            raise Retryable(f"{file.key}: {error.strerror}") from error
        received = Received(header, syntax, file.version, file.size, digest, "", min(came, now))
        with self._catalog.write() as session:
            rebuilding.take_instance(session, received, self._actor, now)
            version = (file.sop_uid, file.version)
            marksfound.heed_loose(session, file.study_uid, version, came, now, self._actor)
        found.instances += 1

    def _read(self, pool: DiskPool, file: InstanceFile) -> tuple[bytes, Header, str]:
        """Digest, attributes and transfer syntax.

        :raises Corrupt, BadInput: it is no instance of ours, or cut off.
        """
        path = pool.root / file.key
        try:
            with open(path, "rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                digest = hashlib.file_digest(opened, "sha256").digest()
                if file.size == 0:
                    raise Corrupt("it is empty")
                with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                    return (digest, *self._header(mapped))
        except OSError as error:
            raise Retryable(f"pool {pool.name}: {path}: {error.strerror}") from error

    def _header(self, mapped: mmap.mmap) -> tuple[Header, str]:
        with memoryview(mapped) as whole:
            try:
                head = read_head(whole)
                with whole[head.size :] as dataset:
                    return self._read_header(dataset, head.transfer_syntax_uid), head.transfer_syntax_uid
            except (Corrupt, BadInput) as error:
                # The views of the frames that the error came through must not outlive the map.
                error.__traceback__ = None
                raise type(error)(str(error)) from None

    def _quarantine(self, found: VolumeReport, file: InstanceFile, why: str) -> None:
        log.error("%s of %s is left alone: %s", file.key, found.volume, why)
        found.quarantined.append((file.key, why))
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            rebuilding.quarantine(session, found.volume, file.key, now, self._actor, why)
