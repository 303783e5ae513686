"""Disk quotas: what the kernel lets this process still write on a file system, quotactl(2).

``statfs`` tells of the whole file system (and of a project's quota, below a folder that hands its project
on); what a user's or a group's quota leaves only the quota itself tells. :func:`room` decides, the rest asks.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass

_QUOTACTL_FD = 443
"""The number of quotactl_fd(2) on every architecture (Linux 5.14); older kernels want the device's name."""
_GET_QUOTA = 0x800007 << 8
_USER, _GROUP, _PROJECT = 0, 1, 2
_BLOCK_BYTES = 1024
"""Of limits in ``struct if_dqblk``; what is used is in bytes."""
_DQBLK = struct.Struct("=8QI4x")
# ioctl_xfs_fsgetxattr(2): FS_IOC_FSGETXATTR, _IOR('X', 31, struct fsxattr).
_GET_ATTRIBUTES = 2 << 30 | 28 << 16 | ord("X") << 8 | 31
_ATTRIBUTES = struct.Struct("=5I8x")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit on what one user, group or project has on a file system, and how much of it is used."""

    whose: str
    """``user 998``, for messages."""
    limit: int
    """Bytes; 0: none. The soft one where there is one: beyond it the kernel refuses after a week or so."""
    used: int
    files_limit: int = 0
    files_used: int = 0

    def __post_init__(self) -> None:
        if min(self.limit, self.used, self.files_limit, self.files_used) < 0:
            raise ValueError(f"quota of {self.whose}: nothing in it may be below 0")

    @property
    def left(self) -> int | None:
        """Bytes that may still be written; None where bytes are not limited and a file may be made."""
        if self.files_limit and self.files_used >= self.files_limit:
            return 0
        return max(0, self.limit - self.used) if self.limit else None


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes on a file system as this process sees them."""

    total: int
    free: int
    whose: str = ""
    """Whose quota leaves no more than ``free``; empty where it is the file system itself."""


def room(total: int, free: int, quotas: Iterable[Quota]) -> Room:
    """The least of what the file system and each quota leave; pure."""
    found = Room(total, free)
    for quota in quotas:
        size = min(found.total, quota.limit) if quota.limit else found.total
        less = quota.left is not None and quota.left < found.free
        found = Room(size, quota.left or 0, quota.whose) if less else Room(size, found.free, found.whose)
    return found


def room_at(folder: int) -> Room:
    """Of the open ``folder``, for a file that this process would make in it.

    :raises OSError: of ``statvfs``.
    """
    system = os.fstatvfs(folder)
    return room(system.f_blocks * system.f_frsize, system.f_bavail * system.f_frsize, quotas_at(folder))


def quotas_at(folder: int) -> tuple[Quota, ...]:
    """The quotas that a file made in the open ``folder`` would count for: those of its user, of its group and
    of the folder's project. Where the kernel, the file system or its mount has none: empty.

    A project's is told to root only (quotactl(2)); to others ``statfs`` tells it, see above.
    """
    there = os.fstat(folder)
    if not os.major(there.st_dev):
        return ()  # no block device: the network's, or memory
    group = there.st_gid if there.st_mode & stat.S_ISGID else os.getegid()
    who = [(_USER, os.geteuid(), "user"), (_GROUP, group, "group")]
    if project := _project(folder):
        who.append((_PROJECT, project, "project"))
    asked = (_ask(folder, there.st_dev, kind, number, f"{name} {number}") for kind, number, name in who)
    return tuple(quota for quota in asked if quota is not None and (quota.limit or quota.files_limit))


def parse(whose: str, answer: bytes) -> Quota:
    """A ``struct if_dqblk`` as a quota."""
    hard, soft, used, files_hard, files_soft, files = _DQBLK.unpack(answer)[:6]
    return Quota(whose, (soft or hard) * _BLOCK_BYTES, used, files_soft or files_hard, files)


def _ask(folder: int, device: int, kind: int, number: int, whose: str) -> Quota | None:
    answer = ctypes.create_string_buffer(_DQBLK.size)
    command, who = ctypes.c_uint(_GET_QUOTA | kind), ctypes.c_uint(number)
    if _libc.syscall(ctypes.c_long(_QUOTACTL_FD), ctypes.c_uint(folder), command, who, answer):
        # udev's link by number; a kernel that has the call, and no quota here, says the same again.
        name = f"/dev/block/{os.major(device)}:{os.minor(device)}".encode()
        if _libc.quotactl(command, name, who, answer):
            return None
    return parse(whose, answer.raw)


def _project(folder: int) -> int:
    answer = bytearray(_ATTRIBUTES.size)
    try:
        fcntl.ioctl(folder, _GET_ATTRIBUTES, answer)
    except OSError:
        return 0
    return int(_ATTRIBUTES.unpack(bytes(answer))[3])
