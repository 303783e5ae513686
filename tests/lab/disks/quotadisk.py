"""A file system with quotas on a loop device, and another user's process on it."""

from __future__ import annotations

import io
import itertools
import json
import os
from pathlib import Path

from nfsserver import tool

from drivers.errors import DriverError
from drivers.raid.store import RaidStore

USER, GROUP, PROJECT = 4711, 4712, 77
MOUNTS = Path("/srv/quotas")
"""Every user may pass here."""

_numbers = itertools.count(1)


class QuotaDisk:
    """``point`` is mounted with ``options``; ``folder`` in it belongs to USER and GROUP."""

    def __init__(self, kind: str, options: str) -> None:
        number = next(_numbers)
        self.kind, self.point = kind, MOUNTS / str(number)
        self.point.mkdir(parents=True)
        self._image = Path(f"/dev/shm/quota{number}.img")
        with self._image.open("wb") as file:
            file.truncate(512 << 20)
        special = ["-O", "quota,project", "-E", "quotatype=usrquota:grpquota:prjquota"]
        tool(f"mkfs.{kind}", "-q", *(special if kind == "ext4" else []), self._image)
        tool("mount", "-o", f"loop,{options}", self._image, self.point)
        self.uuid = tool("blkid", "-o", "value", "-s", "UUID", self._image).strip()
        by_uuid = Path("/dev/disk/by-uuid")
        by_uuid.mkdir(parents=True, exist_ok=True)
        device = tool("findmnt", "-no", "SOURCE", self.point).strip()
        if not (by_uuid / self.uuid).exists():
            (by_uuid / self.uuid).symlink_to(device)
        self.folder = self.point / "pool"
        self.folder.mkdir()
        os.chown(self.folder, USER, GROUP)

    def limit(self, kind: str, number: int, soft_mib: int, hard_mib: int, files: int = 0) -> None:
        """``kind`` is -u, -g or -P of setquota(8)."""
        blocks = (str(soft_mib << 10), str(hard_mib << 10))
        tool("setquota", kind, str(number), *blocks, "0", str(files), self.point)

    def project(self) -> None:
        """All that is made in the folder from now on counts for the project."""
        if self.kind == "xfs":
            tool("xfs_io", "-c", f"chproj {PROJECT}", "-c", "chattr +P", self.folder)
        else:
            tool("chattr", "-p", str(PROJECT), "+P", self.folder)

    def as_user(self, what: str, size: int = 0, key: str = "k") -> dict[str, object]:
        """What the raid driver says to a process of USER and GROUP that is not root. ``what`` is ``put`` or
        ``look``."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writing, json.dumps(self._do(what, size, key)).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            told = answer.read()
        os.waitpid(child, 0)
        found: dict[str, object] = json.loads(told)
        return found

    def _do(self, what: str, size: int, key: str) -> dict[str, object]:
        os.setgroups([])
        os.setresgid(GROUP, GROUP, GROUP)
        os.setresuid(USER, USER, USER)
        try:
            store = RaidStore(self.folder, self.uuid)
            if what == "put":
                store.put(key, io.BytesIO(bytes(size)), size, None)
            room = store.capacity()
            return {"total": room.total, "free": room.free, "ok": store.health().ok}
        except DriverError as error:
            return {"error": type(error).__name__, "message": str(error)}

    def close(self) -> None:
        tool("umount", self.point)
        (Path("/dev/disk/by-uuid") / self.uuid).unlink()
        self._image.unlink()
