"""A network file system's server for tests: a folder served through FUSE by a process of its own.

Stopped (SIGSTOP) it is an NFS server that hangs: whoever waits for it cannot be killed. Killed it is one
whose mount answers ENOTCONN. In the control folder, a file ``slow`` holds seconds to wait at each write
(of 4 KiB or more), while there is a file ``hold-link`` no hard link is made, and a file ``fail`` holds the
number of the error (ESTALE, EIO) that all work below the mount's root is answered with.

usage: python tests/fuseserver.py FOLDER MOUNTPOINT CONTROL_FOLDER
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def missing() -> str:
    """Why it cannot run here; empty where it can."""
    if os.geteuid() != 0 and not shutil.which("fusermount3"):
        return "mounting needs root or fusermount3 (Debian: fuse3)"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be opened"
    if importlib.util.find_spec("mfusepy") is None:
        return "mfusepy is not installed"
    return ""


class FuseServer:
    """``served`` is what the clients see below ``point``."""

    def __init__(self, folder: Path) -> None:
        self.served, self.point, self._control = folder / "served", folder / "mount", folder / "control"
        for each in (self.served, self.point, self._control):
            each.mkdir()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        argv = [sys.executable, __file__, str(self.served), str(self.point), str(self._control)]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not os.path.ismount(self.point):
            assert self.process.poll() is None, "the FUSE server did not start"
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def slow(self, seconds: float) -> None:
        (self._control / "slow").write_text(str(seconds))

    def hold_links(self, hold: bool) -> None:
        if hold:
            (self._control / "hold-link").touch()
        else:
            (self._control / "hold-link").unlink()

    def fail(self, number: int) -> None:
        """From now on every answer is this error; 0: the server is well again."""
        if number:
            (self._control / "fail").write_text(str(number))
        else:
            (self._control / "fail").unlink()

    def kill(self) -> None:
        """The mount stays, and answers ENOTCONN."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def unmount(self) -> None:
        command = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
        subprocess.run([*command, "-l", str(self.point)], check=False, capture_output=True)

    def close(self) -> None:
        assert self.process
        (self._control / "hold-link").unlink(missing_ok=True)
        self.go_on()
        self.kill()
        self.unmount()

    def _signal(self, number: signal.Signals) -> None:
        assert self.process
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


def main() -> None:
    """Serve until the mount goes."""
    import mfusepy

    root, point, control = (os.path.abspath(each) for each in sys.argv[1:4])

    def below(path: str) -> str:
        return root + path

    class Passing(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def getattr(self, path: str, fh: Any = None) -> dict[str, Any]:
            found = os.lstat(below(path))
            names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_ino")
            times = {f"st_{name}": getattr(found, f"st_{name}_ns") for name in ("atime", "mtime", "ctime")}
            return {name: getattr(found, name) for name in names} | times

        def readdir(self, path: str, fh: Any) -> Any:
            return [".", "..", *os.listdir(below(path))]

        def open(self, path: str, flags: int) -> int:
            return os.open(below(path), flags & ~os.O_NOFOLLOW)

        def create(self, path: str, mode: int, fi: Any = None) -> int:
            return os.open(below(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return os.pread(fh, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            with contextlib.suppress(FileNotFoundError, ValueError), open(f"{control}/slow") as file:
                time.sleep(float(file.read()))
            return os.pwrite(fh, data, offset)

        def fsync(self, path: str, datasync: int, fh: int) -> None:
            os.fsync(fh)

        def release(self, path: str, fh: int) -> None:
            os.close(fh)

        def mkdir(self, path: str, mode: int) -> None:
            os.mkdir(below(path), mode)

        def rmdir(self, path: str) -> None:
            os.rmdir(below(path))

        def unlink(self, path: str) -> None:
            os.unlink(below(path))

        def rename(self, old: str, new: str) -> None:
            os.rename(below(old), below(new))

        def link(self, target: str, source: str) -> None:
            while os.path.exists(f"{control}/hold-link"):
                time.sleep(0.01)
            os.link(below(source), below(target))

        def truncate(self, path: str, length: int, fh: Any = None) -> None:
            os.truncate(below(path), length)

        def statfs(self, path: str) -> dict[str, int]:
            found = os.statvfs(root)
            names = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree")
            return {name: getattr(found, name) for name in names}

        def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
            raise OSError(errno.EINVAL, "folders cannot be synced here")

    def failing(operation: Any) -> Any:
        @functools.wraps(operation)
        def asked(self: Any, path: str, *arguments: Any) -> Any:
            if path != "/":
                with contextlib.suppress(FileNotFoundError, ValueError), open(f"{control}/fail") as file:
                    raise OSError(int(file.read()), "made to fail")
            return operation(self, path, *arguments)

        return asked

    for name in ("getattr", "open", "create", "read", "write", "fsync", "mkdir", "unlink", "link"):
        setattr(Passing, name, failing(getattr(Passing, name)))
    mfusepy.FUSE(Passing(), point, foreground=True, nothreads=False, default_permissions=False)


if __name__ == "__main__":
    main()
