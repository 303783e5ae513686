"""One disk at the end of two paths: scsi_debug's two hosts, udev, multipathd, and ext4 on the map."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from nfsserver import tool

CONFIGURATION = """\
defaults {{
    find_multipaths no
    user_friendly_names yes
    polling_interval 1
    max_polling_interval 1
    no_path_retry {retry}
}}
"""
QUEUE, FAIL = "queue", "fail"
"""What becomes of I/O while no path is there: it waits, or fails at once."""
MAP = "mpatha"
SIZE_MIB = 128
SETTLE_SECONDS = 30.0


def wait_for(met: object, what: str) -> None:
    """Until the function ``met`` says yes."""
    deadline = time.monotonic() + SETTLE_SECONDS
    assert callable(met)
    while not met():
        assert time.monotonic() < deadline, f"{what}: {show('paths')}"
        time.sleep(0.1)


def show(what: str) -> str:
    return subprocess.run(
        ["multipathd", "show", *what.split()], capture_output=True, text=True, timeout=20, check=False
    ).stdout


class Array:
    """The map ``/dev/mapper/mpatha`` with a file system, mounted at ``point``; once in a boot."""

    def __init__(self, point: Path, retry: str = QUEUE) -> None:
        self.point = point
        self._bring_up(retry)
        self.map = Path("/dev/mapper") / MAP
        tool("mkfs.ext4", "-q", self.map)
        tool("udevadm", "trigger", "--action=change", "--settle", self.map.resolve())
        self.uuid = tool("blkid", "-o", "value", "-s", "UUID", self.map).strip()
        point.mkdir(parents=True)
        self.mount()

    def _bring_up(self, retry: str) -> None:
        tool("modprobe", "-a", "dm-multipath", "dm-service-time")
        Path("/run/udev").mkdir(exist_ok=True)
        tool("/lib/systemd/systemd-udevd", "--daemon")
        tool("modprobe", "scsi_debug", "vpd_use_hostno=0", "add_host=2", f"dev_size_mb={SIZE_MIB}")
        tool("udevadm", "settle", "--timeout=20")
        self._configure(retry)
        tool("multipathd")
        wait_for(lambda: len(self.shown()) == 2, "two paths")
        wait_for((Path("/dev/mapper") / MAP).exists, "the map")

    @property
    def disks(self) -> list[str]:
        """Those that are there now: one that goes and comes back has another letter."""
        return sorted(self.shown())

    @staticmethod
    def _configure(retry: str) -> None:
        Path("/etc/multipath.conf").write_text(CONFIGURATION.format(retry=retry))
        Path("/etc/multipath").mkdir(exist_ok=True)

    def without_paths(self, retry: str) -> None:
        """Choose QUEUE or FAIL."""
        self._configure(retry)
        tool("multipathd", "reconfigure")
        wanted = "on" if retry == QUEUE else "off"
        wait_for(
            lambda: json.loads(show(f"map {MAP} json"))["map"]["queueing"] == wanted, f"queueing {wanted}"
        )

    @staticmethod
    def shown() -> dict[str, str]:
        """Disk -> what multipathd says of its path: ``ready`` or ``faulty``."""
        lines = (line.split() for line in show("paths").splitlines()[1:])
        return {words[1]: words[5] for words in lines if len(words) > 5}

    @staticmethod
    def _device(disk: str) -> Path:
        return Path(f"/sys/block/{disk}/device").resolve()

    def offline(self, *disks: str) -> None:
        """The cable is out."""
        for disk in disks:
            (self._device(disk) / "state").write_text("offline\n")

    def running(self, *disks: str) -> None:
        for disk in disks:
            (self._device(disk) / "state").write_text("running\n")

    def delete(self, disk: str) -> None:
        """The device goes, as when the array takes the LUN away from one port."""
        (self._device(disk) / "delete").write_text("1")

    def rescan(self) -> None:
        for host in Path("/sys/class/scsi_host").iterdir():
            (host / "scan").write_text("- - -")

    def mount(self) -> None:
        tool("mount", self.map, self.point)

    def unmount(self) -> None:
        tool("umount", "--lazy", self.point)

    def repair(self) -> None:
        """What an admin does after the kernel has given the file system up."""
        tool("umount", self.point)
        done = subprocess.run(["e2fsck", "-p", str(self.map)], capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stdout
        self.mount()
