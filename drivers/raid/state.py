"""What a RAID path is like at one moment, what changed between two, and whether it can be used. Pure, but for
:func:`look`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from drivers.base import Figure, Health, Notice, Severity
from drivers.raid import filesystem, mountinfo, multipathd, sysfs
from drivers.raid.sysfs import BlockDevice, DiskPath


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look at the folder, its file system and its device."""

    fs_uuid: str | None
    """Of the file system that the folder lies on now; None where it tells none or there is no folder."""
    kind: str = ""
    point: str = ""
    """Where it is mounted."""
    read_only: bool = False
    device: BlockDevice | None = None
    """None: the device is gone, or the file system has none."""
    against: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Disk -> what the multipath daemon has against it; a disk it does not know is not there."""

    def trouble(self, path: DiskPath) -> str:
        """Why a path takes no commands; empty when it does."""
        return path.trouble or self.against.get(path.disk, "")

    @property
    def paths(self) -> dict[str, tuple[DiskPath, str]]:
        """Disk -> the path and its trouble."""
        every = self.device.paths if self.device else ()
        return {path.disk: (path, self.trouble(path)) for path in every}

    @property
    def up(self) -> int:
        return sum(not trouble for _, trouble in self.paths.values())


def look(
    root: str | os.PathLike[str],
    sys: Path = sysfs.SYS,
    states: Callable[[str], Mapping[str, str]] = multipathd.path_states,
) -> Snapshot:
    """Look at the folder ``root`` now. Reads ``/proc``, sysfs and the folder's own inode only, which the
    kernel answers from memory while every path is down."""
    mount = mountinfo.mount_of(root)
    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return Snapshot(None)
    try:
        fs_uuid = filesystem.uuid_of(folder)
        number = os.fstat(folder).st_dev
    finally:
        os.close(folder)
    device = sysfs.block_device(f"{os.major(number)}:{os.minor(number)}", sys)
    against = states(device.multipath) if device and device.multipath else {}
    return Snapshot(
        fs_uuid,
        mount.kind if mount else "",
        mount.point if mount else "",
        bool(mount and mount.read_only),
        device,
        against,
    )


def refusal(seen: Snapshot, wanted: str, root: str | os.PathLike[str]) -> str:
    """Why nothing may be written below ``root`` now; empty when it may."""
    if seen.fs_uuid is None or not filesystem.same(seen.fs_uuid, wanted):
        there = f"file system {seen.fs_uuid}" if seen.fs_uuid else "no file system that tells its UUID"
        return (
            f"{root} is on {there} (mounted at {seen.point or 'nowhere'}); expected {wanted}: "
            "mount it (see `lsblk -f` and /etc/fstab)"
        )
    if seen.read_only:
        return (
            f"the file system {wanted} at {seen.point} is mounted read-only, as the kernel does after "
            "an error: see the kernel log, check the array, run fsck, mount it again"
        )
    return ""


def verdict(seen: Snapshot, wanted: str, root: str | os.PathLike[str]) -> Health:
    """Whether the pool can be used, and what an admin should know of its paths."""
    why = refusal(seen, wanted, root)
    if why:
        return Health(False, why)
    lost = {disk: trouble for disk, (_, trouble) in seen.paths.items() if trouble}
    if not lost:
        return Health(True)
    told = "; ".join(f"{disk}: {trouble}" for disk, trouble in sorted(lost.items()))
    return Health(seen.up > 0, f"{seen.up} of {len(seen.paths)} paths are up ({told})")


def changes(before: Snapshot, after: Snapshot, wanted: str) -> tuple[Notice, ...]:
    """What an admin wants to be told of two looks one after the other, at the place of the file system
    ``wanted``. What another file system's device does is nobody's business here."""
    if before.fs_uuid != after.fs_uuid:
        return (_of_mount(before, after, wanted),)
    return (*_of_mode(before, after), *_of_device(before, after), *_of_paths(before, after))


def _of_mount(before: Snapshot, after: Snapshot, wanted: str) -> Notice:
    point = after.point if filesystem.same(after.fs_uuid or "", wanted) else before.point or after.point
    if after.fs_uuid is not None and filesystem.same(after.fs_uuid, wanted):
        return Notice(Severity.INFO, point, f"the file system {wanted} is mounted at {point}")
    there = f"the file system {after.fs_uuid}" if after.fs_uuid else "nothing that tells its UUID"
    return Notice(Severity.ERROR, point, f"the file system {wanted} is not at {point} any more, but {there}")


def _of_mode(before: Snapshot, after: Snapshot) -> Iterator[Notice]:
    if after.read_only and not before.read_only:
        yield Notice(Severity.ERROR, after.point, f"{after.point} has become read-only; see the kernel log")
    elif before.read_only and not after.read_only:
        yield Notice(Severity.INFO, after.point, f"{after.point} can be written again")


def _of_device(before: Snapshot, after: Snapshot) -> Iterator[Notice]:
    was, now = before.device, after.device
    if was is not None and now is None:
        yield Notice(Severity.ERROR, was.label, f"the device {was.label} ({was.name}) is gone")
    if was is None and now is not None:
        yield Notice(Severity.INFO, now.label, f"the device {now.label} ({now.name}) is back")
    if was is not None and now is not None and was.name == now.name and was.size != now.size:
        severity = Severity.INFO if now.size > was.size else Severity.ERROR
        advice = "grow the file system to use it" if now.size > was.size else "the file system may be cut off"
        told = f"the device {now.label} has {now.size} bytes now, it had {was.size}: {advice}"
        yield Notice(severity, now.label, told)


def _of_paths(before: Snapshot, after: Snapshot) -> Iterator[Notice]:
    if before.device is None or after.device is None:
        return
    was, now = before.paths, after.paths
    count = f"{after.up} of {max(len(was), len(now))} paths are up"
    for disk in sorted({*was, *now}):
        old = was[disk][1] if disk in was else "absent"
        new = now[disk][1] if disk in now else "the device is gone"
        if not old and new:
            severity = Severity.WARNING if after.up else Severity.ERROR
            yield Notice(severity, disk, f"path {disk} is lost: {new}; {count}")
        elif old and not new:
            yield Notice(Severity.INFO, disk, f"path {disk} is back; {count}")
        if disk in was and disk in now and now[disk][0].errors > was[disk][0].errors:
            more = now[disk][0].errors - was[disk][0].errors
            yield Notice(Severity.WARNING, disk, f"path {disk}: {more} more commands ended in an error")
    yield from _of_links(before, after)


def _of_links(before: Snapshot, after: Snapshot) -> Iterator[Notice]:
    was, now = _hosts(before), _hosts(after)
    for name in sorted({*was} & {*now}):
        for counter, value in now[name].counters.items():
            old = was[name].counters.get(counter, value)
            if value > old:
                port = now[name].port_name
                told = f"{name} ({port}): {counter} went from {old} to {value}; look at its cable and optics"
                yield Notice(Severity.WARNING, name, told)


def _hosts(seen: Snapshot) -> dict[str, sysfs.FcHost]:
    return {path.host.name: path.host for path, _ in seen.paths.values() if path.host is not None}


def figures(seen: Snapshot) -> tuple[Figure, ...]:
    """The same as numbers."""
    device = seen.device
    if device is None:
        return (Figure("paths", 0), Figure("paths_up", 0))
    found = [
        Figure("device_size_bytes", device.size, (("device", device.label),)),
        Figure("paths", len(device.paths)),
        Figure("paths_up", seen.up),
    ]
    for path, trouble in seen.paths.values():
        labels = [("path", path.disk), ("address", path.address)]
        if path.host is not None and path.port is not None:
            labels += [("host", path.host.name), ("remote_port", path.port.port_name)]
        found.append(Figure("path_up", float(not trouble), tuple(labels)))
        found.append(Figure("path_errors_total", path.errors, tuple(labels)))
    for name, host in sorted(_hosts(seen).items()):
        found.append(Figure("fc_link_up", float(host.state == "Online"), (("host", name),)))
        found += [
            Figure("fc_errors_total", value, (("host", name), ("counter", counter)))
            for counter, value in sorted(host.counters.items())
        ]
    return tuple(found)
