"""Real file systems in a file: a loop device, mkfs and mount, for whoever is root."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest


def need(kind: str) -> None:
    """Skip, and say why, where a file system of ``kind`` cannot be made and mounted."""
    if os.geteuid() != 0:
        pytest.skip("mounting a loop device needs root")
    for tool in ("losetup", "mount", f"mkfs.{kind}"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout.strip()


class LoopMount:
    """A file system of ``kind`` on a loop device over a sparse file, mounted at ``point``."""

    def __init__(self, folder: Path, kind: str, mebibytes: int) -> None:
        need(kind)
        self.kind, self.uuid = kind, str(uuid.uuid4())
        self.image, self.point = folder / f"{kind}.img", folder / f"{kind}.mnt"
        self.point.mkdir()
        with self.image.open("wb") as file:
            file.truncate(mebibytes << 20)
        named = ("-m", f"uuid={self.uuid}") if kind == "xfs" else ("-U", self.uuid, "-e", "remount-ro")
        run(f"mkfs.{kind}", "-q", *named, str(self.image))
        self.device = run("losetup", "--find", "--show", str(self.image))
        self.mount()

    def mount(self, *options: str) -> None:
        run("mount", *(f"-o{option}" for option in options), self.device, str(self.point))

    def unmount(self) -> None:
        """Lazily: what is open stays so, as when an admin pulls a mount away under load."""
        run("umount", "--lazy", str(self.point))

    def remount(self, option: str) -> None:
        run("mount", "-o", f"remount,{option}", str(self.point))

    def break_down(self) -> None:
        """Make ext4 find an error: it becomes read-only under all who write."""
        Path(f"/sys/fs/ext4/{Path(self.device).name}/trigger_fs_error").write_text("by a test")

    def grow(self, mebibytes: int) -> None:
        with self.image.open("r+b") as file:
            file.truncate(mebibytes << 20)
        run("losetup", "--set-capacity", self.device)

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.point)], capture_output=True, timeout=60)
        subprocess.run(["losetup", "--detach", self.device], capture_output=True, timeout=60)
