"""The Store of a volume that may be away: it says so at once, and notices that it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from drivers.base import Capacity, Health, ObjectStat, Readable, Store, Traits
from drivers.errors import NotReadableNow
from drivers.wrappers import PassingStore
from hsm.errors import NoSpace, OperatorNeeded, Retryable
from hsm.service import OutOfService, Service


class ServicedStore(PassingStore):
    """Passes everything on.

    :raises OutOfService: every operation may, at once.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    @property
    def inner(self) -> Store:
        return self._service.store()

    @property
    def traits(self) -> Traits:
        return self.inner.traits

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        with self._noticing():
            return self.inner.put(key, source, size, digest)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        with self._noticing():
            yield from self.inner.get(key, offset, length)

    def delete(self, key: str) -> None:
        with self._noticing():
            self.inner.delete(key)

    def list(self) -> Iterator[ObjectStat]:
        with self._noticing():
            yield from self.inner.list()

    def stat(self, key: str) -> ObjectStat:
        with self._noticing():
            return self.inner.stat(key)

    def capacity(self) -> Capacity:
        with self._noticing():
            return self.inner.capacity()

    def flush(self) -> None:
        with self._noticing():
            self.inner.flush()

    def drop_caches(self) -> None:
        with self._noticing():
            self.inner.drop_caches()

    def health(self) -> Health:
        try:
            return self.inner.health()
        except OutOfService as error:
            return Health(False, str(error))

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        """What fails may be the whole volume's trouble.

        Not where it has no room: room comes, and another volume may have some. The source of a put may be
        another volume that is away, which knows it already.
        """
        try:
            yield
        except (NoSpace, NotReadableNow, OutOfService):
            raise
        except (Retryable, OperatorNeeded) as error:
            self._service.trouble(error)
            raise
