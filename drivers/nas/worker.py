"""The helper process: does one piece of file work after the other for a store that may give up on it.

usage: python -m drivers.nas.worker [DESCRIPTOR]   (a store starts it; commands on stdin, answers on stdout,
what is read into the shared memory that DESCRIPTOR is)

It ends when its stdin does. Every command opens the folder anew, so nothing is stale for longer than
one command.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, cast

from drivers.errors import DriverError, OperatorNeeded, Retryable
from drivers.folder import FolderStore
from drivers.nas.frames import HelperLine, Kind, enlarge
from drivers.nas.segment import SLOTS, Segment, filled
from drivers.walk import below

SYNC_BYTES = 64 << 20
"""A put flushes after so many bytes, so that no single wait is for a whole package."""
_ITEMS = 500
# What a mount answers whose server is away or came back another one: it will pass.
_AWAY = frozenset(
    {
        errno.ENOTCONN,
        errno.ESTALE,
        errno.EIO,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EREMOTEIO,
    }
)
_REFUSED = frozenset({errno.EACCES, errno.EPERM})
_STALE = (
    "the server does not know any more what is mounted here: it was restored, renumbered or exported anew; "
    "when it stays so, `umount -l` it and mount it again"
)


class _Aborted(Exception):
    """The store told the put to end."""


class _Source:
    """The bytes of a put as they come through the pipe."""

    def __init__(self, line: HelperLine, started: Callable[[], Mapping[str, Any]]) -> None:
        self._line, self._started = line, started
        self._left = b""
        self.begun = self.ended = False

    def read(self, size: int, /) -> bytes:
        if not self.begun:
            self.begun = True
            self._line.send(Kind.STARTED, json.dumps(self._started()).encode())
        if not self._left and not self.ended:
            kind, self._left = self._line.receive()
            if kind is not Kind.DATA:
                self.ended = True
            if kind is Kind.ABORT:
                raise _Aborted
        data, self._left = self._left[:size], self._left[size:]
        return data

    def drain(self) -> None:
        """Take what is still under way after an error."""
        while self.begun and not self.ended:
            self.ended = self._line.receive()[0] is not Kind.DATA


class _Slots:
    """The shared memory as one get fills it; all of it is free when it begins."""

    def __init__(self, line: HelperLine, segment: Segment) -> None:
        self._line, self._segment = line, segment
        self._next, self._free = 0, SLOTS

    def read(self, fd: int, size: int, offset: int) -> memoryview:
        """Read a piece of a file into the next slot, once the store has taken what was there."""
        while not self._free:
            kind, _ = self._line.receive()
            if kind is not Kind.FREE:
                raise ValueError(f"frame {kind!r} in the middle of a get")
            self._free += 1
        into = self._segment.slot(self._next)[:size]
        return into[: os.preadv(fd, [into], offset)]

    def tell(self, size: int) -> None:
        self._line.send(Kind.FILLED, filled(self._next, size))
        self._next, self._free = (self._next + 1) % SLOTS, self._free - 1


class _Paced(FolderStore):
    """Knows the file that its put writes, and flushes it now and then; a get may read into shared memory."""

    slots: _Slots | None = None
    _writing = -1
    _unsynced = 0

    def _began(self, fd: int) -> None:
        self._writing = fd

    def beginning(self) -> dict[str, int]:
        """When the file was made, by the clock of its file system (nanoseconds)."""
        return {"since": os.fstat(self._writing).st_mtime_ns}

    def paced(self, source: _Source) -> Any:
        outer = self

        class Paced:
            def read(self, size: int, /) -> bytes:
                data = source.read(size)
                outer._unsynced += len(data)
                if outer._unsynced >= SYNC_BYTES:
                    os.fdatasync(outer._writing)
                    outer._unsynced = 0
                return data

        return Paced()

    def _read(self, fd: int, size: int, offset: int) -> bytes:
        if self.slots is None:
            return super()._read(fd, size, offset)
        return cast(bytes, self.slots.read(fd, size, offset))  # as good: only its length is looked at

    def remove_late(self, key: str, size: int, since: int) -> bool:
        """Delete ``key`` if it has ``size`` bytes and was written at ``since`` or later: the object of a put
        that was given up on. (Not its inode: not every network file system keeps it over a link.)"""
        parts = self._parts(key)
        try:
            with self._open_root(checked=True) as root, below(root, parts[:-1]) as folder:
                found = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        late = found.st_size == size and found.st_mtime_ns >= since
        if late:
            self.delete(key)
            self.flush()
        return late


def serve(line: HelperLine, segment: Segment | None = None) -> None:
    """Do what the commands say, until the store has gone."""
    while True:
        try:
            kind, payload = line.receive()
        except EOFError:
            return
        if kind is Kind.FREE:
            continue  # the last slots of a get that has ended
        if kind is not Kind.COMMAND:
            raise ValueError(f"frame {kind!r} where a command was expected")
        _answer(line, json.loads(payload), segment)


def _answer(line: HelperLine, command: dict[str, Any], segment: Segment | None) -> None:
    for attempt in (1, 2):
        source = _Source(line, dict)
        try:
            result = _do(line, command, source, segment)
        except _Aborted:
            line.send(Kind.RESULT, b"null")
        except (DriverError, OSError) as error:
            if attempt == 1 and _stale(error) and not source.begun and command["op"] != "list":
                continue  # the handle was of an earlier life of the server; a new one is had by asking again
            source.drain()
            line.send(Kind.ERROR, json.dumps(_told(error)).encode())
        else:
            line.send(Kind.RESULT, json.dumps(result).encode())
        return


def _do(line: HelperLine, command: dict[str, Any], source: _Source, segment: Segment | None) -> Any:
    op, key = command["op"], command.get("key", "")
    store = _Paced(command["path"], command["reserve_bytes"], command["expect_uuid"], clean=command["clean"])
    if op == "put":
        source._started = store.beginning
        digest = bytes.fromhex(command["digest"]) if command["digest"] else None
        return store.put(key, store.paced(source), command["size"], digest).size
    if op == "get":
        if command["drop"]:
            store.drop_caches()
        store.slots = _Slots(line, segment) if segment is not None else None
        for piece in store.get(key, command["offset"], command["length"]):
            source.begun = source.ended = True  # something was answered: no second attempt
            if store.slots is not None:
                store.slots.tell(len(piece))
            else:
                line.send(Kind.DATA, piece)
        return None
    if op == "list":
        return _list(line, store)
    if op == "delete":
        store.delete(key)
        store.flush()  # here, because the next command may go to another process
        return None
    return _ask(store, op, command)


def _ask(store: _Paced, op: str, command: dict[str, Any]) -> Any:
    if op == "stat":
        return store.stat(command["key"]).size
    if op == "capacity":
        room = store.capacity()
        return [room.total, room.free]
    if op == "flush":
        store.flush()
        return None
    if op == "health":
        try:
            store.try_out()
        except (DriverError, OSError) as error:
            return [False, _told(error)[1]]
        return [True, ""]
    if op == "remove_late":
        return store.remove_late(command["key"], command["size"], command["since"])
    if op == "read_label":
        label = store.read_label()
        return label and [label.pool, label.uuid]
    if op == "write_label":
        from drivers.base import StoreLabel

        store.write_label(StoreLabel(command["pool"], command["uuid"]))
        return None
    raise ValueError(f"unknown command {op!r}")


def _list(line: HelperLine, store: FolderStore) -> None:
    items: list[tuple[str, int]] = []
    for each in store.list():
        items.append((each.key, each.size))
        if len(items) == _ITEMS:
            line.send(Kind.ITEMS, json.dumps(items).encode())
            items = []
    line.send(Kind.ITEMS, json.dumps(items).encode())


def _errno(error: BaseException) -> int | None:
    found: BaseException | None = error
    while found is not None and not isinstance(found, OSError):
        found = found.__cause__
    return found.errno if isinstance(found, OSError) else None


def _stale(error: BaseException) -> bool:
    return _errno(error) == errno.ESTALE


def _told(error: DriverError | OSError) -> list[str]:
    """The class's name and the message of the error to raise at the other side."""
    number = _errno(error)
    if number == errno.ESTALE:
        return [Retryable.__name__, f"{error}; {_STALE}"]
    if not isinstance(error, DriverError):
        return [Retryable.__name__, str(error)]
    if isinstance(error, OperatorNeeded) and number in _AWAY:
        return [Retryable.__name__, f"{error}; the server of this mount is away"]
    if isinstance(error, OperatorNeeded) and number in _REFUSED:
        return [OperatorNeeded.__name__, f"{error}. {_squashed(os.geteuid())}"]
    return [type(error).__name__, str(error)]


def _squashed(user: int) -> str:
    """Why a server may refuse ``user`` what the folder's mode seems to allow."""
    if user == 0:
        return (
            "This is root, whom an NFS server takes for nobody unless its exports say no_root_squash: "
            "run the daemon as a user who owns the folder there"
        )
    return (
        f"The server decides what user {user} may do: it must own the folder there (see all_squash, anonuid)"
    )


def main() -> None:
    """Serve on what stdin and stdout were; anything printed goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    writing = os.dup(1)
    os.dup2(2, 1)
    for descriptor in (0, writing):
        enlarge(descriptor)
    segment = Segment(int(sys.argv[1])) if len(sys.argv) > 1 else None
    try:
        serve(HelperLine(0, writing), segment)
    except (BrokenPipeError, EOFError):
        sys.exit(0)


if __name__ == "__main__":
    main()
