"""A Store on an NFS or SMB mount (or any folder) whose server may hang without taking the daemon along.

All file work is done by :class:`drivers.folder.FolderStore` in helper processes. One that makes no
progress in time is killed and forgotten; from then on the store says at once that it is unavailable,
asks again by itself after a while, and goes on when the server does.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from drivers.base import CHUNK_BYTES, Capacity, Health, ObjectStat, Readable, StoreLabel, Traits
from drivers.breaker import Breaker
from drivers.errors import Corrupt, DriverError, Permanent, Retryable
from drivers.keyturns import KeyTurns
from drivers.nas.frames import Died, Kind, Stuck
from drivers.nas.helpers import Helper, Helpers, Limits
from drivers.oserrors import translated
from drivers.transfer import check_put, check_range, safe_key

_REMEMBERED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Settings:
    """The folder, whose it must be, and how long anything may take (seconds)."""

    path: str
    expect_uuid: str | None = None
    reserve_bytes: int = 0
    timeout_seconds: float = 30.0
    """For any answer, and for any progress of a transfer; a put flushes every 64 MiB."""
    probe_seconds: float = 5.0
    """For the question whether it is back, and for a look at its health."""

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise Permanent(f"option path: {self.path!r}; expected an absolute folder")
        if self.timeout_seconds <= 0 or self.probe_seconds <= 0:
            raise Permanent("options timeout_seconds and probe_seconds: expected more than 0")


@dataclass(frozen=True, slots=True)
class _Unsettled:
    """A put that was given up on: its helper may yet give the file its name."""

    helper: Helper
    size: int
    since: int


class NasStore:
    """A Store on the folder ``settings.path``; nothing is looked at before the first call.

    Everything that :class:`drivers.folder.FolderStore` promises holds, and no call takes longer than its
    time limit plus what its source or its reader take. After a time-out calls are refused at once
    (``Retryable``, with the reason), until a probe finds the server well again.

    A key whose put was given up on stays closed (``Retryable``) until the kernel has let the helper go;
    then whatever it wrote late is removed. One store at a time may write below ``path``. Thread-safe.
    """

    def __init__(
        self,
        settings: Settings,
        helpers: Helpers | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._helpers = helpers or Helpers(Limits())
        self._breaker = Breaker(clock, rng or random.Random(), base_seconds=2.0, cap_seconds=60.0)
        self._turns = KeyTurns()
        self._lock = threading.Lock()
        self._unsettled: dict[str, _Unsettled] = {}
        self._cleaned = False
        self._dropping = False
        self._dropped: set[str] = set()

    @property
    def traits(self) -> Traits:
        return Traits(latency_seconds=0.01)

    def close(self) -> None:
        """End the helpers that are at rest."""
        self._helpers.close()

    # The protocol

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        """See :meth:`drivers.base.Store.put`; durable on return."""
        safe_key(key)
        check_put(size, digest, key)
        with self._turns.turn(key, self._settings.timeout_seconds), self._helper(f"put {key}", key) as helper:
            wanted = digest.hex() if digest else None
            self._command(helper, "put", key=key, size=size, digest=wanted)
            _, told = self._answer(helper)  # the key is free, there is room: it wants the bytes
            try:
                self._pump(helper, source, size, key)
                self._answer(helper)
            except (Stuck, Died):
                with self._lock:
                    self._unsettled[key] = _Unsettled(helper, size, told["since"])
                raise
        return ObjectStat(key, size)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`drivers.base.Store.get`; errors are raised when the first piece is asked for."""
        safe_key(key)
        check_range(offset, length, key)
        with self._helper(f"get {key}", key) as helper:
            drop = self._must_drop(key)
            self._command(helper, "get", key=key, offset=offset, length=length, drop=drop)
            while True:
                kind, data = self._answer(helper)
                if kind is not Kind.DATA:
                    return
                yield data

    def delete(self, key: str) -> None:
        """See :meth:`drivers.base.Store.delete`; durable on return."""
        safe_key(key)
        self._call("delete", key=key)
        with self._lock:
            self._dropped.discard(key)

    def list(self) -> Iterator[ObjectStat]:
        """Every object, folder by folder in name order. Files that cannot be keys are not listed."""
        with self._helper("list") as helper:
            self._command(helper, "list")
            while True:
                kind, items = self._answer(helper)
                if kind is not Kind.ITEMS:
                    return
                for key, size in items:
                    if key not in self._unsettled:
                        yield ObjectStat(key, size)

    def stat(self, key: str) -> ObjectStat:
        """See :meth:`drivers.base.Store.stat`."""
        safe_key(key)
        return ObjectStat(key, self._call("stat", key=key))

    def capacity(self) -> Capacity:
        """See :meth:`drivers.folder.FolderStore.capacity`; a quota on the server shows when it is reached."""
        return Capacity(*self._call("capacity"))

    def flush(self) -> None:
        """Puts and deletes are durable already; this says whether the folder is still the one expected."""
        self._call("flush")

    def drop_caches(self) -> None:
        """Each object's next ``get`` drops its cached pages on this machine first; a server has its own."""
        with self._lock:
            self._dropping = True
            self._dropped.clear()

    def health(self) -> Health:
        """Whether the expected folder is there and takes a file, within ``probe_seconds``."""
        try:
            with self._helper("health", seconds=self._settings.probe_seconds) as helper:
                ok, message = self._asked(helper, "health", self._settings.probe_seconds)
        except DriverError as error:
            return Health(False, str(error))
        return Health(ok, message)

    def read_label(self) -> StoreLabel | None:
        """See :meth:`drivers.base.Labelled.read_label`."""
        found = self._call("read_label")
        return StoreLabel(*found) if found else None

    def write_label(self, label: StoreLabel) -> None:
        """See :meth:`drivers.base.Labelled.write_label`."""
        self._call("write_label", pool=label.pool, uuid=label.uuid)

    # Helpers

    @contextmanager
    def _helper(self, what: str, key: str | None = None, seconds: float | None = None) -> Iterator[Helper]:
        """A helper for one piece of work, once the breaker lets it pass and what was left is settled.

        ``key`` is what the work is about, if it is about one.
        """
        with self._told(what), self._breaker.passage() as trial:
            helper = self._helpers.take(seconds or self._settings.timeout_seconds)
            if self._helpers.ended_late():
                self._cleaned = False  # what it held open until now is removed by the next command
            try:
                if trial:
                    self._probe(helper)
                if self._unsettled:
                    self._settle(helper)
                if key in self._unsettled:
                    raise Retryable(
                        "an earlier attempt to write it still hangs in the kernel "
                        f"(pid {self._unsettled[key].helper.pid})"
                    )
                yield helper
            except Retryable as error:
                self._cleaned = False  # of what it began a part may be left in .incoming
                if isinstance(error, Stuck):
                    self._breaker.failed(self._away(error))
                raise
            finally:
                self._helpers.give_back(helper)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Say what was being done, and where, with what a helper could not know."""
        try:
            yield
        except Stuck as error:
            raise Stuck(f"{what}: {self._away(error)}") from error
        except Died as error:
            raise Died(f"{what} in {self._settings.path}: {error}") from error

    def _away(self, error: Stuck) -> Retryable:
        pids = ", ".join(map(str, self._helpers.stuck()))
        hanging = f"; hanging helper processes: {pids}" if pids else ""
        return Retryable(
            f"{self._settings.path} hangs ({error}); is its server up and the network between?{hanging}"
        )

    def _probe(self, helper: Helper) -> None:
        """After a failure: is it back? Only an answer in time closes the breaker, whatever it says."""
        try:
            self._asked(helper, "health", self._settings.probe_seconds)
        except (Stuck, Died):
            raise
        except DriverError:
            self._breaker.succeeded()
            raise
        self._breaker.succeeded()

    def _settle(self, helper: Helper) -> None:
        """Remove what puts that were given up on published after all, once their helpers have ended."""
        for key, left in list(self._unsettled.items()):
            if left.helper.gone():
                seconds = self._settings.timeout_seconds
                self._asked(helper, "remove_late", seconds, key=key, size=left.size, since=left.since)
                with self._lock:
                    self._unsettled.pop(key, None)

    def _call(self, op: str, **fields: Any) -> Any:
        key = fields.get("key")
        with self._helper(f"{op} {key}" if key else op, key) as helper:
            return self._asked(helper, op, self._settings.timeout_seconds, **fields)

    def _asked(self, helper: Helper, op: str, seconds: float, **fields: Any) -> Any:
        self._command(helper, op, seconds, **fields)
        return helper.answer(seconds)[1]

    def _command(self, helper: Helper, op: str, seconds: float | None = None, **fields: Any) -> None:
        with self._lock:
            clean, self._cleaned = not self._cleaned, True
        helper.command(
            op,
            seconds or self._settings.timeout_seconds,
            path=self._settings.path,
            expect_uuid=self._settings.expect_uuid,
            reserve_bytes=self._settings.reserve_bytes,
            clean=clean,
            **fields,
        )

    def _answer(self, helper: Helper) -> tuple[Kind, Any]:
        return helper.answer(self._settings.timeout_seconds)

    def _pump(self, helper: Helper, source: Readable, size: int, key: str) -> None:
        """Pass the source on, a piece at a time, until it ends or the helper has said that it failed."""
        missing, seconds = size, self._settings.timeout_seconds
        try:
            while not helper.line.ready():
                with translated(f"read the source of {key}"):
                    # One more byte at the end: the helper must see that there is none.
                    data = source.read(min(CHUNK_BYTES, missing) or 1)
                if not data:
                    helper.line.send(Kind.END, b"", seconds)
                    return
                if len(data) > max(missing, 1):
                    raise Corrupt(f"put {key}: the source gave more than {size} bytes")
                helper.line.send(Kind.DATA, data, seconds)
                if not missing:
                    helper.line.send(Kind.END, b"", seconds)
                    return
                missing -= len(data)
        except (Stuck, Died):
            raise
        except BaseException:
            with suppress(DriverError):  # the source's own error is what is told
                helper.line.send(Kind.ABORT, b"", seconds)
                self._answer(helper)
            raise
        helper.line.send(Kind.ABORT, b"", seconds)

    def _must_drop(self, key: str) -> bool:
        with self._lock:
            if not self._dropping or key in self._dropped:
                return False
            if len(self._dropped) >= _REMEMBERED_MAX:
                self._dropped.clear()
            self._dropped.add(key)
            return True
