"""The Store: names, quota, immutability, and which of the neighbouring modules does the work."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from drivers.base import (
    Capacity,
    Health,
    ObjectStat,
    Readable,
    RecallState,
    StoreLabel,
    Traits,
    Warmth,
    noted_digest,
)
from drivers.errors import DriverError, NoSpace, NotFound, OperatorNeeded, Permanent, Retryable
from drivers.s3 import cold, owner, versions
from drivers.s3.again import Patience
from drivers.s3.client import Endpoint, make_client
from drivers.s3.download import Source, read_range
from drivers.s3.room import Room
from drivers.s3.s3errors import Exists, OutOfRange
from drivers.s3.settings import OBJECT_BYTES_MAX, Settings, from_options
from drivers.s3.threads import Crew, Turns
from drivers.s3.upload import SHA256, Put, is_ours, put_parts, put_single, try_room
from drivers.transfer import check_put, check_range, safe_key, span

LABEL_SECONDS = 60.0
"""How long it is believed that the bucket is still this pool's, before a put or a delete asks again."""
PROBE = ".hsm-probe"
TRIAL_BYTES, TRIAL_BYTES_MAX = 8 << 10, 4 << 20
"""What a look at the health uploads and gives up: more than a full file system finds room for, and little
enough for a thin line."""
_LATENCY_SECONDS = 0.1
_COLD_LATENCY_SECONDS = 4 * 3600.0


class S3Store:
    """A Store in one bucket, or one prefix of it. See :mod:`drivers.s3`. Thread-safe.

    With ``settings.expect_uuid`` the prefix must carry that label (:mod:`drivers.s3.owner`), which is
    looked at when the store opens, before puts and deletes (at most every ``LABEL_SECONDS``), and before
    anything is called absent. What uploads of dead processes left behind is aborted when it opens.

    ``put`` and ``delete`` are durable when they return. In a versioned bucket ``delete`` leaves a delete
    marker, and the bytes, unless ``delete_versions`` is set.

    :param now: the time of day, aware; compared with the server's dates of unfinished uploads.
    :param clock: seconds that never go backwards.
    :raises OperatorNeeded: no such bucket, no access, or not the expected label.
    """

    def __init__(
        self,
        settings: Settings,
        client: Any,
        rng: random.Random,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._endpoint = Endpoint(client, settings, Patience(settings.attempts, rng, sleep))
        self._crew = Crew(settings.threads, settings.memory_bytes)
        self._rng, self._clock, self._now = rng, clock, now
        self._lock = threading.Lock()
        self._turns = Turns()
        self._doubtful: dict[str, str] = {}
        """Keys of puts that failed so that nobody knows whether they arrived, and their marks."""
        self._labelled_at: float | None = None
        self._trial_bytes = TRIAL_BYTES
        self._require_owned()
        self._versioned = versions.are_kept(self._endpoint)
        limited = settings.quota_bytes is not None
        self._room = Room(settings.total_bytes, self._count, limited, settings.reserve_bytes)
        versions.abort_stale(self._endpoint, now() - timedelta(seconds=settings.stale_upload_seconds))

    def __repr__(self) -> str:
        return f"S3Store({self._settings.where!r})"

    @property
    def traits(self) -> Traits:
        return Traits(
            append_only=self._keeps_deleted,
            latency_seconds=_COLD_LATENCY_SECONDS if self._settings.cold else _LATENCY_SECONDS,
            cold=self._settings.cold,
        )

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        """See :meth:`drivers.base.Store.put`; durable on return."""
        name = self._name(key)
        check_put(size, digest, key)
        if size > OBJECT_BYTES_MAX:
            raise NoSpace(f"put {key}: {size} bytes; an object of S3 has at most {OBJECT_BYTES_MAX}")
        with self._turns.of(key), self._room.reserved(size, f"put {key} into {self._settings.where}"):
            self._require_owned(LABEL_SECONDS)
            self._settle(key)
            self._refuse_existing(key, name)
            mark = f"{self._rng.getrandbits(128):032x}"
            self._put_once(Put(key, name, size, digest, mark, self._headers()), source)
        return ObjectStat(key, size)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`drivers.base.Store.get`; errors are raised when the first piece is asked for."""
        name = self._name(key)
        check_range(offset, length, key)
        self._settle(key)
        if length == 0:
            span(key, self.stat(key).size, offset, length)
            return
        source = Source(self._endpoint, key, name)
        try:
            yield from read_range(source, self._crew, self._settings.read_bytes, offset, length)
        except NotFound:
            self._absent(key)
        except OutOfRange:  # where the object ends, or later: only its size says which of the two
            span(key, self.stat(key).size, offset, length)

    def delete(self, key: str) -> None:
        """See :meth:`drivers.base.Store.delete`.

        :raises Permanent: the object is locked (retention or legal hold) and ``delete_versions`` is set.
        """
        name = self._name(key)
        self._require_owned(LABEL_SECONDS)
        freed = 0
        if self._settings.quota_bytes is not None and not self._keeps_deleted:
            with suppress(NotFound):
                freed = self._head(key)["ContentLength"]
        if self._versioned and self._settings.delete_versions:
            versions.delete_all(self._endpoint, key, name)
        else:
            with suppress(NotFound):
                self._endpoint.ask("delete_object", f"delete {key}", Key=name)
        self._room.freed(freed)
        with self._lock:
            self._doubtful.pop(key, None)

    def list(self) -> Iterator[ObjectStat]:
        """Every object in the order of its name, a thousand a request. What cannot be a key is not listed."""
        for key in tuple(self._doubtful):
            self._settle(key)
        self._require_owned()
        root, token = self._settings.root, None
        while True:
            more: dict[str, Any] = {} if token is None else {"ContinuationToken": token}
            page = self._endpoint.ask("list_objects_v2", "list", Prefix=root, **more)
            for item in page.get("Contents", ()):
                key = item["Key"].removeprefix(root)
                if self._is_key(key):
                    yield ObjectStat(key, item["Size"])
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or token is None:
                return

    def stat(self, key: str) -> ObjectStat:
        """See :meth:`drivers.base.Store.stat`."""
        self._name(key)
        self._settle(key)
        return ObjectStat(key, int(self._head(key)["ContentLength"]))

    def recorded_digest(self, key: str) -> bytes | None:
        """See :class:`drivers.base.Digested`: as the object's metadata has it."""
        self._name(key)
        self._settle(key)
        return noted_digest(self._head(key).get("Metadata", {}).get(SHA256))

    def capacity(self) -> Capacity:
        """The quota and what is left of it; the server is asked once whether it is there.

        Without a quota a petabyte is said to be free: S3 knows no end.
        """
        self._require_owned(attempts=1)
        return self._room.capacity()

    def flush(self) -> None:
        """What was put is on stable storage already."""

    def drop_caches(self) -> None:
        """Nothing is kept here: every ``get`` is answered by the server."""

    def close(self) -> None:
        """Let go of the threads and connections; nothing may use it any more. Idempotent."""
        self._crew.close()
        self._endpoint.close()

    def health(self) -> Health:
        """Whether the expected prefix is there and may be written: an upload is begun and given up.

        S3 has no word for how much room there is, and many servers answer 500 when they are full. So the
        look after a put that failed uploads as much as that one did, or 4 MiB of it.
        """
        try:
            self._require_owned(attempts=1)
            try_room(self._endpoint, self._settings.root + PROBE, self._trial_bytes, self._headers())
        except DriverError as error:
            return Health(False, str(error))
        self._trial_bytes = TRIAL_BYTES
        return Health(True)

    def read_label(self) -> StoreLabel | None:
        """See :meth:`drivers.base.Labelled.read_label`."""
        return owner.read_label(self._endpoint)

    def write_label(self, label: StoreLabel) -> None:
        """See :meth:`drivers.base.Labelled.write_label`; only an empty prefix can be marked."""
        owner.write_label(self._endpoint, label)

    def request_recall(self, key: str) -> RecallState:
        """See :meth:`drivers.base.Recallable.request_recall`: RestoreObject with the pool's tier and days."""
        head = self._head(key)
        state = cold.state_of(self._endpoint, key, head, self._now())
        if state.warmth is not Warmth.COLD:
            return state
        cold.restore(self._endpoint, key, self._name(key), head)
        return cold.state_after_asking(self._endpoint, key, self._head(key), self._now())

    def recall_state(self, key: str) -> RecallState:
        """See :meth:`drivers.base.Recallable.recall_state`."""
        return cold.state_of(self._endpoint, key, self._head(key), self._now())

    def make_cold(self, key: str) -> None:
        """See :meth:`drivers.base.Recallable.make_cold`."""
        if not self._settings.cold:
            return
        head = self._head(key)
        if head.get("StorageClass") == self._settings.storage_class:
            return
        self._require_owned(LABEL_SECONDS)
        name = self._name(key)
        headers = self._headers() | {"StorageClass": self._settings.storage_class}
        cold.make_cold(self._endpoint, self._crew, name, head, headers)
        if self._versioned and self._settings.delete_versions and "VersionId" in head:
            versions.delete_one(self._endpoint, key, name, head["VersionId"])

    @property
    def _keeps_deleted(self) -> bool:
        return self._versioned and not self._settings.delete_versions

    def _name(self, key: str) -> str:
        if safe_key(key).split("/")[0].lower().startswith((owner.LABEL, PROBE)):
            raise Permanent(f"key {key!r}: {key.split('/')[0]} is reserved for the store itself")
        return self._settings.root + key

    def _is_key(self, key: str) -> bool:
        try:
            self._name(key)
        except Permanent:
            return False
        return True

    def _head(self, key: str) -> dict[str, Any]:
        try:
            return self._endpoint.ask("head_object", f"look at {key}", Key=self._name(key))
        except NotFound:
            self._absent(key)
            raise

    def _absent(self, key: str) -> None:
        """Say that ``key`` is absent, unless it is the bucket, or the pool in it, that is.

        :raises NotFound: always, or what keeps us from being sure of it.
        """
        self._require_owned()
        raise NotFound(f"{key} is not in {self._settings.where}")

    def _require_owned(self, at_most_seconds: float = 0.0, attempts: int | None = None) -> None:
        """Look at the label, unless that was done less than ``at_most_seconds`` ago."""
        expected = self._settings.expect_uuid
        seen = self._labelled_at
        if expected is not None and (seen is None or self._clock() - seen >= at_most_seconds):
            owner.require_label(self._endpoint, expected, attempts)
            self._labelled_at = self._clock()
        elif expected is None and not at_most_seconds:
            try:
                self._endpoint.ask("head_bucket", "look at the bucket", attempts)
            except NotFound as error:
                bucket = self._settings.bucket
                raise OperatorNeeded(
                    f"bucket {bucket} does not exist; create it, or mend option bucket"
                ) from error

    def _refuse_existing(self, key: str, name: str) -> None:
        with suppress(NotFound):
            self._endpoint.ask("head_object", f"look at {key}", Key=name)
            raise Permanent(f"{key} is in {self._settings.where} already; objects are immutable")

    def _put_once(self, put: Put, source: Readable) -> None:
        settings = self._settings
        try:
            single = settings.part_bytes if settings.single_bytes is None else settings.single_bytes
            if put.size <= single:
                put_single(self._endpoint, put, source)
            else:
                put_parts(self._endpoint, put, source, self._crew)
        except DriverError as error:
            if isinstance(error, Retryable):
                self._trial_bytes = max(TRIAL_BYTES, min(put.size, TRIAL_BYTES_MAX))
            if not self._arrived(put, error):
                raise

    def _arrived(self, put: Put, error: DriverError) -> bool:
        """Whether the object is there all the same: an answer that was lost, not a request."""
        try:
            arrived = is_ours(self._endpoint, put.name, put.mark)
        except DriverError:
            with self._lock:
                self._doubtful[put.key] = put.mark
            return False
        if not arrived and isinstance(error, Exists):
            message = f"{put.key} is in {self._settings.where} already; objects are immutable"
            raise Permanent(message) from error
        return arrived

    def _settle(self, key: str) -> None:
        """Remove what a put left that failed without an answer: its caller was told that it is absent."""
        with self._lock:
            mark = self._doubtful.get(key)
        if mark is None:
            return
        name = self._name(key)
        if is_ours(self._endpoint, name, mark):
            self._endpoint.ask("delete_object", f"delete {key}", Key=name)
        with self._lock:
            self._doubtful.pop(key, None)

    def _headers(self) -> dict[str, Any]:
        settings = self._settings
        said = owner.protection(self._endpoint, locked=True)
        if settings.put_class is not None:
            said["StorageClass"] = settings.put_class
        if settings.lock_mode is not None and settings.retention_days is not None:
            said["ObjectLockMode"] = settings.lock_mode
            said["ObjectLockRetainUntilDate"] = self._now() + timedelta(days=settings.retention_days)
        return said

    def _count(self) -> int:
        """Bytes that the prefix holds."""
        if self._keeps_deleted:
            return versions.count(self._endpoint)
        return sum(stat.size for stat in self.list())


def open_store(options: Mapping[str, Any]) -> S3Store:
    """:raises DriverError: the options are wrong, or the bucket cannot be opened."""
    settings = from_options(options)
    return S3Store(settings, make_client(settings), random.SystemRandom())
