"""The machine below the archive: what it flushed survives, what it did not may be gone.

While a :class:`Host` is in force, the calls that change file systems go through it. So the process can
die between any two of them, a dead process changes nothing any more, a flush can fail, and a power cut
takes back what was never flushed (:mod:`tests.crash.power` has the rules). Everything that chance would
decide elsewhere (UUIDs, tokens) comes from the seed.
"""

from __future__ import annotations

import errno
import os
import random
import secrets
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.chaos.chaos_effects import Effects
from tests.crash.power import POOLS, Power
from tests.sim.taps import Fuse

_REAL = {
    name: getattr(os, name)
    for name in ("fsync", "fdatasync", "link", "unlink", "remove", "rename", "replace", "rmdir", "mkdir")
}


class PoolPower(Power):
    """Of the folders of the pools; the catalog's file keeps what was committed, as SQLite promises."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, home / "none")
        self._folders: list[int] = []

    def on(self) -> None:
        super().on()
        (self.record / "graveyard").mkdir()
        while self._folders:
            os.close(self._folders.pop())

    def flushed(self, descriptor: int) -> None:
        about = os.fstat(descriptor)
        if stat.S_ISDIR(about.st_mode):
            with os.scandir(descriptor) as found:
                entries = {e.name: (e.inode(), e.is_dir(follow_symlinks=False)) for e in found}
            self._durable.folders[about.st_ino] = entries
        else:
            self._durable.files[about.st_ino] = max(about.st_size, self._durable.files.get(about.st_ino, 0))

    def bury(self, path: str) -> None:
        """A name goes; that it is gone is durable only after a flush."""
        try:
            number = os.stat(path, follow_symlinks=False).st_ino
            _REAL["link"](path, self.record / "graveyard" / str(number), follow_symlinks=False)
        except (FileExistsError, FileNotFoundError, IsADirectoryError, PermissionError):
            return

    def keep_number(self, path: str) -> None:
        """Nothing else may get the number of a folder that goes."""
        self._folders.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def _catalog_files(self) -> list[Path]:
        return []

    def _replay(self) -> None:
        return  # noted as it happens


class Host:
    """One machine with one archive's home."""

    def __init__(self, home: Path, rng: random.Random, effects: Effects) -> None:
        self.home = str(home)
        self.power = PoolPower(home)
        self.fuse = Fuse()
        self.flush_fails_in: int | None = None
        self.idle = False
        """No process is there: what changes files now is somebody else."""
        self._names = rng
        self._effects = effects

    def pool_of(self, path: str) -> str:
        """The disk pool of this machine that a path is in; empty for any other path."""
        if self.idle or not path.startswith(self.home + "/"):
            return ""
        pool = path[len(self.home) + 1 :].split("/")[0]
        return pool if pool in POOLS else ""

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Stand between the archive and the machine."""
        patches: list[tuple[Any, str, Any]] = [
            *((os, name, self._flush(name)) for name in ("fsync", "fdatasync")),
            *((os, name, self._change(name)) for name in _REAL if name not in ("fsync", "fdatasync")),
            (uuid, "uuid4", lambda: uuid.UUID(int=self._names.getrandbits(128), version=4)),
            (secrets, "token_hex", lambda n=8: self._names.randbytes(n).hex()),
            (time, "time_ns", lambda: 0),
        ]
        old = [(where, name, getattr(where, name)) for where, name, _ in patches]
        try:
            for where, name, new in patches:
                setattr(where, name, new)
            yield
        finally:
            for where, name, before in old:
                setattr(where, name, before)

    def _path(self, target: Any, folder: int | None) -> str:
        if isinstance(target, int):
            return _name_of(target)
        path = os.fsdecode(target)
        if folder is not None and not path.startswith("/"):
            path = f"{_name_of(folder)}/{path}"
        return path

    def _flush(self, _name: str) -> Callable[[int], None]:
        def flush(descriptor: int) -> None:
            if self.fuse.blown and not self.idle:
                return
            if not self.pool_of(self._path(descriptor, None)):
                return  # of another machine, or hardware
            if self.flush_fails_in is not None:
                self.flush_fails_in -= 1
                if self.flush_fails_in <= 0:
                    self.flush_fails_in = None
                    self._effects.feel("disk flush failed")
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
            with self.fuse.around():
                self.power.flushed(descriptor)

        return flush

    def _change(self, name: str) -> Callable[..., Any]:
        real = _REAL[name]

        def change(target: Any, *args: Any, **kwargs: Any) -> Any:
            if self.fuse.blown and not self.idle:
                return None  # the process is dead
            folder = kwargs.get("dir_fd", kwargs.get("src_dir_fd"))
            path = self._path(target, folder)
            if not self.pool_of(path):
                return real(target, *args, **kwargs)
            self.fuse.tick()
            if name in ("unlink", "remove", "rename", "replace"):
                self.power.bury(path)
            if name == "rmdir":
                self.power.keep_number(path)
            return real(target, *args, **kwargs)

        return change


def _name_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115  called for every change
