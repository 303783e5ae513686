"""A block device and the paths to it, as the kernel's sysfs tells them.

A multipath device (device mapper) has one SCSI disk for each path; a disk behind Fibre Channel lies below
``hostN/rport-N:B-R`` (Documentation/scsi/scsi_fc_transport.rst; sysfs-class-fc_host,
sysfs-class-fc_remote_ports, sysfs-block). Everything is read below ``root``, so that a recorded tree does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SYS = Path("/sys")
SECTOR_BYTES = 512
"""Of ``size`` in sysfs, whatever the device's own sector is."""
PATHS_MAX = 256
DEPTH_MAX = 8
_BEHIND_FC = re.compile(r"/host(\d+)/(rport-\d+:\d+-\d+)/")
_UNKNOWN_COUNT = 0xFFFF_FFFF_FFFF_FFFF
_HOST_COUNTERS = (
    "link_failure_count",
    "loss_of_sync_count",
    "loss_of_signal_count",
    "invalid_tx_word_count",
    "invalid_crc_count",
    "error_frames",
)


@dataclass(frozen=True, slots=True)
class FcHost:
    """A Fibre Channel port of this machine."""

    name: str
    """``host3``"""
    port_name: str
    """World-wide port name, ``0x21000024ff3dc1a4``."""
    state: str
    """``Online``, ``Linkdown``, ..."""
    speed: str
    counters: Mapping[str, int] = field(hash=False)
    """Error counters that the adapter keeps, since it was started."""


@dataclass(frozen=True, slots=True)
class RemotePort:
    """A port of the array as one port of this machine sees it."""

    name: str
    """``rport-3:0-1``"""
    port_name: str
    state: str
    """``Online``, ``Blocked`` (it went a moment ago), ``Not Present``, ..."""


@dataclass(frozen=True, slots=True)
class DiskPath:
    """One SCSI disk: one way to the data."""

    disk: str
    """``sdc``"""
    address: str
    """``3:0:1:0``: host, channel, target, logical unit; empty for what is not SCSI."""
    state: str
    """Of the SCSI device: ``running``, ``offline``, ``transport-offline``, ``blocked``; else empty."""
    errors: int
    """Commands that ended in an error, since the device was found."""
    host: FcHost | None = None
    port: RemotePort | None = None

    @property
    def up(self) -> bool:
        """Whether the kernel would send a command this way now."""
        return (
            self.state in ("", "running")
            and (self.port is None or self.port.state == "Online")
            and (self.host is None or self.host.state == "Online")
        )

    @property
    def trouble(self) -> str:
        """Why it is not up, empty when it is."""
        if self.host is not None and self.host.state != "Online":
            return f"{self.host.name} ({self.host.port_name}) is {self.host.state}"
        if self.port is not None and self.port.state != "Online":
            return f"remote port {self.port.port_name} is {self.port.state}"
        return "" if self.up else f"the device is {self.state}"


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """The device that a file system lies on."""

    name: str
    """The kernel's, ``dm-0``."""
    label: str
    """The device mapper's, ``pacs1``; else the kernel's."""
    size: int
    """Bytes."""
    multipath: str
    """The name of the multipath map below it, empty when there is none."""
    paths: tuple[DiskPath, ...]

    @property
    def paths_up(self) -> int:
        return sum(path.up for path in self.paths)


def block_device(device: str, root: Path = SYS) -> BlockDevice | None:
    """The block device with the number ``major:minor``, or None when it is gone (or is none: a network or
    memory file system)."""
    folder = root / "dev" / "block" / device
    size = _text(folder / "size")
    if not size.isdigit():
        return None
    real = Path(os.path.realpath(folder))
    disks = tuple(dict.fromkeys(_disks(real, DEPTH_MAX)))
    maps = tuple(dict.fromkeys(_maps(real, DEPTH_MAX)))
    return BlockDevice(
        real.name,
        _text(real / "dm" / "name") or real.name,
        int(size) * SECTOR_BYTES,
        maps[0] if maps else "",
        tuple(_path(disk, root) for disk in disks[:PATHS_MAX]),
    )


def _below(device: Path) -> list[Path]:
    """The devices that a device is made of: slaves of the device mapper, the disk of a partition."""
    try:
        slaves = sorted(os.listdir(device / "slaves"))
    except OSError:
        slaves = []
    if slaves:
        return [Path(os.path.realpath(device / "slaves" / name)) for name in slaves]
    return [device.parent] if (device / "partition").exists() else []


def _disks(device: Path, depth: int) -> Iterator[Path]:
    below = _below(device) if depth else []
    if not below:
        yield device
    for each in below:
        yield from _disks(each, depth - 1)


def _maps(device: Path, depth: int) -> Iterator[str]:
    if _text(device / "dm" / "uuid").startswith("mpath-"):
        yield _text(device / "dm" / "name")
    for each in _below(device) if depth else []:
        yield from _maps(each, depth - 1)


def _path(disk: Path, root: Path) -> DiskPath:
    scsi = Path(os.path.realpath(disk / "device"))
    state = _text(scsi / "state")
    found = _BEHIND_FC.search(str(scsi) + "/")
    host = port = None
    if found:
        host = _host(root / "class" / "fc_host" / f"host{found[1]}")
        port = _port(root / "class" / "fc_remote_ports" / found[2])
    return DiskPath(
        disk.name,
        scsi.name if scsi.name.count(":") == 3 else "",
        state,
        _count(scsi / "ioerr_cnt") or 0,
        host,
        port,
    )


def _host(folder: Path) -> FcHost:
    counters = {name: _count(folder / "statistics" / name) for name in _HOST_COUNTERS}
    return FcHost(
        folder.name,
        _text(folder / "port_name"),
        _text(folder / "port_state") or "absent",
        _text(folder / "speed"),
        {name: count for name, count in counters.items() if count is not None},
    )


def _port(folder: Path) -> RemotePort:
    return RemotePort(folder.name, _text(folder / "port_name"), _text(folder / "port_state") or "absent")


def _count(file: Path) -> int | None:
    """A counter, in hexadecimal with 0x; None where the driver does not keep it."""
    try:
        value = int(_text(file), 0)
    except ValueError:
        return None
    return None if value == _UNKNOWN_COUNT else value


def _text(file: Path) -> str:
    """The content, empty where it cannot be read: a device may go while it is looked at."""
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""
