"""The product's disk drivers on the laboratory's own mounts, for the contract suite of stores
(tests/contract): the set-up ``disks``."""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "disks"))

from nfsserver import NfsServer

from drivers.base import Store
from drivers.nas.helpers import Helpers, Limits
from drivers.nas.store import NasStore, Settings

HELPERS = Helpers(Limits())


class NfsHarness:
    """A folder of a real NFS mount, ``hard``; one mount of each version for all tests of the process."""

    _servers: dict[str, NfsServer] = {}  # noqa: RUF012
    _numbers = itertools.count()

    def __init__(self, version: str) -> None:
        if version not in self._servers:
            made = Path(tempfile.mkdtemp(prefix="hsm-nfs-"))
            self._servers[version] = NfsServer(made, version, mebibytes=1024)
            atexit.register(self._servers[version].close)
        self._root = self._servers[version].seen / str(next(self._numbers))
        self._root.mkdir()
        self.store: Store = self._open()

    def _open(self, **changes: Any) -> Store:
        return NasStore(Settings(str(self._root), **changes), HELPERS)

    def crash(self) -> Store:
        self.store = self._open()
        return self.store

    def small(self, free: int) -> Store:
        system = os.statvfs(self._root)
        return self._open(reserve_bytes=max(0, system.f_bavail * system.f_frsize - free))
