"""Between SQLite and its files: faults at its writes and flushes, and a copy of what is durable.

A VFS of our own in front of SQLite's (https://www.sqlite.org/vfs.html), made with ctypes in the library
that Python's sqlite3 uses. It needs no compiler, and sees each xWrite and xSync. The copy in the record's
folder has, of each file, only what was written before a flush that returned.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import os
import threading
import traceback
from pathlib import Path
from typing import Any

from crash_hook import REAL, Hook

OK, FULL = 0, 13
IOERR_WRITE, IOERR_FSYNC = 10 | (3 << 8), 10 | (4 << 8)
OPEN_MAIN_DB, OPEN_WAL = 0x100, 0x80000
Pointer = ctypes.c_void_p
X_OPEN = ctypes.CFUNCTYPE(ctypes.c_int, Pointer, Pointer, Pointer, ctypes.c_int, Pointer)
X_DELETE = ctypes.CFUNCTYPE(ctypes.c_int, Pointer, Pointer, ctypes.c_int)
X_WRITE = ctypes.CFUNCTYPE(ctypes.c_int, Pointer, Pointer, ctypes.c_int, ctypes.c_int64)
X_TRUNCATE = ctypes.CFUNCTYPE(ctypes.c_int, Pointer, ctypes.c_int64)
X_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, Pointer, ctypes.c_int)
_VFS_REST = (
    "xAccess", "xFullPathname", "xDlOpen", "xDlError", "xDlSym", "xDlClose", "xRandomness", "xSleep",
    "xCurrentTime", "xGetLastError", "xCurrentTimeInt64", "xSetSystemCall", "xGetSystemCall",
    "xNextSystemCall",
)  # fmt: skip
_METHODS_REST = (
    "xFileSize", "xLock", "xUnlock", "xCheckReservedLock", "xFileControl", "xSectorSize",
    "xDeviceCharacteristics", "xShmMap", "xShmLock", "xShmBarrier", "xShmUnmap", "xFetch", "xUnfetch",
)  # fmt: skip


class Vfs(ctypes.Structure):
    """struct sqlite3_vfs, version 3."""

    _fields_ = [
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", Pointer),
        ("zName", ctypes.c_char_p),
        ("pAppData", Pointer),
        ("xOpen", X_OPEN),
        ("xDelete", X_DELETE),
        *((name, Pointer) for name in _VFS_REST),
    ]


class Methods(ctypes.Structure):
    """struct sqlite3_io_methods, version 3."""

    _fields_ = [
        ("iVersion", ctypes.c_int),
        ("xClose", Pointer),
        ("xRead", Pointer),
        ("xWrite", X_WRITE),
        ("xTruncate", X_TRUNCATE),
        ("xSync", X_SYNC),
        *((name, Pointer) for name in _METHODS_REST),
    ]


class File(ctypes.Structure):
    """struct sqlite3_file."""

    _fields_ = [("pMethods", ctypes.POINTER(Methods))]


class Tracked:
    """One of the catalog's files, whatever connections have it open."""

    def __init__(self, path: str, record: str | None) -> None:
        self.path = path
        self.steps = ("write row", "commit rows") if path.endswith("-wal") else ("write table", "checkpoint")
        self._copy = f"{record}/{Path(path).name}" if record is not None else None
        self._lock = threading.Lock()
        self._dirty: list[tuple[int, int]] = []
        self._cut: int | None = None
        self._source: int | None = None

    def wrote(self, offset: int, size: int) -> None:
        if self._copy is not None:
            with self._lock:
                self._dirty.append((offset, size))

    def truncated(self, size: int) -> None:
        with self._lock:
            self._cut = size

    def forget(self) -> None:
        """A flush failed: what was to be flushed is lost, whatever a later one says."""
        with self._lock:
            self._dirty = []

    def deleted(self) -> None:
        self._source = None
        if self._copy is not None and os.path.exists(self._copy):
            REAL["unlink"](self._copy)

    def synced(self, act: Any) -> int:
        """Flush by ``act``, and copy what that made durable."""
        if self._copy is None:
            return int(act())
        with self._lock:
            dirty, self._dirty = self._dirty, []
            cut, self._cut = self._cut, None
            if self._source is None:
                # Never closed: that would drop all locks that SQLite has on the file (fcntl(2)).
                self._source = REAL["open"](self.path, os.O_RDONLY | os.O_CLOEXEC)
            pieces = [(offset, os.pread(self._source, size, offset)) for offset, size in dirty]
            result = int(act())
            if result == OK:
                target = REAL["open"](self._copy, os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    if cut is not None:
                        os.ftruncate(target, cut)
                    for offset, piece in pieces:
                        os.pwrite(target, piece, offset)
                finally:
                    os.close(target)
            return result


class Front:
    """The VFS; it lives as long as the process."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook
        self._library = ctypes.CDLL(_sqlite3.__file__)
        self._library.sqlite3_vfs_find.restype = ctypes.POINTER(Vfs)
        self._real = self._library.sqlite3_vfs_find(None).contents
        self._tracked: dict[str, Tracked] = {}
        self._files: dict[int, tuple[Tracked, Methods]] = {}
        self._methods: dict[int, Methods] = {}
        self.vfs = Vfs()
        ctypes.memmove(ctypes.byref(self.vfs), ctypes.byref(self._real), ctypes.sizeof(Vfs))
        self.vfs.zName = b"crash"
        self.vfs.xOpen = X_OPEN(self._guarded(self._open))
        self.vfs.xDelete = X_DELETE(self._guarded(self._delete))
        self._write_ = X_WRITE(self._guarded(self._write))
        self._truncate_ = X_TRUNCATE(self._guarded(self._truncate))
        self._sync_ = X_SYNC(self._guarded(self._sync))
        if self._library.sqlite3_vfs_register(ctypes.byref(self.vfs), 1) != OK:
            raise RuntimeError("SQLite does not take the VFS")

    @staticmethod
    def _guarded(act: Any) -> Any:
        def guarded(*args: Any) -> int:
            try:
                return int(act(*args))
            except BaseException:  # noqa: BLE001  SQLite is told; Python has nobody to tell
                traceback.print_exc()
                return IOERR_WRITE

        return guarded

    def _open(self, vfs: int, name: int, file: int, flags: int, out: int) -> int:
        result = self._real.xOpen(vfs, name, file, flags, out)
        if result != OK or not name or not flags & (OPEN_MAIN_DB | OPEN_WAL):
            return int(result)
        path = os.fsdecode(ctypes.string_at(name))
        if path not in (self._hook.catalog, f"{self._hook.catalog}-wal"):
            return int(result)
        tracked = self._tracked.setdefault(path, Tracked(path, self._hook.record))
        opened = ctypes.cast(file, ctypes.POINTER(File)).contents
        real = opened.pMethods.contents
        where = ctypes.addressof(real)
        if where not in self._methods:
            mine = Methods()
            ctypes.memmove(ctypes.byref(mine), ctypes.byref(real), ctypes.sizeof(Methods))
            mine.xWrite, mine.xTruncate, mine.xSync = self._write_, self._truncate_, self._sync_
            self._methods[where] = mine
        self._files[file] = (tracked, real)
        opened.pMethods = ctypes.pointer(self._methods[where])
        return int(result)

    def _delete(self, vfs: int, name: int, sync: int) -> int:
        result = self._real.xDelete(vfs, name, sync)
        tracked = self._tracked.get(os.fsdecode(ctypes.string_at(name)))
        if tracked is not None and result == OK:
            tracked.deleted()
        return int(result)

    def _write(self, file: int, data: int, size: int, offset: int) -> int:
        tracked, real = self._files[file]
        try:
            result = self._hook.step(tracked.steps[0], lambda: real.xWrite(file, data, size, offset))
        except OSError as error:
            return FULL if error.errno == 28 else IOERR_WRITE
        tracked.wrote(offset, size)
        return int(result)

    def _truncate(self, file: int, size: int) -> int:
        tracked, real = self._files[file]
        result = real.xTruncate(file, size)
        if result == OK:
            tracked.truncated(size)
        return int(result)

    def _sync(self, file: int, flags: int) -> int:
        tracked, real = self._files[file]
        try:
            result = self._hook.step(
                tracked.steps[1], lambda: tracked.synced(lambda: real.xSync(file, flags)), tracked.forget
            )
        except OSError:
            return IOERR_FSYNC
        return OK if result is None else int(result)


_front: list[Front] = []


def install(hook: Hook) -> None:
    """Make it SQLite's default in this process, before anything is opened."""
    _front.append(Front(hook))
