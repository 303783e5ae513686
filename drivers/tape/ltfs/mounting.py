"""Mounts an LTFS volume and proves that it is the one; unmounts it and waits until its index is written.

What is trusted: the mount table, and what the mounted folder says of itself. The folder is held by a file
descriptor from then on, because the path of an unmounted mountpoint is the local disk, which takes every
write and even ``setxattr user.ltfs.sync``. ``umount`` returns before the index is on the tape: the end of the
ltfs process and its 11034I say that it is.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drivers.errors import DriverError, OperatorNeeded, Permanent, Retryable, WrongVolume
from drivers.tape.io import Io
from drivers.tape.ltfs import messages, xattrs
from drivers.tape.ltfs.child import Child, run
from drivers.tape.ltfs.commands import Commands, fill

_POLL_SECONDS = 0.01
_BUSY_SECONDS = 30.0
_UMOUNT_SECONDS = 120.0
_KILL_SECONDS = 20.0


class MountFailed(Exception):
    """ltfs ended without mounting; ``text`` is what it said."""

    def __init__(self, text: str) -> None:
        super().__init__(messages.complaint(text))
        self.text = text


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a mounted volume says it is."""

    uuid: str
    """LTFS's own, of the format."""
    serial: str
    barcode: str = ""
    """Of the cartridge's memory chip; empty where it has none."""


def require_serial(found: Identity, serial: str, what: str) -> None:
    """:raises WrongVolume: it is another cartridge than the one with this serial number."""
    if found.serial != serial or (found.barcode and found.barcode[:6] != serial):
        chip = f" and its chip {found.barcode!r}" if found.barcode and found.barcode[:6] != serial else ""
        raise WrongVolume(
            f"{what}: its LTFS label says that it is {found.serial!r}{chip}, expected {serial}: nothing was "
            "written"
        )


class Mount:
    """A mounted volume and the process that serves it. Not thread-safe."""

    def __init__(self, commands: Commands, mountpoint: Path, child: Child, root: int, what: str) -> None:
        self.root = root
        """An open descriptor of the mounted root folder; -1 when it is let go."""
        self.mountpoint = mountpoint
        self.identity = identity_of(root)
        said = messages.read_only(child.text())
        self.read_only = said or ("it was mounted read-only" if _is_read_only(root) else "")
        self._commands = commands
        self._child = child
        self._what = what

    @property
    def alive(self) -> bool:
        """Whether its ltfs still runs."""
        return self._child.running

    def complaint(self) -> str:
        """Errors and warnings of its ltfs."""
        return messages.complaint(self._child.text())

    def unmount(self, io: Io) -> None:
        """Unmount, wait until ltfs has ended, and see from its own words that the index was written.

        :raises Retryable: it is in use, it still writes, or it ended without writing its index.
        """
        self._let_go()
        _umount(self._commands, self.mountpoint, io, self._what)
        if self._child.wait(self._commands.unmount_seconds) is None:
            raise Retryable(
                f"{self._what}: ltfs still writes after {self._commands.unmount_seconds:g} s; try again, and "
                "leave the drive alone meanwhile"
            )
        _pid_file(self.mountpoint).unlink(missing_ok=True)
        messages.unmounted(self._child.text(), f"unmount {self._what}")

    def kill(self, io: Io) -> None:
        """End ltfs at once and take its mount away; what was not flushed is lost."""
        self._child.kill()
        self._let_go()
        _detach(self._commands, self.mountpoint)
        _pid_file(self.mountpoint).unlink(missing_ok=True)

    def _let_go(self) -> None:
        root, self.root = self.root, -1
        if root >= 0:
            with contextlib.suppress(OSError):
                os.close(root)


def start(commands: Commands, device: str, mountpoint: Path, io: Io, what: str) -> Mount:
    """Start ltfs and return when the volume is mounted.

    :raises MountFailed: ltfs ended instead; what it said is in the error.
    :raises Retryable: it takes too long.
    """
    _prepare(mountpoint)
    child = Child(fill(commands.mount, device=device, mountpoint=str(mountpoint)))
    _write_pid(mountpoint, child.pid)
    with _limited(child, commands.mount_seconds) as expired:
        try:
            root = _await_mount(child, mountpoint, io)
            mount = Mount(commands, mountpoint, child, root, what)
        except (MountFailed, OSError) as error:
            _abandon(commands, child, mountpoint)
            if expired.is_set():
                raise Retryable(
                    f"mount {what}: ltfs did not mount it in {commands.mount_seconds:g} s and was ended"
                ) from error
            if child.flooded:
                raise Retryable(
                    f"mount {what}: ltfs wrote without end and was ended; is a cartridge loaded?"
                ) from error
            if isinstance(error, MountFailed):
                raise
            raise Retryable(f"mount {what}: {error.strerror}: {messages.complaint(child.text())}") from error
        except BaseException:
            _abandon(commands, child, mountpoint)
            raise
    child.unlimited()
    return mount


def clear(commands: Commands, mountpoint: Path, io: Io, what: str) -> None:
    """End what an earlier life of this program has left mounted: the drive must not be touched before.

    :raises Retryable: it is in use, or still writes its index.
    """
    pid = _read_pid(mountpoint)
    if pid is None and not is_mounted(mountpoint):
        return
    if pid is None or _runs(pid):
        _umount(commands, mountpoint, io, what)
    else:
        _detach(commands, mountpoint)
    deadline = io.monotonic() + commands.unmount_seconds
    while pid is not None and _runs(pid):
        if io.monotonic() >= deadline:
            raise Retryable(f"{what}: an ltfs of before (process {pid[0]}) still writes; try again later")
        io.sleep(_POLL_SECONDS)
    _pid_file(mountpoint).unlink(missing_ok=True)


def identity_of(root: int) -> Identity:
    """Who the volume mounted at an open folder is.

    :raises OSError: ENODATA when it is not LTFS at all.
    """
    barcode = xattrs.optional(root, "mamBarcode")
    return Identity(
        xattrs.text(root, "volumeUUID"), xattrs.text(root, "volumeSerial"), (barcode or "").strip("\0 ")
    )


def is_mounted(mountpoint: Path) -> bool:
    """By the kernel's table; the folder itself is not touched, for that may hang or fail."""
    wanted = os.path.realpath(mountpoint.parent) + "/" + mountpoint.name
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        return any(_unescape(line.split(" ")[4]) == wanted for line in table)


def _await_mount(child: Child, mountpoint: Path, io: Io) -> int:
    """An open descriptor of the mounted root.

    :raises MountFailed: ltfs ended.
    """
    while True:
        if is_mounted(mountpoint):
            root = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if os.fstat(root).st_dev != os.stat(mountpoint.parent).st_dev:
                return root
            os.close(root)
        if child.wait(_POLL_SECONDS) is not None:
            raise MountFailed(child.text())


@contextmanager
def _limited(child: Child, seconds: float) -> Iterator[threading.Event]:
    """Kill ltfs after ``seconds``: a call into a folder that it serves never returns otherwise."""
    expired = threading.Event()

    def end() -> None:
        expired.set()
        child.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


def _umount(commands: Commands, mountpoint: Path, io: Io, what: str) -> None:
    """:raises Retryable: somebody looks into it, and goes on doing so."""
    deadline = io.monotonic() + _BUSY_SECONDS
    while is_mounted(mountpoint):
        _, said = run(fill(commands.umount, mountpoint=str(mountpoint)), _UMOUNT_SECONDS, f"unmount {what}")
        if not is_mounted(mountpoint):
            return
        if io.monotonic() >= deadline:
            raise Retryable(
                f"unmount {what}: {said.strip()[:200] or 'it stays mounted'}; "
                f"fuser -vm {mountpoint} says who uses it"
            )
        io.sleep(0.2)


def _detach(commands: Commands, mountpoint: Path) -> None:
    if is_mounted(mountpoint):
        with contextlib.suppress(DriverError):
            run(fill(commands.detach, mountpoint=str(mountpoint)), _KILL_SECONDS, f"detach {mountpoint}")


def _abandon(commands: Commands, child: Child, mountpoint: Path) -> None:
    child.kill()
    _detach(commands, mountpoint)
    _pid_file(mountpoint).unlink(missing_ok=True)


def _prepare(mountpoint: Path) -> None:
    """An empty folder of ours.

    :raises Permanent: there are files in it: somebody wrote there while nothing was mounted.
    """
    try:
        os.makedirs(mountpoint, 0o700, exist_ok=True)
        strangers = os.listdir(mountpoint)
    except OSError as error:
        raise OperatorNeeded(
            f"the mountpoint {mountpoint}: {error.strerror}; make it for the daemon's user"
        ) from error
    if strangers:
        raise Permanent(
            f"the mountpoint {mountpoint} is not empty ({strangers[0]!r}); look at it, then empty it"
        )


def _is_read_only(root: int) -> bool:
    return bool(os.fstatvfs(root).f_flag & os.ST_RDONLY)


def _pid_file(mountpoint: Path) -> Path:
    return mountpoint.with_name(mountpoint.name + ".pid")


def _write_pid(mountpoint: Path, pid: int) -> None:
    _pid_file(mountpoint).write_text(f"{pid} {_started(pid)}\n", encoding="ascii")


def _read_pid(mountpoint: Path) -> tuple[int, str] | None:
    try:
        pid, started = _pid_file(mountpoint).read_text(encoding="ascii").split()
        return int(pid), started
    except (OSError, ValueError):
        return None


def _runs(pid: tuple[int, str]) -> bool:
    return _started(pid[0]) == pid[1] != "0"


def _started(pid: int) -> str:
    """When a process began, in the kernel's ticks: tells it from a later one of the same number. "0": no such
    process, or it has ended and nobody has asked for its status."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "0"
    words = stat.rpartition(")")[2].split()
    return "0" if words[0] in ("Z", "X") else words[19]


def _unescape(path: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path
