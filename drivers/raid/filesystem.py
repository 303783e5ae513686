"""Who a mounted file system is: its UUID, asked of the kernel or of udev, never of its path."""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path

# ioctl_fs_uuid: _IOR(0x15, 0, struct fsuuid2 { __u8 len; __u8 uuid[16]; }), Linux 6.9 and later.
_FS_IOC_GETFSUUID = 2 << 30 | 17 << 16 | 0x15 << 8
UDEV_DATA = Path("/run/udev/data")
BY_UUID = Path("/dev/disk/by-uuid")


def uuid_of(folder: int, udev: Path = UDEV_DATA, by_uuid: Path = BY_UUID) -> str | None:
    """The UUID of the file system that the open ``folder`` lies on, in lower case; None where neither the
    kernel nor udev tells one."""
    return _of_kernel(folder) or _of_udev(os.fstat(folder).st_dev, udev) or _of_links(folder, by_uuid)


def same(one: str, other: str) -> bool:
    """UUIDs are compared without case; short ones (vfat) have dashes of their own."""
    return one.strip().casefold() == other.strip().casefold()


def _of_kernel(folder: int) -> str | None:
    answer = bytearray(17)
    try:
        fcntl.ioctl(folder, _FS_IOC_GETFSUUID, answer)
    except OSError:  # an older kernel, or a file system without one
        return None
    value = bytes(answer[1:17])
    return str(uuid.UUID(bytes=value)) if answer[0] == 16 and any(value) else None


def _of_udev(device: int, udev: Path) -> str | None:
    """udev's database, which everybody may read, where the block device itself is root's."""
    try:
        text = (udev / f"b{os.major(device)}:{os.minor(device)}").read_text(errors="replace")
    except OSError:
        return None
    lines = (line.partition("=") for line in text.splitlines())
    return next((value for name, _, value in lines if name == "E:ID_FS_UUID" and value), None)


def _of_links(folder: int, by_uuid: Path) -> str | None:
    device = os.fstat(folder).st_dev
    try:
        names = sorted(os.listdir(by_uuid))
    except OSError:
        return None
    for name in names:
        try:
            if os.stat(by_uuid / name).st_rdev == device:
                return name
        except OSError:  # a link to a device that has gone
            continue
    return None
