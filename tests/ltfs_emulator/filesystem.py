"""The mounted volume: a FUSE file system that writes its index at a sync and at the end, and never else."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import Any

os.environ.setdefault("FUSE_LIBRARY_PATH", "libfuse.so.2")

from medium import BLOCK_BYTES, Medium, say
from mfusepy import FUSE, FuseOSError, Operations

_PREFIX = "user."
_MIB = 1 << 20


def serve(medium: Medium, mountpoint: str) -> int:
    """Until it is unmounted. 0 also when FUSE fails, as with the real one."""
    volume = Volume(medium)
    say("11031I", "Volume mounted successfully.", thread=True)
    trouble = "option" if medium.traps.get("fuse_fails") else ""
    if os.listdir(mountpoint):
        trouble = "mountpoint is not empty"
    if not trouble:
        try:
            FUSE(volume, mountpoint, foreground=True, nothreads=True, big_writes=True, fsname="ltfs:emulated",
                 default_permissions=False)  # fmt: skip
        except RuntimeError as error:
            trouble = str(error)
    if trouble:
        say("14123W", f"FUSE failed ({trouble}).", thread=True)
        return 0
    volume.end()
    return 0


class Volume(Operations):
    """See the LTFS format's virtual extended attributes, and README.md."""

    use_ns = True

    def __init__(self, medium: Medium) -> None:
        self._medium = medium
        self._label = medium.label()
        _, self._generation, self._tree = medium.last_index()
        self._next = medium.next_block()
        self._used = medium.used()
        self._pending: dict[str, bytearray] = {}
        self._uid = max((node["uid"] for node in self._tree.values()), default=1)
        self._dirty = False
        self._commit = b""
        self._locked = 0
        self._written = 0
        self._full = False
        self._began = time.time_ns()

    def end(self) -> None:
        """After the unmount, of which nobody waits for the end."""
        traps = self._medium.traps
        time.sleep(traps.get("slow_unmount_seconds", 0))
        if traps.get("no_index_at_unmount"):
            say("11033E", "Cannot unmount the volume: the index was not written.", thread=True)
            return
        self._flush_all()
        if self._dirty:
            self._write_index()
        if self._medium.index("0_5_I").get("generation") != self._generation:
            self._medium.write_index_partition(self._generation, self._tree, self._comment())
        say("11034I", "Volume unmounted successfully.", thread=True)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        common: dict[str, Any] = {"st_uid": 0, "st_gid": 0}
        common |= dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), self._began)
        if path == "/" or self._node(path)["folder"]:
            return common | {"st_mode": stat.S_IFDIR | 0o777, "st_nlink": 2, "st_size": 0}
        node = self._node(path)
        size = node["size"] + len(self._pending.get(path, b""))
        return common | {"st_mode": stat.S_IFREG | 0o777, "st_nlink": 1, "st_size": size}

    def readdir(self, path: str, fh: int) -> list[str]:
        prefix = path.rstrip("/") + "/"
        below = {p[len(prefix) :] for p in self._tree if p.startswith(prefix)}
        return [".", "..", *sorted(name for name in below if "/" not in name)]

    def mkdir(self, path: str, mode: int) -> int:
        self._new(path, folder=True)
        return 0

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        if self._full:
            raise FuseOSError(errno.ENOSPC)
        self._new(path, folder=False)
        return 1

    def open(self, path: str, flags: int) -> int:
        self._node(path)
        return 1

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        node, found, at = self._node(path), bytearray(), 0
        for block, length in node["extents"]:
            if at < offset + size and offset < at + length:
                data = self._medium.read(block)
                found += data[max(0, offset - at) : offset + size - at]
            at += length
        if offset + size > at:
            found += self._pending.get(path, b"")[max(0, offset - at) : offset + size - at]
        return bytes(found)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._require_unlocked()
        node = self._node(path)
        pending = self._pending.setdefault(path, bytearray())
        if offset != node["size"] + len(pending):
            raise FuseOSError(errno.EINVAL)  # nobody here writes but at the end
        pending += data
        self._dirty = True
        while len(pending) >= BLOCK_BYTES:
            self._block(path, node, bytes(pending[:BLOCK_BYTES]))
            del pending[:BLOCK_BYTES]
        return len(data)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._flush(path)
        return 0

    def flush(self, path: str, fh: int) -> int:
        self._flush(path)
        return 0

    def release(self, path: str, fh: int) -> int:
        return 0

    def unlink(self, path: str) -> int:
        self._require_unlocked()
        self._node(path)
        self._pending.pop(path, None)
        del self._tree[path]
        self._dirty = True
        return 0

    def rmdir(self, path: str) -> int:
        if any(p.startswith(path + "/") for p in self._tree):
            raise FuseOSError(errno.ENOTEMPTY)
        return self.unlink(path)

    def rename(self, old: str, new: str) -> int:
        self._require_unlocked()
        self._tree[new] = self._tree.pop(old)
        if old in self._pending:
            self._pending[new] = self._pending.pop(old)
        for path in [p for p in self._tree if p.startswith(old + "/")]:
            self._tree[new + path[len(old) :]] = self._tree.pop(path)
        self._dirty = True
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        if length:
            raise FuseOSError(errno.EINVAL)
        self._node(path).update(extents=[], size=0)
        return 0

    def chmod(self, path: str, mode: int) -> int:
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        return 0

    def utimens(self, path: str, times: Any = None) -> int:
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        total = self._medium.capacity() // BLOCK_BYTES
        free = max(0, self._medium.capacity() - self._used) // BLOCK_BYTES
        return {"f_bsize": BLOCK_BYTES, "f_frsize": BLOCK_BYTES, "f_blocks": total, "f_bfree": free,
                "f_bavail": free, "f_namemax": 255}  # fmt: skip

    def listxattr(self, path: str) -> list[str]:
        return []

    def setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> int:
        if name == "user.ltfs.sync":
            self._sync()
            return 0
        self._require_unlocked()
        self._dirty = True
        if name == "user.ltfs.commitMessage":
            self._commit = bytes(value)  # in the index, and yet it reads back empty after a remount
        elif path == "/":
            raise FuseOSError(errno.EPERM)
        else:
            self._node(path)["xattrs"][name] = bytes(value).decode("utf-8")
        return 0

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        virtual = self._virtual(path, name.removeprefix("user.ltfs."))
        if virtual is None and path != "/":
            virtual = self._node(path)["xattrs"].get(name)
        if virtual is None:
            raise FuseOSError(errno.ENODATA)
        return virtual.encode("utf-8") if isinstance(virtual, str) else virtual

    def _virtual(self, path: str, name: str) -> str | bytes | None:
        traps = self._medium.traps
        if path != "/":
            extents = self._node(path)["extents"]
            return {
                "startblock": str(extents[0][0]) if extents else None,
                "partition": "b" if extents else None,
                "fileUID": str(self._node(path)["uid"]),
            }.get(name)
        free = 0 if self._full else max(0, self._medium.capacity() - self._used) // _MIB
        return {
            "volumeUUID": self._label.uuid,
            "volumeSerial": self._label.serial,
            "volumeName": self._label.name,
            "mamBarcode": f"{traps.get('mam_barcode', self._label.serial):32}",
            "volumeLockState": f"0x{self._locked:08x}",
            "indexGeneration": str(self._generation),
            "commitMessage": self._commit,
            "mediaDataPartitionTotalCapacity": str(self._medium.capacity() // _MIB),
            "mediaDataPartitionAvailableSpace": str(free),
        }.get(name)

    def _sync(self) -> None:
        """Returns 0 whatever happens; only the generation tells."""
        self._flush_all()
        if self._dirty and not self._medium.traps.get("sync_ignored"):
            self._write_index()

    def _write_index(self) -> None:
        self._generation += 1
        self._medium.write_index(self._next, self._generation, self._tree, self._comment())
        self._next += 1
        self._dirty = False
        say("17070I", "Synced index.", thread=True)

    def _comment(self) -> str:
        return self._commit.decode("utf-8", "replace")

    def _flush_all(self) -> None:
        for path in list(self._pending):
            self._flush(path)

    def _flush(self, path: str) -> None:
        pending = self._pending.pop(path, None)
        if pending:
            self._block(path, self._node(path), bytes(pending))

    def _block(self, path: str, node: dict[str, Any], data: bytes) -> None:
        limit = self._medium.traps.get("write_error_after_bytes")
        if limit is not None and self._written + len(data) > limit:
            self._locked = 0xE0
            say("12045E", "Cannot write block: backend call failed. Dropping to read-only mode.", thread=True)
            raise FuseOSError(errno.EIO)
        if self._used + len(data) > self._medium.capacity():
            # The end of the tape: the bytes are gone, and neither fsync nor close says so.
            self._full = True
            say("12064E", "Cannot write block: no space left on device.", thread=True)
            node.update(extents=[], size=0)
            self._pending.pop(path, None)
            raise FuseOSError(errno.ENOSPC)
        self._medium.append(self._next, data)
        node["extents"].append([self._next, len(data)])
        node["size"] += len(data)
        self._next += 1
        self._used += len(data)
        self._written += len(data)

    def _new(self, path: str, *, folder: bool) -> None:
        self._require_unlocked()
        if path in self._tree:
            raise FuseOSError(errno.EEXIST)
        parent = path.rpartition("/")[0]
        if parent and not self._node(parent)["folder"]:
            raise FuseOSError(errno.ENOTDIR)
        if len(path.rpartition("/")[2].encode()) > 255:
            raise FuseOSError(errno.ENAMETOOLONG)
        self._uid += 1
        self._tree[path] = {"folder": folder, "xattrs": {}, "extents": [], "size": 0, "uid": self._uid}
        self._dirty = True

    def _require_unlocked(self) -> None:
        if self._locked:
            raise FuseOSError(errno.EROFS)

    def _node(self, path: str) -> dict[str, Any]:
        if path not in self._tree:
            raise FuseOSError(errno.ENOENT)
        return self._tree[path]
